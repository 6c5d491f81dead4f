"""Makes the certificate of an authority and, signed by it, those of platforms, of holders of credentials and of clients
(RFC 5280). Pure: keys and certificates in memory; files are written elsewhere.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.common.access.certificates import SPIFFE_SCHEME, credential_spiffe_id, platform_id

DAYS_MAX: Final = 7300
"""Twenty years: beyond it a number is a mistake."""

CLOCK_SKEW: Final = timedelta(minutes=5)
"""A certificate is valid from this long ago, so that a peer whose clock is a little behind takes it at once."""

LOOPBACK_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
"""Every platform's certificate carries these: its services reach each other there."""

_TRUST_DOMAIN: Final = re.compile(r"[a-z0-9._-]{1,255}")
_PLATFORM: Final = re.compile(r"[0-9]{6}")
_CREDENTIAL_ID: Final = re.compile(r"[a-z0-9-]{1,64}")
_CLIENT_NAME: Final = _CREDENTIAL_ID
# RFC 1123, 2.1; the first label may be a wildcard.
_HOST_NAME: Final = re.compile(
    r"(\*\.)?([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)
_HOST_CHARACTERS_MAX: Final = 253


class PkiError(Exception):
    """What was asked for cannot be done; the text says why, and names the option or file."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: EllipticCurvePrivateKey

    def certificate_pem(self) -> bytes:
        """Return the certificate (PEM)."""
        return self.certificate.public_bytes(Encoding.PEM)

    def key_pem(self) -> bytes:
        """Return the private key (PKCS #8, PEM, without a password)."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass(frozen=True, slots=True)
class Validity:
    """From when until when."""

    begins_at: datetime
    ends_at: datetime

    @classmethod
    def of_days(cls, days: int, now: datetime | None = None) -> "Validity":
        """Begin a little before now and last so many days. Raises PkiError."""
        if not 1 <= days <= DAYS_MAX:
            raise PkiError(f"--days must be 1 to {DAYS_MAX}, not {days} 天数超出范围")
        now = now or datetime.now(UTC)
        return cls(now - CLOCK_SKEW, now + timedelta(days=days))


class Authority:
    """An authority of one trust domain. It signs certificates of its domain, and no further authorities."""

    def __init__(self, pair: KeyPair, trust_domain: str) -> None:
        self.pair = pair
        self.trust_domain = trust_domain

    @classmethod
    def new(cls, trust_domain: str, validity: Validity) -> "Authority":
        """Make a new one with a key of its own. Raises PkiError for a trust domain that is none."""
        if not _TRUST_DOMAIN.fullmatch(trust_domain):
            raise PkiError(
                f"--trust-domain {trust_domain!r}: 1 to 255 characters of a-z 0-9 . _ - 信任域名称不符合要求"
            )
        key = generate_private_key(SECP256R1())
        # The date tells two authorities of one domain apart while one replaces the other.
        name = _name(f"Zhichao trial authority {trust_domain} {validity.begins_at:%Y-%m-%d}")
        certificate = (
            _builder(name, name, key.public_key(), validity)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(is_authority=True), critical=True)
            # SPIFFE X.509-SVID, 3.1: an authority carries the id of its domain, without a path.
            .add_extension(x509.SubjectAlternativeName([_uri(f"{SPIFFE_SCHEME}{trust_domain}")]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, SHA256())
        )
        return cls(KeyPair(certificate, key), trust_domain)

    @classmethod
    def parse(cls, certificate_pem: bytes, key_pem: bytes) -> "Authority":
        """Take one from what was stored. Raises PkiError if it is none of ours."""
        try:
            certificate = x509.load_pem_x509_certificate(certificate_pem)
            key = load_pem_private_key(key_pem, None)
        except (ValueError, TypeError) as error:
            raise PkiError(
                "the authority's files hold no certificate and key (PEM) 文件中没有 CA 证书和密钥 (PEM)"
            ) from error
        if not isinstance(key, EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise PkiError("the authority's key is not that of its certificate CA 密钥与证书不符")
        domains = [uri for uri in uri_names(certificate) if uri.startswith(SPIFFE_SCHEME)]
        if len(domains) != 1:
            raise PkiError(
                "the authority's certificate names no trust domain: it was not made by `zhichao pki init`"
                " CA 证书不含信任域, 不是由 `zhichao pki init` 生成"
            )
        return cls(KeyPair(certificate, key), domains[0].removeprefix(SPIFFE_SCHEME))

    def issue_platform(self, platform: str, hosts: Iterable[str], validity: Validity) -> KeyPair:
        """Issue the certificate by which a platform serves and calls. Raises PkiError."""
        if not _PLATFORM.fullmatch(platform):
            raise PkiError(
                f"--platform {platform!r}: the six-digit division code of the platform 请给出六位行政区划代码"
            )
        names = [host_name(host) for host in dict.fromkeys((*hosts, *LOOPBACK_HOSTS))]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return self._issue(
            f"platform {platform}", [_uri(platform_id(self.trust_domain, platform)), *names], usages, validity
        )

    def issue_credential(self, platform: str, credential_id: str, validity: Validity) -> KeyPair:
        """Issue the certificate by which the holder of a credential calls that platform. Raises PkiError."""
        if not _PLATFORM.fullmatch(platform):
            raise PkiError(
                f"--platform {platform!r}: the six-digit division code of the platform 请给出六位行政区划代码"
            )
        if not _CREDENTIAL_ID.fullmatch(credential_id):
            raise PkiError(f"--credential {credential_id!r}: 1 to 64 characters of a-z 0-9 - 凭证编号不符合要求")
        uri = _uri(credential_spiffe_id(self.trust_domain, platform, credential_id))
        # It never serves: whoever holds it must not pass for a platform's server.
        return self._issue(f"credential {credential_id}"[:64], [uri], [ExtendedKeyUsageOID.CLIENT_AUTH], validity)

    def issue_client(self, platform: str, name: str, validity: Validity) -> KeyPair:
        """Issue a certificate that lets its holder connect and says nothing of who calls: that takes a token.

        Raises PkiError.
        """
        if not _PLATFORM.fullmatch(platform):
            raise PkiError(
                f"--platform {platform!r}: the six-digit division code of the platform 请给出六位行政区划代码"
            )
        if not _CLIENT_NAME.fullmatch(name):
            raise PkiError(f"--client {name!r}: 1 to 64 characters of a-z 0-9 - 客户端名称不符合要求")
        uri = _uri(client_spiffe_id(self.trust_domain, platform, name))
        return self._issue(f"client {name}"[:64], [uri], [ExtendedKeyUsageOID.CLIENT_AUTH], validity)

    def _issue(
        self,
        common_name: str,
        names: list[x509.GeneralName],
        usages: list[x509.ObjectIdentifier],
        validity: Validity,
    ) -> KeyPair:
        issuer = self.pair.certificate
        if validity.ends_at > issuer.not_valid_after_utc:
            raise PkiError(
                "--days: the certificate would outlive the authority, which ends on "
                f"{issuer.not_valid_after_utc:%Y-%m-%d}: ask for fewer days, or make a new authority first"
                " 证书有效期超过 CA, 请减少天数或先新建 CA"
            )
        key = generate_private_key(SECP256R1())
        certificate = (
            _builder(_name(common_name), issuer.subject, key.public_key(), validity)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(is_authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.pair.key.public_key()), critical=False
            )
            .sign(self.pair.key, SHA256())
        )
        return KeyPair(certificate, key)


def client_spiffe_id(trust_domain: str, platform: str, name: str) -> str:
    """Return the SPIFFE id of a client of a platform, which services take for nobody's: it opens nothing by itself."""
    return f"{platform_id(trust_domain, platform)}/client/{name}"


def uri_names(certificate: x509.Certificate) -> list[str]:
    """Return the URI names of a certificate."""
    return [
        str(name.value) for name in _alternative_names(certificate) if isinstance(name, x509.UniformResourceIdentifier)
    ]


def host_names(certificate: x509.Certificate) -> list[str]:
    """Return the host names and addresses of a certificate, in its order."""
    return [
        str(name.value) for name in _alternative_names(certificate) if isinstance(name, x509.DNSName | x509.IPAddress)
    ]


def host_name(host: str) -> x509.GeneralName:
    """Read a host name or an IP address as it goes into a certificate. Raises PkiError."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        pass
    if len(host) <= _HOST_CHARACTERS_MAX and _HOST_NAME.fullmatch(host) and not re.fullmatch(r"[0-9.]+", host):
        return x509.DNSName(host.lower())
    raise PkiError(
        f"--host {host!r}: neither a host name nor an IP address (no port, no scheme)"
        " 请给出主机名或 IP 地址, 不含端口和协议"
    )


def is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Tell whether an authority has signed a certificate."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _alternative_names(certificate: x509.Certificate) -> Iterable[x509.GeneralName]:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()


def _builder(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePublicKey, validity: Validity
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        # Random: 159 bits, so that nobody can foresee a certificate and two authorities never use one twice.
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity.begins_at)
        .not_valid_after(validity.ends_at)
    )


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    # At most 64 characters (RFC 5280, upper bounds).
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)
