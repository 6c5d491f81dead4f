"""Locks in the store become what holds and retention ask for, also of objects that came there without them; and a hold
that nobody wants any more is taken off whatever became of the bytes.
"""

import io
from datetime import UTC, datetime, timedelta

import pytest

from services.common.database import raw_connection
from services.video import lock_following
from services.video.custody import CustodyAction
from services.video.domain import BytesState
from services.video.lock_following import REFUSED_RETRY, LockFollower
from services.video.lock_sweeping import ROUND_EVERY, LockSweep
from services.video.object_store import BucketMissingError, object_key
from services.video.s3_bucket import S3Bucket
from services.video.s3_store import S3ObjectStore
from services.video.store.custody import Named
from tests.video.keeping.harness import Kept
from tests.video.keeping.silent_object import with_silent_object
from tests.video.stores.servers import harmful_client


def follower(kept: Kept) -> LockFollower:
    """Make it anew, as after a restart."""
    return LockFollower(kept.engine, kept.objects, kept.custody, kept.clock)


def follow(made: LockFollower, steps: int = 2) -> None:
    """Look for what is missing, and follow it."""
    for _ in range(steps):
        made.step()


def bucket_of(kept: Kept) -> S3Bucket:
    assert isinstance(kept.objects, S3ObjectStore)
    return kept.objects._bucket


def locks_of(kept: Kept, evidence: Named) -> tuple[datetime | None, bool]:
    """Return until when the store keeps the current version, and whether it is under hold."""
    bucket, key = bucket_of(kept), object_key(evidence.digest)
    retention = bucket.retention(key)
    return retention.retain_until_date if retention else None, bucket._is_held(key, "")


def hold(kept: Kept, evidence: Named) -> None:
    """Place a hold of which the follower is not told any more: that was followed in another store."""
    kept.write(evidence, CustodyAction.HOLD_PLACED, reference_id="case-1")
    kept.execute("DELETE FROM lock_changes")


def test_locks_that_are_missing_in_the_store_are_found_and_set(kept: Kept) -> None:
    """As after a copy from another store, or when locks were switched off until now."""
    held, young, over = kept.seal(b"held", days=-60), kept.seal(b"young", days=30), kept.seal(b"over", days=-1)
    hold(kept, held)

    follow(follower(kept), 4)

    until, is_held = locks_of(kept, young)
    assert until is not None
    assert (abs(until - datetime.now(UTC) - timedelta(days=30)) < timedelta(hours=1), is_held) == (True, False)
    assert (locks_of(kept, held), locks_of(kept, over)) == ((None, True), (None, False))
    assert kept.value("SELECT count(*) FROM lock_changes") == 0


def test_more_objects_than_a_page_are_all_come_to_and_held_ones_first(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_following, "PAGE", 2)
    evidence = [kept.seal(bytes([number]), days=30) for number in range(7)]
    last = max(evidence, key=lambda one: one.digest)
    hold(kept, last)
    made = follower(kept)

    made.step()
    assert kept.value("SELECT digest FROM lock_changes") == last.digest
    follow(made, 20)

    assert [locks_of(kept, one)[0] is not None for one in evidence] == [True] * 7


def test_a_round_begins_anew_after_a_day_and_not_before(kept: Kept) -> None:
    kept.seal(b"content", days=30)
    sweep, now = LockSweep(), kept.clock.now()

    def pages(later: timedelta) -> int:
        count = 0
        with kept.engine.begin() as pooled:
            while sweep.next_page(raw_connection(pooled), now + later, 10):
                count += 1
        return count

    assert [pages(timedelta(0)), pages(ROUND_EVERY / 2), pages(ROUND_EVERY)] == [1, 0, 1]


def test_a_bucket_that_was_lost_and_filled_again_is_looked_through_at_once(kept: Kept) -> None:
    evidence = kept.seal(b"content", days=30)
    made = follower(kept)
    follow(made, 4)
    kept.execute("DELETE FROM lock_changes")
    client, key = harmful_client(kept.server), object_key(evidence.digest)

    # Another bucket under the same name: the first one is locked, and cannot be removed.
    kept.bucket = f"{kept.bucket}-2"
    kept.objects = kept.store()
    made._objects = kept.objects
    kept.write(evidence, CustodyAction.HOLD_PLACED, reference_id="case-1")
    with pytest.raises(BucketMissingError):
        made.step()
    kept.execute("DELETE FROM lock_changes")
    client.make_bucket(kept.bucket, object_lock=True)
    client.put_object(kept.bucket, key, io.BytesIO(b"content"), len(b"content"))
    follow(made, 3)

    until, is_held = locks_of(kept, evidence)
    assert (until is not None, is_held) == (True, True)


@pytest.mark.parametrize("state", [BytesState.DAMAGED, BytesState.DELETED])
def test_a_hold_that_was_released_is_taken_off_whatever_became_of_the_bytes(kept: Kept, state: BytesState) -> None:
    evidence = kept.seal(b"content", days=30)
    kept.write(evidence, CustodyAction.HOLD_PLACED, reference_id="case-1")
    follow(follower(kept))
    assert locks_of(kept, evidence)[1]

    kept.execute("UPDATE objects SET state = %s, damage = NULL", int(state))
    kept.write(evidence, CustodyAction.HOLD_RELEASED, reference_id="case-1")
    follow(follower(kept), 1)

    assert not locks_of(kept, evidence)[1]


def test_wrong_bytes_are_not_locked(kept: Kept) -> None:
    """They would be in the way of the right ones."""
    evidence = kept.seal(b"content", days=30)
    kept.overwrite(evidence.digest, b"CONTENT")
    kept.execute("UPDATE objects SET state = %s, damage = 12", int(BytesState.DAMAGED))
    kept.write(evidence, CustodyAction.HOLD_PLACED, reference_id="case-1")

    follow(follower(kept))

    assert locks_of(kept, evidence) == (None, False)
    assert kept.value("SELECT count(*) FROM lock_changes") == 0


def test_an_object_that_the_store_cannot_find_now_keeps_no_other_one_from_its_lock(kept: Kept) -> None:
    evidence = sorted((kept.seal(bytes([number]), days=30) for number in range(3)), key=lambda one: one.digest)
    for one in evidence:
        kept.write(one, CustodyAction.HOLD_PLACED, reference_id="case-1")
    objects, made = kept.objects, follower(kept)
    made._objects = with_silent_object(objects, evidence[0].digest, "set_hold")
    follow(made, 1)
    assert [locks_of(kept, one)[1] for one in evidence] == [False, True, True]

    # The disks are back.
    made._objects = objects
    kept.clock.moved += REFUSED_RETRY
    follow(made, 1)
    assert locks_of(kept, evidence[0])[1]
