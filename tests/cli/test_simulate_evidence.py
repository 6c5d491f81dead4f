"""The cameras of a simulation against a real video service: what is offered is sealed, also over an outage."""

import dataclasses
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cli.run_evidence import read_ledger
from cli.simulate import evidence
from cli.simulate.evidence import UPLOADERS_MAX, WAITING_PHOTOS_MAX, EvidenceUploads
from cli.simulate.ledger import Ledger
from cli.simulate.seeding import seeded_random
from cli.simulate.sender import Control, TerminalSender
from cli.simulate.simulation import is_behind
from cli.simulate.terminal_queue import TerminalQueue
from services.common.clock import SystemClock
from services.common.rpc_client import connect
from tests.video.conftest import county, county_registry, day, evidence_store, video_of
from tests.video.harness import COUNTY, OTHER_UNIT, UNIT, RunningVideo
from tests.waiting import wait_until
from zhichao.video.v1 import camera_pb2, evidence_pb2
from zhichao.video.v1 import service_pb2 as pb
from zhichao.weighing.v1 import record_pb2, service_pb2, service_pb2_grpc, weighing_pb2

__all__ = ["county", "county_registry", "day", "evidence_store", "video_of"]
# Fixtures of the video tests, which pytest finds by their names here.

SECONDS_MAX = 30.0


def record_of(county: RunningVideo, number: int, unit: str = UNIT) -> record_pb2.WeighingRecord:
    made = record_pb2.WeighingRecord(
        record_id=f"r-{number}", source_unit_id=unit, scale_id="C1", gross_weight_kg=40_000 + number
    )
    made.front_plate.number = "晋N12345"
    made.weigh_time.FromDatetime(county.clock.now())
    return made


def judged(*, is_suspected: bool = False) -> service_pb2.Recorded:
    verdict = weighing_pb2.VERDICT_SUSPECTED if is_suspected else weighing_pb2.VERDICT_COMPLIANT
    return service_pb2.Recorded(judgement=weighing_pb2.Judgement(verdict=verdict))


@pytest.fixture
def tokens(county: RunningVideo) -> dict[str, str]:
    return {unit: county.access.terminal(unit, name=unit.lower()) for unit in (UNIT, OTHER_UNIT)}


@pytest.fixture
def uploads(county: RunningVideo, tokens: dict[str, str], tmp_path: Path) -> Iterator[EvidenceUploads]:
    made = EvidenceUploads(
        lambda: connect(county.address), tokens, seed=1, every=1, ledger_path=tmp_path / "evidence.jsonl"
    )
    yield made
    made.stop(drain=False, timeout_seconds=0)


def listed(county: RunningVideo, **narrow: Any) -> set[str]:
    request = pb.ListEvidenceRequest(filter=pb.EvidenceFilter(**narrow), page_size=1_000)
    return {one.evidence.evidence_id for one in county.call("ListEvidence", request).held_evidence}


def test_every_weighing_is_photographed_and_suspected_ones_filmed(
    county: RunningVideo, uploads: EvidenceUploads, tmp_path: Path
) -> None:
    uploads.start()
    uploads.offer(record_of(county, 1), judged())
    uploads.offer(record_of(county, 2, OTHER_UNIT), judged(is_suspected=True))
    assert uploads.stop(drain=True, timeout_seconds=SECONDS_MAX)
    assert dataclasses.replace(uploads.counters, sealed_bytes=0) == dataclasses.replace(
        uploads.counters, photos=2, clips=1, refused=0, skipped=0, sealed_bytes=0
    )
    assert listed(county) == {"r-1.photo", "r-2.photo", "r-2.clip"}
    assert listed(county, kinds=[evidence_pb2.EVIDENCE_KIND_CLIP]) == {"r-2.clip"}
    name = evidence_pb2.EvidenceName(source_unit_id=OTHER_UNIT, evidence_id="r-2.clip")
    clip = county.call("GetEvidence", pb.GetEvidenceRequest(name=name)).held_evidence
    assert [subject.record_id for subject in clip.evidence.subjects] == ["r-2"]
    assert clip.evidence.actor == f"terminal/{OTHER_UNIT}"
    # Of what is drawn nothing is doubtful but what a real site may be late with.
    assert set(clip.evidence.flags) <= {evidence_pb2.EVIDENCE_FLAG_LATE}
    # The ledger says where each stands, those first that a court would ask for.
    lines = read_ledger(tmp_path / "evidence.jsonl")
    assert [line["evidence_id"] for line in lines] == ["r-2.clip", "r-2.photo", "r-1.photo"]
    assert (lines[0]["origin"], lines[0]["sequence"]) == (COUNTY, clip.sequence)
    assert (lines[0]["leaf_digest"], lines[0]["digest"]) == (clip.leaf_digest.hex(), clip.evidence.digest.hex())


