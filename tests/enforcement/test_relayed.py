"""Three platforms with real relays and mutual TLS between them: directives go down and answers come up by themselves,
also after an outage.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from services.common.access.tokens import ServiceTokens
from tests.access import Access
from tests.conftest import Databases
from tests.enforcement.examples import (
    acknowledge,
    answer,
    duty_check,
    duty_check_recipients,
    issue_duty_check,
    issue_notice,
    notice,
    notice_recipients,
)
from tests.enforcement.harness import CITY, COUNTY, PROVINCE, RunningEnforcement
from tests.registry.harness import RunningRegistry
from tests.relay.platforms import Platform, eventually
from tests.relay.registry import token_file_of
from tests.running_service import SharedClock
from zhichao.enforcement.v1 import service_pb2 as pb


class EnforcementHost:
    """An enforcement service as a platform's relay knows it."""

    stream = "enforcement"

    def __init__(self, make: Callable[[], RunningEnforcement]) -> None:
        self._make = make
        self.address = ""

    def start(self) -> None:
        self.service = self._make()
        self.address = self.service.address

    def close(self) -> None:
        self.service.close()


class Levels:
    """A province, a city and a county, each dialling the one above it."""

    def __init__(
        self, databases: Databases, directory: Path, registries: dict[str, RunningRegistry], clock: SharedClock
    ) -> None:
        self._running = ExitStack()
        self.platforms: dict[str, Platform] = {}
        self.services: dict[str, RunningEnforcement] = {}
        upstream = None
        for code in (PROVINCE, CITY, COUNTY):
            registry = registries.get(code)
            token_file = token_file_of(directory, code)
            address = f"unix:{directory}/nobody.sock"
            if registry is not None:
                # The relay and the registry of the platform know its services by the same secret.
                address = registry.address
                token_file.write_text(Path(address.removeprefix("unix:")).with_suffix(".service").read_text())
            access = Access(code, clock=clock, tokens=ServiceTokens(token_file))

            def make(code: str = code, address: str = address, access: Access = access) -> RunningEnforcement:
                return RunningEnforcement(databases, directory, code, clock, address, access=access)

            host = EnforcementHost(make)
            platform = Platform(databases, directory, code, upstream=upstream, streams=(), fakes=[host])
            self._running.callback(platform.close)
            platform.start()
            upstream = platform.address
            self.platforms[code] = platform
            self.services[code] = host.service

    def close(self) -> None:
        self._running.close()


@pytest.fixture
def levels(
    databases: Databases, registries: dict[str, RunningRegistry], socket_directory: Path, clock: SharedClock
) -> Iterator[Levels]:
    running = Levels(databases, socket_directory, registries, clock)
    yield running
    running.close()


def _holds(service: RunningEnforcement, method: str, issuer: str) -> Callable[[], bool]:
    """Return whether a service holds any directive of an issuer."""
    lists = {
        "ListNotices": (pb.ListNoticesRequest(filter=pb.DirectiveFilter(issuer=issuer)), "held_notices"),
        "ListDutyChecks": (pb.ListDutyChecksRequest(filter=pb.DirectiveFilter(issuer=issuer)), "held_duty_checks"),
    }
    request, field = lists[method]
    return lambda: len(getattr(service.call(method, request), field)) == 1


def test_a_notice_goes_down_two_hops_and_is_acknowledged(levels: Levels) -> None:
    province, city, county = (levels.services[code] for code in (PROVINCE, CITY, COUNTY))

    issue_notice(province, notice("n-1", COUNTY))
    eventually(_holds(county, "ListNotices", PROVINCE), "the notice at the county")
    acknowledge(county, PROVINCE, text="已传达")

    def is_told(service: RunningEnforcement) -> bool:
        return notice_recipients(service, PROVINCE)[COUNTY].state == pb.RECIPIENT_STATE_ACKNOWLEDGED

    eventually(lambda: is_told(province), "the acknowledgement at the province")
    told = [notice_recipients(service, PROVINCE)[COUNTY] for service in (province, city, county)]
    assert told[0] == told[1] == told[2]
    assert told[0].acknowledgement.text == "已传达"
    assert told[0].HasField("receive_time")


def test_an_outage_is_waited_for_and_nothing_comes_twice(levels: Levels, clock: SharedClock) -> None:
    province, city, county = (levels.services[code] for code in (PROVINCE, CITY, COUNTY))
    levels.platforms[CITY].stop_relay()
    issue_duty_check(province, duty_check("dc-1", COUNTY, minutes=10))
    clock.advance(minutes=11)
    undelivered = duty_check_recipients(province)[COUNTY].state

    levels.platforms[CITY].start_relay()
    eventually(_holds(county, "ListDutyChecks", PROVINCE), "the duty check at the county")
    levels.platforms[CITY].stop_relay()
    answer(county, PROVINCE)
    levels.platforms[CITY].start_relay()
    eventually(
        lambda: duty_check_recipients(province)[COUNTY].state == pb.DUTY_CHECK_STATE_ANSWERED_LATE,
        "the answer at the province",
    )

    assert undelivered == pb.DUTY_CHECK_STATE_UNDELIVERED
    assert duty_check_recipients(province)[COUNTY].is_received_late
    for service in (city, county):
        assert service.query("SELECT count(*) FROM journal_addressed WHERE audience <> ''") == [(1,)]
        assert service.parked() == []
    # Its receipt and its answer.
    assert len(county.own_entries()) == 2
