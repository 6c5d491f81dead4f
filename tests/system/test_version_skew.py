"""One minor release of skew, either way: a platform of this release and one of the previous release join, as they do
while a province upgrades from the top down, and neither loses anything.

The previous release knows no TLS. It is put behind a proxy that speaks mutual TLS for it, as a sidecar would, so what
is tested is the protocol between the relays, the journal's format, and the upgrade of a platform on its own data.
"""

import subprocess
import sys
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


def test_a_county_of_the_previous_release_without_a_proxy_waits_for_its_upgrade(
    old_release: Path, directory: Path, stack: ExitStack, seed: int
) -> None:
    """As docs/operate/upgrade.md has it: the city was upgraded first, and the county still dials in plain text."""
    certificates = make_certificates(directory / "pki", [CITY, COUNTY])
    site = make_site(seed=seed, units=2)
    city_process = stack.enter_context(PlatformProcess(CITY, directory / CITY, tls_directory=certificates[CITY]))
    city = Caller.of(city_process)
    city.register_below(COUNTY, CITY)
    with OldPlatform(old_release, COUNTY, directory / COUNTY, upstream=city_process.peer_address) as old:
        county = Caller(old.addresses)
        # Its terminals notice nothing.
        county.register(site)
        county.weigh(site, seed)
        wait_until(lambda: bool(county.relay().last_error), SECONDS_MAX, lambda: str(county.relay()))
        assert county.relay().state == relay_pb2.LINK_STATE_CONNECTING
        written = {stream: county.positions(stream)[COUNTY] for stream in STREAMS}
    assert [stream for stream in STREAMS if COUNTY in city.positions(stream)] == []

    upgraded = stack.enter_context(
        PlatformProcess(
            COUNTY, directory / COUNTY, upstream=city_process.peer_address, tls_directory=certificates[COUNTY]
        )
    )
    county = Caller.of(upgraded)
    wait_until_held(city, county)
    assert [stream for stream in STREAMS if city.positions(stream)[COUNTY][0] < written[stream][0]] == []
    assert city.positions("weighing")[COUNTY] == written["weighing"]


def test_a_platform_that_goes_back_to_the_previous_release_goes_on(
    old_release: Path, directory: Path, seed: int
) -> None:
    site = make_site(seed=seed, units=2)
    sizes = []
    with PlatformProcess(COUNTY, directory / COUNTY) as process:
        county = Caller.of(process)
        county.register(site)
        county.weigh(site, seed)
        sizes.append(county.positions("weighing")[COUNTY][0])
    # The schema is that of this release, and the registry's log holds kinds that the previous one has never seen. Its
    # `up` does not read what this one's says of the platform, which is of no use once that has stopped.
    (directory / COUNTY / "platform.json").unlink()
    with OldPlatform(old_release, COUNTY, directory / COUNTY) as old:
        county = Caller(old.addresses)
        county.weigh(site, seed + 1)
        sizes.append(county.positions("weighing")[COUNTY][0])
    with PlatformProcess(COUNTY, directory / COUNTY) as process:
        county = Caller.of(process)
        county.weigh(site, seed + 2)
        sizes.append(county.positions("weighing")[COUNTY][0])
        assert sizes == sorted(set(sizes))
        assert county.parked("registry") | county.parked("weighing") == set()
        verified = subprocess.run(
            [sys.executable, "-P", "-m", "cli.main", "verify", str(directory / COUNTY)],
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
        assert verified.returncode == 0, verified.stdout + verified.stderr
