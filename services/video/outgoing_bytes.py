"""Bytes of evidence on their way out: to a caller, or by a link. They go only once it is written down who looks, and
why; what the store turns out to have lost or changed is written down, too.
"""

import secrets
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final, NamedTuple

from services.common.clock import Clock
from services.common.database import Engine, raw_connection, reading, translate_errors
from services.common.errors import ServiceError
from services.video import refusals_reading as refusals
from services.video.checking import UNREADABLE_ERRORS, suspect
from services.video.custody import CustodyAction
from services.video.custody_writer import CustodyWriter
from services.video.domain import BytesState, Name
from services.video.holding import gone
from services.video.media_types import CONTENT_TYPES, JPEG
from services.video.object_store import (
    ObjectMissingError,
    ObjectReader,
    ObjectStore,
    StoreUnavailableError,
    as_service_error,
    object_key,
    rendition_key,
    translate_store_errors,
)
from services.video.read_ahead import BytesChangedError, CheckedChunks, ReadAhead
from services.video.read_places import ReadPlaces
from services.video.store import objects as object_rows
from services.video.store import reading as reading_store
from services.video.store.reading import HeldRow
from zhichao.video.v1 import evidence_pb2

REFERENCE_BYTES: Final = 8
"""Random bytes in the id of a share: it names a link among those of one piece of evidence."""

FOUND_MISSING_WHEN_READ: Final = "Somebody wanted to read it and the store has no such object 读取时发现文件缺失"
FOUND_CHANGED_WHEN_READ: Final = "Somebody read it and the store has other bytes 读取时发现文件与摘要不符"


class Rendition(IntEnum):
    """Which bytes of evidence are read, numbered as in the contract."""

    ORIGINAL = 1
    POSTER = 2
    THUMBNAIL = 3


class Part(NamedTuple):
    """The next bytes of a read, with what the whole is."""

    chunk: bytes
    size_bytes: int
    content_type: str


