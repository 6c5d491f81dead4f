"""Late, overdue, missed: what is said of a recipient by its times and the deadline."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.enforcement import rules
from services.enforcement.rules import Counts, Course, DutyCheckState, NoticeState, Terms

ISSUE = datetime(2025, 3, 1, 4, 0, tzinfo=UTC)
DEADLINE = ISSUE + timedelta(minutes=10)
TERMS = Terms(ISSUE, DEADLINE)
IN_TIME, LATE = ISSUE + timedelta(minutes=5), ISSUE + timedelta(minutes=15)
NOW_BEFORE, NOW_AFTER = DEADLINE, DEADLINE + timedelta(microseconds=1)


def _course(received: datetime | None = None, responded: datetime | None = None) -> Course:
    return Course("141025", received, responded)


@pytest.mark.parametrize(
    ("course", "now", "state"),
    [
        (_course(), NOW_BEFORE, DutyCheckState.SENT),
        (_course(), NOW_AFTER, DutyCheckState.UNDELIVERED),
        (_course(IN_TIME), NOW_BEFORE, DutyCheckState.RECEIVED),
        (_course(IN_TIME), NOW_AFTER, DutyCheckState.MISSED),
        (_course(DEADLINE), NOW_AFTER, DutyCheckState.MISSED),
        (_course(LATE), NOW_AFTER, DutyCheckState.RECEIVED_LATE),
        # A recipient's clock may be ahead of ours.
        (_course(LATE), NOW_BEFORE, DutyCheckState.RECEIVED_LATE),
        (_course(IN_TIME, IN_TIME), NOW_BEFORE, DutyCheckState.ANSWERED),
        (_course(IN_TIME, DEADLINE), NOW_AFTER, DutyCheckState.ANSWERED),
        (_course(IN_TIME, LATE), NOW_AFTER, DutyCheckState.ANSWERED_LATE),
        (_course(LATE, LATE), NOW_AFTER, DutyCheckState.ANSWERED_LATE),
        # The receipt is not known here, as after a restore.
        (_course(None, IN_TIME), NOW_AFTER, DutyCheckState.ANSWERED),
    ],
)
def test_the_state_of_a_duty_check(course: Course, now: datetime, state: DutyCheckState) -> None:
    assert rules.duty_check_state(TERMS, course, now) is state


@pytest.mark.parametrize(
    ("course", "state"),
    [
        (_course(), NoticeState.SENT),
        (_course(LATE), NoticeState.RECEIVED),
        (_course(LATE, LATE), NoticeState.ACKNOWLEDGED),
        (_course(None, LATE), NoticeState.ACKNOWLEDGED),
    ],
)
def test_the_state_of_a_notice(course: Course, state: NoticeState) -> None:
    assert rules.notice_state(course) is state


def test_without_a_deadline_nobody_is_late() -> None:
    terms, far = Terms(ISSUE, None), ISSUE + timedelta(days=9_000)

    assert not rules.is_overdue(terms, _course(), far)
    assert not rules.is_late(terms, _course(far, far))
    assert not rules.is_received_late(terms, _course(far))


def test_nobody_waits_for_what_was_withdrawn() -> None:
    assert rules.is_overdue(TERMS, _course(), NOW_AFTER)
    assert not rules.is_overdue(Terms(ISSUE, DEADLINE, is_withdrawn=True), _course(), NOW_AFTER)


@pytest.mark.parametrize(
    ("before_issue", "is_doubtful"), [(timedelta(seconds=60), False), (timedelta(seconds=61), True)]
)
def test_times_before_the_issue_make_a_clock_doubtful(before_issue: timedelta, is_doubtful: bool) -> None:
    moment = ISSUE - before_issue

    assert rules.is_clock_doubtful(TERMS, _course(moment)) == is_doubtful
    assert rules.is_clock_doubtful(TERMS, _course(ISSUE, moment)) == is_doubtful


def test_recipients_are_counted() -> None:
    courses = [
        _course(),
        _course(IN_TIME),
        _course(LATE),
        _course(IN_TIME, IN_TIME),
        _course(IN_TIME, LATE),
    ]

    assert rules.count(TERMS, courses, NOW_AFTER) == Counts(
        recipients=5, received=4, responded=2, late=1, overdue=3, undelivered=2
    )
    assert rules.count(TERMS, courses, NOW_BEFORE) == Counts(
        recipients=5, received=4, responded=2, late=1, overdue=0, undelivered=0
    )


_MOMENTS = st.one_of(st.none(), st.integers(-30, 30).map(lambda minutes: ISSUE + timedelta(minutes=minutes)))


@given(_MOMENTS, _MOMENTS, st.integers(0, 30), st.booleans())
def test_what_is_said_of_a_recipient_agrees(
    received: datetime | None, responded: datetime | None, minutes: int, is_withdrawn: bool
) -> None:
    terms, course = Terms(ISSUE, DEADLINE, is_withdrawn), _course(received, responded)
    now = ISSUE + timedelta(minutes=minutes)
    state = rules.duty_check_state(terms, course, now)

    assert (state in (DutyCheckState.ANSWERED, DutyCheckState.ANSWERED_LATE)) == (responded is not None)
    assert (state is DutyCheckState.ANSWERED_LATE) == rules.is_late(terms, course)
    assert not (rules.is_late(terms, course) and rules.is_overdue(terms, course, now))
    assert rules.is_undelivered(terms, course, now) <= rules.is_overdue(terms, course, now)
    if not is_withdrawn:
        unanswered = {DutyCheckState.MISSED, DutyCheckState.UNDELIVERED, DutyCheckState.RECEIVED_LATE}
        assert rules.is_overdue(terms, course, now) <= (state in unanswered)
    assert rules.count(terms, [course], now).recipients == 1
