"""The bytes of uploads under way, on local disk: bounded, kept for a while after a break, swept at the start and later.

A file's name says everything about it, so that nothing else has to be kept in step with it. Knows no journal and no
store; what is spooled is not evidence yet.
"""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

import structlog

from services.common.clock import Clock
from services.common.settings import SettingsError
from services.video import refusals_uploading as refusals
from services.video.spool_entry import SpoolEntry, files

GROUP_SHARE: Final = 4
"""A source unit takes at most this part of the spool with more than one upload: no site can keep out all others."""

UPLOADS_MAX: Final = 20_000
"""Uploads under way, also those that broke off: files in one directory, and as many rows in memory (10 MB). A county's
340 scales with 16 breaks a day each take a quarter of it."""

GROUP_UPLOADS_MAX: Final = 2_000
"""Of these, of one source unit: a terminal that gives up after every chunk does not fill the table."""

SWEEP_SECONDS: Final = 60.0
"""How often what has expired is looked for; nobody waits for it."""

HASH_CHUNK_BYTES: Final = 1 << 20
"""Read at once when what is here is hashed again."""

_SUFFIX: Final = ".part"
_LOCK_FILE: Final = "spool.lock"
_FILE_NAME: Final = re.compile(
    r"(?P<group>[A-Za-z0-9_-]{1,64})~(?P<name>[A-Za-z0-9._:-]{1,96})~(?P<digest>[0-9a-f]{64})~(?P<size>[0-9]{1,19})\.part"
)

# What a disk says when it is full, also by quota.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_log = structlog.get_logger()


class SpoolKey(NamedTuple):
    """What is uploaded: whose it is (a source unit, a platform below), and its name among theirs."""

    group: str
    name: str


@dataclass(frozen=True, slots=True)
class SpooledUpload:
    """An upload as it stands in the spool."""

    digest: bytes
    size_bytes: int
    received_bytes: int
    expire_time: datetime


@dataclass(frozen=True, slots=True)
class SpoolUsage:
    """How many uploads are under way, and the bytes that they hold."""

    upload_count: int
    received_bytes: int


