"""Weighings of lower platforms: received as journalled, projected into rows and totals, parked when they cannot be."""

import random
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.common.database import create_engine, raw_connection
from services.journal import projection as journal_projection
from services.journal.digests import Digester
from services.weighing.convert import CONFLICT_KIND, WEIGHING_KIND
from services.weighing.projection import WeighingProjection
from tests.conftest import Databases
from tests.registry.harness import START
from tests.weighing.harness import SCHEMA, RunningWeighing, migrate
from tests.weighing.records import moment, record, records
from zhichao.weighing.v1 import record_pb2, weighing_pb2
from zhichao.weighing.v1 import service_pb2 as pb

TABLES = ("weighings", "weighing_conflicts", "day_totals")
Rows = dict[str, list[tuple[Any, ...]]]


def rows(database_url: str, origin: str = "141025") -> Rows:
    """Return every row of an origin in every table that is a projection of the journal."""
    engine = create_engine(database_url, pool_size=1, application_name="test")
    try:
        with engine.begin() as pooled:
            connection = raw_connection(pooled)
            return {
                table: sorted(
                    connection.execute(f"SELECT * FROM {table} WHERE origin = %s".encode(), (origin,)).fetchall()  # noqa: S608 - constants of the test
                )
                for table in TABLES
            }
    finally:
        engine.dispose()


def fill(weighing: RunningWeighing) -> None:
    """Record weighings of all kinds with duplicates and conflicts."""
    weighing.record_all(records(60, "a"))
    weighing.record_all([record(f"b-{n}", gross_weight_kg=10_000 + 3_000 * n) for n in range(10)])
    weighing.record_all([record(f"a-{n}", gross_weight_kg=9_000) for n in range(5)])
    without = record("c", event=record_pb2.WEIGHING_EVENT_TARE)
    without.ClearField("front_plate")
    without.ClearField("vehicle")
    weighing.record(without)
    weighing.record_all(records(60, "a"))


def test_received_rows_equal_those_of_the_origin(weighing: RunningWeighing, city: RunningWeighing) -> None:
    fill(weighing)
    city.receive(weighing.batches(1, 25))
    assert city.parked() == []
    expected = rows(weighing.database_url)
    assert all(expected.values())
    assert rows(city.database_url) == expected
    assert city.list_all(1_000) == weighing.list_all(1_000)
    assert city.day_totals() == weighing.day_totals()
    assert city.conflicts() == weighing.conflicts()
    name = pb.RecordName(source_unit_id="141025-001", record_id="a-1")
    assert city.call("GetWeighing", pb.GetWeighingRequest(record_name=name)).held_weighing.receipt.origin == "141025"
    # Sent again, in other batches, nothing changes.
    city.receive(weighing.batches(1, 40))
    assert rows(city.database_url) == expected


def test_tables_rebuilt_from_the_journal_equal_the_tables(weighing: RunningWeighing, databases: Databases) -> None:
    fill(weighing)
    url = databases.borrow(SCHEMA, migrate)
    projection, digester = WeighingProjection(), Digester("sha256")
    outcomes = [
        journal_projection.prepare(projection, "141025", sequence, entry, digester.leaf(entry))
        for sequence, entry in enumerate(weighing.entries(), 1)
    ]
    assert not [outcome for outcome in outcomes if isinstance(outcome, journal_projection.Parked)]
    engine = create_engine(url, pool_size=1, application_name="test")
    try:
        with engine.begin() as pooled:
            projection.project(raw_connection(pooled), "141025", [one for one in outcomes if isinstance(one, tuple)])
        assert rows(url) == rows(weighing.database_url)
    finally:
        engine.dispose()
        databases.give_back(SCHEMA, url)


