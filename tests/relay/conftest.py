"""Platforms for tests of the relay: county 141025 below city 141000 below province 140000."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from services.journal.store import tail
from tests.conftest import Databases
from tests.faults.proxy import Fault, FaultProxy
from tests.relay.fakes import FakeJournal, FakeUpstream
from tests.relay.platforms import Platform

COUNTY = "141025"
CITY = "141000"
PROVINCE = "140000"


@pytest.fixture(scope="session", autouse=True)
def _short_poll() -> Iterator[None]:
    """Let journals stop quickly: a tail looks up only as often as it polls."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tail, "TAIL_POLL_SECONDS", 0.05)
        yield


@pytest.fixture
def platform(databases: Databases, socket_directory: Path) -> Iterator[Callable[..., Platform]]:
    """Make platforms that are closed after the test; they are not started."""
    with ExitStack() as stack:

        def make(code: str, **options: Any) -> Platform:
            made = Platform(databases, socket_directory, code, **options)
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture
def journal(socket_directory: Path) -> FakeJournal:
    """Make the weighing service of the city, which takes everything unless told otherwise."""
    return FakeJournal(socket_directory)


@pytest.fixture
def city(platform: Callable[..., Platform], journal: FakeJournal) -> Platform:
    """Start a city that has nothing but that service."""
    made = platform(CITY, streams=[], fakes=[journal])
    made.start()
    return made


@pytest.fixture
def upstream(socket_directory: Path) -> Iterator[FakeUpstream]:
    """Run an upper relay that answers as told."""
    fake = FakeUpstream(socket_directory)
    yield fake
    fake.close()


@pytest.fixture
def proxy() -> Iterator[Callable[..., FaultProxy]]:
    """Make fault proxies that are closed after the test."""
    with ExitStack() as stack:

        def make(target: str, *script: Fault) -> FaultProxy:
            made = FaultProxy(target, script)
            stack.callback(made.close)
            return made

        yield make
