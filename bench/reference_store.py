"""MinIO, the reference of evidence stores, for measurements: built by `make minio`, on loopback, with its own data."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import urllib3

from bench import harness
from cli.platform_layout import free_port
from cli.up_object_server import ACCESS_KEY_VARIABLE, ENDPOINT_VARIABLE, SECRET_KEY_VARIABLE
from tools import minio

START_SECONDS_POLL: Final = 0.2
STOP_SECONDS_MAX: Final = 10.0


@dataclass(frozen=True, slots=True)
class Store:
    """Where an evidence store is and how it is entered."""

    endpoint: str
    access_key_file: Path
    secret_key_file: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """Settings of a platform that uses it."""
        return {
            ENDPOINT_VARIABLE: self.endpoint,
            ACCESS_KEY_VARIABLE: str(self.access_key_file),
            SECRET_KEY_VARIABLE: str(self.secret_key_file),
        }


def is_installed() -> bool:
    """Say whether the server was built here."""
    return minio.program() is not None


@contextmanager
def running(directory: Path) -> Iterator[Store]:
    """Run the server."""
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "tools/minio.py", "start", "--address", address, "--data", str(directory)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=minio.ROOT) as process:
        try:
            endpoint = f"http://{address}"
            harness.wait_until(lambda: _answers(endpoint), "MinIO", START_SECONDS_POLL)
            yield Store(endpoint, directory / "access.key", directory / "secret.key")
        finally:
            process.terminate()
            process.wait(STOP_SECONDS_MAX)


def _answers(endpoint: str) -> bool:
    try:
        return bool(urllib3.request("GET", f"{endpoint}/minio/health/ready", timeout=1.0, retries=False).status == 200)
    except urllib3.exceptions.HTTPError:
        return False
