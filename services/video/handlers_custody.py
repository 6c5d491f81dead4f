"""The use cases of whoever keeps evidence, hands it on or asks for it: exports, holds, longer retention, requests for
bytes below, and the list of all that was done.
"""

import secrets
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Final

from services.common.access.control import AccessControl
from services.common.access.readable import readable_origin
from services.common.clock import Clock
from services.common.database import Engine, RawConnection, raw_connection, reading, translate_errors
from services.common.forms import bad_fields, described
from services.common.paging import decode_token, encode_token, filter_digest, key_time, page_size, time_key
from services.common.reasons import Reason
from services.common.request import request_context
from services.video import answers, custody, filters, forms, holding
from services.video import refusals_reading as refusals
from services.video.custody import CustodyAction
from services.video.custody_writer import CustodyWriter
from services.video.domain import BytesState, Name
from services.video.forms import Violation
from services.video.holding import Held
from services.video.limits import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX
from services.video.store import custody as custody_store
from services.video.store import reading as reading_store
from services.video.store import requests as requests_store
from services.video.store.custody import EventRow
from services.video.store.reading import HeldRow
from zhichao.video.v1 import custody_pb2
from zhichao.video.v1 import service_pb2 as pb

EXPORTS_MAX: Final = 100
"""Pieces of evidence in one call (the contract): a bundle of one weighing has some ten."""

REQUEST_ID_BYTES: Final = 8
"""Random bytes in the id of a request: it names one among those for one piece of evidence."""


