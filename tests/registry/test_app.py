"""Starting and stopping a registry: settings, the schema, the identity of the log, health."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.database import SchemaError, upgrade
from services.common.errors import ServiceError
from services.common.rpc_client import connect
from services.common.settings import SettingsError
from services.journal.log_writer import LogIdentityError
from services.journal.notes import new_private_key_pem
from services.registry.app import MIGRATIONS, build
from services.registry.config import RegistryConfig
from tests.registry import examples
from tests.registry.calls import create, get
from tests.registry.harness import TIMEOUT_SECONDS, RunningRegistry, write_secret


def environment(database_url: str, directory: Path, **changes: str) -> dict[str, str]:
    key_file = directory / "key.pem"
    key_file.write_bytes(new_private_key_pem())
    write_secret(directory / "service.token")
    return {
        "ZHICHAO_PLATFORM": "141025",
        "ZHICHAO_SIGNING_KEY_FILE": str(key_file),
        "ZHICHAO_REGISTRY_DATABASE_URL": database_url,
        "ZHICHAO_REGISTRY_LISTEN": f"unix:{directory}/registry.sock",
        "ZHICHAO_PLAINTEXT_LOOPBACK": "true",
        "ZHICHAO_SERVICE_TOKEN_FILE": str(directory / "service.token"),
    } | changes


def test_the_schema_is_only_checked_when_told_so(database_url: str, socket_directory: Path) -> None:
    settings = environment(database_url, socket_directory, ZHICHAO_AUTO_MIGRATE="false")
    with pytest.raises(SchemaError, match=r"revision \d{4}_\w+ is expected"):
        build(RegistryConfig.load(settings)).start()

    upgrade(database_url, MIGRATIONS)
    app = build(RegistryConfig.load(settings))
    app.start()
    app.stop(1.0)


def test_a_key_file_is_needed(database_url: str, socket_directory: Path) -> None:
    config = RegistryConfig.load(environment(database_url, socket_directory))
    (socket_directory / "key.pem").write_text("not a key")
    with pytest.raises(SettingsError, match="ZHICHAO_SIGNING_KEY_FILE"):
        build(config)
    without_key = config.platform.model_copy(update={"signing_key_file": None})
    with pytest.raises(SettingsError, match="ZHICHAO_SIGNING_KEY_FILE"):
        build(replace(config, platform=without_key))


def test_the_database_of_another_platform_is_refused(registry: RunningRegistry, socket_directory: Path) -> None:
    registry.stop()
    other = registry.environment | {"ZHICHAO_PLATFORM": "141026"}
    with pytest.raises(LogIdentityError, match="give each platform a database of its own"):
        build(RegistryConfig.load(other)).start()


def test_two_replicas_on_one_database_publish_once(registry: RunningRegistry, socket_directory: Path) -> None:
    size = registry.size()
    second = registry.environment | {"ZHICHAO_REGISTRY_LISTEN": f"unix:{socket_directory}/second.sock"}
    app = build(RegistryConfig.load(second))
    app.start()
    try:
        assert registry.size() == size
        created = create(registry, examples.platform())
        assert app.handlers.get_platform("141025") == created
        assert get(registry, examples.platform()) == created
    finally:
        app.stop(1.0)


def test_a_database_that_is_away_at_the_start_is_told(socket_directory: Path) -> None:
    nowhere = f"postgresql://postgres@/x?host={socket_directory}"
    with pytest.raises(ServiceError, match="cannot be reached"):
        build(RegistryConfig.load(environment(nowhere, socket_directory))).start()


def test_lost_connections_are_replaced(registry: RunningRegistry) -> None:
    created = create(registry, examples.platform())
    with psycopg.connect(registry.database_url, autocommit=True) as connection:
        # With a time to wait: without it the answer comes before the connections are closed.
        connection.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert get(registry, examples.platform()) == created
    assert create(registry, examples.division()).info.etag == f"141025-{registry.last_change()}"


def test_health_tells_both_services(registry: RunningRegistry) -> None:
    with connect(registry.environment["ZHICHAO_REGISTRY_LISTEN"]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", "zhichao.registry.v1.RegistryService", "zhichao.journal.v1.JournalService"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT_SECONDS)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    ("platform", "code", "said"), [("141025", 0, "ZHICHAO_PLATFORM=141025"), ("1", 2, "ZHICHAO_PLATFORM")]
)
def test_check_config(socket_directory: Path, platform: str, code: int, said: str) -> None:
    settings = environment("postgresql://user:secret@localhost/x", socket_directory, ZHICHAO_PLATFORM=platform)
    finished = subprocess.run(
        [sys.executable, "-m", "services.registry", "--check-config"],
        env=os.environ | settings,
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert finished.returncode == code
    assert said in finished.stdout + finished.stderr
    assert "secret" not in finished.stdout + finished.stderr
