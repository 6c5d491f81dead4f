"""Deletes bytes whose retention is over, that no hold and no other manifest keeps: decided and written down first,
deleted in the store afterwards, and taken up again wherever it was interrupted. Manifests and entries are deleted
nowhere.
"""

import threading
from contextlib import suppress
from datetime import timedelta
from typing import Final

import structlog

from services.common.clock import Clock
from services.common.database import Engine, raw_connection, reading, translate_errors
from services.journal.store import read_own_head
from services.video.checking import UNREADABLE_ERRORS
from services.video.keeping_log import KeepingLog
from services.video.keeping_rules import Keeper, may_delete, next_look
from services.video.object_store import (
    ObjectStore,
    StoreRefusedError,
    WrongCredentialsError,
    object_key,
    rendition_key,
)
from services.video.store import keeping as store
from services.video.store.damage import is_last_deleted
from services.video.store.presence import keep_presence, read_presence
from services.video.store.projected import look_again_for

LOOK_PAGE: Final = 200
"""Objects that are looked at in one go; each costs one small query."""

PURGE_PAGE: Final = 200
"""Deleted objects that are read from the database at once."""

RENDITIONS: Final = ("poster", "thumbnail")
"""Previews that go with the bytes."""

_log = structlog.get_logger()


class Expirer:
    """One step looks at a page of objects whose turn it is, and deletes what may be deleted."""

    def __init__(
        self,
        engine: Engine,
        objects: ObjectStore,
        log: KeepingLog,
        own: str,
        clock: Clock,
        grace: timedelta,
        stopping: threading.Event,
    ) -> None:
        """`grace` is how long bytes are kept after the end of their retention, and at most after a time away."""
        self._engine = engine
        self._objects = objects
        self._log = log
        self._own = own
        self._clock = clock
        self._grace = grace
        self._stopping = stopping

    def note_presence(self) -> bool:
        """Note that this is at work, and tell whether it may decide to delete. Raises ServiceError.

        While the own log is compared with the platform above, it is away still: holds and manifests are on their way
        back.
        """
        with translate_errors(), self._engine.begin() as pooled:
            connection = raw_connection(pooled)
            head = read_own_head(connection)
            if head is None:
                return False
            # The earlier of two clocks, as where it is decided.
            now = min(self._clock.now(), store.database_time(connection))
            known = read_presence(connection)
            presence = known.recovering(now, self._grace) if head.is_recovering else known.noted(now, self._grace)
            keep_presence(connection, presence)
        if head.is_recovering:
            return False
        return presence.delete_after_time is not None and presence.delete_after_time <= now

    def step(self) -> bool:
        """Do the next page; True when there was one, and there may be more. Raises StoreError, ServiceError."""
        if not self.note_presence():
            return False
        self.purge()
        with translate_errors(), reading(self._engine) as pooled:
            connection = raw_connection(pooled)
            # The earlier of two clocks: by one that is ahead all would be due all the time, or not before it has come.
            now = min(self._clock.now(), store.database_time(connection))
            rows = store.to_look_at(connection, now, LOOK_PAGE)
            keepers = {row.digest: [Keeper(*one) for one in store.read_keepers(connection, row.digest)] for row in rows}
        kept = {
            row.digest: keepers[row.digest] for row in rows if not may_delete(keepers[row.digest], now, self._grace)
        }
        with translate_errors(), self._engine.begin() as pooled:
            connection = raw_connection(pooled)
            for digest in sorted(kept):
                store.look_again_at(connection, digest, next_look(kept[digest], now, self._grace))
        for row in rows:
            if self._stopping.is_set():
                return False
            if row.digest not in kept and self._log.delete(row.digest):
                _log.info("object_expired", digest=row.digest.hex(), size_bytes=row.size_bytes)
        if len(rows) > len(kept):
            self.purge()
        return len(rows) == LOOK_PAGE

    def purge(self) -> None:
        """Delete in the store what was decided on. What the store keeps locked, or cannot delete now, is tried again
        with the next step.
        """
        after = b""
        while not self._stopping.is_set():
            with translate_errors(), reading(self._engine) as pooled:
                digests = store.to_purge(raw_connection(pooled), after, PURGE_PAGE)
            if not digests:
                return
            for digest in digests:
                after = digest
                try:
                    self._purge(digest)
                except UNREADABLE_ERRORS as error:
                    # One object, or all of them: then this raises. One is tried again with the next step.
                    self._objects.check()
                    _log.warning("object_not_deleted", digest=digest.hex(), error=str(error))

    def _purge(self, digest: bytes) -> None:
        with translate_errors(), self._engine.begin() as pooled:
            connection = raw_connection(pooled)
            # Nobody seals the same bytes meanwhile: whoever does looks into the store under this lock.
            store.lock_object_to_delete(connection, digest)
            if not store.is_to_purge(connection, digest):
                return
            if not is_last_deleted(connection, digest, self._own):
                # These tables were restored, and do not know who has brought the bytes back: they are looked for.
                look_again_for(connection, [digest])
                return
            result = self._objects.delete(object_key(digest))
            if result.kept_count:
                # A hold in the store that nobody has taken off: none stands, or this would not be deleted.
                with suppress(WrongCredentialsError, StoreRefusedError):
                    self._objects.set_hold(object_key(digest), is_held=False)
                result = self._objects.delete(object_key(digest))
            for name in RENDITIONS:
                self._objects.delete(rendition_key(digest, name))
            if result.kept_count:
                _log.info("object_still_locked", digest=digest.hex(), versions=result.kept_count)
                return
            store.mark_purged(connection, digest, self._clock.now())