class OutgoingBytes:
    """Sends bytes of evidence, and makes links to them."""

    def __init__(self, engine: Engine, own: str, custody: CustodyWriter, objects: ObjectStore, clock: Clock) -> None:
        self._engine = engine
        self._own = own
        self._custody = custody
        self._objects = objects
        self._clock = clock
        self._places = ReadPlaces()

    def send(
        self, name: Name, rendition: Rendition, offset: int, length: int, purpose: str, *, is_download: bool
    ) -> Generator[Part, None, None]:
        """Yield bytes from an offset, at least one part; the first one once the custody event is committed.

        `length` 0 means to the end. Raises ServiceError NOT_FOUND, BYTES_NOT_HERE, BYTES_EXPIRED, BEYOND_END,
        TOO_MANY_REQUESTS before anything is sent; EVIDENCE_MISSING, EVIDENCE_CHANGED, OBJECT_STORE_UNAVAILABLE also
        later.
        """
        row = self._find(name)
        action = CustodyAction.DOWNLOADED if is_download else CustodyAction.VIEWED
        if rendition is Rendition.ORIGINAL:
            yield from self._read_original(row, offset, length, purpose, action)
        else:
            yield from self._read_preview(row, rendition, offset, length, purpose, action)

    def link(self, name: Name, seconds: int, purpose: str) -> tuple[str, datetime]:
        """Return a link to the bytes that is good for so long, and when it ends; the custody event is committed before.

        Raises ServiceError as `send`, and NOT_CONFIGURED when callers do not reach the store.
        """
        if not self._objects.has_public_endpoint:
            raise refusals.no_links()
        row = self._find(name)
        self._refuse_away(row)
        key = object_key(row.digest)
        with self._damage_told(row), translate_store_errors():
            if self._objects.stat(key).size_bytes != row.size_bytes:
                raise BytesChangedError("the object has another size")
        now = self._clock.now()
        expire_time = now + timedelta(seconds=seconds)
        with self._custody.writing() as connection:
            self._custody.write(
                connection,
                row.named,
                CustodyAction.SHARED,
                purpose,
                now,
                reference_id=secrets.token_hex(REFERENCE_BYTES),
                until_time=expire_time,
            )
        return self._objects.presign_get(key, seconds, content_type=_content_type(row)), expire_time

    # Parts of the above

    def _read_original(
        self, row: HeldRow, offset: int, length: int, purpose: str, action: CustodyAction
    ) -> Iterator[Part]:
        self._refuse_away(row)
        if offset > row.size_bytes:
            raise refusals.beyond_end(offset, row.size_bytes)
        wanted = min(length or row.size_bytes, row.size_bytes - offset)
        # Of a part nothing can be said by the digest of the whole.
        digest = row.digest if wanted == row.size_bytes else None
        # Of the whole also what should not be there: bytes behind its end.
        bounded = None if digest is not None else wanted
        with self._places.one(wanted), self._damage_told(row), translate_store_errors():
            reader = self._objects.read(object_key(row.digest), offset, bounded)
            if reader.size_bytes != row.size_bytes:
                reader.close()
                raise BytesChangedError(f"the object has {reader.size_bytes} bytes")
            yield from self._send(row, reader, wanted, digest, purpose, action, row.size_bytes, _content_type(row))

    def _read_preview(
        self, row: HeldRow, sought: Rendition, offset: int, length: int, purpose: str, action: CustodyAction
    ) -> Iterator[Part]:
        rendition = sought.name.lower()
        if not row.has_preview:
            if row.state in (BytesState.BELOW, BytesState.WANTED):
                raise refusals.not_here(row.name)
            raise refusals.no_preview(row.name, rendition)
        try:
            with translate_store_errors():
                try:
                    reader = self._objects.read(rendition_key(row.digest, rendition), offset, length or None)
                except ObjectMissingError:
                    raise refusals.no_preview(row.name, rendition) from None
                size_bytes = reader.size_bytes
                if offset > size_bytes:
                    reader.close()
                    raise refusals.beyond_end(offset, size_bytes)
                wanted = min(length or size_bytes, size_bytes - offset)
                yield from self._send(row, reader, wanted, None, purpose, action, size_bytes, JPEG)
        except BytesChangedError as error:
            # A preview proves nothing: nobody needs to hear that it was replaced while it was read.
            raise as_service_error(StoreUnavailableError(error.detail)) from error

    def _send(
        self,
        row: HeldRow,
        reader: ObjectReader,
        wanted: int,
        digest: bytes | None,
        purpose: str,
        action: CustodyAction,
        size_bytes: int,
        content_type: str,
    ) -> Iterator[Part]:
        """Write down who looks, while the first chunk comes, then send."""
        # Hashed where it is read, while the chunk before is on its way.
        with ReadAhead(CheckedChunks(reader, wanted, digest)) as ahead:
            self._custody.record(row.named, action, purpose)
            is_first = True
            for chunk in ahead:
                yield Part(chunk, size_bytes, content_type) if is_first else Part(chunk, 0, "")
                is_first = False
            if is_first:
                yield Part(b"", size_bytes, content_type)

    @contextmanager
    def _damage_told(self, row: HeldRow) -> Iterator[None]:
        """Write down that the store has lost or changed bytes, once, and refuse the call for it."""
        try:
            yield
        except BytesChangedError as error:
            raise self._damaged(row, CustodyAction.FOUND_CHANGED, FOUND_CHANGED_WHEN_READ) from error
        except ServiceError as error:
            if isinstance(error.__cause__, UNREADABLE_ERRORS):
                suspect(self._engine, row.digest, self._clock.now())
            if not isinstance(error.__cause__, ObjectMissingError):
                raise
            with translate_store_errors():
                # Of the right store: one that was named by mistake has none of these objects.
                self._objects.check()
            raise self._damaged(row, CustodyAction.FOUND_MISSING, FOUND_MISSING_WHEN_READ) from error

    def _damaged(self, row: HeldRow, action: CustodyAction, how: str) -> ServiceError:
        if action is CustodyAction.FOUND_CHANGED and self._stored_size(row.digest) != row.size_bytes:
            # A manifest from below is wrong, and not the bytes, whose digest was compared when they came.
            return refusals.damaged(action, row.digest)
        if not self._custody.found_damaged(row.digest, action, how):
            # Somebody else was first; or the bytes were deleted, after their retention, while they were read.
            self._refuse_away(self._find(row.name))
        return refusals.damaged(action, row.digest)

    def _stored_size(self, digest: bytes) -> int | None:
        with translate_errors(), reading(self._engine) as pooled:
            found = object_rows.read_object(raw_connection(pooled), digest)
        return found.size_bytes if found is not None else None

    def _find(self, name: Name) -> HeldRow:
        with translate_errors(), reading(self._engine) as pooled:
            row = reading_store.read_evidence(raw_connection(pooled), name)
        if row is None:
            raise refusals.not_found(name)
        return row

    def _refuse_away(self, row: HeldRow) -> None:
        """Refuse bytes that are not in the store here, and say what became of them."""
        match row.state:
            case BytesState.HELD:
                return
            case BytesState.DAMAGED:
                found = CustodyAction(row.damage) if row.damage else CustodyAction.FOUND_MISSING
                raise refusals.damaged(found, row.digest)
        with translate_errors(), reading(self._engine) as pooled:
            raise gone(raw_connection(pooled), row, self._own) or refusals.not_here(row.name)


def _content_type(row: HeldRow) -> str:
    """Return what the manifest says if it is a type of evidence: a browser does with a link what its type says."""
    said = evidence_pb2.Evidence.FromString(row.content).content_type
    return said if said in CONTENT_TYPES else "application/octet-stream"
