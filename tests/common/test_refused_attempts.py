"""Refused attempts are summed up: soon told, then ever more rarely, and never more than a few at once."""

from collections.abc import Sequence

import pytest

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.refused_attempts import (
    INTERVAL_SECONDS_MAX,
    SOURCES_MAX,
    TELL_SECONDS,
    TOLD_MAX,
    RefusalBook,
    RefusalSource,
    RefusedAttempts,
)
from tests.relay.clocks import NOON, StandingClock

SOURCE = RefusalSource("person/li", "ipv4:192.0.2.1", Reason.PERMISSION_MISSING, "a/B")


class Kept:
    """Keeps what it is told, or refuses."""

    def __init__(self) -> None:
        self.told: list[RefusedAttempts] = []
        self.is_away = False

    def write(self, attempts: Sequence[RefusedAttempts]) -> None:
        if self.is_away:
            raise ServiceError(Reason.DATABASE_UNAVAILABLE, "away")
        self.told += attempts

    def take(self) -> list[RefusedAttempts]:
        told, self.told = self.told, []
        return told


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def book(kept: Kept, clock: StandingClock) -> RefusalBook:
    return RefusalBook(kept.write, clock)


def note(book: RefusalBook, count: int = 1, source: RefusalSource = SOURCE, claimed: str = "") -> None:
    for _ in range(count):
        book.note(source, "a/B", claimed)


def test_attempts_of_one_source_are_one_record(book: RefusalBook, kept: Kept, clock: StandingClock) -> None:
    note(book, 2)
    clock.advance(5)
    note(book)
    book.tell()
    (told,) = kept.take()
    assert (told.principal, told.peer_address, told.reason, told.method) == (*SOURCE[:3], "a/B")
    assert (told.count, told.first_time) == (3, NOON)
    assert (told.last_time - told.first_time).total_seconds() == 5


def test_what_goes_on_is_told_ever_more_rarely_and_nothing_is_lost(
    book: RefusalBook, kept: Kept, clock: StandingClock
) -> None:
    told_at, told = [], 0
    for minute in range(240):
        note(book, 10)
        book.tell()
        for one in kept.take():
            told_at.append(minute)
            told += one.count
        clock.advance(TELL_SECONDS)
    assert told_at == [0, 1, 3, 7, 15, 31, 63, 123, 183]
    book.tell(is_last=True)
    assert told + sum(one.count for one in kept.take()) == 2400
    assert INTERVAL_SECONDS_MAX == 60 * TELL_SECONDS


def test_who_is_quiet_is_forgotten_and_told_at_once_the_next_time(
    book: RefusalBook, kept: Kept, clock: StandingClock
) -> None:
    note(book)
    book.tell()
    clock.advance(4 * TELL_SECONDS)
    book.tell()
    note(book)
    book.tell()
    assert [one.count for one in kept.take()] == [1, 1]


def test_few_are_told_at_once_and_the_others_in_their_turn(book: RefusalBook, kept: Kept, clock: StandingClock) -> None:
    for number in range(TOLD_MAX + 5):
        note(book, source=SOURCE._replace(peer_address=f"ipv4:192.0.2.{number}"))
    book.tell()
    assert len(kept.told) == TOLD_MAX
    book.tell()
    assert len({one.peer_address for one in kept.take()}) == TOLD_MAX + 5


def test_beyond_the_sources_that_are_told_apart_only_the_reason_is_told(
    book: RefusalBook, kept: Kept, clock: StandingClock
) -> None:
    for number in range(SOURCES_MAX):
        note(book, source=SOURCE._replace(peer_address=f"ipv4:{number}"))
    others = SOURCE._replace(peer_address="ipv4:198.51.100.1")
    note(book, 7, others)
    note(book, 2, others._replace(reason=Reason.NO_CREDENTIALS))
    book.tell()
    summed_up = [(one.principal, one.method, one.reason, one.count) for one in kept.take() if not one.peer_address]
    assert summed_up == [("", "", Reason.PERMISSION_MISSING, 7), ("", "", Reason.NO_CREDENTIALS, 2)]


def test_what_cannot_be_kept_is_told_again_with_what_came_meanwhile(
    book: RefusalBook, kept: Kept, clock: StandingClock
) -> None:
    kept.is_away = True
    note(book, 3)
    book.tell()
    kept.is_away = False
    note(book, 4)
    book.tell()
    assert [(one.count, one.first_time) for one in kept.take()] == [(7, NOON)]


def test_the_credential_that_was_claimed_is_told(book: RefusalBook, kept: Kept) -> None:
    note(book, source=SOURCE._replace(principal="", detail="t-1"), claimed="t-1")
    book.tell()
    assert [(one.principal, one.claimed) for one in kept.take()] == [("", "t-1")]


def test_a_stop_tells_what_is_left(book: RefusalBook, kept: Kept) -> None:
    book.start()
    note(book)
    book.stop()
    assert [one.count for one in kept.take()] == [1]


def test_a_stop_tells_of_everybody_few_by_name_and_the_rest_by_reason(book: RefusalBook, kept: Kept) -> None:
    for number in range(TOLD_MAX + 5):
        note(book, 2, SOURCE._replace(peer_address=f"ipv4:192.0.2.{number}"))
    book.start()
    book.stop()
    told = kept.take()
    assert sum(one.count for one in told) == 2 * (TOLD_MAX + 5)
    rest = [one for one in told if not one.peer_address]
    assert [(one.principal, one.method, one.reason, one.count) for one in rest] == [
        ("", "", Reason.PERMISSION_MISSING, 10)
    ]
    assert len(told) == TOLD_MAX + 1


def test_the_rest_of_a_stop_spans_all_attempts_that_are_in_it(
    book: RefusalBook, kept: Kept, clock: StandingClock
) -> None:
    for number in range(TOLD_MAX + 2):
        note(book, source=SOURCE._replace(peer_address=f"ipv4:192.0.2.{number}"))
        clock.advance(1)
    book.tell(is_last=True)
    (rest,) = [one for one in kept.take() if not one.peer_address]
    assert (rest.first_time - NOON).total_seconds() == TOLD_MAX
    assert (rest.last_time - NOON).total_seconds() == TOLD_MAX + 1


def test_a_book_that_was_never_started_stops(book: RefusalBook, kept: Kept) -> None:
    note(book)
    book.stop()
    assert kept.take() == []
