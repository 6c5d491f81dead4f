"""How far a directive has come with its recipients: late, overdue, missed. Pure; times are compared as they are stated,
each by the clock of whoever states it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from services.enforcement.limits import CLOCK_DOUBT_SECONDS


class Direction(IntEnum):
    """What a directive is to a platform, numbered as in the contract."""

    ISSUED = 1
    RECEIVED = 2
    OBSERVED = 3


class Standing(IntEnum):
    """What is outstanding, numbered as in the contract."""

    OPEN = 1
    OVERDUE = 2
    SETTLED = 3


class NoticeState(IntEnum):
    """How far a notice has come with a recipient, numbered as in the contract."""

    SENT = 1
    RECEIVED = 2
    ACKNOWLEDGED = 3


class DutyCheckState(IntEnum):
    """How far a duty check has come with a recipient, numbered as in the contract."""

    SENT = 1
    RECEIVED = 2
    ANSWERED = 3
    ANSWERED_LATE = 4
    MISSED = 5
    RECEIVED_LATE = 6
    UNDELIVERED = 7


@dataclass(frozen=True, slots=True)
class Terms:
    """What the course of each recipient is held against."""

    issue_time: datetime
    deadline_time: datetime | None
    """None when there is no hurry."""
    is_withdrawn: bool = False

    def has_passed(self, moment: datetime) -> bool:
        """Tell whether the deadline has passed at a moment; the deadline itself is in time."""
        return self.deadline_time is not None and moment > self.deadline_time


@dataclass(frozen=True, slots=True)
class Course:
    """What is known of one recipient."""

    platform: str
    receive_time: datetime | None = None
    response_time: datetime | None = None

    @property
    def is_received(self) -> bool:
        """Whether it has arrived; who has responded has received it, whatever became of the receipt."""
        return self.receive_time is not None or self.response_time is not None


@dataclass(frozen=True, slots=True)
class Counts:
    """Recipients by what is known of them."""

    recipients: int = 0
    received: int = 0
    responded: int = 0
    late: int = 0
    overdue: int = 0
    undelivered: int = 0


def is_late(terms: Terms, course: Course) -> bool:
    """Tell whether the response came after the deadline."""
    return course.response_time is not None and terms.has_passed(course.response_time)


def is_overdue(terms: Terms, course: Course, now: datetime) -> bool:
    """Tell whether a response is missing after the deadline. Nobody waits for one to what was withdrawn."""
    return course.response_time is None and not terms.is_withdrawn and terms.has_passed(now)


def is_received_late(terms: Terms, course: Course) -> bool:
    """Tell whether it arrived only after the deadline: then being late is not the person's fault."""
    return course.receive_time is not None and terms.has_passed(course.receive_time)


def is_undelivered(terms: Terms, course: Course, now: datetime) -> bool:
    """Tell whether it is overdue without having arrived in time, as far as is known."""
    return is_overdue(terms, course, now) and (not course.is_received or is_received_late(terms, course))


def is_clock_doubtful(terms: Terms, course: Course) -> bool:
    """Tell whether the recipient states times before the issue: its clock or the issuer's is wrong."""
    earliest = terms.issue_time - timedelta(seconds=CLOCK_DOUBT_SECONDS)
    return any(moment is not None and moment < earliest for moment in (course.receive_time, course.response_time))


def notice_state(course: Course) -> NoticeState:
    """Return how far a notice has come with a recipient."""
    if course.response_time is not None:
        return NoticeState.ACKNOWLEDGED
    return NoticeState.RECEIVED if course.is_received else NoticeState.SENT


def duty_check_state(terms: Terms, course: Course, now: datetime) -> DutyCheckState:
    """Return how far a duty check has come with a recipient."""
    if course.response_time is not None:
        return DutyCheckState.ANSWERED_LATE if is_late(terms, course) else DutyCheckState.ANSWERED
    if is_received_late(terms, course):
        return DutyCheckState.RECEIVED_LATE
    if not terms.has_passed(now):
        return DutyCheckState.RECEIVED if course.is_received else DutyCheckState.SENT
    return DutyCheckState.MISSED if course.is_received else DutyCheckState.UNDELIVERED


def count(terms: Terms, courses: Iterable[Course], now: datetime) -> Counts:
    """Count recipients."""
    known = list(courses)
    return Counts(
        recipients=len(known),
        received=sum(course.is_received for course in known),
        responded=sum(course.response_time is not None for course in known),
        late=sum(is_late(terms, course) for course in known),
        overdue=sum(is_overdue(terms, course, now) for course in known),
        undelivered=sum(is_undelivered(terms, course, now) for course in known),
    )
