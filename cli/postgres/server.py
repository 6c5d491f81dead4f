"""One embedded server: made when its directory is new, watched and restarted while wanted, stopped in order.

A thread owns the server process from its start to its end. It has to: the kernel ties the signal that stops the
server when the platform is killed to the thread that started it.
"""

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import quote

import structlog

from cli.postgres import launcher, processes
from cli.postgres.account import Account, choose
from cli.postgres.binaries import Binaries, find
from cli.postgres.directory import DataDirectory, ServerRecord
from cli.postgres.errors import (
    DirectoryUnusableError,
    PostgresError,
    StartFailedError,
    VersionMismatchError,
)
from cli.postgres.left_over import STOP_FAST_SECONDS_MAX, STOP_IMMEDIATE_SECONDS_MAX, stop_left_over
from cli.postgres.settings import ACCESS_FILE, PORT, SETTINGS_FILE

log = structlog.get_logger()

SUPERUSER = "postgres"

# A fresh start takes under a second; after a crash the server first replays up to max_wal_size of its log, which a slow
# disk needs minutes for.
START_SECONDS_MAX = 600.0
# initdb writes 40 MB and takes under a second on any disk that is fit for a database.
INITDB_SECONDS_MAX = 120.0
QUERY_SECONDS_MAX = 60.0

# How often the server's own file is looked at while it starts: short against a start, long against a look.
READY_POLL_SECONDS = 0.02

# The first new attempt comes soon, because a crash closes every connection; later ones leave the disk in peace.
RESTART_SECONDS_MIN = 0.25
RESTART_SECONDS_MAX = 30.0
# A server that ran this long did not fail at its start: the next failure counts as the first.
HEALTHY_SECONDS = 60.0

# What the server says while processes of a killed predecessor still run, and how long they may: a long statement ends
# only when it looks up.
SHARED_MEMORY_IN_USE = "pre-existing shared memory block"
RELEASE_SECONDS_MAX = 60.0

LOG_TAIL_LINES = 15

DATABASE_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")


