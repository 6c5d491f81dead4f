"""Messages of the contract to and from the domain. Pure.

What is stored is the message itself and not the domain's copy of it: fields that this release does not know survive.
"""

from datetime import datetime

from services.common.instants import moment, timestamp
from services.enforcement import domain
from services.enforcement.domain import AnswerKind, RecipientScope
from services.enforcement.forms import Violation
from zhichao.enforcement.v1 import directive_pb2, duty_check_pb2, notice_pb2, service_pb2

_WithOfficer = (
    notice_pb2.Notice
    | duty_check_pb2.DutyCheck
    | service_pb2.AcknowledgeNoticeRequest
    | service_pb2.AnswerDutyCheckRequest
)


def notice(message: notice_pb2.Notice) -> tuple[domain.Notice, list[Violation]]:
    """Read what a caller says of a notice, and what is wrong with a deadline that is no time; then it has none."""
    deadline_time, unreadable = None, []
    if message.HasField("deadline_time"):
        try:
            deadline_time = moment(message.deadline_time)
        except ValueError as error:
            unreadable.append(Violation("deadline_time", str(error)))
    said = domain.Notice(
        notice_id=message.notice_id,
        kind=message.kind,
        title=message.title,
        body=message.body,
        deadline_time=deadline_time,
        audiences=tuple(message.audiences),
        recipient_scope=message.recipient_scope or RecipientScope.SUBTREE,
        officer=officer(message),
    )
    return said, unreadable


def duty_check(message: duty_check_pb2.DutyCheck) -> domain.DutyCheck:
    """Read what a caller says of a duty check."""
    return domain.DutyCheck(
        duty_check_id=message.duty_check_id,
        question=message.question,
        answer_kind=message.answer_kind or AnswerKind.TEXT,
        answer_minutes=message.answer_minutes,
        audiences=tuple(message.audiences),
        recipient_scope=message.recipient_scope or RecipientScope.SUBTREE,
        officer=officer(message),
    )


def officer(message: _WithOfficer) -> domain.Officer | None:
    """Read the officer of a message; None when none is named."""
    if not message.HasField("officer"):
        return None
    return domain.Officer(message.officer.name, message.officer.phone_number)


def officer_message(officer: domain.Officer | None) -> directive_pb2.Officer | None:
    """Write an officer."""
    return directive_pb2.Officer(name=officer.name, phone_number=officer.phone_number) if officer else None


def notice_message(
    notice: domain.Notice, recipients: tuple[str, ...], actor: str, issue_time: datetime
) -> notice_pb2.Notice:
    """Write a notice as it is stored."""
    return notice_pb2.Notice(
        notice_id=notice.notice_id,
        kind=notice_pb2.NoticeKind.ValueType(notice.kind),
        title=notice.title,
        body=notice.body,
        deadline_time=timestamp(notice.deadline_time) if notice.deadline_time else None,
        audiences=notice.audiences,
        recipient_scope=directive_pb2.RecipientScope.ValueType(notice.recipient_scope),
        officer=officer_message(notice.officer),
        recipients=recipients,
        actor=actor,
        issue_time=timestamp(issue_time),
    )


def duty_check_message(
    duty_check: domain.DutyCheck, recipients: tuple[str, ...], actor: str, issue_time: datetime
) -> duty_check_pb2.DutyCheck:
    """Write a duty check as it is stored."""
    return duty_check_pb2.DutyCheck(
        duty_check_id=duty_check.duty_check_id,
        question=duty_check.question,
        answer_kind=duty_check_pb2.AnswerKind.ValueType(duty_check.answer_kind),
        answer_minutes=duty_check.answer_minutes,
        audiences=duty_check.audiences,
        recipient_scope=directive_pb2.RecipientScope.ValueType(duty_check.recipient_scope),
        officer=officer_message(duty_check.officer),
        recipients=recipients,
        actor=actor,
        issue_time=timestamp(issue_time),
        deadline_time=timestamp(duty_check.deadline_time(issue_time)),
    )
