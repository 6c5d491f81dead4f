"""The use cases of whoever is asked: acknowledging a notice, answering a duty check. One method is one transaction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic

from services.common.clock import Clock
from services.common.instants import timestamp
from services.common.request import request_context
from services.enforcement import convert, domain, forms, kinds, refusals, store
from services.enforcement.domain import Officer
from services.enforcement.forms import Violation
from services.enforcement.holding import Holding, Recipient
from services.enforcement.kinds import Directive, Kind, Response
from services.enforcement.rules import Direction
from services.enforcement.store import Name
from services.journal.entry_writer import EntryWriter
from zhichao.enforcement.v1 import duty_check_pb2, notice_pb2


@dataclass(frozen=True, slots=True)
class Responded(Generic[Response]):
    """This platform as a recipient, with the response that counts."""

    recipient: Recipient[Response]
    is_earlier: bool
    """Whether somebody had responded before."""


class RespondingHandlers:
    """What this platform says to directives from above. Of two persons at once one is first; both get what counts."""

    def __init__(self, entries: EntryWriter, holding: Holding, clock: Clock) -> None:
        self._entries = entries
        self._holding = holding
        self._clock = clock

    def acknowledge_notice(
        self, issuer: str, notice_id: str, text: str, officer: Officer | None
    ) -> Responded[notice_pb2.NoticeAcknowledgement]:
        """Acknowledge a notice. Raises ServiceError INVALID_ARGUMENT, NOT_FOUND, NOT_RECIPIENT, NOTICE_WITHDRAWN."""

        def write(notice: notice_pb2.Notice, actor: str, now: datetime) -> notice_pb2.NoticeAcknowledgement:
            return notice_pb2.NoticeAcknowledgement(
                issuer=issuer,
                notice_id=notice.notice_id,
                text=text,
                officer=convert.officer_message(officer),
                actor=actor,
                acknowledge_time=timestamp(now),
            )

        return self._respond(
            kinds.NOTICE,
            Name(issuer, notice_id),
            domain.acknowledgement_violations(text, officer),
            lambda _: [],
            write,
        )

    def answer_duty_check(
        self, issuer: str, duty_check_id: str, answer: str, officer: Officer | None
    ) -> Responded[duty_check_pb2.DutyCheckAnswer]:
        """Answer a duty check. Raises ServiceError INVALID_ARGUMENT, NOT_FOUND, NOT_RECIPIENT."""

        def examine(duty_check: duty_check_pb2.DutyCheck) -> Sequence[Violation]:
            description = domain.answer_form(answer, duty_check.answer_kind)
            return [Violation("answer", description)] if description else []

        def write(duty_check: duty_check_pb2.DutyCheck, actor: str, now: datetime) -> duty_check_pb2.DutyCheckAnswer:
            return duty_check_pb2.DutyCheckAnswer(
                issuer=issuer,
                duty_check_id=duty_check.duty_check_id,
                answer=answer,
                officer=convert.officer_message(officer),
                actor=actor,
                answer_time=timestamp(now),
            )

        return self._respond(
            kinds.DUTY_CHECK,
            Name(issuer, duty_check_id),
            domain.answer_violations(answer, officer),
            examine,
            write,
        )

    def _respond(
        self,
        kind: Kind[Directive, Response],
        name: Name,
        violations: Sequence[Violation],
        examine: Callable[[Directive], Sequence[Violation]],
        write: Callable[[Directive, str, datetime], Response],
    ) -> Responded[Response]:
        checked = [
            Violation("issuer", forms.division_code(name.issuer)),
            Violation(kind.id_field, forms.directive_id(name.directive_id)),
            *violations,
        ]
        bad = [violation for violation in checked if violation.description]
        if bad:
            raise refusals.bad_fields(bad)
        own = self._holding.own
        with self._entries.writing() as connection:
            row = store.read_directive(connection, kind.number, name)
            if row is None:
                raise refusals.not_found(kind, name)
            recipients = self._holding.recipients(connection, kind, row, [own])
            if not recipients or self._holding.direction(row, is_recipient=True) is not Direction.RECEIVED:
                raise refusals.not_recipient(kind, name, own)
            (recipient,) = recipients
            if recipient.response is not None:
                return Responded(recipient, True)
            if recipient.terms.is_withdrawn:
                raise refusals.withdrawn(name)
            directive = kind.parse(row.content)
            if bad := list(examine(directive)):
                raise refusals.bad_fields(bad)
            now = self._clock.now()
            response = write(directive, request_context().principal.name, now)
            self._entries.write(connection, kind.response_kind, response.SerializeToString(), now)
            (recipient,) = self._holding.recipients(connection, kind, row, [own])
            return Responded(recipient, False)
