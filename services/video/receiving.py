"""Takes bytes that a platform below sends: into the spool, compared with their digest, into the store, and only then
into the custody of the evidence that they are of. Whatever breaks in between, the next call goes on there.
"""

import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import chain
from typing import Final

import grpc

from services.common.access.divisions import Divisions
from services.common.clock import Clock
from services.common.database import Engine, RawConnection, raw_connection, reading, translate_errors
from services.common.errors import ServiceError
from services.common.forms import bad_fields
from services.common.reasons import Reason
from services.video import forms
from services.video import refusals_uploading as refusals
from services.video.custody import CustodyAction
from services.video.custody_writer import SERVICE_ACTOR, CustodyWriter
from services.video.domain import BytesState
from services.video.forms import Violation
from services.video.limits import CHUNK_BYTES_MAX, SIZE_BYTES_MAX
from services.video.object_store import ObjectStore, PutResult, StoreRefusedError, object_key, translate_store_errors
from services.video.spool import OpenUpload, Spool, SpoolKey
from services.video.store import custody as custody_store
from services.video.store import keeping as keeping_store
from services.video.store import objects as object_rows
from services.video.store import wanted as store
from services.video.store.custody import Named
from services.video.wanted import retry_time
from services.video.wanting import MANIFESTS_MAX, ObjectNews
from zhichao.video.v1 import evidence_pb2
from zhichao.video.v1 import transfer_pb2 as pb

OFFSET_MAX: Final = SIZE_BYTES_MAX
"""No object is longer."""

KEEPS_MAX: Final = 2
"""Objects that are written down as received at once. Each holds a connection of the pool, which has 10, while the store
is asked once more, and a province has some hundred pushes at once. Writers of the log take turns anyway, also with
those that seal (SEALS_MAX)."""

MakeRoom = Callable[[bytes, int], bool]
"""Removes wrong bytes from the store under a digest, where right ones of some size are to be put; False if these are
there already."""