class OpenUpload:
    """One upload that a call goes on with. Used by one thread; `received_bytes` were hashed."""

    def __init__(self, spool: "Spool", key: SpoolKey, path: Path, size_bytes: int) -> None:
        self._spool = spool
        self._key = key
        self.path = path
        self.size_bytes = size_bytes
        self.received_bytes = 0
        self._sha256 = hashlib.sha256()
        self._descriptor: int | None = None
        self._is_discarded = False

    def append(self, chunk: bytes | memoryview) -> None:
        """Add bytes. Raises ServiceError UPLOAD_SPACE_EXHAUSTED on a full disk; then all that came is forgotten.

        ValueError for more than the size: nothing of the chunk is kept.
        """
        if self.received_bytes + len(chunk) > self.size_bytes:
            raise ValueError("more bytes than the upload has")
        if not chunk:
            return
        try:
            descriptor = self._opened()
            left = memoryview(chunk)
            while left:
                # A disk that is nearly full takes a part of it.
                left = left[os.write(descriptor, left) :]
        except OSError as error:
            # How much of it was written is not known, and on a full disk room is what is needed.
            self.discard()
            if error.errno in _FULL:
                _log.warning("spool_disk_full", received_bytes=self.received_bytes)
                raise refusals.no_space(self.size_bytes) from error
            raise
        self._sha256.update(chunk)
        self.received_bytes += len(chunk)

    def digest(self) -> bytes:
        """Return the SHA-256 of what was received."""
        return self._sha256.digest()

    def discard(self) -> None:
        """Forget all that was received when the call ends."""
        self._is_discarded = True

    def _opened(self) -> int:
        if self._descriptor is None:
            # Without a buffer: what came is with the kernel, and a kill of the process loses nothing.
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        return self._descriptor

    def _take_up(self) -> None:
        """Hash what is here already. A file that is longer than the upload is none of ours and begins anew."""
        with suppress(FileNotFoundError), self.path.open("rb") as file:
            while chunk := file.read(HASH_CHUNK_BYTES):
                self.received_bytes += len(chunk)
                if self.received_bytes > self.size_bytes:
                    break
                self._sha256.update(chunk)
        if self.received_bytes > self.size_bytes:
            self.path.unlink()
            self.received_bytes = 0
            self._sha256 = hashlib.sha256()

    def __enter__(self) -> Self:
        """Take up what is here."""
        try:
            self._take_up()
        except BaseException:
            self._spool.close(self._key, self.received_bytes, is_kept=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Keep what came for whoever goes on, or forget it."""
        try:
            if self._descriptor is not None:
                os.close(self._descriptor)
        finally:
            self._spool.close(self._key, self.received_bytes, is_kept=not self._is_discarded)


class Spool:
    """A directory with the bytes of uploads under way. Thread safe; of one process at a time."""

    def __init__(self, directory: Path, bytes_max: int, keep: timedelta, clock: Clock) -> None:
        self._directory = directory
        self._bytes_max = bytes_max
        self._keep = keep
        self._clock = clock
        self._guard = threading.Lock()
        self._entries: dict[SpoolKey, SpoolEntry] = {}
        # Those that calls have open: as many as a service has streams.
        self._open: dict[SpoolKey, SpoolEntry] = {}
        # Sums over the entries, so that no call looks at all of them.
        self._taken_bytes = 0
        self._received_bytes = 0
        self._group_bytes: Counter[str] = Counter()
        self._group_uploads: Counter[str] = Counter()
        self._lock: int | None = None

    def start(self) -> None:
        """Make the directory, take it for this process, and learn what is in it; what has expired is deleted.

        Raises SettingsError when it cannot be used, or another process uses it.
        """
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self._directory / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SettingsError(
                f"ZHICHAO_VIDEO_SPOOL_DIRECTORY: {self._directory} cannot be used: {error.strerror}"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise SettingsError(
                f"ZHICHAO_VIDEO_SPOOL_DIRECTORY: another process uses {self._directory}: give each one of its own"
            ) from error
        self._lock = lock
        found = self._learn()
        expired = self.sweep()
        _log.info("spool_opened", uploads=found - expired, expired=expired, received_bytes=self._received_bytes)

    def stop(self) -> None:
        """Let go of the directory; what is in it stays for the next start."""
        with self._guard:
            self._entries.clear()
            self._open.clear()
            self._taken_bytes = self._received_bytes = 0
            self._group_bytes.clear()
            self._group_uploads.clear()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def open(self, key: SpoolKey, digest: bytes, size_bytes: int) -> OpenUpload:
        """Begin an upload or go on with it; the caller enters what is returned, which ends it.

        What was received of other bytes under the key is forgotten. Raises ServiceError UPLOAD_BUSY while another call
        has it, UPLOAD_SPACE_EXHAUSTED when there is no room for the whole of it.
        """
        path = self._directory / f"{key.group}~{key.name}~{digest.hex()}~{size_bytes}{_SUFFIX}"
        if _FILE_NAME.fullmatch(path.name) is None:
            raise ValueError(f"{path.name} cannot be read again")
        with self._guard:
            held = self._entries.get(key)
            if held is not None and held.is_open:
                raise refusals.busy()
            if held is not None and (held.digest, held.size_bytes) != (digest, size_bytes):
                self._forget(key)
                held = None
            received = held.received_bytes if held is not None else 0
            if not self._has_room(key, size_bytes - received, is_new=held is None):
                raise refusals.no_space(self._bytes_max)
            entry = held or SpoolEntry(path, digest, size_bytes, 0, self._clock.now())
            if held is None:
                self._add(key, entry)
            self._set(key, entry, received, is_open=True)
        return OpenUpload(self, key, path, size_bytes)

    def find(self, key: SpoolKey) -> SpooledUpload | None:
        """Return what is here of an upload, as of now; None when there is nothing, or it has expired."""
        with self._guard:
            entry = self._entries.get(key)
            if entry is None:
                return None
            received = entry.received_bytes
            if entry.is_open:
                received = entry.written_bytes()
                expire_time = self._clock.now() + self._keep
            else:
                expire_time = entry.touched_time + self._keep
                if expire_time <= self._clock.now():
                    return None
            return SpooledUpload(entry.digest, entry.size_bytes, received, expire_time) if received else None

    def forget(self, key: SpoolKey) -> None:
        """Delete what is here of an upload that no call has open."""
        with self._guard:
            entry = self._entries.get(key)
            if entry is not None and not entry.is_open:
                self._forget(key)

    def usage(self) -> SpoolUsage:
        """Return how much is here."""
        with self._guard:
            return SpoolUsage(len(self._entries), self._received_bytes)

    def step(self) -> float:
        """Delete what has expired, and return the seconds until the next time."""
        self.sweep()
        return SWEEP_SECONDS

    def sweep(self) -> int:
        """Delete what has expired, and return how many uploads that were."""
        limit = self._clock.now() - self._keep
        with self._guard:
            expired = [key for key, entry in self._entries.items() if not entry.is_open and entry.touched_time <= limit]
        for key in expired:
            # One at a time: ten thousand deletions must not hold up a call.
            with self._guard:
                entry = self._entries.get(key)
                if entry is not None and not entry.is_open and entry.touched_time <= limit:
                    self._forget(key)
        if expired:
            _log.info("spool_swept", uploads=len(expired))
        return len(expired)

    def close(self, key: SpoolKey, received_bytes: int, *, is_kept: bool) -> None:
        """End a call's hold on an upload. For OpenUpload."""
        with self._guard:
            entry = self._entries.get(key)
            if entry is None:
                return
            self._set(key, entry, received_bytes, is_open=False)
            entry.touched_time = self._clock.now()
            if not is_kept or not received_bytes:
                self._forget(key)

    # Under the guard

    def _has_room(self, key: SpoolKey, more_bytes: int, *, is_new: bool) -> bool:
        if is_new:
            if len(self._entries) >= UPLOADS_MAX or self._group_uploads[key.group] >= GROUP_UPLOADS_MAX:
                return False
            others = self._group_uploads[key.group]
        else:
            others = self._group_uploads[key.group] - 1
        if self._taken_bytes + more_bytes > self._bytes_max:
            return False
        if others and self._group_bytes[key.group] + more_bytes > self._bytes_max // GROUP_SHARE:
            return False
        # What others have been let in for, and have not written yet, is free only until it comes.
        return shutil.disk_usage(self._directory).free - self._coming_bytes() >= more_bytes

    def _coming_bytes(self) -> int:
        """Return how much the open uploads will still write."""
        return sum(entry.size_bytes - entry.written_bytes() for entry in self._open.values())

    def _add(self, key: SpoolKey, entry: SpoolEntry) -> None:
        self._entries[key] = entry
        self._group_uploads[key.group] += 1
        self._taken_bytes += entry.taken_bytes
        self._group_bytes[key.group] += entry.taken_bytes
        self._received_bytes += entry.received_bytes

    def _set(self, key: SpoolKey, entry: SpoolEntry, received_bytes: int, *, is_open: bool) -> None:
        taken = entry.taken_bytes
        self._received_bytes += received_bytes - entry.received_bytes
        entry.received_bytes, entry.is_open = received_bytes, is_open
        if is_open:
            self._open[key] = entry
        else:
            self._open.pop(key, None)
        self._taken_bytes += entry.taken_bytes - taken
        self._group_bytes[key.group] += entry.taken_bytes - taken

    def _forget(self, key: SpoolKey) -> None:
        entry = self._entries.pop(key)
        self._open.pop(key, None)
        self._taken_bytes -= entry.taken_bytes
        self._received_bytes -= entry.received_bytes
        self._group_bytes[key.group] -= entry.taken_bytes
        self._group_uploads[key.group] -= 1
        if not self._group_uploads[key.group]:
            del self._group_uploads[key.group], self._group_bytes[key.group]
        with suppress(FileNotFoundError):
            entry.path.unlink()

    def _learn(self) -> int:
        """Read the directory. Files that no release of ours has written are left alone."""
        now = self._clock.now()
        for path, status in files(self._directory):
            matched = _FILE_NAME.fullmatch(path.name)
            if matched is None:
                if path.name != _LOCK_FILE:
                    _log.warning("spool_file_unknown", file=path.name[:80])
                continue
            key, size_bytes = SpoolKey(matched["group"], matched["name"]), int(matched["size"])
            # A clock that was wrong must not keep a file for ever.
            touched = min(datetime.fromtimestamp(status.st_mtime, UTC), now)
            entry = SpoolEntry(path, bytes.fromhex(matched["digest"]), size_bytes, status.st_size, touched)
            if not 0 < status.st_size <= size_bytes:
                path.unlink(missing_ok=True)
                continue
            with self._guard:
                held = self._entries.get(key)
                if held is not None:
                    # Left by a process that was killed between two drafts: the newer one is gone on with.
                    if held.touched_time >= touched:
                        path.unlink(missing_ok=True)
                        continue
                    self._forget(key)
                self._add(key, entry)
        return len(self._entries)
