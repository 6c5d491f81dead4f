"""A notice goes down two hops and is acknowledged; everybody on the way sees sent, received and acted on."""

from datetime import timedelta

from services.common.reasons import Reason
from tests.enforcement import examples
from tests.enforcement.examples import acknowledge, get_notice, issue_notice, notice, notice_recipients
from tests.enforcement.harness import CITY, COUNTY, NEIGHBOUR, OTHER_CITY, PROVINCE, RunningEnforcement
from tests.registry.harness import START
from tests.running_service import SharedClock, carry_down, carry_up
from zhichao.enforcement.v1 import directive_pb2, notice_pb2
from zhichao.enforcement.v1 import service_pb2 as pb


def test_a_notice_is_stored_with_who_is_asked(province: RunningEnforcement, clock: SharedClock) -> None:
    deadline = START + timedelta(days=3)

    held = issue_notice(province, notice("n-1", CITY, deadline=deadline, officer=examples.OFFICER))

    expected = notice("n-1", CITY, deadline=deadline, officer=examples.OFFICER)
    expected.recipient_scope = directive_pb2.RECIPIENT_SCOPE_SUBTREE
    expected.recipients.extend([CITY, NEIGHBOUR, COUNTY])
    expected.actor = "person/tester"
    expected.issue_time.FromDatetime(START)
    assert held.notice == expected
    assert (held.issuer, held.sequence, held.direction) == (PROVINCE, 2, directive_pb2.DIRECTION_ISSUED)
    assert held.counts == directive_pb2.RecipientCounts(recipient_count=3)
    assert get_notice(province) == held


def test_an_entry_is_written_for_each_audience(province: RunningEnforcement) -> None:
    issue_notice(province, notice("n-1", COUNTY, NEIGHBOUR, OTHER_CITY))

    entries = province.own_entries()

    assert [entry.audience for entry in entries] == [NEIGHBOUR, COUNTY, OTHER_CITY]
    assert {entry.kind for entry in entries} == {"zhichao.enforcement.v1.Notice"}
    assert len({entry.payload for entry in entries}) == 1


def test_it_goes_down_two_hops_and_comes_back_acknowledged(
    province: RunningEnforcement, city: RunningEnforcement, county: RunningEnforcement, clock: SharedClock
) -> None:
    issue_notice(province, notice("n-1", COUNTY, deadline=START + timedelta(hours=1)))
    sent = notice_recipients(province)[COUNTY]
    clock.advance(minutes=1)
    carry_down(province, city)
    clock.advance(minutes=1)
    carry_down(city, county)
    carry_up(county, city)
    carry_up(city, province)
    received = notice_recipients(province)[COUNTY]
    clock.advance(minutes=1)
    acknowledge(county, PROVINCE, text="已传达")
    carry_up(county, city)
    carry_up(city, province)
    acted_on = notice_recipients(province)[COUNTY]

    assert [one.state for one in (sent, received, acted_on)] == [
        pb.RECIPIENT_STATE_SENT,
        pb.RECIPIENT_STATE_RECEIVED,
        pb.RECIPIENT_STATE_ACKNOWLEDGED,
    ]
    assert received.receive_time.ToDatetime() == (START + timedelta(minutes=2)).replace(tzinfo=None)
    expected = notice_pb2.NoticeAcknowledgement(
        issuer=PROVINCE, notice_id="n-1", text="已传达", officer=examples.OFFICER, actor="person/tester"
    )
    expected.acknowledge_time.FromDatetime(START + timedelta(minutes=3))
    assert acted_on.acknowledgement == expected
    (said,) = [sequence for sequence, entry in county.numbered_entries() if entry.kind.endswith("Acknowledgement")]
    assert acted_on.acknowledgement_sequence == said
    # The same at every level, but for what it is there.
    views = [get_notice(one, PROVINCE) for one in (province, city, county)]
    assert [view.direction for view in views] == [
        directive_pb2.DIRECTION_ISSUED,
        directive_pb2.DIRECTION_OBSERVED,
        directive_pb2.DIRECTION_RECEIVED,
    ]
    assert [view.counts.responded_count for view in views] == [1, 1, 1]
    assert [notice_recipients(one, PROVINCE)[COUNTY] for one in (city, county)] == [acted_on, acted_on]
    assert views[2].own == acted_on


