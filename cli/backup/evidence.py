"""The evidence of a backup: the bytes from the platform's own S3 server, each compared with its digest, beside the
databases that name them; or, where the store is somebody else's, the list by which a copy of it is checked.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cli.backup import database, evidence_list
from cli.backup.evidence_list import LIST_FILE, ListedObject
from cli.backup.record import BackupError, EvidenceRecord, digest_of
from cli.object_server import ObjectServer, ObjectServerError
from cli.platform_layout import PlatformFiles, free_port
from services.video.config import VideoSettings
from services.video.object_store import (
    ObjectMissingError,
    ObjectStore,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
    object_key,
)
from services.video.s3_connection import S3Settings
from services.video.s3_store import S3ObjectStore

EVIDENCE_DIRECTORY: Final = "evidence"
BUCKET: Final = str(VideoSettings.model_fields["s3_bucket"].default)
"""The bucket of a platform's own S3 server."""

WORKERS: Final = 4
"""Objects that are copied at once: small ones cost more waiting than reading."""

UNREADABLE_MAX: Final = 100
"""Objects that the store has and cannot read, beyond which it is no disk that has rotted here and there but a store
that is away: a backup of what is left would pass for one of all."""

BEGIN_SECONDS_MAX: Final = 60.0
"""A server that has just begun answers for some seconds before it gives bytes: so long nothing is called unreadable
while nothing was read."""

AGAIN_SECONDS: Final = 1.0
"""Pause before an object is tried again."""

RESTORING_SUFFIX: Final = ".restoring"

# What a store answers for bytes that have rotted on its disk, too: it compares its own blocks.
_UNREADABLE: Final = (StoreUnavailableError, StoreRefusedError)


@contextmanager
def own_store(files: PlatformFiles, endpoint: str) -> Iterator[ObjectStore]:
    """Give the platform's own store: the one that answers at `endpoint`, or one that is started for this.

    Raises BackupError when it does not start.
    """
    with _opened(files, endpoint) if endpoint else _started(files, files.object_server) as store:
        yield store


def copy(store: ObjectStore, url: str, target: Path, earlier: Path | None = None) -> EvidenceRecord:
    """Copy everything that a database says is held into `target`, and list it.

    What the store has lost, or cannot read, is left out and named in the record. Objects that `earlier`, the evidence
    of another backup, has are linked where that is on the same disk. Raises BackupError.
    """
    missing: list[str] = []
    unreadable = _Unreadable(store)

    def take(one: ListedObject) -> ListedObject | None:
        place = target / one.path
        with contextlib.suppress(FileExistsError):
            place.parent.mkdir(parents=True)
        if earlier is not None and _is_linked(earlier / one.path, place, one):
            return one
        try:
            return one if unreadable.tries(one, lambda: _fetch(store, one, place)) else None
        except (ObjectMissingError, _WrongBytesError):
            missing.append(one.digest.hex())
            return None

    try:
        target.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(WORKERS) as pool:
            taken = (one for one in pool.map(take, database.read_objects(url)) if one is not None)
            summary = evidence_list.write(target / LIST_FILE, taken)
    except StoreError as error:
        raise BackupError(f"the evidence store: {error} 证据库出错") from error
    except OSError as error:
        raise BackupError(f"{target} cannot be written: {error.strerror} 无法写入") from error
    if unreadable.digests and not summary.object_count:
        raise BackupError(f"the evidence store gives none of its objects: {unreadable.said} 证据库中的文件均无法读取")
    return EvidenceRecord("copied", *_figures(summary), sorted(missing), sorted(unreadable.digests))


def list_only(url: str, target: Path) -> EvidenceRecord:
    """List what should be held, for a store that is backed up with its own means. Raises BackupError."""
    summary = evidence_list.write(target / LIST_FILE, database.read_objects(url))
    return EvidenceRecord("listed", *_figures(summary), [])


def check(record: EvidenceRecord, directory: Path) -> None:
    """Compare the list, and where bytes were copied each of them. Raises BackupError that names the first wrong one."""
    listed = directory / LIST_FILE
    if digest_of(listed) != record.list_sha256:
        raise BackupError(f"{listed} is not the list that the backup was made with 证据清单与制作时不符")
    if record.mode != "copied":
        return

    def compare(one: ListedObject) -> str:
        place = directory / one.path
        is_right = place.is_file() and place.stat().st_size == one.size_bytes
        return "" if is_right and digest_of(place) == one.digest.hex() else str(place)

    with ThreadPoolExecutor(WORKERS) as pool:
        wrong = [place for place in pool.map(compare, evidence_list.read(listed)) if place]
    if wrong:
        raise BackupError(
            f"{len(wrong)} objects are missing or changed, the first is {wrong[0]} 备份中的证据文件缺失或损坏"
        )


