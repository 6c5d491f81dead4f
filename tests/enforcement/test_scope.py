"""Who may do what: roles, persons who act for a smaller division, and names that not everybody sees."""

import pytest
from google.protobuf.message import Message

from services.common.access.permissions import Role
from services.common.errors import ServiceError
from services.common.reasons import Reason
from tests.enforcement.examples import OFFICER, acknowledge, duty_check, issue_notice, notice
from tests.enforcement.harness import CITY, COUNTY, NEIGHBOUR, PROVINCE, RunningEnforcement
from tests.running_service import carry_down, carry_up
from zhichao.enforcement.v1 import service_pb2 as pb

ISSUE = pb.IssueNoticeRequest(notice=notice("n-1", COUNTY))
ACKNOWLEDGE = pb.AcknowledgeNoticeRequest(issuer=CITY, notice_id="n-1", officer=OFFICER)


def test_without_a_token_nobody_is_let_in(city: RunningEnforcement) -> None:
    refused = city.refusal("ListNotices", pb.ListNoticesRequest(), city.stub_of("zhichao.none.none"))

    assert refused.status == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    ("role", "reads", "issues"),
    [
        (Role.OFFICER, True, True),
        (Role.VIEWER, True, False),
        (Role.REGISTRAR, True, False),
        (Role.AUDITOR, False, False),
        (Role.SECURITY_ADMINISTRATOR, False, False),
        (Role.SYSTEM_ADMINISTRATOR, False, False),
    ],
)
def test_roles(city: RunningEnforcement, role: Role, reads: bool, issues: bool) -> None:
    stub = city.person(role)

    def outcome(method: str, request: Message) -> Reason | None:
        try:
            city.call(method, request, stub)
        except ServiceError as error:
            return error.reason
        return None

    outcomes = [outcome("ListNotices", pb.ListNoticesRequest()), outcome("IssueNotice", ISSUE)]

    assert outcomes == [None if may else Reason.PERMISSION_MISSING for may in (reads, issues)]


@pytest.mark.parametrize("division", [PROVINCE, CITY])
def test_a_person_of_the_platform_or_above_is_not_bound(city: RunningEnforcement, division: str) -> None:
    stub = city.person(Role.OFFICER, division=division)

    city.call("IssueNotice", pb.IssueNoticeRequest(notice=notice("n-1", CITY)), stub)

    assert len(city.call("ListNotices", pb.ListNoticesRequest(), stub).held_notices) == 1


def test_a_person_of_a_county_issues_and_sees_only_there(city: RunningEnforcement) -> None:
    issue_notice(city, notice("county", COUNTY))
    issue_notice(city, notice("neighbour", NEIGHBOUR))
    issue_notice(city, notice("both", COUNTY, NEIGHBOUR))
    bound = city.person(Role.OFFICER, division=COUNTY)

    listed = city.call("ListNotices", pb.ListNoticesRequest(division_code=COUNTY), bound).held_notices
    city.call("IssueNotice", pb.IssueNoticeRequest(notice=notice("own", COUNTY)), bound)
    city.call("WithdrawNotice", pb.WithdrawNoticeRequest(notice_id="own", reason="x"), bound)

    assert sorted(one.notice.notice_id for one in listed) == ["both", "county"]
    assert {one.notice.notice_id: one.counts.recipient_count for one in listed} == {"county": 1, "both": 1}
    refusals = [
        city.refusal("ListNotices", pb.ListNoticesRequest(), bound),
        city.refusal("ListNotices", pb.ListNoticesRequest(division_code=NEIGHBOUR), bound),
        city.refusal("GetNotice", pb.GetNoticeRequest(notice_id="both"), bound),
        city.refusal("ListNoticeRecipients", pb.ListNoticeRecipientsRequest(notice_id="both"), bound),
        city.refusal("IssueNotice", pb.IssueNoticeRequest(notice=notice("x", COUNTY, NEIGHBOUR)), bound),
        city.refusal("IssueDutyCheck", pb.IssueDutyCheckRequest(duty_check=duty_check("x", CITY)), bound),
        city.refusal("WithdrawNotice", pb.WithdrawNoticeRequest(notice_id="both", reason="x"), bound),
    ]
    assert {refused.reason for refused in refusals} == {Reason.OUTSIDE_SCOPE}
    assert refusals[4].fields == ["notice.audiences[1]"]


