"""Bytes are deleted when nothing keeps them any more, and never before: whatever the order of extensions, holds and
manifests, and wherever the deletion is interrupted.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from cli.platform_layout import free_port
from services.common.database import raw_connection, reading
from services.video.custody import CustodyAction
from services.video.domain import BytesState
from services.video.object_store import (
    DeleteResult,
    ObjectStore,
    StoreUnavailableError,
    digest_of,
    object_key,
    rendition_key,
)
from services.video.store import keeping as store
from services.video.store.keeping import OBJECT_LOCK_CLASS
from tests.conftest import Databases
from tests.video.harness import SCHEMA, migrate
from tests.video.keeping.harness import Kept, KilledAt, KilledError
from tests.video.keeping.silent_object import with_silent_object
from tests.video.stores.servers import Server
from tests.waiting import wait_until

OVER = -60.0
"""Days of retention that are over, with any grace."""

A_DAY_LATER = "UPDATE objects SET keep_check_time = keep_check_time - interval '1 day'"
"""Nobody looks by a clock that the database's does not agree with."""

SILENCE = timedelta(seconds=0.5)
"""Longer than the database of a test lets a transaction be silent: 0.1 s."""

LOCKED_SECONDS = 15.0
"""A lock that ends while a test waits; the store wants more than LOCK_MIN."""


def expire(kept: Kept) -> None:
    """Delete what may be deleted."""
    while kept.parts.expirer.step():
        pass


def test_what_is_over_is_deleted_and_written_down_before(kept: Kept) -> None:
    evidence = kept.seal(b"old", days=OVER)
    kept.objects.put_rendition(rendition_key(evidence.digest, "thumbnail"), b"small", "image/jpeg")

    expire(kept)

    assert kept.actions(evidence) == ["DELETED"]
    assert kept.state(evidence.digest) == BytesState.DELETED
    assert not kept.is_stored(evidence.digest)
    assert [*kept.objects.list("renditions/")] == []
    # The manifest is kept for good.
    assert kept.value("SELECT count(*) FROM evidence") == 1


def test_what_is_not_over_stays(kept: Kept) -> None:
    evidence = kept.seal(b"young", days=1)

    expire(kept)

    assert kept.actions(evidence) == []
    assert kept.is_stored(evidence.digest)


def test_another_manifest_keeps_the_bytes(kept: Kept) -> None:
    old = kept.seal(b"same", "old", days=OVER)
    young = kept.seal(b"same", "young", days=30)

    expire(kept)

    assert (kept.actions(old), kept.actions(young)) == ([], [])
    assert kept.is_stored(old.digest)


def test_however_often_bytes_are_named_what_keeps_them_is_one_row(kept: Kept) -> None:
    """A platform below may say so in millions of manifests, and all of them at once would be in memory."""
    first, *_ = [kept.seal(b"same", f"e-{number}", days=OVER) for number in range(3)]
    kept.write(first, CustodyAction.HOLD_PLACED, reference_id="case-1")

    with reading(kept.engine) as pooled:
        (keeper,) = store.read_keepers(raw_connection(pooled), first.digest)

    assert keeper.is_held


def test_all_evidence_of_the_bytes_has_the_deletion_in_its_custody(kept: Kept) -> None:
    first, second = kept.seal(b"same", "first", days=OVER), kept.seal(b"same", "second", days=OVER)

    expire(kept)

    assert (kept.actions(first), kept.actions(second)) == (["DELETED"], ["DELETED"])


def test_a_hold_keeps_it_until_the_last_one_is_released(kept: Kept) -> None:
    evidence = kept.seal(b"held", days=OVER)
    for hold in ("case-1", "case-2"):
        kept.write(evidence, CustodyAction.HOLD_PLACED, reference_id=hold)
    expire(kept)
    assert kept.is_stored(evidence.digest)

    kept.write(evidence, CustodyAction.HOLD_RELEASED, reference_id="case-1")
    kept.execute(A_DAY_LATER)
    expire(kept)
    assert kept.is_stored(evidence.digest)

    kept.write(evidence, CustodyAction.HOLD_RELEASED, reference_id="case-2")
    kept.execute(A_DAY_LATER)
    expire(kept)
    assert not kept.is_stored(evidence.digest)


def test_a_request_that_is_open_keeps_it(kept: Kept) -> None:
    evidence = kept.seal(b"wanted above", days=OVER)
    kept.write(evidence, CustodyAction.REQUESTED, reference_id="r", until=kept.clock.now() + timedelta(days=7))

    expire(kept)

    assert kept.is_stored(evidence.digest)


def test_an_extension_that_came_after_the_look_counts(kept: Kept) -> None:
    """The decision is made in the transaction that writes it down, not where candidates were listed."""
    evidence = kept.seal(b"extended", days=OVER)
    kept.write(evidence, CustodyAction.RETENTION_EXTENDED, until=kept.clock.now() + timedelta(days=30))

    assert not kept.parts.log.delete(evidence.digest)
    assert kept.is_stored(evidence.digest)


