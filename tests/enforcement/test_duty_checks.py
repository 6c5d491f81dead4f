"""A duty check has to be answered in time: in time, late, missed, and what was never a person's fault."""

from datetime import timedelta

import pytest

from services.common.reasons import Reason
from tests.enforcement import examples
from tests.enforcement.examples import answer, duty_check, duty_check_recipients, get_duty_check, issue_duty_check
from tests.enforcement.harness import CITY, COUNTY, NEIGHBOUR, PROVINCE, RunningEnforcement
from tests.registry.harness import START
from tests.running_service import SharedClock, carry_down, carry_up
from zhichao.enforcement.v1 import directive_pb2, duty_check_pb2
from zhichao.enforcement.v1 import service_pb2 as pb


def _state(service: RunningEnforcement, platform: str = COUNTY, issuer: str = CITY) -> str:
    recipient = duty_check_recipients(service, issuer)[platform]
    return pb.DutyCheckState.Name(recipient.state).removeprefix("DUTY_CHECK_STATE_")


def test_a_duty_check_has_a_deadline(city: RunningEnforcement) -> None:
    held = issue_duty_check(city, duty_check(minutes=10))

    expected = duty_check(minutes=10, answer_kind=duty_check_pb2.ANSWER_KIND_TEXT)
    expected.recipient_scope = directive_pb2.RECIPIENT_SCOPE_SUBTREE
    expected.recipients.append(COUNTY)
    expected.actor = "person/tester"
    expected.issue_time.FromDatetime(START)
    expected.deadline_time.FromDatetime(START + timedelta(minutes=10))
    assert held.duty_check == expected


def test_answered_in_time(city: RunningEnforcement, county: RunningEnforcement, clock: SharedClock) -> None:
    issue_duty_check(city, duty_check(minutes=10))
    states = [_state(city)]
    clock.advance(minutes=2)
    carry_down(city, county)
    carry_up(county, city)
    states.append(_state(city))
    # The deadline itself is in time.
    clock.advance(minutes=8)
    said = answer(county, CITY, said="张某在岗")
    # What was answered in time is known here only later.
    clock.advance(minutes=30)
    states.append(_state(city))
    carry_up(county, city)
    states.append(_state(city))

    assert states == ["SENT", "RECEIVED", "MISSED", "ANSWERED"]
    recipient = duty_check_recipients(city)[COUNTY]
    assert recipient.answer == said.recipient.answer
    assert recipient.answer.answer == "张某在岗"
    assert recipient.answer.officer == examples.OFFICER
    assert recipient.answer.answer_time.ToDatetime() == (START + timedelta(minutes=10)).replace(tzinfo=None)


def test_answered_late(city: RunningEnforcement, county: RunningEnforcement, clock: SharedClock) -> None:
    issue_duty_check(city, duty_check(minutes=10))
    carry_down(city, county)
    clock.advance(minutes=10, microseconds=1)

    missed = _state(county)
    recipient = answer(county, CITY).recipient
    carry_up(county, city)

    assert missed == "MISSED"
    assert (recipient.state, recipient.is_received_late) == (pb.DUTY_CHECK_STATE_ANSWERED_LATE, False)
    assert _state(city) == "ANSWERED_LATE"
    assert get_duty_check(city).counts == directive_pb2.RecipientCounts(
        recipient_count=1, received_count=1, responded_count=1, late_count=1
    )


def test_nothing_came_and_nothing_arrived(city: RunningEnforcement, clock: SharedClock) -> None:
    issue_duty_check(city, duty_check(minutes=10))
    clock.advance(minutes=11)

    assert _state(city) == "UNDELIVERED"
    counts = get_duty_check(city).counts
    assert (counts.overdue_count, counts.undelivered_count) == (1, 1)


def test_received_only_after_the_deadline(
    city: RunningEnforcement, county: RunningEnforcement, clock: SharedClock
) -> None:
    issue_duty_check(city, duty_check(minutes=10))
    clock.advance(minutes=11)
    carry_down(city, county)
    carry_up(county, city)

    states = [_state(city)]
    recipient = answer(county, CITY).recipient
    carry_up(county, city)
    states.append(_state(city))

    assert states == ["RECEIVED_LATE", "ANSWERED_LATE"]
    assert recipient.is_received_late
    assert duty_check_recipients(city)[COUNTY].is_received_late


