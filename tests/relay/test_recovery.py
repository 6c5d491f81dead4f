"""Services restored from backups that are older than what they had pushed: what is missing comes back from above,
nothing is written in its place, and where something was, both sides are left as they are.
"""

from collections.abc import Callable

import pytest

from services.common.errors import ServiceError
from services.common.reasons import Reason
from tests.faults.proxy import Fault, FaultProxy, Kind
from tests.relay.conftest import CITY, COUNTY, PROVINCE
from tests.relay.fakes import FakeUpstream
from tests.relay.platforms import JournalHost, Platform, assert_same_log, eventually
from zhichao.journal.v1 import journal_pb2

Make = Callable[..., Platform]
MakeProxy = Callable[..., FaultProxy]


def back_up(host: JournalHost) -> str:
    """Make a backup of a service and let it go on."""
    host.stop()
    copy = host.back_up()
    host.start()
    return copy


def restore(host: JournalHost, database_url: str, *, is_recovering: bool) -> None:
    """Stop a service and start it on another database, told or not told that it was restored."""
    host.stop()
    host.move_to(database_url)
    host.is_recovering = is_recovering
    host.start()
    host.is_recovering = False


def has_recovered(host: JournalHost) -> bool:
    position = host.position(host.platform)
    return position is not None and not position.is_recovering


def write_refusal(host: JournalHost) -> Reason:
    with pytest.raises(ServiceError) as refused:
        host.write(b"too early")
    return refused.value.reason


def refusal(platform: Platform, stream: str) -> tuple[str, str]:
    progress = platform.progress(stream, platform.code)
    return (progress.refusal_reason, progress.refusal_message) if progress else ("", "")


@pytest.mark.parametrize("is_recovering", [True, False])
def test_what_came_after_the_backup_comes_back(platform: Make, is_recovering: bool) -> None:
    city = platform(CITY)
    city.start()
    county = platform(COUNTY, upstream=city.address)
    county.start()
    county["weighing"].write_many(300)
    old = back_up(county["weighing"])
    size = county["weighing"].write_many(2_100)
    assert_same_log(city["weighing"], county["weighing"], COUNTY)
    restore(county["weighing"], old, is_recovering=is_recovering)
    eventually(lambda: county["weighing"].size(COUNTY) == size, "the entries")
    eventually(lambda: has_recovered(county["weighing"]), "the end of the recovery")
    # Its own notes were written without rows here; what came back has rows like everything that is received.
    assert [sequence for sequence, _ in county["weighing"].notes(COUNTY)] == list(range(302, size + 1))
    county["weighing"].write_many(5)
    assert_same_log(city["weighing"], county["weighing"], COUNTY)
    county.wait_for_state("CURRENT")


def test_a_lost_database_comes_back_from_the_first_entry(platform: Make) -> None:
    city = platform(CITY, streams=["weighing"])
    city.start()
    county = platform(COUNTY, streams=["weighing"], upstream=city.address)
    county.start()
    size = county["weighing"].write_many(1_500)
    assert_same_log(city["weighing"], county["weighing"], COUNTY)
    restore(county["weighing"], county["weighing"].make_new(), is_recovering=True)
    eventually(lambda: county["weighing"].size(COUNTY) == size, "the entries")
    eventually(lambda: has_recovered(county["weighing"]), "the end of the recovery")
    county["weighing"].write_many(5)
    assert_same_log(city["weighing"], county["weighing"], COUNTY)


def test_nothing_is_written_until_the_upstream_can_be_asked(platform: Make, proxy: MakeProxy) -> None:
    city = platform(CITY, streams=["weighing"])
    city.start()
    link = proxy(city.address)
    county = platform(COUNTY, streams=["weighing"], upstream=link.address)
    county.start()
    county["weighing"].write_many(50)
    old = back_up(county["weighing"])
    size = county["weighing"].write_many(50)
    assert_same_log(city["weighing"], county["weighing"], COUNTY)
    link.refuse()
    restore(county["weighing"], old, is_recovering=True)
    assert write_refusal(county["weighing"]) is Reason.RECOVERING
    eventually(lambda: (one := county.progress("weighing", COUNTY)) and one.is_recovering, "the status")
    # A service that starts again does not forget it.
    county["weighing"].restart()
    assert write_refusal(county["weighing"]) is Reason.RECOVERING
    link.refuse(is_refusing=False)
    eventually(lambda: has_recovered(county["weighing"]), "the end of the recovery")
    assert county["weighing"].write(b"behind the last one") == size + 1
    assert_same_log(city["weighing"], county["weighing"], COUNTY)


@pytest.mark.parametrize("is_taken", [True, False])
def test_a_restored_service_that_lacks_nothing_goes_on(platform: Make, is_taken: bool) -> None:
    city = platform(CITY, streams=["weighing", "registry"] if is_taken else ["registry"])
    city.start()
    county = platform(COUNTY, upstream=city.address)
    county.start()
    county["weighing"].write_many(50)
    restore(county["weighing"], back_up(county["weighing"]), is_recovering=True)
    eventually(lambda: has_recovered(county["weighing"]), "the end of the recovery")
    assert county["weighing"].write(b"goes on") == 52