def test_a_clock_that_jumped_ahead_deletes_nothing(kept: Kept) -> None:
    """The database's clock has to agree."""
    evidence = kept.seal(b"young", days=365)
    kept.clock.moved = timedelta(days=4_000)

    expire(kept)

    assert kept.actions(evidence) == []
    assert kept.is_stored(evidence.digest)


@pytest.mark.parametrize("is_done", [False, True])
def test_a_kill_at_any_moment_is_made_up_for(kept: Kept, *, is_done: bool) -> None:
    evidence = kept.seal(b"old", days=OVER)
    killed = kept.build(KilledAt(kept.objects, "delete", is_done=is_done))
    with pytest.raises(KilledError):
        killed.expirer.step()
    # Written down first: what is interrupted afterwards is deleted all the same, and told once.
    assert kept.actions(evidence) == ["DELETED"]

    kept.parts = kept.build()
    expire(kept)

    assert kept.actions(evidence) == ["DELETED"]
    assert not kept.is_stored(evidence.digest)
    assert kept.value("SELECT purge_time FROM objects") is not None


def test_what_the_store_keeps_locked_goes_when_the_lock_ends(kept: Kept) -> None:
    """Retention is over here and not yet there, as by a clock that is behind."""
    evidence = kept.seal(b"locked", days=LOCKED_SECONDS / 86_400, locks=True)
    kept.execute("UPDATE evidence SET retain_until_time = now() - interval '60 days'")

    expire(kept)

    assert kept.state(evidence.digest) == BytesState.DELETED
    assert kept.is_stored(evidence.digest)
    assert kept.value("SELECT purge_time FROM objects") is None

    def is_gone() -> bool:
        expire(kept)
        return kept.value("SELECT purge_time FROM objects") is not None

    wait_until(is_gone, "the store lets go", seconds_max=60)
    assert not kept.is_stored(evidence.digest)
    assert kept.actions(evidence) == ["DELETED"]


@pytest.mark.parametrize("is_hidden", [False, True])
def test_a_hold_in_the_store_that_nobody_took_off_keeps_nothing(kept: Kept, *, is_hidden: bool) -> None:
    """As the store of a copy, or when the hold was released while the bytes were damaged."""
    evidence = kept.seal(b"held there", days=OVER)
    assert kept.objects.set_hold(object_key(evidence.digest), is_held=True)
    if is_hidden:
        kept.hide(evidence.digest)

    expire(kept)

    assert not kept.is_stored(evidence.digest)
    assert kept.value("SELECT purge_time FROM objects") is not None


def test_an_object_that_is_kept_for_ever_keeps_no_other_one(kept: Kept) -> None:
    for_ever, over = kept.seal(b"for ever"), kept.seal(b"over", days=OVER)
    kept.execute("UPDATE evidence SET retain_until_time = '9999-12-31 23:59:59+00' WHERE digest = %s", for_ever.digest)

    expire(kept)

    assert (kept.is_stored(for_ever.digest), kept.is_stored(over.digest)) == (True, False)


def test_an_object_that_cannot_be_deleted_now_keeps_no_other_one(kept: Kept) -> None:
    evidence = sorted((kept.seal(bytes([number]), days=OVER) for number in range(3)), key=lambda one: one.digest)
    kept.parts = kept.build(with_silent_object(kept.objects, evidence[0].digest, "delete"))
    expire(kept)
    assert [kept.is_stored(one.digest) for one in evidence] == [True, False, False]

    kept.parts = kept.build()
    expire(kept)
    assert not kept.is_stored(evidence[0].digest)


class SlowToDelete:
    """A store that deletes only after the database has had time to end a silent transaction, and has not."""

    def __init__(self, objects: ObjectStore, kept: Kept) -> None:
        self._objects = objects
        self._kept = kept
        self.were_locked: list[bool] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objects, name)

    def delete(self, key: str) -> DeleteResult:
        """Delete late."""
        waiting = (
            "SELECT clock_timestamp() - min(state_change) FROM pg_stat_activity WHERE state = 'idle in transaction'"
        )
        of_this = f"{waiting} AND datname = current_database()"
        wait_until(lambda: (self._kept.value(of_this) or SILENCE) >= SILENCE, "it is silent for long, or ended")
        digest = digest_of(key)
        if digest is not None:
            lock = "SELECT pg_try_advisory_xact_lock(%s, %s)"
            number = int.from_bytes(digest[:4], "big", signed=True)
            self.were_locked.append(not self._kept.value(lock, OBJECT_LOCK_CLASS, number))
        return self._objects.delete(key)


