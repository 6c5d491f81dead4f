"""Whom a client certificate names, and every certificate that names nobody here. What gRPC makes of real certificates
is tested in test_tls_peers.py.
"""

import pytest

from services.common.access.certificates import CertificateIdentity, credential_spiffe_id, identity_of, platform_id
from services.common.errors import ServiceError
from services.common.reasons import Reason
from tests.certificates import MONTH, new_authority

PAIR = new_authority().issue_platform("141025", (), MONTH)
ENDS_AT = PAIR.certificate.not_valid_after_utc


def auth_context(*uris: str) -> dict[str, list[bytes]]:
    context = {"transport_security_type": [b"ssl"], "x509_pem_cert": [PAIR.certificate_pem()]}
    if uris:
        context["peer_uri"] = [uri.encode() for uri in uris]
    return context


def test_the_spiffe_id_of_a_platform_is_read() -> None:
    identity = identity_of(auth_context("spiffe://zhichao/platform/141025"), "zhichao")

    assert identity == CertificateIdentity("141025", ENDS_AT)


def test_the_spiffe_id_of_a_credential_is_read() -> None:
    identity = identity_of(auth_context("spiffe://zhichao/platform/141025/credential/scale-works-1"), "zhichao")

    assert identity == CertificateIdentity("141025", ENDS_AT, "scale-works-1")


def test_ids_that_are_written_are_read_again() -> None:
    assert identity_of(auth_context(platform_id("a.example", "140000")), "a.example") == CertificateIdentity(
        "140000", ENDS_AT
    )
    written = credential_spiffe_id("a.example", "140000", "x1")
    assert identity_of(auth_context(written), "a.example") == CertificateIdentity("140000", ENDS_AT, "x1")


def test_a_client_without_a_certificate_is_nobody() -> None:
    assert identity_of({"transport_security_type": [b"ssl"]}, "zhichao") is None
    assert identity_of({}, "zhichao") is None


@pytest.mark.parametrize(
    "uris",
    [
        pytest.param((), id="no URI name"),
        pytest.param(("spiffe://zhichao/platform/141025", "spiffe://zhichao/platform/141026"), id="two SPIFFE ids"),
        pytest.param(("https://a.example/", "spiffe://zhichao/platform/141025"), id="another URI name beside it"),
        pytest.param(("https://zhichao/platform/141025",), id="no SPIFFE id"),
        pytest.param(("SPIFFE://zhichao/platform/141025",), id="scheme in capitals"),
        pytest.param(("spiffe://other/platform/141025",), id="another trust domain"),
        pytest.param(("spiffe://zhichao.example/platform/141025",), id="a trust domain that begins the same"),
        pytest.param(("spiffe://zhichao:1/platform/141025",), id="a trust domain with a port"),
        pytest.param(("spiffe://x@zhichao/platform/141025",), id="a trust domain with a user"),
        pytest.param(("spiffe:///platform/141025",), id="no trust domain"),
        pytest.param(("spiffe://zhichao",), id="no path"),
        pytest.param(("spiffe://zhichao/platform/",), id="no code"),
        pytest.param(("spiffe://zhichao/platform/14102",), id="a short code"),
        pytest.param(("spiffe://zhichao/platform/1410255",), id="a long code"),
        pytest.param(("spiffe://zhichao/platform/141025/",), id="a slash at the end"),
        pytest.param(("spiffe://zhichao/platform/141025\n",), id="a line break at the end"),
        pytest.param(("spiffe://zhichao//platform/141025",), id="an empty segment"),
        pytest.param(("spiffe://zhichao/platform/１４１０２５",), id="digits of another script"),
        pytest.param(("spiffe://zhichao/platform/141025?x=1",), id="a query"),
        pytest.param(("spiffe://zhichao/service/141025",), id="something else than a platform"),
        pytest.param(("spiffe://zhichao/platform/141025/credential/",), id="no credential id"),
        pytest.param(("spiffe://zhichao/platform/141025/credential/A b",), id="a bad credential id"),
        pytest.param(("spiffe://zhichao/platform/141025/credential/" + "x" * 65,), id="a long credential id"),
        pytest.param(("spiffe://zhichao/platform/141025/credential/x/y",), id="more after the credential"),
        pytest.param(("spiffe://zhichao/platform/141025" + "5" * 1_000_000,), id="a million digits"),
    ],
)
def test_a_certificate_that_names_nobody_here_is_refused(uris: tuple[str, ...]) -> None:
    with pytest.raises(ServiceError) as caught:
        identity_of(auth_context(*uris), "zhichao")

    assert caught.value.reason is Reason.INVALID_CREDENTIALS


def test_a_refusal_repeats_nothing_that_the_certificate_says() -> None:
    with pytest.raises(ServiceError) as caught:
        identity_of(auth_context("spiffe://evil.example/platform/666666"), "zhichao")

    assert "evil" not in caught.value.message


def test_a_certificate_that_cannot_be_read_is_refused() -> None:
    context = auth_context("spiffe://zhichao/platform/141025") | {"x509_pem_cert": [b"-----BEGIN CERTIFICATE-----"]}

    with pytest.raises(ServiceError) as caught:
        identity_of(context, "zhichao")

    assert caught.value.reason is Reason.INVALID_CREDENTIALS
