"""The platform that is fuzzed, started once for all tests beside this file, and how long and by which seed."""

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzzing.subject import Subject

SEED_VARIABLE = "ZHICHAO_FUZZ_SEED"
SECONDS_VARIABLE = "ZHICHAO_FUZZ_SECONDS"

SECONDS_DEFAULT = 20.0
"""For each port: all of them take two minutes, as the longest system tests do."""


@pytest.fixture(scope="session")
def fuzz_seed() -> int:
    """Return the seed: another one each time, or the one that is named to see a failure again."""
    given = os.environ.get(SEED_VARIABLE)
    seed = int(given) if given else random.SystemRandom().randrange(10_000)
    print(f"\nrepeat with {SEED_VARIABLE}={seed}")
    return seed


@pytest.fixture(scope="session")
def fuzz_seconds() -> float:
    """Return how long each port is fuzzed."""
    return float(os.environ.get(SECONDS_VARIABLE) or SECONDS_DEFAULT)


@pytest.fixture(scope="session")
def subject() -> Iterator[Subject]:
    """Run the platform."""
    directory = Path(tempfile.mkdtemp(prefix="zhichao-fuzz-"))
    try:
        with Subject(directory) as running:
            yield running
    finally:
        shutil.rmtree(directory, ignore_errors=True)