def test_a_watch_is_bound_too(city: RunningEnforcement) -> None:
    bound = city.person(Role.OFFICER, division=COUNTY)
    issue_notice(city, notice("county", COUNTY))
    issue_notice(city, notice("neighbour", NEIGHBOUR))

    call = bound.WatchInbox(pb.WatchInboxRequest(after_position=0, division_code=COUNTY), timeout=20)
    told = [change.held_notice.notice.notice_id for change in next(call).changes]
    call.cancel()

    assert told == ["county"]


def test_a_person_of_a_smaller_division_does_not_answer_for_the_platform(
    province: RunningEnforcement, city: RunningEnforcement
) -> None:
    issue_notice(province, notice("n-1", CITY))
    carry_down(province, city)
    bound = city.person(Role.OFFICER, division=COUNTY)
    request = pb.AcknowledgeNoticeRequest(issuer=PROVINCE, notice_id="n-1", officer=OFFICER)

    assert city.refusal("AcknowledgeNotice", request, bound).reason is Reason.OUTSIDE_SCOPE


def test_names_are_masked_without_the_permission(city: RunningEnforcement, county: RunningEnforcement) -> None:
    issue_notice(city, notice("n-1", COUNTY, officer=OFFICER))
    carry_down(city, county)
    acknowledge(county, CITY)
    carry_up(county, city)

    def officers(role: Role) -> list[tuple[str, str]]:
        stub = city.person(role, name=f"person-{role.lower()}")
        held = city.call("GetNotice", pb.GetNoticeRequest(notice_id="n-1"), stub).held_notice
        recipients = city.call("ListNoticeRecipients", pb.ListNoticeRecipientsRequest(notice_id="n-1"), stub)
        named = [held.notice.officer, recipients.recipients[0].acknowledgement.officer]
        return [(one.name, one.phone_number) for one in named]

    whole, masked = (OFFICER.name, OFFICER.phone_number), ("示***", "+86*********00")
    assert officers(Role.OFFICER) == [whole, whole]
    assert officers(Role.VIEWER) == [masked, masked]


def test_the_actor_is_who_was_logged_in(city: RunningEnforcement, county: RunningEnforcement) -> None:
    held = city.call("IssueNotice", ISSUE, city.person(Role.OFFICER, name="zhang-1")).held_notice
    carry_down(city, county)
    county.call("AcknowledgeNotice", ACKNOWLEDGE, county.person(Role.OFFICER, name="li-2"))

    assert held.notice.actor == "person/zhang-1"
    assert [entry.actor for entry in city.own_entries()] == ["person/zhang-1"]
    assert county.own_entries()[-1].actor == "person/li-2"


def test_who_reads_names_is_written_down(city: RunningEnforcement) -> None:
    issue_notice(city, notice("named", COUNTY, officer=OFFICER))
    issue_notice(city, notice("unnamed", COUNTY))

    def is_recorded(role: Role, name: str, notice_id: str) -> bool:
        request = pb.GetNoticeRequest(notice_id=notice_id)
        city.call("GetNotice", request, city.person(role, name=name))
        recorded = "SELECT count(*) FROM journal_access_records WHERE principal = %s"
        return city.query(recorded, f"person/{name}") == [(1,)]

    assert is_recorded(Role.OFFICER, "officer-1", "named")
    # Masked, or nothing to see.
    assert not is_recorded(Role.VIEWER, "viewer-1", "named")
    assert not is_recorded(Role.OFFICER, "officer-2", "unnamed")
