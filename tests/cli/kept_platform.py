"""The data directory of a platform that is stopped, as `zhichao up` leaves it, and a backup of it that tests change."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cli import platform_state
from cli.platform_layout import PlatformFiles
from cli.platform_state import DataLock, PlatformState
from cli.postgres import EmbeddedPostgres
from tests.cli.verified_journals import COUNTY


class KeptPlatform:
    """The directory, and the platform that runs on it for a while."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files = PlatformFiles(directory)
        directory.mkdir()
        self.state = PlatformState(COUNTY, "stopped", os.getpid(), str(directory))
        platform_state.write(self.files.state, self.state)

    def lock(self, stack: ExitStack) -> None:
        """Take the directory as a running platform does."""
        lock = DataLock(self.files)
        lock.acquire()
        stack.callback(lock.release)

    def serve(self, stack: ExitStack, server: EmbeddedPostgres, service: str, **more: Any) -> str:
        """Say that the platform serves with the database of one service, and return its URL."""
        urls = {service: server.url(service)}
        running = replace(self.state, phase="serving", database_urls=urls, postgres_pid=server.pid, **more)
        platform_state.write(self.files.state, running)
        stack.callback(platform_state.write, self.files.state, self.state)
        return urls[service]


@pytest.fixture
def home(made: tuple[KeptPlatform, Path]) -> KeptPlatform:
    """Return the platform that a module has made, whose tests leave it as it was."""
    return made[0]


@pytest.fixture
def backup(made: tuple[KeptPlatform, Path], tmp_path: Path) -> Path:
    """Copy the backup that a module has made of it."""
    return Path(shutil.copytree(made[1], tmp_path / "backup"))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Close what a test opens, the last first."""
    with ExitStack() as opened_last:
        yield opened_last