def compare_store(store: ObjectStore, listed: Path, *, is_fast: bool, tell: Callable[[str, str], None]) -> int:
    """Compare a store with a list and return how many objects are wrong; `tell` is given the digest and what is wrong.

    Reads every byte, or with `is_fast` asks for sizes only. Raises BackupError.
    """
    unreadable = _Unreadable(store)

    def look(one: ListedObject) -> tuple[ListedObject, str]:
        try:
            if is_fast:
                return one, "" if store.stat(object_key(one.digest)).size_bytes == one.size_bytes else "changed"
            found = hashlib.sha256(usedforsecurity=False)
            with store.read(object_key(one.digest)) as chunks:
                for chunk in chunks:
                    found.update(chunk)
        except ObjectMissingError:
            return one, "missing"
        except _UNREADABLE as error:
            unreadable.add(one, error)
            return one, "unreadable"
        return one, "" if found.digest() == one.digest else "changed"

    wrong = 0
    try:
        with ThreadPoolExecutor(WORKERS) as pool:
            for one, what in pool.map(look, evidence_list.read(listed)):
                if what:
                    wrong += 1
                    tell(one.digest.hex(), what)
    except StoreError as error:
        raise BackupError(f"the evidence store: {error} 证据库出错") from error
    return wrong


def restore(directory: Path, files: PlatformFiles, url: str) -> None:
    """Put the bytes of a backup into an S3 server of the platform's own, beside its place (see `finish`).

    Locked as long as the restored database `url` keeps them, and under hold where it holds them. The bytes have been
    checked. Raises BackupError.
    """
    staging = staging_of(files)
    kept, held = database.read_retained(url), database.read_held(url)
    with _started(files, staging) as store:
        try:
            store.ensure_bucket()

            def put(one: ListedObject) -> None:
                store.put(one.digest, directory / one.path, one.size_bytes, retain_until=kept.get(one.digest))
                if one.digest in held:
                    store.set_hold(object_key(one.digest), is_held=True)

            with ThreadPoolExecutor(WORKERS) as pool:
                for _ in pool.map(put, evidence_list.read(directory / LIST_FILE)):
                    pass
        except StoreError as error:
            raise BackupError(f"the evidence cannot be restored: {error} 证据无法恢复") from error


def staging_of(files: PlatformFiles) -> Path:
    """Return where evidence is restored before all of it is there."""
    return files.object_server.with_name(files.object_server.name + RESTORING_SUFFIX)


@contextmanager
def _started(files: PlatformFiles, directory: Path) -> Iterator[ObjectStore]:
    server = ObjectServer(
        directory,
        port=free_port(),
        access_key_file=files.object_access_key,
        secret_key_file=files.object_secret_key,
    )
    try:
        server.start()
    except ObjectServerError as error:
        raise BackupError(f"the evidence store does not start: {error} 证据库无法启动") from error
    try:
        with _opened(files, server.endpoint) as store:
            yield store
    finally:
        server.stop()


@contextmanager
def _opened(files: PlatformFiles, endpoint: str) -> Iterator[ObjectStore]:
    store = S3ObjectStore(S3Settings(endpoint, BUCKET, files.object_access_key, files.object_secret_key))
    try:
        yield store
    finally:
        store.close()


class _Unreadable:
    """Objects that a store has and cannot read, while it answers for others."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.digests: list[str] = []
        self.said = ""
        self._gives_others = False
        self._until = time.monotonic() + BEGIN_SECONDS_MAX

    def tries(self, one: ListedObject, fetch: Callable[[], None]) -> bool:
        """Fetch an object, again if that fails; False, and it is noted, where others could be read before the last
        attempt, or none in all that time. Raises StoreError when the store is away altogether, BackupError.
        """
        while True:
            is_last = self._gives_others or time.monotonic() > self._until
            try:
                fetch()
            except _UNREADABLE as error:
                self._store.check()
                if is_last:
                    self.add(one, error)
                    return False
                time.sleep(AGAIN_SECONDS)
            else:
                self._gives_others = True
                return True

    def add(self, one: ListedObject, error: StoreError) -> None:
        """Note one. Raises StoreError when the store is away altogether, BackupError when these are too many."""
        self._store.check()
        self.digests.append(one.digest.hex())
        self.said = str(error)
        if len(self.digests) > UNREADABLE_MAX:
            raise BackupError(
                f"the evidence store cannot read more than {UNREADABLE_MAX} objects ({error}) 证据库大量文件无法读取"
            ) from error


class _WrongBytesError(Exception):
    """The store has other bytes than the digest says."""


def _fetch(store: ObjectStore, one: ListedObject, place: Path) -> None:
    """Copy one object, compared with its digest. Raises StoreError, OSError, _WrongBytesError."""
    found = hashlib.sha256(usedforsecurity=False)
    with place.open("xb") as file:
        try:
            with store.read(object_key(one.digest)) as chunks:
                for chunk in chunks:
                    found.update(chunk)
                    file.write(chunk)
            if found.digest() != one.digest:
                raise _WrongBytesError
        except BaseException:
            place.unlink()
            raise
        file.flush()
        os.fsync(file.fileno())


def _is_linked(source: Path, place: Path, one: ListedObject) -> bool:
    """Link an object of an earlier backup, which never changes; False where there is none or no link is possible."""
    try:
        if source.stat().st_size != one.size_bytes or digest_of(source) != one.digest.hex():
            return False
        os.link(source, place)
    except (OSError, BackupError):
        return False
    return True


def _figures(summary: evidence_list.ListSummary) -> tuple[int, int, str]:
    return summary.object_count, summary.object_bytes, summary.list_sha256
