"""The tail: notifications from any connection wake readers, a lost connection loses nothing, stopping wakes all."""

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from services.journal.store import tail as tail_module
from services.journal.store.tail import Tail
from tests.journal.conftest import MakeJournal
from tests.journal.journals import WAIT_SECONDS, Journal, eventually
from tests.journal.paper_log import COUNTY, PaperLog


def always() -> bool:
    return True


@pytest.fixture
def slow_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a wait that is not woken last longer than any test."""
    monkeypatch.setattr(tail_module, "TAIL_POLL_SECONDS", 10 * WAIT_SECONDS)


@pytest.fixture
def tail(slow_poll: None, county: Journal) -> Iterator[Tail]:
    made = county.parts.tail
    made.start()
    eventually(lambda: listening(county) == 1, "the tail listens")
    yield made
    made.stop()


def listening(journal: Journal) -> int:
    return len(
        journal.query(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query = 'LISTEN zhichao_journal'"
        )
    )


def test_a_commit_of_another_process_wakes_readers(tail: Tail, county: Journal, journal: MakeJournal) -> None:
    seen_log, seen_any = tail.count(COUNTY), tail.count(None)
    journal(COUNTY, county.url).write(b"one")
    assert tail.wait(COUNTY, seen_log, always) > seen_log
    assert tail.wait(None, seen_any, always) > seen_any


def test_growth_between_looking_and_waiting_is_not_missed(tail: Tail, county: Journal, journal: MakeJournal) -> None:
    seen = tail.count(COUNTY)
    journal(COUNTY, county.url).write(b"one")
    eventually(lambda: tail.count(COUNTY) != seen, "the notification arrives")
    assert tail.wait(COUNTY, seen, always) != seen


def test_a_transaction_that_is_rolled_back_wakes_nobody(tail: Tail, county: Journal, journal: MakeJournal) -> None:
    seen = tail.count(None)
    with psycopg.connect(county.url) as connection:
        connection.execute("SELECT pg_notify('zhichao_journal', '141025')")
        connection.rollback()
    journal(COUNTY, county.url).write(b"one")
    eventually(lambda: tail.count(None) != seen, "the commit is noticed")
    assert tail.count(None) == seen + 1


def test_other_logs_do_not_wake_a_reader_of_one(tail: Tail, city: Journal) -> None:
    seen = tail.count("141026")
    tail.announce(COUNTY)
    assert tail.count("141026") == seen
    assert tail.count(None) > 0


def test_asking_for_logs_keeps_nothing(tail: Tail) -> None:
    for number in range(1_000):
        tail.count(f"no such log {number}")
    assert len(tail._counts) <= 1


def test_a_lost_connection_is_replaced_and_nothing_is_missed(tail: Tail, county: Journal, journal: MakeJournal) -> None:
    replica = journal(COUNTY, county.url)
    for _ in range(3):
        seen = {origin: tail.count(origin) for origin in (COUNTY, "141026", None)}
        county.kill_connections()
        # Whatever was written meanwhile was announced to nobody: everybody must look.
        replica.close()
        replica.write(b"while nobody listens")
        for origin, count in seen.items():
            assert tail.wait(origin, count, always) != count
        eventually(lambda: listening(county) == 1, "the tail listens again")
        seen_again = tail.count(COUNTY)
        replica.write(b"while it listens")
        assert tail.wait(COUNTY, seen_again, always) != seen_again


def test_a_reader_follows_through_lost_connections(tail: Tail, county: Journal, journal: MakeJournal) -> None:
    replica = journal(COUNTY, county.url)
    entries: list[bytes] = []
    is_over = threading.Event()

    def follow() -> None:
        for batch in county.handlers.read(COUNTY, 1, 0, follow=True):
            entries.extend(batch.entries)
            if len(entries) == 201:
                return

    def kill() -> None:
        while not is_over.wait(0.02):
            with psycopg.connect(county.url, autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND query = 'LISTEN zhichao_journal'"
                )

    follower, killer = threading.Thread(target=follow), threading.Thread(target=kill)
    follower.start()
    killer.start()
    for number in range(200):
        replica.write(str(number).encode())
    follower.join(WAIT_SECONDS)
    is_over.set()
    killer.join()
    assert entries == county.entries(COUNTY)


def test_stopping_wakes_readers_and_ends_the_thread(slow_poll: None, county: Journal) -> None:
    tail = county.parts.tail
    tail.start()
    eventually(lambda: listening(county) == 1, "the tail listens")
    woken = []
    seen = tail.count(None)
    reader = threading.Thread(target=lambda: woken.append(tail.wait(None, seen, always)))
    reader.start()
    started = time.monotonic()
    tail.stop()
    reader.join(WAIT_SECONDS)
    assert not reader.is_alive()
    assert not tail._thread.is_alive()
    assert time.monotonic() - started < WAIT_SECONDS / 2
    assert len(woken) == 1


def test_a_reader_that_is_not_wanted_any_more_is_woken(tail: Tail) -> None:
    is_wanted = threading.Event()
    is_wanted.set()
    seen = tail.count(COUNTY)
    reader = threading.Thread(target=tail.wait, args=(COUNTY, seen, is_wanted.is_set))
    reader.start()
    is_wanted.clear()
    tail.wake()
    reader.join(WAIT_SECONDS)
    assert not reader.is_alive()


def test_a_wait_ends_with_its_poll(county: Journal) -> None:
    # Not started: as if every notification were lost.
    tail = county.parts.tail
    assert tail.wait(COUNTY, tail.count(COUNTY), always) == 0


def test_stopping_what_was_never_started(county: Journal) -> None:
    county.parts.stop()


def test_received_batches_wake_readers_in_the_same_process_at_once(city: Journal) -> None:
    # Not started: only the receiver itself can have told.
    seen = city.parts.tail.count(COUNTY)
    city.receive(PaperLog().batch())
    assert city.parts.tail.count(COUNTY) > seen
