"""Uploads straight to the store: its parts are put to a staging key, then read back once, checked, copied to the key of
their digest and sealed as every upload is.

What is under a staging key is not evidence. Each step can be taken again, by any replica: what is done already is found
to be so.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import structlog

from services.common.clock import Clock
from services.common.database import Engine, raw_connection, reading, translate_errors
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.request import request_context
from services.video import convert, holding, refusals_staging
from services.video import refusals_uploading as refusals
from services.video.domain import Draft, Name
from services.video.holding import Held
from services.video.inspecting_process import InspectingProcesses
from services.video.media_types import ContentRefused, Inspection, InspectionUnavailable
from services.video.object_store import (
    ObjectMissingError,
    ObjectStore,
    PartsRefusedError,
    StoreError,
    StoreUnavailableError,
    UploadGoneError,
    WrongCredentialsError,
    staging_key,
    translate_store_errors,
)
from services.video.sealing import Sealed, Sealing
from services.video.staged_parts import PART_BYTES, Part, missing, parts_of
from services.video.store import uploads as rows
from services.video.store.uploads import UploadRow
from services.video.store_contents import StoredPart
from services.video.stored_ranges import StoredRanges
from zhichao.video.v1 import service_pb2 as pb

UPLOADS_MAX: Final = 20_000
"""Uploads under way, also abandoned ones: as many as through the service."""

UNIT_UPLOADS_MAX: Final = 2_000
"""Of these, of one source unit."""

UPLOADS_BYTES_MAX: Final = 1 << 40
"""Bytes of all uploads under way together when they are complete: a day of 250 sites that send 4 GiB each."""

UNIT_SHARE: Final = 4
"""A source unit takes at most this part of these bytes: no site can keep out all others."""

COMPLETIONS_MAX: Final = 4
"""Uploads that are read back at once. Each holds up to 6 MiB: a chunk of the store, and blocks for the inspection."""

COMPLETION_WAIT_SECONDS: Final = 20.0
"""How long a call waits for its turn: some of those before it are small."""

PREPARE_TRIES: Final = 3
"""How often an upload is begun while others begin the same."""

SWEEP_UPLOADS: Final = 100
"""Expired uploads that are forgotten in one step: a second's work, so that a stop need not wait. Ten thousand, all
that a service takes from some units in a day, are through in some minutes."""

SWEEP_SECONDS: Final = 60.0
"""Pause when nothing more has expired: uploads are kept for a day, and a minute more is nothing."""

FINAL: Final = frozenset({Reason.DIGEST_MISMATCH, Reason.CONTENT_REFUSED, Reason.EVIDENCE_CONFLICT})
"""Reasons after which what was put is worth nothing."""

LOOKED_AGAIN: Final = frozenset({Reason.UPLOAD_INCOMPLETE, Reason.UPLOAD_BUSY, Reason.OBJECT_STORE_UNAVAILABLE})
"""Reasons that it also has when the parts are gone because they are sealed."""

OnSealed = Callable[[int, int, float], None]

_log = structlog.get_logger()


class Prepared(NamedTuple):
    """An upload that may go on: what is to be put, and where to."""

    missing: list[Part]
    staging_key: str
    multipart_id: str


class Staging:
    """Begins uploads straight to the store, completes and forgets them."""

    def __init__(
        self,
        engine: Engine,
        own: str,
        sealing: Sealing,
        objects: ObjectStore,
        inspecting: InspectingProcesses,
        keep: timedelta,
        clock: Clock,
        on_sealed: OnSealed = lambda kind, size_bytes, seconds: None,
    ) -> None:
        self._engine = engine
        self._own = own
        self._sealing = sealing
        self._objects = objects
        self._inspecting = inspecting
        self._keep = keep
        self._clock = clock
        self._on_sealed = on_sealed
        self._completions = threading.BoundedSemaphore(COMPLETIONS_MAX)
        self._guard = threading.Lock()
        self._completed_now: set[tuple[str, str]] = set()

    # Before the bytes

    def prepare(self, draft: Draft, message: pb.EvidenceDraft) -> Prepared:
        """Begin an upload, or go on with the one that the same draft has begun.

        Parts of another draft under the name are forgotten. Raises ServiceError as `Sealing.take`, NOT_CONFIGURED,
        UPLOAD_SPACE_EXHAUSTED, OBJECT_STORE_UNAVAILABLE.
        """
        if not self._objects.has_public_endpoint:
            raise refusals_staging.no_address()
        self._sealing.take(draft)
        for _ in range(PREPARE_TRIES):
            held = self._read(draft.source_unit_id, draft.evidence_id)
            if held is not None and held.expire_time > self._clock.now() and _draft_of(held) == draft:
                sizes = self._sizes(held)
                if sizes is not None and self._kept(held):
                    return Prepared(missing(_parts(held), sizes), held.staging_key, held.multipart_id)
            begun = self._begin(draft, message, held)
            if begun is not None:
                return Prepared(_parts(begun), begun.staging_key, begun.multipart_id)
        raise refusals.busy()

    # After the bytes

    def complete(self, name: Name) -> Held:
        """Check and seal what was put. Raises ServiceError as the contract says."""
        with self._alone(name), self._turn():
            row = self._read(name.source_unit_id, name.evidence_id)
            if row is None or row.expire_time <= self._clock.now():
                return self._sealed_before(name)
            draft = _draft_of(row)
            try:
                sealed = self._sealing.find_sealed(draft) or self._checked_and_sealed(row, draft)
            except ServiceError as error:
                if error.reason in FINAL:
                    self._forget(row)
                    raise
                # Another replica may have sealed it meanwhile, and removed what this one was reading.
                found = self._sealing.find_sealed(draft) if error.reason in LOOKED_AGAIN else None
                if found is None:
                    raise
                sealed = found
            self._forget(row)
            return sealed.held

    def sweep(self) -> float:
        """Forget some uploads that have expired, and return the seconds until the next look.

        Raises ServiceError, StoreError while the store is away: what is left then is done by the next one.
        """
        now = self._clock.now()
        with translate_errors(), reading(self._engine) as pooled:
            expired = rows.expired_uploads(raw_connection(pooled), now, SWEEP_UPLOADS)
        swept = 0
        try:
            for row in expired:
                self._sweep(row, now)
                swept += 1
        finally:
            if swept:
                _log.info("staged_uploads_swept", uploads=swept)
        return 0.0 if len(expired) == SWEEP_UPLOADS else SWEEP_SECONDS

    def _sweep(self, row: UploadRow, expired_by: datetime) -> None:
        """Remove what was put of an upload, and forget it with that: what the store has not done is done again."""
        with translate_errors(), self._engine.begin() as pooled:
            # Before the store is asked: whoever comes back now begins anew, and finds nothing half removed.
            if not rows.forget_upload(raw_connection(pooled), row, expired_by):
                return
            try:
                self._remove(row)
            except (StoreUnavailableError, WrongCredentialsError):
                # All others would fail as well, each after some time-outs.
                raise
            except StoreError as error:
                # It must not keep the others from their turn. What is left is removed with all that no upload knows.
                _log.warning("staged_upload_not_removed", key=row.staging_key, error=str(error))

    def _checked_and_sealed(self, row: UploadRow, draft: Draft) -> Sealed:
        taken = self._sealing.take(draft)
        if not self._kept(row):
            raise refusals.busy()
        begun = time.monotonic()
        self._assemble(row)
        actual = self._digest(row)
        if actual != draft.digest:
            raise refusals.digest_mismatch(draft.digest, actual)
        inspection = self._inspected(row, draft)
        sealed = self._sealing.seal(
            taken,
            inspection,
            lambda retain_until: self._objects.copy_from_staging(
                row.staging_key,
                draft.digest,
                draft.size_bytes,
                content_type=inspection.content_type,
                retain_until=retain_until,
            ),
        )
        if not sealed.is_duplicate:
            self._on_sealed(draft.kind, draft.size_bytes, time.monotonic() - begun)
        return sealed

    def _assemble(self, row: UploadRow) -> None:
        """Make one object of the parts, unless that was done before. Raises ServiceError UPLOAD_INCOMPLETE."""
        parts = _parts(row)
        with translate_store_errors():
            try:
                stored = _right(parts, self._objects.list_parts(row.staging_key, row.multipart_id))
                lacking = missing(parts, _sizes_of(stored))
                if lacking:
                    raise refusals_staging.incomplete(lacking)
                # What was put beyond the last part is left out.
                self._objects.complete_multipart(
                    row.staging_key, row.multipart_id, [stored[part.part_number] for part in parts]
                )
            except (UploadGoneError, PartsRefusedError):
                # Completed by a call that broke off behind it; or the store has forgotten it; or a part was put anew
                # just now.
                if not self._is_whole(row):
                    raise refusals_staging.incomplete(missing(parts, self._sizes(row) or {})) from None

    def _digest(self, row: UploadRow) -> bytes:
        """Read the whole object back. Raises ServiceError UPLOAD_INCOMPLETE when it went away meanwhile."""
        found = hashlib.sha256(usedforsecurity=False)
        with translate_store_errors():
            try:
                with self._objects.read(row.staging_key) as chunks:
                    for chunk in chunks:
                        found.update(chunk)
            except ObjectMissingError:
                raise refusals_staging.incomplete(_parts(row)) from None
        return found.digest()

    def _inspected(self, row: UploadRow, draft: Draft) -> Inspection:
        stored = StoredRanges(self._objects, row.staging_key, row.size_bytes)
        try:
            with translate_store_errors():
                return self._inspecting.inspect_ranges(stored.read, row.size_bytes, draft.content_type)
        except ContentRefused as error:
            raise refusals.content_refused(error, draft.content_type) from error
        except (InspectionUnavailable, EOFError) as error:
            raise refusals.inspection_unavailable() from error

    def _sealed_before(self, name: Name) -> Held:
        with translate_errors(), reading(self._engine) as pooled:
            held = holding.find(raw_connection(pooled), name)
        if held is None:
            raise refusals.no_upload(name)
        return held

    # What is under way

    def _read(self, source_unit_id: str, evidence_id: str) -> UploadRow | None:
        with translate_errors(), reading(self._engine) as pooled:
            return rows.read_upload(raw_connection(pooled), source_unit_id, evidence_id)

    def _kept(self, row: UploadRow) -> bool:
        with translate_errors(), self._engine.begin() as pooled:
            return rows.keep_upload(raw_connection(pooled), row, self._clock.now() + self._keep)

    def _begin(self, draft: Draft, message: pb.EvidenceDraft, replaced: UploadRow | None) -> UploadRow | None:
        """Begin an upload in the place of another or of none; None if somebody else was first."""
        self._check_space(draft, replaced)
        now = self._clock.now()
        key = staging_key()
        with translate_store_errors():
            multipart_id = self._objects.create_multipart(key, draft.content_type)
        begun = UploadRow(
            draft.source_unit_id,
            draft.evidence_id,
            message.SerializeToString(),
            request_context().principal.name,
            key,
            multipart_id,
            PART_BYTES,
            draft.size_bytes,
            now,
            now + self._keep,
        )
        with translate_errors(), self._engine.begin() as pooled:
            is_first = rows.put_upload(raw_connection(pooled), begun, replaced.multipart_id if replaced else "")
        if not is_first:
            self._clear(begun)
            return None
        if replaced is not None:
            self._clear(replaced)
        return begun

    def _check_space(self, draft: Draft, replaced: UploadRow | None) -> None:
        with translate_errors(), reading(self._engine) as pooled:
            usage = rows.read_usage(raw_connection(pooled), draft.source_unit_id)
        count, more = (0, draft.size_bytes - replaced.size_bytes) if replaced else (1, draft.size_bytes)
        for used, limit in (
            (usage.upload_count + count, UPLOADS_MAX),
            (usage.unit_upload_count + count, UNIT_UPLOADS_MAX),
            (usage.size_bytes + more, UPLOADS_BYTES_MAX),
            (usage.unit_size_bytes + more, UPLOADS_BYTES_MAX // UNIT_SHARE),
        ):
            if used > limit:
                raise refusals.no_space(limit)

    def _sizes(self, row: UploadRow) -> Mapping[int, int] | None:
        """Return the sizes of the parts that are right; None when the store knows nothing of the upload."""
        with translate_store_errors():
            try:
                stored = self._objects.list_parts(row.staging_key, row.multipart_id)
                return _sizes_of(_right(_parts(row), stored))
            except UploadGoneError:
                if self._is_whole(row):
                    return {part.part_number: part.size_bytes for part in _parts(row)}
                return None

    def _is_whole(self, row: UploadRow) -> bool:
        try:
            return self._objects.stat(row.staging_key).size_bytes == row.size_bytes
        except ObjectMissingError:
            return False

    def _forget(self, row: UploadRow) -> None:
        """Forget an upload with what was put; nothing is done if another one has its name by now."""
        with translate_errors(), self._engine.begin() as pooled:
            is_forgotten = rows.forget_upload(raw_connection(pooled), row)
        if is_forgotten:
            self._clear(row)

    def _clear(self, row: UploadRow) -> None:
        """Remove what was put. What the store keeps is removed with all that no upload knows (`reconciling`)."""
        with suppress(StoreError):
            self._remove(row)

    def _remove(self, row: UploadRow) -> None:
        self._objects.abort_multipart(row.staging_key, row.multipart_id)
        self._objects.delete(row.staging_key)

    # Turns

    @contextmanager
    def _alone(self, name: Name) -> Iterator[None]:
        """Refuse a second call for the same upload; on another replica it does the same work, and no harm."""
        key = (name.source_unit_id, name.evidence_id)
        with self._guard:
            if key in self._completed_now:
                raise refusals.busy()
            self._completed_now.add(key)
        try:
            yield
        finally:
            with self._guard:
                self._completed_now.discard(key)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._completions.acquire(timeout=COMPLETION_WAIT_SECONDS):
            raise refusals_staging.too_many(COMPLETIONS_MAX)
        try:
            yield
        finally:
            self._completions.release()


def _draft_of(row: UploadRow) -> Draft:
    return convert.draft(pb.EvidenceDraft.FromString(row.draft))[0].canonical()


def _parts(row: UploadRow) -> list[Part]:
    return parts_of(row.size_bytes, row.part_bytes)


def _right(parts: Iterable[Part], stored: Iterable[StoredPart]) -> dict[int, StoredPart]:
    """Return what is stored of the right size, by part: SeaweedFS lists one that was put again beside the first."""
    sizes = {part.part_number: part.size_bytes for part in parts}
    return {one.part_number: one for one in stored if sizes.get(one.part_number) == one.size_bytes}


def _sizes_of(stored: Mapping[int, StoredPart]) -> dict[int, int]:
    return {number: part.size_bytes for number, part in stored.items()}
