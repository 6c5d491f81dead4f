"""Tables follow from the journal, in whatever order logs come and entries are replayed; what does not fit waits."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.database import create_engine, raw_connection
from services.common.instants import timestamp
from services.enforcement import kinds
from services.enforcement.projection import EnforcementProjection
from services.journal.projection import Unprojectable
from tests.conftest import Databases
from tests.enforcement.conftest import MakeService
from tests.enforcement.examples import (
    OFFICER,
    acknowledge,
    duty_check,
    get_notice,
    issue_notice,
    notice,
    notice_recipients,
)
from tests.enforcement.harness import CITY, COUNTY, NEIGHBOUR, OTHER_CITY, PROVINCE, SCHEMA, RunningEnforcement, migrate
from tests.registry.harness import START, TIMEOUT_SECONDS
from tests.running_service import carry_down, carry_up
from zhichao.enforcement.v1 import duty_check_pb2, notice_pb2
from zhichao.enforcement.v1 import service_pb2 as pb
from zhichao.journal.v1 import journal_pb2 as journal

NOTICE_KIND = kinds.NOTICE.directive_kind
ACKNOWLEDGEMENT_KIND = kinds.NOTICE.response_kind


def test_an_acknowledgement_that_comes_before_its_notice_is_kept(
    province: RunningEnforcement, city: RunningEnforcement, county: RunningEnforcement, service: MakeService
) -> None:
    # The county moves to a city that has heard nothing of the notice yet.
    issue_notice(province, notice("n-1", COUNTY))
    carry_down(province, city)
    carry_down(city, county)
    acknowledge(county, PROVINCE, text="已收到")
    other = service(OTHER_CITY)
    carry_up(county, other)
    assert other.parked() == []
    for moved in (province, other):
        moved.access.say(parents={COUNTY: OTHER_CITY})

    carry_down(province, other)

    assert notice_recipients(other, PROVINCE)[COUNTY].acknowledgement.text == "已收到"
    assert get_notice(other, PROVINCE).counts.responded_count == 1


def test_what_a_newer_release_wrote_waits_and_is_replayed(
    city: RunningEnforcement, county: RunningEnforcement, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = notice("n-1", COUNTY)
    made.issue_time.FromDatetime(START)
    made.recipients.append(COUNTY)
    city.append_raw(NOTICE_KIND, made.SerializeToString(), audience=COUNTY, schema=2)
    carry_down(city, county)
    (parked,) = county.parked()
    refused = county.refusal("GetNotice", pb.GetNoticeRequest(issuer=CITY, notice_id="n-1"))
    # The county is upgraded.
    monkeypatch.setattr(EnforcementProjection, "kinds", {NOTICE_KIND: 2})
    county.journal.ReplayParkedEntries(journal.ReplayParkedEntriesRequest(), timeout=TIMEOUT_SECONDS)

    assert (parked.origin, parked.cause) == (CITY, "newer_schema")
    assert refused.status == "NOT_FOUND"
    assert county.parked() == []
    assert get_notice(county, CITY).own.platform_code == COUNTY


def test_fields_of_a_newer_release_survive(city: RunningEnforcement, county: RunningEnforcement) -> None:
    made = notice("n-1", COUNTY)
    made.issue_time.FromDatetime(START)
    made.recipients.append(COUNTY)
    # Field 4095, a text.
    made.MergeFromString(bytes.fromhex("faff010568656c6c6f"))
    city.append_raw(NOTICE_KIND, made.SerializeToString(), audience=COUNTY)
    carry_down(city, county)

    assert get_notice(county, CITY).notice == made


def test_tables_of_two_levels_are_the_same(
    province: RunningEnforcement, city: RunningEnforcement, county: RunningEnforcement
) -> None:
    issue_notice(province, notice("n-1", COUNTY))
    issue_notice(province, notice("n-2", COUNTY))
    province.call("WithdrawNotice", pb.WithdrawNoticeRequest(notice_id="n-2", reason="x"))
    carry_down(province, city)
    carry_down(city, county)
    acknowledge(county, PROVINCE, "n-1")
    carry_up(county, city)
    carry_up(city, province)

    assert province.rows() == city.rows() == county.rows()


def _notice(**changes: Any) -> bytes:
    made = notice("n-1", COUNTY)
    made.issue_time.FromDatetime(START)
    made.recipients.append(COUNTY)
    for field, value in changes.items():
        made.ClearField(field)  # type: ignore[arg-type]  # any field
        if value is not None:
            made.MergeFrom(notice_pb2.Notice(**{field: value}))
    return made.SerializeToString()


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (NOTICE_KIND, b"\xff"),
        (NOTICE_KIND, _notice(notice_id="a b")),
        (NOTICE_KIND, _notice(issue_time=None)),
        (NOTICE_KIND, _notice(issue_time=timestamp(START).__class__(seconds=10**15))),
        (NOTICE_KIND, _notice(audiences=None)),
        (NOTICE_KIND, _notice(audiences=["x"])),
        (NOTICE_KIND, _notice(audiences=["141025"] * 201)),
        (NOTICE_KIND, _notice(recipients=["x"])),
        (NOTICE_KIND, _notice(recipients=["141025"] * 1_001)),
        (kinds.WITHDRAWAL_KIND, notice_pb2.NoticeWithdrawal(notice_id="n-1").SerializeToString()),
        (kinds.WITHDRAWAL_KIND, notice_pb2.NoticeWithdrawal(withdraw_time=timestamp(START)).SerializeToString()),
        (ACKNOWLEDGEMENT_KIND, notice_pb2.NoticeAcknowledgement(issuer=CITY, notice_id="n-1").SerializeToString()),
        (
            ACKNOWLEDGEMENT_KIND,
            notice_pb2.NoticeAcknowledgement(
                issuer="x", notice_id="n-1", acknowledge_time=timestamp(START)
            ).SerializeToString(),
        ),
        (
            kinds.DUTY_CHECK.response_kind,
            duty_check_pb2.DutyCheckAnswer(issuer=CITY, answer_time=timestamp(START)).SerializeToString(),
        ),
        # A duty check without a deadline would be missed by nobody.
        (
            kinds.DUTY_CHECK.directive_kind,
            duty_check_pb2.DutyCheck(
                duty_check_id="dc", audiences=[COUNTY], issue_time=timestamp(START)
            ).SerializeToString(),
        ),
    ],
)
def test_what_lacks_a_column_is_parked(kind: str, payload: bytes) -> None:
    with pytest.raises(Unprojectable):
        EnforcementProjection().prepare(CITY, kind, payload, b"")


def _entries() -> list[tuple[str, int, str, bytes]]:
    """Return entries of three logs as (origin, sequence, kind, payload): some of them for several audiences."""
    first = notice("n-1", COUNTY, NEIGHBOUR)
    first.recipients.extend([COUNTY, NEIGHBOUR])
    first.issue_time.FromDatetime(START)
    check = duty_check("n-1")
    check.recipients.append(COUNTY)
    check.issue_time.FromDatetime(START)
    check.deadline_time.FromDatetime(START + timedelta(minutes=10))
    # An issuer that goes wrong: another text under the same id. What it said first counts.
    other = notice("n-1", COUNTY, title="另一文本")
    other.issue_time.FromDatetime(START + timedelta(hours=1))
    withdrawals = [
        notice_pb2.NoticeWithdrawal(notice_id="n-1", reason=reason, withdraw_time=timestamp(START))
        for reason in ("first", "second")
    ]
    said = [
        notice_pb2.NoticeAcknowledgement(
            issuer=CITY, notice_id="n-1", text=text, officer=OFFICER, acknowledge_time=timestamp(START)
        )
        for text in ("first", "second")
    ]
    answered = duty_check_pb2.DutyCheckAnswer(
        issuer=CITY, duty_check_id="n-1", answer="x", answer_time=timestamp(START)
    )
    return [
        (CITY, 2, NOTICE_KIND, first.SerializeToString()),
        (CITY, 3, NOTICE_KIND, first.SerializeToString()),
        (CITY, 4, kinds.DUTY_CHECK.directive_kind, check.SerializeToString()),
        (CITY, 5, kinds.WITHDRAWAL_KIND, withdrawals[0].SerializeToString()),
        (CITY, 6, kinds.WITHDRAWAL_KIND, withdrawals[1].SerializeToString()),
        (CITY, 7, NOTICE_KIND, other.SerializeToString()),
        (COUNTY, 2, ACKNOWLEDGEMENT_KIND, said[0].SerializeToString()),
        (COUNTY, 3, ACKNOWLEDGEMENT_KIND, said[1].SerializeToString()),
        (COUNTY, 4, kinds.DUTY_CHECK.response_kind, answered.SerializeToString()),
        (NEIGHBOUR, 2, ACKNOWLEDGEMENT_KIND, said[1].SerializeToString()),
    ]


TABLES = ("directives", "directive_recipients", "directive_withdrawals", "directive_responses")


@pytest.fixture(scope="module")
def tables(databases: Databases) -> Any:
    """Return a function that projects entries in an order into empty tables and returns the rows."""
    url = databases.borrow(SCHEMA, migrate)
    engine = create_engine(url, pool_size=2, application_name="test")
    projection = EnforcementProjection()

    def project(entries: list[tuple[str, int, str, bytes]]) -> tuple[dict[str, Any], list[Any]]:
        with engine.connect() as pooled:
            connection = raw_connection(pooled)
            for origin, sequence, kind, payload in entries:
                projection.project(connection, origin, [(sequence, projection.prepare(origin, kind, payload, b""))])
            rows = {
                table: connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4".encode()).fetchall()  # noqa: S608 - our own names
                for table in TABLES
            }
            changes = connection.execute("SELECT position, change, kind, platform FROM inbox_changes ORDER BY 1")
            told = changes.fetchall()
            pooled.rollback()
        return rows, told

    yield project
    engine.dispose()
    databases.give_back(SCHEMA, url)


@given(st.permutations(_entries()), st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_and_repetition_gives_the_same_tables(
    tables: Any, entries: list[tuple[str, int, str, bytes]], data: st.DataObject
) -> None:
    repeated = entries + data.draw(st.lists(st.sampled_from(entries), max_size=4))
    expected, _ = tables(_entries())

    rows, told = tables(repeated)

    assert rows == expected
    # Each directive arrives once, is taken back once, and gets each response once, in whatever order.
    assert [position for position, *_ in told] == list(range(1, len(told) + 1))
    assert sorted((change, kind, platform) for _, change, kind, platform in told) == [
        (1, 1, CITY),
        (1, 2, CITY),
        (2, 1, CITY),
        (3, 1, NEIGHBOUR),
        (3, 1, COUNTY),
        (3, 2, COUNTY),
    ]