class CustodyHandlers:
    """What is done with evidence. One method is one transaction; writers take turns (EntryWriter), so that what is read
    in it stays as it is until the commit.

    `on_locks` is called after holds or retention have changed, `on_wish` after bytes were asked for, so that the store
    and the relay learn of it at once.
    """

    def __init__(
        self,
        engine: Engine,
        own: str,
        custody_writer: CustodyWriter,
        access: AccessControl,
        clock: Clock,
        on_locks: Callable[[], None],
        on_wish: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._own = own
        self._custody = custody_writer
        self._access = access
        self._clock = clock
        self._on_locks = on_locks
        self._on_wish = on_wish

    def record_export(self, request: pb.RecordExportRequest) -> pb.RecordExportResponse:
        """Write down that evidence goes into a bundle; what is written down of it for this bundle already stays.

        Raises ServiceError INVALID_ARGUMENT, OUTSIDE_SCOPE, NOT_FOUND, RESOURCE_EXISTS; then nothing is written.
        """
        names = self._export_names(request)
        with self._custody.writing() as connection:
            rows = reading_store.read_evidence_of(connection, names)
            if missing := [name for name in names if name not in rows]:
                raise refusals.not_found(missing[0])
            now = self._clock.now()
            written = custody_store.read_exports(connection, self._own, request.bundle_id, names)
            self._refuse_others_bundle(request, written.values())
            for name in names:
                if name not in written:
                    self._custody.write(
                        connection,
                        rows[name].named,
                        CustodyAction.EXPORTED,
                        request.purpose,
                        now,
                        reference_id=request.bundle_id,
                    )
            written = custody_store.read_exports(connection, self._own, request.bundle_id, names)
        return pb.RecordExportResponse(held_events=[answers.held_event(written[name]) for name in names])

    def place_legal_hold(self, request: pb.PlaceLegalHoldRequest) -> pb.PlaceLegalHoldResponse:
        """Place a hold; one that stands with the same purpose is answered.

        Raises ServiceError INVALID_ARGUMENT, NOT_FOUND, RESOURCE_EXISTS, BYTES_EXPIRED.
        """
        name = filters.readable_name(request.name, self._own, _hold_violations(request))
        with self._custody.writing() as connection:
            row = self._find(connection, name)
            standing = self._own_hold(connection, name, request.hold_id)
            if standing is None:
                self._refuse_expired(connection, row)
                self._custody.write(
                    connection,
                    row.named,
                    CustodyAction.HOLD_PLACED,
                    request.purpose,
                    self._clock.now(),
                    reference_id=request.hold_id,
                )
            elif standing.purpose != request.purpose:
                raise refusals.other_purpose(request.hold_id)
            held = self._held(connection, name)
        self._on_locks()
        return pb.PlaceLegalHoldResponse(held_evidence=answers.held_evidence(held))

    def release_legal_hold(self, request: pb.ReleaseLegalHoldRequest) -> pb.ReleaseLegalHoldResponse:
        """Release a hold of this platform; one that is released already stays so.

        Raises ServiceError INVALID_ARGUMENT, NOT_FOUND, NOT_OWNED.
        """
        name = filters.readable_name(request.name, self._own, _hold_violations(request))
        with self._custody.writing() as connection:
            row = self._find(connection, name)
            platforms = custody_store.read_hold_platforms(connection, name, request.hold_id)
            if self._own not in platforms:
                raise self._no_own_hold(request.hold_id, platforms)
            if platforms[self._own]:
                self._custody.write(
                    connection,
                    row.named,
                    CustodyAction.HOLD_RELEASED,
                    request.purpose,
                    self._clock.now(),
                    reference_id=request.hold_id,
                )
            held = self._held(connection, name)
        self._on_locks()
        return pb.ReleaseLegalHoldResponse(held_evidence=answers.held_evidence(held))

    def extend_retention(self, request: pb.ExtendRetentionRequest) -> pb.ExtendRetentionResponse:
        """Keep evidence longer; the time in force again changes nothing.

        Raises ServiceError INVALID_ARGUMENT, NOT_FOUND, RETENTION_SHORTENED, BYTES_EXPIRED.
        """
        until_time, unreadable = filters.optional_time(request, "retain_until_time")
        violations = described(
            (
                ("retain_until_time", unreadable),
                ("purpose", forms.purpose(request.purpose)),
                ("retain_until_time", "is missing" if until_time is None and not unreadable else ""),
            )
        )
        name = filters.readable_name(request.name, self._own, violations)
        if until_time is None:
            raise LookupError("a time that is missing was not refused")
        with self._custody.writing() as connection:
            row = self._find(connection, name)
            now = self._clock.now()
            if until_time < row.retain_until_time:
                raise refusals.shortened(until_time, row.retain_until_time)
            if until_time > row.retain_until_time:
                if description := custody.extension_violation(until_time, now):
                    raise bad_fields([Violation("retain_until_time", description)])
                self._refuse_expired(connection, row)
                self._custody.write(
                    connection,
                    row.named,
                    CustodyAction.RETENTION_EXTENDED,
                    request.purpose,
                    now,
                    until_time=until_time,
                )
            held = self._held(connection, name)
        self._on_locks()
        return pb.ExtendRetentionResponse(held_evidence=answers.held_evidence(held))

    def list_custody(self, request: pb.ListCustodyRequest) -> pb.ListCustodyResponse:
        """Return one page of what was done, the oldest first.

        Raises ServiceError INVALID_ARGUMENT, OUTSIDE_SCOPE, NOT_FOUND, INVALID_PAGE_TOKEN.
        """
        name = filters.readable_name(request.name, self._own)
        size = page_size(request.page_size, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        digest = filter_digest("ListCustody", *name)
        key = decode_token(request.page_token, digest, (int, str, int))
        after = (key_time(key[0]), str(key[1]), int(key[2])) if key else None
        with translate_errors(), reading(self._engine) as pooled:
            connection = raw_connection(pooled)
            self._find(connection, name)
            rows = custody_store.list_events(connection, name, after, size + 1)
        return pb.ListCustodyResponse(
            held_events=[answers.held_event(row) for row in rows[:size]],
            next_page_token=_token_after(digest, rows[size - 1]) if len(rows) > size else "",
        )

    def fetch_evidence(self, request: pb.FetchEvidenceRequest) -> pb.FetchEvidenceResponse:
        """Ask for bytes that are below; a request that is open already is answered, and bytes that are here are enough.

        Raises ServiceError INVALID_ARGUMENT, NOT_FOUND, BYTES_EXPIRED, and EVIDENCE_MISSING or EVIDENCE_CHANGED for
        what this platform has sealed itself and lost.
        """
        deadline_time, unreadable = filters.optional_time(request, "deadline_time")
        now = self._clock.now()
        late = custody.deadline_violation(deadline_time, now) if deadline_time is not None else ""
        violations = described(
            (("deadline_time", unreadable), ("purpose", forms.purpose(request.purpose)), ("deadline_time", late))
        )
        name = filters.readable_name(request.name, self._own, violations)
        with self._custody.writing() as connection:
            row = self._find(connection, name)
            request_id = ""
            if row.state != BytesState.HELD:
                until_time = deadline_time or now + timedelta(days=custody.REQUEST_DAYS_DEFAULT)
                request_id = self._request(connection, row, request.purpose, now, until_time)
            held = self._held(connection, name)
        self._on_wish()
        return pb.FetchEvidenceResponse(request_id=request_id, held_evidence=answers.held_evidence(held))

    # Parts of the above

    def _request(
        self, connection: RawConnection, row: HeldRow, purpose: str, now: datetime, until_time: datetime
    ) -> str:
        """Return the id of the request that is open, which is written now if there is none."""
        if refusal := holding.gone(connection, row, self._own):
            raise refusal
        facts = custody_store.read_facts(connection, row.name, [CustodyAction.REQUESTED, CustodyAction.RECEIVED])
        standing = custody.open_request(facts, self._own, now)
        # What was found gone is asked for no more, whatever is open: it may be there again, and is asked for anew.
        if standing is not None and row.state != BytesState.GONE:
            return standing.reference_id
        request_id = secrets.token_hex(REQUEST_ID_BYTES)
        self._custody.write(
            connection,
            row.named,
            CustodyAction.REQUESTED,
            purpose,
            now,
            reference_id=request_id,
            until_time=until_time,
        )
        requests_store.want(connection, row.name, now, until_time)
        return request_id

    def _own_hold(self, connection: RawConnection, name: Name, hold_id: str) -> custody_pb2.CustodyEvent | None:
        """Return the placement of a hold of this platform that stands."""
        for hold in custody_store.read_holds(connection, [name]).get(name, ()):
            if (hold.platform, hold.hold_id) == (self._own, hold_id):
                return custody_pb2.CustodyEvent.FromString(hold.content)
        return None

    def _no_own_hold(self, hold_id: str, platforms: dict[str, bool]) -> Exception:
        standing = [platform for platform, stands in platforms.items() if stands]
        return refusals.others_hold(hold_id, standing[0]) if standing else refusals.no_hold(hold_id)

    def _refuse_expired(self, connection: RawConnection, row: HeldRow) -> None:
        """Refuse to keep bytes that nobody has any more: whoever asks would think that they are safe."""
        if row.state in (BytesState.HELD, BytesState.DAMAGED):
            return
        refusal = holding.gone(connection, row, self._own)
        if refusal is not None and refusal.reason is Reason.BYTES_EXPIRED:
            raise refusal

    def _find(self, connection: RawConnection, name: Name) -> HeldRow:
        row = reading_store.read_evidence(connection, name)
        if row is None:
            raise refusals.not_found(name)
        return row

    def _held(self, connection: RawConnection, name: Name) -> Held:
        held = holding.find(connection, name)
        if held is None:
            raise LookupError("evidence that was just there is not there")
        return held

    def _refuse_others_bundle(self, request: pb.RecordExportRequest, written: Iterable[EventRow]) -> None:
        """Refuse the id of a bundle that somebody else made, or for something else: it would go out in their name."""
        for row in written:
            event = custody_pb2.CustodyEvent.FromString(row.content)
            if (event.actor, event.purpose) != (request_context().principal.name, request.purpose):
                raise refusals.others_bundle(request.bundle_id)

    def _export_names(self, request: pb.RecordExportRequest) -> list[Name]:
        """Return what is exported, held against what the caller is bound to."""
        violations = described(
            (("purpose", forms.purpose(request.purpose)), ("bundle_id", forms.reference_id(request.bundle_id)))
        )
        if not 1 <= len(request.names) <= EXPORTS_MAX:
            violations.append(Violation("names", f"has {len(request.names)} values, but takes 1 to {EXPORTS_MAX}"))
            raise bad_fields(violations)
        names = []
        for place, message in enumerate(request.names):
            name, bad = filters.evidence_name(message, self._own, f"names[{place}]")
            names.append(name)
            violations += bad
        violations += [Violation(f"names[{place}]", "is named before") for place in custody.duplicates(names)]
        if violations:
            raise bad_fields(violations)
        principal = request_context().principal
        is_bound = self._access.is_bound_to_division(principal)
        for place, name in enumerate(names):
            if not principal.covers_unit(name.source_unit_id):
                raise refusals.outside_scope(f"names[{place}].source_unit_id", "is not one of yours")
            readable_origin(principal, self._own, name.origin, f"names[{place}].origin")
            if is_bound and not self._access.knowledge.divisions.is_within(name.origin, principal.division_code):
                what = f"{name.origin} does not lie within {principal.division_code}"
                raise refusals.outside_scope(f"names[{place}].origin", what)
        return names


def _hold_violations(request: pb.PlaceLegalHoldRequest | pb.ReleaseLegalHoldRequest) -> list[Violation]:
    return described((("hold_id", forms.reference_id(request.hold_id)), ("purpose", forms.purpose(request.purpose))))


def _token_after(digest: str, row: EventRow) -> str:
    return encode_token(digest, (time_key(row.event_time), row.origin, row.sequence))
