"""What a lower platform makes of being refused, or of an upstream that it does not take; and settings of both sides."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from services.common.settings import SettingsError
from tests.certificates import files_in, new_authority, platform_tls
from tests.relay.conftest import CITY, COUNTY
from tests.relay.fakes import FakeUpstream
from tests.relay.platforms import FAST, Platform, assert_same_log, authority, eventually

Make = Callable[..., Platform]

OTHER_CITY = "140100"


def linked(platform: Make, **options: Any) -> tuple[Platform, Platform]:
    city = platform(CITY, streams=["weighing"])
    city.start()
    county = platform(COUNTY, streams=["weighing"], upstream=city.address, **options)
    return city, county


def test_a_county_that_is_not_registered_is_refused_until_it_is(platform: Make) -> None:
    city, county = linked(platform)
    city.registry.forget(COUNTY)
    eventually(lambda: city.app.access.knowledge.platform(COUNTY) is None, "the city's knowledge")
    county.start()
    county["weighing"].write_many(20)
    county.wait_for_state("REFUSED")
    assert "register it there" in county.status().last_error
    assert city["weighing"].size(COUNTY) == 0

    city.registry.register(COUNTY)
    county.wait_for_state("CURRENT")
    assert_same_log(city["weighing"], county["weighing"], COUNTY)


def test_a_county_that_is_struck_off_while_it_pushes_is_refused(platform: Make) -> None:
    city, county = linked(platform)
    county.start()
    county["weighing"].write_many(50)
    assert_same_log(city["weighing"], county["weighing"], COUNTY)

    city.registry.forget(COUNTY)
    county.wait_for_state("REFUSED")
    county["weighing"].write_many(50)
    held = city["weighing"].size(COUNTY)
    city.registry.register(COUNTY)
    assert held == 51
    assert_same_log(city["weighing"], county["weighing"], COUNTY)


@pytest.mark.parametrize("is_pushing", [True, False], ids=["by a push", "by a follow"])
def test_the_link_is_refused_as_a_whole_without_waiting_for_the_next_handshake(
    platform: Make, is_pushing: bool
) -> None:
    # Handshakes that renew the link come only after minutes.
    city, county = linked(platform, times=replace(FAST, renewal_seconds=600.0, linger_seconds=600.0 * is_pushing))
    county.start()
    county["weighing"].write_many(20)
    assert_same_log(city["weighing"], county["weighing"], COUNTY)
    county.wait_for_state("CURRENT")

    city.registry.forget(COUNTY)
    county.wait_for_state("REFUSED")
    assert [one.refusal_reason for one in county.status().progress] == [""]
    assert "register it there" in county.status().last_error

    city.registry.register(COUNTY)
    county.wait_for_state("CURRENT")


def test_an_upstream_that_does_not_know_yet_is_asked_again(platform: Make) -> None:
    city = platform(CITY, streams=["weighing"])
    city.registry.may_say.clear()
    city.start()
    county = platform(COUNTY, streams=["weighing"], upstream=city.address)
    county.start()
    eventually(lambda: "does not know who may do what" in county.status().last_error, "the error")
    assert county.state() == "CONNECTING"

    city.registry.may_say.set()
    county.wait_for_state("CURRENT")


@pytest.mark.parametrize("is_wrong_below", [True, False], ids=["of the county", "of the city"])
def test_a_wrong_authority_keeps_the_link_from_coming_up(platform: Make, is_wrong_below: bool) -> None:
    city, county = linked(platform)
    stranger = new_authority()
    if is_wrong_below:
        platform_tls(county.tls_directory, stranger, COUNTY, trusting=[authority()])
    else:
        platform_tls(county.tls_directory, authority(), COUNTY)
        files_in(county.tls_directory).ca.write_bytes(stranger.pair.certificate_pem())
    county.start()
    county["weighing"].write_many(20)
    eventually(lambda: f"the upstream {city.address} does not answer" in county.status().last_error, "the error")

    assert county.state() == "CONNECTING"
    assert city["weighing"].size(COUNTY) == 0
    # The right files are taken without a restart.
    platform_tls(county.tls_directory, authority(), COUNTY)
    assert_same_log(city["weighing"], county["weighing"], COUNTY)


def test_an_upstream_that_is_another_platform_is_refused(platform: Make, upstream: FakeUpstream) -> None:
    county = platform(COUNTY, streams=["weighing"], upstream=upstream.address)
    county.settings["ZHICHAO_RELAY_UPSTREAM_PLATFORM"] = OTHER_CITY
    county.start()
    county["weighing"].write_many(20)
    county.wait_for_state("REFUSED")

    assert f"is platform {CITY}, and not {OTHER_CITY}" in county.status().last_error
    assert upstream.pushed == []


@pytest.mark.parametrize("name", ["", "province", f"{CITY}\x1b[2J", "1" * 100_000])
def test_an_upstream_that_does_not_say_who_it_is_is_refused(platform: Make, upstream: FakeUpstream, name: str) -> None:
    upstream.answer.platform = name
    county = platform(COUNTY, streams=["weighing"], upstream=upstream.address)
    county.start()
    county.wait_for_state("REFUSED")

    status = county.status()
    assert "does not say which platform it is" in status.last_error
    assert "\x1b" not in status.last_error
    assert status.upstream_platform == ""


def test_the_upstream_that_is_meant_is_taken(platform: Make, upstream: FakeUpstream) -> None:
    county = platform(COUNTY, streams=["weighing"], upstream=upstream.address)
    county.settings["ZHICHAO_RELAY_UPSTREAM_PLATFORM"] = CITY
    county.start()
    county.wait_for_state("CURRENT")


# Settings


@pytest.mark.parametrize(
    ("missing", "variable"),
    [
        (["ZHICHAO_TLS_CERTIFICATE_FILE", "ZHICHAO_TLS_KEY_FILE", "ZHICHAO_TLS_CA_FILE"], "ZHICHAO_RELAY_PEER_LISTEN"),
        (["ZHICHAO_TLS_KEY_FILE"], "ZHICHAO_TLS_KEY_FILE"),
    ],
)
def test_peers_take_tls(platform: Make, missing: Sequence[str], variable: str) -> None:
    city = platform(CITY, streams=["weighing"])
    city.settings |= dict.fromkeys(missing, "")

    with pytest.raises(SettingsError, match=variable):
        city.start_relay()


def test_an_upstream_takes_tls(platform: Make) -> None:
    county = platform(COUNTY, streams=["weighing"], upstream="127.0.0.1:7707")
    county.settings |= dict.fromkeys(
        ["ZHICHAO_TLS_CERTIFICATE_FILE", "ZHICHAO_TLS_KEY_FILE", "ZHICHAO_TLS_CA_FILE"], ""
    )
    county.settings["ZHICHAO_RELAY_PEER_LISTEN"] = ""

    with pytest.raises(SettingsError, match=r"ZHICHAO_RELAY_UPSTREAM is 127\.0\.0\.1:7707, which takes mutual TLS"):
        county.start_relay()


def test_a_relay_with_the_certificate_of_another_platform_does_not_start(platform: Make) -> None:
    city = platform(CITY, streams=["weighing"], times=FAST)
    platform_tls(city.tls_directory, authority(), OTHER_CITY)

    with pytest.raises(SettingsError, match=f"must carry the URI name spiffe://zhichao/platform/{CITY}"):
        city.start_relay()