class EmbeddedPostgres:
    """A private PostgreSQL server on a data directory, with the named databases in it.

    `binaries` and `account` name a directory of programs and an operating system account to use instead of the
    default ones; only root can run the server under another account than its own.
    """

    def __init__(
        self,
        data_directory: Path,
        *,
        databases: Sequence[str] = (),
        binaries: Path | None = None,
        account: str | None = None,
    ) -> None:
        for name in databases:
            if DATABASE_NAME.fullmatch(name) is None:
                raise ValueError(f"not a name for a database: {name!r}")
        self._directory = DataDirectory(data_directory)
        self._databases = tuple(databases)
        self._requested_binaries = binaries
        self._requested_account = account
        self._account: Account | None = None
        self._binaries: Binaries | None = None
        self._socket_directory: Path | None = None
        self._files_number: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        # Guards the decision to start a process against the decision to stop.
        self._changing = threading.Lock()
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._settled = threading.Event()
        self._first_failure: PostgresError | None = None
        self._restart_count = 0

    @property
    def data_directory(self) -> Path:
        """The directory the server lives in."""
        return self._directory.path

    @property
    def socket_directory(self) -> Path:
        """The directory of the server's socket; the same from `start` to `stop`, also when the server restarts."""
        if self._socket_directory is None:
            raise RuntimeError("the server was not started")
        return self._socket_directory

    @property
    def pid(self) -> int | None:
        """The server's main process while it accepts connections, else None."""
        process = self._process
        return process.pid if process is not None and self._ready.is_set() else None

    @property
    def account(self) -> str | None:
        """The name of the account the server runs under, once chosen."""
        return self._account.name if self._account else None

    @property
    def restart_count(self) -> int:
        """How often the server had to be started again since `start`."""
        return self._restart_count

    def url(self, database: str) -> str:
        """Return the connection URL of a database, in the form libpq, psycopg and SQLAlchemy understand."""
        return f"postgresql://{SUPERUSER}@/{database}?host={quote(str(self.socket_directory), safe='/')}&port={PORT}"

    def start(self) -> None:
        """Start the server and make missing databases; return when it accepts connections.

        From now on it is restarted whenever it dies, until `stop`. A server left over from a platform that was
        killed is stopped first. Raises a PostgresError that says what to do; nothing keeps running then.
        """
        if self._thread is not None:
            raise RuntimeError("the server was started already")
        self._directory.acquire()
        # A server that was stopped may be started again, for instance to take up changed settings.
        for event in (self._stopping, self._settled, self._ready):
            event.clear()
        self._first_failure = None
        try:
            self._prepare()
            self._thread = threading.Thread(target=self._supervise, name="postgres", daemon=True)
            self._thread.start()
            self._settled.wait()
            if self._first_failure is not None:
                raise self._first_failure
            self._make_databases()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server: fast, after a deadline immediately. May be called at any time and again."""
        with self._changing:
            self._stopping.set()
        if self._thread is not None:
            for number, seconds_max in (
                (signal.SIGINT, STOP_FAST_SECONDS_MAX),
                (signal.SIGQUIT, STOP_IMMEDIATE_SECONDS_MAX),
                (signal.SIGKILL, None),
            ):
                if self._process is not None:
                    self._process.send_signal(number)
                self._thread.join(seconds_max)
                if not self._thread.is_alive():
                    break
                log.warning("postgres_stop_slow", signal=signal.Signals(number).name, seconds=seconds_max)
            self._thread = None
            self._directory.forget()
            log.info("postgres_stopped", directory=str(self.data_directory))
        if self._socket_directory is not None:
            self._directory.remove_socket_directory(self._socket_directory)
        if self._files_number is not None:
            os.close(self._files_number)
            self._files_number = None
        self._directory.release()

    def query(self, sql: str, *, database: str = SUPERUSER) -> str:
        """Run statements through `psql` and return what it prints, one row a line without decoration.

        For set-up and inspection. Raises StartFailedError when a statement fails or the server is away.
        """
        assert self._binaries is not None, "started"  # noqa: S101 - narrows the type
        command = [self._binaries.program("psql"), "--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]
        command += ["--set=ON_ERROR_STOP=1", f"--dbname={self.url(database)}"]
        finished = subprocess.run(  # noqa: S603 - a program found at start, no shell
            command,
            input=sql,
            env=_environment(),
            cwd="/",
            capture_output=True,
            encoding="utf-8",
            timeout=QUERY_SECONDS_MAX,
            check=False,
        )
        if finished.returncode != 0:
            raise StartFailedError(f"the server refused a statement: {finished.stderr.strip()} 数据库拒绝了语句")
        return finished.stdout.strip()

    def __enter__(self) -> Self:
        """Start the server."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server."""
        self.stop()

    # Before the server runs

    def _prepare(self) -> None:
        directory = self._directory
        try:
            self._account = choose(directory.cluster, self._requested_account)
            self._binaries = find(self._requested_binaries, self._account)
            self._check_version()
            stop_left_over(directory)
            directory.prepare(self._account)
            if not self._account.can_enter(directory.path):
                # Lies below someone's private directory. The server enters through this open descriptor instead:
                # no file moves elsewhere, and no permission of a directory that is not ours changes.
                if not processes.PROC.joinpath("self", "fd").is_dir():
                    raise DirectoryUnusableError(
                        f"the account {self._account.name} cannot reach {directory.path} 该账户无法访问此目录"
                    )
                self._files_number = os.open(directory.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if not directory.cluster.exists():
                self._make_cluster(self._account, self._binaries)
            self._socket_directory = directory.choose_socket_directory(self._account)
        except OSError as error:
            raise DirectoryUnusableError(f"{directory.path} cannot be used: {error} 无法使用该目录") from error

    def _check_version(self) -> None:
        assert self._binaries is not None, "found"  # noqa: S101 - narrows the type
        if not self._directory.cluster.exists():
            return
        try:
            found = (self._directory.cluster / "PG_VERSION").read_text("ascii", "replace").strip()
        except FileNotFoundError:
            raise DirectoryUnusableError(
                f"{self._directory.cluster} is not a PostgreSQL cluster 不是 PostgreSQL 数据目录"
            ) from None
        if found != str(self._binaries.major_version):
            raise VersionMismatchError(
                f"{self._directory.path} was made by PostgreSQL {found}, the programs here are PostgreSQL "
                f"{self._binaries.major_version} ({self._binaries.directory}): name programs of version {found}, or "
                "move the databases with pg_dump"
                " PostgreSQL 主版本不一致, 请指定相同版本的程序, 或用 pg_dump 迁移"
            )

    def _make_cluster(self, account: Account, binaries: Binaries) -> None:
        """Run initdb beside the final place and rename, so that a half-made cluster is never taken for one."""
        directory = self._directory
        shutil.rmtree(directory.unfinished_cluster, ignore_errors=True)
        directory.make_private(directory.unfinished_cluster, account)
        command = [
            *(binaries.program("initdb"), f"--pgdata={self._seen(directory.unfinished_cluster)}"),
            *(f"--username={SUPERUSER}", "--auth=trust", "--locale=C", "--encoding=UTF8", "--no-instructions"),
        ]
        begin = time.time()
        with directory.start_log.open("wb") as start_log:
            # The launcher, though nothing but the change of account is needed here: one way to run as that account.
            process = self._launch(command, start_log)
            try:
                code = process.wait(INITDB_SECONDS_MAX)
            except BaseException:
                process.kill()
                process.wait()
                raise
        if code != 0:
            raise StartFailedError(self._explain("initdb could not make a database cluster", begin))
        directory.unfinished_cluster.rename(directory.cluster)
        log.info("postgres_cluster_created", directory=str(directory.path), account=account.name)

    # While the server runs: only the supervising thread calls these

    def _supervise(self) -> None:
        delay = RESTART_SECONDS_MIN
        first_begin = time.monotonic()
        while not self._stopping.is_set():
            begin = time.monotonic()
            failure = self._run_once()
            self._ready.clear()
            if not self._settled.is_set():
                is_held = SHARED_MEMORY_IN_USE in str(failure)
                if is_held and time.monotonic() - first_begin < RELEASE_SECONDS_MAX and not self._stopping.is_set():
                    # Processes of a server that was killed notice that by themselves, within moments.
                    self._stopping.wait(delay)
                    continue
                self._first_failure = failure
                self._settled.set()
                return
            if self._stopping.is_set():
                return
            if time.monotonic() - begin >= HEALTHY_SECONDS:
                delay = RESTART_SECONDS_MIN
            log.error("postgres_died", reason=str(failure), restart_seconds=delay)
            self._stopping.wait(delay)
            delay = min(2 * delay, RESTART_SECONDS_MAX)
            self._restart_count += 1

    def _run_once(self) -> PostgresError:
        """Run the server until it ends, and say why it did."""
        begin = time.time()
        try:
            with self._changing, self._directory.start_log.open("wb") as start_log:
                if self._stopping.is_set():
                    return StartFailedError("the server was stopped while it started 数据库在启动过程中被停止")
                process = self._process = self._launch(self._server_command(), start_log)
            identity = processes.identity(process.pid)
            self._directory.record(ServerRecord(process.pid, identity or "", str(self.socket_directory)))
        except OSError as error:
            return StartFailedError(f"the server could not be started: {error} 数据库无法启动")
        deadline = time.monotonic() + START_SECONDS_MAX
        while process.poll() is None and not self._is_accepting(process.pid):
            if time.monotonic() > deadline:
                process.send_signal(signal.SIGQUIT)
                break
            time.sleep(READY_POLL_SECONDS)
        else:
            if process.returncode is None:
                self._ready.set()
                self._settled.set()
                log.info("postgres_started", pid=process.pid, socket_directory=str(self.socket_directory))
        code = process.wait()
        self._process = None
        ended = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        message = f"the database server {ended}"
        # What it logged while it ran well explains nothing about its end, and is in its log.
        return StartFailedError(message if self._ready.is_set() else self._explain(message, begin))

    def _is_accepting(self, pid: int) -> bool:
        # What pg_ctl looks at: the eighth line of postmaster.pid tells the state, the first one whose state it is.
        lines = self._directory.postmaster_lines()
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def _server_command(self) -> list[str]:
        assert self._binaries is not None, "found"  # noqa: S101 - narrows the type
        directory = self._directory
        values: Mapping[str, str] = {
            "config_file": self._seen(directory.path / SETTINGS_FILE),
            "hba_file": self._seen(directory.path / ACCESS_FILE),
            "unix_socket_directories": self._seen(self.socket_directory),
        }
        options = [part for name, value in values.items() for part in ("-c", f"{name}={value}")]
        return [self._binaries.program("postgres"), "-D", self._seen(directory.cluster), *options]

    # Both

    def _seen(self, path: Path) -> str:
        """Return the path as the server's account can reach it."""
        if self._files_number is None or not path.is_relative_to(self._directory.path):
            return str(path)
        return f"/proc/self/fd/{self._files_number}/{path.relative_to(self._directory.path)}"

    def _launch(self, command: list[str], start_log: IO[bytes]) -> subprocess.Popen[bytes]:
        account = self._account
        assert account is not None, "chosen"  # noqa: S101 - narrows the type
        switch = (account.uid, account.gid) if account.is_switched else None
        return subprocess.Popen(  # noqa: S603 - programs found at start, no shell
            # A fast shutdown: clean, and quicker than the recovery after an immediate one.
            launcher.command(command, signal_number=signal.SIGINT, account=switch),
            stdin=subprocess.DEVNULL,
            stdout=start_log,
            stderr=start_log,
            # Ctrl-C in the terminal reaches the platform only, which lets the services finish first.
            start_new_session=True,
            pass_fds=() if self._files_number is None else (self._files_number,),
            env=_environment(),
            cwd="/",
        )

    def _make_databases(self) -> None:
        names = ", ".join(f"'{name}'" for name in self._databases)
        if names:
            self.query(
                f"SELECT format('CREATE DATABASE %I', name) FROM unnest(ARRAY[{names}]) AS name "  # noqa: S608 - checked
                "WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = name) \\gexec"
            )

    def _explain(self, what: str, since: float) -> str:
        tail = self._directory.log_tail(LOG_TAIL_LINES, since)
        if "No space left on device" in tail:
            what = f"{what}: the disk of {self.data_directory} is full"
        return f"{what}\n{tail}" if tail else what


def _environment() -> dict[str, str]:
    """Make the environment of the programs: nothing of PostgreSQL's own variables, messages in English."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}
