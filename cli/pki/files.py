"""The folders of `zhichao pki`: the authority's own, and one for each certificate as the services take it. Nothing is
overwritten unless a renewal is asked for; keys are readable by their owner only.
"""

import os
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cli.pki.authority import Authority, KeyPair, PkiError, uri_names

AUTHORITY_CERTIFICATE: Final = "ca.crt"
AUTHORITY_KEY: Final = "ca.key"

# The names that Kubernetes and cert-manager give to the three files of a TLS secret.
CERTIFICATE: Final = "tls.crt"
KEY: Final = "tls.key"
AUTHORITIES: Final = "ca.crt"

_PUBLIC_MODE: Final = 0o644
_SECRET_MODE: Final = 0o600
_DIRECTORY_MODE: Final = 0o700


def write_authority(directory: Path, authority: Authority) -> None:
    """Store a new authority. Raises PkiError if the folder holds one already."""
    files = [directory / AUTHORITY_KEY, directory / AUTHORITY_CERTIFICATE]
    _refuse_existing(files, "name another folder with --dir: whoever trusts the authority there would trust no new one")
    _make_directory(directory)
    _write(files[0], authority.pair.key_pem(), _SECRET_MODE)
    _write(files[1], authority.pair.certificate_pem(), _PUBLIC_MODE)


def read_authority(directory: Path) -> Authority:
    """Read the authority in a folder. Raises PkiError."""
    certificate, key = directory / AUTHORITY_CERTIFICATE, directory / AUTHORITY_KEY
    if not certificate.exists() or not key.exists():
        raise PkiError(
            f"--dir {directory} holds no authority: make one with `zhichao pki init --dir {directory}`"
            " 该目录中没有 CA, 请先用 `zhichao pki init` 生成"
        )
    try:
        return Authority.parse(_read(certificate), _read(key))
    except PkiError as error:
        raise PkiError(f"{directory}: {error} 无法读取该目录中的 CA") from error


def write_pair(directory: Path, pair: KeyPair, authority: Authority) -> list[Path]:
    """Store a new certificate with its key and its authority; return the files. Raises PkiError if one is there."""
    files = [directory / KEY, directory / CERTIFICATE, directory / AUTHORITIES]
    _refuse_existing(files, "name another folder with --out, or renew what is there with --renew")
    _make_directory(directory)
    _write(files[0], pair.key_pem(), _SECRET_MODE)
    _write(files[1], pair.certificate_pem(), _PUBLIC_MODE)
    _write(files[2], authority.pair.certificate_pem(), _PUBLIC_MODE)
    return files


def renew_pair(directory: Path, pair: KeyPair, authority: Authority) -> list[Path]:
    """Replace certificate and key in a folder; return the files.

    Authorities that stand in the folder stay, so that a change of the authority interrupts nobody; ours is added.
    Services that look in between see a key that does not fit, keep what they have, and look again.
    """
    files = [directory / KEY, directory / CERTIFICATE, directory / AUTHORITIES]
    ours = authority.pair.certificate
    others = [one for one in read_certificates(files[2]) if one != ours] if files[2].exists() else []
    bundle = b"".join(one.public_bytes(Encoding.PEM) for one in (ours, *others))
    _write(files[2], bundle, _PUBLIC_MODE)
    _write(files[0], pair.key_pem(), _SECRET_MODE)
    _write(files[1], pair.certificate_pem(), _PUBLIC_MODE)
    return files


def read_issued(directory: Path, uri: str) -> x509.Certificate:
    """Return the certificate in a folder that is to be renewed. Raises PkiError if it is not that of `uri`."""
    path = directory / CERTIFICATE
    if not path.exists():
        raise PkiError(
            f"--renew: {directory} holds no {CERTIFICATE} yet; leave --renew out 该目录中尚无证书, 请去掉 --renew"
        )
    (first, *_) = read_certificates(path)
    if uri not in uri_names(first):
        raise PkiError(
            f"--renew: {path} is the certificate of {', '.join(uri_names(first)) or 'somebody without a URI name'}, "
            f"not of {uri}"
            " 该证书属于其他主体"
        )
    return first


def read_certificates(path: Path) -> Sequence[x509.Certificate]:
    """Return the certificates in a PEM file, at least one. Raises PkiError."""
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError as error:
        raise PkiError(f"{path} holds no certificate (PEM) 文件中没有证书 (PEM)") from error


def _refuse_existing(files: Iterable[Path], remedy: str) -> None:
    for file in files:
        if file.exists():
            raise PkiError(f"{file} is there already and is not overwritten: {remedy} 文件已存在, 不会覆盖")


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise PkiError(f"{directory} cannot be made: {error.strerror} 无法创建目录") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PkiError(f"{path} cannot be read: {error.strerror} 无法读取") from error


def _write(path: Path, content: bytes, mode: int) -> None:
    """Put a whole file in place at once; nobody ever reads half of it, nor a key that others may read."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        number = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.rename(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise PkiError(f"{path} cannot be written: {error.strerror} 无法写入") from error
