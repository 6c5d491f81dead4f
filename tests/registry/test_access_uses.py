"""Last uses on their way to the registry: none is lost while it is away, none counts twice."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import grpc
import psycopg
import pytest
import sqlalchemy

from services.common.access import tables as access_tables
from services.common.access import uses as uses_module
from services.common.access.store import AccessStore
from services.common.access.uses import UseBook, UseReporter, newest
from services.common.database import Engine, create_engine
from services.common.rpc_client import connect
from services.registry.app import build
from services.registry.config import RegistryConfig
from tests.common.clocks import SetClock
from tests.common.conftest import Events, events  # noqa: F401 - a fixture
from tests.registry import access_examples
from tests.registry.access_calls import Access
from tests.registry.harness import START, TIMEOUT_SECONDS, RunningRegistry


@pytest.fixture
def clock() -> SetClock:
    made = SetClock()
    made.moment = START
    return made


@pytest.fixture
def store(database_url: str) -> Iterator[AccessStore]:
    """Return what a service keeps uses in."""
    metadata = sqlalchemy.MetaData()
    access_tables.define(metadata)
    engine: Engine = create_engine(database_url, pool_size=2, application_name="test")
    metadata.create_all(engine)
    yield AccessStore(engine)
    engine.dispose()


class Service:
    """What one start of a service does about last uses."""

    def __init__(self, registry: RunningRegistry, store: AccessStore | None, clock: SetClock) -> None:
        self.book = UseBook(clock)

        def open_registry() -> grpc.Channel:
            bearer = (("authorization", f"Bearer {registry.service_token}"),)
            return connect(registry.address, credentials=lambda: bearer)

        self.reporter = UseReporter(self.book, open_registry, store)
        self.reporter.start()


Start = Callable[[], Service]


@pytest.fixture
def start(registry: RunningRegistry, store: AccessStore, clock: SetClock) -> Iterator[Start]:
    """Start services on one database; all are stopped after the test."""
    access = Access.of(registry)
    for name in ("p-1", "p-2"):
        access.create(access_examples.person("141025", "VIEWER", credential_id=name))
    registry.clock.moment = START + timedelta(days=1)
    started: list[Service] = []

    def begin() -> Service:
        started.append(Service(registry, store, clock))
        return started[-1]

    yield begin
    for service in started:
        service.reporter.stop()


def last_uses(registry: RunningRegistry) -> dict[str, datetime]:
    with psycopg.connect(registry.database_url) as connection:
        rows = connection.execute(
            "SELECT credential_id, last_use_time FROM credential_uses WHERE credential_id <> 'admin'"
        )
        return dict(rows.fetchall())


def untold(database_url: str) -> dict[str, datetime]:
    with psycopg.connect(database_url) as connection:
        return dict(connection.execute("SELECT credential_id, last_use_time FROM access_untold_uses").fetchall())


def test_what_could_not_be_told_is_told_later(
    registry: RunningRegistry, start: Start, clock: SetClock, database_url: str
) -> None:
    service = start()
    registry.stop()
    service.book.note("p-1")
    service.book.note("p-2")
    service.reporter.report()
    assert untold(database_url) == {"p-1": START, "p-2": START}
    clock.moment += timedelta(minutes=3)
    service.book.note("p-1")
    service.reporter.report()
    registry.start()
    service.reporter.report()
    assert last_uses(registry) == {"p-1": START + timedelta(minutes=3), "p-2": START}
    assert untold(database_url) == {}


def test_a_service_that_ends_meanwhile_tells_after_its_next_start(
    registry: RunningRegistry, start: Start, database_url: str
) -> None:
    service = start()
    registry.stop()
    service.book.note("p-1")
    service.reporter.stop()
    assert untold(database_url) == {"p-1": START}
    registry.start()
    start().reporter.report()
    assert last_uses(registry) == {"p-1": START}
    assert untold(database_url) == {}


def test_a_stop_tells_what_was_used_last(registry: RunningRegistry, start: Start, database_url: str) -> None:
    service = start()
    service.book.note("p-1")
    service.reporter.stop()
    assert last_uses(registry) == {"p-1": START}
    assert untold(database_url) == {}


def test_telling_twice_and_late_changes_nothing(registry: RunningRegistry, start: Start, clock: SetClock) -> None:
    """As after an answer that was lost, or with two replicas of which one was cut off."""
    late, other = start(), start()
    late.book.note("p-1")
    clock.moment += timedelta(minutes=5)
    other.book.note("p-1")
    other.reporter.report()
    late.reporter.report()
    start().reporter.report()
    assert last_uses(registry) == {"p-1": START + timedelta(minutes=5)}


def test_what_another_replica_keeps_later_is_not_forgotten(
    registry: RunningRegistry, start: Start, clock: SetClock, database_url: str
) -> None:
    one, other = start(), start()
    registry.stop()
    one.book.note("p-1")
    one.reporter.report()
    clock.moment += timedelta(minutes=5)
    other.book.note("p-1")
    other.reporter.report()
    registry.start()
    one.reporter.report()
    assert last_uses(registry) == {"p-1": START}
    assert untold(database_url) == {"p-1": START + timedelta(minutes=5)}
    other.reporter.report()
    assert last_uses(registry) == {"p-1": START + timedelta(minutes=5)}
    assert untold(database_url) == {}


def test_a_database_that_is_away_too_costs_nothing_while_the_service_runs(
    registry: RunningRegistry,
    start: Start,
    store: AccessStore,
    database_url: str,
    events: Events,  # noqa: F811 - the fixture
) -> None:
    service = start()
    registry.stop()
    service.book.note("p-1")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE access_untold_uses RENAME TO elsewhere")
        service.reporter.report()
        connection.execute("ALTER TABLE elsewhere RENAME TO access_untold_uses")
    assert [event["count"] for event in events.named("credential_uses_not_kept")] == [1]
    registry.start()
    service.reporter.report()
    assert last_uses(registry) == {"p-1": START}


def test_a_service_without_a_database_keeps_them_as_long_as_it_runs(registry: RunningRegistry, clock: SetClock) -> None:
    Access.of(registry).create(access_examples.person("141025", "VIEWER", credential_id="p-1"))
    registry.clock.moment = START + timedelta(days=1)
    relay = Service(registry, None, clock)
    registry.stop()
    relay.book.note("p-1")
    relay.reporter.report()
    registry.start()
    relay.reporter.stop()
    assert last_uses(registry) == {"p-1": START}


def test_whatever_fails_on_the_way_they_wait(
    store: AccessStore,
    clock: SetClock,
    database_url: str,
    events: Events,  # noqa: F811 - the fixture
) -> None:
    book = UseBook(clock)

    def open_channel() -> grpc.Channel:
        raise OSError("no certificate can be read")

    reporter = UseReporter(book, open_channel, store)
    book.note("p-1")
    reporter.report()
    assert untold(database_url) == {"p-1": START}
    assert [event["count"] for event in events.named("credential_uses_not_told")] == [1]


def test_the_registry_itself_keeps_its_own_whatever_fails(registry: RunningRegistry, socket_directory: Path) -> None:
    Access.of(registry).create(access_examples.person("141025", "VIEWER", credential_id="p-1"))
    replica = registry.environment | {"ZHICHAO_REGISTRY_LISTEN": f"unix:{socket_directory}/second.sock"}
    app = build(RegistryConfig.load(replica), registry.clock)
    app.start()
    try:
        own = app._own_access
        own._uses.note("p-1")
        with psycopg.connect(registry.database_url, autocommit=True) as connection:
            connection.execute("ALTER TABLE credential_uses RENAME TO elsewhere")
            own._keep()
            connection.execute("ALTER TABLE elsewhere RENAME TO credential_uses")
        assert "p-1" not in last_uses(registry)
        own._keep()
        assert "p-1" in last_uses(registry)
    finally:
        app.stop(TIMEOUT_SECONDS)


def test_of_too_many_the_newest_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uses_module, "USES_MAX", 2)
    uses = {f"p-{number}": START + timedelta(minutes=number) for number in (2, 1, 3)}
    assert newest(uses) == {f"p-{number}": START + timedelta(minutes=number) for number in (2, 3)}