class ObjectReceiver:
    """Receives objects. Any number at once, each once."""

    def __init__(
        self,
        engine: Engine,
        own: str,
        divisions: Callable[[], Divisions],
        custody: CustodyWriter,
        objects: ObjectStore,
        spool: Spool,
        clock: Clock,
        news: ObjectNews,
        make_room: MakeRoom,
    ) -> None:
        self._engine = engine
        self._own = own
        self._divisions = divisions
        self._custody = custody
        self._objects = objects
        self._spool = spool
        self._clock = clock
        self._news = news
        self._make_room = make_room
        self._keeps = threading.BoundedSemaphore(KEEPS_MAX)

    def receive(self, requests: Iterator[pb.ReceiveObjectRequest]) -> pb.ReceiveObjectResponse:
        """Take the bytes of one object and say how far it has come.

        Raises ServiceError INVALID_ARGUMENT, BYTES_NOT_WANTED, OFFSET_MISMATCH, DIGEST_MISMATCH, UPLOAD_BUSY,
        UPLOAD_SPACE_EXHAUSTED, OBJECT_STORE_UNAVAILABLE, DATABASE_UNAVAILABLE; what came is kept, but for wrong bytes.
        """
        first = next(requests, None)
        if first is None:
            raise bad_fields([Violation("object", "must be set in the first message")])
        self._check(first)
        digest, size_bytes = first.object.digest, first.object.size_bytes
        if self._is_held(digest, size_bytes, first.platform):
            # Left by a kill after it was written down.
            self._spool.forget(key_of(first.platform, digest))
            return pb.ReceiveObjectResponse(received_bytes=size_bytes, is_complete=True)
        with self._spool.open(key_of(first.platform, digest), digest, size_bytes) as upload:
            if first.offset > upload.received_bytes:
                raise refusals.offset_mismatch(first.offset, upload.received_bytes)
            self._take(upload, first, requests)
            if upload.received_bytes < size_bytes:
                self._note(digest, upload.received_bytes)
                return pb.ReceiveObjectResponse(received_bytes=upload.received_bytes)
            if upload.digest() != digest:
                upload.discard()
                self._put_off(digest)
                raise refusals.digest_mismatch(digest, upload.digest())
            self._keep(upload, digest, first.platform)
            upload.discard()
        self._news.tell()
        return pb.ReceiveObjectResponse(received_bytes=size_bytes, is_complete=True)

    def _check(self, first: pb.ReceiveObjectRequest) -> None:
        violations = []
        if description := forms.digest(first.object.digest):
            violations.append(Violation("object.digest", description))
        if not 1 <= first.object.size_bytes <= SIZE_BYTES_MAX:
            violations.append(
                Violation("object.size_bytes", f"is {first.object.size_bytes}, but must be 1 to {SIZE_BYTES_MAX}")
            )
        if not 0 <= first.offset <= OFFSET_MAX:
            violations.append(Violation("offset", f"is {first.offset}, but must be 0 to {OFFSET_MAX}"))
        if description := forms.division_code(first.platform):
            violations.append(Violation("platform", description))
        if violations:
            raise bad_fields(violations)

    def _is_held(self, digest: bytes, size_bytes: int, platform: str) -> bool:
        """Tell whether the bytes are here already. Raises ServiceError BYTES_NOT_WANTED unless they are, or wanted."""
        divisions = self._divisions()
        with translate_errors(), reading(self._engine) as pooled:
            connection = raw_connection(pooled)
            row = store.read_wanted(connection, digest)
            manifests = store.read_manifests(connection, [digest], MANIFESTS_MAX) if row is not None else []
        is_below = platform != self._own and divisions.is_within(platform, self._own)
        is_theirs = is_below and any(divisions.is_within(one.origin, platform) for one in manifests)
        # Whether something is here is nobody's business who has nothing to do with it.
        if row is None or not is_theirs or row.size_bytes != size_bytes:
            raise _not_wanted(digest)
        if row.state == BytesState.HELD:
            return True
        if row.state not in (BytesState.WANTED, BytesState.DAMAGED):
            raise _not_wanted(digest)
        return False

    def _take(
        self, upload: OpenUpload, first: pb.ReceiveObjectRequest, requests: Iterator[pb.ReceiveObjectRequest]
    ) -> None:
        """Spool what comes, leaving out what is here already, until all of it is here or the sender ends."""
        skipped_bytes = upload.received_bytes - first.offset
        try:
            for request in chain([first], requests):
                chunk = request.chunk
                if len(chunk) > CHUNK_BYTES_MAX:
                    raise bad_fields(
                        [Violation("chunk", f"has {len(chunk)} bytes, but must have at most {CHUNK_BYTES_MAX}")]
                    )
                skipped = min(skipped_bytes, len(chunk))
                skipped_bytes -= skipped
                chunk = chunk[skipped:] if skipped else chunk
                if upload.received_bytes + len(chunk) > upload.size_bytes:
                    upload.discard()
                    self._put_off(first.object.digest)
                    raise refusals.too_many_bytes(upload.size_bytes, first.object.digest)
                upload.append(chunk)
                if upload.received_bytes == upload.size_bytes:
                    return
        except grpc.RpcError:
            # The sender is gone; nobody waits for the answer, and what came is kept.
            return
        except ServiceError as error:
            if error.reason is not Reason.SHUTTING_DOWN:
                raise
            # This service stops: it says how far it has come.

    def _keep(self, upload: OpenUpload, digest: bytes, platform: str) -> None:
        """Store what came, and write down that it is here."""
        with translate_errors(), reading(self._engine) as pooled:
            connection = raw_connection(pooled)
            row = store.read_wanted(connection, digest)
            content_type, retain_until = _as_sealed(connection, digest)

        def put() -> PutResult:
            return self._objects.put(
                digest, upload.path, upload.size_bytes, content_type=content_type, retain_until=retain_until
            )

        with translate_store_errors():
            if row is not None and row.state == BytesState.DAMAGED:
                # Before `put` locks what is there.
                self._make_room(digest, upload.size_bytes)
            # The store leaves alone what is there with the right size, whatever it is.
            if put().was_there and self._make_room(digest, upload.size_bytes) and put().was_there:
                raise StoreRefusedError(f"the store keeps other bytes under {object_key(digest)}")

        def hold(connection: RawConnection) -> None:
            # The bytes are there, and stay until the commit: what expires is deleted under the same lock.
            keeping_store.lock_object(connection, digest)
            with translate_store_errors():
                self._objects.stat(object_key(digest))

        with self._keeps, self._custody.writing(hold) as connection:
            row = store.read_wanted(connection, digest, is_locked=True)
            if row is None or row.state == BytesState.HELD:
                return
            now = self._clock.now()
            object_rows.put_held(connection, digest, upload.size_bytes, now, has_preview=False)
            is_restored = row.state == BytesState.DAMAGED
            action = CustodyAction.RESTORED if is_restored else CustodyAction.RECEIVED
            purpose = f"Received from platform {platform} 自下级平台 {platform} 接收"
            for evidence in custody_store.read_named_by(connection, digest, MANIFESTS_MAX):
                self._custody.write(connection, evidence, action, purpose, now, actor=SERVICE_ACTOR)

    def _note(self, digest: bytes, received_bytes: int) -> None:
        with translate_errors(), self._engine.begin() as pooled:
            store.put_received(raw_connection(pooled), digest, received_bytes)

    def _put_off(self, digest: bytes) -> None:
        """Ask again later: whoever sends wrong bytes may do so again."""
        with translate_errors(), self._engine.begin() as pooled:
            connection = raw_connection(pooled)
            row = store.read_wanted(connection, digest, is_locked=True)
            if row is not None:
                count = row.decline_count + 1
                store.put_declined(connection, digest, count, retry_time(count, self._clock.now()))
                store.put_received(connection, digest, 0)
        self._news.tell()


def key_of(platform: str, digest: bytes) -> SpoolKey:
    """Return under which name the bytes of an object that a platform sends are spooled."""
    return SpoolKey(f"below-{platform}", digest.hex())


def named(connection: RawConnection, digest: bytes) -> Named | None:
    """Return the evidence that was sealed first of these bytes."""
    return next(iter(custody_store.read_named_by(connection, digest, 1)), None)


def _as_sealed(connection: RawConnection, digest: bytes) -> tuple[str, datetime | None]:
    """Return the type of bytes as their manifest says, and until when the longest of the manifests keeps them."""
    rows = store.read_manifests(connection, [digest], MANIFESTS_MAX)
    content_type = evidence_pb2.Evidence.FromString(rows[0].content).content_type if rows else ""
    return content_type or "application/octet-stream", store.read_retain_until(connection, digest)


def _not_wanted(digest: bytes) -> ServiceError:
    return ServiceError(
        Reason.BYTES_NOT_WANTED,
        f"nobody has asked for the bytes {digest.hex()}, or not that platform",
        message_zh=f"未向该平台请求文件 {digest.hex()}",
        metadata={"digest": digest.hex()},
    )
