"""Compares the store with the tables, both ways, from its listing and without reading bytes: objects that no manifest
names, objects that should be there and are not, and what a restored database or a killed process left between the two.
"""

import threading
from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import islice
from typing import Final

import structlog

from services.common.clock import Clock
from services.common.database import Engine, raw_connection, reading, translate_errors
from services.journal.store import read_own_head
from services.video.checking import SAID, Checker, Finding, StoppedError
from services.video.domain import BytesState
from services.video.expiring import RENDITIONS
from services.video.keeping_log import KeepingLog
from services.video.keeping_rules import ORPHAN_KEEP
from services.video.object_store import (
    OBJECT_PREFIX,
    RENDITION_PREFIX,
    STAGING_PREFIX,
    ObjectMissingError,
    ObjectStore,
    digest_of,
    object_key,
    rendition_key,
)
from services.video.store import keeping as store
from services.video.store_contents import ObjectFacts

PAGE: Final = 1_000
"""Keys that are compared at once: as many as S3 lists in one answer."""

PAGE_PAUSE_SECONDS: Final = 0.05
"""Pause after each page: ten million objects take some minutes more, and calls find the store idle in between."""

UNDER_WAY: Final = timedelta(hours=1)
"""Younger objects without a manifest are uploads that are being sealed, which takes seconds, not orphans."""

STAGING_KEEP: Final = timedelta(days=2)
"""How long what was put straight to the store may wait without an upload that knows of it: an address to put a part to
is good for hours."""

FOUND_AGAIN: Final = "Found in the store by comparison, digest right 比对证据库时发现, 摘要相符"
NOWHERE: Final = "This platform sealed it and the store has no such object 本平台封存的文件在证据库中不存在"

_log = structlog.get_logger()


