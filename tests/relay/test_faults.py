"""Three levels over connections that break in every way: all arrives, once, and the same."""

import random
from collections.abc import Callable

import pytest

from tests.faults.proxy import Fault, FaultProxy, Kind
from tests.relay.conftest import CITY, COUNTY
from tests.relay.levels import TroubledLevels
from tests.relay.platforms import Platform, assert_same_log, eventually

Make = Callable[..., Platform]
MakeProxy = Callable[..., FaultProxy]

BATCH_BYTES = 150_000
"""About the size of a full batch of the entries written here."""

PROXY_KINDS = (Kind.CUT_PUSHES, Kind.CUT_ANSWERS, Kind.SWALLOW, Kind.DELAY, Kind.REFUSE)


def scripted(random_: random.Random) -> list[Fault]:
    """Make the faults of the first connections of one proxy."""
    faults = []
    for _ in range(random_.randint(3, 6)):
        kind = random_.choice(PROXY_KINDS)
        largest = {Kind.CUT_ANSWERS: 5_000, Kind.DELAY: 30}.get(kind, 3 * BATCH_BYTES)
        faults.append(Fault(kind, random_.randint(0, largest)))
    return faults


@pytest.mark.parametrize("seed", range(8))
def test_everything_arrives_once_whatever_happens_to_the_connections(
    platform: Make, proxy: MakeProxy, seed: int
) -> None:
    random_ = random.Random(seed)
    levels = TroubledLevels(platform, proxy, "weighing", lambda: scripted(random_))
    province, city, county = levels.province, levels.city, levels.county
    for _ in range(6):
        county["weighing"].write_many(random_.choice([1, 50, 1_100]), size=random_.choice([20, 120]))
        city["weighing"].write_many(random_.choice([1, 200]))
        random_.choice(levels.happenings)()
    for above, below in ((city, county), (province, city)):
        assert_same_log(above["weighing"], below["weighing"], COUNTY)
    assert_same_log(province["weighing"], city["weighing"], CITY)
    county.wait_for_state("CURRENT")
    city.wait_for_state("CURRENT")


def test_what_was_committed_but_not_acknowledged_is_held_once(platform: Make, proxy: MakeProxy) -> None:
    city = platform(CITY, streams=["weighing"])
    city.start()
    # Handshake and a few answers pass, then the connection breaks with batches in flight.
    broken = proxy(city.address, *[Fault(Kind.CUT_ANSWERS, 2_000)] * 5)
    county = platform(COUNTY, streams=["weighing"], upstream=broken.address)
    county.start_services()
    county["weighing"].write_many(20_000)
    county.start_relay()
    assert_same_log(city["weighing"], county["weighing"], COUNTY)
    # Twenty batches answered on one connection are more bytes than the first cut lets pass. How many of the other cuts
    # are met depends on how much was committed while the connection was away.
    assert broken.connection_count >= 2


def test_an_upstream_that_is_away_is_waited_for(platform: Make, proxy: MakeProxy) -> None:
    city = platform(CITY, streams=["weighing"])
    city.start()
    link = proxy(city.address)
    county = platform(COUNTY, streams=["weighing"], upstream=link.address)
    county.start()
    county.wait_for_state("CURRENT")
    link.refuse()
    county.wait_for_state("CONNECTING")
    size = county["weighing"].write_many(2_000)
    eventually(lambda: (held := county.progress("weighing", COUNTY)) and held.local_size == size, "the backlog")
    progress = county.progress("weighing", COUNTY)
    assert progress is not None
    assert progress.lag_records == 2_000
    assert progress.lag_milliseconds > 0
    assert f"the upstream {link.address} does not answer" in county.status().last_error
    link.refuse(is_refusing=False)
    assert_same_log(city["weighing"], county["weighing"], COUNTY)
    county.wait_for_state("CURRENT")
    assert county.status().last_error == ""


def test_a_connection_that_falls_silent_is_given_up(platform: Make, proxy: MakeProxy) -> None:
    city = platform(CITY, streams=["weighing"])
    city.start()
    link = proxy(city.address)
    county = platform(COUNTY, streams=["weighing"], upstream=link.address)
    county.start()
    county.wait_for_state("CURRENT")
    before = link.connection_count
    link.swallow()
    county["weighing"].write_many(100)
    assert_same_log(city["weighing"], county["weighing"], COUNTY)
    assert link.connection_count > before
