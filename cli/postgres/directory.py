"""The data directory of an embedded server: its layout, its lock, its socket, and how the server's account sees it.

    DIRECTORY/            ours: made and written by whoever runs the platform, never by the server's account
      lock                held as long as somebody runs a server here
      server.json         which process that is
      postgresql.conf pg_hba.conf local.conf
      start.log           what initdb and the server say before the server opens its own log
      cluster/            the server's: its files and, in log/, its log
      socket/             the server's: absent when the path is too long for a socket

The split is a safeguard: root writes nothing into a directory in which the server's account could plant a link.
"""

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cli.postgres.account import Account
from cli.postgres.errors import DirectoryInUseError, DirectoryUnusableError
from cli.postgres.settings import ACCESS, ACCESS_FILE, PORT, SETTINGS, SETTINGS_FILE

# sockaddr_un.sun_path holds 108 bytes on Linux and 104 on the BSDs and macOS, one of them the closing zero.
SOCKET_PATH_BYTES_MAX = 103

SOCKET_NAME = f".s.PGSQL.{PORT}"

# Characters with a meaning in PostgreSQL's list of socket directories.
SOCKET_PATH_FORBIDDEN = frozenset(",\"'\\")

# The server passes through, reads the settings and opens nothing else.
MODE_SHARED = 0o755
MODE_PRIVATE = 0o700


@dataclass(frozen=True)
class ServerRecord:
    """Which process was started as the server of a directory, and where its socket is."""

    pid: int
    identity: str
    socket_directory: str


class DataDirectory:
    """One data directory on this machine; every method may be called again."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.cluster = self.path / "cluster"
        self.unfinished_cluster = self.path / "cluster.unfinished"
        self.start_log = self.path / "start.log"
        self._record = self.path / "server.json"
        self._lock: int | None = None

    def acquire(self) -> None:
        """Create the directory where it is missing and hold it until `release`.

        Raises DirectoryUnusableError when it cannot be written, DirectoryInUseError when someone holds it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not (self.path / "lock").exists() and any(self.path.iterdir()):
                raise DirectoryUnusableError(
                    f"{self.path} holds other files: name a new or empty directory"
                    " 目录中有其他文件, 请指定新的或空的目录"
                )
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DirectoryUnusableError(f"{self.path} cannot be written: {error.strerror} 无法写入") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(lock)
            raise DirectoryInUseError(
                f"a database server runs on {self.path} already, started by process {holder} 该目录已有数据库在运行"
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        self._lock = lock

    def release(self) -> None:
        """Let others hold the directory."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def prepare(self, account: Account) -> None:
        """Write the settings and bring the permissions of our own directory in order.

        Raises DirectoryUnusableError.
        """
        try:
            self.path.chmod(MODE_SHARED if account.is_switched else MODE_PRIVATE)
            for name, text in ((SETTINGS_FILE, SETTINGS), (ACCESS_FILE, ACCESS)):
                (self.path / name).write_text(text, "utf-8")
                (self.path / name).chmod(0o644)
        except OSError as error:
            raise DirectoryUnusableError(f"{self.path} cannot be written: {error.strerror} 无法写入") from error

    def make_private(self, directory: Path, account: Account) -> None:
        """Make an empty directory of the server's account inside ours."""
        directory.mkdir(mode=MODE_PRIVATE)
        if account.is_switched:
            os.chown(directory, account.uid, account.gid)

    def choose_socket_directory(self, account: Account) -> Path:
        """Return an existing directory for the socket that only the account, and root, can enter.

        Beside the cluster when the path allows it; else in a short place, to be removed after use. Only called while
        no server runs on the directory.
        """
        beside = self.path / "socket"
        forbidden = SOCKET_PATH_FORBIDDEN.intersection(str(beside)) or not str(beside).isprintable()
        if not forbidden and _fits(beside):
            # New each time: what a killed server left in it names a process id that may be someone else's by now.
            if beside.exists():
                shutil.rmtree(beside)
            self.make_private(beside, account)
            return beside
        for base in _short_places():
            if base.is_dir() and os.access(base, os.W_OK | os.X_OK) and account.can_enter(base):
                made = Path(tempfile.mkdtemp(prefix="zhichao-", dir=base))
                if _fits(made):
                    if account.is_switched:
                        os.chown(made, account.uid, account.gid)
                    return made
                made.rmdir()
        raise DirectoryUnusableError(
            f"the path {self.path} is too long for a socket, and no short place is writable 路径过长, 请换用较短的目录"
        )

    def remove_socket_directory(self, directory: Path) -> None:
        """Remove a socket directory that was made for one run."""
        if directory != self.path / "socket":
            shutil.rmtree(directory, ignore_errors=True)

    def record(self, server: ServerRecord) -> None:
        """Remember the server process, so that the next start recognises it should it be left over."""
        partial = self._record.with_suffix(".unfinished")
        partial.write_text(json.dumps(server.__dict__), "utf-8")
        partial.replace(self._record)

    def recorded(self) -> ServerRecord | None:
        """Return the process remembered last, if there is one."""
        try:
            return ServerRecord(**json.loads(self._record.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def forget(self) -> None:
        """Forget the server process: it was stopped."""
        self._record.unlink(missing_ok=True)

    def postmaster_lines(self) -> list[str]:
        """Return the lines of the server's own `postmaster.pid`, none when it is missing."""
        with contextlib.suppress(OSError):
            return (self.cluster / "postmaster.pid").read_text("utf-8", "replace").splitlines()
        return []

    def log_tail(self, lines_max: int, since: float) -> str:
        """Return the last lines the server wrote since a time: before its log was open, then in its log."""
        texts: list[str] = []
        with contextlib.suppress(OSError):
            logs = sorted((self.cluster / "log").glob("*.log"), key=lambda path: path.stat().st_mtime)
            for path in (self.start_log, *logs[-1:]):
                if path.stat().st_mtime >= since:
                    texts += path.read_text("utf-8", "replace").splitlines()[-lines_max:]
        return "\n".join(texts[-lines_max:])


def _fits(directory: Path) -> bool:
    return len(os.fsencode(directory / SOCKET_NAME)) <= SOCKET_PATH_BYTES_MAX


def _short_places() -> list[Path]:
    # The first two are made for this and cannot be entered, or written, by others.
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return [Path(runtime) if runtime else Path("/run"), Path("/run"), Path(tempfile.gettempdir()), Path("/tmp")]  # noqa: S108 - looked at, never written to without a directory of our own