def test_it_goes_down_two_hops(
    province: RunningEnforcement, city: RunningEnforcement, county: RunningEnforcement
) -> None:
    issue_duty_check(province, duty_check("dc-1", CITY))
    carry_down(province, city)
    carry_down(city, county)
    answer(city, PROVINCE, said="市")
    answer(county, PROVINCE, said="县")
    carry_up(county, city)
    carry_up(city, province)

    recipients = duty_check_recipients(province)
    assert {platform: one.answer.answer for platform, one in recipients.items()} == {
        CITY: "市",
        NEIGHBOUR: "",
        COUNTY: "县",
    }
    assert get_duty_check(county, PROVINCE).own.answer.answer == "县"


def test_the_first_answer_counts(city: RunningEnforcement, county: RunningEnforcement) -> None:
    issue_duty_check(city, duty_check())
    carry_down(city, county)

    first = answer(county, CITY, said="第一")
    second = answer(county, CITY, said="第二")

    assert (first.is_answered_before, second.is_answered_before) == (False, True)
    assert second.recipient == first.recipient


@pytest.mark.parametrize(
    ("kind", "bad", "good"),
    [
        (duty_check_pb2.ANSWER_KIND_NUMBER, "两", "2"),
        (duty_check_pb2.ANSWER_KIND_YES_NO, "是", "yes"),
    ],
)
def test_an_answer_has_the_form_that_was_asked_for(
    city: RunningEnforcement, county: RunningEnforcement, kind: duty_check_pb2.AnswerKind.ValueType, bad: str, good: str
) -> None:
    issue_duty_check(city, duty_check(answer_kind=kind))
    carry_down(city, county)

    refused = county.refusal(
        "AnswerDutyCheck",
        pb.AnswerDutyCheckRequest(issuer=CITY, duty_check_id="dc-1", answer=bad, officer=examples.OFFICER),
    )

    assert (refused.reason, refused.fields) == (Reason.INVALID_ARGUMENT, ["answer"])
    assert answer(county, CITY, said=good).recipient.answer.answer == good


def test_who_is_not_asked_does_not_answer(
    province: RunningEnforcement, city: RunningEnforcement, county: RunningEnforcement
) -> None:
    issue_duty_check(province, duty_check("dc-1", COUNTY))
    carry_down(province, city)
    carry_down(city, county)
    request = pb.AnswerDutyCheckRequest(issuer=PROVINCE, duty_check_id="dc-1", answer="在", officer=examples.OFFICER)

    assert city.refusal("AnswerDutyCheck", request).reason is Reason.NOT_RECIPIENT
    assert province.refusal("AnswerDutyCheck", request).reason is Reason.NOT_RECIPIENT
    request.duty_check_id = "dc-2"
    assert county.refusal("AnswerDutyCheck", request).reason is Reason.NOT_FOUND


def test_the_same_duty_check_again_gets_the_stored_one(city: RunningEnforcement, clock: SharedClock) -> None:
    first = issue_duty_check(city, duty_check())
    clock.advance(hours=1)

    assert issue_duty_check(city, duty_check()).duty_check == first.duty_check
    refused = city.refusal("IssueDutyCheck", pb.IssueDutyCheckRequest(duty_check=duty_check(minutes=11)))
    assert refused.reason is Reason.RESOURCE_EXISTS


def test_notices_and_duty_checks_have_ids_of_their_own(city: RunningEnforcement) -> None:
    examples.issue_notice(city, examples.notice("same", COUNTY))
    issue_duty_check(city, duty_check("same"))

    assert examples.get_notice(city, notice_id="same").notice.notice_id == "same"
    assert get_duty_check(city, duty_check_id="same").duty_check.duty_check_id == "same"


def test_a_clock_that_goes_wrong_is_told(
    city: RunningEnforcement, county: RunningEnforcement, clock: SharedClock
) -> None:
    issue_duty_check(city, duty_check())
    clock.advance(minutes=-2)
    carry_down(city, county)
    carry_up(county, city)

    assert duty_check_recipients(city)[COUNTY].is_clock_doubtful
