"""A screen sees what comes in, in the order in which the platform learnt of it, from any position, on any replica."""

import grpc
import pytest

from services.common.reasons import Reason
from services.common.rpc_client import connect, service_error
from tests.enforcement.conftest import MakeService
from tests.enforcement.examples import (
    OFFICER,
    acknowledge,
    answer,
    duty_check,
    issue_duty_check,
    issue_notice,
    notice,
)
from tests.enforcement.harness import CITY, COUNTY, NEIGHBOUR, PROVINCE, RunningEnforcement, watching
from tests.registry.harness import TIMEOUT_SECONDS
from tests.running_service import carry_down, carry_up
from zhichao.enforcement.v1 import directive_pb2
from zhichao.enforcement.v1 import service_pb2 as pb
from zhichao.enforcement.v1.service_pb2_grpc import EnforcementServiceStub

ARRIVED, WITHDRAWN, RESPONDED = (
    pb.INBOX_CHANGE_KIND_ARRIVED,
    pb.INBOX_CHANGE_KIND_WITHDRAWN,
    pb.INBOX_CHANGE_KIND_RESPONDED,
)


def _told(answer: pb.WatchInboxResponse) -> list[tuple[int, int, str, str]]:
    return [
        (
            change.position,
            change.kind,
            change.platform_code,
            change.held_notice.notice.notice_id or change.held_duty_check.duty_check.duty_check_id,
        )
        for change in answer.changes
    ]


def test_what_comes_in_is_told(city: RunningEnforcement, county: RunningEnforcement) -> None:
    issue_notice(city, notice("old", COUNTY))
    carry_down(city, county)
    with watching(county, pb.WatchInboxRequest()) as messages:
        first = next(messages)
        issue_duty_check(city, duty_check())
        carry_down(city, county)
        second = next(messages)
        acknowledge(county, CITY, "old")
        third = next(messages)
        city.call("WithdrawNotice", pb.WithdrawNoticeRequest(notice_id="old", reason="x"))
        carry_down(city, county)
        fourth = next(messages)

    assert (_told(first), first.position) == ([], 1)
    assert _told(second) == [(2, ARRIVED, CITY, "dc-1")]
    assert _told(third) == [(3, RESPONDED, COUNTY, "old")]
    assert third.changes[0].held_notice.own.acknowledgement.officer == OFFICER
    assert _told(fourth) == [(4, WITHDRAWN, CITY, "old")]
    assert fourth.position == 4


def test_everything_since_the_beginning(city: RunningEnforcement, county: RunningEnforcement) -> None:
    issue_notice(city, notice("n-1", COUNTY))
    issue_duty_check(city, duty_check())
    carry_down(city, county)
    acknowledge(county, CITY)
    answer(county, CITY)
    carry_up(county, city)

    with watching(city, pb.WatchInboxRequest(after_position=0)) as messages:
        whole = next(messages)
    with watching(city, pb.WatchInboxRequest(after_position=3)) as messages:
        rest = next(messages)

    assert _told(whole) == [
        (1, ARRIVED, CITY, "n-1"),
        (2, ARRIVED, CITY, "dc-1"),
        (3, RESPONDED, COUNTY, "n-1"),
        (4, RESPONDED, COUNTY, "dc-1"),
    ]
    assert _told(rest) == _told(whole)[3:]


def test_several_entries_of_a_directive_arrive_once(province: RunningEnforcement, city: RunningEnforcement) -> None:
    issue_notice(province, notice("n-1", COUNTY, NEIGHBOUR))
    province.call("WithdrawNotice", pb.WithdrawNoticeRequest(notice_id="n-1", reason="x"))
    carry_down(province, city)

    with watching(city, pb.WatchInboxRequest(after_position=0)) as messages:
        assert _told(next(messages)) == [(1, ARRIVED, PROVINCE, "n-1"), (2, WITHDRAWN, PROVINCE, "n-1")]


def test_only_one_direction(province: RunningEnforcement, city: RunningEnforcement) -> None:
    issue_notice(province, notice("passed-on", COUNTY))
    issue_notice(province, notice("received", CITY))
    carry_down(province, city)
    issue_notice(city, notice("issued", COUNTY))

    def ids(direction: directive_pb2.Direction.ValueType) -> list[str]:
        with watching(city, pb.WatchInboxRequest(after_position=0, direction=direction)) as messages:
            return [told[3] for told in _told(next(messages))]

    assert ids(directive_pb2.DIRECTION_RECEIVED) == ["received"]
    assert ids(directive_pb2.DIRECTION_OBSERVED) == ["passed-on"]
    assert ids(directive_pb2.DIRECTION_ISSUED) == ["issued"]


def test_only_within_a_division(city: RunningEnforcement) -> None:
    issue_notice(city, notice("county", COUNTY))
    issue_notice(city, notice("neighbour", NEIGHBOUR))

    with watching(city, pb.WatchInboxRequest(after_position=0, division_code=NEIGHBOUR)) as messages:
        assert [told[3] for told in _told(next(messages))] == ["neighbour"]


def test_a_replica_tells_what_the_other_one_commits(city: RunningEnforcement) -> None:
    replica = city.replica()
    try:
        with watching(replica, pb.WatchInboxRequest()) as messages:
            next(messages)
            issue_notice(city, notice("n-1", COUNTY))
            assert [told[3] for told in _told(next(messages))] == ["n-1"]
    finally:
        replica.close()


def test_a_response_to_what_is_not_held_is_passed_over(
    city: RunningEnforcement, county: RunningEnforcement, service: MakeService
) -> None:
    issue_notice(city, notice("n-1", COUNTY))
    carry_down(city, county)
    acknowledge(county, CITY)
    other = service("140900")
    carry_up(county, other)

    with watching(other, pb.WatchInboxRequest(after_position=0)) as messages:
        first = next(messages)

    assert (_told(first), first.position) == ([], 1)


def test_a_position_that_does_not_exist_is_refused(city: RunningEnforcement) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        next(city.stub.WatchInbox(pb.WatchInboxRequest(after_position=1)))

    refused = service_error(raised.value)
    assert (refused.reason, dict(refused.metadata)) == (Reason.BEYOND_LOG, {"size": "0"})


def test_bad_fields_of_a_watch_are_named(city: RunningEnforcement) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        next(city.stub.WatchInbox(pb.WatchInboxRequest(after_position=-1, direction=9, division_code="x")))  # type: ignore[arg-type]  # no direction

    refused = service_error(raised.value)
    assert [one.field for one in refused.field_violations] == ["direction", "division_code", "after_position"]


def test_a_long_backlog_comes_in_bounded_messages(
    city: RunningEnforcement, county: RunningEnforcement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.enforcement.handlers_reading.WATCH_CHANGES_MAX", 2)
    for number in range(5):
        issue_notice(city, notice(f"n-{number}", COUNTY))
    carry_down(city, county)
    with watching(county, pb.WatchInboxRequest(after_position=0)) as messages:
        sizes = [len(next(messages).changes) for _ in range(3)]

    assert sizes == [2, 2, 1]


def test_a_stop_ends_a_watch(city: RunningEnforcement) -> None:
    # On a connection that outlives the service.
    with connect(city.address, credentials=city.access.credentials()) as channel:
        messages = EnforcementServiceStub(channel).WatchInbox(pb.WatchInboxRequest(), timeout=TIMEOUT_SECONDS)
        next(messages)
        city.stop()

        with pytest.raises(grpc.RpcError) as raised:
            list(messages)
    assert service_error(raised.value).reason is Reason.SHUTTING_DOWN
