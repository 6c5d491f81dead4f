"""Platforms change their places: nothing is missing, nothing comes twice, and what was held stays."""

from collections.abc import Callable

from tests.faults.proxy import FaultProxy
from tests.relay.conftest import CITY, COUNTY, PROVINCE
from tests.relay.platforms import JournalHost, Platform, eventually

Make = Callable[..., Platform]
MakeProxy = Callable[..., FaultProxy]

OTHER_CITY = "141100"
DISTRICT = "141002"


def payloads(host: JournalHost, origin: str) -> list[bytes]:
    return [payload for _, payload in host.notes(origin)]


def wait_for(host: JournalHost, origin: str, wanted: list[bytes]) -> None:
    eventually(lambda: len(payloads(host, origin)) >= len(wanted), f"{len(wanted)} entries of {origin}")
    assert payloads(host, origin) == wanted


def stands(host: JournalHost, origin: str) -> tuple[int, bytes, int]:
    held = host.position(origin)
    return (held.size, held.root, held.total_bytes) if held else (0, b"", 0)


def assert_same_entries(upper: JournalHost, lower: JournalHost, origin: str) -> None:
    """Wait until both hold the same log, receipts included, which the lower side goes on writing for a moment."""
    eventually(lambda: stands(upper, origin) == stands(lower, origin), f"the log of {origin} at {upper.platform}")
    assert upper.entries(origin) == lower.entries(origin)


def test_a_county_moves_to_another_upstream(platform: Make) -> None:
    province = platform(PROVINCE, streams=["registry"])
    province.start()
    old = platform(CITY, streams=["registry"], upstream=province.address)
    old.start()
    new = platform(OTHER_CITY, streams=["registry"], upstream=province.address)
    new.start()
    county = platform(COUNTY, streams=["registry"], upstream=old.address)
    county.start()
    county["registry"].write_many(1_200)
    province["registry"].write(b"before, by the province", audience=COUNTY)
    old["registry"].write(b"before, by the old city", audience=COUNTY)
    wait_for(county["registry"], PROVINCE, [b"before, by the province"])
    wait_for(county["registry"], CITY, [b"before, by the old city"])
    assert_same_entries(old["registry"], county["registry"], COUNTY)
    assert_same_entries(province["registry"], county["registry"], COUNTY)

    for one in (province, old, new):
        one.place(COUNTY, OTHER_CITY)
    province["registry"].write(b"while it moved", audience=COUNTY)
    county.stop_relay()
    held_by_the_old = stands(old["registry"], COUNTY)
    county.upstream = new.address
    county.start_relay()
    county["registry"].write_many(30)
    # All of it, from the first entry on; the province knows most already and recognises it.
    assert_same_entries(new["registry"], county["registry"], COUNTY)
    assert_same_entries(province["registry"], county["registry"], COUNTY)
    assert stands(old["registry"], COUNTY) == held_by_the_old
    # What comes down goes on where it stood, through the new city.
    wait_for(county["registry"], PROVINCE, [b"before, by the province", b"while it moved"])
    new["registry"].write(b"by the new city", audience=COUNTY)
    wait_for(county["registry"], OTHER_CITY, [b"by the new city"])
    assert payloads(county["registry"], CITY) == [b"before, by the old city"]
    for one in (county, new, old):
        one.wait_for_state("CURRENT")


def test_a_platform_is_put_in_between(platform: Make) -> None:
    city = platform(CITY, streams=["registry"])
    city.start()
    county = platform(COUNTY, streams=["registry"], upstream=city.address)
    county.start()
    county["registry"].write_many(1_200)
    city["registry"].write(b"before", audience=COUNTY)
    wait_for(county["registry"], CITY, [b"before"])
    assert_same_entries(city["registry"], county["registry"], COUNTY)

    county.stop_relay()
    district = platform(DISTRICT, streams=["registry"], upstream=city.address)
    for one in (city, district):
        one.place(COUNTY, DISTRICT)
    district.start()
    city["registry"].write(b"while it was put in between", audience=COUNTY)
    # The city holds everything of the county, the district nothing yet: that is no fault of anybody.
    eventually(lambda: len(district["registry"].notes(CITY)) == 2, "the city's orders at the district")
    district.wait_for_state("CURRENT")
    county.upstream = district.address
    county.start_relay()
    assert_same_entries(district["registry"], county["registry"], COUNTY)
    county.wait_for_state("CURRENT")
    wait_for(county["registry"], CITY, [b"before", b"while it was put in between"])
    county["registry"].write_many(40)
    assert_same_entries(city["registry"], county["registry"], COUNTY)
    district["registry"].write(b"by the district", audience=COUNTY)
    wait_for(county["registry"], DISTRICT, [b"by the district"])
    city["registry"].write(b"through the district", audience=COUNTY)
    wait_for(county["registry"], CITY, [b"before", b"while it was put in between", b"through the district"])
    for one in (county, district):
        one.wait_for_state("CURRENT")


def test_the_former_way_is_closed_once_the_registry_says_so(platform: Make) -> None:
    city = platform(CITY, streams=["registry"])
    city.start()
    county = platform(COUNTY, streams=["registry"], upstream=city.address)
    county.start()
    county["registry"].write_many(5)
    assert_same_entries(city["registry"], county["registry"], COUNTY)
    city.place(COUNTY, DISTRICT)
    # The county was not told yet: what it sends goes nowhere until it is, and nothing is lost.
    county.wait_for_state("REFUSED")
    assert "not registered" in county.status().last_error or "PLATFORM" in county.status().last_error
    county["registry"].write_many(5)
    city.registry.register(COUNTY)
    assert_same_entries(city["registry"], county["registry"], COUNTY)
    county.wait_for_state("CURRENT")


def test_an_upstream_that_was_set_back_and_speaks_on_is_found_out_from_below(platform: Make) -> None:
    city = platform(CITY, streams=["registry"])
    city.start()
    county = platform(COUNTY, streams=["registry"], upstream=city.address)
    county.start()
    city["registry"].write(b"kept", audience=COUNTY)
    wait_for(county["registry"], CITY, [b"kept"])
    city["registry"].stop()
    old = city["registry"].back_up()
    city["registry"].start()
    city["registry"].write(b"lost above", audience=COUNTY)
    wait_for(county["registry"], CITY, [b"kept", b"lost above"])
    size = county["registry"].write_many(20)
    assert_same_entries(city["registry"], county["registry"], COUNTY)

    city["registry"].stop()
    city["registry"].move_to(old)
    city["registry"].start()
    # What the county had sent comes to it once more; what it had said itself, nobody above can give back.
    eventually(lambda: city["registry"].size(COUNTY) >= size, "the county's log")
    county.wait_for_state("REFUSED")
    (progress,) = county.status().addressed_progress
    assert (progress.origin, progress.refusal_reason) == (CITY, "BEYOND_LOG")
    # It says something else at that place.
    city["registry"].write(b"another thing", audience=COUNTY)
    eventually(
        lambda: [one.refusal_reason for one in county.status().addressed_progress] == ["HISTORY_MISMATCH"],
        "the two histories",
    )
    assert payloads(county["registry"], CITY) == [b"kept", b"lost above"]
    county["registry"].write_many(5)
    eventually(lambda: city["registry"].size(COUNTY) >= size + 5, "what goes up meanwhile")
