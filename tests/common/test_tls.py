"""Real servers and clients over TLS: who is let in, who is not, and renewals while calls are under way."""

import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from cli.pki.authority import Authority, Validity
from services.common import tls as tls_module
from services.common.access.knowledge import KnownPlatform
from services.common.access.permissions import PrincipalKind, permissions_of
from services.common.access.principal import Principal
from services.common.clock import Clock, SystemClock
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.request import request_context
from services.common.rpc_client import connect, service_error
from services.common.rpc_server import ListenError, RpcServer
from services.common.settings import PlatformSettings, ServiceSettings, SettingsError, load
from services.common.tls import Tls, TrustedAuthorities
from services.common.tls_files import TlsFiles
from tests.access import Access, open_method
from tests.certificates import (
    MONTH,
    days_ago,
    files_in,
    new_authority,
    platform_files,
    platform_tls,
    tls_environment,
    write,
)
from tests.common.served import SERVICE, WAIT_SECONDS, Requests

CITY = "141000"
COUNTY = "141025"
ONCE = f"/{SERVICE}/Once"
EXCHANGE = f"/{SERVICE}/Exchange"


def once_of(channel: grpc.Channel) -> Any:
    """Return the method `Once` of a channel."""
    return channel.unary_unary(ONCE)


def exchange_of(channel: grpc.Channel) -> Any:
    """Return the method `Exchange` of a channel."""
    return channel.stream_stream(EXCHANGE)


class Served:
    """A server of the city that speaks TLS. `Once` answers who calls, `Exchange` answers each message with itself."""

    def __init__(self, tls: Tls, clock: Clock | None = None, **options: Any) -> None:
        self.access = Access(CITY, clock=clock)
        self.access.say(platforms=[KnownPlatform(COUNTY, CITY)])
        handlers: dict[str, Any] = {
            "Once": grpc.unary_unary_rpc_method_handler(
                lambda _request, _context: request_context().principal.name.encode()
            ),
            "Exchange": grpc.stream_stream_rpc_method_handler(lambda requests, _context: requests),
        }
        generic = grpc.method_handlers_generic_handler(SERVICE, handlers)
        self.server = RpcServer(
            "test", "127.0.0.1:0", self.access.control, tls=tls, threads=4, streams_max=4, **options
        )
        self.server.add(
            lambda server: server.add_generic_rpc_handlers((generic,)),
            SERVICE,
            {path: open_method(path) for path in (ONCE, EXCHANGE)},
        )
        self.server.start()
        self.port = int(self.server.address.rpartition(":")[2])

    def call(self, tls: Any, token: str | None = None) -> str:
        """Call as a client with these certificates and return whom the server sees; raises grpc.RpcError."""
        with self.open(tls, token) as channel:
            return bytes(once_of(channel)(b"", timeout=WAIT_SECONDS)).decode()

    def open(self, tls: Any, token: str | None = None) -> grpc.Channel:
        """Open a channel with a token; by default the tester's."""
        return connect(self.server.address, tls=tls, credentials=self.access.credentials(token))

    def open_without_token(self, tls: Any) -> grpc.Channel:
        return connect(self.server.address, tls=tls)

    def serial(self) -> int:
        """Shake hands and return the serial number of the certificate that the server shows."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with closing(self.shake_hands(context)) as connection:
            shown = connection.getpeercert(binary_form=True)
        assert shown is not None
        return x509.load_der_x509_certificate(shown).serial_number

    def shake_hands(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        """Shake hands as something else than gRPC; raises OSError."""
        context.set_alpn_protocols(["h2"])
        raw = socket.create_connection(("127.0.0.1", self.port), WAIT_SECONDS)
        try:
            return context.wrap_socket(raw, server_hostname="127.0.0.1")
        except BaseException:
            raw.close()
            raise


Serve = Callable[..., Served]


@pytest.fixture(autouse=True)
def _look_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files be looked at at every handshake and call: a second is for production."""
    monkeypatch.setattr(tls_module, "FILE_CHECK_SECONDS", 0.0)


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Make the authority of all platforms."""
    return new_authority()


@pytest.fixture(scope="module")
def stranger() -> Authority:
    """Make an authority of the same trust domain that nobody trusts."""
    return new_authority()


@pytest.fixture
def city(tmp_path: Path, authority: Authority) -> TlsFiles:
    """Write the files of the city."""
    return platform_files(tmp_path / CITY, authority, CITY)


@pytest.fixture
def county(tmp_path: Path, authority: Authority) -> Tls:
    """Make the TLS of a county."""
    return platform_tls(tmp_path / COUNTY, authority, COUNTY)


@pytest.fixture
def serve(city: TlsFiles) -> Iterator[Serve]:
    """Start servers of the city, stopped after the test."""
    with ExitStack() as stack:

        def start(**options: Any) -> Served:
            served = Served(Tls(city), **options)
            stack.callback(served.server.stop, 0)
            return served

        yield start


def refusal(call: Callable[[], object]) -> ServiceError:
    """Make a call that must fail and return how the client reads it."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return service_error(raised.value)


