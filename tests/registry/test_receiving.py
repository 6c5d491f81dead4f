"""Entries of a county that arrive at the city: projected, parked when they cannot be, and never older over newer."""

from typing import Any

import pytest

from services.common.database import create_engine, raw_connection
from services.common.reasons import Reason
from services.journal.projection import Unprojectable
from services.registry import convert, kinds
from services.registry.projection import RegistryProjection, prepare
from tests.registry import examples
from tests.registry.calls import create, get, list_all, refused_update, update
from tests.registry.harness import START, TIMEOUT_SECONDS, RunningRegistry
from zhichao.journal.v1 import journal_pb2 as journal
from zhichao.registry.v1 import resources_pb2 as pb


def payload(resource: Any) -> bytes:
    return convert.to_payload(resource, START, START)


def parked(registry: RunningRegistry) -> list[tuple[str, str]]:
    answer = registry.operator_journal.ListParkedEntries(journal.ListParkedEntriesRequest(), timeout=TIMEOUT_SECONDS)
    return [(entry.kind.rpartition(".")[2], entry.cause) for entry in answer.parked_entries]


def test_every_kind_arrives_as_it_was(city: RunningRegistry, registry: RunningRegistry) -> None:
    created = [create(registry, resource) for resource in examples.all_in_order()]
    created[2] = update(registry, examples.source_unit(name="新名"))

    city.receive(registry.batches())

    assert [get(city, resource, **_owner(resource)) for resource in created] == created
    county_rows = {table: rows for table, rows in registry.rows().items() if table != "rule_sets"}
    assert {table: rows for table, rows in city.rows().items() if table != "rule_sets"} == county_rows
    assert parked(city) == []


def _owner(resource: Any) -> dict[str, str]:
    # Divisions and platforms have no owner to name, and there is one of each.
    return {} if isinstance(resource, pb.Division | pb.Platform) else {"origin": "141025"}


def test_copies_are_listed_with_the_own_and_cannot_be_changed(city: RunningRegistry, registry: RunningRegistry) -> None:
    create(city, examples.source_unit(source_unit_id="city-1"))
    create(registry, examples.source_unit())
    city.receive(registry.batches())

    assert [unit.info.origin for unit in list_all(city, pb.SourceUnit())] == ["141025", "141000"]
    assert [unit.info.origin for unit in list_all(city, pb.SourceUnit(), origin="141025")] == ["141025"]
    refused = refused_update(city, examples.source_unit(name="改"), "name")
    assert (refused.status, refused.reason) == ("FAILED_PRECONDITION", Reason.NOT_OWNED)
    assert refused.metadata == {"origin": "141025"}


def test_batches_sent_again_change_nothing(city: RunningRegistry, registry: RunningRegistry) -> None:
    create(registry, examples.source_unit())
    update(registry, examples.source_unit(name="二"), "name")
    city.receive(registry.batches())
    rows = city.rows()
    (answer, *_) = city.receive(registry.batches())
    assert answer.duplicate_count == registry.size()
    assert city.rows() == rows


def test_what_cannot_be_projected_is_parked_and_blocks_nothing(
    city: RunningRegistry, registry: RunningRegistry
) -> None:
    nameless = examples.source_unit(source_unit_id="")
    timeless = examples.source_unit().SerializeToString()
    registry.append_raw("zhichao.registry.v1.SourceUnit", b"\xff\xff")
    registry.append_raw("zhichao.registry.v1.SourceUnit", payload(nameless))
    registry.append_raw("zhichao.registry.v1.SourceUnit", timeless)
    registry.append_raw("zhichao.registry.v1.SourceUnit", payload(examples.source_unit()), schema=2)
    registry.append_raw("zhichao.registry.v1.Canteen", b"")
    registry.append_raw("zhichao.registry.v1.Division", payload(examples.division(valid_until="soon")))
    create(registry, examples.platform())

    answers = city.receive(registry.batches())

    assert sum(answer.parked_count for answer in answers) == 6
    assert parked(city) == [
        ("SourceUnit", "malformed"),
        ("SourceUnit", "malformed"),
        ("SourceUnit", "malformed"),
        ("SourceUnit", "newer_schema"),
        ("Canteen", "unknown_kind"),
        ("Division", "malformed"),
    ]
    assert get(city, examples.platform()).info.origin == "141025"


def test_a_copy_that_this_release_would_refuse_is_shown_with_warnings(
    city: RunningRegistry, registry: RunningRegistry
) -> None:
    odd = examples.source_unit(name="a" * 200, kind=88)
    registry.append_raw("zhichao.registry.v1.SourceUnit", payload(odd))
    city.receive(registry.batches())
    unit = get(city, examples.source_unit())
    assert (unit.name, unit.kind) == ("a" * 200, 88)
    assert [warning.field for warning in unit.info.warnings] == ["name", "kind", "division_code"]


def test_fields_of_a_newer_release_are_shown_by_a_copy(city: RunningRegistry, registry: RunningRegistry) -> None:
    unknown = b"\x82\x7d\x03new"
    registry.append_raw("zhichao.registry.v1.SourceUnit", payload(examples.source_unit()) + unknown)
    city.receive(registry.batches())
    assert unknown in get(city, examples.source_unit()).SerializeToString()


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1), (3, 1, 2)])
@pytest.mark.parametrize("is_one_batch", [True, False])
def test_the_newest_entry_wins_in_any_order(
    registry: RunningRegistry, order: tuple[int, ...], is_one_batch: bool
) -> None:
    projection = RegistryProjection()
    kind = kinds.SOURCE_UNIT
    prepared = [
        (number, prepare(kind, payload(examples.source_unit(source_unit_id="x", state=number)))) for number in order
    ]
    engine = create_engine(registry.database_url, pool_size=2, application_name="test")
    try:
        with engine.begin() as pooled:
            for group in [prepared] if is_one_batch else [[one] for one in prepared]:
                projection.project(raw_connection(pooled), "140600", group)
    finally:
        engine.dispose()
    (row,) = [row for row in registry.rows()["source_units"] if row[0] == "140600"]
    assert row[4] == 3
    assert row[5] == 3


@pytest.mark.parametrize(
    "changes",
    [{"source_unit_id": "a\0b"}, {"source_unit_id": "a b"}, {"division_code": "abc"}, {"source_unit_id": "é"}],
)
def test_ids_that_no_release_writes_are_unprojectable(changes: dict[str, str]) -> None:
    with pytest.raises(Unprojectable):
        prepare(kinds.SOURCE_UNIT, payload(examples.source_unit(**changes)))


def test_times_that_no_calendar_has_are_unprojectable() -> None:
    unit = examples.source_unit()
    unit.info.create_time.seconds = unit.info.update_time.seconds = 2**60
    with pytest.raises(Unprojectable):
        prepare(kinds.SOURCE_UNIT, unit.SerializeToString())