def test_bytes_stay_locked_for_as_long_as_the_store_takes_to_delete_them(
    databases: Databases, evidence_store: Server, tmp_path: Path, short_tail_poll: None
) -> None:
    """Or whoever seals them meanwhile has them deleted after the answer: the database ends silent transactions."""
    url = databases.borrow(SCHEMA, migrate)
    kept = Kept(f"{url}&options=-c%20idle_in_transaction_session_timeout%3D100", evidence_store, tmp_path)
    orphan, over = kept.seal(b"orphan"), kept.seal(b"over", days=OVER)
    kept.execute("DELETE FROM evidence WHERE digest = %s", orphan.digest)
    kept.execute("DELETE FROM objects WHERE digest = %s", orphan.digest)
    found = "INSERT INTO orphans (digest, size_bytes, found_time) VALUES (%s, 6, now() - interval '60 days')"
    kept.execute(found, orphan.digest)
    slow = SlowToDelete(kept.objects, kept)
    kept.parts = kept.build(cast("ObjectStore", slow))

    expire(kept)
    kept.reconcile()

    assert slow.were_locked == [True, True]
    assert not kept.is_stored(orphan.digest)
    assert kept.value("SELECT purge_time FROM objects WHERE digest = %s", over.digest) is not None
    kept.close()
    databases.give_back(SCHEMA, url)


# Holds that are on their way


def test_a_hold_that_was_placed_during_an_outage_of_the_link_holds(kept: Kept) -> None:
    """The link is away from Friday to Monday, retention ends on Saturday, a platform above holds on Saturday."""
    evidence = kept.seal(b"held above", days=-2)
    expire(kept)
    assert kept.is_stored(evidence.digest)

    kept.write(evidence, CustodyAction.HOLD_PLACED, reference_id="case-1")
    kept.execute("UPDATE evidence SET retain_until_time = retain_until_time - interval '60 days'")
    kept.clock.moved += timedelta(days=2)
    expire(kept)

    assert kept.actions(evidence) == ["HOLD_PLACED"]
    assert kept.is_stored(evidence.digest)


def test_after_a_time_away_nothing_is_deleted_before_holds_had_time_to_arrive(kept: Kept) -> None:
    """The service was stopped, or its database is a backup, for longer than the grace."""
    evidence = kept.seal(b"over", days=OVER)
    kept.execute("UPDATE scrub_state SET present_time = now() - interval '20 days'")

    expire(kept)
    kept.parts = kept.build()
    expire(kept)

    assert kept.actions(evidence) == []
    waits = kept.value("SELECT delete_after_time - present_time FROM scrub_state")
    assert timedelta(days=13, hours=23) < waits <= timedelta(days=14)

    kept.execute("UPDATE scrub_state SET delete_after_time = now()")
    expire(kept)
    assert kept.actions(evidence) == ["DELETED"]


def test_nothing_is_deleted_while_holds_come_back_after_a_restore_nor_for_as_long_as_the_backup_is_old(
    kept: Kept,
) -> None:
    evidence = kept.seal(b"over", days=OVER)
    kept.execute("UPDATE scrub_state SET present_time = now() - interval '3 days'")
    kept.execute("UPDATE journal_logs SET is_recovering = true WHERE is_own")

    expire(kept)
    assert kept.value("SELECT present_time < now() - interval '2 days' FROM scrub_state")
    kept.execute("UPDATE journal_logs SET is_recovering = false")
    expire(kept)

    assert kept.actions(evidence) == []
    assert kept.value("SELECT delete_after_time > now() + interval '2 days' FROM scrub_state")


def test_a_backup_of_a_moment_ago_waits_for_what_came_since(kept: Kept) -> None:
    evidence = kept.seal(b"over", days=OVER)
    kept.execute("UPDATE journal_logs SET is_recovering = true WHERE is_own")
    expire(kept)
    kept.execute("UPDATE journal_logs SET is_recovering = false")
    expire(kept)

    assert kept.actions(evidence) == []
    assert kept.value("SELECT delete_after_time > now() + interval '50 minutes' FROM scrub_state")


def test_a_store_that_is_away_is_no_time_away(kept: Kept) -> None:
    kept.execute("UPDATE scrub_state SET present_time = now() - interval '1 minute'")
    away = kept.build(kept.store(endpoint=f"http://127.0.0.1:{free_port()}"))

    with pytest.raises(StoreUnavailableError):
        away.keeping.step()

    assert kept.value("SELECT present_time > now() - interval '30 seconds' FROM scrub_state")


def test_the_same_bytes_sealed_again_are_not_taken_away(kept: Kept) -> None:
    """Sealed between the decision and the deletion in the store."""
    old = kept.seal(b"again", "old", days=OVER)
    assert kept.parts.log.delete(old.digest)
    again = kept.seal(b"again", "again", days=365)

    expire(kept)

    assert kept.state(again.digest) == BytesState.HELD
    assert kept.is_stored(again.digest)
