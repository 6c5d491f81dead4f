"""Tables that were restored from a backup know less than the own log, which came back from above: nothing is deleted,
and nothing called lost, because of what they say.
"""

from collections.abc import Callable
from datetime import timedelta

import pytest

from services.video.custody import CustodyAction
from services.video.domain import BytesState
from services.video.store.custody import Named
from tests.video.keeping.harness import Kept

OVER = -60.0
"""Days of retention that are over, with any grace."""

LONG_AGO = timedelta(hours=2)
"""Longer than the seal of an upload takes."""


def expire(kept: Kept) -> None:
    """Delete what may be deleted."""
    while kept.parts.expirer.step():
        pass


def seal_after_the_backup(kept: Kept, content: bytes, evidence_id: str) -> Named:
    """Seal evidence of which the restored tables know by the log alone; its bytes never left the store."""
    evidence = kept.seal(content, evidence_id, is_stored=False)
    kept.objects.put(evidence.digest, content, len(content))
    return evidence


@pytest.mark.parametrize("is_purged", [True, False], ids=["deleted in the store", "kept by the store until then"])
def test_bytes_that_were_deleted_and_sealed_again_after_the_backup_are_kept(kept: Kept, is_purged: bool) -> None:
    old = kept.seal(b"again", "old", days=OVER)
    expire(kept)
    if not is_purged:
        kept.execute("UPDATE objects SET purge_time = NULL")
    again = seal_after_the_backup(kept, b"again", "again")
    kept.clock.moved = LONG_AGO

    expire(kept)
    kept.reconcile()
    expire(kept)

    assert kept.is_stored(again.digest)
    assert kept.state(again.digest) == BytesState.HELD
    assert (kept.actions(old), kept.actions(again)) == (["DELETED", "RESTORED"], ["RESTORED"])


def test_bytes_that_were_deleted_and_received_again_after_the_backup_are_kept(kept: Kept) -> None:
    """Somebody has asked for them once more, and a platform below had them still."""
    evidence = kept.seal(b"asked for", days=OVER)
    expire(kept)
    kept.write(evidence, CustodyAction.HOLD_PLACED, reference_id="case-1")
    kept.write(evidence, CustodyAction.RECEIVED)
    kept.objects.put(evidence.digest, b"asked for", len(b"asked for"))
    kept.clock.moved = LONG_AGO

    for _ in range(2):
        kept.reconcile()
        expire(kept)

    assert (kept.is_stored(evidence.digest), kept.state(evidence.digest)) == (True, BytesState.HELD)


@pytest.mark.parametrize("find", [Kept.reconcile, Kept.scrub])
def test_what_was_deleted_after_the_backup_is_not_called_missing(kept: Kept, find: Callable[[Kept], object]) -> None:
    evidence = kept.seal(b"over", days=OVER)
    expire(kept)
    kept.execute("UPDATE objects SET state = 1, purge_time = NULL")

    find(kept)
    expire(kept)

    assert kept.actions(evidence) == ["DELETED"]
    assert kept.state(evidence.digest) == BytesState.DELETED


def test_what_was_sealed_and_deleted_after_the_backup_is_not_called_missing(kept: Kept) -> None:
    evidence = kept.seal(b"over", days=OVER)
    expire(kept)
    kept.execute("UPDATE objects SET state = 2, purge_time = NULL, stored_time = NULL")

    kept.reconcile()

    assert kept.actions(evidence) == ["DELETED"]
    assert kept.state(evidence.digest) == BytesState.DELETED


def test_what_was_sealed_again_after_its_deletion_is_called_missing_when_it_is(kept: Kept) -> None:
    kept.seal(b"again", "old", days=OVER)
    expire(kept)
    again = kept.seal(b"again", "again")
    kept.destroy(again.digest)

    kept.reconcile()

    assert kept.actions(again) == ["FOUND_MISSING"]
    assert kept.state(again.digest) == BytesState.DAMAGED
