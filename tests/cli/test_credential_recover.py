"""`zhichao credential recover` with the settings of a registry, as in its pod, and what it asks and refuses."""

import json
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner, Result

from cli import platform_state
from cli.main import main
from cli.platform_layout import PlatformFiles
from cli.platform_state import DataLock, PlatformState
from services.common.reasons import Reason
from services.common.rpc_client import service_error
from tests.conftest import Databases
from tests.registry.access_calls import Access
from tests.registry.harness import RunningRegistry, eventually

WHY = "令牌遗失"


@pytest.fixture
def registry(databases: Databases) -> Iterator[RunningRegistry]:
    """Run a registry whose clock shows today as the command line's does."""
    with tempfile.TemporaryDirectory(prefix="zc-") as directory:
        running = RunningRegistry(databases, Path(directory), "141025", datetime.now(UTC))
        yield running
        running.close()


def recover(*words: str, environment: dict[str, str] | None = None, answer: str = "") -> Result:
    """Run the command with the settings of an environment and of nothing else."""
    names = ("ZHICHAO_PLATFORM", "ZHICHAO_SIGNING_KEY_FILE", "ZHICHAO_REGISTRY_DATABASE_URL")
    settings: dict[str, str | None] = {**dict.fromkeys(names), **(environment or {})}
    return CliRunner().invoke(main, ["credential", "recover", *words], env=settings, input=answer)


def is_revoked(registry: RunningRegistry) -> bool:
    """Tell whether the administrator is refused by now."""
    try:
        Access.of(registry).identity()
    except grpc.RpcError as error:
        return service_error(error).reason is Reason.CREDENTIAL_REVOKED
    return False


def test_with_the_registrys_own_settings(registry: RunningRegistry) -> None:
    result = recover("--reason", WHY, "--yes", "--json", environment=registry.environment)

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"platform": "141025", "revoked": ["admin"]}
    assert "administrators_revoked" in result.output
    bootstrap = Access.of(registry, registry.bootstrap_token)
    eventually(lambda: is_revoked(registry), "the administrator is refused")
    assert bootstrap.identity().principal == "person/bootstrap"


def test_it_asks_and_takes_no_for_an_answer(registry: RunningRegistry) -> None:
    result = recover("--reason", WHY, environment=registry.environment, answer="n\n")

    assert result.exit_code == 1
    assert "admin, ends 到期" in result.output
    assert Access.of(registry).identity().principal == "person/admin"


def test_yes_for_an_answer(registry: RunningRegistry) -> None:
    result = recover("--reason", WHY, environment=registry.environment, answer="y\n")

    assert result.exit_code == 0, result.output
    assert "revoked 已吊销: admin" in result.output
    assert "ZHICHAO_REGISTRY_BOOTSTRAP_TOKEN_FILE" in result.output
    again = recover("--reason", WHY, environment=registry.environment)
    assert again.exit_code == 0
    assert "nothing to revoke" in again.output


def test_a_bad_reason_changes_nothing(registry: RunningRegistry) -> None:
    result = recover("--reason", " ", "--yes", environment=registry.environment)

    assert result.exit_code == 1
    assert "reason" in result.output
    assert Access.of(registry).identity().principal == "person/admin"


def test_without_settings_it_says_what_it_needs() -> None:
    result = recover("--reason", WHY, "--yes")

    assert result.exit_code == 1
    assert "--data" in result.output
    assert "ZHICHAO_REGISTRY_DATABASE_URL" in result.output


def test_a_directory_without_a_platform(tmp_path: Path) -> None:
    result = recover("--reason", WHY, "--yes", "--data", str(tmp_path))

    assert result.exit_code == 1
    assert "holds no platform" in result.output


def test_a_platform_with_a_database_server_of_its_own(registry: RunningRegistry, tmp_path: Path) -> None:
    """`zhichao up` was given the URL, which is not written down: it is asked for."""
    files = PlatformFiles(tmp_path)
    lock = DataLock(files)
    lock.acquire()
    key_file = registry.environment["ZHICHAO_SIGNING_KEY_FILE"]
    state = PlatformState("141025", "serving", 1, str(tmp_path), signing_key_file=key_file)
    platform_state.write(files.state, state)
    words = ("--reason", WHY, "--yes", "--data", str(tmp_path))
    try:
        unknown = recover(*words)
        assert unknown.exit_code == 1
        assert "ZHICHAO_REGISTRY_DATABASE_URL" in unknown.output
        url = {"ZHICHAO_REGISTRY_DATABASE_URL": registry.database_url}
        known = recover(*words, environment=url)
    finally:
        lock.release()
    assert known.exit_code == 0, known.output
    assert "start the platform again" in known.output
    eventually(lambda: is_revoked(registry), "the administrator is refused")


def test_the_database_of_another_platform(registry: RunningRegistry) -> None:
    result = recover("--reason", WHY, "--yes", environment=registry.environment | {"ZHICHAO_PLATFORM": "141026"})

    assert result.exit_code == 1
    assert "141025" in result.output
    assert Access.of(registry).identity().principal == "person/admin"
