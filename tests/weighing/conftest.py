"""Weighing services for tests, each on a database of its own, beside one registry that all share."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Databases
from tests.registry.harness import RunningRegistry
from tests.weighing.harness import RunningWeighing, registry_of_one_site


@pytest.fixture(scope="session")
def registry(databases: Databases, short_tail_poll: None) -> Iterator[RunningRegistry]:
    """Run a registry of county 141025 with one site; a test that registers more uses ids of its own."""
    with registry_of_one_site(databases) as running:
        yield running


@pytest.fixture
def weighing(databases: Databases, registry: RunningRegistry, socket_directory: Path) -> Iterator[RunningWeighing]:
    """Run the weighing service of county 141025 for one test."""
    running = RunningWeighing(databases, socket_directory, registry.environment["ZHICHAO_REGISTRY_LISTEN"])
    yield running
    running.close()


@pytest.fixture
def city(databases: Databases, registry: RunningRegistry, socket_directory: Path) -> Iterator[RunningWeighing]:
    """Run the weighing service of city 141000 for one test; it only receives."""
    address = registry.environment["ZHICHAO_REGISTRY_LISTEN"]
    running = RunningWeighing(databases, socket_directory, address, "141000")
    yield running
    running.close()


@pytest.fixture(scope="module")
def shared(databases: Databases, registry: RunningRegistry) -> Iterator[RunningWeighing]:
    """Run a weighing service that the tests of a module share; each uses ids of its own."""
    with tempfile.TemporaryDirectory(prefix="zc-") as directory:
        running = RunningWeighing(databases, Path(directory), registry.environment["ZHICHAO_REGISTRY_LISTEN"])
        yield running
        running.close()
