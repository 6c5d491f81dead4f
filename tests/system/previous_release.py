"""The release before this one, as it was published: its files, and platforms that run it."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from cli.platform_layout import LOOPBACK, reserve_any
from tests.system.waiting import wait_until

ROOT: Final = Path(__file__).resolve().parents[2]
RELEASE: Final[dict[str, str]] = json.loads((Path(__file__).parent / "previous_release.json").read_text("utf-8"))
"""Version and commit. The commit is written down, because a clone has the history more often than the tags."""

GIT_SECONDS: Final = 60.0
START_SECONDS: Final = 120.0
STOP_SECONDS: Final = 75.0


def why_not_there() -> str:
    """Return why the release cannot be taken from this checkout; empty when it can."""
    found = subprocess.run(
        ["git", "-C", str(ROOT), "cat-file", "-e", f"{RELEASE['commit']}^{{commit}}"],
        capture_output=True,
        timeout=GIT_SECONDS,
        check=False,
    )
    if found.returncode == 0:
        return ""
    return (
        f"release {RELEASE['version']} (commit {RELEASE['commit']}) is not in this checkout: fetch the whole history "
        "(git fetch --unshallow --tags)"
    )


def unpack(directory: Path) -> Path:
    """Write the files of the release below a directory and return their root."""
    packed = subprocess.run(
        ["git", "-C", str(ROOT), "archive", RELEASE["commit"]], capture_output=True, timeout=GIT_SECONDS, check=True
    )
    root = directory / f"zhichao-{RELEASE['version']}"
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as files:
        files.extractall(root, filter="data")
    return root


class OldPlatform:
    """A platform of the previous release from `start` to `stop`; a context manager that does both."""

    def __init__(self, root: Path, platform: str, data_directory: Path, *, upstream: str = "") -> None:
        self.platform = platform
        self.data_directory = data_directory
        self.log_file = data_directory.with_name(f"{data_directory.name}-old.log")
        self.base_port, self._reservation = reserve_any(LOOPBACK)
        self._root = root
        self._upstream = upstream
        self._ready_file = data_directory.with_name(f"{data_directory.name}-old-ready.json")
        self._process: subprocess.Popen[bytes] | None = None
        self.addresses: dict[str, str] = {}

    def start(self) -> Self:
        """Start and wait until every service serves."""
        self._reservation.close()
        self.data_directory.mkdir(parents=True, exist_ok=True)
        arguments: list[Any] = [sys.executable, "-P", "-m", "cli.main", "up", "--platform", self.platform]
        arguments += ["--data", self.data_directory, "--port", self.base_port, "--ready-file", self._ready_file]
        arguments += ["--upstream", self._upstream] if self._upstream else []
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [*map(str, arguments), "--stop-with-input"],
                cwd=self._root,
                # Its own files come before those of the release under test, which is installed.
                env={**os.environ, "PYTHONPATH": f"{self._root}{os.pathsep}{self._root / 'gen'}"},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(
            self._is_ready, START_SECONDS, lambda: f"{self.platform} of {self._root} does not serve: {self.log()}"
        )
        self.addresses = json.loads(self._ready_file.read_text("utf-8"))["addresses"]
        return self

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"{self.platform} ended while it started: {self.log()}"
        return self._ready_file.exists()

    def stop(self) -> None:
        """Stop it in order; its data stay. May be called again."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(STOP_SECONDS)
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None

    def log(self) -> str:
        """Return the end of what it logged."""
        return "\n".join(self.log_file.read_text("utf-8", errors="replace").splitlines()[-40:])

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop; what it logged is shown with a failure."""
        if error is not None:
            print(f"--- {self.platform}, release {RELEASE['version']}\n{self.log()}")
        self.stop()