class Reconciler:
    """One run compares everything. From one thread."""

    def __init__(
        self,
        engine: Engine,
        objects: ObjectStore,
        checker: Checker,
        log: KeepingLog,
        own: str,
        clock: Clock,
        stopping: threading.Event,
    ) -> None:
        self._engine = engine
        self._objects = objects
        self._checker = checker
        self._log = log
        self._own = own
        self._clock = clock
        self._stopping = stopping

    def run(self, upload_keep: timedelta) -> None:
        """Compare store and tables, remove what nobody needs, and note when it was done.

        Raises StoreError, ServiceError, StoppedError; what was done until then stays, and the next run does the rest.
        """
        self._compare_objects()
        self._find_own()
        self._remove_orphans()
        self._remove_renditions()
        self._remove_staging(upload_keep)
        with translate_errors(), self._engine.begin() as pooled:
            connection = raw_connection(pooled)
            now = self._clock.now()
            store.mark_reconciled(connection, now)
            orphans = store.count_troubles(connection).orphan_count
        _log.info("store_reconciled", orphans=orphans)

    # Objects without a manifest, rows without an object

    def _compare_objects(self) -> None:
        after = b""
        for page in self._pages(self._objects.list(OBJECT_PREFIX)):
            listed = {digest: found for found in page if (digest := digest_of(found.key)) is not None}
            if not listed:
                continue
            self._look_at_listed(listed)
            through = max(listed)
            self._look_for_missing(after, through, listed.keys())
            after = through
        self._look_for_missing(after, None, ())

    def _look_at_listed(self, listed: dict[bytes, ObjectFacts]) -> None:
        now = self._clock.now()
        with translate_errors(), reading(self._engine) as pooled:
            kept = store.read_kept(raw_connection(pooled), sorted(listed), self._own)
        unnamed = [
            (digest, listed[digest].size_bytes)
            for digest, row in kept.items()
            if not row.is_named and now - listed[digest].modified_time > UNDER_WAY
        ]
        named = [digest for digest, row in kept.items() if row.is_named]
        again = [digest for digest, row in kept.items() if row.state == BytesState.DELETED]
        with translate_errors(), self._engine.begin() as pooled:
            connection = raw_connection(pooled)
            # The later of two clocks: one that was behind must not make an orphan look old once it is right.
            store.put_orphans(connection, unnamed, max(now, store.database_time(connection)))
            store.forget_orphans(connection, named)
            for digest in sorted(again):
                store.purge_again(connection, digest)
        for digest, row in sorted(kept.items()):
            is_unknown = row.is_named and row.state in (BytesState.BELOW, BytesState.WANTED)
            if is_unknown and now - listed[digest].modified_time > UNDER_WAY:
                self._take(digest, listed[digest].size_bytes)

    def _take(self, digest: bytes, size_bytes: int) -> None:
        """Take bytes that lie in the store though nobody knew: after a restore, or a kill right before the commit."""
        if self._checker.look(digest, size_bytes) is Finding.RIGHT and self._log.found(digest, size_bytes, FOUND_AGAIN):
            _log.info("object_found", digest=digest.hex(), size_bytes=size_bytes)

    def _look_for_missing(self, after: bytes, through: bytes | None, listed: Iterable[bytes]) -> None:
        there = set(listed)
        while True:
            with translate_errors(), reading(self._engine) as pooled:
                rows = store.read_held_between(raw_connection(pooled), after, through, PAGE)
            for row in rows:
                after = row.digest
                if row.digest not in there and not self._is_there(row.digest):
                    self._checker.check(row.digest, row.size_bytes)
            if len(rows) < PAGE:
                return

    def _is_there(self, digest: bytes) -> bool:
        # It may have been stored after its page was listed.
        try:
            self._objects.stat(object_key(digest))
        except ObjectMissingError:
            return False
        return True

    def _find_own(self) -> None:
        """Look for what this platform has sealed and does not know where it is: its manifests came back from above."""
        after = b""
        while True:
            with translate_errors(), reading(self._engine) as pooled:
                rows = store.read_elsewhere(raw_connection(pooled), self._own, after, PAGE)
            for digest, size_bytes in rows:
                after = digest
                if size_bytes is None:
                    continue
                self._check_stop()
                self._find(digest, size_bytes)
            if len(rows) < PAGE:
                return

    def _find(self, digest: bytes, size_bytes: int) -> None:
        finding = self._checker.look_twice(digest, size_bytes)
        if finding is Finding.RIGHT:
            self._log.found(digest, size_bytes, FOUND_AGAIN)
            return
        if finding is Finding.UNREADABLE and not self._log.unread(digest):
            return
        action, how = SAID[finding]
        how = NOWHERE if finding is Finding.MISSING else how
        if self._log.lost(digest, size_bytes, action, how):
            _log.error("object_damaged", digest=digest.hex(), finding=finding.value)
            self._checker.heal(digest, size_bytes, finding)

    # What nobody needs

    def _remove_orphans(self) -> None:
        """Remove orphans that have been seen long enough; none while own manifests may still be on their way back."""
        with translate_errors(), reading(self._engine) as pooled:
            connection = raw_connection(pooled)
            head = read_own_head(connection)
            # The earlier of two clocks: one that jumps ahead must not remove what may find its manifest yet.
            now = min(self._clock.now(), store.database_time(connection))
        if head is None or head.is_recovering:
            return
        after = b""
        while True:
            with translate_errors(), reading(self._engine) as pooled:
                orphans = store.read_orphans(raw_connection(pooled), after, PAGE)
            for digest, found_time in orphans:
                after = digest
                self._check_stop()
                is_due = now - found_time > ORPHAN_KEEP
                if is_due or not self._is_there(digest):
                    self._remove_orphan(digest)
            if len(orphans) < PAGE:
                return

    def _remove_orphan(self, digest: bytes) -> None:
        with translate_errors(), self._engine.begin() as pooled:
            connection = raw_connection(pooled)
            store.lock_object_to_delete(connection, digest)
            if not store.is_named(connection, digest):
                result = self._objects.delete(object_key(digest))
                for name in RENDITIONS:
                    self._objects.delete(rendition_key(digest, name))
                if result.kept_count:
                    return
                if result.deleted_count:
                    _log.info("orphan_removed", digest=digest.hex())
            store.forget_orphans(connection, [digest])

    def _remove_renditions(self) -> None:
        """Remove previews of bytes that nobody names: they prove nothing."""
        for page in self._pages(self._objects.list(RENDITION_PREFIX)):
            keys = {found.key: _digest_of_rendition(found.key) for found in page if self._is_old(found, ORPHAN_KEEP)}
            digests = sorted({digest for digest in keys.values() if digest is not None})
            with translate_errors(), reading(self._engine) as pooled:
                kept = store.read_kept(raw_connection(pooled), digests, self._own)
            for key, digest in keys.items():
                row = kept.get(digest) if digest is not None else None
                if row is None or not row.is_named or row.state == BytesState.DELETED:
                    self._objects.delete(key)

    def _remove_staging(self, upload_keep: timedelta) -> None:
        """Remove what was put straight to the store and that no upload knows."""
        with translate_errors(), reading(self._engine) as pooled:
            under_way = store.known_multiparts(raw_connection(pooled))
        # Whoever goes on with an upload has its time extended: it may be older than any limit.
        self._objects.abort_stale_multiparts(self._clock.now() - upload_keep - STAGING_KEEP, under_way)
        for page in self._pages(self._objects.list(STAGING_PREFIX)):
            old = [found.key for found in page if self._is_old(found, upload_keep + STAGING_KEEP)]
            with translate_errors(), reading(self._engine) as pooled:
                known = store.known_staging_keys(raw_connection(pooled), old)
            for key in old:
                if key not in known:
                    self._objects.delete(key)

    def _is_old(self, found: ObjectFacts, keep: timedelta) -> bool:
        return self._clock.now() - found.modified_time > keep

    def _pages(self, found: Iterator[ObjectFacts]) -> Iterator[list[ObjectFacts]]:
        while page := list(islice(found, PAGE)):
            self._check_stop()
            yield page
            self._stopping.wait(PAGE_PAUSE_SECONDS)

    def _check_stop(self) -> None:
        if self._stopping.is_set():
            raise StoppedError


def _digest_of_rendition(key: str) -> bytes | None:
    """Return the digest that the key of a preview names, None for any other key."""
    return digest_of(OBJECT_PREFIX + key.removeprefix(RENDITION_PREFIX).rpartition("/")[0])
