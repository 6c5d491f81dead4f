"""The private key that signs a platform's journals: made at the first start, never replaced."""

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key


class SigningKeyError(Exception):
    """The key file cannot be made, or holds something else."""


def ensure(path: Path) -> None:
    """Make the key file (Ed25519, PKCS #8 PEM, mode 0600, in a directory of mode 0700) unless it is there.

    Raises SigningKeyError. An existing file is checked and left alone: entries signed with a lost key cannot be
    signed again.
    """
    try:
        if not path.exists():
            _make(path)
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise SigningKeyError(
            f"the signing key {path} cannot be read or made: {error.strerror} 无法读取或创建签名密钥"
        ) from error
    except (ValueError, TypeError) as error:
        raise SigningKeyError(
            f"{path} is not a PEM file with a private key without a password 不是无口令的 PEM 私钥文件"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SigningKeyError(f"{path} holds a key that is not Ed25519 密钥不是 Ed25519 类型")


def _make(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    partial = path.with_suffix(".unfinished")
    partial.unlink(missing_ok=True)
    number = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(number, "wb") as file:
        file.write(text)
        file.flush()
        # Before the first entry is signed the key must survive a power cut: file, then its name.
        os.fsync(file.fileno())
    partial.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
