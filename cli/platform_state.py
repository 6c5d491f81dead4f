"""The state file of a platform (`DATA/platform.json`) and the lock that tells whether it is current.

Written by `zhichao up` whenever something changes; read by every command that looks for a running platform.
"""

import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Self

import structlog

from cli.platform_layout import PlatformFiles

log = structlog.get_logger()

# A reader looks at the lock by holding it for a moment, which must not look like another platform.
READER_SECONDS_MAX = 0.5
LOCK_POLL_SECONDS = 0.02

# Raised when a field changes its meaning; a reader refuses a file it does not understand.
STATE_VERSION = 1

# `starting` until every health check was SERVING once; `stopped` is what an orderly stop leaves behind.
Phase = Literal["starting", "serving", "stopping", "stopped"]


class DirectoryHeldError(Exception):
    """Another `zhichao up` runs on the data directory."""


@dataclass(frozen=True)
class ProcessState:
    """One child process: the id and what makes it recognisable (see `cli.postgres.processes.identity`)."""

    pid: int
    identity: str


@dataclass(frozen=True)
class PlatformState:
    """What is known of a platform from outside: enough to reach, watch and stop it."""

    platform: str
    phase: Phase
    pid: int
    data_directory: str
    upstream: str = ""
    listen: str = ""
    base_port: int = 0
    # By service name: where the same machine reaches it, and its health check.
    addresses: dict[str, str] = field(default_factory=dict)
    health_addresses: dict[str, str] = field(default_factory=dict)
    # Where relays of lower platforms dial in; empty when there are no certificates.
    peer_address: str = ""
    # The authorities that the services' certificates are checked with; empty when they speak plain text on loopback.
    ca_file: str = ""
    # The platform's own certificate, for who calls from this machine where services ask for one; as above.
    certificate_file: str = ""
    key_file: str = ""
    # By service name; services that share a process have the same.
    processes: dict[str, ProcessState] = field(default_factory=dict)
    # Of the embedded server, by service name; a server given by URL is not written here, its URL may hold a password.
    database_urls: dict[str, str] = field(default_factory=dict)
    postgres_pid: int | None = None
    # The platform's own S3 server; empty and None when the evidence lies elsewhere.
    object_endpoint: str = ""
    object_server_pid: int | None = None
    signing_key_file: str = ""
    version: int = STATE_VERSION

    def to_json(self) -> str:
        """Return the text of the state file."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the text of a state file; what a newer release has added is passed over, so that one may go back to this
        one. Raises ValueError when it is not one of this version.
        """
        document: Any = json.loads(text)
        if not isinstance(document, dict) or document.get("version") != STATE_VERSION:
            raise ValueError("not the state file of a platform of this version 不是本版本平台的状态文件")
        try:
            processes = {name: ProcessState(**process) for name, process in document.pop("processes").items()}
            known = {one.name for one in fields(cls)}
            return cls(**{name: value for name, value in document.items() if name in known}, processes=processes)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"not the state file of a platform: {error} 不是平台的状态文件") from error


def read(data_directory: Path) -> PlatformState | None:
    """Return the state last written below the directory, None when there is none. Raises ValueError, OSError."""
    try:
        return PlatformState.from_json(PlatformFiles(data_directory).state.read_text("utf-8"))
    except FileNotFoundError:
        return None


def find_running(data_directory: Path) -> PlatformState | None:
    """Return the state of the platform that runs on the directory now, None when none does."""
    state = read(data_directory)
    if state is None or state.phase == "stopped":
        return None
    try:
        with PlatformFiles(data_directory).lock.open("rb") as lock:
            # Shared and at once given back: readers do not disturb each other.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return state
    except FileNotFoundError:
        return None
    # Nobody holds the lock: the platform was killed and had no time to say so.
    return None


def write(path: Path, state: PlatformState) -> None:
    """Write the state, so that a reader sees the old or the new text and never a part."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    # Addresses and process ids are nobody's secret, but the directory's owner decides who reads them.
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(state.to_json())
    partial.replace(path)


class DataLock:
    """Holds a platform's data directory; the kernel lets go when the process ends, however it ends."""

    def __init__(self, files: PlatformFiles) -> None:
        self._path = files.lock
        self._number: int | None = None

    def acquire(self) -> None:
        """Hold the directory, which exists. Raises DirectoryHeldError with the process that has it, or OSError."""
        number = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + READER_SECONDS_MAX
        while not _try_lock(number):
            if time.monotonic() < deadline:
                time.sleep(LOCK_POLL_SECONDS)
                continue
            holder = os.pread(number, 20, 0).decode("ascii", "replace").strip()
            os.close(number)
            raise DirectoryHeldError(
                f"a platform runs on {self._path.parent} already (process {holder or 'unknown'}); "
                "stop it, or name another directory with --data"
                " 该目录已有平台在运行, 请先停止, 或用 --data 指定其他目录"
            ) from None
        os.ftruncate(number, 0)
        os.pwrite(number, str(os.getpid()).encode(), 0)
        self._number = number

    def release(self) -> None:
        """Let go."""
        if self._number is not None:
            os.close(self._number)
            self._number = None


def _try_lock(number: int) -> bool:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class StateFile:
    """The state of the platform of this process, written to the data directory whenever it changes."""

    def __init__(self, path: Path, state: PlatformState) -> None:
        """Write the first state. Raises OSError: a directory that cannot even take this is no place for a platform."""
        self._path = path
        self.state = state
        self._is_written = True
        write(path, state)

    def update(self, **changes: Any) -> None:
        """Change fields and write the file when that changed anything.

        A platform that runs does not end because its disk is full: the file is written with the next update then.
        """
        changed = replace(self.state, **changes)
        if changed == self.state and self._is_written:
            return
        self.state = changed
        try:
            write(self._path, changed)
        except OSError as error:
            if self._is_written:
                log.warning("state_not_written", path=str(self._path), reason=error.strerror)
            self._is_written = False
        else:
            self._is_written = True
