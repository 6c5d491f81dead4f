"""What the service itself does to bytes, written into the custody of all evidence that they are of: found damaged,
right again, deleted. The decision and its entry are one transaction.
"""

from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Final

from services.common.clock import Clock
from services.common.database import Engine, RawConnection, raw_connection, translate_errors
from services.video.custody import CustodyAction
from services.video.custody_writer import CustodyWriter
from services.video.keeping_rules import UNREAD_MAX, UNREAD_RETRY, Keeper, may_delete, next_look
from services.video.store import checks as check_store
from services.video.store import damage as damage_store
from services.video.store import keeping as store

DELETED_PURPOSE: Final = "Retention is over, no hold stands 保存期满, 无保全"


class KeepingLog:
    """Writes custody events of what the service does itself. Thread safe."""

    def __init__(self, engine: Engine, custody: CustodyWriter, own: str, clock: Clock, grace: timedelta) -> None:
        """`grace` is how long bytes are kept after the end of their retention."""
        self._engine = engine
        self._custody = custody
        self._own = own
        self._clock = clock
        self._grace = grace

    def found_missing(self, digest: bytes, how: str) -> bool:
        """Mark bytes as missing and write it down; False when that is known, or they need not be here."""
        return self._custody.found_damaged(digest, CustodyAction.FOUND_MISSING, how)

    def found_changed(self, digest: bytes, how: str) -> bool:
        """Mark bytes as changed and write it down; False when they are known to be damaged, or need not be here."""
        return self._custody.found_damaged(digest, CustodyAction.FOUND_CHANGED, how)

    def restored(self, digest: bytes, how: str) -> bool:
        """Mark damaged bytes as held again and write it down; False when they are not damaged."""
        with self._writing(digest) as connection:
            now = self._clock.now()
            if not check_store.mark_restored(connection, digest, now):
                return False
            self._custody.write_of_all(connection, digest, CustodyAction.RESTORED, how, now)
        return True

    def found(self, digest: bytes, size_bytes: int, how: str) -> bool:
        """Mark bytes as held that are in the store though nobody knew, and write it down; False when it is known.

        The caller has compared their digest.
        """
        with self._writing(digest) as connection:
            now = self._clock.now()
            if not check_store.mark_found(connection, digest, size_bytes, now):
                return False
            self._custody.write_of_all(connection, digest, CustodyAction.RESTORED, how, now)
        return True

    def lost(self, digest: bytes, size_bytes: int, action: CustodyAction, how: str) -> bool:
        """Mark bytes of own evidence as missing or changed of which nobody knew where they are; False when that is
        known, or the own log says that they were deleted.
        """
        with self._writing(digest) as connection:
            now = self._clock.now()
            if damage_store.mark_deleted_before(connection, digest, self._own):
                return False
            if not check_store.mark_lost(connection, digest, size_bytes, action, now):
                return False
            self._custody.write_of_all(connection, digest, action, how, now)
        return True

    def checked(self, digest: bytes) -> None:
        """Note that bytes that are held were read, and are right."""
        with translate_errors(), self._engine.begin() as pooled:
            check_store.mark_checked(raw_connection(pooled), digest, self._clock.now())

    def unread(self, digest: bytes) -> bool:
        """Count that the store could not read bytes though it could read others; True when that was so often that it
        is to be written down, until then they are tried again after UNREAD_RETRY.
        """
        with translate_errors(), self._engine.begin() as pooled:
            now = self._clock.now()
            count = check_store.put_unread(
                raw_connection(pooled), digest, now, now + UNREAD_RETRY, now + 2 * UNREAD_RETRY
            )
        return count >= UNREAD_MAX

    def delete(self, digest: bytes) -> bool:
        """Decide whether bytes are deleted, and write it down; the store still has them. False when they are kept.

        Asked anew within the transaction: an extension, a hold or a second manifest that was there before counts.
        """
        with self._writing(digest) as connection:
            # The earlier of two clocks: one that jumps ahead must not delete what is kept for years.
            now = min(self._clock.now(), store.database_time(connection))
            keepers = [Keeper(*row) for row in store.read_keepers(connection, digest)]
            if not may_delete(keepers, now, self._grace):
                store.look_again_at(connection, digest, next_look(keepers, now, self._grace))
                return False
            if not store.mark_deleted(connection, digest):
                return False
            self._custody.write_of_all(connection, digest, CustodyAction.DELETED, DELETED_PURPOSE, now)
        return True

    def _writing(self, digest: bytes) -> AbstractContextManager[RawConnection]:
        """Open a transaction that holds the object, and then the log: everybody takes them in this order."""
        return self._custody.writing(lambda connection: store.lock_object(connection, digest))
