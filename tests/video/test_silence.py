"""Uploads and pushes whose callers stop sending and do not go away: they are ended, and what came is kept."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from typing import TypeVar

import grpc
import pytest

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.request import RequestContext, use_request_context
from services.video import silence
from services.video.silence import PUSH_SECONDS_MAX, UPLOAD_BYTES_MIN, UPLOAD_SECONDS_MAX, ProgressWatch
from tests.registry.harness import TIMEOUT_SECONDS
from tests.running_service import carry_up
from tests.video.conftest import MakeVideo
from tests.video.harness import CITY, COUNTY, OTHER_UNIT, RunningVideo, draft_of, since_now
from tests.video.leaping import LeapingClock
from tests.video.media_files import large_photo
from tests.video.transfer.carrying import give, pieces, wait_for_state
from tests.waiting import wait_until
from zhichao.video.v1 import evidence_pb2
from zhichao.video.v1 import service_pb2 as pb

_Message = TypeVar("_Message")


@pytest.fixture
def day(monkeypatch: pytest.MonkeyPatch) -> LeapingClock:
    """Let the services of this module count by a clock that leaps, and look often."""
    monkeypatch.setattr(silence, "LOOK_SECONDS", 0.05)
    return LeapingClock(since_now().moment)


@contextmanager
def silent_after(messages: Iterator[_Message]) -> Iterator[Iterator[_Message]]:
    """Yield the messages, after which nothing comes and nothing ends."""
    is_over = Event()

    def sent() -> Iterator[_Message]:
        yield from messages
        is_over.wait(TIMEOUT_SECONDS)

    try:
        yield sent()
    finally:
        is_over.set()


def test_a_recorder_that_hangs_gives_its_room_to_others(video_of: MakeVideo, day: LeapingClock) -> None:
    content = large_photo(900_000)
    room = len(content) * 3 // 2
    county = video_of(COUNTY, settings={"ZHICHAO_VIDEO_SPOOL_BYTES_MAX": str(room)})
    draft = draft_of(content, county.clock.now())
    other = draft_of(content, county.clock.now(), source_unit_id=OTHER_UNIT)
    name = evidence_pb2.EvidenceName(source_unit_id=draft.source_unit_id, evidence_id=draft.evidence_id)
    first = pb.UploadEvidenceRequest(draft=draft, chunk=content[:100_000])
    with silent_after(iter([first])) as messages:
        hung = county.stub.UploadEvidence.future(messages, timeout=TIMEOUT_SECONDS)
        wait_until(lambda: bool(county.spooled()), "the first bytes have come")
        assert county.upload_refusal(content, other).reason is Reason.UPLOAD_SPACE_EXHAUSTED
        day.leapt_seconds += UPLOAD_SECONDS_MAX + 1

        wait_until(hung.done, "it is ended")
        assert hung.code() is grpc.StatusCode.CANCELLED
    shown = county.call("GetUpload", pb.GetUploadRequest(name=name))
    assert shown.received_bytes == 100_000
    assert county.upload(content, other).held_evidence.bytes_state == pb.BYTES_STATE_HELD
    assert county.upload(content, draft, offset=100_000).held_evidence.bytes_state == pb.BYTES_STATE_HELD


def test_a_push_that_hangs_is_ended_and_gone_on_with(
    video_of: MakeVideo, county: RunningVideo, day: LeapingClock
) -> None:
    content = large_photo(300_000)
    city = video_of(CITY)
    held = county.sealed(content)
    carry_up(county, city)
    wait_for_state(city, held, "WANTED")
    with silent_after(pieces(content, COUNTY, held.evidence.digest, end=100_000)) as messages:
        hung = city.transfer.ReceiveObject.future(messages, timeout=TIMEOUT_SECONDS)
        wait_until(lambda: [one.stat().st_size for one in city.spooled()] == [100_000], "the first bytes have come")
        day.leapt_seconds += PUSH_SECONDS_MAX + 1

        wait_until(hung.done, "it is ended")
        assert hung.code() is grpc.StatusCode.CANCELLED
    wait_until(lambda: _is_given(city, content, held), "the rest is taken")


def _is_given(city: RunningVideo, content: bytes, held: pb.HeldEvidence) -> bool:
    try:
        return bool(give(city, pieces(content, COUNTY, held.evidence.digest, offset=100_000)).is_complete)
    except ServiceError as error:
        # The call that was ended has not let go of it yet.
        assert error.reason is Reason.UPLOAD_BUSY  # noqa: PT017 - nothing else may keep it
        return False


# What counts


@dataclass
class Chunk:
    """A message that brings bytes."""

    chunk: bytes


class EndedCall(RequestContext):
    """A call that notes with what it was ended."""

    __slots__ = ("ended_with",)

    def __init__(self) -> None:
        super().__init__("call")
        self.ended_with: list[Reason] = []

    def end_with(self, error: ServiceError) -> None:
        self.ended_with.append(error.reason)


class Caller:
    """Sends when it is told; its call reads in a thread of its own."""

    def __init__(self, watch: ProgressWatch) -> None:
        self.call = EndedCall()
        self._watch = watch
        self._told = Event()
        self._next: bytes | None = None
        self.read_bytes = -1

    def _messages(self) -> Iterator[Chunk]:
        while True:
            self._told.wait(TIMEOUT_SECONDS)
            self._told.clear()
            if self._next is None:
                return
            yield Chunk(self._next)

    def _read(self) -> None:
        with use_request_context(self.call):
            self.read_bytes = 0
            for message in self._watch.watched(self._messages()):
                self.read_bytes += len(message.chunk)

    def send(self, content: bytes | None) -> None:
        """Send bytes and wait until they are read; None ends."""
        expected = self.read_bytes + len(content or b"")
        self._next = content
        self._told.set()
        wait_until(lambda: not self._told.is_set() and self.read_bytes == expected, "it is read")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read until the end of the block."""
        thread = Thread(target=self._read)
        thread.start()
        wait_until(lambda: self.read_bytes == 0, "it reads")
        try:
            yield
        finally:
            self._next = None
            self._told.set()
            thread.join(TIMEOUT_SECONDS)


