"""What a platform above addresses to those below comes down: in order, each once, stream by stream, and visibly."""

import random
from collections.abc import Callable
from functools import partial

import pytest

from tests.faults.proxy import Fault, FaultProxy, Kind
from tests.relay.conftest import CITY, COUNTY, PROVINCE
from tests.relay.fakes import FakeUpstream
from tests.relay.levels import TroubledLevels
from tests.relay.platforms import JournalHost, Platform, eventually
from zhichao.journal.v1 import journal_pb2
from zhichao.relay.v1 import relay_pb2

Make = Callable[..., Platform]
MakeProxy = Callable[..., FaultProxy]

OTHER_COUNTY = "141026"


def received(host: JournalHost, origin: str) -> list[bytes]:
    """Return what was projected of a log, in order; a second projection of an entry would have failed."""
    return [payload for _, payload in host.notes(origin)]


def wait_for(host: JournalHost, origin: str, payloads: list[bytes]) -> None:
    eventually(lambda: len(received(host, origin)) >= len(payloads), f"{len(payloads)} entries of {origin}")
    assert received(host, origin) == payloads


def receipts(host: JournalHost, origin: str, sequence: int) -> list[str]:
    """Return which platforms are known here to have received an entry."""
    request = journal_pb2.ListAddressedReceiptsRequest(origin=origin, first_sequence=sequence, last_sequence=sequence)
    return [one.platform for one in host.stub.ListAddressedReceipts(request).receipts]


def has_receipts(host: JournalHost, sequence: int, platforms: list[str]) -> bool:
    return receipts(host, host.platform, sequence) == platforms


def follow_state(platform: Platform, stream: str) -> str:
    states = {one.stream: one.state for one in platform.status().follows}
    return relay_pb2.FollowState.Name(states[stream]).removeprefix("FOLLOW_STATE_") if stream in states else ""


def addressed(platform: Platform, stream: str, origin: str) -> relay_pb2.AddressedProgress | None:
    found = [one for one in platform.status().addressed_progress if (one.stream, one.origin) == (stream, origin)]
    return found[0] if found else None


def test_only_what_is_meant_for_the_county_comes_down_in_order(platform: Make) -> None:
    city = platform(CITY)
    city.start()
    county = platform(COUNTY, upstream=city.address)
    county.start()
    city["registry"].write(b"for all", audience=CITY)
    city["registry"].write(b"goes up only")
    city["registry"].write(b"for another county", audience=OTHER_COUNTY)
    city["registry"].write(b"for the county 1", b"for the county 2", audience=COUNTY)
    city["weighing"].write(b"of another service", audience=COUNTY)
    wait_for(county["registry"], CITY, [b"for all", b"for the county 1", b"for the county 2"])
    wait_for(county["weighing"], CITY, [b"of another service"])
    county.wait_for_state("CURRENT")


def test_what_was_written_before_the_county_came_is_sent_too(platform: Make) -> None:
    city = platform(CITY, streams=["registry"])
    city.start()
    payloads = [f"notice {number}".encode() for number in range(300)]
    for payload in payloads:
        city["registry"].write(payload, audience=COUNTY)
    county = platform(COUNTY, streams=["registry"], upstream=city.address)
    county.start()
    wait_for(county["registry"], CITY, payloads)


def test_entries_go_from_the_province_to_the_county_and_receipts_come_back(platform: Make) -> None:
    province = platform(PROVINCE, streams=["registry"])
    province.start()
    city = platform(CITY, streams=["registry"], upstream=province.address)
    city.start()
    county = platform(COUNTY, streams=["registry"], upstream=city.address)
    county.start()
    sequence = province["registry"].write(b"order", audience=COUNTY)
    everybody = province["registry"].write(b"for all", audience=PROVINCE)
    wait_for(county["registry"], PROVINCE, [b"order", b"for all"])
    for one in (sequence, everybody):
        eventually(partial(has_receipts, province["registry"], one, [CITY, COUNTY]), "the receipts")
    county.wait_for_state("CURRENT")
    city.wait_for_state("CURRENT")


def test_a_service_that_is_away_holds_up_its_own_stream_only(platform: Make) -> None:
    city = platform(CITY)
    city.start()
    county = platform(COUNTY, upstream=city.address)
    county.start()
    county.wait_for_state("CURRENT")
    county["weighing"].stop()
    city["weighing"].write(b"waits", audience=COUNTY)
    city["registry"].write(b"passes", audience=COUNTY)
    wait_for(county["registry"], CITY, [b"passes"])
    eventually(lambda: follow_state(county, "weighing") == "WAITING", "the loss of the service")
    assert follow_state(county, "registry") == "FOLLOWING"
    county["weighing"].start()
    wait_for(county["weighing"], CITY, [b"waits"])
    county.wait_for_state("CURRENT")


def test_an_upper_service_that_restarts_is_followed_again(platform: Make) -> None:
    city = platform(CITY, streams=["registry"])
    city.start()
    county = platform(COUNTY, streams=["registry"], upstream=city.address)
    county.start()
    city["registry"].write(b"before", audience=COUNTY)
    wait_for(county["registry"], CITY, [b"before"])
    city["registry"].restart()
    city["registry"].write(b"after", audience=COUNTY)
    wait_for(county["registry"], CITY, [b"before", b"after"])


def test_relays_that_restart_go_on_where_the_services_stand(platform: Make) -> None:
    city = platform(CITY, streams=["registry"])
    city.start()
    county = platform(COUNTY, streams=["registry"], upstream=city.address)
    county.start()
    wanted = []
    for number in range(6):
        payload = f"notice {number}".encode()
        wanted.append(payload)
        city["registry"].write(payload, audience=COUNTY)
        (city if number % 2 else county).restart_relay()
    wait_for(county["registry"], CITY, wanted)


