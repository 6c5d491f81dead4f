"""The use cases of whoever uploads through the service: bytes first, entry second, and how far an upload has come."""

import time
from collections.abc import Callable, Iterator

from services.common.database import Engine, raw_connection, reading, translate_errors
from services.common.errors import FieldViolation, ServiceError, invalid
from services.common.forms import Violation, bad_fields
from services.common.instants import timestamp
from services.common.reasons import Reason
from services.video import answers, forms, holding
from services.video import refusals_uploading as refusals
from services.video.domain import Draft, Name
from services.video.incoming_bytes import UploadMessage
from services.video.inspecting_process import InspectingProcesses
from services.video.limits import CHUNK_BYTES_MAX
from services.video.media_types import ContentRefused, Inspection, InspectionUnavailable
from services.video.object_store import ObjectStore
from services.video.sealing import Sealing, TakenDraft
from services.video.spool import OpenUpload, Spool, SpoolKey
from services.video.storing_ahead import AheadUpload, StoringAhead
from zhichao.video.v1 import evidence_pb2
from zhichao.video.v1 import service_pb2 as pb

OnSealed = Callable[[int, int, float], None]
"""Told of each evidence that is sealed: its kind, its bytes, the seconds from the last byte on."""


class UploadingHandlers:
    """Uploads through the service."""

    def __init__(
        self,
        engine: Engine,
        own: str,
        sealing: Sealing,
        spool: Spool,
        objects: ObjectStore,
        ahead: StoringAhead,
        inspecting: InspectingProcesses,
        on_sealed: OnSealed = lambda kind, size_bytes, seconds: None,
    ) -> None:
        self._engine = engine
        self._own = own
        self._sealing = sealing
        self._spool = spool
        self._objects = objects
        self._ahead = ahead
        self._inspecting = inspecting
        self._on_sealed = on_sealed

    def upload_evidence(self, requests: Iterator[UploadMessage]) -> pb.UploadEvidenceResponse:
        """Take the bytes of one piece of evidence and seal it. Raises ServiceError as the contract says."""
        first = next(requests, None)
        if first is None or first.draft is None:
            raise invalid([FieldViolation("draft", "is missing: the first message describes the evidence")])
        draft = self._sealing.read_draft(first.draft)
        if (sealed := self._sealing.find_sealed(draft)) is not None:
            return pb.UploadEvidenceResponse(held_evidence=answers.held_evidence(sealed.held), is_duplicate=True)
        taken = self._sealing.take(draft)
        offset, chunks = first.offset, _chunks(first, requests)
        # Its bytes are not kept for as long as the call lasts.
        del first
        with self._opened(draft, offset) as upload, self._ahead_of(taken, upload) as ahead:
            _receive(upload, draft, offset, chunks, ahead.came)
            received_at = time.monotonic()
            inspection = self._inspected(upload, draft)
            try:
                sealed = self._sealing.seal(
                    taken,
                    inspection,
                    lambda retain_until: (
                        ahead.finish(retain_until)
                        or self._objects.put(
                            draft.digest,
                            upload.path,
                            draft.size_bytes,
                            content_type=inspection.content_type,
                            retain_until=retain_until,
                        )
                    ),
                )
            except ServiceError as error:
                if error.reason is Reason.EVIDENCE_CONFLICT:
                    upload.discard()
                raise
            upload.discard()
        if not sealed.is_duplicate:
            self._on_sealed(draft.kind, draft.size_bytes, time.monotonic() - received_at)
        return pb.UploadEvidenceResponse(
            held_evidence=answers.held_evidence(sealed.held), is_duplicate=sealed.is_duplicate
        )

    def get_upload(self, request: pb.GetUploadRequest) -> pb.GetUploadResponse:
        """Say how far an upload has come. Raises ServiceError INVALID_ARGUMENT, OUTSIDE_SCOPE, NOT_FOUND."""
        name = own_name(request.name, self._own)
        self._sealing.check_name(name)
        with translate_errors(), reading(self._engine) as pooled:
            held = holding.find(raw_connection(pooled), name)
        if held is not None:
            return pb.GetUploadResponse(received_bytes=held.row.size_bytes, sealed=answers.held_evidence(held))
        found = self._spool.find(_key(name))
        if found is None:
            raise refusals.no_upload(name)
        return pb.GetUploadResponse(received_bytes=found.received_bytes, expire_time=timestamp(found.expire_time))

    def _opened(self, draft: Draft, offset: int) -> OpenUpload:
        """Begin the upload or go on with it, from where its bytes begin."""
        key = SpoolKey(draft.source_unit_id, draft.evidence_id)
        found = self._spool.find(key)
        # Looked at before what is here is hashed again, which takes seconds for big files.
        if found is not None and (found.digest, found.size_bytes) == (draft.digest, draft.size_bytes):
            expected = found.received_bytes
        else:
            expected = 0
        if offset != expected:
            raise refusals.offset_mismatch(offset, expected)
        return self._spool.open(key, draft.digest, draft.size_bytes)

    def _ahead_of(self, taken: TakenDraft, upload: OpenUpload) -> AheadUpload:
        """Follow the upload with sending it to the store; of the type that it is said to be, which is checked."""
        draft = taken.draft
        return self._ahead.of(draft.digest, upload.path, draft.size_bytes, draft.content_type, taken.retention_class)

    def _inspected(self, upload: OpenUpload, draft: Draft) -> Inspection:
        try:
            return self._inspecting.inspect_file(upload.path, draft.content_type)
        except ContentRefused as error:
            upload.discard()
            raise refusals.content_refused(error, draft.content_type) from error
        except InspectionUnavailable as error:
            raise refusals.inspection_unavailable() from error