def test_a_site_says_once_of_each_camera_that_it_records(county: RunningVideo, uploads: EvidenceUploads) -> None:
    uploads.start()
    for number in range(3):
        uploads.offer(record_of(county, number), judged(is_suspected=True))
    assert uploads.stop(drain=True, timeout_seconds=SECONDS_MAX)

    cameras = county.call("ListCameras", pb.ListCamerasRequest()).held_cameras
    assert {(one.report.camera_id, one.report.state) for one in cameras} == {
        ("C1-front", camera_pb2.RECORDING_STATE_RECORDING),
        ("C1-side", camera_pb2.RECORDING_STATE_RECORDING),
    }
    # Six manifests, two reports, and the beginning of the log.
    with psycopg.connect(county.database_url) as connection:
        assert connection.execute("SELECT count(*) FROM journal_entries").fetchone() == (9,)


def test_an_outage_loses_nothing(county: RunningVideo, uploads: EvidenceUploads) -> None:
    county.stop()
    uploads.start()
    for number in range(5):
        uploads.offer(record_of(county, number), judged())
    wait_until(lambda: uploads.last_error, "the cameras see that the platform is away")
    county.start()
    assert uploads.stop(drain=True, timeout_seconds=SECONDS_MAX)
    assert listed(county) == {f"r-{number}.photo" for number in range(5)}
    assert uploads.last_error == ""


def test_the_same_weighing_again_is_sealed_once(county: RunningVideo, uploads: EvidenceUploads) -> None:
    uploads.start()
    for _ in range(2):
        uploads.offer(record_of(county, 1), judged())
    assert uploads.stop(drain=True, timeout_seconds=SECONDS_MAX)
    assert listed(county) == {"r-1.photo"}
    assert uploads.counters.refused == 0


def test_what_is_refused_for_good_is_counted(county: RunningVideo, uploads: EvidenceUploads) -> None:
    uploads.start()
    wrong = record_of(county, 1)
    wrong.record_id = "no id"
    uploads.offer(wrong, judged())
    assert uploads.stop(drain=True, timeout_seconds=SECONDS_MAX)
    assert uploads.counters.refused == 1
    assert "evidence_id" in uploads.last_error


def test_photos_that_nobody_takes_are_left_out_and_suspected_ones_never(
    county: RunningVideo, uploads: EvidenceUploads
) -> None:
    for number in range(WAITING_PHOTOS_MAX + 3):
        uploads.offer(record_of(county, number), judged())
    uploads.offer(record_of(county, 9_999), judged(is_suspected=True))
    assert uploads.counters.skipped == 3
    assert uploads.waiting_count == WAITING_PHOTOS_MAX + 2


def test_what_shows_suspected_overloads_waits_in_bounded_memory(
    county: RunningVideo, uploads: EvidenceUploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "WAITING_SUSPECTED_MAX", 4)
    for number in range(5):
        uploads.offer(record_of(county, number), judged(is_suspected=True))
    assert (uploads.counters.skipped, uploads.counters.skipped_clips) == (3, 3)
    assert uploads.waiting_count == 4


