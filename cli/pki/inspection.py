"""Looks at files and folders with certificates: whose they are, until when they are good, and what does not fit."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cli.pki.authority import PkiError, host_names, is_signed_by, uri_names
from cli.pki.files import AUTHORITIES, AUTHORITY_CERTIFICATE, AUTHORITY_KEY, CERTIFICATE, KEY, read_certificates

_SECONDS_PER_DAY: Final = 24 * 3600
_OTHERS_MAY_READ: Final = 0o077


@dataclass(frozen=True, slots=True)
class Inspected:
    """One certificate of a file, and what is wrong with it."""

    path: str
    subject: str
    is_authority: bool
    uris: tuple[str, ...]
    hosts: tuple[str, ...]
    serial: str
    begins_at: datetime
    ends_at: datetime
    days_left: float
    problems: tuple[str, ...]

    @property
    def is_right(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def inspect(path: Path, now: datetime) -> list[Inspected]:
    """Look at a file with certificates, or at a folder as `pki init` or `pki issue` writes it. Raises PkiError."""
    if not path.is_dir():
        return [_inspect(path, certificate, now, ()) for certificate in read_certificates(path)]
    if (path / CERTIFICATE).exists():
        return list(_inspect_issued(path, now))
    if (path / AUTHORITY_CERTIFICATE).exists():
        own = read_certificates(path / AUTHORITY_CERTIFICATE)
        problems = _key_problems(path / AUTHORITY_KEY, own[0])
        return [_inspect(path / AUTHORITY_CERTIFICATE, one, now, problems) for one in own]
    raise PkiError(f"{path} holds neither {CERTIFICATE} nor {AUTHORITY_CERTIFICATE} 该目录中没有证书文件")


def document(found: Iterable[Inspected]) -> list[Mapping[str, Any]]:
    """Return what was found as it is printed in JSON."""
    return [
        {
            **asdict(one),
            "begins_at": one.begins_at.isoformat(),
            "ends_at": one.ends_at.isoformat(),
            "days_left": round(one.days_left, 2),
            "is_right": one.is_right,
        }
        for one in found
    ]


def _inspect_issued(folder: Path, now: datetime) -> Iterator[Inspected]:
    chain = read_certificates(folder / CERTIFICATE)
    ca_file = folder / AUTHORITIES
    authorities = read_certificates(ca_file) if ca_file.exists() else []
    problems = list(_key_problems(folder / KEY, chain[0]))
    if not authorities:
        problems.append(f"there is no {AUTHORITIES} beside it")
    elif not any(is_signed_by(chain[-1], one) for one in authorities):
        problems.append(f"none of the authorities in {AUTHORITIES} has signed it")
    yield _inspect(folder / CERTIFICATE, chain[0], now, problems)
    for certificate in chain[1:]:
        yield _inspect(folder / CERTIFICATE, certificate, now, ())
    for certificate in authorities:
        yield _inspect(ca_file, certificate, now, ())


def _inspect(path: Path, certificate: x509.Certificate, now: datetime, problems: Sequence[str]) -> Inspected:
    begins_at, ends_at = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    dates = []
    if now < begins_at:
        dates.append("it is not valid yet")
    if now > ends_at:
        dates.append("it has ended")
    return Inspected(
        str(path),
        certificate.subject.rfc4514_string(),
        _is_authority(certificate),
        tuple(uri_names(certificate)),
        tuple(host_names(certificate)),
        f"{certificate.serial_number:x}",
        begins_at,
        ends_at,
        (ends_at - now).total_seconds() / _SECONDS_PER_DAY,
        (*dates, *problems),
    )


def _key_problems(path: Path, certificate: x509.Certificate) -> Sequence[str]:
    if not path.exists():
        return [f"there is no {path.name} beside it"]
    try:
        key = load_pem_private_key(path.read_bytes(), None)
        mode = path.stat().st_mode
    except OSError as error:
        return [f"{path.name} cannot be read: {error.strerror}"]
    except (ValueError, TypeError):
        return [f"{path.name} holds no private key (PEM, without a password)"]
    problems = []
    if key.public_key() != certificate.public_key():
        problems.append(f"{path.name} is the key of another certificate")
    if mode & _OTHERS_MAY_READ:
        problems.append(f"others than its owner may read {path.name}: chmod 600")
    return problems


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False