@pytest.fixture
def caller(day: LeapingClock) -> Iterator[tuple[Caller, Callable[[float], list[Reason]]]]:
    """Return a caller whose call is watched, and what lets seconds pass and says with what it was ended."""
    watch = ProgressWatch(day, UPLOAD_SECONDS_MAX, UPLOAD_BYTES_MIN)
    made = Caller(watch)

    def after(seconds: float) -> list[Reason]:
        day.leapt_seconds += seconds
        watch.step()
        return made.call.ended_with

    with made.reading():
        yield made, after


LONG = UPLOAD_SECONDS_MAX * 0.6


def test_who_goes_on_is_left_alone(caller: tuple[Caller, Callable[[float], list[Reason]]]) -> None:
    sender, after = caller
    for _ in range(3):
        assert after(LONG) == []
        sender.send(bytes(UPLOAD_BYTES_MIN))
    assert after(LONG) == []


def test_a_byte_now_and_then_is_no_progress(caller: tuple[Caller, Callable[[float], list[Reason]]]) -> None:
    sender, after = caller
    assert after(LONG) == []
    sender.send(b"x")
    sender.send(b"")
    assert after(LONG) == [Reason.UPLOAD_INCOMPLETE]


def test_a_call_is_ended_once(caller: tuple[Caller, Callable[[float], list[Reason]]]) -> None:
    _, after = caller
    after(UPLOAD_SECONDS_MAX + 1)
    assert after(UPLOAD_SECONDS_MAX + 1) == [Reason.UPLOAD_INCOMPLETE]


def test_the_time_that_the_service_takes_is_no_silence(day: LeapingClock) -> None:
    watch, call = ProgressWatch(day, UPLOAD_SECONDS_MAX, UPLOAD_BYTES_MIN), EndedCall()
    with use_request_context(call):
        messages = watch.watched(iter([Chunk(b"x"), Chunk(b"y")]))
        for _ in messages:
            # Its disk is slow.
            day.leapt_seconds += UPLOAD_SECONDS_MAX + 1
            watch.step()
    assert call.ended_with == []
