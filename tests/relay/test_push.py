"""Entries travel up: over one level and two, whatever starts first, and from the very first entry."""

import itertools
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import pytest

from services.journal.notes import SignedCheckpoint, VerifierKey
from tests.relay.conftest import CITY, COUNTY, PROVINCE
from tests.relay.platforms import Platform, assert_same_log, eventually
from zhichao.journal.v1 import journal_pb2

OTHER_COUNTY = "141026"

Make = Callable[..., Platform]


def test_everything_of_a_county_arrives_at_the_city(platform: Make) -> None:
    city = platform(CITY)
    city.start()
    county = platform(COUNTY, upstream=city.address)
    county.start()
    county["weighing"].write_many(2_500)
    county["registry"].write_many(10)
    for stream in ("registry", "weighing"):
        assert_same_log(city[stream], county[stream], COUNTY)
    county.wait_for_state("CURRENT")


def test_three_levels_hold_the_same_logs(platform: Make) -> None:
    province = platform(PROVINCE)
    province.start()
    city = platform(CITY, upstream=province.address)
    city.start()
    county = platform(COUNTY, upstream=city.address)
    county.start()
    county["weighing"].write_many(3_000)
    city["weighing"].write_many(500)
    for upper, lower in ((city, county), (province, city)):
        assert_same_log(upper["weighing"], lower["weighing"], COUNTY)
    assert_same_log(province["weighing"], city["weighing"], CITY)
    assert_same_log(province["registry"], city["registry"], COUNTY)
    # Nothing comes back down.
    assert county["weighing"].position(CITY) is None


@pytest.mark.parametrize("order", list(itertools.permutations(["county", "county relay", "city", "city relay"])))
def test_platforms_and_services_start_in_any_order(platform: Make, order: tuple[str, ...]) -> None:
    city = platform(CITY, streams=["weighing"])
    # The port of a relay must be known to the one below: it is taken once and freed again.
    city.start_relay()
    city.stop_relay()
    county = platform(COUNTY, streams=["weighing"], upstream=city.address)
    starts = {
        "county": county.start_services,
        "county relay": county.start_relay,
        "city": city.start_services,
        "city relay": city.start_relay,
    }
    for name in order:
        starts[name]()
    county["weighing"].write_many(30)
    assert_same_log(city["weighing"], county["weighing"], COUNTY)
    county.wait_for_state("CURRENT")


def test_an_upstream_that_is_configured_later_gets_everything_from_sequence_1(platform: Make) -> None:
    county = platform(COUNTY)
    county.start()
    county["weighing"].write_many(4_000)
    eventually(partial(sees, county, 4_001), "the position of the own log")
    eventually(lambda: len(county.status().progress) == len(county.services), "the position of the other log")
    status = county.status()
    assert (county.state(), status.upstream_address) == ("NO_UPSTREAM", "")
    assert [(one.stream, one.local_size, one.lag_records) for one in status.progress] == [
        ("registry", 1, 0),
        ("weighing", 4_001, 0),
    ]

    city = platform(CITY)
    city.start()
    county.stop_relay()
    county.upstream = city.address
    county.start_relay()
    assert_same_log(city["weighing"], county["weighing"], COUNTY)


def test_logs_of_many_origins_are_pushed_side_by_side(platform: Make) -> None:
    province = platform(PROVINCE, streams=["weighing"])
    province.start()
    city = platform(CITY, streams=["weighing"], upstream=province.address)
    city.start()
    codes = [f"1410{number}" for number in range(21, 30)]
    with ExitStack() as stack:
        counties = []
        for code in codes:
            county = platform(code, streams=["weighing"], upstream=city.address)
            county.start()
            counties.append(county)
            stack.callback(county.stop_relay)
        # One log with a long backlog must not keep the others waiting.
        counties[0]["weighing"].write_many(10_000)
        for county in counties[1:]:
            county["weighing"].write_many(200)
        for county in counties:
            assert_same_log(province["weighing"], county["weighing"], county.code)


def test_a_service_that_restarts_is_followed_again(platform: Make) -> None:
    city = platform(CITY, streams=["weighing"])
    city.start()
    county = platform(COUNTY, streams=["weighing"], upstream=city.address)
    county.start()
    for lower_restarts in (True, False):
        county["weighing"].write_many(1_500)
        host = (county if lower_restarts else city)["weighing"]
        host.stop()
        host.start()
        county["weighing"].write_many(50)
        assert_same_log(city["weighing"], county["weighing"], COUNTY)
    county.wait_for_state("CURRENT")


def test_small_batches_that_pile_up_travel_together(platform: Make) -> None:
    city = platform(CITY, streams=["weighing"])
    city.start()
    county = platform(COUNTY, streams=["weighing"], upstream=city.address)
    county.start()
    city["weighing"].stop()
    for number in range(300):
        county["weighing"].write(f"{number}".encode())
    city["weighing"].start()
    assert_same_log(city["weighing"], county["weighing"], COUNTY)


def test_cosignatures_come_back_to_the_owner(platform: Make) -> None:
    city = platform(CITY, streams=["weighing"])
    city.start()
    county = platform(COUNTY, streams=["weighing"], upstream=city.address)
    county.start()
    size = county["weighing"].write_many(20)
    answer = city["weighing"].stub.GetCheckpoint(journal_pb2.GetCheckpointRequest(origin=CITY))
    key = VerifierKey.parse(answer.verifier_key)

    def is_cosigned() -> bool:
        signed = SignedCheckpoint.parse(county["weighing"].checkpoint(COUNTY))
        return signed.checkpoint.size == size and signed.cosigned_at(key) is not None

    eventually(is_cosigned, "the cosignature of the city")


def sees(county: Platform, size: int) -> bool:
    progress = county.progress("weighing", COUNTY)
    return progress is not None and progress.local_size == size


def has_more_than(city: Platform, size: int) -> bool:
    return city["weighing"].size(COUNTY) > size


def test_a_relay_that_stops_lets_what_is_in_flight_finish(platform: Make) -> None:
    city = platform(CITY, streams=["weighing"])
    city.start()
    county = platform(COUNTY, streams=["weighing"], upstream=city.address)
    county.start()
    for stopped in (county, city, county):
        # Written before each stop: what was written once may all have arrived before the last.
        reached = county["weighing"].write_many(10_000) - 10_000
        eventually(partial(has_more_than, city, reached), "more entries at the city")
        stopped.stop_relay()
        stopped.start_relay()
    assert_same_log(city["weighing"], county["weighing"], COUNTY)
