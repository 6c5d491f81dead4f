"""A clock that was ahead for a while, as of a machine that has just started, leaves nothing undone once it is right."""

from datetime import timedelta

from services.common.database import raw_connection, reading
from services.video.custody import CustodyAction
from services.video.keeping_rules import UNREAD_MAX, UNREAD_RETRY
from services.video.object_store import LockState
from services.video.store.keeping import LockTestRow, newest_lock_test, put_lock_test
from tests.video.keeping.harness import Kept
from tests.video.keeping.test_expiring import OVER, expire

AHEAD = timedelta(days=20 * 365)


def set_right(kept: Kept) -> None:
    """Set the clock right. Durations do not jump as it does, but those of a test: what measures them is made anew."""
    kept.clock.moved = timedelta(0)
    kept.parts = kept.build()


def test_locks_are_tested_again_and_the_test_of_the_wrong_clock_does_not_stay_the_newest(kept: Kept) -> None:
    """Where locks are required nothing would be taken for twenty years: the store refuses a clock that is ahead."""
    kept.parts.keeping.test_locks()
    ahead = LockTestRow(kept.clock.now() + AHEAD, LockState.UNKNOWN.value, "clocks are too far apart")
    with kept.engine.begin() as pooled:
        put_lock_test(raw_connection(pooled), ahead, kept.clock.now())

    kept.parts.keeping.test_locks()

    with reading(kept.engine) as pooled:
        newest = newest_lock_test(raw_connection(pooled))
    assert newest is not None
    assert LockState(newest.lock_state) is LockState.ENFORCED


def test_store_and_tables_are_compared_and_counted_again(kept: Kept) -> None:
    kept.clock.moved = AHEAD
    kept.parts.keeping.step()
    kept.clock.moved = timedelta(0)
    kept.seal(b"sealed since", is_stored=True)
    lost = kept.seal(b"lost since")
    kept.destroy(lost.digest)

    kept.parts.keeping.step()

    assert kept.value("SELECT object_count FROM scrub_state") == 2
    assert kept.actions(lost) == ["FOUND_MISSING"]


def test_what_was_read_is_read_again(kept: Kept) -> None:
    evidence = [kept.seal(content) for content in (b"first", b"second")]
    kept.clock.moved = AHEAD
    assert kept.work() > 0
    set_right(kept)
    for one in evidence:
        kept.overwrite(one.digest, b"others")

    assert kept.work() < 20

    for one in evidence:
        assert kept.actions(one) == ["FOUND_CHANGED", "RESTORED"]


def test_bytes_that_are_uploaded_again_are_read_once_more(kept: Kept) -> None:
    evidence = kept.seal(b"right")
    kept.clock.moved = AHEAD
    kept.work()
    set_right(kept)
    kept.overwrite(evidence.digest, b"wrong")

    kept.parts.put_checked(evidence.digest, 5, lambda: kept.objects.put(evidence.digest, b"right", 5))

    assert kept.content(evidence.digest) == b"right"


def test_what_could_not_be_read_is_tried_again(kept: Kept) -> None:
    kept.seal(b"readable")
    evidence = kept.seal(b"content")
    kept.clock.moved = AHEAD
    kept.cannot_read(evidence.digest)
    kept.work()
    set_right(kept)
    kept.cannot_read(evidence.digest)

    for _ in range(UNREAD_MAX):
        kept.work()
        kept.clock.moved += UNREAD_RETRY

    assert kept.actions(evidence) == ["FOUND_CHANGED"]


def test_what_a_hold_kept_is_looked_at_once_it_is_released(kept: Kept) -> None:
    evidence = kept.seal(b"held", days=OVER)
    kept.write(evidence, CustodyAction.HOLD_PLACED, reference_id="case-1")
    kept.clock.moved = AHEAD
    expire(kept)
    set_right(kept)
    kept.write(evidence, CustodyAction.HOLD_RELEASED, reference_id="case-1")

    assert kept.value("SELECT keep_check_time < now() + interval '2 days' FROM objects")