@pytest.mark.parametrize("count", [1, 7, 24, 60])
def test_batches_written_together_give_the_rows_that_each_gives(
    count: int, weighing: RunningWeighing, databases: Databases
) -> None:
    fill(weighing)
    projection, digester = WeighingProjection(), Digester("sha256")
    entries = weighing.entries()[: 3 * count] if count > 1 else weighing.entries()[-3:]
    outcomes = [
        journal_projection.prepare(projection, "141025", sequence, entry, digester.leaf(entry))
        for sequence, entry in enumerate(entries, 1)
    ]
    prepared = [one for one in outcomes if isinstance(one, tuple)]
    batches = [prepared[start : start + count] for start in range(0, len(prepared), count)]
    written = []
    for is_together in (True, False):
        url = databases.borrow(SCHEMA, migrate)
        engine = create_engine(url, pool_size=1, application_name="test")
        try:
            with engine.begin() as pooled:
                connection = raw_connection(pooled)
                if is_together:
                    packed = [projection.pack("141025", batch) for batch in batches]
                    projection.project_packed(connection, "141025", packed)
                else:
                    for batch in batches:
                        projection.project(connection, "141025", batch)
            written.append(rows(url))
        finally:
            engine.dispose()
            databases.give_back(SCHEMA, url)
    assert written[0] == written[1]
    assert written[0]["weighings"]


def weighing_of(**fields: Any) -> weighing_pb2.Weighing:
    values: dict[str, Any] = {
        "record": record(),
        "judgement": weighing_pb2.Judgement(verdict=weighing_pb2.VERDICT_COMPLIANT, lenient_limit_kg=25_000),
        "receive_time": moment(START),
        "plate_number": "晋L00001",
    }
    return weighing_pb2.Weighing(**values | fields)


def judged(**fields: Any) -> weighing_pb2.Weighing:
    values: dict[str, Any] = {"verdict": weighing_pb2.VERDICT_COMPLIANT}
    return weighing_of(judgement=weighing_pb2.Judgement(**values | fields))


# Random, because PostgreSQL compresses what goes into an index.
LONG = random.Random(1).randbytes(10_000).hex()
FAR = Timestamp(seconds=2**62)
MALFORMED: dict[str, weighing_pb2.Weighing] = {
    "nothing": weighing_pb2.Weighing(),
    "no record": weighing_of(record=None),
    "no record id": weighing_of(record=record("")),
    "long record id": weighing_of(record=record(LONG)),
    "long unit": weighing_of(record=record(source_unit_id=LONG)),
    "long point": weighing_of(record=record(weighing_point_id=LONG)),
    "NUL in an id": weighing_of(record=record("a\x00b")),
    "NUL in a point": weighing_of(record=record(weighing_point_id="a\x00b")),
    "long plate": weighing_of(plate_number=LONG),
    "NUL in a plate": weighing_of(plate_number="晋\x00"),
    "verdict 0": judged(verdict=0),
    "unknown verdict": judged(verdict=9),
    "negative verdict": judged(verdict=-1),
    "severity over two bytes": judged(severity=2**31 - 1),
    "event over two bytes": weighing_of(record=record(event=-(2**31))),
    "axle count over two bytes": weighing_of(record=record(vehicle=record_pb2.Vehicle(axle_count=2**31 - 1))),
    "weigh time beyond PostgreSQL": weighing_of(record=record(weigh_time=FAR)),
    "weigh time before PostgreSQL": weighing_of(record=record(weigh_time=Timestamp(seconds=-(2**62)))),
    "weigh time beyond the calendar": weighing_of(record=record(weigh_time=Timestamp(seconds=253_402_300_800))),
    "weigh time at its very end": weighing_of(record=record(weigh_time=Timestamp(seconds=253_402_300_799))),
    "weigh time before the calendar": weighing_of(record=record(weigh_time=Timestamp(seconds=-62_135_596_801))),
    "nanos": weighing_of(record=record(weigh_time=Timestamp(nanos=-(2**31)))),
    "receive time beyond PostgreSQL": weighing_of(receive_time=FAR),
}
HARMLESS: dict[str, weighing_pb2.Weighing] = {
    "unknown severity": judged(severity=7),
    "unknown event": weighing_of(record=record(event=30)),
    "flag of a newer release": weighing_of(quality_flags=[31]),
    "flags that are none": weighing_of(quality_flags=[0, -1, 64, 2**31 - 1]),
    "extreme weights": weighing_of(record=record(gross_weight_kg=2**31 - 1)),
    "negative weights": weighing_of(record=record(gross_weight_kg=-(2**31))),
    "no receive time": weighing_of(receive_time=None),
    "no vehicle": weighing_of(record=record(vehicle=None)),
    "empty plate": weighing_of(plate_number=""),
}


def received(weighing: RunningWeighing, city: RunningWeighing, kind: str, payloads: list[bytes]) -> None:
    """Journal payloads at the county, as a faulty or newer release would, and push them to the city."""
    weighing.append_raw(kind, payloads)
    city.receive(weighing.batches())


