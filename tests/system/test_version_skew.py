"""One minor release of skew, either way: a platform of this release and one of the previous release join, as they do
while a province upgrades from the top down, and neither loses anything.

The previous release knows no TLS. It is put behind a proxy that speaks mutual TLS for it, as a sidecar would, so what
is tested is the protocol between the relays, the journal's format, and the upgrade of a platform on its own data.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest

from cli.access import caller_access, open_channel
from cli.certificates import make_certificates
from cli.platform_process import PlatformProcess
from cli.simulate.registration import register_below, register_site
from cli.simulate.site import CITY, COUNTY, Site, make_site
from cli.simulate.traffic import Traffic
from tests.faults.tls_proxy import TlsProxy, client_context, server_context
from tests.system.previous_release import OldPlatform, unpack, why_not_there
from tests.system.waiting import wait_until
from zhichao.journal.v1 import journal_pb2, journal_pb2_grpc
from zhichao.registry.v1 import resources_pb2
from zhichao.registry.v1 import service_pb2 as registry_pb2
from zhichao.registry.v1 import service_pb2_grpc as registry_grpc
from zhichao.relay.v1 import relay_pb2, relay_pb2_grpc
from zhichao.weighing.v1 import service_pb2 as weighing_pb2
from zhichao.weighing.v1 import service_pb2_grpc as weighing_grpc

pytestmark = pytest.mark.system

RECORDS = 400
CALL_SECONDS = 15.0
SECONDS_MAX = 90.0
STREAMS = ("registry", "weighing")


@pytest.fixture(scope="module")
def old_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if reason := why_not_there():
        print(reason)
        pytest.skip(reason)
    return unpack(tmp_path_factory.mktemp("previous-release"))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


class Caller:
    """Calls services of one platform: with the operator's token of its machine where it asks for one."""

    def __init__(self, addresses: Mapping[str, str], data_directory: Path | None = None) -> None:
        self._addresses = addresses
        self._data_directory = data_directory

    def open(self, service: str) -> grpc.Channel:
        return open_channel(self._addresses[service], caller_access(None, None, self._data_directory, ("operator",)))

    def positions(self, stream: str) -> dict[str, tuple[int, bytes]]:
        """Return size and root of every log of a stream by origin."""
        with self.open(stream) as channel:
            stub = journal_pb2_grpc.JournalServiceStub(channel)
            answer = stub.ListPositions(journal_pb2.ListPositionsRequest(), timeout=CALL_SECONDS)
        return {one.origin: (one.size, one.root) for one in answer.positions}

    def relay(self) -> relay_pb2.GetRelayStatusResponse:
        with self.open("relay") as channel:
            stub = relay_pb2_grpc.RelayServiceStub(channel)
            return stub.GetRelayStatus(relay_pb2.GetRelayStatusRequest(), timeout=CALL_SECONDS)

    def register(self, site: Site) -> None:
        with self.open("registry") as channel:
            register_site(registry_grpc.RegistryServiceStub(channel), site, today=datetime.now(UTC).date())

    def register_below(self, lower: str, upper: str) -> None:
        with self.open("registry") as channel:
            register_below(registry_grpc.RegistryServiceStub(channel), lower, upper)

    def weigh(self, site: Site, seed: int) -> None:
        """Record what some trucks weighed; all of it is taken once the service knows the site."""
        traffic = Traffic(site, seed=seed, start_time=datetime.now(UTC), records_per_second=10)
        emissions = traffic.emissions()
        records = [next(emissions).record for _ in range(RECORDS)]
        with self.open("weighing") as channel:
            stub = weighing_grpc.WeighingServiceStub(channel)
            request = weighing_pb2.RecordWeighingsRequest(records=records)

            def is_taken() -> bool:
                answer = stub.RecordWeighings(request, timeout=CALL_SECONDS)
                return all(result.HasField("recorded") for result in answer.results)

            wait_until(is_taken, SECONDS_MAX, "the weighing service does not take the records")

    def publish(self, rule_set_id: str) -> None:
        """Publish a rule set of a city, which is addressed to all below it."""
        with self.open("registry") as channel:
            stub = registry_grpc.RegistryServiceStub(channel)
            held = stub.ListRuleSets(registry_pb2.ListRuleSetsRequest(page_size=1), timeout=CALL_SECONDS).rule_sets[0]
            published = resources_pb2.RuleSet()
            published.CopyFrom(held)
            published.ClearField("info")
            published.rule_set_id = rule_set_id
            published.jurisdiction = ""
            stub.CreateRuleSet(registry_pb2.CreateRuleSetRequest(rule_set=published), timeout=CALL_SECONDS)

    def parked(self, stream: str) -> set[str]:
        """Return the kinds that are held and not understood."""
        with self.open(stream) as channel:
            stub = journal_pb2_grpc.JournalServiceStub(channel)
            answer = stub.ListParkedEntries(journal_pb2.ListParkedEntriesRequest(page_size=1_000), timeout=CALL_SECONDS)
        return {one.kind for one in answer.parked_entries}

    def replay(self, stream: str) -> int:
        """Project what is parked; return how many entries stay parked."""
        with self.open(stream) as channel:
            stub = journal_pb2_grpc.JournalServiceStub(channel)
            return stub.ReplayParkedEntries(journal_pb2.ReplayParkedEntriesRequest(), timeout=CALL_SECONDS).parked_count


