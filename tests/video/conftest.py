"""Video services for tests: the evidence store of a laptop, a registry with two source units, and services on both."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Databases
from tests.registry import examples
from tests.registry.calls import create
from tests.registry.harness import RunningRegistry
from tests.running_service import SharedClock
from tests.video.harness import COUNTY, OTHER_UNIT, UNIT, RunningVideo, since_now
from tests.video.stores.servers import SeaweedServer, Server

MakeVideo = Callable[..., RunningVideo]

TESTS_OF_A_SERVER = 8
"""Tests that share a server: with three platforms each, twenty-four buckets."""

SERVERS: "pytest.StashKey[FreshServers]" = pytest.StashKey()


class FreshServers:
    """S3 servers of a laptop platform, one after another.

    What is locked in a bucket stays there, and a server has room for as many buckets as the disk has gigabytes: after
    some tests a new one takes over.
    """

    def __init__(self) -> None:
        self._running = ExitStack()
        self._server: SeaweedServer | None = None
        self._tests = 0

    def next(self) -> SeaweedServer:
        """Return the server for one more test."""
        if self._server is None or self._tests == TESTS_OF_A_SERVER:
            self.stop()
            directory = self._running.enter_context(tempfile.TemporaryDirectory(prefix="zc-s3-"))
            self._server = SeaweedServer(Path(directory))
            self._server.start()
            self._running.callback(self._server.stop)
            self._tests = 0
        self._tests += 1
        return self._server

    def stop(self) -> None:
        """Stop the one that runs."""
        self._server = None
        self._running.close()


@pytest.fixture
def evidence_store(request: pytest.FixtureRequest) -> Server:
    """Return the S3 server of a laptop platform; each service has a bucket of its own there."""
    servers = request.session.stash.get(SERVERS, None)
    if servers is None:
        servers = request.session.stash[SERVERS] = FreshServers()
        request.session.addfinalizer(servers.stop)
    return servers.next()


@pytest.fixture(scope="session")
def county_registry(databases: Databases, short_tail_poll: None) -> Iterator[RunningRegistry]:
    """Run the registry of the county, with two source units."""
    with tempfile.TemporaryDirectory(prefix="zc-") as directory:
        # By the real time: services that run as processes ask it, too.
        running = RunningRegistry(databases, Path(directory), COUNTY, datetime.now(UTC))
        for unit in (UNIT, OTHER_UNIT):
            create(running, examples.source_unit(source_unit_id=unit))
        yield running
        running.close()


@pytest.fixture
def day() -> SharedClock:
    """Return the time of all platforms of a test."""
    return since_now()


@pytest.fixture
def video_of(
    databases: Databases,
    county_registry: RunningRegistry,
    evidence_store: Server,
    socket_directory: Path,
    day: SharedClock,
) -> Iterator[MakeVideo]:
    """Run video services by platform code; only the county has a registry that answers."""
    with ExitStack() as running:

        def make(platform: str, **options: Any) -> RunningVideo:
            address = county_registry.address if platform == COUNTY else f"unix:{socket_directory}/nobody.sock"
            values: dict[str, Any] = {"registry_address": address, "store_server": evidence_store} | options
            made = RunningVideo(databases, socket_directory, platform, day, **values)
            running.callback(made.close)
            return made

        yield make


@pytest.fixture
def county(video_of: MakeVideo) -> RunningVideo:
    """Run the county's service."""
    return video_of(COUNTY)
