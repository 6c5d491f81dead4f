"""Cosignatures come down whole: of the city and of the province, also to a county that pushes nothing any more."""

from collections.abc import Callable

from services.journal.notes import SignedCheckpoint
from services.relay.cosignature_feed import CosignatureFeed
from services.relay.standing import LogKey
from tests.faults.proxy import FaultProxy
from tests.relay.conftest import CITY, COUNTY, PROVINCE
from tests.relay.platforms import WAIT_SECONDS, Platform, assert_same_log, eventually
from zhichao.relay.v1 import relay_pb2, relay_pb2_grpc

Make = Callable[..., Platform]
MakeProxy = Callable[..., FaultProxy]

KEY = LogKey("weighing", COUNTY)
OTHER = LogKey("weighing", "141026")


def cosigners(platform: Platform, *upper: Platform) -> list[str]:
    """Return which upper platforms have cosigned the newest checkpoint of the county's own log, as it is held there."""
    signed = SignedCheckpoint.parse(platform["weighing"].checkpoint(COUNTY))
    return [one.code for one in upper if signed.cosigned_at(one["weighing"].verifier_key) is not None]


def three_levels(platform: Make, proxy: MakeProxy) -> tuple[Platform, Platform, Platform, FaultProxy]:
    province = platform(PROVINCE, streams=["weighing"])
    province.start()
    link = proxy(province.address)
    city = platform(CITY, streams=["weighing"], upstream=link.address)
    city.start()
    county = platform(COUNTY, streams=["weighing"], upstream=city.address)
    county.start()
    return province, city, county, link


def test_the_provinces_cosignature_reaches_a_county_that_is_idle(platform: Make, proxy: MakeProxy) -> None:
    province, city, county, link = three_levels(platform, proxy)
    link.refuse()
    county["weighing"].write_many(20)
    eventually(lambda: cosigners(county, city, province) == [CITY], "the city's cosignature")
    # The county has nothing to push when the province cosigns at last.
    link.refuse(is_refusing=False)
    eventually(lambda: cosigners(county, city, province) == [CITY, PROVINCE], "both cosignatures")


def test_a_relay_that_was_killed_before_the_hand_over_gets_them_when_it_comes_back(
    platform: Make, proxy: MakeProxy
) -> None:
    province, city, county, _ = three_levels(platform, proxy)
    county.app._link._cosignatures._hand_over = lambda: None  # type: ignore[method-assign]  # as if it were killed
    county["weighing"].write_many(20)
    assert_same_log(city["weighing"], county["weighing"], COUNTY)
    assert_same_log(province["weighing"], county["weighing"], COUNTY)
    eventually(lambda: cosigners(city, city, province) == [CITY, PROVINCE], "both cosignatures at the city")
    county.stop_relay()
    assert cosigners(county, city, province) == []
    county.start_relay()
    eventually(lambda: cosigners(county, city, province) == [CITY, PROVINCE], "both cosignatures")


def test_a_platform_is_told_of_its_own_subtree_only(platform: Make) -> None:
    city = platform(CITY, streams=["weighing"])
    city.start()
    counties = [platform(code, streams=["weighing"], upstream=city.address) for code in (COUNTY, "141026")]
    for county in counties:
        county.start()
        county["weighing"].write_many(3)
    for county in counties:
        assert_same_log(city["weighing"], county["weighing"], county.code)
    with city.open_as_peer(COUNTY) as channel:
        stub = relay_pb2_grpc.RelayServiceStub(channel)
        call = stub.FollowCosignatures(relay_pb2.FollowCosignaturesRequest(), timeout=WAIT_SECONDS)
        told = next(iter(call))
        call.cancel()
    assert {one.origin for one in told.checkpoints} == {COUNTY}


# What is kept for platforms below


def test_a_follower_is_told_what_is_newer_than_what_it_knows() -> None:
    feed = CosignatureFeed()
    feed.add(KEY, "first")
    feed.add(OTHER, "other")
    number, notes = feed.after(0)
    assert notes == {KEY: "first", OTHER: "other"}
    assert feed.after(number) == (number, {})
    feed.add(KEY, "second")
    feed.add(OTHER, "other")
    assert feed.after(number)[1] == {KEY: "second"}


def test_a_follower_wakes_for_news_and_when_it_is_wanted_no_more() -> None:
    feed = CosignatureFeed()
    feed.add(KEY, "first")
    feed.wait(0, lambda: True, 60.0)
    feed.wait(1, lambda: False, 60.0)
