"""Seals evidence: checks what is said about it before a byte is taken, and writes the manifest once the bytes are
stored. Both ways of uploading end here.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from services.common.access.control import AccessControl
from services.common.clock import Clock
from services.common.database import Engine, RawConnection, raw_connection, reading, translate_errors
from services.common.forms import bad_fields
from services.common.instants import timestamp
from services.common.request import request_context
from services.journal.entry_writer import EntryWriter
from services.video import convert, holding, kinds
from services.video import refusals_uploading as refusals
from services.video.domain import BytesState, Draft, EvidenceKind, Name, time_violations
from services.video.flags import flags
from services.video.forms import Violation
from services.video.holding import Held
from services.video.media_types import Inspection
from services.video.object_store import (
    LockState,
    ObjectMissingError,
    ObjectStore,
    PutResult,
    StoreUnavailableError,
    as_service_error,
    object_key,
    translate_store_errors,
)
from services.video.retention import RetentionClass, RetentionTable
from services.video.source_units import SourceUnits
from services.video.store import keeping as keeping_store
from services.video.store import objects as object_rows
from zhichao.video.v1 import evidence_pb2, service_pb2

PREFIX: Final = "draft."
"""Field of the requests that holds the draft."""

UNIT_OF_DRAFT: Final = PREFIX + "source_unit_id"
UNIT_OF_NAME: Final = "name.source_unit_id"
"""Fields of the requests that name the source unit."""

SEALS_MAX: Final = 4
"""Manifests that are written at once. Each holds a connection of the pool while the store is asked once more; writers
of the log take turns anyway."""


DAMAGED_MAX: Final = 3
"""How often bytes are put that are found damaged before their manifest is written; then the caller comes again."""

PutChecked = Callable[[bytes, int, Callable[[], PutResult]], None]
"""Puts bytes of a digest and size by calling what it is given, and sees that the store has these and no others."""


class _DamagedMeanwhileError(Exception):
    """The bytes were found damaged between their put and the manifest."""


@dataclass(frozen=True, slots=True)
class TakenDraft:
    """A draft whose bytes are taken, with what the platform knows beside it."""

    draft: Draft
    division_code: str
    retention_class: RetentionClass


@dataclass(frozen=True, slots=True)
class Sealed:
    """Evidence that is sealed."""

    held: Held
    is_duplicate: bool
    """Whether it was before."""


class Sealing:
    """What both ways of uploading have in common."""

    def __init__(
        self,
        engine: Engine,
        entries: EntryWriter,
        own: str,
        access: AccessControl,
        units: SourceUnits,
        retention: RetentionTable,
        objects: ObjectStore,
        clock: Clock,
        *,
        requires_locks: bool = False,
        put_checked: PutChecked | None = None,
    ) -> None:
        """`requires_locks` takes nothing while the self-test has not found that the store enforces its locks.

        `put_checked` heals bytes that are damaged in the store when the same ones are uploaded once more.
        """
        self._put_checked = put_checked
        self._engine = engine
        self._entries = entries
        self._own = own
        self._access = access
        self._units = units
        self._retention = retention
        self._objects = objects
        self._clock = clock
        self._requires_locks = requires_locks
        self._seals = threading.BoundedSemaphore(SEALS_MAX)

    # Before the bytes

    def read_draft(self, message: service_pb2.EvidenceDraft) -> Draft:
        """Read what is said about evidence, and that the caller may say it.

        Raises ServiceError INVALID_ARGUMENT with every bad field, and as `check_name`.
        """
        draft, unreadable = convert.draft(message)
        violations = [*draft.violations(), *unreadable, *time_violations(draft, self._clock.now())]
        if draft.kind in set(EvidenceKind):
            try:
                self._check_class(EvidenceKind(draft.kind), draft.retention_class)
            except ValueError as error:
                violations.append(Violation("retention_class", str(error)))
        if violations:
            # A time that cannot be read is not missing as well.
            told = {violation.field: violation for violation in [*violations, *unreadable]}
            raise bad_fields(list(told.values()), PREFIX)
        self._check_scope(draft.source_unit_id, UNIT_OF_DRAFT)
        return draft.canonical()

    def check_name(self, name: Name) -> None:
        """Refuse a caller who does not act for the source unit of an upload that is under way, or not any more.

        Raises ServiceError OUTSIDE_SCOPE, and for a caller of a division UNKNOWN_SOURCE_UNIT, SERVICE_UNAVAILABLE.
        """
        self._check_scope(name.source_unit_id, UNIT_OF_NAME)

    def find_sealed(self, draft: Draft) -> Sealed | None:
        """Return the evidence if it is sealed already. Raises ServiceError EVIDENCE_CONFLICT if that is another one."""
        with translate_errors(), reading(self._engine) as pooled:
            held = holding.find(raw_connection(pooled), self._name(draft))
        return None if held is None else self._same(held, draft)

    def take(self, draft: Draft) -> TakenDraft:
        """Say that bytes may come, of a caller whose scope was checked.

        Raises ServiceError UNKNOWN_SOURCE_UNIT, SERVICE_UNAVAILABLE, OBJECT_STORE_UNAVAILABLE.
        """
        division_code = self._units.division_of(draft.source_unit_id)
        if self._requires_locks:
            self._check_locks()
        retention_class = self._retention.class_of(EvidenceKind(draft.kind), draft.retention_class)
        return TakenDraft(draft, division_code, retention_class)

    # After the bytes

    def seal(self, taken: TakenDraft, inspection: Inspection, store: Callable[[datetime], PutResult]) -> Sealed:
        """Put bytes that were checked into the store and write their manifest; return what is sealed.

        `store` is given the time until which they are kept, and puts them there unless they are there; it may be
        called twice. Raises ServiceError EVIDENCE_CONFLICT, OBJECT_STORE_UNAVAILABLE, DATABASE_UNAVAILABLE, RECOVERING;
        nothing is sealed then.
        """
        for _ in range(DAMAGED_MAX):
            with suppress(_DamagedMeanwhileError):
                return self._seal(taken, inspection, store)
        error = StoreUnavailableError(f"{object_key(taken.draft.digest)} is damaged again and again 文件反复损坏")
        raise as_service_error(error) from error

    def _seal(self, taken: TakenDraft, inspection: Inspection, store: Callable[[datetime], PutResult]) -> Sealed:
        draft = taken.draft
        retain_until_time = taken.retention_class.retain_until(self._clock.now())
        with translate_store_errors():
            if self._put_checked is None:
                store(retain_until_time)
            else:
                self._put_checked(draft.digest, draft.size_bytes, lambda: store(retain_until_time))

        def hold(connection: RawConnection) -> None:
            self._hold(connection, draft, lambda: store(retain_until_time))

        with self._seals, self._entries.writing(hold) as connection:
            # Somebody else may have sealed it meanwhile, on another replica.
            held = holding.find(connection, self._name(draft))
            if held is not None:
                return self._same(held, draft)
            found = object_rows.read_object(connection, draft.digest)
            if found is not None and found.state == BytesState.DAMAGED:
                # Whoever marks it holds the log, as this transaction does now: nobody does so before the commit.
                raise _DamagedMeanwhileError
            now = self._clock.now()
            manifest = _manifest(taken, inspection, retain_until_time, now)
            self._entries.write(connection, kinds.EVIDENCE_KIND, manifest.SerializeToString(), now)
            object_rows.put_held(connection, draft.digest, draft.size_bytes, now, has_preview=False)
            held = holding.find(connection, self._name(draft))
        if held is None:
            raise LookupError("the evidence that was just sealed is not there")
        return Sealed(held, is_duplicate=False)

    def _hold(self, connection: RawConnection, draft: Draft, store: Callable[[], object]) -> None:
        """See that the bytes are there and stay until the commit: what expires is deleted under the same lock."""
        keeping_store.lock_object(connection, draft.digest)
        with translate_store_errors():
            try:
                facts = self._objects.stat(object_key(draft.digest))
                is_there = facts.size_bytes == draft.size_bytes
            except ObjectMissingError:
                is_there = False
            if not is_there:
                # The same bytes were sealed before, expired, and went away between `store` and now.
                store()

    def _check_scope(self, source_unit_id: str, field: str) -> None:
        """Refuse a caller who does not act for a source unit: before anything is said of what there is."""
        principal = request_context().principal
        if not principal.covers_unit(source_unit_id):
            raise refusals.outside_units(source_unit_id, field)
        if not self._access.is_bound_to_division(principal):
            return
        if not self._access.knowledge.divisions.is_within(
            self._units.division_of(source_unit_id), principal.division_code
        ):
            raise refusals.outside_units(source_unit_id, field)

    def _check_class(self, kind: EvidenceKind, wanted: str) -> None:
        """Refuse a class that is none, and of a site one that keeps less long than usual. Raises ValueError."""
        found, usual = self._retention.class_of(kind, wanted), self._retention.class_of(kind, "")
        if found.days < usual.days and request_context().principal.source_unit_ids is not None:
            raise ValueError(
                f"is {found.retention_class}, which keeps a {kind.name.lower()} for {found.days} days, but of a source"
                f" unit it is kept for {usual.days} at least: leave it out, or take a longer one"
            )

    def _check_locks(self) -> None:
        with translate_errors(), reading(self._engine) as pooled:
            test = keeping_store.newest_lock_test(raw_connection(pooled))
        if test is None or test.lock_state != LockState.ENFORCED.value:
            raise refusals.locks_not_enforced()

    def _same(self, held: Held, draft: Draft) -> Sealed:
        manifest = evidence_pb2.Evidence.FromString(held.row.content)
        sealed = convert.draft_of(manifest).canonical()
        if not draft.retention_class:
            # Left to the platform, whose table may be another one by now.
            sealed = replace(sealed, retention_class="")
        if sealed != draft:
            raise refusals.conflict(held.row.name, held.row.sequence)
        return Sealed(held, is_duplicate=True)

    def _name(self, draft: Draft) -> Name:
        return Name(self._own, draft.source_unit_id, draft.evidence_id)


def _manifest(
    taken: TakenDraft, inspection: Inspection, retain_until_time: datetime, seal_time: datetime
) -> evidence_pb2.Evidence:
    draft = taken.draft
    return evidence_pb2.Evidence(
        source_unit_id=draft.source_unit_id,
        evidence_id=draft.evidence_id,
        kind=evidence_pb2.EvidenceKind.ValueType(draft.kind),
        division_code=taken.division_code,
        digest=draft.digest,
        size_bytes=draft.size_bytes,
        content_type=inspection.content_type,
        media=convert.media_message(inspection.facts),
        view=evidence_pb2.CameraView.ValueType(draft.view),
        camera_id=draft.camera_id,
        capture_start_time=convert.optional_timestamp(draft.capture_start_time),
        capture_end_time=convert.optional_timestamp(draft.capture_end_time),
        subjects=[convert.subject_message(subject) for subject in draft.subjects],
        retention_class=taken.retention_class.retention_class,
        retain_until_time=timestamp(retain_until_time),
        seal_time=timestamp(seal_time),
        actor=request_context().principal.name,
        flags=[evidence_pb2.EvidenceFlag.ValueType(flag) for flag in flags(draft, inspection.facts, seal_time)],
    )
