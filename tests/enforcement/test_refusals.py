"""Bad directives are refused whole: every bad field at once, nothing upwards or sideways, nothing half done."""

from datetime import timedelta

import pytest

from services.common.reasons import Reason
from tests.enforcement import examples
from tests.enforcement.conftest import MakeService
from tests.enforcement.examples import acknowledge, get_notice, issue_notice, notice
from tests.enforcement.harness import CITY, COUNTY, NEIGHBOUR, OTHER_CITY, OTHER_COUNTY, PROVINCE, RunningEnforcement
from tests.registry.harness import START
from tests.running_service import SharedClock, carry_down, carry_up
from zhichao.enforcement.v1 import directive_pb2, notice_pb2
from zhichao.enforcement.v1 import service_pb2 as pb


def test_every_bad_field_is_named_and_nothing_is_written(city: RunningEnforcement) -> None:
    made = notice_pb2.Notice(
        notice_id="a b",
        kind=9,  # type: ignore[arg-type]  # none of the contract
        body="x" * 8_001,
        audiences=["141025", "141000", "14"],
        officer=directive_pb2.Officer(name="", phone_number="x"),
    )
    made.deadline_time.FromDatetime(START - timedelta(days=1))

    refused = city.refusal("IssueNotice", pb.IssueNoticeRequest(notice=made))

    assert refused.status == "INVALID_ARGUMENT"
    assert refused.fields == [
        "notice.notice_id",
        "notice.kind",
        "notice.title",
        "notice.body",
        "notice.audiences[2]",
        "notice.officer.name",
        "notice.officer.phone_number",
        "notice.deadline_time",
        "notice.audiences[0]",
    ]
    assert city.own_entries() == []


def test_a_deadline_that_is_no_time_is_a_bad_field(city: RunningEnforcement) -> None:
    made = notice("n-1", COUNTY, title="")
    made.deadline_time.seconds = 10**15

    refused = city.refusal("IssueNotice", pb.IssueNoticeRequest(notice=made))

    assert refused.fields == ["notice.title", "notice.deadline_time"]


def test_every_bad_field_of_a_duty_check_is_named(city: RunningEnforcement) -> None:
    made = examples.duty_check("", question="", minutes=0, answer_kind=7)

    refused = city.refusal("IssueDutyCheck", pb.IssueDutyCheckRequest(duty_check=made))

    assert refused.fields == [
        f"duty_check.{field}" for field in ("duty_check_id", "question", "answer_kind", "answer_minutes")
    ]


@pytest.mark.parametrize("audience", [PROVINCE, OTHER_CITY, OTHER_COUNTY, "110000"])
def test_nothing_is_issued_upwards_or_sideways(city: RunningEnforcement, audience: str) -> None:
    refused = city.refusal("IssueNotice", pb.IssueNoticeRequest(notice=notice("n-1", COUNTY, audience)))

    assert (refused.status, refused.reason) == ("PERMISSION_DENIED", Reason.OUTSIDE_SCOPE)
    assert refused.metadata == {"field": "notice.audiences[1]"}
    assert refused.fields == ["notice.audiences[1]"]
    assert city.own_entries() == []


def test_every_division_without_a_platform_is_named(city: RunningEnforcement) -> None:
    made = notice("n-1", "141099", COUNTY, "141098")

    refused = city.refusal("IssueNotice", pb.IssueNoticeRequest(notice=made))

    assert (refused.status, refused.reason) == ("FAILED_PRECONDITION", Reason.REFERENCE_NOT_FOUND)
    assert refused.metadata == {"resource_type": "platform", "resource_id": "141099"}
    assert refused.fields == ["notice.audiences[0]", "notice.audiences[2]"]
    assert city.own_entries() == []


def test_a_county_without_platforms_below_reaches_nobody(service: MakeService) -> None:
    # Its registry cannot be asked either: it says so and not that nobody is there.
    county = service(COUNTY)

    refused = county.refusal("IssueNotice", pb.IssueNoticeRequest(notice=notice("n-1", COUNTY)))

    assert (refused.status, refused.reason) == ("UNAVAILABLE", Reason.SERVICE_UNAVAILABLE)
    assert refused.metadata == {"service": "registry"}
    assert county.own_entries() == []


def test_what_is_stored_is_answered_without_the_registry(city: RunningEnforcement, clock: SharedClock) -> None:
    first = issue_notice(city, notice("n-1", COUNTY))
    city.stop()
    city.environment["ZHICHAO_ENFORCEMENT_REGISTRY_ADDRESS"] = f"unix:{city.directory}/nobody.sock"
    city.start()

    assert issue_notice(city, notice("n-1", COUNTY)) == first


