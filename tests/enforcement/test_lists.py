"""Lists: what is issued, received, observed; what is open and overdue; pages, and only what lies within a division."""

from datetime import timedelta
from typing import Any

import pytest

from services.common.reasons import Reason
from tests.enforcement.examples import (
    acknowledge,
    answer,
    duty_check,
    get_notice,
    issue_duty_check,
    issue_notice,
    notice,
    notice_recipients,
)
from tests.enforcement.harness import CITY, COUNTY, NEIGHBOUR, OTHER_CITY, OTHER_COUNTY, PROVINCE, RunningEnforcement
from tests.registry.harness import START
from tests.running_service import SharedClock, carry_down, carry_up
from zhichao.enforcement.v1 import directive_pb2, notice_pb2
from zhichao.enforcement.v1 import service_pb2 as pb

ISSUED, RECEIVED, OBSERVED = (
    directive_pb2.DIRECTION_ISSUED,
    directive_pb2.DIRECTION_RECEIVED,
    directive_pb2.DIRECTION_OBSERVED,
)
OPEN, OVERDUE, SETTLED = directive_pb2.STANDING_OPEN, directive_pb2.STANDING_OVERDUE, directive_pb2.STANDING_SETTLED


def _notices(service: RunningEnforcement, division_code: str = "", kind: int = 0, **narrow: Any) -> list[str]:
    request = pb.ListNoticesRequest(
        filter=pb.DirectiveFilter(**narrow),
        division_code=division_code,
        kind=kind,  # type: ignore[arg-type]  # any number
    )
    return [f"{one.issuer}/{one.notice.notice_id}" for one in service.call("ListNotices", request).held_notices]


def test_by_direction_on_every_level(
    province: RunningEnforcement, city: RunningEnforcement, county: RunningEnforcement
) -> None:
    issue_notice(province, notice("to-city", CITY, recipient_scope=directive_pb2.RECIPIENT_SCOPE_DIVISION))
    issue_notice(province, notice("to-county", COUNTY))
    issue_notice(city, notice("from-city", COUNTY))
    carry_down(province, city)
    carry_down(city, county)
    carry_up(city, province)

    assert {
        service.platform: {
            "issued": sorted(_notices(service, direction=ISSUED)),
            "received": sorted(_notices(service, direction=RECEIVED)),
            "observed": sorted(_notices(service, direction=OBSERVED)),
        }
        for service in (province, city, county)
    } == {
        PROVINCE: {
            "issued": [f"{PROVINCE}/to-city", f"{PROVINCE}/to-county"],
            "received": [],
            "observed": [f"{CITY}/from-city"],
        },
        CITY: {
            "issued": [f"{CITY}/from-city"],
            "received": [f"{PROVINCE}/to-city"],
            "observed": [f"{PROVINCE}/to-county"],
        },
        COUNTY: {
            "issued": [],
            "received": [f"{PROVINCE}/to-city", f"{PROVINCE}/to-county", f"{CITY}/from-city"],
            "observed": [],
        },
    }
    for service in (province, city, county):
        for direction in (ISSUED, RECEIVED, OBSERVED):
            for name in _notices(service, direction=direction):
                issuer, _, notice_id = name.partition("/")
                assert get_notice(service, issuer, notice_id).direction == direction


def test_by_what_is_outstanding(
    city: RunningEnforcement, county: RunningEnforcement, neighbour: RunningEnforcement, clock: SharedClock
) -> None:
    issue_notice(city, notice("half", COUNTY, NEIGHBOUR, deadline=START + timedelta(hours=1)))
    issue_notice(city, notice("all", COUNTY, deadline=START + timedelta(hours=1)))
    issue_notice(city, notice("none", COUNTY))
    issue_notice(city, notice("withdrawn", COUNTY, deadline=START + timedelta(hours=1)))
    city.call("WithdrawNotice", pb.WithdrawNoticeRequest(notice_id="withdrawn", reason="x"))
    for lower in (county, neighbour):
        carry_down(city, lower)
    acknowledge(county, CITY, "half")
    acknowledge(county, CITY, "all")
    carry_up(county, city)
    clock.advance(hours=2)

    def standing(service: RunningEnforcement, **narrow: Any) -> list[list[str]]:
        return [
            sorted(name.partition("/")[2] for name in _notices(service, standing=one, **narrow))
            for one in (OPEN, OVERDUE, SETTLED)
        ]

    # The issuer waits for anybody, a recipient for itself.
    assert standing(city) == [["half", "none"], ["half"], ["all", "withdrawn"]]
    assert standing(city, division_code=COUNTY) == [["none"], [], ["all", "half", "withdrawn"]]
    assert standing(county, direction=RECEIVED) == [["none"], [], ["all", "half", "withdrawn"]]
    assert standing(neighbour, direction=RECEIVED) == [["half"], ["half"], []]


