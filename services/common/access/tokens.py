"""Tokens: how they are written, what is stored of them, and the secret that the services of one platform share."""

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

SECRET_BYTES: Final = 32
"""Random bytes of a secret: as strong as the digests that stand for it."""

TOKEN_PREFIX: Final = "zhichao"  # noqa: S105 - what tokens begin with, so that scanners recognise a leaked one
SERVICE_TOKEN_PREFIX: Final = "zhichao-service"  # noqa: S105 - as above
AUTHORIZATION_METADATA: Final = "authorization"
SERVICE_METADATA: Final = "x-zhichao-service"
"""Metadata with the name of the calling service, for logs. The service token grants what it grants without it."""

TOKEN_CHARACTERS_MAX: Final = 256
"""A token has at most 64 characters of id and 43 of secret; what is longer is not looked at."""

FILE_CHECK_SECONDS: Final = 1.0
"""A token file is looked at again at most this often: a rotation is in force within a second."""

_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_CREDENTIAL_ID: Final = re.compile(r"[a-z0-9-]{1,64}")
_SERVICE_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
_BEARER: Final = "bearer "

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Token:
    """A token as presented. `credential_id` is empty for a service token."""

    credential_id: str
    secret: str

    @property
    def is_service(self) -> bool:
        """Whether it is the token of a service of the platform."""
        return not self.credential_id


class TokenFileError(Exception):
    """A token file cannot be used; the text names the file and what is wrong with it, never what it holds."""


def new_secret() -> str:
    """Make a secret: 43 characters of base64url."""
    return secrets.token_urlsafe(SECRET_BYTES)


def format_token(credential_id: str, secret: str) -> str:
    """Write the token of a credential."""
    return f"{TOKEN_PREFIX}.{credential_id}.{secret}"


def format_service_token(secret: str) -> str:
    """Write the token of the platform's services."""
    return f"{SERVICE_TOKEN_PREFIX}.{secret}"


def digest(secret: str) -> bytes:
    """Return what is stored of a secret: SHA-256, 32 bytes."""
    return hashlib.sha256(secret.encode("ascii")).digest()


def is_digest_of(expected: bytes, secret: str) -> bool:
    """Tell whether the secret has the digest, without telling by the time how much of it is right."""
    return hmac.compare_digest(expected, digest(secret))


def presented_token(authorization: str) -> Token | None:
    """Read the token of an `authorization` value; None when it is none of ours."""
    if len(authorization) > TOKEN_CHARACTERS_MAX or authorization[: len(_BEARER)].lower() != _BEARER:
        return None
    parts = authorization[len(_BEARER) :].strip().split(".")
    secret = parts[-1]
    if not _SECRET.fullmatch(secret):
        return None
    if len(parts) == 2 and parts[0] == SERVICE_TOKEN_PREFIX:
        return Token("", secret)
    if len(parts) == 3 and parts[0] == TOKEN_PREFIX and _CREDENTIAL_ID.fullmatch(parts[1]):
        return Token(parts[1], secret)
    return None


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata that carries a token."""
    return ((AUTHORIZATION_METADATA, f"Bearer {token}"),)


def is_service_name(name: str) -> bool:
    """Tell whether a name is fit for logs and journals as the name of a service."""
    return _SERVICE_NAME.fullmatch(name) is not None


def metadata_value(metadata: Iterable[Any], key: str) -> str:
    """Return the value of a text key of a call's metadata; empty when it is not there."""
    for name, value in metadata:
        if name == key and isinstance(value, str):
            return value
    return ""


class ServiceTokens:
    """The secrets by which the services of one platform know each other, from a file with one on each line.

    The first is sent, all are accepted: a new one is put below, then on top, then the old one goes, and nobody is
    interrupted. The file is looked at again when it changes; one that cannot be read leaves the former in force.
    """

    def __init__(self, path: Path) -> None:
        """Read the file. Raises TokenFileError."""
        self._path = path
        self._guard = threading.Lock()
        self._checked_at = time.monotonic()
        self._stamp, self._secrets = _read(path)

    def sent(self) -> str:
        """Return the token to send."""
        return format_service_token(self._current()[0])

    def accepts(self, secret: str) -> bool:
        """Tell whether a secret is one of the platform's."""
        found = False
        # All are compared whichever fits, so that the time says nothing.
        for known in self._current():
            found |= hmac.compare_digest(known, secret)
        return found

    def seal(self, content: bytes) -> bytes:
        """Return what only holders of the secret can make of the content: HMAC-SHA256 (RFC 2104) with the one sent."""
        return _seal(self._current()[0], content)

    def is_seal(self, seal: bytes, content: bytes) -> bool:
        """Tell whether a seal was made over the content with one of the platform's secrets."""
        found = False
        for known in self._current():
            found |= hmac.compare_digest(_seal(known, content), seal)
        return found

    def metadata(self, service: str) -> Callable[[], tuple[tuple[str, str], ...]]:
        """Return what makes the metadata of calls by a service of the platform."""
        return lambda: (*bearer(self.sent()), (SERVICE_METADATA, service))

    def _current(self) -> tuple[str, ...]:
        now = time.monotonic()
        if now - self._checked_at >= FILE_CHECK_SECONDS and self._guard.acquire(blocking=False):
            try:
                self._checked_at = now
                if _stamp(self._path) != self._stamp:
                    self._stamp, self._secrets = _read(self._path)
                    _log.info("service_secrets_read", path=str(self._path), count=len(self._secrets))
            except (OSError, TokenFileError) as error:
                _log.warning("service_secrets_not_taken", path=str(self._path), cause=str(error))
            finally:
                self._guard.release()
        return self._secrets


def read_secret_file(path: Path) -> tuple[str, ...]:
    """Return the secrets in a file, one a line. Raises TokenFileError."""
    try:
        text = path.read_text("ascii")
    except OSError as error:
        raise TokenFileError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise TokenFileError(f"{path} holds no secret: it must be ASCII text") from error
    found = tuple(line.strip().rpartition(".")[2] for line in text.splitlines() if line.strip())
    if not found:
        raise TokenFileError(f"{path} is empty: it must hold a secret of 43 characters of A-Z a-z 0-9 _ - on each line")
    for number, secret in enumerate(found, 1):
        if not _SECRET.fullmatch(secret):
            raise TokenFileError(f"{path}: line {number} is no secret of 43 characters of A-Z a-z 0-9 _ -")
    return found


def _seal(secret: str, content: bytes) -> bytes:
    return hmac.digest(secret.encode("ascii"), content, "sha256")


def _read(path: Path) -> tuple[tuple[int, int], tuple[str, ...]]:
    stamp = _stamp(path) if path.exists() else (0, 0)
    return stamp, read_secret_file(path)


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_ino
