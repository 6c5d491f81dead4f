"""What is held as messages of the contract, and what requests ask for. Pure."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from services.common import instants
from services.enforcement import refusals, rules
from services.enforcement.forms import Violation
from services.enforcement.handlers_reading import SeenChange, Wanted
from services.enforcement.holding import Held, Recipient
from services.enforcement.rules import Counts
from zhichao.enforcement.v1 import directive_pb2, duty_check_pb2, notice_pb2
from zhichao.enforcement.v1 import service_pb2 as pb

HeldNotice = Held[notice_pb2.Notice, notice_pb2.NoticeAcknowledgement]
HeldDutyCheck = Held[duty_check_pb2.DutyCheck, duty_check_pb2.DutyCheckAnswer]


def held_notice(held: HeldNotice, now: datetime) -> pb.HeldNotice:
    """Write a notice as held."""
    return pb.HeldNotice(
        issuer=held.issuer,
        sequence=held.sequence,
        notice=held.directive,
        direction=directive_pb2.Direction.ValueType(held.direction),
        withdrawal=held.withdrawal,
        counts=_counts(held.counts),
        own=notice_recipient(held.own, now) if held.own is not None else None,
    )


def notice_recipient(recipient: Recipient[notice_pb2.NoticeAcknowledgement], now: datetime) -> pb.NoticeRecipient:
    """Write a recipient of a notice as it stands at a moment."""
    course, terms = recipient.course, recipient.terms
    return pb.NoticeRecipient(
        platform_code=course.platform,
        state=pb.RecipientState.ValueType(rules.notice_state(course)),
        receive_time=_timestamp(course.receive_time),
        acknowledgement=recipient.response,
        acknowledgement_sequence=recipient.response_sequence,
        is_late=rules.is_late(terms, course),
        is_overdue=rules.is_overdue(terms, course, now),
        is_received_late=rules.is_received_late(terms, course),
        is_clock_doubtful=rules.is_clock_doubtful(terms, course),
    )


def held_duty_check(held: HeldDutyCheck, now: datetime) -> pb.HeldDutyCheck:
    """Write a duty check as held."""
    return pb.HeldDutyCheck(
        issuer=held.issuer,
        sequence=held.sequence,
        duty_check=held.directive,
        direction=directive_pb2.Direction.ValueType(held.direction),
        counts=_counts(held.counts),
        own=duty_check_recipient(held.own, now) if held.own is not None else None,
    )


def duty_check_recipient(recipient: Recipient[duty_check_pb2.DutyCheckAnswer], now: datetime) -> pb.DutyCheckRecipient:
    """Write a recipient of a duty check as it stands at a moment."""
    course, terms = recipient.course, recipient.terms
    return pb.DutyCheckRecipient(
        platform_code=course.platform,
        state=pb.DutyCheckState.ValueType(rules.duty_check_state(terms, course, now)),
        receive_time=_timestamp(course.receive_time),
        answer=recipient.response,
        answer_sequence=recipient.response_sequence,
        is_received_late=rules.is_received_late(terms, course),
        is_clock_doubtful=rules.is_clock_doubtful(terms, course),
    )


def inbox_change(seen: SeenChange, now: datetime) -> pb.InboxChange:
    """Write a change."""
    change = pb.InboxChange(
        position=seen.row.position,
        kind=pb.InboxChangeKind.ValueType(seen.row.change),
        platform_code=seen.row.platform,
    )
    if isinstance(seen.held.directive, notice_pb2.Notice):
        change.held_notice.CopyFrom(held_notice(seen.held, now))
    else:
        change.held_duty_check.CopyFrom(held_duty_check(seen.held, now))
    return change


def wanted(narrow: pb.DirectiveFilter, division_code: str, subkind: int = 0) -> Wanted:
    """Read what a list asks for. Raises ServiceError INVALID_ARGUMENT for what is no time."""
    violations: list[Violation] = []
    times: dict[str, datetime] = {}
    for field in ("start_time", "end_time"):
        if narrow.HasField(field):
            try:
                times[field] = instants.moment(getattr(narrow, field))
            except ValueError as error:
                violations.append(Violation(f"filter.{field}", str(error)))
    asked = Wanted(
        narrow.direction,
        narrow.standing,
        narrow.issuer,
        subkind,
        times.get("start_time"),
        times.get("end_time"),
        division_code,
    )
    if violations:
        raise refusals.bad_fields([*asked.violations(), *violations])
    return asked


def _counts(counts: Counts) -> directive_pb2.RecipientCounts:
    return directive_pb2.RecipientCounts(
        recipient_count=counts.recipients,
        received_count=counts.received,
        responded_count=counts.responded,
        late_count=counts.late,
        overdue_count=counts.overdue,
        undelivered_count=counts.undelivered,
    )


def _timestamp(moment: datetime | None) -> Timestamp | None:
    return None if moment is None else instants.timestamp(moment)
