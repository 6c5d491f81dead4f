"""Who is let in by a certificate, and who is not: platforms, and integrators by that of their credential."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from cli.pki.authority import Authority, Validity
from services.common.access.knowledge import KnownPlatform
from services.common.access.permissions import PrincipalKind, permissions_of
from services.common.access.principal import Principal
from services.common.clock import SystemClock
from services.common.reasons import Reason
from services.common.tls import Tls, TrustedAuthorities
from services.common.tls_files import TlsFiles
from tests.access import Access
from tests.certificates import MONTH, days_ago, platform_tls, write
from tests.common.served import WAIT_SECONDS, Requests
from tests.common.tls.servers import CITY, COUNTY, Serve, exchange_of, once_of, refusal


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
