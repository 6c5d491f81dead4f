"""The tables are a function of the journal: rebuilt from it they are the same, and a restart keeps everything."""

from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.database import create_engine, raw_connection
from services.common.errors import ServiceError
from services.journal import projection as journal_projection
from services.journal.access_records import KIND as ACCESS_RECORD_KIND
from services.journal.digests import Digester
from services.journal.projection import Unprojectable
from services.registry.projection import RegistryProjection, prepare_credential
from tests.conftest import Databases
from tests.registry import access_examples, examples
from tests.registry.access_calls import Access
from tests.registry.calls import create, get, update
from tests.registry.harness import SCHEMA, RunningRegistry, migrate, table_rows
from zhichao.access.v1 import credential_pb2
from zhichao.registry.v1 import resources_pb2 as pb

Rows = dict[str, list[tuple[object, ...]]]


def rebuild(databases: Databases, origin: str, entries: list[bytes]) -> Rows:
    """Project entries into an empty database and return its rows."""
    url = databases.borrow(SCHEMA, migrate)
    projection, digester = RegistryProjection(), Digester("sha256")
    outcomes = [
        journal_projection.prepare(projection, origin, sequence, entry, digester.leaf(entry))
        for sequence, entry in enumerate(entries, 1)
    ]
    # Access records are the journal's own kind, which its own projection takes.
    parked = {one.kind for one in outcomes if isinstance(one, journal_projection.Parked)}
    assert parked <= {ACCESS_RECORD_KIND}
    engine = create_engine(url, pool_size=2, application_name="test")
    try:
        with engine.begin() as pooled:
            projection.project(raw_connection(pooled), origin, [one for one in outcomes if isinstance(one, tuple)])
        return table_rows(url)
    finally:
        engine.dispose()
        databases.give_back(SCHEMA, url)


def test_rows_of_every_kind_are_rebuilt(registry: RunningRegistry, databases: Databases) -> None:
    for resource in examples.all_in_order():
        create(registry, resource)
    update(registry, examples.scale(is_active=False))
    rows = registry.rows()
    assert all(rows.values())
    assert rebuild(databases, registry.platform, registry.entries()) == rows


steps = st.lists(
    st.tuples(
        st.sampled_from(["create", "update"]),
        st.sampled_from(["u-1", "u-2"]),
        st.integers(1, 5),
        st.sampled_from(["甲", "乙", ""]),
    ),
    max_size=12,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_rows_after_any_changes_are_rebuilt(
    shared: RunningRegistry, databases: Databases, history: list[tuple[str, str, int, str]]
) -> None:
    for action, unit_id, state, name in history:
        unit = examples.source_unit(source_unit_id=unit_id, state=state, name=name)
        try:
            (create if action == "create" else update)(shared, unit)
        except ServiceError:
            # Refused is a history too: nothing may be left of it.
            continue
    assert rebuild(databases, shared.platform, shared.entries()) == shared.rows()


def test_a_refused_write_leaves_nothing(registry: RunningRegistry) -> None:
    size, rows = registry.size(), registry.rows()
    for resource in (examples.weighing_point(), examples.source_unit(state=0), examples.rule_set(version=3)):
        try:
            create(registry, resource)
        except ServiceError:
            continue
        raise AssertionError(f"{resource} was not refused")
    assert (registry.size(), registry.rows()) == (size, rows)


def test_a_restart_keeps_everything_and_writes_nothing(registry: RunningRegistry) -> None:
    created = [create(registry, resource) for resource in examples.all_in_order()]
    entries, rows = registry.entries(), registry.rows()

    registry.stop()
    registry.start()

    assert registry.entries() == entries
    assert registry.rows() == rows
    assert [get(registry, resource) for resource in created] == created
    assert create(registry, examples.source_unit()) == created[2]
    updated = update(registry, pb.SourceUnit(source_unit_id="141025-001", name="新名"), "name")
    assert updated.info.etag == f"141025-{len(entries) + 1}"


def test_credentials_are_rebuilt_but_for_their_last_use(registry: RunningRegistry, databases: Databases) -> None:
    create(registry, examples.source_unit())
    access = Access.of(registry)
    access.create(access_examples.terminal(credential_id="t-1", limits={"burst_calls": 9}))
    access.create(access_examples.person("141025", "VIEWER", "OFFICER", credential_id="p-1"))
    access.rotate("t-1")
    access.update(credential_pb2.Credential(credential_id="p-1", display_name="示例乙"), "display_name")
    access.revoke("t-1", "遗失")

    entries, digester = registry.entries(), Digester("sha256")
    url = databases.borrow(SCHEMA, migrate)
    engine = create_engine(url, pool_size=2, application_name="test")
    projection = RegistryProjection()
    prepared = [
        journal_projection.prepare(projection, "141025", sequence, entry, digester.leaf(entry))
        for sequence, entry in enumerate(entries, 1)
    ]
    try:
        with engine.begin() as pooled:
            # The other way round: of several entries of one credential the newest counts, however they come.
            pairs = [one for one in reversed(prepared) if isinstance(one, tuple)]
            projection.project(raw_connection(pooled), "141025", pairs)
        rows = credential_rows(url)
        assert [row[1] for row in rows] == ["admin", "operator", "p-1", "t-1"]
        assert rows == credential_rows(registry.database_url)
    finally:
        engine.dispose()
        databases.give_back(SCHEMA, url)


def credential_rows(url: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT * FROM credentials ORDER BY origin, credential_id").fetchall()


@pytest.mark.parametrize(
    "changes",
    [
        {"credential_id": "A"},
        {"credential_id": ""},
        {"division_code": "x"},
        {"source_unit_ids": ["a\0b"]},
        {"create_time": {"seconds": 2**60}},
        {"revoke_time": {"seconds": 2**60}},
        {"expire_time": {"nanos": -5}},
    ],
)
def test_credentials_that_no_release_writes_are_unprojectable(changes: dict[str, Any]) -> None:
    values = {"credential_id": "c-1", "create_time": {"seconds": 1}, "expire_time": {"seconds": 2}} | changes
    with pytest.raises(Unprojectable):
        prepare_credential(credential_pb2.Credential(**values).SerializeToString())


def test_bytes_that_are_no_credential_are_unprojectable() -> None:
    for payload in (b"\xff\xff", b"", credential_pb2.Credential(credential_id="c-1").SerializeToString()):
        with pytest.raises(Unprojectable):
            prepare_credential(payload)


def test_a_copy_of_a_newer_release_is_kept(city: RunningRegistry, registry: RunningRegistry) -> None:
    values: dict[str, Any] = {
        "kind": 77,
        "roles": [99],
        "create_time": {"seconds": 1},
        "expire_time": {"seconds": 2**33},
    }
    newer = credential_pb2.Credential(credential_id="c-1", **values)
    registry.append_raw("zhichao.access.v1.Credential", newer.SerializeToString() + b"\x82\x7d\x03new")
    city.receive(registry.batches())
    copy = Access.of(city).get("c-1", "141025")
    assert (copy.kind, list(copy.roles)) == (77, [99])
    # What is in unknown fields may be personal: it is kept, and not shown to everybody.
    (content,) = [row[-1] for row in credential_rows(city.database_url) if row[:2] == ("141025", "c-1")]
    assert isinstance(content, bytes)
    assert b"\x82\x7d\x03new" in content
