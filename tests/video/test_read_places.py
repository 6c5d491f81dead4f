"""Reads that hold memory have places: so many at once, of these so many for one caller, and for nobody who stalls."""

from typing import Any

import pytest

from services.common.access.permissions import Role
from services.common.reasons import Reason
from services.video import read_places, silence
from services.video.silence import READ_SECONDS_MAX
from tests.registry.harness import TIMEOUT_SECONDS
from tests.video.bytes_read import read, refusal, request_of
from tests.video.conftest import MakeVideo
from tests.video.harness import COUNTY, RunningVideo, since_now
from tests.video.leaping import LeapingClock
from tests.video.media_files import large_photo
from tests.waiting import wait_until
from zhichao.video.v1 import service_pb2 as pb
from zhichao.video.v1.service_pb2_grpc import VideoServiceStub


@pytest.fixture
def day(monkeypatch: pytest.MonkeyPatch) -> LeapingClock:
    """Let the services of this module count by a clock that leaps, and look often."""
    monkeypatch.setattr(silence, "LOOK_SECONDS", 0.05)
    return LeapingClock(since_now().moment)


@pytest.fixture
def county(video_of: MakeVideo) -> RunningVideo:
    return video_of(COUNTY)


@pytest.fixture
def large(county: RunningVideo) -> pb.HeldEvidence:
    """Return a photo that is not sent whole while nobody takes it."""
    return county.sealed(large_photo(16 << 20))


def begin(stub: VideoServiceStub, held: pb.HeldEvidence) -> Any:
    """Begin to read, and take no more than the first message."""
    call = stub.ReadEvidence(request_of(held), timeout=TIMEOUT_SECONDS)
    next(call)
    return call


def test_more_reads_than_there_is_memory_for_come_again(
    county: RunningVideo, large: pb.HeldEvidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_places, "READS_MAX", 1)
    small = county.sealed()
    call = begin(county.stub, large)

    refused = refusal(county, large)
    part = read(county, small, length=1_000)
    call.cancel()

    assert (refused.reason, refused.metadata["limit"]) == (Reason.TOO_MANY_REQUESTS, "1")
    assert refused.retry_after_seconds
    assert len(part.content) == 1_000
    wait_until(lambda: read(county, large).refusal is None, "the place is free")


def test_one_caller_does_not_take_all_places(
    county: RunningVideo, large: pb.HeldEvidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_places, "READS_EACH_MAX", 2)
    greedy, other = (county.person(Role.OFFICER, name=name) for name in ("greedy", "other"))
    calls = [begin(greedy, large) for _ in range(2)]

    refused = read(county, large, greedy).refusal
    taken = read(county, large, other)
    for call in calls:
        call.cancel()

    assert refused is not None
    assert (refused.reason, refused.metadata["limit"]) == (Reason.TOO_MANY_REQUESTS, "2")
    assert taken.refusal is None
    wait_until(lambda: read(county, large, greedy).refusal is None, "a place is free")


def test_a_reader_that_stalls_gives_its_place_to_others(
    county: RunningVideo, large: pb.HeldEvidence, day: LeapingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_places, "READS_MAX", 1)
    call = begin(county.stub, large)
    assert read(county, large).refusal is not None
    day.leapt_seconds += READ_SECONDS_MAX + 1

    wait_until(lambda: read(county, large).refusal is None, "the place is free")
    call.cancel()


def test_a_reader_that_takes_its_time_is_not_ended(
    county: RunningVideo, large: pb.HeldEvidence, day: LeapingClock
) -> None:
    count = 0
    for message in county.stub.ReadEvidence(request_of(large), timeout=TIMEOUT_SECONDS):
        count += len(message.chunk)
        # Less than what a message may take, each time.
        day.leapt_seconds += READ_SECONDS_MAX / 2
    assert count == large.evidence.size_bytes