@pytest.mark.parametrize(
    ("method", "request_", "fields"),
    [
        ("WithdrawNotice", pb.WithdrawNoticeRequest(), ["notice_id", "reason"]),
        ("AcknowledgeNotice", pb.AcknowledgeNoticeRequest(), ["issuer", "notice_id", "officer.name"]),
        (
            "AcknowledgeNotice",
            pb.AcknowledgeNoticeRequest(issuer=CITY, notice_id="n", text="\x00", officer=examples.OFFICER),
            ["text"],
        ),
        ("AnswerDutyCheck", pb.AnswerDutyCheckRequest(), ["issuer", "duty_check_id", "answer", "officer.name"]),
        ("GetNotice", pb.GetNoticeRequest(issuer="x", division_code="y"), ["issuer", "notice_id", "division_code"]),
        (
            "ListNotices",
            pb.ListNoticesRequest(
                filter=pb.DirectiveFilter(direction=9, standing=9, issuer="x"),  # type: ignore[arg-type]  # not values of the enums
                division_code="y",
            ),
            ["filter.direction", "filter.standing", "filter.issuer", "division_code"],
        ),
        ("ListNotices", pb.ListNoticesRequest(page_size=-1), ["page_size"]),
        ("ListDutyCheckRecipients", pb.ListDutyCheckRecipientsRequest(), ["duty_check_id"]),
    ],
)
def test_bad_requests_name_every_field(
    county: RunningEnforcement, method: str, request_: object, fields: list[str]
) -> None:
    refused = county.refusal(method, request_)

    assert (refused.status, refused.fields) == ("INVALID_ARGUMENT", fields)


def test_times_of_a_filter_are_times(county: RunningEnforcement) -> None:
    request = pb.ListNoticesRequest()
    request.filter.start_time.seconds = 10**15
    request.filter.end_time.seconds = -(10**15)

    assert county.refusal("ListNotices", request).fields == ["filter.start_time", "filter.end_time"]


def test_a_platform_below_cannot_make_an_upper_one_its_recipient(
    city: RunningEnforcement, county: RunningEnforcement
) -> None:
    # A county with a service of its own making asks the city and its neighbour.
    forged = notice("n-1", CITY, COUNTY)
    forged.recipients.extend([CITY, COUNTY])
    forged.issue_time.FromDatetime(START)
    county.append_raw("zhichao.enforcement.v1.Notice", forged.SerializeToString())
    carry_up(county, city)

    view = get_notice(city, COUNTY)
    refused = city.refusal(
        "AcknowledgeNotice", pb.AcknowledgeNoticeRequest(issuer=COUNTY, notice_id="n-1", officer=examples.OFFICER)
    )

    assert view.direction == directive_pb2.DIRECTION_OBSERVED
    assert refused.reason is Reason.NOT_RECIPIENT
    listed = pb.ListNoticesRequest(filter=pb.DirectiveFilter(direction=directive_pb2.DIRECTION_RECEIVED))
    assert list(city.call("ListNotices", listed).held_notices) == []


def test_nobody_acknowledges_for_another(
    city: RunningEnforcement, county: RunningEnforcement, neighbour: RunningEnforcement
) -> None:
    issue_notice(city, notice("n-1", COUNTY))
    # The neighbour holds nothing of it, but may write into its own log what it likes.
    forged = notice_pb2.NoticeAcknowledgement(issuer=CITY, notice_id="n-1", officer=examples.OFFICER)
    forged.acknowledge_time.FromDatetime(START)
    neighbour.append_raw("zhichao.enforcement.v1.NoticeAcknowledgement", forged.SerializeToString())
    carry_up(neighbour, city)
    carry_down(city, county)

    assert get_notice(city).counts == directive_pb2.RecipientCounts(recipient_count=1)
    assert not acknowledge(county, CITY).is_acknowledged_before


def test_nobody_takes_back_what_another_has_issued(city: RunningEnforcement, county: RunningEnforcement) -> None:
    issue_notice(city, notice("n-1", COUNTY))
    carry_down(city, county)
    forged = notice_pb2.NoticeWithdrawal(notice_id="n-1", reason="x")
    forged.withdraw_time.FromDatetime(START)
    county.append_raw("zhichao.enforcement.v1.NoticeWithdrawal", forged.SerializeToString())
    carry_up(county, city)

    assert not get_notice(city).HasField("withdrawal")


def test_more_recipients_than_one_directive_asks_are_refused(
    city: RunningEnforcement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.enforcement.handlers_issuing.RECIPIENTS_MAX", 1)

    refused = city.refusal("IssueNotice", pb.IssueNoticeRequest(notice=notice("n-1", COUNTY, NEIGHBOUR)))

    assert (refused.reason, refused.metadata) == (Reason.BATCH_TOO_LARGE, {"limit": "1", "actual": "2"})


def test_the_largest_notice_goes_down(province: RunningEnforcement, city: RunningEnforcement) -> None:
    # Four bytes a character, and nearly as many audiences as a city may have: 4 MB of entries.
    audiences = [f"1410{number:02}" for number in range(1, 100)]
    made = notice("n-1", *audiences, title="𠮷" * 128, body="𠮷" * 8_000)

    held = issue_notice(province, made, allow_missing_platforms=True)
    carry_down(province, city)

    assert len(province.own_entries()) == len(audiences)
    assert get_notice(city, PROVINCE).notice == held.notice
    assert city.query("SELECT first_sequence, last_sequence FROM directives") == [(2, len(audiences) + 1)]
