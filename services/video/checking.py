"""Looks whether the store still has bytes as they were sealed, writes down what it finds, and heals what it can from
the store's own versions. What it cannot heal is wanted from below (`wanted`).
"""

import hashlib
import threading
from enum import Enum
from typing import Final

import structlog

from services.common.clock import Clock
from services.video.keeping_log import KeepingLog
from services.video.keeping_rules import Pace
from services.video.object_store import ObjectMissingError, ObjectStore, object_key

MISSING: Final = "The store has no such object 证据库中无此文件"
CHANGED: Final = "The object in the store has other bytes than its digest says 证据库中的文件与摘要不符"
RIGHT_AGAIN: Final = "The object in the store is right again 证据库中的文件已恢复正确"
MARKER_REMOVED: Final = "A deletion was undone: the store had kept the version 已撤销删除, 证据库保留了原版本"
VERSION_REMOVED: Final = (
    "A version that was put over it was removed: the store had kept the right one 已移除覆盖版本, 证据库保留了原版本"
)

_log = structlog.get_logger()


class Finding(Enum):
    """What a look at one object found."""

    RIGHT = "right"
    MISSING = "missing"
    CHANGED = "changed"


class StoppedError(Exception):
    """The service stops: what was begun is begun anew after the next start."""


class Checker:
    """Reads objects again. One thread at a time; raises StoreError while the store is away, and StoppedError."""

    def __init__(
        self, store: ObjectStore, log: KeepingLog, clock: Clock, stopping: threading.Event, bytes_per_second: int
    ) -> None:
        self._store = store
        self._log = log
        self._clock = clock
        self._stopping = stopping
        self._pace = Pace(bytes_per_second)

    def look(self, digest: bytes, size_bytes: int, *, version_id: str | None = None) -> Finding:
        """Read an object, or one version of it, and compare size and digest. Nothing is written."""
        found = hashlib.sha256(usedforsecurity=False)
        count = 0
        try:
            with self._store.read(object_key(digest), version_id=version_id) as chunks:
                if chunks.size_bytes != size_bytes:
                    return Finding.CHANGED
                for chunk in chunks:
                    found.update(chunk)
                    count += len(chunk)
                    if self._stopping.wait(self._pace.took(len(chunk), self._clock.monotonic())):
                        raise StoppedError
        except ObjectMissingError:
            return Finding.MISSING
        return Finding.RIGHT if count == size_bytes and found.digest() == digest else Finding.CHANGED

    def check(self, digest: bytes, size_bytes: int) -> Finding:
        """Look at an object that should be here, and write down and heal what is wrong. Returns how it is now."""
        finding = self.look(digest, size_bytes)
        if finding is not Finding.RIGHT:
            # Once more, because an accusation is written for good and a fault of the way is none of the store's.
            finding = self.look(digest, size_bytes)
        if finding is Finding.RIGHT:
            return finding
        if finding is Finding.MISSING:
            is_news = self._log.found_missing(digest, MISSING)
        else:
            is_news = self._log.found_changed(digest, CHANGED)
        if is_news:
            _log.error("object_damaged", digest=digest.hex(), finding=finding.value, size_bytes=size_bytes)
        return self.heal(digest, size_bytes, finding)

    def heal(self, digest: bytes, size_bytes: int, finding: Finding) -> Finding:
        """Bring a damaged object back from the store's versions if they have it. Returns how it is now."""
        if finding is Finding.MISSING:
            healed = self._store.restore(object_key(digest))
            how = MARKER_REMOVED
        else:
            healed = self._uncover(digest, size_bytes)
            how = VERSION_REMOVED
        if not healed:
            return finding
        now = self.look(digest, size_bytes)
        if now is Finding.CHANGED and finding is Finding.MISSING:
            # What a deletion hid was not right either.
            return self.heal(digest, size_bytes, now)
        if now is Finding.RIGHT and self._log.restored(digest, how):
            _log.info("object_restored", digest=digest.hex(), how=how)
        return now

    def clear(self, digest: bytes, size_bytes: int) -> bool:
        """Make room for the right bytes where wrong ones are, before they are put; False if they are right already.

        Only for an object that is marked damaged: what the store keeps locked stays and may be the right version.
        """
        if self.look(digest, size_bytes) is Finding.RIGHT:
            return False
        self._store.delete(object_key(digest))
        return self.look(digest, size_bytes) is not Finding.RIGHT

    def _uncover(self, digest: bytes, size_bytes: int) -> bool:
        """Remove what lies over the newest right version; False without one, or if the store keeps a wrong one."""
        key = object_key(digest)
        wrong: list[str] = []
        for version in self._store.versions(key):
            if version.is_delete_marker:
                continue
            may_be_right = version.size_bytes == size_bytes and bool(version.version_id)
            if may_be_right and self.look(digest, size_bytes, version_id=version.version_id) is Finding.RIGHT:
                break
            wrong.append(version.version_id)
        else:
            return False
        if not all(self._store.remove_version(key, version_id) for version_id in wrong):
            _log.error("object_locked_while_wrong", digest=digest.hex(), versions=len(wrong))
            return False
        return self._store.restore(key)