def test_by_kind_issuer_and_time(province: RunningEnforcement, city: RunningEnforcement, clock: SharedClock) -> None:
    issue_notice(province, notice("first"))
    clock.advance(hours=1)
    issue_notice(province, notice("second", kind=notice_pb2.NOTICE_KIND_INSTRUCTION))
    clock.advance(hours=1)
    issue_notice(city, notice("third", COUNTY))
    carry_down(province, city)

    after, before = pb.DirectiveFilter(), pb.DirectiveFilter()
    after.start_time.FromDatetime(START + timedelta(hours=1))
    before.end_time.FromDatetime(START + timedelta(hours=1))

    assert _notices(city) == [f"{CITY}/third", f"{PROVINCE}/second", f"{PROVINCE}/first"]
    assert _notices(city, kind=notice_pb2.NOTICE_KIND_INSTRUCTION) == [f"{PROVINCE}/second"]
    assert _notices(city, issuer=CITY) == [f"{CITY}/third"]
    assert _notices(city, start_time=after.start_time) == [f"{CITY}/third", f"{PROVINCE}/second"]
    assert _notices(city, end_time=before.end_time) == [f"{PROVINCE}/first"]


def test_pages_hold_everything_once(city: RunningEnforcement, clock: SharedClock) -> None:
    for number in range(7):
        # Some are issued at the same moment.
        clock.advance(seconds=number % 2)
        issue_notice(city, notice(f"n-{number}", COUNTY))
    whole = _notices(city)

    pages, token = [], ""
    while True:
        answer = city.call("ListNotices", pb.ListNoticesRequest(page_size=3, page_token=token))
        pages.append([f"{one.issuer}/{one.notice.notice_id}" for one in answer.held_notices])
        token = answer.next_page_token
        if len(pages) == 1:
            # Newer than the first page: it does not move the others.
            clock.advance(seconds=1)
            issue_notice(city, notice("meanwhile", COUNTY))
        if not token:
            break

    assert [len(page) for page in pages] == [3, 3, 1]
    assert [name for page in pages for name in page] == whole
    assert len(set(whole)) == 7


def test_a_page_token_of_another_list_is_refused(city: RunningEnforcement) -> None:
    for number in range(2):
        issue_notice(city, notice(f"n-{number}", COUNTY))
    token = city.call("ListNotices", pb.ListNoticesRequest(page_size=1)).next_page_token

    refused = city.refusal("ListDutyChecks", pb.ListDutyChecksRequest(page_size=1, page_token=token))

    assert refused.reason is Reason.INVALID_PAGE_TOKEN


def test_recipients_are_paged(city: RunningEnforcement) -> None:
    issue_notice(city, notice("n-1", CITY))
    first = city.call("ListNoticeRecipients", pb.ListNoticeRecipientsRequest(notice_id="n-1", page_size=1))
    second = city.call(
        "ListNoticeRecipients",
        pb.ListNoticeRecipientsRequest(notice_id="n-1", page_size=1, page_token=first.next_page_token),
    )

    assert [one.platform_code for one in (*first.recipients, *second.recipients)] == [NEIGHBOUR, COUNTY]
    assert second.next_page_token == ""


def test_only_what_lies_within_a_division(province: RunningEnforcement) -> None:
    issue_notice(province, notice("both", COUNTY, OTHER_COUNTY))
    issue_notice(province, notice("other", OTHER_CITY))

    assert _notices(province, division_code=CITY) == [f"{PROVINCE}/both"]
    assert get_notice(province, notice_id="both", division_code=CITY).counts.recipient_count == 1
    assert list(notice_recipients(province, notice_id="both", division_code=CITY)) == [COUNTY]
    for method, request in (
        ("GetNotice", pb.GetNoticeRequest(notice_id="other", division_code=CITY)),
        ("ListNoticeRecipients", pb.ListNoticeRecipientsRequest(notice_id="other", division_code=CITY)),
    ):
        assert province.refusal(method, request).reason is Reason.NOT_FOUND


def test_duty_checks_are_listed_too(city: RunningEnforcement, county: RunningEnforcement, clock: SharedClock) -> None:
    issue_duty_check(city, duty_check("answered"))
    clock.advance(seconds=1)
    issue_duty_check(city, duty_check("open", minutes=30))
    clock.advance(seconds=1)
    issue_duty_check(city, duty_check("missed", minutes=5))
    carry_down(city, county)
    answer(county, CITY, "answered")
    clock.advance(minutes=10)

    def listed(standing: directive_pb2.Standing.ValueType) -> list[str]:
        request = pb.ListDutyChecksRequest(filter=pb.DirectiveFilter(direction=RECEIVED, standing=standing))
        return [one.duty_check.duty_check_id for one in county.call("ListDutyChecks", request).held_duty_checks]

    assert {name: listed(one) for name, one in (("open", OPEN), ("overdue", OVERDUE), ("settled", SETTLED))} == {
        "open": ["missed", "open"],
        "overdue": ["missed"],
        "settled": ["answered"],
    }


@pytest.mark.parametrize("page_size", [0, 200, 5_000])
def test_page_sizes_are_bounded(city: RunningEnforcement, page_size: int) -> None:
    issue_notice(city, notice("n-1", COUNTY))

    assert len(city.call("ListNotices", pb.ListNoticesRequest(page_size=page_size)).held_notices) == 1