def test_an_acknowledgement_goes_up_only(province: RunningEnforcement, city: RunningEnforcement) -> None:
    issue_notice(province, notice())
    carry_down(province, city)

    acknowledge(city, PROVINCE)

    # A receipt and the acknowledgement.
    assert [entry.audience for entry in city.own_entries()] == ["", ""]


def test_the_same_notice_again_gets_the_stored_one(province: RunningEnforcement, clock: SharedClock) -> None:
    first = issue_notice(province, notice("n-1", NEIGHBOUR, COUNTY, deadline=START + timedelta(hours=1)))
    # Also when its deadline has passed.
    clock.advance(hours=2)

    again = issue_notice(province, notice("n-1", COUNTY, NEIGHBOUR, deadline=START + timedelta(hours=1)))

    assert again.notice == first.notice
    assert len(province.own_entries()) == 2


def test_other_content_under_its_id_is_refused(province: RunningEnforcement) -> None:
    issue_notice(province, notice())

    refused = province.refusal("IssueNotice", pb.IssueNoticeRequest(notice=notice(body="另一内容")))

    assert (refused.status, refused.reason) == ("ALREADY_EXISTS", Reason.RESOURCE_EXISTS)
    assert len(province.own_entries()) == 1


def test_two_platforms_may_use_the_same_id(province: RunningEnforcement, city: RunningEnforcement) -> None:
    issue_notice(province, notice(title="省"))
    issue_notice(city, notice(title="市"))
    carry_down(province, city)

    assert get_notice(city).notice.title == "市"
    assert get_notice(city, PROVINCE).notice.title == "省"


def test_a_late_acknowledgement_is_kept_and_marked(
    city: RunningEnforcement, county: RunningEnforcement, clock: SharedClock
) -> None:
    issue_notice(city, notice("n-1", COUNTY, deadline=START + timedelta(hours=1)))
    carry_down(city, county)
    clock.advance(hours=1, seconds=1)

    overdue = get_notice(county, CITY).own
    acknowledged = acknowledge(county, CITY).recipient
    carry_up(county, city)

    assert (overdue.is_overdue, overdue.is_late) == (True, False)
    assert (acknowledged.is_overdue, acknowledged.is_late, acknowledged.is_received_late) == (False, True, False)
    assert get_notice(city).counts.late_count == 1


def test_what_arrived_after_the_deadline_is_nobodys_fault(
    city: RunningEnforcement, county: RunningEnforcement, clock: SharedClock
) -> None:
    issue_notice(city, notice("n-1", COUNTY, deadline=START + timedelta(hours=1)))
    clock.advance(hours=2)
    assert get_notice(city).counts.undelivered_count == 1
    carry_down(city, county)

    own = get_notice(county, CITY).own

    assert (own.is_overdue, own.is_received_late) == (True, True)


def test_the_first_acknowledgement_counts(city: RunningEnforcement, county: RunningEnforcement) -> None:
    issue_notice(city, notice("n-1", COUNTY))
    carry_down(city, county)

    first = acknowledge(county, CITY, text="第一")
    second = acknowledge(county, CITY, text="第二")

    assert (first.is_acknowledged_before, second.is_acknowledged_before) == (False, True)
    assert second.recipient == first.recipient


def test_a_copy_is_seen_and_not_acknowledged(city: RunningEnforcement, province: RunningEnforcement) -> None:
    # The province asks the cities only; their counties get copies.
    held = issue_notice(province, notice("n-1", PROVINCE, recipient_scope=directive_pb2.RECIPIENT_SCOPE_DIVISION))
    carry_down(province, city)

    assert list(held.notice.recipients) == [CITY, OTHER_CITY]
    assert get_notice(city, PROVINCE).own.platform_code == CITY


