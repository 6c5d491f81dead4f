"""Fixtures of the system tests: a seed that is printed, and a database directory that all levels start from."""

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from cli.platform_layout import SERVICES
from cli.postgres import EmbeddedPostgres
from cli.simulate.site import CITY, COUNTY, PROVINCE
from services.common import database
from tests.system.levels import Levels

SEED_VARIABLE = "ZHICHAO_SYSTEM_SEED"

# The longest takes about a minute on two cores of its own; the deadlines inside are what ends a test that hangs.
TEST_SECONDS_MAX = 300

MakeLevels = Callable[..., Levels]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests beside this file more time than others have."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(TEST_SECONDS_MAX))


@pytest.fixture
def seed() -> int:
    """Return the seed of one test: another one each time, or the one that is named to see a failure again."""
    given = os.environ.get(SEED_VARIABLE)
    seed = int(given) if given else random.SystemRandom().randrange(10_000)
    print(f"\nrepeat with {SEED_VARIABLE}={seed}")
    return seed


@pytest.fixture(scope="session")
def database_template() -> Iterator[Path]:
    """Make a database directory with empty, migrated databases once: each start of a level from nothing costs seconds.

    That a platform starts from nothing is tested in `test_quiet` and in `tests/cli`.
    """
    directory = Path(tempfile.mkdtemp(prefix="zhichao-system-template-"))
    names = [name for name, layout in SERVICES.items() if layout.has_database]
    try:
        with EmbeddedPostgres(directory / "postgres", databases=names) as server:
            for name in names:
                database.upgrade(server.url(name), SERVICES[name].migrations_package)
        yield directory / "postgres"
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def directory() -> Iterator[Path]:
    """Return a directory for the files of one test, removed after it: pytest would keep gigabytes of them."""
    path = Path(tempfile.mkdtemp(prefix="zhichao-system-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def make_levels(
    request: pytest.FixtureRequest, directory: Path, database_template: Path, seed: int
) -> Iterator[MakeLevels]:
    """Return a function that makes levels, not started yet; they are removed after the test."""
    made: list[Levels] = []

    def make(
        *,
        platforms: Sequence[str] = (COUNTY, CITY, PROVINCE),
        split: Sequence[str] = (),
        from_template: bool = True,
    ) -> Levels:
        template = database_template if from_template else None
        levels = Levels(directory / str(len(made)), platforms=platforms, split=split, template=template, seed=seed)
        made.append(levels)
        stack.callback(levels.close)
        return levels

    failed_before = request.session.testsfailed
    with ExitStack() as stack:
        yield make
        if request.session.testsfailed > failed_before:
            for levels in made:
                print(levels.complaints())
