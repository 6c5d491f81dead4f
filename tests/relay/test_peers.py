"""Who is let in from below, and with what: certificates, registration, subtree."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from cli.pki.authority import Authority
from services.common.access.divisions import Divisions
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.rpc_client import connect, service_error
from services.common.tls import Tls, TrustedAuthorities
from services.relay.peers import Peers
from tests.certificates import days_ago, files_in, new_authority, platform_tls
from tests.relay.conftest import CITY, COUNTY, PROVINCE
from tests.relay.fakes import FakeJournal
from tests.relay.platforms import WAIT_SECONDS, Platform, authority, eventually, refusal
from zhichao.journal.v1 import journal_pb2
from zhichao.relay.v1 import relay_pb2
from zhichao.relay.v1.relay_pb2_grpc import RelayServiceStub

Make = Callable[..., Platform]

OTHER_COUNTY = "141026"
OTHER_CITY = "140100"
CHINA = timezone(timedelta(hours=8))


def greeting(platform: str = COUNTY) -> relay_pb2.HandshakeRequest:
    return relay_pb2.HandshakeRequest(platform=platform, protocol_versions=[1])


def push(origin: str = COUNTY) -> Any:
    batch = journal_pb2.EntryBatch(origin=origin, first_sequence=1, entries=[b"entry"])
    return relay_pb2.PushEntriesRequest(stream="weighing", batch=batch)


def day(offset: int) -> str:
    """Return a day as the registry writes it, so many days from today in China."""
    return (datetime.now(CHINA) + timedelta(days=offset)).date().isoformat()


@contextmanager
def peer(city: Platform, tls: Any) -> Iterator[RelayServiceStub]:
    """Connect to the peer port of the city with certificates, or in plain text with None."""
    with connect(city.address, tls=tls) as channel:
        yield RelayServiceStub(channel)


@contextmanager
def peer_named(city: Platform, code: str) -> Iterator[RelayServiceStub]:
    """Connect to the peer port of the city with the certificate of a platform."""
    with city.open_as_peer(code) as channel:
        yield RelayServiceStub(channel)


# What a platform below may push: pure


@pytest.mark.parametrize(
    ("peer_code", "origin", "expected"),
    [
        (COUNTY, COUNTY, True),
        (COUNTY, OTHER_COUNTY, False),
        (COUNTY, CITY, False),
        (COUNTY, PROVINCE, False),
        (COUNTY, "", False),
        (COUNTY, "14102", False),
        (COUNTY, f"{COUNTY}\n", False),
        # A zone that is recorded below the county, and one that its code puts there and the record elsewhere.
        (COUNTY, "141091", True),
        (CITY, "141092", False),
        (OTHER_CITY, "141092", False),
    ],
)
def test_a_platform_pushes_what_lies_below_it(peer_code: str, origin: str, expected: bool) -> None:
    divisions = Divisions({"141091": COUNTY, "141092": OTHER_CITY})
    peers = Peers(CITY, lambda: divisions)

    assert peers.covers(peer_code, origin) is expected
    if expected:
        peers.check_origin(peer_code, origin)
    else:
        with pytest.raises(ServiceError) as raised:
            peers.check_origin(peer_code, origin)
        assert raised.value.reason is Reason.ORIGIN_NOT_ALLOWED


def test_what_lies_below_the_peer_must_lie_below_this_platform_too() -> None:
    # The record has moved the county; its platform still comes here.
    peers = Peers(CITY, lambda: Divisions({COUNTY: OTHER_CITY}))

    assert not peers.covers(COUNTY, COUNTY)


# The peer port


@pytest.mark.parametrize("origin", [OTHER_COUNTY, CITY, PROVINCE, "110000"])
def test_an_origin_outside_the_subtree_is_refused(city: Platform, origin: str) -> None:
    with peer_named(city, COUNTY) as county:
        status, error = refusal(lambda: list(county.PushEntries(iter([push(origin)]), timeout=WAIT_SECONDS)))

    assert (status, error.reason) == ("PERMISSION_DENIED", Reason.ORIGIN_NOT_ALLOWED)
    assert error.metadata["origin"] == origin


def test_a_city_pushes_what_came_from_its_counties(platform: Make, socket_directory: Path) -> None:
    province = platform(PROVINCE, streams=[], fakes=[FakeJournal(socket_directory, platform=PROVINCE)])
    province.start()

    with peer_named(province, CITY) as stub:
        answers = list(stub.PushEntries(iter([push(COUNTY)]), timeout=WAIT_SECONDS))
        status, error = refusal(lambda: list(stub.PushEntries(iter([push(OTHER_CITY)]), timeout=WAIT_SECONDS)))

    assert [answer.result.position.size for answer in answers] == [1]
    assert (status, error.reason) == ("PERMISSION_DENIED", Reason.ORIGIN_NOT_ALLOWED)


@pytest.mark.parametrize("platform_code", [OTHER_COUNTY, CITY, "", "county"])
def test_a_handshake_in_another_name_is_refused(city: Platform, platform_code: str) -> None:
    with peer_named(city, COUNTY) as county:
        status, error = refusal(lambda: county.Handshake(greeting(platform_code), timeout=WAIT_SECONDS))

    assert (status, error.reason) == ("PERMISSION_DENIED", Reason.OUTSIDE_SCOPE)
    assert list(city.status().downstream_links) == []


def test_a_zone_below_the_county_does_not_speak_for_it(city: Platform) -> None:
    # It lies within the county's subtree, so only the certificate tells them apart.
    city.registry.place("141091", COUNTY)
    city.registry.register("141091")
    eventually(lambda: city.app.access.knowledge.platform("141091"), "the zone at the relay")

    with peer_named(city, COUNTY) as county:
        status, error = refusal(lambda: county.Handshake(greeting("141091"), timeout=WAIT_SECONDS))

    assert (status, error.reason) == ("PERMISSION_DENIED", Reason.OUTSIDE_SCOPE)


@pytest.mark.parametrize(
    "registered",
    [
        pytest.param(None, id="not at all"),
        pytest.param({"upstream": PROVINCE}, id="below another platform"),
        pytest.param({"valid_from": day(2)}, id="from the day after tomorrow"),
        pytest.param({"valid_until": day(-1)}, id="until yesterday"),
    ],
)
def test_a_platform_that_is_not_registered_below_is_refused(city: Platform, registered: dict[str, str] | None) -> None:
    if registered is None:
        city.registry.forget(COUNTY)
    else:
        city.registry.register(COUNTY, **registered)
    with peer_named(city, COUNTY) as county:

        def found() -> Reason | None:
            try:
                county.Handshake(greeting(), timeout=WAIT_SECONDS)
            except grpc.RpcError as error:
                return service_error(error).reason
            return None

        eventually(lambda: found() is Reason.PLATFORM_NOT_REGISTERED, "the refusal")


def test_before_the_registry_has_spoken_nobody_is_let_in(platform: Make, journal: FakeJournal) -> None:
    city = platform(CITY, streams=[], fakes=[journal])
    city.registry.may_say.clear()
    city.start()

    with peer_named(city, COUNTY) as county:
        status, error = refusal(lambda: county.Handshake(greeting(), timeout=WAIT_SECONDS))
        assert (status, error.reason) == ("UNAVAILABLE", Reason.ACCESS_UNKNOWN)
        assert error.retry_after_seconds is not None

        city.registry.may_say.set()
        eventually(lambda: city.app.access.knowledge.is_known, "the word of the registry")
        assert county.Handshake(greeting(), timeout=WAIT_SECONDS).platform == CITY


def wrong_authority(directory: Path) -> Any:
    return platform_tls(directory, new_authority(), COUNTY, trusting=[authority()])


def ended(directory: Path) -> Any:
    return platform_tls(directory, authority(), COUNTY, validity=days_ago(30, 1))


def not_valid_yet(directory: Path) -> Any:
    return platform_tls(directory, authority(), COUNTY, validity=days_ago(-1, -30))


def no_certificate(directory: Path) -> Any:
    platform_tls(directory, authority(), COUNTY)
    return TrustedAuthorities(files_in(directory).ca)


def plain_text(_directory: Path) -> Any:
    return None


@pytest.mark.parametrize("certificates", [wrong_authority, ended, not_valid_yet, no_certificate, plain_text])
def test_who_is_not_known_is_cut_off_in_the_handshake_of_tls(
    city: Platform, tmp_path: Path, certificates: Callable[[Path], Any]
) -> None:
    with peer(city, certificates(tmp_path / "peer")) as stub:
        status, error = refusal(lambda: stub.Handshake(greeting(), timeout=WAIT_SECONDS))

    assert (status, error.reason) == ("UNAVAILABLE", Reason.SERVICE_UNAVAILABLE)


def test_a_certificate_of_another_trust_domain_is_refused_and_told_once(city: Platform, tmp_path: Path) -> None:
    elsewhere = Authority(authority().pair, "elsewhere.example")
    with capture_logs() as events, peer(city, platform_tls(tmp_path / "peer", elsewhere, COUNTY)) as stub:
        status, error = refusal(lambda: stub.Handshake(greeting(), timeout=WAIT_SECONDS))
        eventually(lambda: [one for one in events if one["event"] == "request_finished"], "the log line")

    assert (status, error.reason) == ("UNAUTHENTICATED", Reason.INVALID_CREDENTIALS)
    (finished,) = [one for one in events if one["event"] == "request_finished" and "Handshake" in one["method"]]
    assert (finished["status"], finished["reason"]) == ("UNAUTHENTICATED", "INVALID_CREDENTIALS")


@pytest.mark.parametrize(
    ("code", "call", "status", "reason"),
    [
        (
            OTHER_CITY,
            lambda stub: stub.Handshake(greeting(OTHER_CITY), timeout=WAIT_SECONDS),
            "PERMISSION_DENIED",
            "PLATFORM_NOT_REGISTERED",
        ),
        (
            COUNTY,
            lambda stub: stub.Handshake(greeting(CITY), timeout=WAIT_SECONDS),
            "PERMISSION_DENIED",
            "OUTSIDE_SCOPE",
        ),
        (
            COUNTY,
            lambda stub: list(stub.PushEntries(iter([push(OTHER_COUNTY)]), timeout=WAIT_SECONDS)),
            "PERMISSION_DENIED",
            "ORIGIN_NOT_ALLOWED",
        ),
    ],
    ids=["not registered", "in another's name", "outside the subtree"],
)
def test_a_refusal_is_one_line_that_says_who_and_why(
    city: Platform, code: str, call: Callable[[RelayServiceStub], Any], status: str, reason: str
) -> None:
    with peer_named(city, code) as stub, capture_logs() as events:
        refusal(lambda: call(stub))
        eventually(lambda: [one for one in events if one["event"] == "request_finished"], "the log line")

    lines = [one for one in events if one.get("method", "").startswith("zhichao.relay.v1.RelayService/")]
    (line,) = lines
    assert (line["event"], line["status"], line["reason"]) == ("request_finished", status, reason)
    assert line["certificate"] == f"platform/{code}"


def test_a_credential_of_the_platform_is_no_platform(city: Platform, tmp_path: Path) -> None:
    pair = authority().issue_credential(CITY, "viewer", days_ago(1, -30))
    files = files_in(tmp_path / "peer")
    platform_tls(tmp_path / "peer", authority(), COUNTY)
    files.certificate.write_bytes(pair.certificate_pem())
    files.key.write_bytes(pair.key_pem())
    with peer(city, Tls(files)) as stub:
        status, error = refusal(lambda: stub.Handshake(greeting(), timeout=WAIT_SECONDS))

    assert (status, error.reason) == ("PERMISSION_DENIED", Reason.PERMISSION_MISSING)


def test_each_port_serves_its_own(city: Platform) -> None:
    with peer_named(city, COUNTY) as county:
        status, _ = refusal(lambda: county.GetRelayStatus(relay_pb2.GetRelayStatusRequest(), timeout=WAIT_SECONDS))
        assert status == "PERMISSION_DENIED"
    # A person who may look at links, and has a certificate too, looks on the ordinary port.
    with connect(
        city.address, tls=platform_tls(city.tls_directory, authority(), CITY), credentials=city.registry.viewer()
    ) as channel:
        stub = RelayServiceStub(channel)
        status, _ = refusal(lambda: stub.GetRelayStatus(relay_pb2.GetRelayStatusRequest(), timeout=WAIT_SECONDS))
        assert status == "UNIMPLEMENTED"
    status, _ = refusal(lambda: city.stub.Handshake(greeting(), timeout=WAIT_SECONDS))
    assert status == "PERMISSION_DENIED"


def test_a_service_token_opens_no_port_for_peers(city: Platform) -> None:
    with connect(
        city.address,
        tls=platform_tls(city.tls_directory, authority(), CITY),
        credentials=city.registry.tokens.metadata("weighing"),
    ) as channel:
        status, error = refusal(lambda: RelayServiceStub(channel).Handshake(greeting(CITY), timeout=WAIT_SECONDS))

    assert (status, error.reason) == ("PERMISSION_DENIED", Reason.PERMISSION_MISSING)


# While a push is open


class OpenPush:
    """A push that stays open; the answers are taken by a thread."""

    def __init__(self, stub: RelayServiceStub) -> None:
        self._hold = threading.Event()
        self._ended: list[ServiceError | None] = []
        self._call: Any = stub.PushEntries(self._requests(), timeout=WAIT_SECONDS)
        assert next(self._call).result.position.size == 1

    def _requests(self) -> Iterator[Any]:
        yield push()
        self._hold.wait(WAIT_SECONDS)

    def end(self) -> ServiceError:
        """Wait until the other side ends it; return why."""
        with pytest.raises(grpc.RpcError) as raised:
            next(self._call)
        self._hold.set()
        return service_error(raised.value)


def forget(city: Platform) -> None:
    city.registry.forget(COUNTY)


def move(city: Platform) -> None:
    city.registry.register(COUNTY, upstream=PROVINCE)


def end_today(city: Platform) -> None:
    city.registry.register(COUNTY, valid_until=day(0))


@pytest.mark.parametrize("change", [forget, move, end_today])
def test_a_platform_that_is_registered_no_more_is_cut_off(city: Platform, change: Callable[[Platform], None]) -> None:
    with peer_named(city, COUNTY) as county:
        opened = OpenPush(county)
        change(city)
        assert opened.end().reason is Reason.PLATFORM_NOT_REGISTERED


def test_a_service_that_does_not_know_its_relay_is_no_fault_of_the_county(city: Platform, journal: FakeJournal) -> None:
    def refuse(_requests: Iterator[Any]) -> Iterator[Any]:
        raise ServiceError(Reason.INVALID_CREDENTIALS, "the service token is not the one of this platform")

    journal.append = refuse
    with peer_named(city, COUNTY) as county:
        status, error = refusal(lambda: list(county.PushEntries(iter([push()]), timeout=WAIT_SECONDS)))

    assert (status, error.reason) == ("UNAVAILABLE", Reason.SERVICE_UNAVAILABLE)
    assert error.metadata["stream"] == "weighing"