def test_who_is_not_asked_holds_a_copy(
    province: RunningEnforcement, city: RunningEnforcement, county: RunningEnforcement
) -> None:
    issue_notice(province, notice("n-1", CITY, recipient_scope=directive_pb2.RECIPIENT_SCOPE_DIVISION))
    carry_down(province, city)
    carry_down(city, county)

    view = get_notice(county, PROVINCE)
    refused = county.refusal(
        "AcknowledgeNotice",
        pb.AcknowledgeNoticeRequest(issuer=PROVINCE, notice_id="n-1", officer=examples.OFFICER),
    )

    assert (view.direction, view.HasField("own")) == (directive_pb2.DIRECTION_RECEIVED, False)
    assert (refused.status, refused.reason) == ("FAILED_PRECONDITION", Reason.NOT_RECIPIENT)
    assert refused.metadata == {"issuer": PROVINCE, "directive_id": "n-1"}


def test_a_notice_taken_back_is_not_acknowledged(
    province: RunningEnforcement, city: RunningEnforcement, county: RunningEnforcement, clock: SharedClock
) -> None:
    issue_notice(province, notice("n-1", COUNTY, NEIGHBOUR, deadline=START + timedelta(minutes=1)))
    request = pb.WithdrawNoticeRequest(notice_id="n-1", reason="内容有误")
    withdrawn = province.call("WithdrawNotice", request).held_notice
    clock.advance(hours=1)
    again = province.call("WithdrawNotice", pb.WithdrawNoticeRequest(notice_id="n-1", reason="其他")).held_notice
    carry_down(province, city)
    carry_down(city, county)

    view = get_notice(county, PROVINCE)
    refused = county.refusal(
        "AcknowledgeNotice",
        pb.AcknowledgeNoticeRequest(issuer=PROVINCE, notice_id="n-1", officer=examples.OFFICER),
    )

    assert (withdrawn.withdrawal.reason, withdrawn.withdrawal.actor) == ("内容有误", "person/tester")
    assert again.withdrawal == withdrawn.withdrawal == view.withdrawal
    assert (view.own.is_overdue, again.counts.overdue_count) == (False, 0)
    assert (refused.status, refused.reason) == ("FAILED_PRECONDITION", Reason.NOTICE_WITHDRAWN)


def test_an_acknowledgement_on_its_way_is_kept(city: RunningEnforcement, county: RunningEnforcement) -> None:
    issue_notice(city, notice("n-1", COUNTY))
    carry_down(city, county)
    acknowledge(county, CITY)
    city.call("WithdrawNotice", pb.WithdrawNoticeRequest(notice_id="n-1", reason="有误"))
    carry_up(county, city)
    carry_down(city, county)

    assert notice_recipients(city)[COUNTY].state == pb.RECIPIENT_STATE_ACKNOWLEDGED
    assert acknowledge(county, CITY).is_acknowledged_before


def test_only_the_issuer_takes_a_notice_back(province: RunningEnforcement, city: RunningEnforcement) -> None:
    issue_notice(province, notice())
    carry_down(province, city)

    refused = city.refusal("WithdrawNotice", pb.WithdrawNoticeRequest(notice_id="n-1", reason="x"))
    unknown = city.refusal("WithdrawNotice", pb.WithdrawNoticeRequest(notice_id="n-2", reason="x"))

    assert (refused.reason, refused.metadata) == (Reason.NOT_OWNED, {"origin": PROVINCE})
    assert unknown.reason is Reason.NOT_FOUND


def test_a_platform_that_joins_later_gets_it_and_is_not_waited_for(
    province: RunningEnforcement, city: RunningEnforcement
) -> None:
    held = issue_notice(province, notice("n-1", "140500", CITY), allow_missing_platforms=True)
    carry_down(province, city)

    assert list(held.notice.recipients) == [CITY, NEIGHBOUR, COUNTY]
    assert list(held.notice.audiences) == ["140500", CITY]
