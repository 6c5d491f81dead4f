"""What a service keeps of the registry's word on access, on a real database: given back after a start, and only if it
is ours, whole and fresh.
"""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy

from services.common.access import keeping
from services.common.access import tables as access_tables
from services.common.access.control import AccessControl
from services.common.access.keeping import CLOCK_AHEAD_SECONDS_MAX, StatementKeeper
from services.common.access.knowledge import AccessKnowledge
from services.common.access.statement import StatementBook, StoredStatement
from services.common.access.store import AccessStore
from services.common.access.tokens import ServiceTokens, bearer, digest, format_token, new_secret
from services.common.database import Engine, create_engine
from services.common.errors import ServiceError
from services.common.reasons import Reason
from tests.common.conftest import Events
from tests.common.served import WAIT_SECONDS
from zhichao.access.v1 import credential_pb2, service_pb2

PLATFORM = "141025"
STALE_SECONDS = 3600.0
NOON = datetime(2026, 3, 1, 4, tzinfo=UTC)


class SetClock:
    """A clock that a test sets; both of its scales go on together."""

    def __init__(self) -> None:
        self.moment = NOON
        self.seconds = 0.0

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.seconds

    def go_on(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)
        self.seconds += seconds


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Return the engine of a database with the tables."""
    metadata = sqlalchemy.MetaData()
    access_tables.define(metadata)
    made = create_engine(database_url, pool_size=2, application_name="test")
    metadata.create_all(made)
    yield made
    made.dispose()


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "service.token"
    path.write_text(f"{new_secret()}\n")
    return path


class CountedStore(AccessStore):
    """The store, which also notes what it was asked to write."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.whole: list[StoredStatement] = []
        self.times: list[datetime] = []

    def write(self, stored: StoredStatement) -> None:
        super().write(stored)
        self.whole.append(stored)

    def set_as_of(self, stored: StoredStatement) -> bool:
        is_set = super().set_as_of(stored)
        self.times.append(stored.as_of)
        return is_set


class Keeping:
    """The keeper of one start of a service, with what the service knows by it."""

    def __init__(self, engine: Engine, token_file: Path, clock: SetClock, platform: str = PLATFORM) -> None:
        self.store = CountedStore(engine)
        self.clock = clock
        self.knowledge = AccessKnowledge(clock.monotonic)
        self.control = AccessControl(platform, self.knowledge, None, clock, stale_seconds=STALE_SECONDS)
        self.keeper = StatementKeeper(
            self.store, platform, ServiceTokens(token_file), clock, stale_seconds=STALE_SECONDS
        )
        self.keeper.start(self.knowledge)

    def hear(self, message: service_pb2.WatchAccessResponse) -> None:
        self.keeper.take(message)

    def written(self, as_of: datetime) -> None:
        """Wait until what was complete then is in the database."""
        ends_at = time.monotonic() + WAIT_SECONDS
        while (row := self.store.read(PLATFORM)) is None or row.as_of != as_of:
            assert time.monotonic() < ends_at, "in vain"
            threading.Event().wait(0.005)

    def reason(self, token: str) -> Reason | None:
        """Return why a token is refused; None when it is accepted."""
        try:
            self.control.caller_of_metadata(bearer(token))
        except ServiceError as error:
            return error.reason
        return None


Start = Callable[[], Keeping]