def test_photos_give_way_to_weighings_and_suspected_ones_do_not(county: RunningVideo, uploads: EvidenceUploads) -> None:
    is_behind = threading.Event()
    is_behind.set()
    uploads.start(is_behind.is_set)
    uploads.offer(record_of(county, 1), judged())
    uploads.offer(record_of(county, 2), judged(is_suspected=True))
    wait_until(lambda: uploads.counters.sealed == 2, "the suspected overload is photographed and filmed")
    assert listed(county) == {"r-2.photo", "r-2.clip"}
    is_behind.clear()
    wait_until(lambda: uploads.counters.sealed == 3, "the photo is uploaded once the terminals have caught up")
    assert listed(county) == {"r-1.photo", "r-2.photo", "r-2.clip"}


def test_the_end_does_not_wait_for_terminals_that_have_ended(county: RunningVideo, uploads: EvidenceUploads) -> None:
    uploads.start(lambda: True)
    uploads.offer(record_of(county, 1), judged())
    assert uploads.stop(drain=True, timeout_seconds=SECONDS_MAX)
    assert listed(county) == {"r-1.photo"}


def test_terminals_are_behind_while_more_than_one_record_waits_for_each(county: RunningVideo) -> None:
    queue = TerminalQueue()
    clock = SystemClock()
    sender = TerminalSender(
        "C1",
        queue,
        service_pb2_grpc.WeighingServiceStub(connect(county.address)),
        Ledger(),
        Control(clock, started=clock.monotonic()),
        offline_until=lambda offset: None,
        rng=seeded_random("test"),
    )
    found = []
    for number in range(3):
        found.append(is_behind([sender]))
        made = record_of(county, number)
        queue.keep(made)
        queue.release(made.record_id)
    found.append(is_behind([sender]))
    # Whoever is cut off has a backlog that no machine could send.
    sender.is_offline = True
    assert (found, is_behind([sender])) == ([False, False, True, True], False)


def test_the_end_waits_and_says_how_many_are_left(county: RunningVideo, uploads: EvidenceUploads) -> None:
    reported: list[int] = []
    for number in range(12):
        uploads.offer(record_of(county, number), judged())
    uploads.start()
    assert uploads.stop(drain=True, timeout_seconds=SECONDS_MAX, report=reported.append)
    assert len(listed(county)) == 12
    assert reported
    assert reported == sorted(reported, reverse=True)


def test_photos_that_are_not_sealed_in_time_are_left_out_and_counted(
    county: RunningVideo, uploads: EvidenceUploads
) -> None:
    county.stop()
    uploads.start()
    for number in range(20):
        uploads.offer(record_of(county, number), judged())
    wait_until(lambda: uploads.last_error, "the cameras see that the platform is away")
    assert not uploads.stop(drain=True, timeout_seconds=0)
    # What was under way is not forgotten: it is told as a fault.
    assert 0 < uploads.waiting_count <= UPLOADERS_MAX
    assert uploads.counters.skipped + uploads.waiting_count == 20
    assert uploads.counters.photos == 0


def test_which_weighings_are_photographed_follows_from_their_ids(
    county: RunningVideo, tokens: dict[str, str], tmp_path: Path
) -> None:
    def chosen(order: list[int]) -> int:
        made = EvidenceUploads(lambda: connect(county.address), tokens, seed=1, every=7, ledger_path=tmp_path / "e")
        for number in order:
            made.offer(record_of(county, number), judged())
        made.stop(drain=False, timeout_seconds=0)
        return made.waiting_count

    numbers = list(range(700))
    assert chosen(numbers) == chosen(numbers[::-1])
    assert 60 < chosen(numbers) < 140


def test_a_line_that_was_cut_is_no_seal(tmp_path: Path) -> None:
    path = tmp_path / "evidence.jsonl"
    line = {"source_unit_id": UNIT, "evidence_id": "a", "is_suspected": False, "is_clip": False, "sequence": 2}
    path.write_text(json.dumps(line) + "\n" + json.dumps(line)[:20])
    assert [one["evidence_id"] for one in read_ledger(path)] == ["a"]
