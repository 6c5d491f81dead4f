"""What is kept of the registry's word on access is taken only if it is ours, whole and fresh."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
import pytest

from services.common.access import keeping
from services.common.access.keeping import CLOCK_AHEAD_SECONDS_MAX
from services.common.access.statement import StatementBook, StoredStatement
from services.common.access.store import AccessStore
from services.common.access.tokens import ServiceTokens, new_secret
from services.common.database import Engine
from services.common.reasons import Reason
from tests.common.access_kept.keeping import (
    PLATFORM,
    STALE_SECONDS,
    TOKEN,
    Keeping,
    Start,
    credential,
    everything,
    keep,
    revoked,
)
from tests.common.clocks import NOON, SetClock
from tests.common.conftest import Events
from zhichao.access.v1 import service_pb2


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
