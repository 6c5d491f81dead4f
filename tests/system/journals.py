"""Reads journals and lists over the public RPCs, whole: rows as an officer, and journals as the platform's own services
do, because what an auditor reads is journalled itself.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import grpc

from tests.system.reaching import OPERATOR, Place
from zhichao.journal.v1 import journal_pb2, journal_pb2_grpc
from zhichao.relay.v1 import relay_pb2, relay_pb2_grpc
from zhichao.weighing.v1 import service_pb2, service_pb2_grpc

# Short calls answer within milliseconds; a machine with two busy cores takes its time.
CALL_SECONDS = 15.0
# A log of 50,000 entries is read within seconds.
READ_SECONDS = 60.0
PAGE_RECORDS = 1_000


@contextlib.contextmanager
def calling(place: Place, person: str | None = None) -> Iterator[grpc.Channel]:
    """Open a connection of its own: one that was refused before waits too long before it tries again.

    Without a person it is that of a service.
    """
    channel = place.connect_as_service() if person is None else place.connect(person)
    try:
        yield channel
    finally:
        channel.close()


@dataclass
class LogCopy:
    """One log as one level holds it."""

    position: journal_pb2.Position
    entries: list[bytes] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)
    # What the batches ended with, and the newest with all cosignatures.
    notes: list[str] = field(default_factory=list)
    newest_note: str = ""
    gaps: list[str] = field(default_factory=list)


def read_positions(place: Place) -> dict[str, journal_pb2.Position]:
    """Return where the logs of one service stand, by origin."""
    with calling(place) as channel:
        stub = journal_pb2_grpc.JournalServiceStub(channel)
        answer = stub.ListPositions(journal_pb2.ListPositionsRequest(), timeout=CALL_SECONDS)
        return {position.origin: position for position in answer.positions}


def read_log(place: Place, position: journal_pb2.Position) -> LogCopy:
    """Read a log to its end, with the stored leaf digests and a checkpoint of its newest size."""
    copy = LogCopy(position)
    with calling(place) as channel:
        stub = journal_pb2_grpc.JournalServiceStub(channel)
        request = journal_pb2.ReadEntriesRequest(
            origin=position.origin, first_sequence=1, follow=False, include_leaf_digests=True
        )
        for response in stub.ReadEntries(request, timeout=READ_SECONDS):
            batch = response.batch
            if batch.first_sequence != len(copy.entries) + 1 or batch.origin != position.origin:
                copy.gaps.append(f"{batch.origin} {batch.first_sequence} came after {len(copy.entries)} entries")
            copy.entries.extend(batch.entries)
            copy.leaves.extend(response.leaf_digests)
            copy.notes.append(batch.checkpoint)
        checkpoint = stub.GetCheckpoint(journal_pb2.GetCheckpointRequest(origin=position.origin), timeout=CALL_SECONDS)
        copy.newest_note = checkpoint.checkpoint
    return copy


def read_relay(place: Place) -> relay_pb2.GetRelayStatusResponse:
    """Return the state of a platform's links."""
    with calling(place, OPERATOR) as channel:
        stub = relay_pb2_grpc.RelayServiceStub(channel)
        return stub.GetRelayStatus(relay_pb2.GetRelayStatusRequest(), timeout=CALL_SECONDS)


def list_weighings(place: Place, origin: str) -> Sequence[service_pb2.HeldWeighing]:
    """Return all weighings of an origin as the pages of the list give them."""
    held: list[service_pb2.HeldWeighing] = []
    with calling(place, OPERATOR) as channel:
        stub = service_pb2_grpc.WeighingServiceStub(channel)
        request = service_pb2.ListWeighingsRequest(
            filter=service_pb2.WeighingFilter(origin=origin), page_size=PAGE_RECORDS
        )
        while True:
            page = stub.ListWeighings(request, timeout=CALL_SECONDS)
            held.extend(page.held_weighings)
            if not page.next_page_token:
                return held
            request.page_token = page.next_page_token


def list_conflicts(place: Place) -> Sequence[service_pb2.HeldWeighingConflict]:
    """Return all conflicting submissions."""
    held: list[service_pb2.HeldWeighingConflict] = []
    with calling(place, OPERATOR) as channel:
        stub = service_pb2_grpc.WeighingServiceStub(channel)
        request = service_pb2.ListWeighingConflictsRequest(page_size=PAGE_RECORDS)
        while True:
            page = stub.ListWeighingConflicts(request, timeout=CALL_SECONDS)
            held.extend(page.held_conflicts)
            if not page.next_page_token:
                return held
            request.page_token = page.next_page_token


def list_day_totals(place: Place, origin: str) -> Sequence[service_pb2.DayTotal]:
    """Return all day totals of an origin."""
    totals: list[service_pb2.DayTotal] = []
    with calling(place, OPERATOR) as channel:
        stub = service_pb2_grpc.WeighingServiceStub(channel)
        request = service_pb2.ListDayTotalsRequest(origin=origin, page_size=PAGE_RECORDS)
        while True:
            page = stub.ListDayTotals(request, timeout=CALL_SECONDS)
            totals.extend(page.day_totals)
            if not page.next_page_token:
                return totals
            request.page_token = page.next_page_token
