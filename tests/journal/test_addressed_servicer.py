"""Addressed entries over a real gRPC server: what a relay and people see."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.common.reasons import Reason
from services.journal import addressed_convert
from services.journal.addressed_batch import STEP_ENTRIES_MAX
from services.journal.limits import ADDRESSED_BATCH_STEPS_MAX, PROOF_NODES_MAX
from tests.journal.addressed import OTHER_CITY, Platform
from tests.journal.journals import WAIT_SECONDS, Journal
from tests.journal.paper_log import CITY, COUNTY, KIND, PROVINCE, STREAM
from tests.journal.served import ServedJournal, refusal
from zhichao.journal.v1 import addressed_pb2
from zhichao.journal.v1 import journal_pb2 as pb

Serve = Callable[[Journal], ServedJournal]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Serve journals; they stop after the test."""
    made: list[ServedJournal] = []

    def start(journal: Journal) -> ServedJournal:
        made.append(ServedJournal(journal, tmp_path))
        return made[-1]

    yield start
    for one in made:
        one.close()


def positions(served: ServedJournal, origin: str = "") -> list[addressed_pb2.AddressedPosition]:
    request = pb.ListAddressedPositionsRequest(origin=origin)
    return list(served.stub.ListAddressedPositions(request, timeout=WAIT_SECONDS).positions)


def read(served: ServedJournal, **fields: Any) -> Any:
    return served.stub.ReadAddressedEntries(pb.ReadAddressedEntriesRequest(**fields), timeout=WAIT_SECONDS)


def append(served: ServedJournal, batch: addressed_pb2.AddressedBatch) -> pb.AppendAddressedEntriesResponse:
    request = pb.AppendAddressedEntriesRequest(batch=batch)
    answer: pb.AppendAddressedEntriesResponse = served.stub.AppendAddressedEntries(request, timeout=WAIT_SECONDS)
    return answer


def carry(upper: ServedJournal, lower: ServedJournal) -> list[pb.AppendAddressedEntriesResponse]:
    """Do what a relay does: ask where the reader stands, read from there, hand over."""
    answers = read(upper, platform=lower.journal.platform, positions=positions(lower))
    return [append(lower, answer.batch) for answer in answers if answer.WhichOneof("content") == "batch"]


def test_entries_go_down_through_three_services(
    province: Journal, city: Journal, county: Journal, serve: Serve
) -> None:
    province.write(b"down", b"unprojectable", audience=COUNTY)
    city.write(b"from the city", audience=CITY)
    upper, middle, lower = serve(province), serve(city), serve(county)
    (answer,) = carry(upper, middle)
    assert (answer.duplicate_count, answer.parked_count) == (0, 1)
    position = answer.position
    assert (position.origin, position.stream, position.through_sequence) == (PROVINCE, STREAM, 3)
    assert (position.parked_count, position.is_own, len(position.audiences)) == (1, False, 0)
    carry(middle, lower)
    assert county.notes(PROVINCE) == {2: b"down"}
    assert county.notes(CITY) == {2: b"from the city"}
    held = positions(lower)
    assert [(one.origin, one.through_sequence, one.is_own) for one in held] == [
        (PROVINCE, 3, False),
        (CITY, 2, False),
        (COUNTY, 0, True),
    ]
    assert positions(lower, CITY) == [held[1]]
    assert carry(middle, lower) == []


def test_a_follow_brings_what_comes_later(province: Journal, serve: Serve) -> None:
    upper = serve(province)
    answers = read(upper, platform=CITY, follow=True)
    assert next(answers).WhichOneof("content") == "ends"
    province.write(b"later", audience=CITY)
    batch = next(answers).batch
    assert [one.sequence for one in batch.steps[0].entries] == [1, 2]
    assert batch.end_sequence == 2
    assert [(one.origin, one.end_sequence) for one in next(answers).ends.ends] == [(PROVINCE, 2)]
    answers.cancel()


def test_a_server_that_stops_ends_its_follows(province: Journal, serve: Serve) -> None:
    upper = serve(province)
    answers = read(upper, platform=CITY, follow=True)
    assert next(answers).WhichOneof("content") == "ends"
    upper.server.stop(WAIT_SECONDS)
    assert refusal(lambda: answers).is_retryable


def test_who_has_received_what(province: Journal, city: Journal, serve: Serve) -> None:
    province.write(b"one", b"two", audience=CITY)
    upper, middle = serve(province), serve(city)
    carry(upper, middle)
    province.pull(city, CITY)
    answer = upper.stub.ListAddressedReceipts(pb.ListAddressedReceiptsRequest(page_size=1), timeout=WAIT_SECONDS)
    (receipt,) = answer.receipts
    assert (receipt.origin, receipt.sequence, receipt.platform, receipt.receipt_sequence) == (PROVINCE, 2, CITY, 2)
    assert receipt.receive_time.ToDatetime() == city.clock.time.replace(tzinfo=None)
    request = pb.ListAddressedReceiptsRequest(page_size=1, page_token=answer.next_page_token)
    answer = upper.stub.ListAddressedReceipts(request, timeout=WAIT_SECONDS)
    assert ([one.sequence for one in answer.receipts], answer.next_page_token) == ([3], "")