def scripted(random_: random.Random) -> list[Fault]:
    kinds = (Kind.CUT_PUSHES, Kind.CUT_ANSWERS, Kind.SWALLOW, Kind.DELAY, Kind.REFUSE)
    faults = []
    for _ in range(random_.randint(3, 6)):
        kind = random_.choice(kinds)
        faults.append(Fault(kind, random_.randint(0, {Kind.DELAY: 20}.get(kind, 30_000))))
    return faults


@pytest.mark.parametrize("seed", range(6))
def test_everything_comes_down_once_whatever_happens_to_the_connections(
    platform: Make, proxy: MakeProxy, seed: int
) -> None:
    random_ = random.Random(seed)
    levels = TroubledLevels(platform, proxy, "registry", lambda: scripted(random_))
    province, city, county = levels.province, levels.city, levels.county
    wanted: dict[str, list[bytes]] = {PROVINCE: [], CITY: []}
    audiences = (COUNTY, OTHER_COUNTY, CITY, PROVINCE)
    for number in range(30):
        origin = random_.choice((PROVINCE, CITY))
        audience = random_.choice(audiences if origin == PROVINCE else audiences[:3])
        payload = f"{number} for {audience}".encode().ljust(random_.choice((30, 3_000)), b".")
        (province if origin == PROVINCE else city)["registry"].write(payload, audience=audience)
        if audience != OTHER_COUNTY:
            wanted[origin].append(payload)
        if number % 5 == 4:
            random_.choice(levels.happenings)()
    for origin, payloads in wanted.items():
        wait_for(county["registry"], origin, payloads)
    county.wait_for_state("CURRENT")
    city.wait_for_state("CURRENT")


# What people see


def test_both_sides_show_how_far_it_has_come(platform: Make) -> None:
    city = platform(CITY, streams=["registry"])
    city.start()
    county = platform(COUNTY, streams=["registry"], upstream=city.address)
    county.start()
    first = city["registry"].write(b"one", audience=COUNTY)
    wait_for(county["registry"], CITY, [b"one"])
    county.restart_relay()
    last = city["registry"].write(b"two", audience=COUNTY)
    wait_for(county["registry"], CITY, [b"one", b"two"])
    progress = eventually(
        lambda: (one := addressed(county, "registry", CITY)) and one.through_sequence == last and one, "the progress"
    )
    assert (progress.upstream_sequence, progress.refusal_reason) == (last, "")
    assert progress.HasField("last_batch_time")
    assert follow_state(county, "registry") == "FOLLOWING"
    assert county.status().protocol_version == 2

    (below,) = city.status().downstream_links
    assert (below.platform, below.protocol_version, list(below.followed_streams)) == (COUNTY, 2, ["registry"])
    (sent,) = below.addressed_sent
    assert (sent.stream, sent.origin, sent.asked_sequence, sent.sent_sequence) == ("registry", CITY, first, last)
    assert sent.HasField("last_batch_time")
    county.stop_relay()
    eventually(lambda: not city.status().downstream_links[0].followed_streams, "the end of the follow")


def test_an_upstream_of_the_first_protocol_is_pushed_to_and_not_followed(
    platform: Make, upstream: FakeUpstream
) -> None:
    county = platform(COUNTY, upstream=upstream.address)
    county.start()
    county.wait_for_state("CURRENT")
    assert county.status().protocol_version == 1
    assert {one.stream: one.state for one in county.status().follows} == {
        "registry": relay_pb2.FOLLOW_STATE_NOT_FOLLOWED,
        "weighing": relay_pb2.FOLLOW_STATE_NOT_FOLLOWED,
    }
    assert list(upstream.handshakes[0].protocol_versions) == [1, 2]


def test_a_stream_that_the_upstream_has_not_is_not_followed(platform: Make) -> None:
    city = platform(CITY, streams=["weighing"])
    city.start()
    county = platform(COUNTY, upstream=city.address)
    county.start()
    eventually(lambda: follow_state(county, "weighing") == "FOLLOWING", "the follow")
    assert follow_state(county, "registry") == "NOT_FOLLOWED"


# What is refused


def test_a_history_that_was_rewritten_above_stops_that_log_loudly_and_no_other(platform: Make) -> None:
    province = platform(PROVINCE, streams=["registry"])
    province.start()
    city = platform(CITY, upstream=province.address)
    city.start()
    county = platform(COUNTY, upstream=city.address)
    county.start()
    city["registry"].stop()
    copy = city["registry"].back_up()
    city["registry"].start()
    city["registry"].write(b"that was said", audience=COUNTY)
    wait_for(county["registry"], CITY, [b"that was said"])
    city.stop_relay()
    # The city loses what it said, and says something else at the same place; nobody above can tell.
    city["registry"].stop()
    city["registry"].move_to(copy)
    city["registry"].start()
    city["registry"].write(b"that was never said", audience=COUNTY)
    city["weighing"].write(b"another stream", audience=COUNTY)
    province["registry"].write(b"another origin", audience=COUNTY)
    city.start_relay()
    progress = eventually(
        lambda: (one := addressed(county, "registry", CITY)) and one.refusal_reason and one, "the refusal"
    )
    assert progress.refusal_reason == "HISTORY_MISMATCH"
    county.wait_for_state("REFUSED")
    wait_for(county["weighing"], CITY, [b"another stream"])
    wait_for(county["registry"], PROVINCE, [b"another origin"])
    assert received(county["registry"], CITY) == [b"that was said"]
