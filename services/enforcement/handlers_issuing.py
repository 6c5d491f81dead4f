"""The use cases of whoever issues: a notice, a duty check, a withdrawal. One method is one transaction.

What is checked cannot change before it is committed: writers take turns (EntryWriter). A platform issues some
directives a day.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from services.common.access.control import AccessControl
from services.common.china_time import CHINA_TIME
from services.common.clock import Clock
from services.common.database import Engine, RawConnection, raw_connection, reading, translate_errors
from services.common.errors import ServiceError
from services.common.instants import timestamp
from services.common.reasons import Reason
from services.common.request import request_context
from services.enforcement import audience, convert, domain, forms, kinds, refusals, store
from services.enforcement.audience import RegisteredPlatform
from services.enforcement.forms import Violation
from services.enforcement.holding import Held, Holding
from services.enforcement.kinds import Directive, Kind, Response
from services.enforcement.limits import RECIPIENTS_MAX
from services.enforcement.store import Name, Row
from services.journal.entry_writer import EntryWriter
from zhichao.enforcement.v1 import duty_check_pb2, notice_pb2


class IssuingHandlers:
    """What is issued and taken back."""

    def __init__(
        self,
        engine: Engine,
        entries: EntryWriter,
        holding: Holding,
        access: AccessControl,
        registered_platforms: Callable[[], Sequence[RegisteredPlatform]],
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._entries = entries
        self._holding = holding
        self._access = access
        self._registered_platforms = registered_platforms
        self._clock = clock

    def issue_notice(
        self, message: notice_pb2.Notice, *, allow_missing_platforms: bool
    ) -> Held[notice_pb2.Notice, notice_pb2.NoticeAcknowledgement]:
        """Issue a notice and return it as stored; the same content again returns the stored one.

        Raises ServiceError INVALID_ARGUMENT with every bad field, OUTSIDE_SCOPE, RESOURCE_EXISTS, REFERENCE_NOT_FOUND,
        SERVICE_UNAVAILABLE, ACCESS_UNKNOWN.
        """
        notice, unreadable = convert.notice(message)
        violations = [*notice.violations(), *unreadable]
        stored = self._stored(kinds.NOTICE, notice.notice_id)
        if stored is None:
            violations += domain.deadline_violations(notice.deadline_time, self._clock.now())
        self._refuse(kinds.NOTICE, violations, notice.audiences)
        notice = notice.canonical()

        def is_same(held: notice_pb2.Notice) -> bool:
            return convert.notice(held)[0].canonical() == notice

        return self._issue(
            kinds.NOTICE,
            notice.notice_id,
            stored,
            is_same,
            lambda recipients, actor, now: convert.notice_message(notice, recipients, actor, now),
            lambda: self._recipients(
                kinds.NOTICE, message.audiences, notice.recipient_scope, allow_missing=allow_missing_platforms
            ),
        )

    def issue_duty_check(
        self, message: duty_check_pb2.DutyCheck, *, allow_missing_platforms: bool
    ) -> Held[duty_check_pb2.DutyCheck, duty_check_pb2.DutyCheckAnswer]:
        """Issue a duty check and return it as stored; the same content again returns the stored one.

        Its deadline runs from the commit. Raises ServiceError as `issue_notice`.
        """
        duty_check = convert.duty_check(message)
        stored = self._stored(kinds.DUTY_CHECK, duty_check.duty_check_id)
        self._refuse(kinds.DUTY_CHECK, list(duty_check.violations()), duty_check.audiences)
        duty_check = duty_check.canonical()

        def is_same(held: duty_check_pb2.DutyCheck) -> bool:
            return convert.duty_check(held).canonical() == duty_check

        return self._issue(
            kinds.DUTY_CHECK,
            duty_check.duty_check_id,
            stored,
            is_same,
            lambda recipients, actor, now: convert.duty_check_message(duty_check, recipients, actor, now),
            lambda: self._recipients(
                kinds.DUTY_CHECK, message.audiences, duty_check.recipient_scope, allow_missing=allow_missing_platforms
            ),
        )

    def withdraw_notice(self, notice_id: str, reason: str) -> Held[notice_pb2.Notice, notice_pb2.NoticeAcknowledgement]:
        """Take back a notice of this platform and return it; one that is taken back already stays as it is.

        Raises ServiceError INVALID_ARGUMENT, NOT_FOUND, NOT_OWNED, OUTSIDE_SCOPE.
        """
        if violations := domain.withdrawal_violations(notice_id, reason):
            raise refusals.bad_fields(violations)
        name = Name(self._holding.own, notice_id)
        with self._entries.writing() as connection:
            row = store.read_directive(connection, kinds.NOTICE.number, name)
            if row is None:
                raise self._no_own(connection, name)
            notice = notice_pb2.Notice.FromString(row.content)
            self._refuse_outside(notice.audiences, "notice.")
            now = self._clock.now()
            if not store.read_withdrawals(connection, kinds.NOTICE.number, [name]):
                withdrawal = notice_pb2.NoticeWithdrawal(
                    notice_id=notice_id,
                    reason=reason,
                    actor=request_context().principal.name,
                    withdraw_time=timestamp(now),
                )
                self._entries.write(
                    connection, kinds.WITHDRAWAL_KIND, withdrawal.SerializeToString(), now, notice.audiences
                )
            return self._holding.put_together(connection, kinds.NOTICE, [row], None, now)[0]

    # Parts of the above

    def _issue(
        self,
        kind: Kind[Directive, Response],
        directive_id: str,
        stored: Row | None,
        is_same: Callable[[Directive], bool],
        write: Callable[[tuple[str, ...], str, datetime], Directive],
        find_recipients: Callable[[], tuple[str, ...]],
    ) -> Held[Directive, Response]:
        # Asked before the transaction: the registry may take its time, and what is stored needs no answer.
        recipients = find_recipients() if stored is None else ()
        with self._entries.writing() as connection:
            row = stored or store.read_directive(connection, kind.number, Name(self._holding.own, directive_id))
            now = self._clock.now()
            if row is not None:
                if not is_same(kind.parse(row.content)):
                    raise refusals.exists(kind, directive_id)
            else:
                message = write(recipients, request_context().principal.name, now)
                self._entries.write(
                    connection, kind.directive_kind, message.SerializeToString(), now, message.audiences
                )
                row = store.read_directive(connection, kind.number, Name(self._holding.own, directive_id))
                if row is None:
                    raise LookupError("the directive that was just written is not there")
            return self._holding.put_together(connection, kind, [row], None, now)[0]

    def _stored(self, kind: Kind[Any, Any], directive_id: str) -> Row | None:
        """Return the directive of this platform that has the id already."""
        if forms.directive_id(directive_id):
            return None
        with translate_errors(), reading(self._engine) as pooled:
            return store.read_directive(raw_connection(pooled), kind.number, Name(self._holding.own, directive_id))

    def _refuse(self, kind: Kind[Any, Any], violations: Sequence[Violation], audiences: Sequence[str]) -> None:
        """Refuse bad fields, all at once, and audiences that the platform or the caller may not address."""
        divisions = self._holding.divisions()
        prefix = f"{kind.directive_type}."
        overlapping = list(audience.overlapping(audiences, divisions))
        if violations:
            raise refusals.bad_fields([*violations, *overlapping], prefix)
        outside = list(audience.outside(audiences, self._holding.own, divisions))
        if outside:
            raise refusals.outside_scope(outside, prefix, self._holding.own, "this platform's own division")
        if overlapping:
            raise refusals.bad_fields(overlapping, prefix)
        self._refuse_outside(audiences, prefix)

    def _refuse_outside(self, audiences: Sequence[str], prefix: str) -> None:
        """Refuse audiences outside of what the caller is bound to."""
        principal = request_context().principal
        if not self._access.is_bound_to_division(principal):
            return
        outside = list(audience.outside(audiences, principal.division_code, self._holding.divisions()))
        if outside:
            raise refusals.outside_scope(outside, prefix, principal.division_code, "the division that you act for")

    def _recipients(
        self, kind: Kind[Any, Any], audiences: Sequence[str], scope: int, *, allow_missing: bool
    ) -> tuple[str, ...]:
        """Return who is asked as of today. Raises ServiceError REFERENCE_NOT_FOUND, BATCH_TOO_LARGE."""
        prefix = f"{kind.directive_type}."
        # Registrations hold by days of China Standard Time.
        day = self._clock.now().astimezone(CHINA_TIME).date().isoformat()
        found = audience.recipients(
            self._registered_platforms(), audiences, scope, self._holding.own, day, self._holding.divisions()
        )
        if found.places_without_platform and not allow_missing:
            raise refusals.no_platform(audiences, found.places_without_platform, prefix)
        if len(found.platforms) > RECIPIENTS_MAX:
            raise ServiceError(
                Reason.BATCH_TOO_LARGE,
                f"{prefix}audiences ask {len(found.platforms)} platforms, more than {RECIPIENTS_MAX}: issue it in "
                "parts, or to the highest platforms only (RECIPIENT_SCOPE_DIVISION)",
                message_zh=f"下发对象共 {len(found.platforms)} 个平台，超过上限 {RECIPIENTS_MAX}，请分批下发",
                metadata={"limit": str(RECIPIENTS_MAX), "actual": str(len(found.platforms))},
            )
        return found.platforms

    def _no_own(self, connection: RawConnection, name: Name) -> ServiceError:
        """Return the refusal of a withdrawal of something that this platform has not issued."""
        issuers = store.read_issuers(connection, kinds.NOTICE.number, name.directive_id)
        if issuers:
            return refusals.not_owned(kinds.NOTICE, name.directive_id, issuers[0])
        return refusals.not_found(kinds.NOTICE, name)
