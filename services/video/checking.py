"""Looks whether the store still has bytes as they were sealed, writes down what it finds, and heals what it can from
the store's own versions. What it cannot heal is wanted from below (`wanted`).
"""

import hashlib
import secrets
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from enum import Enum
from itertools import islice
from typing import Final

import structlog

from services.common.clock import Clock
from services.common.database import Engine, raw_connection, translate_errors
from services.common.errors import ServiceError
from services.video.custody import CustodyAction
from services.video.keeping_log import KeepingLog
from services.video.keeping_rules import Pace
from services.video.object_store import (
    OBJECT_PREFIX,
    ObjectMissingError,
    ObjectStore,
    StoreRefusedError,
    StoreUnavailableError,
    object_key,
)
from services.video.store import checks as check_store

MISSING: Final = "The store has no such object 证据库中无此文件"
CHANGED: Final = "The object in the store has other bytes than its digest says 证据库中的文件与摘要不符"
UNREADABLE: Final = (
    "The store has not been able to read this object for hours, and could read others 证据库持续数小时无法读取此文件"
)
RIGHT_AGAIN: Final = "The object in the store is right again 证据库中的文件已恢复正确"
MARKER_REMOVED: Final = "A deletion was undone: the store had kept the version 已撤销删除, 证据库保留了原版本"
VERSION_REMOVED: Final = (
    "A version that was put over it was removed: the store had kept the right one 已移除覆盖版本, 证据库保留了原版本"
)
VERSION_RAISED: Final = (
    "The right version, which the store had kept, was copied over the other ones 证据库保留的正确版本已复制为当前版本"
)

PROBES_MAX: Final = 5
"""Other objects that are tried where one cannot be read. None of five by chance: then it is the store and not the
object."""

UNREADABLE_ERRORS: Final = (StoreUnavailableError, StoreRefusedError)
"""What a store answers that is away, and what for bytes that have rotted on its disk: both reference stores compare
blocks, and give an error of the server instead of wrong bytes."""

_log = structlog.get_logger()


class Finding(Enum):
    """What a look at one object found."""

    RIGHT = "right"
    MISSING = "missing"
    CHANGED = "changed"
    UNREADABLE = "unreadable"
    """The store cannot give these bytes, and can give others."""


SAID: Final[Mapping[Finding, tuple[CustodyAction, str]]] = {
    Finding.MISSING: (CustodyAction.FOUND_MISSING, MISSING),
    Finding.CHANGED: (CustodyAction.FOUND_CHANGED, CHANGED),
    Finding.UNREADABLE: (CustodyAction.FOUND_CHANGED, UNREADABLE),
}
"""What is written into custody."""


