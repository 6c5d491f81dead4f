"""The service runs with a database role that owns no table and cannot change what is only added to."""

from pathlib import Path

from tests.contract.test_deploy_roles import OwnedDatabases, _roles, owned
from tests.enforcement.examples import acknowledge, answer, duty_check, issue_duty_check, issue_notice, notice
from tests.enforcement.harness import CITY, COUNTY, RunningEnforcement
from tests.registry.harness import RunningRegistry
from tests.running_service import SharedClock, carry_down, carry_up
from zhichao.enforcement.v1 import service_pb2 as pb

__all__ = ["_roles", "owned"]
# Fixtures, which pytest finds by their names here.


def test_everything_works_with_a_role_that_owns_nothing(
    owned: OwnedDatabases, registries: dict[str, RunningRegistry], socket_directory: Path, clock: SharedClock
) -> None:
    services: list[RunningEnforcement] = []
    try:
        for code, registry_address in (
            (CITY, registries[CITY].address),
            (COUNTY, f"unix:{socket_directory}/none.sock"),
        ):
            url = owned.borrow("enforcement", lambda _url: None)
            services.append(RunningEnforcement(None, socket_directory, code, clock, registry_address, database_url=url))
        city, county = services
        issue_notice(city, notice("n-1", COUNTY))
        issue_notice(city, notice("n-2", COUNTY))
        issue_duty_check(city, duty_check())
        city.call("WithdrawNotice", pb.WithdrawNoticeRequest(notice_id="n-2", reason="x"))
        carry_down(city, county)
        acknowledge(county, CITY)
        answer(county, CITY)
        carry_up(county, city)

        held = city.call("ListNotices", pb.ListNoticesRequest()).held_notices
        assert {one.notice.notice_id: one.counts.responded_count for one in held} == {"n-1": 1, "n-2": 0}
        assert city.rows() == county.rows()
        assert city.parked() == county.parked() == []
    finally:
        for service in services:
            service.close()