@pytest.fixture
def start(engine: Engine, token_file: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a service's keeping on the database; all are stopped after the test."""
    for name in ("PAUSE_SECONDS", "FAILED_PAUSE_SECONDS"):
        monkeypatch.setattr(keeping, name, 0.01)
    started: list[Keeping] = []

    def begin() -> Keeping:
        started.append(Keeping(engine, token_file, clock))
        return started[-1]

    yield begin
    for one in started:
        one.keeper.stop()


SECRET = "A" * 43
TOKEN = format_token("t-1", SECRET)


def credential(credential_id: str = "t-1", secret: str = SECRET, **fields: Any) -> credential_pb2.Credential:
    found = credential_pb2.Credential(
        credential_id=credential_id,
        kind=credential_pb2.PRINCIPAL_KIND_TERMINAL,
        display_name="示例甲的终端",
        source_unit_ids=["141025-001"],
        etag="141025-9",
        revoke_reason="甲说遗失",
        **fields,
    )
    found.expire_time.FromDatetime(NOON + timedelta(days=30))
    found.secrets.add(digest=digest(secret)).expire_time.FromDatetime(NOON + timedelta(days=30))
    return found


def revoked(credential_id: str = "t-1") -> credential_pb2.Credential:
    found = credential(credential_id)
    found.revoke_time.FromDatetime(NOON)
    return found


def said(
    as_of: datetime,
    *credentials: credential_pb2.Credential,
    is_restart: bool = False,
    is_complete: bool = True,
    **fields: Any,
) -> service_pb2.WatchAccessResponse:
    message = service_pb2.WatchAccessResponse(
        is_restart=is_restart, is_complete=is_complete, credentials=credentials, **fields
    )
    message.as_of_time.FromDatetime(as_of)
    return message


def everything(as_of: datetime, *credentials: credential_pb2.Credential) -> service_pb2.WatchAccessResponse:
    return said(
        as_of,
        *(credentials or (credential(),)),
        is_restart=True,
        platforms=[service_pb2.PlatformStanding(platform_code="141026", upstream_code="141025")],
        divisions=[service_pb2.DivisionStanding(division_code="140671", parent_code="141026")],
    )


def keep(start: Start, *messages: service_pb2.WatchAccessResponse) -> Keeping:
    """Let a service hear something, and stop it once that is kept."""
    service = start()
    for message in messages:
        service.hear(message)
    service.keeper.stop()
    return service


# Over a restart


def test_what_was_heard_is_known_after_a_start_without_the_registry(start: Start, clock: SetClock) -> None:
    keep(start, everything(NOON, credential(), revoked("t-2")))
    clock.go_on(90)
    again = start()

    assert again.reason(TOKEN) is None
    assert again.reason(format_token("t-2", SECRET)) is Reason.CREDENTIAL_REVOKED
    assert again.knowledge.age_seconds() == 90.0
    assert again.knowledge.known_divisions().is_within("140671", "141026")
    found = again.knowledge.platform("141026")
    assert found is not None
    assert found.upstream_code == "141025"
    caller = again.control.caller_of_metadata(bearer(TOKEN))
    assert caller is not None
    assert caller.principal.source_unit_ids == frozenset({"141025-001"})


def test_every_change_is_kept(start: Start) -> None:
    keep(
        start,
        everything(NOON),
        said(NOON + timedelta(seconds=1), credential("t-2")),
        said(NOON + timedelta(seconds=2), revoked()),
    )
    again = start()
    assert again.reason(TOKEN) is Reason.CREDENTIAL_REVOKED
    assert again.reason(format_token("t-2", SECRET)) is None


def test_a_restart_of_the_registry_forgets_what_it_does_not_say_again(start: Start) -> None:
    keep(start, everything(NOON), everything(NOON + timedelta(seconds=1), credential("t-2")))
    assert start().knowledge.credential("t-1") is None


def test_nothing_is_kept_of_a_statement_that_broke_off(start: Start) -> None:
    keep(start, said(NOON, credential(), is_restart=True, is_complete=False))
    assert not start().knowledge.is_known
    keep(
        start,
        everything(NOON),
        said(NOON + timedelta(seconds=1), credential("t-2"), is_restart=True, is_complete=False),
    )
    again = start()
    assert again.reason(TOKEN) is None
    assert again.knowledge.credential("t-2") is None


def test_what_comes_in_several_messages_is_kept_whole(start: Start) -> None:
    keep(
        start,
        said(NOON, credential(), is_restart=True, is_complete=False),
        said(NOON, credential("t-2"), is_complete=False),
        said(NOON, credential("t-3")),
    )
    again = start()
    assert [again.knowledge.credential(name) is not None for name in ("t-1", "t-2", "t-3")] == [True] * 3


def test_no_secret_and_no_name_is_kept(start: Start, database_url: str) -> None:
    keep(start, everything(NOON))
    with psycopg.connect(database_url) as connection:
        (content,) = connection.execute("SELECT statement FROM access_statements").fetchone() or (b"",)
    assert digest(SECRET) in content
    for text in (SECRET, "示例甲", "甲说遗失"):
        assert text.encode() not in content


def test_the_same_content_is_the_same_statement(clock: SetClock) -> None:
    """Two replicas hear the same in another order; neither may take the other's statement for a change."""
    one, other = StatementBook(), StatementBook()
    one.take(everything(NOON, credential("t-1"), credential("t-2")))
    other.take(everything(clock.now(), credential("t-2")))
    other.take(said(NOON + timedelta(seconds=5), credential("t-1")))
    assert one.content() == other.content()


# What is written


def test_a_time_alone_is_written_once_a_minute(start: Start) -> None:
    service = start()
    service.hear(everything(NOON))
    service.written(NOON)
    for second in range(2, 62, 2):
        service.hear(said(NOON + timedelta(seconds=second)))
    service.written(NOON + timedelta(seconds=60))
    assert [one.as_of for one in service.store.whole] == [NOON]
    assert service.store.times == [NOON + timedelta(seconds=60)]


def test_a_stop_writes_the_newest_time(start: Start) -> None:
    service = keep(start, everything(NOON), said(NOON + timedelta(seconds=4)))
    stored = service.store.read(PLATFORM)
    assert stored is not None
    assert stored.as_of == NOON + timedelta(seconds=4)


def test_a_change_is_written_at_once(start: Start) -> None:
    service = start()
    service.hear(everything(NOON))
    service.written(NOON)
    service.hear(said(NOON + timedelta(seconds=1), revoked()))
    service.written(NOON + timedelta(seconds=1))
    assert start().reason(TOKEN) is Reason.CREDENTIAL_REVOKED


def test_a_change_of_names_alone_rewrites_nothing(start: Start) -> None:
    service = start()
    service.hear(everything(NOON))
    service.written(NOON)
    renamed = credential()
    renamed.display_name = "另一个名称"
    service.hear(said(NOON + timedelta(seconds=1), renamed))
    service.written(NOON + timedelta(seconds=1))
    assert len(service.store.whole) == 1


def test_a_new_time_is_never_put_on_what_a_slower_replica_wrote(start: Start) -> None:
    faster, slower = start(), start()
    for replica in (faster, slower):
        replica.hear(everything(NOON))
        replica.written(NOON)
    faster.hear(said(NOON + timedelta(seconds=1), revoked()))
    faster.written(NOON + timedelta(seconds=1))
    # It had not heard of the revocation, and ends after writing what it knew.
    slower.hear(said(NOON + timedelta(seconds=2), credential("t-9")))
    slower.written(NOON + timedelta(seconds=2))
    assert start().reason(TOKEN) is None
    faster.hear(said(NOON + timedelta(seconds=70)))
    faster.written(NOON + timedelta(seconds=70))
    assert start().reason(TOKEN) is Reason.CREDENTIAL_REVOKED


def test_a_database_that_fails_is_tried_again(start: Start, database_url: str, events: Events) -> None:
    service = start()
    service.hear(everything(NOON))
    service.written(NOON)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE access_statements RENAME TO elsewhere")
        service.hear(said(NOON + timedelta(seconds=1), revoked()))
        ends_at = time.monotonic() + WAIT_SECONDS
        while not events.named("access_not_kept"):
            assert time.monotonic() < ends_at
            threading.Event().wait(0.005)
        connection.execute("ALTER TABLE elsewhere RENAME TO access_statements")
    service.written(NOON + timedelta(seconds=1))
    assert start().reason(TOKEN) is Reason.CREDENTIAL_REVOKED


# What is not taken


def not_taken(events: Events, service: Keeping) -> str:
    """Return why what is kept was not taken; it must not have been."""
    assert not service.knowledge.is_known
    assert service.reason(TOKEN) is Reason.ACCESS_UNKNOWN
    (event,) = events.named("kept_access_not_taken")
    return str(event["cause"])


def change(database_url: str, column: str, value: Any) -> None:
    with psycopg.connect(database_url) as connection:
        statement = f"UPDATE access_statements SET {column} = %s"  # noqa: S608 - our own names
        assert connection.execute(statement.encode(), (value,)).rowcount == 1


def test_without_anything_kept_nothing_is_known(start: Start, events: Events) -> None:
    service = start()
    assert service.reason(TOKEN) is Reason.ACCESS_UNKNOWN
    assert events.named("kept_access_not_taken") == []


def test_old_knowledge_is_not_taken(start: Start, clock: SetClock, events: Events) -> None:
    """As after a restore from a backup, and after a night without power."""
    keep(start, everything(NOON))
    clock.moment += timedelta(seconds=STALE_SECONDS + 1)
    assert "3601 s old" in not_taken(events, start())


def test_it_is_good_for_as_long_as_knowledge_that_was_heard(start: Start, clock: SetClock) -> None:
    keep(start, everything(NOON))
    clock.moment += timedelta(seconds=STALE_SECONDS)
    again = start()
    assert again.reason(TOKEN) is None
    clock.go_on(1)
    assert again.reason(TOKEN) is Reason.ACCESS_UNKNOWN


def test_a_clock_that_was_set_back_makes_nothing_fresh(start: Start, clock: SetClock, events: Events) -> None:
    keep(start, everything(NOON))
    clock.moment -= timedelta(seconds=CLOCK_AHEAD_SECONDS_MAX + 1)
    assert "in the future" in not_taken(events, start())


def test_a_clock_of_the_registry_that_is_a_little_ahead_does_no_harm(start: Start, clock: SetClock) -> None:
    keep(start, everything(NOON))
    clock.moment -= timedelta(seconds=CLOCK_AHEAD_SECONDS_MAX)
    again = start()
    assert again.reason(TOKEN) is None
    assert again.knowledge.age_seconds() == 0.0


def test_it_is_taken_once_the_clock_is_set_right(start: Start, clock: SetClock, events: Events) -> None:
    """A machine without a battery starts in the past and learns the time a while later."""
    keep(start, everything(NOON))
    clock.moment = datetime(2000, 1, 1, tzinfo=UTC)
    again = start()
    again.keeper.offer(again.knowledge)
    assert not_taken(events, again)
    clock.moment = NOON + timedelta(seconds=30)
    again.keeper.offer(again.knowledge)
    assert again.reason(TOKEN) is None
    assert again.knowledge.age_seconds() == 30.0


def test_it_gets_old_when_the_clock_is_set_right(start: Start, clock: SetClock) -> None:
    keep(start, everything(NOON))
    clock.moment = NOON + timedelta(seconds=10)
    again = start()
    assert again.reason(TOKEN) is None
    clock.moment = NOON + timedelta(days=2)
    again.keeper.offer(again.knowledge)
    assert again.reason(TOKEN) is Reason.ACCESS_UNKNOWN


def test_the_registry_has_the_last_word(start: Start, clock: SetClock) -> None:
    keep(start, everything(NOON))
    again = start()
    again.knowledge.grow_old(100)
    again.hear(everything(NOON + timedelta(seconds=5), revoked()))
    clock.moment += timedelta(days=2)
    again.keeper.offer(again.knowledge)
    assert again.knowledge.age_seconds() == 100.0


def test_that_of_another_platform_is_not_taken(
    engine: Engine, token_file: Path, clock: SetClock, start: Start, events: Events
) -> None:
    other = Keeping(engine, token_file, clock, "141026")
    other.hear(everything(NOON))
    other.keeper.stop()
    assert "of platform 141026" in not_taken(events, start())


def test_that_of_another_service_token_is_not_taken(start: Start, token_file: Path, events: Events) -> None:
    keep(start, everything(NOON))
    token_file.write_text(f"{new_secret()}\n")
    assert "sealed" in not_taken(events, start())


def test_a_rotation_of_the_service_token_loses_nothing(start: Start, token_file: Path) -> None:
    keep(start, everything(NOON))
    token_file.write_text(f"{new_secret()}\n{token_file.read_text()}")
    assert start().reason(TOKEN) is None


def test_whoever_writes_to_the_database_lets_nobody_in(start: Start, database_url: str, events: Events) -> None:
    keep(start, everything(NOON))
    book = StatementBook()
    book.take(everything(NOON, credential(), credential("intruder")))
    change(database_url, "statement", book.content())
    change(database_url, "digest", sha256(book.content()).digest())
    assert "sealed" in not_taken(events, start())


def test_whoever_writes_to_the_database_makes_nothing_fresh(
    start: Start, database_url: str, clock: SetClock, events: Events
) -> None:
    keep(start, everything(NOON))
    clock.moment += timedelta(days=1)
    change(database_url, "as_of_time", clock.now())
    assert "sealed" in not_taken(events, start())


def test_damage_is_noticed(start: Start, database_url: str, events: Events) -> None:
    keep(start, everything(NOON))
    change(database_url, "statement", b"")
    assert "not what was written" in not_taken(events, start())


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"\xff\xff\xff", "cannot be parsed"),
        (b"", "not complete"),
        (
            service_pb2.WatchAccessResponse(
                is_restart=True,
                is_complete=True,
                platforms=[service_pb2.PlatformStanding(platform_code="141026", valid_from="1 March")],
            ).SerializeToString(),
            "date",
        ),
    ],
)
def test_what_cannot_be_read_is_no_obstacle(
    start: Start, engine: Engine, token_file: Path, content: bytes, cause: str, events: Events
) -> None:
    """As another release may have written it, with the right seal."""
    found = sha256(content).digest()
    seal = ServiceTokens(token_file).seal(keeping._sealed(PLATFORM, NOON, found))
    AccessStore(engine).write(StoredStatement(PLATFORM, NOON, found, seal, content))
    service = start()
    assert cause in not_taken(events, service)
    service.hear(everything(NOON))
    service.written(NOON)
    service.keeper.stop()
    assert start().reason(TOKEN) is None
