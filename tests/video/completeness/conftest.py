"""Databases of the video service for tests of what is complete, and a real weighing service to follow."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from services.common.database import Engine, create_engine
from services.video import weighing_follower
from tests.conftest import Databases
from tests.registry.harness import RunningRegistry
from tests.video.harness import SCHEMA, migrate
from tests.weighing.harness import RunningWeighing, registry_of_one_site


@pytest.fixture(scope="session", autouse=True)
def short_interval() -> Iterator[None]:
    """Let weighings be read at once: tests wait for each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weighing_follower, "READ_INTERVAL_SECONDS", 0.01)
        yield


@pytest.fixture
def video_url(databases: Databases) -> Iterator[str]:
    """Return the URL of a database of the video service."""
    url = databases.borrow(SCHEMA, migrate)
    yield url
    databases.give_back(SCHEMA, url)


@pytest.fixture
def connection(video_url: str) -> Iterator[psycopg.Connection[Any]]:
    """Open a connection on which every statement is a transaction, in UTC as those of services are."""
    with psycopg.connect(video_url, autocommit=True, options="-c TimeZone=UTC") as opened:
        yield opened


@pytest.fixture
def engine(video_url: str) -> Iterator[Engine]:
    """Open a pool as a service has it."""
    made = create_engine(video_url, pool_size=4, application_name="test")
    yield made
    made.dispose()


@pytest.fixture(scope="session")
def registry(databases: Databases, short_tail_poll: None) -> Iterator[RunningRegistry]:
    """Run a registry of county 141025 with one site."""
    with registry_of_one_site(databases) as running:
        yield running


@pytest.fixture
def weighing(databases: Databases, registry: RunningRegistry, socket_directory: Path) -> Iterator[RunningWeighing]:
    """Run the weighing service of county 141025 for one test."""
    running = RunningWeighing(databases, socket_directory, registry.environment["ZHICHAO_REGISTRY_LISTEN"])
    yield running
    running.close()


@pytest.fixture
def city_weighing(databases: Databases, registry: RunningRegistry, socket_directory: Path) -> Iterator[RunningWeighing]:
    """Run the weighing service of city 141000 for one test; it only receives."""
    address = registry.environment["ZHICHAO_REGISTRY_LISTEN"]
    running = RunningWeighing(databases, socket_directory, address, "141000")
    yield running
    running.close()
