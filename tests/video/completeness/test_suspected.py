"""What is found of suspected overloads in entries of any kind and any platform."""

from datetime import UTC, datetime

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.journal.entries import EntryBuilder
from services.video.store.weighings import SuspectedRow
from services.video.suspected import RECEIVED_CHARACTERS_MAX, WEIGHING_KIND, WEIGHING_SCHEMA, Passed, find_suspected
from zhichao.weighing.v1.record_pb2 import WeighingRecord
from zhichao.weighing.v1.weighing_pb2 import (
    VERDICT_COMPLIANT,
    VERDICT_NOT_JUDGED,
    VERDICT_SUSPECTED,
    VERDICT_UNDETERMINED,
    Judgement,
    Weighing,
)

WEIGHED = datetime(2026, 7, 1, 4, 0, 0, 250_000, tzinfo=UTC)
RECEIVED = datetime(2026, 7, 1, 4, 0, 3, tzinfo=UTC)
UNIT = "141025-001"


def timestamp(moment: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(moment)
    return made


def weighing(record_id: str = "r-1", verdict: int = VERDICT_SUSPECTED, unit: str = UNIT) -> Weighing:
    return Weighing(
        record=WeighingRecord(record_id=record_id, source_unit_id=unit, weigh_time=timestamp(WEIGHED)),
        judgement=Judgement(verdict=verdict),  # type: ignore[arg-type]  # a number of the enum
        receive_time=timestamp(RECEIVED),
        division_code="141025",
    )


def entry(payload: bytes, kind: str = WEIGHING_KIND, schema: int = WEIGHING_SCHEMA) -> bytes:
    return EntryBuilder(kind, schema, WEIGHED, "terminal/t1").build_bytes(payload)


def row(record_id: str, sequence: int) -> SuspectedRow:
    return SuspectedRow(UNIT, record_id, sequence, WEIGHED, RECEIVED)


def test_suspected_ones_are_found_at_their_places() -> None:
    verdicts = [VERDICT_COMPLIANT, VERDICT_SUSPECTED, VERDICT_UNDETERMINED, VERDICT_NOT_JUDGED, VERDICT_SUSPECTED]
    entries = [
        entry(weighing(f"r-{number}", verdict).SerializeToString()) for number, verdict in enumerate(verdicts, 41)
    ]

    found = find_suspected(41, entries)

    assert found.suspected == [row("r-42", 42), row("r-45", 45)]
    assert (found.passed, found.unreadable_count) == (None, 0)


def test_other_entries_and_what_is_no_entry_are_passed_over() -> None:
    content = weighing().SerializeToString()
    entries = [
        entry(b"\xff", "zhichao.journal.v1.LogStart"),
        entry(content, "zhichao.weighing.v1.WeighingConflict"),
        entry(content, "zhichao.future.v9.Thing", schema=7),
        b"\xff\xff\xff",
        b"",
        entry(content),
    ]

    found = find_suspected(1, entries)

    assert found.suspected == [row("r-1", 6)]
    assert (found.passed, found.unreadable_count) == (None, 0)


def test_a_newer_schema_is_passed_over_and_named() -> None:
    content = weighing().SerializeToString()
    entries = [entry(content), entry(content, schema=4), entry(content, schema=2), entry(content, schema=3)]

    found = find_suspected(10, entries)

    assert found.suspected == [row("r-1", 10)]
    assert found.passed == Passed(11, 2)


def test_a_record_that_stands_twice_counts_at_its_last_place() -> None:
    content = weighing().SerializeToString()

    assert find_suspected(1, [entry(content), entry(content)]).suspected == [row("r-1", 2)]


def test_the_same_record_id_of_two_units_is_two_weighings() -> None:
    entries = [entry(weighing(unit=unit).SerializeToString()) for unit in (UNIT, "141025-002")]

    assert [one.source_unit_id for one in find_suspected(1, entries).suspected] == [UNIT, "141025-002"]


def _changed(field: str) -> Weighing:
    made = weighing()
    match field:
        case "no record id":
            made.record.record_id = ""
        case "no unit":
            made.record.source_unit_id = ""
        case "a zero byte":
            made.record.record_id = "r\x00"
        case "a long id":
            made.record.record_id = "r" * (RECEIVED_CHARACTERS_MAX + 1)
        case "no weigh time":
            made.record.ClearField("weigh_time")
        case "a weigh time that is none":
            made.record.weigh_time.seconds = 2**62
        case "nanoseconds that are none":
            made.record.weigh_time.nanos = -5
        case "the year 1":
            made.record.weigh_time.seconds = -62_135_596_800
        case "the year 9999":
            made.receive_time.seconds = 253_402_300_000
    return made


@pytest.mark.parametrize(
    "field",
    [
        "no record id",
        "no unit",
        "a zero byte",
        "a long id",
        "no weigh time",
        "a weigh time that is none",
        "nanoseconds that are none",
        "the year 1",
        "the year 9999",
    ],
)
def test_what_cannot_be_a_row_is_counted(field: str) -> None:
    found = find_suspected(1, [entry(_changed(field).SerializeToString()), entry(weighing("r-2").SerializeToString())])

    assert found.suspected == [row("r-2", 2)]
    assert found.unreadable_count == 1


def test_a_payload_that_is_no_weighing_is_counted() -> None:
    assert find_suspected(1, [entry(b"\xff\xff")]).unreadable_count == 1
