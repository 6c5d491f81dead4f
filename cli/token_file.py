"""Files with tokens: read by commands that call a platform, written once by those that are given a token."""

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

SECRETS_DIRECTORY: Final = "secrets"
"""Below the data directory of a platform that `zhichao up` runs: tokens of the machine's own people."""

TOKEN_BYTES_MAX: Final = 4096
"""A token has 170 characters at most; a larger file is some other file."""

BOOTSTRAP_PREFIX: Final = "zhichao.bootstrap."
"""Begins the token of a new platform's first security administrator, whose file may hold the secret alone."""

_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_TOKEN: Final = re.compile(r"zhichao\.[a-z0-9-]{1,64}\.[A-Za-z0-9_-]{43}")


class TokenFileError(Exception):
    """A token file cannot be read or written; the text names it and what to do, never what it holds."""


def read_token(path: Path) -> str:
    """Return the token in a file; a secret alone is that of the bootstrap token. Raises TokenFileError."""
    try:
        with path.open("rb") as file:
            content = file.read(TOKEN_BYTES_MAX + 1)
    except OSError as error:
        raise TokenFileError(f"{path}: {error.strerror or type(error).__name__} 无法读取令牌文件") from error
    token = content.decode("ascii", "replace").strip()
    if _SECRET.fullmatch(token):
        return BOOTSTRAP_PREFIX + token
    if not _TOKEN.fullmatch(token):
        raise TokenFileError(
            f"{path}: holds no token, which looks like zhichao.<credential id>.<secret> 文件中没有令牌"
        )
    return token


def local_token_file(data_directory: Path, *names: str) -> Path | None:
    """Return the first of the named token files of a platform's data directory that is there, such as `operator`."""
    for name in names:
        path = data_directory / SECRETS_DIRECTORY / f"{name}.token"
        if path.is_file():
            return path
    return None


class TokenOut:
    """A file that will hold a token, for its owner only (mode 0600).

    It is begun before the token is asked for, since a token is shown once: a directory that cannot be written to is
    told before it is too late. A context manager: without `write` nothing is left behind.
    """

    def __init__(self, path: Path, *, replaces: bool) -> None:
        """Begin the file. Raises TokenFileError if it cannot be, or if it is there and must not be replaced."""
        self._path = path
        if path.exists() and not replaces:
            raise TokenFileError(f"{path}: exists; name another file 文件已存在, 请换用其他文件名")
        self._partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            self._number = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._error(error) from error

    def write(self, token: str) -> None:
        """Write the token, durably, and give the file its name. Raises TokenFileError."""
        try:
            os.write(self._number, f"{token}\n".encode("ascii"))
            os.fsync(self._number)
            self._partial.replace(self._path)
        except OSError as error:
            raise self._error(error) from error

    def __enter__(self) -> Self:
        """Return the file."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it, and remove it if it was not written."""
        os.close(self._number)
        with suppress(OSError):
            self._partial.unlink(missing_ok=True)

    def _error(self, error: OSError) -> TokenFileError:
        return TokenFileError(f"{self._path}: {error.strerror or type(error).__name__} 无法写入令牌文件")
