"""What the registry shows to Prometheus of who can issue and revoke credentials."""

from collections.abc import Iterator

import pytest

from services.registry.app import RegistryApp, build
from services.registry.config import RegistryConfig
from tests.metrics import scrape
from tests.registry import access_examples
from tests.registry.access_calls import Access
from tests.registry.harness import RunningRegistry, eventually

TOKEN_FILE = "ZHICHAO_REGISTRY_BOOTSTRAP_TOKEN_FILE"


def shown(app: RegistryApp) -> tuple[float | None, float | None]:
    """Return how many administrators there are, and whether the bootstrap token is accepted."""
    seen = scrape(app.metrics_server.address)
    return (
        seen.value("zhichao_registry_security_administrators"),
        seen.value("zhichao_registry_bootstrap_token_accepted"),
    )


@pytest.fixture
def metered(registry: RunningRegistry) -> Iterator[RegistryApp]:
    """Run a replica that shows its figures."""
    environment = registry.environment | {
        "ZHICHAO_REGISTRY_LISTEN": f"{registry.environment['ZHICHAO_REGISTRY_LISTEN']}.metered",
        "ZHICHAO_REGISTRY_METRICS_LISTEN": "127.0.0.1:0",
    }
    app = build(RegistryConfig.load(environment), registry.clock)
    app.start()
    yield app
    app.stop(1.0)


def test_the_administrators_are_counted(registry: RunningRegistry, metered: RegistryApp) -> None:
    assert shown(metered) == (1.0, 0.0)

    Access.of(registry).create(access_examples.person("141025", "SECURITY_ADMINISTRATOR", credential_id="second"))
    eventually(lambda: shown(metered) == (2.0, 0.0), "the second is counted")
    # System administrators and auditors issue nothing.
    Access.of(registry).create(access_examples.person("141025", "AUDITOR"))
    Access.of(registry).revoke("second")
    eventually(lambda: shown(metered) == (1.0, 0.0), "the second is counted no more")


def test_a_bootstrap_token_that_is_accepted_is_seen(registry: RunningRegistry, metered: RegistryApp) -> None:
    with_nobody = registry.clock.moment.replace(year=registry.clock.moment.year + 2)
    registry.clock.moment = with_nobody
    eventually(lambda: shown(metered) == (0.0, 1.0), "the end of the last administrator is seen")


def test_without_a_file_no_token_is_accepted(registry: RunningRegistry) -> None:
    del registry.environment[TOKEN_FILE]
    registry.environment["ZHICHAO_REGISTRY_METRICS_LISTEN"] = "127.0.0.1:0"
    registry.stop()
    registry.clock.moment = registry.clock.moment.replace(year=registry.clock.moment.year + 2)
    app = build(RegistryConfig.load(registry.environment), registry.clock)
    app.start()
    try:
        assert shown(app) == (0.0, 0.0)
    finally:
        app.stop(1.0)