def test_reasons(province: Journal, city: Journal, serve: Serve) -> None:
    province.write(b"one", audience=CITY)
    upper, middle = serve(province), serve(city)
    assert refusal(lambda: read(upper, platform="14")).reason is Reason.INVALID_ARGUMENT
    twice = [addressed_pb2.AddressedPosition(origin=PROVINCE)] * 2
    assert refusal(lambda: read(upper, platform=CITY, positions=twice)).reason is Reason.INVALID_ARGUMENT
    assert refusal(lambda: append(middle, addressed_pb2.AddressedBatch())).reason is Reason.INVALID_ARGUMENT
    empty = addressed_pb2.AddressedBatch(origin=PROVINCE)
    assert refusal(lambda: append(middle, empty)).reason is Reason.BATCH_TOO_LARGE
    batch = next(read(upper, platform=CITY)).batch
    batch.steps[0].entries[1].entry += b"\x00"
    assert refusal(lambda: append(middle, batch)).reason is Reason.HISTORY_MISMATCH
    receipts = pb.ListAddressedReceiptsRequest(origin="x")
    assert refusal(lambda: upper.stub.ListAddressedReceipts(receipts)).reason is Reason.INVALID_ARGUMENT


def test_a_log_that_cannot_be_sent_is_refused_in_the_stream(province: Journal, serve: Serve) -> None:
    upper = serve(province)
    ahead = addressed_pb2.AddressedPosition(origin=PROVINCE, through_sequence=9, root=bytes(32))
    first, ends = read(upper, platform=CITY, positions=[ahead])
    assert first.refusal.origin == PROVINCE
    assert first.refusal.refusal.metadata["size"] == "1"
    assert "旧备份" in first.refusal.refusal.message_zh
    assert list(ends.ends.ends) == []


def test_parked_entries_from_above_are_listed_and_replayed(province: Journal, city: Journal, serve: Serve) -> None:
    province.write(b"unprojectable", audience=CITY)
    upper, middle = serve(province), serve(city)
    carry(upper, middle)
    (parked,) = middle.stub.ListParkedEntries(pb.ListParkedEntriesRequest(), timeout=WAIT_SECONDS).parked_entries
    assert (parked.origin, parked.sequence, parked.kind, parked.cause) == (PROVINCE, 2, KIND, "malformed")
    answer = middle.stub.ReplayParkedEntries(pb.ReplayParkedEntriesRequest(origin=PROVINCE), timeout=WAIT_SECONDS)
    assert (answer.projected_count, answer.parked_count) == (0, 1)


def test_the_largest_batch_fits_into_its_message(province: Journal, city: Journal, serve: Serve) -> None:
    for _ in range(2):
        province.write(*[b"x" * 65_000] * 32, audience=CITY)
    upper, middle = serve(province), serve(city)
    answers = carry(upper, middle)
    assert len(answers) == 3
    assert len(city.notes(PROVINCE)) == 64


def test_divisions_decide_what_is_sent(province: Journal, serve: Serve) -> None:
    province.write(b"down", audience=COUNTY)
    upper = serve(province)
    Platform(province).move({COUNTY: OTHER_CITY})
    first = next(read(upper, platform=OTHER_CITY))
    assert [one.sequence for one in first.batch.steps[0].entries] == [1, 2]
    first = next(read(upper, platform=CITY))
    assert [one.sequence for one in first.batch.steps[0].entries] == [1]


def test_a_message_of_nothing_but_empty_parts_is_refused(city: Journal, serve: Serve) -> None:
    middle = serve(city)
    steps = addressed_pb2.AddressedBatch(origin=PROVINCE, steps=[addressed_pb2.AddressedStep()] * 100_000)
    assert refusal(lambda: append(middle, steps)).reason is Reason.BATCH_TOO_LARGE
    step = addressed_pb2.AddressedStep(entries=[addressed_pb2.AddressedEntry()] * 100_000)
    entries = addressed_pb2.AddressedBatch(origin=PROVINCE, steps=[step])
    assert refusal(lambda: append(middle, entries)).reason is Reason.BATCH_TOO_LARGE


def test_of_too_many_parts_no_more_is_read_than_shows_it() -> None:
    entry = addressed_pb2.AddressedEntry(inclusion_path=[b""] * 200)
    step = addressed_pb2.AddressedStep(entries=[entry] * 5, consistency_path=[b""] * 200)
    batch = addressed_convert.batch_from(addressed_pb2.AddressedBatch(origin=PROVINCE, steps=[step] * 300))
    assert len(batch.steps) == ADDRESSED_BATCH_STEPS_MAX + 1
    assert {len(one.consistency_path) for one in batch.steps} == {PROOF_NODES_MAX + 1}
    assert {len(one.entries) for one in batch.steps} == {STEP_ENTRIES_MAX + 1}
    assert {len(one.inclusion_path) for one in batch.steps[0].entries} == {PROOF_NODES_MAX + 1}