def suspect(engine: Engine, digest: bytes, now: datetime) -> None:
    """Let the scrubber read next what somebody could not read: whether it is the store or these bytes it finds out.

    So one reader is told to come again, and nobody for ever. Raises nothing: whoever reads is told of the store.
    """
    with suppress(ServiceError), translate_errors(), engine.begin() as pooled:
        check_store.suspect_unread(raw_connection(pooled), digest, now)


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
        try:
            return self._read(digest, size_bytes, version_id)
        except ObjectMissingError:
            # Of the right store: one that was named by mistake has none of these objects.
            self._store.check()
            return Finding.MISSING
        except UNREADABLE_ERRORS as error:
            if not self._reads_others(digest):
                raise
            _log.warning("object_unreadable", digest=digest.hex(), error=str(error))
            return Finding.UNREADABLE

    def look_twice(self, digest: bytes, size_bytes: int) -> Finding:
        """Look, and once more when it seems missing or changed: an accusation is written for good, and a fault of the
        way is none of the store's.
        """
        finding = self.look(digest, size_bytes)
        # What cannot be read is tried again for hours; stores try for many seconds by themselves.
        is_final = finding in (Finding.RIGHT, Finding.UNREADABLE)
        return finding if is_final else self.look(digest, size_bytes)

    def check(self, digest: bytes, size_bytes: int) -> Finding:
        """Look at an object that should be here, note that it is, or write down and heal what is wrong.

        Returns how it is now. What cannot be read is only noted at first, and is to be checked again.
        """
        finding = self.look_twice(digest, size_bytes)
        if finding is Finding.RIGHT:
            self._log.checked(digest)
            return finding
        if finding is Finding.UNREADABLE and not self._log.unread(digest):
            return finding
        self.accuse(digest, size_bytes, finding)
        return self.heal(digest, size_bytes, finding)

    def accuse(self, digest: bytes, size_bytes: int, finding: Finding) -> None:
        """Write down what was found, unless that was done before."""
        action, how = SAID[finding]
        if action is CustodyAction.FOUND_MISSING:
            is_news = self._log.found_missing(digest, how)
        else:
            is_news = self._log.found_changed(digest, how)
        if is_news:
            _log.error("object_damaged", digest=digest.hex(), finding=finding.value, size_bytes=size_bytes)

    def heal(self, digest: bytes, size_bytes: int, finding: Finding) -> Finding:
        """Bring a damaged object back from the store's versions if they have it. Returns how it is now."""
        if finding is Finding.MISSING:
            how = MARKER_REMOVED if self._store.restore(object_key(digest)) else ""
        else:
            how = self._uncover(digest, size_bytes)
        if not how:
            return finding
        now = self.look(digest, size_bytes)
        if now is not Finding.RIGHT and finding is Finding.MISSING and now is not Finding.MISSING:
            # What a deletion hid was not right either.
            return self.heal(digest, size_bytes, now)
        if now is Finding.RIGHT and self._log.restored(digest, how):
            _log.info("object_restored", digest=digest.hex(), how=how)
        return now

    def clear(self, digest: bytes, size_bytes: int, *, is_marked: bool = True) -> bool:
        """Make room for the right bytes where wrong ones are, before they are put; False if they are right already.

        Wrong versions are removed; what the store keeps locked, or cannot read, is hidden and stays. Bytes that cannot
        be read are nowhere deleted unless the object is marked as damaged: they may be right. Raises
        StoreUnavailableError then where the bucket keeps no versions.
        """
        key = object_key(digest)
        seen = [one for one in self._store.versions(key) if not one.is_delete_marker]
        finding = self.look(digest, size_bytes)
        for version in seen:
            # Only what was read, one after the other: right bytes may come meanwhile, from somebody who seals them.
            if finding is not Finding.CHANGED or not self._store.remove_version(key, version.version_id):
                break
            finding = self.look(digest, size_bytes)
        if finding is Finding.RIGHT:
            return False
        if finding is not Finding.MISSING and not self._store.hide(key):
            if not is_marked:
                raise StoreUnavailableError(f"the store has {key} and cannot read it 证据库无法读取该文件")
            self._store.delete(key)
        return True

    def _read(self, digest: bytes, size_bytes: int, version_id: str | None) -> Finding:
        found = hashlib.sha256(usedforsecurity=False)
        count = 0
        with self._store.read(object_key(digest), version_id=version_id) as chunks:
            if chunks.size_bytes != size_bytes:
                return Finding.CHANGED
            for chunk in chunks:
                found.update(chunk)
                count += len(chunk)
                if self._stopping.wait(self._pace.took(len(chunk), self._clock.monotonic())):
                    raise StoppedError
        return Finding.RIGHT if count == size_bytes and found.digest() == digest else Finding.CHANGED

    def _reads_others(self, digest: bytes) -> bool:
        """Say whether the store gives any of some other objects; True also where it has no other.

        Raises StoreError when it is away altogether.
        """
        self._store.check()
        own = object_key(digest)
        # From anywhere: always the same neighbours might lie on the one disk that is away.
        somewhere = object_key(secrets.token_bytes(hashlib.sha256().digest_size))
        behind = [found.key for found in islice(self._store.list(OBJECT_PREFIX, somewhere), PROBES_MAX + 1)]
        begin = [found.key for found in islice(self._store.list(OBJECT_PREFIX), PROBES_MAX + 1)]
        others = [key for key in dict.fromkeys([*behind, *begin]) if key != own][:PROBES_MAX]
        return not others or any(self._gives(key) for key in others)

    def _gives(self, key: str) -> bool:
        try:
            with self._store.read(key, 0, 1) as chunks:
                next(chunks, b"")
        except (ObjectMissingError, *UNREADABLE_ERRORS):
            return False
        return True

    def _uncover(self, digest: bytes, size_bytes: int) -> str:
        """Let the newest right version be the current one; return how, empty without one.

        Wrong ones over it are removed. Where the store keeps one of them locked, or cannot read it, the right one is
        copied on top instead.
        """
        key = object_key(digest)
        wrong: list[str] = []
        are_readable = True
        for version in self._store.versions(key):
            if version.is_delete_marker:
                continue
            may_be_right = version.size_bytes == size_bytes and bool(version.version_id)
            finding = self.look(digest, size_bytes, version_id=version.version_id) if may_be_right else Finding.CHANGED
            if finding is Finding.RIGHT:
                right = version.version_id
                break
            are_readable = are_readable and finding is not Finding.UNREADABLE
            wrong.append(version.version_id)
        else:
            return ""
        if are_readable and all(self._store.remove_version(key, version_id) for version_id in wrong):
            return VERSION_REMOVED if self._store.restore(key) else ""
        self._store.raise_version(key, right)
        return VERSION_RAISED