def own_name(message: evidence_pb2.EvidenceName, own: str) -> Name:
    """Read the name of evidence of this platform. Raises ServiceError INVALID_ARGUMENT."""
    checked = [
        ("origin", "" if message.origin in ("", own) else f"is {forms.shown(message.origin)}, not {own}: upload there"),
        ("source_unit_id", forms.source_unit_id(message.source_unit_id)),
        ("evidence_id", forms.evidence_id(message.evidence_id)),
    ]
    if violations := [Violation(field, description) for field, description in checked if description]:
        raise bad_fields(violations, "name.")
    return Name(own, message.source_unit_id, message.evidence_id)


def _receive(
    upload: OpenUpload, draft: Draft, offset: int, chunks: Iterator[bytes | memoryview], came: Callable[[int], None]
) -> None:
    """Take all bytes and compare them. What came is kept unless they are others than those of the draft."""
    if offset != upload.received_bytes:
        raise refusals.offset_mismatch(offset, upload.received_bytes)
    came(upload.received_bytes)
    for chunk in chunks:
        _append(upload, draft, chunk)
        came(upload.received_bytes)
        # A thread that waits for the next one holds none.
        del chunk
    if upload.received_bytes < draft.size_bytes:
        # The caller may have gone: gRPC does not always tell that from an end.
        raise refusals.ended_early(upload.received_bytes, draft.size_bytes)
    if (actual := upload.digest()) != draft.digest:
        upload.discard()
        raise refusals.digest_mismatch(draft.digest, actual)


def _chunks(first: UploadMessage, requests: Iterator[UploadMessage]) -> Iterator[bytes | memoryview]:
    """Yield the bytes of the messages of a call, each forgotten before the next one."""
    yield first.chunk
    del first
    for message in requests:
        if message.draft is not None or message.offset:
            raise invalid([FieldViolation("draft", "stands in a later message: only the first describes the evidence")])
        yield message.chunk
        del message


def _append(upload: OpenUpload, draft: Draft, chunk: bytes | memoryview) -> None:
    if len(chunk) > CHUNK_BYTES_MAX:
        raise invalid([FieldViolation("chunk", f"has {len(chunk)} bytes, but takes at most {CHUNK_BYTES_MAX}")])
    if upload.received_bytes + len(chunk) > draft.size_bytes:
        upload.discard()
        raise refusals.too_many_bytes(draft.size_bytes, draft.digest)
    upload.append(chunk)


def _key(name: Name) -> SpoolKey:
    return SpoolKey(name.source_unit_id, name.evidence_id)
