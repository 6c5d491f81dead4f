"""Certificates for tests, of real authorities; what `zhichao pki` writes, made in a millisecond."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from cli.pki.authority import Authority, KeyPair, Validity
from services.common.tls import Tls
from services.common.tls_files import TlsFiles

TRUST_DOMAIN: Final = "zhichao"
MONTH: Final = Validity.of_days(30)


def days_ago(begin: int, end: int) -> Validity:
    """Return a validity between two days before now; negative ones lie ahead."""
    now = datetime.now(UTC)
    return Validity(now - timedelta(days=begin), now - timedelta(days=end))


def new_authority(trust_domain: str = TRUST_DOMAIN) -> Authority:
    """Make an authority, which is as old as any certificate of a test."""
    return Authority.new(trust_domain, days_ago(400, -400))


def files_in(directory: Path) -> TlsFiles:
    """Return the three files of a folder."""
    return TlsFiles(directory / "tls.crt", directory / "tls.key", directory / "ca.crt")


def write(directory: Path, pair: KeyPair, authorities: Sequence[Authority]) -> TlsFiles:
    """Write the three files of a service, over those that are there."""
    directory.mkdir(parents=True, exist_ok=True)
    files = files_in(directory)
    files.ca.write_bytes(b"".join(one.pair.certificate.public_bytes(Encoding.PEM) for one in authorities))
    files.key.write_bytes(pair.key_pem())
    files.certificate.write_bytes(pair.certificate_pem())
    return files


def platform_files(
    directory: Path,
    authority: Authority,
    platform: str,
    *,
    trusting: Sequence[Authority] = (),
    validity: Validity = MONTH,
    hosts: Sequence[str] = (),
) -> TlsFiles:
    """Issue and write the certificate of a platform; it trusts its own authority and those named."""
    return write(directory, authority.issue_platform(platform, hosts, validity), (authority, *trusting))


def platform_tls(
    directory: Path,
    authority: Authority,
    platform: str,
    *,
    trusting: Sequence[Authority] = (),
    validity: Validity = MONTH,
) -> Tls:
    """Issue the certificate of a platform and return its TLS."""
    return Tls(platform_files(directory, authority, platform, trusting=trusting, validity=validity))


def tls_environment(directory: Path) -> dict[str, str]:
    """Return the settings that name the files in a folder."""
    files = files_in(directory)
    return {
        "ZHICHAO_TLS_CERTIFICATE_FILE": str(files.certificate),
        "ZHICHAO_TLS_KEY_FILE": str(files.key),
        "ZHICHAO_TLS_CA_FILE": str(files.ca),
    }
