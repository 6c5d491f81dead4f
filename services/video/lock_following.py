"""Lets the locks in the evidence store follow holds and retention: legal holds and longer retention also of objects
that are there already, and locks that are missing there. A second defence: what is deleted is decided by the tables and
never by a lock.
"""

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

import structlog

from services.common.clock import Clock
from services.common.database import Engine, raw_connection, reading, translate_errors
from services.video.checking import UNREADABLE_ERRORS
from services.video.custody import CustodyAction
from services.video.custody_writer import CustodyWriter
from services.video.domain import BytesState
from services.video.lock_sweeping import LockSweep
from services.video.object_store import (
    BucketMissingError,
    ObjectMissingError,
    ObjectStore,
    object_key,
)
from services.video.store import locks as store
from services.video.store.locks import DueLocks, LockChange

FOLLOW_LOCK_KEY: Final = 0x7A766C6B  # "zvlk"
"""Advisory lock of the replica that does it: two would overtake each other."""

STEP_SECONDS: Final = 15.0
"""Pause when nothing is due. Holds of this platform hurry the next step; those from above are followed this soon."""

PAGE: Final = 100
"""Changes that are read at once: a hold on a whole case has some tens of pieces. And objects that are looked at for
missing locks with one step that has no more changes: some twenty small requests a second, half a million objects a day.
"""

REFUSED_RETRY: Final = timedelta(hours=1)
"""When a store that has refused a lock, or does not answer for one object because a disk is away, is asked again:
somebody has to put it right, and each try takes many seconds."""

FOUND_MISSING_WHEN_LOCKED: Final = "A lock was due and the store has no such object 加锁时发现文件缺失"

_log = structlog.get_logger()


class LockFollower:
    """One step follows what has changed. From one thread. Raises StoreError while the store is away, ServiceError."""

    def __init__(self, engine: Engine, objects: ObjectStore, custody: CustodyWriter, clock: Clock) -> None:
        self._engine = engine
        self._objects = objects
        self._custody = custody
        self._clock = clock
        # From the start on: it may be another store than before, or another database, or a setting that was changed.
        self._sweep = LockSweep()

    def step(self) -> float:
        """Follow a page of changes and return the seconds until the next step."""
        now = self._clock.now()
        with translate_errors(), reading(self._engine) as pooled:
            changes = store.read_changes(raw_connection(pooled), now, PAGE)
        try:
            for change in changes:
                self._follow(change, now)
        except BucketMissingError:
            # Whatever bucket there will be, nothing in it need be locked.
            self._sweep.begin_again()
            raise
        if len(changes) == PAGE:
            return 0.0
        with translate_errors(), self._engine.begin() as pooled:
            connection = raw_connection(pooled)
            store.note_changes(connection, self._sweep.next_page(connection, now, PAGE))
        return STEP_SECONDS

    def _follow(self, change: LockChange, now: datetime) -> None:
        with translate_errors(), reading(self._engine) as pooled:
            due = store.read_due(raw_connection(pooled), change.digest)
        try:
            # What is not in the store is locked when it comes.
            if due is not None:
                self._lock(change.digest, due)
        except ObjectMissingError:
            # Looked at twice: what is written down is for good.
            if not self._is_missing(change.digest):
                return
            self._custody.found_damaged(change.digest, CustodyAction.FOUND_MISSING, FOUND_MISSING_WHEN_LOCKED)
        except UNREADABLE_ERRORS as error:
            # One object, or all of them: then this raises, and the change is due still.
            self._objects.check()
            _log.warning("object_lock_refused", digest=change.digest.hex(), error=str(error))
            with translate_errors(), self._engine.begin() as pooled:
                store.try_again(raw_connection(pooled), change, now + REFUSED_RETRY)
            return
        with translate_errors(), self._engine.begin() as pooled:
            store.forget_change(raw_connection(pooled), change)

    def _is_missing(self, digest: bytes) -> bool:
        try:
            self._objects.stat(object_key(digest))
        except ObjectMissingError:
            # Of the right store: one that was named by mistake has none of these objects.
            self._objects.check()
            return True
        return False

    def _lock(self, digest: bytes, due: DueLocks) -> None:
        key = object_key(digest)
        if due.state != BytesState.HELD:
            # Wrong bytes, or none, are not locked: only a hold that stands no more is taken off, or they never go.
            if not due.is_held or due.state == BytesState.DELETED:
                with suppress(ObjectMissingError):
                    self._objects.set_hold(key, is_held=False)
            return
        # The hold first: retention may have ended, and then it is the hold that keeps the bytes.
        self._objects.set_hold(key, is_held=due.is_held)
        self._objects.extend_retention(key, due.retain_until_time)
