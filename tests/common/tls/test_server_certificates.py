"""What a server shows and speaks: tokens over TLS, versions of TLS, and nothing in plain text."""

import ssl
import warnings
from contextlib import closing, suppress
from pathlib import Path

import pytest

from cli.pki.authority import Authority
from services.common.reasons import Reason
from services.common.tls import Tls, TrustedAuthorities
from services.common.tls_files import TlsFiles
from tests.certificates import MONTH, platform_files, write
from tests.common.served import WAIT_SECONDS
from tests.common.tls.servers import CITY, COUNTY, Serve, Served, once_of, refusal

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
