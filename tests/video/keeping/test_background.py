"""Work in the background: on one replica at a time, over any fault, and ended when it is told to."""

import threading
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest

from cli.platform_layout import free_port
from services.video import background
from services.video.background import BackgroundWork, OnlyOne
from services.video.keeping import UNKNOWN_AGAIN_MAX, Keeping
from services.video.keeping_rules import HELD_LOOK_AGAIN
from services.video.object_store import LockState, StoreUnavailableError
from tests.video.keeping.harness import Kept
from tests.waiting import wait_until

KEY = 4_711


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RETRY_SECONDS_MIN", "RETRY_SECONDS_MAX", "NOT_OURS_SECONDS"):
        monkeypatch.setattr(background, name, 0.02)


class Counted:
    """Work that counts its steps, and fails as often as it is told."""

    def __init__(self, failures: list[Exception] | None = None) -> None:
        self.steps = 0
        self.failures = failures or []

    def step(self) -> float:
        """Do one step."""
        self.steps += 1
        if self.failures:
            raise self.failures.pop(0)
        return 0.01


@pytest.fixture
def running() -> Iterator[list[BackgroundWork]]:
    """Stop whatever a test has started."""
    works: list[BackgroundWork] = []
    yield works
    for work in works:
        work.stop(5.0)


def test_one_replica_works_and_another_takes_over(kept: Kept, running: list[BackgroundWork]) -> None:
    first, second = Counted(), Counted()
    running.append(BackgroundWork("first", first.step, OnlyOne(kept.url, KEY, "first")))
    running[0].start()
    wait_until(lambda: first.steps > 2, "the first one works")
    running.append(BackgroundWork("second", second.step, OnlyOne(kept.url, KEY, "second")))
    running[1].start()
    before = first.steps
    wait_until(lambda: first.steps > before + 5, "the first one goes on")
    assert second.steps == 0

    running[0].stop(5.0)

    wait_until(lambda: second.steps > 2, "the second one takes over")


def test_a_lost_connection_gives_the_work_away_and_takes_it_again(kept: Kept, running: list[BackgroundWork]) -> None:
    counted = Counted()
    running.append(BackgroundWork("work", counted.step, OnlyOne(kept.url, KEY, "work")))
    running[0].start()
    wait_until(lambda: counted.steps > 2, "it works")

    with psycopg.connect(kept.url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'zhichao-video-work'"
        )
    before = counted.steps

    wait_until(lambda: counted.steps > before + 2, "it works again")


@pytest.mark.parametrize("failure", [StoreUnavailableError("away"), RuntimeError("a fault of ours")])
def test_no_fault_ends_it(running: list[BackgroundWork], failure: Exception) -> None:
    counted = Counted([failure, failure, failure])
    running.append(BackgroundWork("work", counted.step))
    running[0].start()

    wait_until(lambda: counted.steps > 4, "it goes on")


def test_a_stop_does_not_wait_for_a_pause() -> None:
    reached = threading.Event()

    def step() -> float:
        reached.set()
        return HELD_LOOK_AGAIN.total_seconds()

    work = BackgroundWork("work", step)
    work.start()
    assert reached.wait(5.0)

    work.stop(5.0)

    assert not any(thread.name == "video-work" for thread in threading.enumerate())


@pytest.mark.parametrize("failure", [StoreUnavailableError("away"), OverflowError("a fault of ours")])
def test_a_part_that_cannot_be_done_now_keeps_none_of_the_others(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    monkeypatch.setattr(kept.parts.expirer, "step", lambda: (_ for _ in ()).throw(failure))
    kept.seal(b"content")

    with pytest.raises(type(failure)):
        kept.parts.keeping.step()

    assert kept.value("SELECT reconcile_time FROM scrub_state") is not None
    assert kept.value("SELECT object_count FROM scrub_state") == 1
    assert kept.value("SELECT lock_state FROM store_tests") == 1


def test_locks_are_tested_at_the_start_and_daily(kept: Kept) -> None:
    kept.parts.keeping.test_locks()
    kept.parts.keeping.test_locks()
    assert kept.value("SELECT count(*) FROM store_tests") == 1

    # After a restart, and a day later.
    kept.parts = kept.build()
    kept.parts.keeping.test_locks()
    kept.clock.moved += HELD_LOOK_AGAIN
    kept.parts.keeping.test_locks()

    assert kept.value("SELECT count(*) FROM store_tests") == 3


def lock_tests(kept: Kept, keeping: Keeping, *later: timedelta) -> list[int]:
    """Return how many self-tests there are after looking so much later each time."""
    counts = []
    for moved in later:
        kept.clock.moved = moved
        keeping.test_locks()
        counts.append(kept.value("SELECT count(*) FROM store_tests"))
    return counts


def test_a_test_that_could_not_be_made_is_tried_again_less_and_less_often(kept: Kept) -> None:
    away = kept.build(kept.store(endpoint=f"http://127.0.0.1:{free_port()}")).keeping
    minute = timedelta(minutes=1)

    assert lock_tests(kept, away, 0 * minute, 0.5 * minute, minute, 1.5 * minute, 2 * minute) == [1, 1, 2, 2, 3]
    assert kept.value("SELECT DISTINCT lock_state FROM store_tests") == LockState.UNKNOWN.value
    for _ in range(10):
        kept.clock.moved += UNKNOWN_AGAIN_MAX
        away.test_locks()
    before = kept.value("SELECT count(*) FROM store_tests")
    assert lock_tests(kept, away, 59 * minute, UNKNOWN_AGAIN_MAX) == [before, before + 1]


def test_locks_that_did_not_hold_are_tested_again_within_the_hour(kept: Kept) -> None:
    keeping = kept.parts.keeping
    keeping.test_locks()
    kept.execute("UPDATE store_tests SET lock_state = %s", LockState.NOT_ENFORCED.value)

    assert lock_tests(kept, keeping, timedelta(minutes=58), timedelta(minutes=61)) == [1, 2]
    newest = kept.value("SELECT lock_state FROM store_tests ORDER BY test_time DESC LIMIT 1")
    assert newest == LockState.ENFORCED.value


def test_nothing_is_compared_while_manifests_come_back_from_above_and_at_once_afterwards(kept: Kept) -> None:
    kept.parts.keeping.step()
    lost = kept.seal(b"sealed after the backup", is_stored=False)
    kept.parts = kept.build()
    kept.execute("UPDATE journal_logs SET is_recovering = true")
    kept.parts.keeping.step()
    assert kept.actions(lost) == []

    kept.execute("UPDATE journal_logs SET is_recovering = false")
    kept.parts.keeping.step()

    assert kept.actions(lost) == ["FOUND_MISSING"]
