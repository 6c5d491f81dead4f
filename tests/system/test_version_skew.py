"""One minor release of skew, either way: a platform of this release and one of the previous release join, as they do
while a province upgrades from the top down, and neither loses anything.

The previous release knows no TLS. It is put behind a proxy that speaks mutual TLS for it, as a sidecar would, so what
is tested is the protocol between the relays, the journal's format, and the upgrade of a platform on its own data.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cli.certificates import make_certificates
from cli.platform_process import PlatformProcess
from cli.simulate.site import CITY, COUNTY, make_site
from tests.faults.tls_proxy import TlsProxy, client_context, server_context
from tests.system.callers import SECONDS_MAX, Caller
from tests.system.previous_release import OldPlatform, unpack, why_not_there
from tests.system.waiting import wait_until
from zhichao.relay.v1 import relay_pb2

pytestmark = pytest.mark.system

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
    city = Caller.of(city_process)
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
    county = Caller.of(upgraded)
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
        county = Caller.of(county_process)
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
    city = Caller.of(upgraded)
    wait_until(lambda: city.replay("registry") == 0, SECONDS_MAX, "entries of the county stay parked")
    assert city.positions("registry")[COUNTY][0] > 1
