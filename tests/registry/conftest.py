"""Registries for tests: a county (141025) and the city above it (141000)."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Databases
from tests.registry.harness import RunningRegistry


@pytest.fixture
def registry(databases: Databases, socket_directory: Path) -> Iterator[RunningRegistry]:
    """Run the registry of county 141025 for one test."""
    running = RunningRegistry(databases, socket_directory, "141025")
    yield running
    running.close()


@pytest.fixture
def city(databases: Databases, socket_directory: Path) -> Iterator[RunningRegistry]:
    """Run the registry of city 141000 for one test."""
    running = RunningRegistry(databases, socket_directory, "141000")
    yield running
    running.close()


@pytest.fixture(scope="module")
def shared(databases: Databases) -> Iterator[RunningRegistry]:
    """Run a registry of county 141025 that the tests of a module share; each uses ids of its own."""
    with tempfile.TemporaryDirectory(prefix="zc-") as directory:
        running = RunningRegistry(databases, Path(directory), "141025")
        yield running
        running.close()
