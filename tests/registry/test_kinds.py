"""The descriptions of kinds against the contract, the tables and the migrations."""

from typing import Any

import pytest

from services.common.database import differences, upgrade
from services.registry import convert, kinds
from services.registry.app import MIGRATIONS
from services.registry.kinds import KINDS, Kind
from services.registry.tables import METADATA
from tests.registry import examples
from zhichao.registry.v1 import resources_pb2 as pb

RESOURCES = [
    descriptor for descriptor in pb.DESCRIPTOR.message_types_by_name.values() if "info" in descriptor.fields_by_name
]


def test_every_resource_of_the_contract_has_a_kind() -> None:
    assert [kind.name for kind in KINDS] == [descriptor.full_name for descriptor in RESOURCES]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.resource_type)
def test_columns_are_fields_and_tables_have_them_in_order(kind: Kind[Any]) -> None:
    described = [*kind.key, *kind.columns]
    assert set(described) <= set(kind.message.DESCRIPTOR.fields_by_name)
    assert METADATA.tables[kind.table].columns.keys() == ["origin", *described, "sequence", "content"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.resource_type)
def test_references_name_the_whole_key_of_their_kind(kind: Kind[Any]) -> None:
    by_type = {one.resource_type: one for one in KINDS}
    for reference in kind.references:
        assert len(reference.fields) == len(by_type[reference.resource_type].key)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.resource_type)
def test_columns_of_an_example_are_right(kind: Kind[Any]) -> None:
    example = getattr(examples, kind.resource_type)()
    assert kind.column_violations(example) == []
    findings = kind.examine(example)
    assert (findings.violations, findings.doubts) == ([], [])


def test_migrations_make_the_tables_of_the_code(database_url: str) -> None:
    upgrade(database_url, MIGRATIONS)
    assert differences(database_url, METADATA) == []


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind is not kinds.RULE_SET], ids=lambda kind: kind.resource_type
)
def test_every_field_is_read_into_the_domain(kind: Kind[Any]) -> None:
    unchecked = {"weighing_point": {"is_active"}, "scale": {"is_active"}}.get(kind.resource_type, set())
    read = getattr(convert, kind.resource_type)(kind.message())
    assert {*type(read).__dataclass_fields__} | unchecked | {"info"} == {*kind.message.DESCRIPTOR.fields_by_name}