def new_caller(process: PlatformProcess) -> Caller:
    return Caller(process.addresses, process.data_directory)


def wait_until_held(upper: Caller, lower: Caller) -> None:
    """Wait until the upper platform holds the county's logs as the county does."""
    for stream in STREAMS:
        wait_until(
            lambda stream=stream: upper.positions(stream).get(COUNTY) == lower.positions(stream)[COUNTY],  # type: ignore[misc]  # mypy infers no type for a lambda with defaults
            SECONDS_MAX,
            lambda: f"the upper platform does not hold the county's log: {lower.relay()}",
        )


def wait_for_state(caller: Caller, state: relay_pb2.LinkState.ValueType) -> None:
    wait_until(lambda: caller.relay().state == state, SECONDS_MAX, lambda: str(caller.relay()))


def test_a_county_of_the_previous_release_below_a_city_of_this_one(
    old_release: Path, directory: Path, stack: ExitStack, seed: int
) -> None:
    certificates = make_certificates(directory / "pki", [CITY, COUNTY])
    site = make_site(seed=seed, units=2)
    city_process = stack.enter_context(PlatformProcess(CITY, directory / CITY, tls_directory=certificates[CITY]))
    city = new_caller(city_process)
    city.register_below(COUNTY, CITY)
    proxy = TlsProxy(city_process.peer_address, dialling=client_context(certificates[COUNTY]))
    stack.callback(proxy.close)
    old = OldPlatform(old_release, COUNTY, directory / COUNTY, upstream=proxy.address)
    with old:
        county = Caller(old.addresses)
        county.register(site)
        county.weigh(site, seed)
        wait_until_held(city, county)
        wait_for_state(county, relay_pb2.LINK_STATE_CURRENT)
        (link,) = city.relay().downstream_links
        assert (link.platform, link.protocol_version, list(link.followed_streams)) == (COUNTY, 1, [])
        # What is addressed to it waits for its upgrade.
        city.publish("city-order")
        county.weigh(site, seed + 1)
        wait_until_held(city, county)

    upgraded = stack.enter_context(
        PlatformProcess(
            COUNTY, directory / COUNTY, upstream=city_process.peer_address, tls_directory=certificates[COUNTY]
        )
    )
    county = new_caller(upgraded)
    wait_until(lambda: county.positions("registry").keys() >= {COUNTY}, SECONDS_MAX, "the county's registry")
    county.weigh(site, seed + 2)
    wait_until_held(city, county)
    wait_until(
        lambda: [one.origin for one in county.relay().addressed_progress if one.through_sequence] == [CITY],
        SECONDS_MAX,
        lambda: f"what the city has addressed did not come down: {county.relay()}",
    )
    wait_for_state(county, relay_pb2.LINK_STATE_CURRENT)
    assert county.relay().protocol_version == 2


def test_a_county_of_this_release_below_a_city_of_the_previous_one(
    old_release: Path, directory: Path, stack: ExitStack, seed: int
) -> None:
    certificates = make_certificates(directory / "pki", [CITY, COUNTY])
    site = make_site(seed=seed, units=2)
    old = OldPlatform(old_release, CITY, directory / CITY)
    with old:
        city = Caller(old.addresses)
        proxy = TlsProxy(old.addresses["relay"], listening=server_context(certificates[CITY]))
        stack.callback(proxy.close)
        county_process = stack.enter_context(
            PlatformProcess(COUNTY, directory / COUNTY, upstream=proxy.address, tls_directory=certificates[COUNTY])
        )
        county = new_caller(county_process)
        county.register(site)
        county.weigh(site, seed)
        wait_until_held(city, county)
        # The stream that came with this release waits for the city's upgrade; the link is none the worse.
        wait_for_state(county, relay_pb2.LINK_STATE_CURRENT)
        status = county.relay()
        assert status.protocol_version == 1
        assert {one.state for one in status.follows} == {relay_pb2.FOLLOW_STATE_NOT_FOLLOWED}
        waiting = {one.stream for one in status.progress if one.refusal_reason == "NOT_CONFIGURED"}
        assert waiting == {one.stream for one in status.progress} - set(STREAMS)
        # The city keeps what it does not understand, as it was written.
        assert "zhichao.access.v1.Credential" in city.parked("registry")

    upgraded = stack.enter_context(PlatformProcess(CITY, directory / CITY, tls_directory=certificates[CITY]))
    city = new_caller(upgraded)
    wait_until(lambda: city.replay("registry") == 0, SECONDS_MAX, "entries of the county stay parked")
    assert city.positions("registry")[COUNTY][0] > 1
