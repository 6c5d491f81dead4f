"""Real S3 servers for tests: the one of a laptop (SeaweedFS), MinIO, and any other that ZHICHAO_TEST_S3_URL names."""

import mmap
import os
import secrets
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import pytest
from minio import Minio

from cli.object_server import ObjectServer
from cli.platform_layout import LOOPBACK, free_port
from cli.postgres import launcher
from services.video.s3_connection import S3Settings
from services.video.s3_store import S3ObjectStore
from tools import minio

# A store of somebody else: URL, files with the key and its secret, and the authority of its certificate.
URL_VARIABLE: Final = "ZHICHAO_TEST_S3_URL"
ACCESS_KEY_VARIABLE: Final = "ZHICHAO_TEST_S3_ACCESS_KEY_FILE"
SECRET_KEY_VARIABLE: Final = "ZHICHAO_TEST_S3_SECRET_KEY_FILE"
CA_VARIABLE: Final = "ZHICHAO_TEST_S3_CA_FILE"

START_SECONDS_MAX: Final = 60.0
POLL_SECONDS: Final = 0.02


def rot(data: Path, content: bytes) -> None:
    """Turn bits of an object, where a server keeps it on its disk: 32 bytes in the middle of every copy there is."""
    middle = len(content) // 2
    sought = content[middle : middle + 32]
    found = 0
    for path in sorted(path for path in data.rglob("*") if path.is_file() and path.stat().st_size > 0):
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            place = mapped.find(sought)
            while place >= 0:
                found += 1
                mapped[place : place + len(sought)] = bytes(byte ^ 0xFF for byte in sought)
                place = mapped.find(sought, place)
    assert found, "the server keeps the bytes on its disk as they are"


class Server(Protocol):
    """A running server, and how it is reached."""

    url: str
    access_key_file: Path
    secret_key_file: Path
    ca_file: Path | None
    data: Path | None
    """Where it keeps its objects, if that is on this machine."""


def settings(server: Server, **changes: Any) -> S3Settings:
    """Make settings for a server: a bucket that nobody has yet, and short time-outs. `changes` are laid over them."""
    values: dict[str, Any] = {
        "endpoint": server.url,
        "public_endpoint": server.url,
        "bucket": f"test-{secrets.token_hex(6)}",
        "access_key_file": server.access_key_file,
        "secret_key_file": server.secret_key_file,
        "ca_file": server.ca_file,
        "connect_timeout_seconds": 5.0,
        "read_timeout_seconds": 20.0,
        "retries": 2,
    }
    return S3Settings(**(values | changes))


def store(server: Server, **changes: Any) -> S3ObjectStore:
    """Make a store on a server (see `settings`)."""
    return S3ObjectStore(settings(server, **changes))


def harmful_client(server: Server) -> Minio:
    """Return a client that does to a server what nobody should."""
    keys = (server.access_key_file.read_text("ascii").strip(), server.secret_key_file.read_text("ascii").strip())
    return Minio(server.url.removeprefix("http://"), *keys, secure=False)


class GivenServer:
    """The server that the environment names."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self.url = environment[URL_VARIABLE].rstrip("/")
        self.access_key_file = Path(environment[ACCESS_KEY_VARIABLE])
        self.secret_key_file = Path(environment[SECRET_KEY_VARIABLE])
        self.ca_file = Path(environment[CA_VARIABLE]) if CA_VARIABLE in environment else None
        self.data: Path | None = None


class SeaweedServer:
    """SeaweedFS as `zhichao up` runs it, on a port of its own."""

    ca_file: Path | None = None

    def __init__(self, directory: Path, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.access_key_file = directory / "access.key"
        self.secret_key_file = directory / "secret.key"
        self.data: Path | None = directory / "server"
        self._server = ObjectServer(
            directory / "server",
            port=self.port,
            access_key_file=self.access_key_file,
            secret_key_file=self.secret_key_file,
        )

    def kill(self) -> None:
        """Kill its process; it is started again by itself."""
        assert self._server.pid is not None, "it answers"
        os.kill(self._server.pid, signal.SIGKILL)

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._server.start()

    def stop(self) -> None:
        """Stop it."""
        self._server.stop()


class MinioServer:
    """MinIO with one directory, plain or, given a directory with `public.crt` and `private.key`, with TLS."""

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        certificates: Path | None = None,
        ca_file: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.url = f"{'http' if certificates is None else 'https'}://{LOOPBACK}:{self.port}"
        self.ca_file = ca_file
        self.access_key_file = directory / "access.key"
        self.secret_key_file = directory / "secret.key"
        self.log = directory / "minio.log"
        self.data: Path | None = directory / "data"
        self._home = directory
        self._certificates = certificates or directory / "no-certificates"
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        for path in (self.access_key_file, self.secret_key_file):
            if not path.exists():
                path.write_text(f"{secrets.token_hex(10)}\n", "ascii")

    def start(self) -> None:
        """Start it and wait until it answers."""
        program = minio.program()
        assert program is not None, minio.NOT_INSTALLED
        command = [str(program), "server", "--quiet", "--address", f"{LOOPBACK}:{self.port}"]
        command += ["--console-address", f"{LOOPBACK}:{free_port()}", "--certs-dir", str(self._certificates)]
        keys = {
            "MINIO_ROOT_USER": self.access_key_file.read_text("ascii").strip(),
            "MINIO_ROOT_PASSWORD": self.secret_key_file.read_text("ascii").strip(),
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                launcher.command([*command, str(self.data)], signal_number=signal.SIGTERM),
                env={"HOME": str(self._home), "MINIO_BROWSER": "off", **keys, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self._answers():
            assert self._process.poll() is None, self.log.read_text("utf-8", "replace")
            assert time.monotonic() < deadline, self.log.read_text("utf-8", "replace")
            time.sleep(POLL_SECONDS)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop it, or kill it."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(START_SECONDS_MAX)
            self._process = None

    def _answers(self) -> bool:
        # Whether it is up, not who it is: the tests of TLS look at that.
        context = ssl._create_unverified_context()  # noqa: S323 - as above
        try:
            with urllib.request.urlopen(f"{self.url}/minio/health/ready", timeout=1.0, context=context):  # noqa: S310 - loopback
                return True
        except (urllib.error.URLError, OSError):
            return False


def need_minio() -> None:
    """Skip the test that asks, where MinIO is not installed."""
    if minio.program() is None:
        pytest.skip(minio.NOT_INSTALLED)
