"""Reads the files of TLS and refuses what gRPC could not use, with a text that names the setting. Takes no decision on
when; that is `tls`.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

CERTIFICATE_VARIABLE: Final = "ZHICHAO_TLS_CERTIFICATE_FILE"
KEY_VARIABLE: Final = "ZHICHAO_TLS_KEY_FILE"
CA_VARIABLE: Final = "ZHICHAO_TLS_CA_FILE"

FILE_BYTES_MAX: Final = 1024 * 1024
"""Largest file that is read: a certificate takes 1 to 2 kB, and a bundle of all public authorities some 250 kB."""

RSA_BITS_MIN: Final = 2048
"""Shorter keys are within reach of whoever wants to (NIST SP 800-57 part 1, table 2)."""

_ALWAYS: Final = datetime.min.replace(tzinfo=UTC)


class TlsFileError(Exception):
    """The files cannot be used; the text names the setting."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The three files. A change of one of them is a change of all."""

    certificate: Path
    key: Path
    ca: Path


@dataclass(frozen=True, slots=True)
class TlsBundle:
    """What the files held at one moment, checked: the key fits the certificate, and there is an authority."""

    # Empty for somebody who shows none.
    certificate_chain: bytes
    private_key: bytes = field(repr=False)
    authorities: bytes
    # The latest begin and the earliest end in the chain.
    begins_at: datetime
    ends_at: datetime
    # The last end among the authorities: after it nobody is trusted.
    authorities_end_at: datetime
    uris: tuple[str, ...]
    serial: str


def stamp_of(files: TlsFiles) -> tuple[tuple[int, int, int], ...]:
    """Return what changes when one of the files does. Raises TlsFileError."""
    stamps = []
    for path, variable in (
        (files.certificate, CERTIFICATE_VARIABLE),
        (files.key, KEY_VARIABLE),
        (files.ca, CA_VARIABLE),
    ):
        try:
            # Of the file behind links: Kubernetes changes a mounted secret by changing where a link points.
            status = path.stat()
        except OSError as error:
            raise _unreadable(path, variable, error) from error
        stamps.append((status.st_mtime_ns, status.st_ino, status.st_size))
    return tuple(stamps)


def read_bundle(files: TlsFiles, required_uri: str) -> TlsBundle:
    """Read and check the files; `required_uri` is a name that the certificate must carry. Raises TlsFileError."""
    chain_pem = _read(files.certificate, CERTIFICATE_VARIABLE)
    key_pem = _read(files.key, KEY_VARIABLE)
    ca_pem = _read(files.ca, CA_VARIABLE)
    chain = _certificates(chain_pem, files.certificate, CERTIFICATE_VARIABLE)
    authorities = _certificates(ca_pem, files.ca, CA_VARIABLE)
    _check_key(_public_key(key_pem, files.key), chain[0], files)
    uris = _uris(chain[0])
    if required_uri and required_uri not in uris:
        raise TlsFileError(
            f"{CERTIFICATE_VARIABLE}: the certificate in {files.certificate} must carry the URI name {required_uri}; "
            f"it carries {', '.join(uris) or 'none'}"
        )
    return TlsBundle(
        chain_pem,
        key_pem,
        ca_pem,
        max(one.not_valid_before_utc for one in chain),
        min(one.not_valid_after_utc for one in chain),
        max(one.not_valid_after_utc for one in authorities),
        uris,
        f"{chain[0].serial_number:x}",
    )


def read_authorities(path: Path, setting: str) -> TlsBundle:
    """Read authorities alone, for somebody who shows no certificate. Raises TlsFileError that names the setting."""
    pem = _read(path, setting)
    ends_at = max(one.not_valid_after_utc for one in _certificates(pem, path, setting))
    return TlsBundle(b"", b"", pem, _ALWAYS, ends_at, ends_at, (), "")


def _public_key(key_pem: bytes, path: Path) -> Any:
    try:
        return load_pem_private_key(key_pem, None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise TlsFileError(f"{KEY_VARIABLE}: {path} holds no private key (PEM, without a password)") from error


def _check_key(key: Any, certificate: x509.Certificate, files: TlsFiles) -> None:
    if isinstance(key, EllipticCurvePublicKey):
        is_usable = isinstance(key.curve, SECP256R1 | SECP384R1)
    else:
        is_usable = isinstance(key, RSAPublicKey) and key.key_size >= RSA_BITS_MIN
    if not is_usable:
        # gRPC's TLS neither signs nor verifies with others; it would cut off everybody at the next handshake.
        raise TlsFileError(
            f"{KEY_VARIABLE}: {files.key} must hold an ECDSA key on P-256 or P-384, or an RSA key of {RSA_BITS_MIN} "
            "bits or more"
        )
    try:
        fits = key == certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        # A key of a kind that is not even known is not this one.
        fits = False
    if not fits:
        raise TlsFileError(
            f"{KEY_VARIABLE}: the key in {files.key} is not that of the first certificate in {files.certificate}"
        )


def _read(path: Path, variable: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise _unreadable(path, variable, error) from error
    if len(content) > FILE_BYTES_MAX:
        raise TlsFileError(f"{variable}: {path} is larger than {FILE_BYTES_MAX} bytes")
    return content


def _unreadable(path: Path, variable: str, error: OSError) -> TlsFileError:
    return TlsFileError(f"{variable}: {path} cannot be read: {error.strerror or type(error).__name__}")


def _certificates(pem: bytes, path: Path, variable: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise TlsFileError(f"{variable}: {path} holds no certificate (PEM)") from error


def _uris(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        # An extension that cannot be read names nobody.
        return ()
    return tuple(names.get_values_for_type(x509.UniformResourceIdentifier))
