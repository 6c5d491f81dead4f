"""Run a whole platform as a child process: what `zhichao run`, the system tests and the measurements start from."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

from cli import platform_state
from cli.platform_layout import SERVICES
from cli.platform_state import PlatformState
from cli.postgres import processes

if TYPE_CHECKING:
    import grpc

# A start takes about three seconds; a busy machine with several platforms takes longer.
START_SECONDS_MAX = 120.0
# `up` gives services 30 seconds by default, PostgreSQL 30, and then stops by force.
STOP_SECONDS_MAX = 75.0
# What follows a kill is the kernel's work, and PostgreSQL's shutdown.
GONE_SECONDS_MAX = 40.0

POLL_SECONDS = 0.02
LOG_TAIL_LINES = 40


class PlatformProcessError(Exception):
    """The platform did not start or did not do what was waited for; the text carries the end of its log."""


class PlatformProcess:
    """One `zhichao up` in a session of its own, from `start` to `stop`; a context manager that does both.

    It also stops when this process ends, however that ends. May be started again on the same data after it has ended.
    `base_port` 0 takes free ports at the first start and keeps them, so that others may go on knowing the address.
    """

    def __init__(
        self,
        platform: str,
        data_directory: Path,
        *,
        upstream: str = "",
        base_port: int = 0,
        is_split: bool = False,
        tls_directory: Path | None = None,
        services: Sequence[str] = tuple(SERVICES),
        log_format: str = "console",
        log_file: Path | None = None,
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        command: Sequence[str] = (sys.executable, "-P", "-m", "cli.main"),
    ) -> None:
        self.platform = platform
        self.data_directory = data_directory.absolute()
        self.upstream = upstream
        self.base_port = base_port
        self.is_split = is_split
        self.tls_directory = tls_directory
        self.log_file = (log_file or self.data_directory / "up.log").absolute()
        self._services = tuple(services)
        self._log_format = log_format
        self._environment = {**os.environ, **(environment or {})}
        self._arguments = tuple(arguments)
        self._command = tuple(command)
        self._ready_file = self.data_directory / "ready.json"
        self._process: subprocess.Popen[bytes] | None = None
        self._log_offset = 0

    # Start

    def start(self, timeout_seconds: float = START_SECONDS_MAX) -> Self:
        """Start and wait until every service serves. Raises PlatformProcessError; nothing keeps running then."""
        self.launch()
        try:
            self.wait_until_serving(timeout_seconds)
        except BaseException:
            self.kill_everything()
            raise
        return self

    def launch(self) -> None:
        """Start without waiting; `wait_until_serving` waits. Several platforms start faster side by side."""
        if self.is_running:
            raise RuntimeError(f"platform {self.platform} runs already")
        self.data_directory.mkdir(parents=True, exist_ok=True)
        self._ready_file.unlink(missing_ok=True)
        root = Path(__file__).resolve().parent.parent
        path = [str(root), str(root / "gen"), *filter(None, [self._environment.get("PYTHONPATH")])]
        with self.log_file.open("ab") as log:
            self._log_offset = log.tell()
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [*self._command, *self._up_arguments()],
                # Held open as long as this process lives: its end, also by SIGKILL, closes it.
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**self._environment, "PYTHONPATH": os.pathsep.join(path)},
                start_new_session=True,
            )

    def wait_until_serving(self, timeout_seconds: float = START_SECONDS_MAX) -> None:
        """Wait until every service serves. Raises PlatformProcessError when it ends first, or the time is over."""
        deadline = time.monotonic() + timeout_seconds
        while not self._ready_file.exists():
            if not self.is_running:
                raise self._failure(f"ended with status {self._running.poll()} while it started")
            if time.monotonic() > deadline:
                raise self._failure(f"did not serve within {timeout_seconds:.0f} s")
            time.sleep(POLL_SECONDS)
        self.base_port = self.state.base_port

    # What is known

    @property
    def is_running(self) -> bool:
        """Whether the `up` process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The `up` process."""
        return self._running.pid

    @property
    def state(self) -> PlatformState:
        """The state the platform wrote last: process ids change when a service is restarted."""
        state = platform_state.read(self.data_directory)
        if state is None:
            raise self._failure("has not written its state")
        return state

    @property
    def addresses(self) -> Mapping[str, str]:
        """Where the services are reached, by name."""
        return self.state.addresses

    @property
    def peer_address(self) -> str:
        """Where relays of lower platforms dial in; empty without certificates."""
        return self.state.peer_address

    def connect(self, service: str, person: str = "operator") -> "grpc.Channel":
        """Open a channel to a service as one of the people of the machine. The caller closes it."""
        from cli.access import CallerOptions, caller_access, open_channel
        from cli.status_targets import tls_of

        state = self.state
        access = caller_access(CallerOptions(tls=tls_of(state)), self.data_directory, (person,))
        return open_channel(state.addresses[service], access)

    @property
    def health_addresses(self) -> Mapping[str, str]:
        """The health checks of the services, by name."""
        return self.state.health_addresses

    def address(self, service: str) -> str:
        """Return where one service is reached."""
        return self.state.addresses[service]

    def database_url(self, service: str) -> str:
        """Return the URL of a service's database in the embedded server."""
        return self.state.database_urls[service]

    def service_pid(self, service: str) -> int:
        """Return the process a service runs in, 0 while it waits to be restarted."""
        return self.state.processes[service].pid

    @property
    def postgres_pid(self) -> int | None:
        """The embedded server, None while it restarts or when another one is used."""
        return self.state.postgres_pid

    @property
    def object_server_pid(self) -> int | None:
        """The platform's own S3 server, None while it restarts or when another store is used."""
        return self.state.object_server_pid

    def log_text(self) -> str:
        """Return what the platform logged since it was started last."""
        with self.log_file.open("rb") as log:
            log.seek(self._log_offset)
            return log.read().decode("utf-8", "replace")

    def log_tail(self, lines_max: int = LOG_TAIL_LINES) -> str:
        """Return the last lines it logged."""
        try:
            return "\n".join(self.log_text().splitlines()[-lines_max:])
        except OSError:
            return ""

    # Stop, and worse

    def terminate(self, timeout_seconds: float = STOP_SECONDS_MAX) -> int:
        """Ask for an orderly stop, wait for it, and return the exit status. Raises PlatformProcessError when late."""
        process = self._running
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            raise self._failure(f"did not stop within {timeout_seconds:.0f} s") from None
        finally:
            self._close_input()
        return status

    def stop(self) -> None:
        """Stop in order if it runs, by force if that fails; for clean-up."""
        if self._process is None:
            return
        try:
            self.terminate()
        except PlatformProcessError:
            self.kill_everything()
            raise

    def kill(self) -> None:
        """Kill the `up` process and wait until what it ran has stopped by itself, as it does after such an end."""
        before = self._everything()
        self._running.kill()
        self._running.wait()
        self._close_input()
        self._wait_gone(before)

    def kill_everything(self) -> None:
        """Kill every process of the platform at once, none of which can finish anything: a power cut."""
        if self._process is None:
            return
        if self._process.poll() is None:
            # Stopped first, so that it restarts nothing; last to be killed, so that nobody is told of its end.
            self._process.send_signal(signal.SIGSTOP)
        everything = self._everything()
        for pid in everything:
            with contextlib.suppress(ProcessLookupError):
                # Each leads a session: whatever it started goes with it.
                os.killpg(pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self._close_input()
        self._wait_gone(everything)

    def kill_service(self, service: str) -> int:
        """Kill the process of one service, with all others in it unless split; return its id."""
        pid = self.service_pid(service)
        os.kill(pid, signal.SIGKILL)
        return pid

    def kill_postgres(self) -> int:
        """Kill the main process of the embedded server; return its id."""
        pid = self.postgres_pid
        if pid is None:
            raise self._failure("runs no embedded database server now")
        os.kill(pid, signal.SIGKILL)
        return pid

    def pause_service(self, service: str) -> int:
        """Suspend the process of one service, as if it hung; `os.kill(pid, SIGCONT)` lets it go on. Return its id."""
        pid = self.service_pid(service)
        os.kill(pid, signal.SIGSTOP)
        return pid

    def wait_restarted(self, service: str, former_pid: int, timeout_seconds: float = START_SECONDS_MAX) -> int:
        """Wait until a service runs and serves in another process than the former one; return its id."""
        from cli.up_health import HealthChecks

        with HealthChecks({service: self.health_addresses[service]}) as checks:
            self._wait(
                lambda: self.service_pid(service) not in (0, former_pid) and not checks.not_serving(),
                f"did not restart {service}",
                timeout_seconds,
            )
        return self.service_pid(service)

    def wait_postgres_restarted(self, former_pid: int, timeout_seconds: float = START_SECONDS_MAX) -> int:
        """Wait until the embedded server runs in another process than the former one; return its id."""
        self._wait(lambda: self.postgres_pid not in (None, former_pid), "did not restart its database", timeout_seconds)
        return self.postgres_pid or 0

    def __enter__(self) -> Self:
        """Start, unless it was started already."""
        return self if self.is_running else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"platform {self.platform} was not started")
        return self._process

    def _up_arguments(self) -> list[str]:
        arguments = ["up", "--platform", self.platform, "--data", str(self.data_directory)]
        arguments += ["--port", str(self.base_port), "--services", ",".join(self._services)]
        arguments += ["--log-format", self._log_format, "--ready-file", str(self._ready_file), "--stop-with-input"]
        # Also when empty: a variable of ours must not give a stand-alone platform an upstream.
        arguments += ["--upstream", self.upstream]
        if self.tls_directory is not None:
            arguments += ["--tls", str(self.tls_directory)]
        return [*arguments, *(["--split"] if self.is_split else []), *self._arguments]

    def _everything(self) -> dict[int, str]:
        """Return the processes of the platform below `up`, by id, with what makes them recognisable."""
        try:
            state = platform_state.read(self.data_directory)
        except (OSError, ValueError):
            return {}
        if state is None or state.pid != self._running.pid:
            # Ended before it wrote anything; what is there is from an earlier run.
            return {}
        found = {process.pid: process.identity for process in state.processes.values() if process.pid}
        if state.postgres_pid is not None:
            found[state.postgres_pid] = processes.identity(state.postgres_pid) or ""
        if state.object_server_pid is not None:
            found[state.object_server_pid] = processes.identity(state.object_server_pid) or ""
        return {pid: identity for pid, identity in found.items() if processes.identity(pid) == identity}

    def _wait_gone(self, everything: Mapping[int, str]) -> None:
        self._wait(
            lambda: all(processes.identity(pid) != identity for pid, identity in everything.items()),
            "left processes running",
            GONE_SECONDS_MAX,
        )

    def _wait(self, is_so: Callable[[], bool], otherwise: str, timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        while not is_so():
            if time.monotonic() > deadline:
                raise self._failure(f"{otherwise} within {timeout_seconds:.0f} s")
            time.sleep(POLL_SECONDS)

    def _close_input(self) -> None:
        stream: IO[bytes] | None = self._running.stdin
        if stream is not None:
            stream.close()

    def _failure(self, what: str) -> PlatformProcessError:
        return PlatformProcessError(f"platform {self.platform} {what}; the end of {self.log_file}:\n{self.log_tail()}")
