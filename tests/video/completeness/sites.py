"""Platforms with a weighing service and a video service, and what happens at their source units."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from services.common.instants import timestamp
from tests.registry.harness import TIMEOUT_SECONDS
from tests.running_service import carry_up
from tests.video.harness import UNIT, RunningVideo
from tests.video.media_files import clip, photo
from tests.waiting import wait_until
from tests.weighing.harness import RunningWeighing
from tests.weighing.records import BY_VERDICT, SUSPECTED, record
from zhichao.journal.v1 import journal_pb2 as journal
from zhichao.video.v1 import evidence_pb2
from zhichao.video.v1 import service_pb2 as pb

IN_TIME_MINUTES = 30

_CLIP = clip(seconds=2)


class Site:
    """One platform. What happens there happens at the time of its video service's clock."""

    def __init__(self, weighing: RunningWeighing, video: RunningVideo) -> None:
        self.weighing = weighing
        self.video = video

    def weigh(self, record_id: str, verdict: int = SUSPECTED, unit: str = UNIT) -> None:
        """Record a weighing."""
        now = self.video.clock.now()
        self.weighing.clock.moment = now
        fields: dict[str, Any] = {"source_unit_id": unit, "weigh_time": timestamp(now)} | BY_VERDICT[verdict]
        self.weighing.record(record(record_id, **fields))

    def seal(self, kind: str, *record_ids: str, unit: str = UNIT, age: timedelta = timedelta(minutes=1)) -> None:
        """Seal a photo or a clip of weighings that was taken some time ago."""
        taken = self.video.clock.now() - age
        fields: dict[str, Any] = {
            "source_unit_id": unit,
            "evidence_id": f"{kind}-{record_ids[0]}",
            "subjects": [evidence_pb2.Subject(record_id=record_id) for record_id in record_ids],
            "capture_start_time": timestamp(taken),
        }
        if kind == "clip":
            fields |= {
                "kind": evidence_pb2.EVIDENCE_KIND_CLIP,
                "content_type": "video/mp4",
                "capture_end_time": timestamp(taken + timedelta(seconds=2)),
            }
        self.video.sealed(_CLIP if kind == "clip" else photo(), **fields)

    def positions(self) -> dict[str, int]:
        """Return where the weighing logs stand."""
        answer = self.weighing.journal.ListPositions(journal.ListPositionsRequest(), timeout=TIMEOUT_SECONDS)
        return {position.origin: position.size for position in answer.positions}

    def push_weighings(self, upper: "Site") -> None:
        """Push all weighings that are held up, as relays do."""
        held = upper.positions()
        for origin in self.positions():
            request = journal.ReadEntriesRequest(origin=origin, first_sequence=held.get(origin, 0) + 1)
            batches = [answer.batch for answer in self.weighing.journal.ReadEntries(request, timeout=TIMEOUT_SECONDS)]
            if batches:
                upper.weighing.receive(batches)

    def push_evidence(self, upper: "Site") -> None:
        """Push all manifests and reports up, as relays do."""
        carry_up(self.video, upper.video)

    def follow(self) -> None:
        """Wait until the video service has read all weighings."""
        sizes = self.positions()

        def is_read() -> bool:
            rows = dict(self.video.query("SELECT origin, position FROM weighing_positions"))
            return all(rows.get(origin, 0) >= size for origin, size in sizes.items())

        wait_until(is_read, "the weighings are read")

    def completeness(self, page_size: int = 0, stub: Any = None, **narrow: Any) -> list[pb.Completeness]:
        """Read all pages of completeness."""
        found: list[pb.Completeness] = []
        token = ""
        while True:
            request = pb.ListCompletenessRequest(page_size=page_size, page_token=token, **narrow)
            answer: pb.ListCompletenessResponse = self.video.call("ListCompleteness", request, stub)
            assert answer.in_time_minutes == IN_TIME_MINUTES
            found += answer.completeness
            token = answer.next_page_token
            if not token:
                return found

    def missing(self, page_size: int = 0, stub: Any = None, **narrow: Any) -> list[pb.MissingEvidence]:
        """Read all pages of what is missing."""
        found: list[pb.MissingEvidence] = []
        token = ""
        while True:
            request = pb.ListMissingEvidenceRequest(page_size=page_size, page_token=token, **narrow)
            answer: pb.ListMissingEvidenceResponse = self.video.call("ListMissingEvidence", request, stub)
            found += answer.missing
            token = answer.next_page_token
            if not token:
                return found


def names(missing: Iterable[pb.MissingEvidence]) -> list[str]:
    """Return the record ids of what is missing."""
    return [one.record_id for one in missing]