# Tokens over TLS


def test_a_token_is_taken_over_tls(serve: Serve, city: TlsFiles) -> None:
    served = serve()

    assert served.call(TrustedAuthorities(city.ca)) == "person/tester"


def test_the_bare_certificate_of_a_platform_is_no_token(serve: Serve, county: Tls) -> None:
    # The port asks nobody for a certificate, so none is looked at.
    served = serve()

    with served.open_without_token(county) as channel:
        error = refusal(lambda: once_of(channel)(b"", timeout=WAIT_SECONDS))
    assert error.reason is Reason.NO_CREDENTIALS


def test_plain_text_is_not_understood(serve: Serve) -> None:
    assert refusal(lambda: serve().call(None)).reason is Reason.SERVICE_UNAVAILABLE


def test_a_server_of_another_authority_is_not_called(serve: Serve, stranger: Authority, tmp_path: Path) -> None:
    files = platform_files(tmp_path / "stranger", stranger, COUNTY)

    error = refusal(lambda: serve().call(TrustedAuthorities(files.ca)))
    assert error.reason is Reason.SERVICE_UNAVAILABLE


def test_a_server_with_another_name_is_not_called(authority: Authority, tmp_path: Path) -> None:
    # The credential of an integrator is of the right authority and carries no host at all.
    pair = authority.issue_credential(CITY, "scale-works-1", MONTH)
    files = write(tmp_path / "nameless", pair, [authority])
    served = Served(Tls(files))
    try:
        assert refusal(lambda: served.call(TrustedAuthorities(files.ca))).reason is Reason.SERVICE_UNAVAILABLE
    finally:
        served.server.stop(0)


# Versions of TLS


def of_version(context: ssl.SSLContext, version: ssl.TLSVersion) -> ssl.SSLContext:
    """Let a context speak one version only; TLS 1.1 too, which OpenSSL has to be talked into."""
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    return context