def test_a_platform_without_upstream_waits_for_a_person(platform: Make) -> None:
    alone = platform(COUNTY, streams=["weighing"])
    alone.start()
    alone["weighing"].write_many(9)
    restore(alone["weighing"], back_up(alone["weighing"]), is_recovering=True)
    eventually(lambda: (one := alone.progress("weighing", COUNTY)) and one.is_recovering, "the status")
    assert write_refusal(alone["weighing"]) is Reason.RECOVERING
    held = alone["weighing"].position(COUNTY)
    assert held is not None
    request = journal_pb2.ConfirmOwnLogRequest(size=held.size, root=held.root)
    assert not alone["weighing"].stub.ConfirmOwnLog(request).position.is_recovering
    assert alone["weighing"].write(b"goes on") == 11


def test_what_was_written_after_an_unnoticed_restore_stops_everything_loudly(platform: Make, proxy: MakeProxy) -> None:
    city = platform(CITY)
    city.start()
    link = proxy(city.address)
    county = platform(COUNTY, upstream=link.address)
    county.start()
    county["weighing"].write_many(10)
    old = back_up(county["weighing"])
    county["weighing"].write_many(10)
    assert_same_log(city["weighing"], county["weighing"], COUNTY)
    held = city["weighing"].position(COUNTY)
    link.refuse()
    restore(county["weighing"], old, is_recovering=False)
    county["weighing"].write(b"another history")
    before = county["weighing"].entries(COUNTY)
    link.refuse(is_refusing=False)
    county.wait_for_state("REFUSED")
    reason, message = refusal(county, "weighing")
    assert reason == "HISTORY_MISMATCH"
    assert "ZHICHAO_RECOVERING=true" in message
    county["registry"].write(b"goes on")
    assert_same_log(city["registry"], county["registry"], COUNTY)
    assert (county["weighing"].entries(COUNTY), city["weighing"].position(COUNTY)) == (before, held)
    # The remedy: the backup once more, and told so.
    again = county["weighing"].make_new()
    restore(county["weighing"], again, is_recovering=True)
    eventually(lambda: has_recovered(county["weighing"]), "the end of the recovery")
    assert_same_log(city["weighing"], county["weighing"], COUNTY)
    county.wait_for_state("CURRENT")


def test_an_upstream_of_the_first_protocol_cannot_send_back_and_the_person_is_told(
    platform: Make, upstream: FakeUpstream
) -> None:
    county = platform(COUNTY, streams=["weighing"], upstream=upstream.address)
    county.start()
    county["weighing"].write_many(10)
    upstream.answer.positions.add(origin=COUNTY, stream="weighing", size=100, root=bytes(32))
    eventually(lambda: refusal(county, "weighing")[0] == "BEYOND_LOG", "the refusal")
    assert "upgrade the upstream or restore a newer backup" in refusal(county, "weighing")[1]
    county.wait_for_state("REFUSED")


@pytest.mark.parametrize("seed", range(3))
def test_a_link_that_breaks_while_entries_come_back_delays_and_changes_nothing(
    platform: Make, proxy: MakeProxy, seed: int
) -> None:
    city = platform(CITY, streams=["weighing"])
    city.start()
    link = proxy(city.address)
    county = platform(COUNTY, streams=["weighing"], upstream=link.address)
    county.start()
    size = county["weighing"].write_many(6_000)
    assert_same_log(city["weighing"], county["weighing"], COUNTY)
    link.plan([Fault(Kind.CUT_ANSWERS, 60_000 * (seed + 1) + 40_000 * number) for number in range(5)])
    link.cut()
    restore(county["weighing"], county["weighing"].make_new(), is_recovering=True)
    county.restart_relay()
    eventually(lambda: county["weighing"].size(COUNTY) == size, "the entries")
    eventually(lambda: has_recovered(county["weighing"]), "the end of the recovery")
    assert_same_log(city["weighing"], county["weighing"], COUNTY)


def test_a_city_between_comes_back_whole(platform: Make) -> None:
    province = platform(PROVINCE, streams=["registry"])
    province.start()
    city = platform(CITY, streams=["registry"], upstream=province.address)
    city.start()
    county = platform(COUNTY, streams=["registry"], upstream=city.address)
    county.start()
    city["registry"].write(b"before", audience=COUNTY)
    old = back_up(city["registry"])
    city["registry"].write(b"order of the city", audience=COUNTY)
    province["registry"].write(b"order of the province", audience=COUNTY)
    county["registry"].write_many(40)
    eventually(lambda: len(county["registry"].notes(CITY)) == 2, "the city's orders")
    eventually(lambda: len(county["registry"].notes(PROVINCE)) == 1, "the province's order")
    eventually(
        lambda: province["registry"].size(COUNTY) == county["registry"].size(COUNTY), "the county's log at the province"
    )
    restore(city["registry"], old, is_recovering=True)
    eventually(lambda: has_recovered(city["registry"]), "the end of the recovery")
    # The county's log comes from the county once more, the province's orders from the province.
    eventually(lambda: city["registry"].size(COUNTY) == county["registry"].size(COUNTY), "the county's log")
    eventually(lambda: len(city["registry"].notes(PROVINCE)) == 1, "the province's order at the city")
    after = city["registry"].write(b"order after it", audience=COUNTY)
    eventually(lambda: len(county["registry"].notes(CITY)) == 3, "the order after it")
    eventually(lambda: province["registry"].size(CITY) >= after, "the city's log at the province")
    county.wait_for_state("CURRENT")
    city.wait_for_state("CURRENT")
