"""Certificates for platforms of one machine that are started together: an authority of their own, and one for each."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

AUTHORITY_DAYS: Final = 3650
CERTIFICATE_DAYS: Final = 398
"""As the CA/Browser Forum allows at most; such platforms live for minutes, or as long as somebody tries things out."""

TRUST_DOMAIN: Final = "zhichao"


def make_certificates(directory: Path, platforms: Iterable[str]) -> dict[str, Path]:
    """Return the folder with tls.crt, tls.key and ca.crt of each platform, made where it is not there.

    Raises PkiError.
    """
    from cli.pki.authority import Authority, Validity
    from cli.pki.files import AUTHORITY_CERTIFICATE, CERTIFICATE, read_authority, write_authority, write_pair

    authority_directory = directory / "ca"
    if (authority_directory / AUTHORITY_CERTIFICATE).exists():
        authority = read_authority(authority_directory)
    else:
        authority = Authority.new(TRUST_DOMAIN, Validity.of_days(AUTHORITY_DAYS))
        write_authority(authority_directory, authority)
    made = {}
    for platform in platforms:
        folder = made[platform] = directory / platform
        if not (folder / CERTIFICATE).exists():
            write_pair(folder, authority.issue_platform(platform, (), Validity.of_days(CERTIFICATE_DAYS)), authority)
    return made
