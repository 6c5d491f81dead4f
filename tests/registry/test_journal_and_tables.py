"""The tables are a function of the journal: rebuilt from it they are the same, and a restart keeps everything."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.database import create_engine, raw_connection
from services.common.errors import ServiceError
from services.journal import projection as journal_projection
from services.journal.digests import Digester
from services.registry.projection import RegistryProjection
from tests.conftest import Databases
from tests.registry import examples
from tests.registry.calls import create, get, update
from tests.registry.harness import SCHEMA, RunningRegistry, migrate, table_rows
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
    assert not [outcome for outcome in outcomes if isinstance(outcome, journal_projection.Parked)]
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
