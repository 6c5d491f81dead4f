"""One own S3 server: started on loopback, watched and restarted while wanted, stopped in order.

A thread owns the server process from its start to its end. It has to: the kernel ties the signal that stops the
server when the platform is killed to the thread that started it (see `cli.postgres.server`).
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import structlog

from cli.object_server.errors import ObjectServerError
from cli.object_server.files import ServerFiles, ServerRecord, find_program, make_key_files, remove_sockets
from cli.platform_layout import LOOPBACK, is_free, join
from cli.postgres import launcher, processes

log = structlog.get_logger()

# A start takes a second; after a crash the server reads its indexes first, and a busy machine takes longer.
START_SECONDS_MAX: Final = 120.0
READY_POLL_SECONDS: Final = 0.05
ANSWER_SECONDS_MAX: Final = 2.0

# It stops within two seconds, but for one that was just started, which waits for its own parts and would go on to.
STOP_SECONDS_MAX: Final = 5.0
KILL_SECONDS_MAX: Final = 5.0

RESTART_SECONDS_MIN: Final = 0.25
RESTART_SECONDS_MAX: Final = 30.0
# A server that ran this long did not fail at its start: the next failure counts as the first.
HEALTHY_SECONDS: Final = 60.0

# Its parts besides S3 take ports that nobody has to know: not those of platforms (`platform_layout`), and below those
# that Linux gives to outgoing connections.
INNER_PORTS: Final = range(12_000, 20_000)
# Names of the server's options, each for one port.
INNER_PORT_OPTIONS: Final = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port.grpc",
    "admin.port",
    "admin.port.grpc",
)
# Where the port of the part that knows where there is room stands among them.
MASTER: Final = INNER_PORT_OPTIONS.index("master.port")

# Somebody may take a port between the look and the start.
START_ATTEMPTS: Final = 3


class ObjectServer:
    """A private S3 server on a data directory, with one access key whose files are made when they are missing."""

    def __init__(self, directory: Path, *, port: int, access_key_file: Path, secret_key_file: Path) -> None:
        self._files = ServerFiles(directory)
        self._key_files = (access_key_file, secret_key_file)
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        # Guards the decision to start a process against the decision to stop.
        self._changing = threading.Lock()
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._settled = threading.Event()
        self._first_failure: ObjectServerError | None = None

    @property
    def endpoint(self) -> str:
        """Where S3 is spoken."""
        return f"http://{join(LOOPBACK, self._port)}"

    @property
    def log_file(self) -> Path:
        """What the server writes."""
        return self._files.log

    @property
    def pid(self) -> int | None:
        """The server's process while it answers, else None."""
        process = self._process
        return process.pid if process is not None and self._ready.is_set() else None

    def start(self) -> None:
        """Start the server and return when it answers; from now on it is restarted whenever it dies, until `stop`.

        A server left over from a platform that was killed is stopped first. Raises ObjectServerError; nothing keeps
        running then.
        """
        if self._thread is not None:
            raise RuntimeError("the server was started already")
        for event in (self._stopping, self._settled, self._ready):
            event.clear()
        self._first_failure = None
        access_key, secret_key = make_key_files(*self._key_files)
        self._files.prepare(access_key, secret_key)
        _stop_left_over(self._files)
        self._thread = threading.Thread(target=self._supervise, name="object-server", daemon=True)
        self._thread.start()
        try:
            self._settled.wait()
            if self._first_failure is not None:
                raise self._first_failure
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server, after a deadline by force. May be called at any time and again."""
        with self._changing:
            self._stopping.set()
        if self._thread is None:
            return
        for number, seconds_max in ((signal.SIGTERM, STOP_SECONDS_MAX), (signal.SIGKILL, None)):
            if self._process is not None:
                self._process.send_signal(number)
            self._thread.join(seconds_max)
            if not self._thread.is_alive():
                break
            log.warning("object_server_stop_slow", signal=number.name, seconds=seconds_max)
        self._thread = None
        self._files.forget()
        log.info("object_server_stopped", directory=str(self._files.directory))

    def __enter__(self) -> Self:
        """Start the server."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server."""
        self.stop()

    # Only the supervising thread calls these

    def _supervise(self) -> None:
        delay = RESTART_SECONDS_MIN
        attempts_left = START_ATTEMPTS
        while not self._stopping.is_set():
            begin = time.monotonic()
            failure = self._run_once()
            self._ready.clear()
            if self._stopping.is_set():
                self._first_failure = failure
                self._settled.set()
                return
            attempts_left -= 1
            if not self._settled.is_set() and attempts_left == 0:
                self._first_failure = failure
                self._settled.set()
                return
            if time.monotonic() - begin >= HEALTHY_SECONDS:
                delay = RESTART_SECONDS_MIN
            log.error("object_server_died", reason=str(failure), restart_seconds=delay)
            self._stopping.wait(delay)
            delay = min(2 * delay, RESTART_SECONDS_MAX)

    def _run_once(self) -> ObjectServerError:
        """Run the server until it ends, and say why it did."""
        try:
            program = find_program()
            inner_ports = self._inner_ports()
            with self._changing, self._files.log.open("ab") as output:
                if self._stopping.is_set():
                    return ObjectServerError("the S3 server was stopped while it started 启动过程中被停止")
                logged_before = output.tell()
                process = self._process = subprocess.Popen(  # noqa: S603 - a program found at start, no shell
                    launcher.command(self._command(program, inner_ports), signal_number=signal.SIGTERM),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=self._files.data,
                    env=_environment(),
                    # Ctrl-C in the terminal reaches the platform only, which decides about the order.
                    start_new_session=True,
                )
            ports = (self._port, *inner_ports)
            self._files.record(ServerRecord(process.pid, processes.identity(process.pid) or "", ports))
        except OSError as error:
            return ObjectServerError(f"the S3 server could not be started: {error} 无法启动")
        except ObjectServerError as error:
            return error
        deadline = time.monotonic() + START_SECONDS_MAX
        is_late = False
        while process.poll() is None and not self._ready.is_set() and not is_late and not self._stopping.is_set():
            if _is_ready(self.endpoint, inner_ports[MASTER]):
                log.info("object_server_ready", endpoint=self.endpoint, pid=process.pid)
                self._ready.set()
                self._settled.set()
            elif time.monotonic() > deadline:
                is_late = True
                process.kill()
            else:
                self._stopping.wait(READY_POLL_SECONDS)
        code = process.wait()
        remove_sockets(ports)
        ended = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        if is_late:
            ended = f"no answer within {START_SECONDS_MAX:.0f} s"
        return ObjectServerError(
            f"the S3 server at {self.endpoint} ended ({ended}) S3 服务已退出; "
            f"the end of 日志末尾 {self._files.log}:\n"
            f"{self._files.log_tail(logged_before)}"
        )

    def _inner_ports(self) -> tuple[int, ...]:
        # The same again while nobody else has them: the server keeps a directory for each port it ever had.
        ports = self._files.remembered_ports()
        if len(ports) != len(INNER_PORT_OPTIONS) or not all(is_free(LOOPBACK, port) for port in ports):
            ports = _find_ports(len(INNER_PORT_OPTIONS))
            self._files.remember_ports(ports)
        return ports

    def _command(self, program: str, inner_ports: tuple[int, ...]) -> list[str]:
        ports = dict(zip(INNER_PORT_OPTIONS, inner_ports, strict=True))
        return [
            *(program, "-logtostderr=true", f"-config_dir={self._files.configuration}", "mini"),
            *(f"-dir={self._files.data}", f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}"),
            *(f"-s3.port={self._port}", *(f"-{name}={port}" for name, port in ports.items())),
            f"-s3.config={self._files.identities}",
            # Nothing but S3, and nothing that leaves the machine.
            *("-webdav=false", "-admin.ui=false", "-master.telemetry=false", "-s3.iam=false"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0"),
            # A bucket that is gone is an error, and one with objects stays.
            *("-s3.autoCreateBucket=false", "-s3.allowDeleteBucketNotEmpty=false"),
        ]


def _environment() -> dict[str, str]:
    # Without settings of ours, and without those that the server reads from names of its own or of AWS.
    passed = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")
    return {name: os.environ[name] for name in passed if name in os.environ}


def _find_ports(count: int) -> tuple[int, ...]:
    """Find free ports on loopback; ObjectServerError when there are too few."""
    found: list[int] = []
    # SystemRandom: two platforms that start together try different ones.
    for port in random.SystemRandom().sample(INNER_PORTS, k=len(INNER_PORTS)):
        if is_free(LOOPBACK, port):
            found.append(port)
            if len(found) == count:
                return tuple(found)
    raise ObjectServerError(f"too few free ports in {INNER_PORTS.start}-{INNER_PORTS.stop} 没有足够的空闲端口")


def _is_ready(endpoint: str, master_port: int) -> bool:
    """Tell whether it takes and gives bytes: S3 may answer some seconds before the part with the bytes has reported."""
    # Straight to loopback, whatever proxy the environment names.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{endpoint}/healthz", timeout=ANSWER_SECONDS_MAX):
            pass
        with opener.open(f"http://{LOOPBACK}:{master_port}/dir/status", timeout=ANSWER_SECONDS_MAX) as answer:
            topology = json.load(answer)["Topology"]
    except (urllib.error.URLError, OSError, ValueError, KeyError, TypeError):
        return False
    return any(rack["DataNodes"] for center in topology["DataCenters"] or () for rack in center["Racks"] or ())


def _stop_left_over(files: ServerFiles) -> None:
    """End a server that outlived its platform; the holder of the platform's directory calls it."""
    record = files.recorded()
    if record is None:
        return
    for number, seconds_max in ((signal.SIGTERM, STOP_SECONDS_MAX), (signal.SIGKILL, KILL_SECONDS_MAX)):
        if processes.identity(record.pid) != record.identity:
            break
        log.warning("object_server_left_over", pid=record.pid, signal=number.name)
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, number)
        deadline = time.monotonic() + seconds_max
        while processes.identity(record.pid) == record.identity and time.monotonic() < deadline:
            time.sleep(READY_POLL_SECONDS)
    remove_sockets(record.ports)
    files.forget()