def test_malformed_weighings_are_parked_and_all_others_projected(
    weighing: RunningWeighing, city: RunningWeighing
) -> None:
    weighing.record(record("before"))
    payloads = [message.SerializeToString() for message in MALFORMED.values()]
    weighing.append_raw(WEIGHING_KIND, [b"\xff\xff no message", *payloads])
    weighing.record(record("after"))
    city.receive(weighing.batches())
    parked = {one.sequence: one for one in city.parked()}
    assert sorted(parked) == list(range(3, 3 + 1 + len(MALFORMED)))
    assert city.position("141025").size == weighing.position().size
    assert {held.weighing.record.record_id for held in city.list_all()} == {"before", "after"}
    (total,) = city.day_totals()
    assert total.weighing_count == 2
    # No content of a record is shown with the reason: it may be personal.
    assert not [one for one in parked.values() if "晋" in one.detail or LONG[:9] in one.detail]


@pytest.mark.parametrize("name", MALFORMED)
def test_each_malformed_weighing_is_parked_by_itself(
    name: str, weighing: RunningWeighing, city: RunningWeighing
) -> None:
    received(weighing, city, WEIGHING_KIND, [MALFORMED[name].SerializeToString()])
    assert [one.sequence for one in city.parked()] == [2]


def test_odd_but_harmless_weighings_are_projected(weighing: RunningWeighing, city: RunningWeighing) -> None:
    for number, message in enumerate(HARMLESS.values()):
        message.record.record_id = f"odd-{number}"
    received(weighing, city, WEIGHING_KIND, [message.SerializeToString() for message in HARMLESS.values()])
    assert city.parked() == []
    held = {one.weighing.record.record_id: one.weighing for one in city.list_all()}
    assert len(held) == len(HARMLESS)
    assert [held[f"odd-{number}"] for number in range(len(HARMLESS))] == list(HARMLESS.values())


def test_malformed_conflicts_are_parked(weighing: RunningWeighing, city: RunningWeighing) -> None:
    bad = [
        weighing_pb2.WeighingConflict(record=record(), receive_time=FAR),
        weighing_pb2.WeighingConflict(record=record(), receive_time=Timestamp(nanos=-1)),
        weighing_pb2.WeighingConflict(record=record("a\x00"), receive_time=moment(START)),
        weighing_pb2.WeighingConflict(record=record(LONG), receive_time=moment(START)),
        weighing_pb2.WeighingConflict(receive_time=moment(START)),
    ]
    good = weighing_pb2.WeighingConflict(record=record(), receive_time=moment(START), first_sequence=2)
    payloads = [message.SerializeToString() for message in (*bad, good)]
    received(weighing, city, CONFLICT_KIND, [b"\xff\xff no message", *payloads])
    assert [one.sequence for one in city.parked()] == [2, 3, 4, 5, 6, 7]
    assert [held.conflict for held in city.conflicts()] == [good]


def test_a_record_held_twice_by_its_origin_is_parked_the_second_time(
    weighing: RunningWeighing, city: RunningWeighing
) -> None:
    received(weighing, city, WEIGHING_KIND, [weighing_of().SerializeToString()] * 2)
    assert [one.sequence for one in city.parked()] == [3]
    (total,) = city.day_totals()
    assert (total.weighing_count, total.gross_weight_sum_kg) == (1, 24_000)


def test_newer_schemas_and_unknown_kinds_are_parked(weighing: RunningWeighing, city: RunningWeighing) -> None:
    weighing.append_raw(WEIGHING_KIND, [weighing_of().SerializeToString()], schema=2)
    weighing.append_raw("zhichao.weighing.v1.Later", [b"later"])
    city.receive(weighing.batches())
    assert [one.sequence for one in city.parked()] == [2, 3]


def test_a_platform_holds_its_own_and_received_weighings_apart(
    weighing: RunningWeighing, city: RunningWeighing
) -> None:
    own = weighing_of(record=record("same")).SerializeToString()
    city.append_raw(WEIGHING_KIND, [own])
    weighing.record(record("same"))
    city.receive(weighing.batches())
    assert city.parked() == []
    assert [held.receipt.origin for held in city.list_all()] == ["141025"]
