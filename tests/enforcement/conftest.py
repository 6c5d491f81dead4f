"""Three levels of enforcement services for tests: a province, a city, two of its counties, and registries for those who
issue.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from services.journal.store import tail
from tests.conftest import Databases
from tests.enforcement.harness import CITY, COUNTY, NEIGHBOUR, OTHER_CITY, OTHER_COUNTY, PROVINCE, RunningEnforcement
from tests.registry import examples
from tests.registry.calls import create
from tests.registry.harness import START, RunningRegistry
from tests.running_service import SharedClock

NAMES = {
    PROVINCE: "示例省",
    CITY: "示例市",
    COUNTY: "示例县",
    NEIGHBOUR: "邻县",
    OTHER_CITY: "另一市",
    OTHER_COUNTY: "另一县",
}
BELOW = {CITY: PROVINCE, OTHER_CITY: PROVINCE, COUNTY: CITY, NEIGHBOUR: CITY, OTHER_COUNTY: OTHER_CITY}
"""Platforms and those above them."""

MakeService = Callable[[str], RunningEnforcement]


@pytest.fixture(scope="session", autouse=True)
def short_poll() -> Iterator[None]:
    """Let a service stop quickly: its tail looks up only as often as it polls, and tests stop hundreds of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tail, "TAIL_POLL_SECONDS", 0.25)
        yield


@pytest.fixture(scope="session")
def registries(databases: Databases, short_poll: None) -> Iterator[dict[str, RunningRegistry]]:
    """Run the registries of province and city, which know the platforms below them."""
    with tempfile.TemporaryDirectory(prefix="zc-") as directory, ExitStack() as running:
        found = {}
        for platform in (PROVINCE, CITY):
            registry = RunningRegistry(databases, Path(directory), platform)
            running.callback(registry.close)
            for code, upstream in BELOW.items():
                if platform == PROVINCE or upstream == CITY:
                    create(registry, examples.platform(platform_code=code, name=NAMES[code], upstream_code=upstream))
            found[platform] = registry
        yield found


@pytest.fixture
def clock() -> SharedClock:
    """Return the time of all platforms of a test."""
    return SharedClock(START)


@pytest.fixture
def service(
    databases: Databases, registries: dict[str, RunningRegistry], socket_directory: Path, clock: SharedClock
) -> Iterator[MakeService]:
    """Run enforcement services by platform code; counties have a registry that nobody reaches."""
    with ExitStack() as running:

        def make(platform: str) -> RunningEnforcement:
            registry = registries.get(platform)
            address = registry.address if registry else f"unix:{socket_directory}/nobody.sock"
            made = RunningEnforcement(databases, socket_directory, platform, clock, address)
            running.callback(made.close)
            return made

        yield make


@pytest.fixture
def province(service: MakeService) -> RunningEnforcement:
    """Run the province's service."""
    return service(PROVINCE)


@pytest.fixture
def city(service: MakeService) -> RunningEnforcement:
    """Run the city's service."""
    return service(CITY)


@pytest.fixture
def county(service: MakeService) -> RunningEnforcement:
    """Run the county's service."""
    return service(COUNTY)


@pytest.fixture
def neighbour(service: MakeService) -> RunningEnforcement:
    """Run the service of the county beside it."""
    return service(NEIGHBOUR)