def client_of(version: ssl.TLSVersion) -> ssl.SSLContext:
    """Make a client of one version that trusts everybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return of_version(context, version)


def greet(context: ssl.SSLContext, server: ssl.SSLContext) -> str:
    """Shake hands with a server of OpenSSL, without a network; return the version."""
    inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(inward, outward)
    answering = server.wrap_bio(outward, inward, server_side=True)
    for side in (client, answering, client, answering, client):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return client.version() or ""


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_later_is_spoken(serve: Serve, version: ssl.TLSVersion) -> None:
    with closing(serve().shake_hands(client_of(version))) as connection:
        assert connection.version() == version.name.replace("_", ".")


def test_tls_1_1_is_refused(serve: Serve, city: TlsFiles) -> None:
    version = ssl.TLSVersion.TLSv1_1
    served = serve()
    # This client does speak it, to a server that lets it.
    lenient = of_version(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), version)
    lenient.load_cert_chain(city.certificate, city.key)
    assert greet(client_of(version), lenient) == "TLSv1.1"

    with pytest.raises(ssl.SSLError, match="EOF"):
        served.shake_hands(client_of(version))


# Certificates of clients


def test_a_platform_is_known_by_its_certificate(serve: Serve, county: Tls) -> None:
    served = serve(require_client_certificate=True)

    with served.open_without_token(county) as channel:
        assert once_of(channel)(b"", timeout=WAIT_SECONDS) == f"platform/{COUNTY}".encode()


def test_a_token_beside_a_certificate_says_who_calls(serve: Serve, county: Tls) -> None:
    assert serve(require_client_certificate=True).call(county) == "person/tester"


def test_a_client_without_a_certificate_is_cut_off(serve: Serve, city: TlsFiles) -> None:
    served = serve(require_client_certificate=True)

    assert refusal(lambda: served.call(TrustedAuthorities(city.ca))).reason is Reason.SERVICE_UNAVAILABLE


@pytest.mark.parametrize("validity", [days_ago(30, 1), days_ago(-1, -30)], ids=["ended", "not valid yet"])
def test_a_certificate_out_of_its_days_is_cut_off(
    serve: Serve, authority: Authority, tmp_path: Path, validity: Validity
) -> None:
    served = serve(require_client_certificate=True)
    county = platform_tls(tmp_path / "county", authority, COUNTY, validity=validity)

    assert refusal(lambda: served.call(county)).reason is Reason.SERVICE_UNAVAILABLE


def test_a_certificate_of_another_authority_is_cut_off(
    serve: Serve, authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    served = serve(require_client_certificate=True)
    county = platform_tls(tmp_path / "county", stranger, COUNTY, trusting=[authority])

    assert refusal(lambda: served.call(county)).reason is Reason.SERVICE_UNAVAILABLE


@pytest.mark.parametrize(
    ("trust_domain", "platform", "reason"),
    [
        ("other", COUNTY, Reason.INVALID_CREDENTIALS),
        ("zhichao", "141026", Reason.PLATFORM_NOT_REGISTERED),
        ("zhichao", CITY, Reason.PLATFORM_NOT_REGISTERED),
    ],
    ids=["another trust domain", "a platform that is not registered", "the platform itself"],
)
def test_a_name_that_is_nobodys_is_refused(
    serve: Serve, authority: Authority, tmp_path: Path, trust_domain: str, platform: str, reason: Reason
) -> None:
    # One authority may sign for several domains; the name decides.
    signing = Authority(authority.pair, trust_domain)
    served = serve(require_client_certificate=True)

    with served.open_without_token(platform_tls(tmp_path / "peer", signing, platform)) as channel:
        error = refusal(lambda: once_of(channel)(b"", timeout=WAIT_SECONDS))
    assert error.reason is reason


class LateClock(SystemClock):
    """The clock of this machine, some days ahead once the test says so."""

    days_ahead = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(days=self.days_ahead)


def test_a_connection_does_not_outlive_its_certificate(serve: Serve, county: Tls) -> None:
    clock = LateClock()
    served = serve(require_client_certificate=True, clock=clock)
    requests = Requests(b"1")
    with served.open_without_token(county) as channel:
        answers = exchange_of(channel)(requests, timeout=WAIT_SECONDS)
        assert next(answers) == b"1"

        # The handshake was long ago.
        clock.days_ahead = 31
        unary = refusal(lambda: once_of(channel)(b"", timeout=WAIT_SECONDS))
        served.access.knowledge.remind()
        stream = refusal(lambda: list(answers))
    requests.end()
    assert (unary.reason, stream.reason) == (Reason.CREDENTIAL_EXPIRED, Reason.CREDENTIAL_EXPIRED)


def test_a_platform_is_cut_off_when_it_is_registered_no_more(serve: Serve, county: Tls) -> None:
    served = serve(require_client_certificate=True)
    requests = Requests(b"1")
    with served.open_without_token(county) as channel:
        answers = exchange_of(channel)(requests, timeout=WAIT_SECONDS)
        assert next(answers) == b"1"

        served.access.say(platforms=[KnownPlatform(COUNTY, "140100")])
        error = refusal(lambda: list(answers))
    requests.end()
    assert error.reason is Reason.PLATFORM_NOT_REGISTERED


def integrator(access: Access, name: str = "scale-works-1") -> None:
    """Issue a credential that is used by a certificate."""
    access.issue(
        Principal(PrincipalKind.INTEGRATOR, name, permissions_of(PrincipalKind.INTEGRATOR), frozenset({"a", "b"}))
    )


def credential_tls(directory: Path, authority: Authority, platform: str, name: str = "scale-works-1") -> Tls:
    """Issue the certificate of a credential and return its TLS."""
    return Tls(write(directory, authority.issue_credential(platform, name, MONTH), [authority]))


def test_an_integrator_is_known_by_the_certificate_of_its_credential(
    serve: Serve, authority: Authority, tmp_path: Path
) -> None:
    served = serve(require_client_certificate=True)
    integrator(served.access)

    with served.open_without_token(credential_tls(tmp_path / "peer", authority, CITY)) as channel:
        assert once_of(channel)(b"", timeout=WAIT_SECONDS) == b"integrator/scale-works-1"
    assert served.access.used == ["scale-works-1"]


@pytest.mark.parametrize(
    ("platform", "name", "is_revoked", "reason"),
    [
        (CITY, "somebody-else", False, Reason.INVALID_CREDENTIALS),
        (COUNTY, "scale-works-1", False, Reason.INVALID_CREDENTIALS),
        (CITY, "scale-works-1", True, Reason.CREDENTIAL_REVOKED),
    ],
    ids=["a credential that was not issued", "a credential of another platform", "a credential that was revoked"],
)
def test_the_certificate_of_no_valid_credential_is_refused(
    serve: Serve, authority: Authority, tmp_path: Path, platform: str, name: str, is_revoked: bool, reason: Reason
) -> None:
    served = serve(require_client_certificate=True)
    principal = Principal(PrincipalKind.INTEGRATOR, "scale-works-1", permissions_of(PrincipalKind.INTEGRATOR))
    served.access.issue(principal, is_revoked=is_revoked)

    with served.open_without_token(credential_tls(tmp_path / "peer", authority, platform, name)) as channel:
        error = refusal(lambda: once_of(channel)(b"", timeout=WAIT_SECONDS))
    assert error.reason is reason


def test_a_refused_certificate_is_counted_and_delayed_like_a_token(
    serve: Serve, authority: Authority, county: Tls, tmp_path: Path
) -> None:
    served = serve(require_client_certificate=True)

    with served.open_without_token(credential_tls(tmp_path / "peer", authority, COUNTY)) as channel:
        reasons = [refusal(lambda: once_of(channel)(b"", timeout=WAIT_SECONDS)).reason for _ in range(12)]
        assert reasons[0] is Reason.INVALID_CREDENTIALS
        assert reasons[-1] is Reason.AUTHENTICATION_DELAYED
    # Others behind the same address are not delayed for it.
    with served.open_without_token(county) as channel:
        assert once_of(channel)(b"", timeout=WAIT_SECONDS) == f"platform/{COUNTY}".encode()


# Renewals


def test_a_renewed_server_certificate_is_shown_at_the_next_handshake(
    serve: Serve, city: TlsFiles, authority: Authority, tmp_path: Path
) -> None:
    served = serve()
    before = served.serial()
    requests = Requests(b"1")
    with served.open(TrustedAuthorities(city.ca)) as channel:
        answers = exchange_of(channel)(requests, timeout=WAIT_SECONDS)
        assert next(answers) == b"1"

        platform_files(tmp_path / CITY, authority, CITY)

        assert served.serial() != before
        # Whoever is connected notices nothing.
        requests.send(b"2")
        assert next(answers) == b"2"
        requests.end()
        assert list(answers) == []


def test_a_renewal_that_cannot_be_used_leaves_the_server_as_it_is(serve: Serve, city: TlsFiles, events: Any) -> None:
    served = serve()
    before = served.serial()

    city.key.write_text("nonsense")

    for _ in range(3):
        assert served.serial() == before
    assert served.call(TrustedAuthorities(city.ca)) == "person/tester"
    assert len(events.named("certificate_not_taken")) == 1


def test_a_renewed_client_certificate_is_shown_by_the_next_call(
    serve: Serve, authority: Authority, tmp_path: Path
) -> None:
    served = serve(require_client_certificate=True)
    served.access.say(platforms=[KnownPlatform("141026", CITY)])
    county = platform_tls(tmp_path / "peer", authority, COUNTY)
    requests = Requests(b"1")
    with served.open_without_token(county) as channel:
        once = once_of(channel)
        answers = exchange_of(channel)(requests, timeout=WAIT_SECONDS)
        assert next(answers) == b"1"
        assert once(b"", timeout=WAIT_SECONDS) == f"platform/{COUNTY}".encode()

        # Another platform's, so that the server can tell which one is shown.
        platform_files(tmp_path / "peer", authority, "141026")

        assert once(b"", timeout=WAIT_SECONDS) == b"platform/141026"
        assert once.future(b"", timeout=WAIT_SECONDS).result() == b"platform/141026"
        # The call under way goes on over the connection that it began on.
        requests.send(b"2")
        assert next(answers) == b"2"
        requests.end()
        assert list(answers) == []
        assert once(b"", timeout=WAIT_SECONDS) == b"platform/141026"


def test_a_former_connection_is_closed_once_its_calls_have_ended(
    serve: Serve, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[grpc.Channel] = []
    closed: list[grpc.Channel] = []
    has_closed = threading.Event()
    secure_channel = grpc.secure_channel

    def open_watched(*arguments: Any, **options: Any) -> grpc.Channel:
        channel = secure_channel(*arguments, **options)
        close = channel.close

        def close_and_tell() -> None:
            close()
            closed.append(channel)
            has_closed.set()

        channel.close = close_and_tell  # type: ignore[method-assign]  # to see it happen
        opened.append(channel)
        return channel

    monkeypatch.setattr(grpc, "secure_channel", open_watched)
    served = serve(require_client_certificate=True)
    county = platform_tls(tmp_path / "peer", authority, COUNTY)
    requests = Requests(b"1")
    with served.open_without_token(county) as channel:
        answers = exchange_of(channel)(requests, timeout=WAIT_SECONDS)
        assert next(answers) == b"1"
        platform_files(tmp_path / "peer", authority, COUNTY)
        once_of(channel)(b"", timeout=WAIT_SECONDS)
        assert (len(opened), closed) == (2, [])

        requests.end()
        assert list(answers) == []
        assert has_closed.wait(WAIT_SECONDS)
        assert closed == [opened[0]]
    assert closed == opened


def test_a_channel_that_was_closed_makes_no_call(serve: Serve, city: TlsFiles) -> None:
    served = serve()
    channel = served.open(TrustedAuthorities(city.ca))
    once = once_of(channel)
    channel.close()

    with pytest.raises(ValueError, match="closed channel"):
        once(b"", timeout=WAIT_SECONDS)


def test_an_authority_is_replaced_without_a_gap(
    serve: Serve, city: TlsFiles, authority: Authority, tmp_path: Path
) -> None:
    """Every step of docs/operate/certificates.md: both trusted, then the certificates one by one, then one trusted."""
    following = new_authority()
    served = serve(require_client_certificate=True)
    peer, server = tmp_path / "peer", tmp_path / CITY
    county = platform_tls(peer, authority, COUNTY)

    with served.open_without_token(county) as channel:

        def calls() -> bool:
            return bool(once_of(channel)(b"", timeout=WAIT_SECONDS) == f"platform/{COUNTY}".encode())

        assert calls()
        old_city = authority.issue_platform(CITY, (), MONTH)
        write(server, old_city, [authority, following])
        assert calls()
        platform_files(peer, authority, COUNTY, trusting=[following])
        assert calls()
        platform_files(server, following, CITY, trusting=[authority])
        assert calls()
        platform_files(peer, following, COUNTY, trusting=[authority])
        assert calls()
        platform_files(server, following, CITY)
        assert calls()
        platform_files(peer, following, COUNTY)
        assert calls()
    # The former authority is trusted no more.
    former = platform_tls(tmp_path / "former", authority, COUNTY, trusting=[following])
    with served.open_without_token(former) as channel:
        error = refusal(lambda: once_of(channel)(b"", timeout=WAIT_SECONDS))
    assert error.reason is Reason.SERVICE_UNAVAILABLE


# Settings of a service


class Settings(ServiceSettings):
    """Settings of a service of the tests."""

    model_config = ServiceSettings.model_config | {"env_prefix": "ZHICHAO_TEST_"}


def made(environment: dict[str, str]) -> RpcServer:
    variables = {
        "ZHICHAO_PLATFORM": CITY,
        "ZHICHAO_TEST_DATABASE_URL": "postgresql://localhost/a",
        "ZHICHAO_TEST_LISTEN": "127.0.0.1:0",
    } | environment
    settings = load(Settings, variables)
    return RpcServer.for_service("test", load(PlatformSettings, variables), settings, Access(CITY).control)


def test_a_service_without_files_does_not_start_in_plain_text() -> None:
    with pytest.raises(
        SettingsError, match=r"ZHICHAO_TEST_LISTEN is 127\.0\.0\.1:0, which takes TLS: set ZHICHAO_TLS_"
    ):
        made({})


def test_a_service_speaks_plain_text_when_asked_to() -> None:
    server = made({"ZHICHAO_PLAINTEXT_LOOPBACK": "true"})
    server.start()
    with connect(server.address) as channel:
        error = refusal(lambda: once_of(channel)(b"", timeout=WAIT_SECONDS))
    server.stop(0)
    # Refused in plain text, as nobody who is known.
    assert error.reason is not Reason.SERVICE_UNAVAILABLE


def test_a_service_speaks_tls_as_its_files_say(city: TlsFiles, tmp_path: Path) -> None:
    server = made(tls_environment(tmp_path / CITY))
    server.start()
    with connect(server.address, tls=TrustedAuthorities(files_in(tmp_path / CITY).ca)) as channel:
        error = refusal(lambda: once_of(channel)(b"", timeout=WAIT_SECONDS))
    server.stop(0)
    assert error.reason is not Reason.SERVICE_UNAVAILABLE


def test_certificates_are_not_asked_for_in_plain_text() -> None:
    with pytest.raises(SettingsError, match="ZHICHAO_TEST_REQUIRE_CLIENT_CERTIFICATE needs TLS"):
        made({"ZHICHAO_PLAINTEXT_LOOPBACK": "true", "ZHICHAO_TEST_REQUIRE_CLIENT_CERTIFICATE": "true"})


def test_a_server_that_asks_for_certificates_has_tls() -> None:
    with pytest.raises(ListenError, match="takes TLS"):
        RpcServer("test", "127.0.0.1:0", Access().control, require_client_certificate=True)
