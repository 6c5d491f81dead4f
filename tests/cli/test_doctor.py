"""`zhichao doctor`: each check tells what is right, what is wrong and what to do, and none takes longer than it may."""

import json
import shutil
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from click.testing import CliRunner
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from cli import platform_state
from cli.doctor import database, examination, link, services, settings
from cli.doctor.finding import Finding, Level, Text, ok
from cli.doctor.subject import Subject, SubjectError
from cli.main import main
from cli.pki.authority import Authority
from cli.platform_state import PlatformState
from cli.postgres import EmbeddedPostgres
from services.common.access.tokens import new_secret
from services.common.database import upgrade
from services.common.metrics import Gauge, Metrics, Sample, software_version
from services.common.metrics_server import MetricsServer
from services.common.tls import Tls
from services.journal.notes import new_private_key_pem
from tests.certificates import days_ago, new_authority, platform_files
from tests.cli.verified_journals import CITY, COUNTY, Keys, opened
from tests.conftest import Databases

WEIGHING = "services.weighing.migrations"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """Run a server as a platform does: durable."""
    directory = tmp_path_factory.mktemp("doctor")
    with EmbeddedPostgres(directory / "postgres", databases=["weighing", "empty"]) as running:
        upgrade(running.url("weighing"), WEIGHING)
        yield running


@pytest.fixture(scope="module")
def key_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def begun(server: EmbeddedPostgres, key_directory: Path) -> str:
    """Return the URL of a weighing database whose log was begun by the county."""
    url = server.url("weighing")
    with opened(url, Keys(key_directory), COUNTY) as (parts, _):
        parts.start()
        parts.stop()
    return url


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened_last:
        yield opened_last


def subject(**changes: object) -> Subject:
    environment = {"ZHICHAO_PLATFORM": COUNTY}
    environment |= changes.pop("environment", {})  # type: ignore[call-overload]  # a dict, as each test gives it
    made = Subject(COUNTY, environment, ("weighing",))
    return replace(made, **changes)  # type: ignore[arg-type]  # tests name the fields


def key_of(directory: Path, platform: str = COUNTY) -> Path:
    path = directory / f"{platform}.pem"
    path.write_bytes(new_private_key_pem())
    path.chmod(0o600)
    return path


# Settings and files


def test_settings_that_suit_are_told(tmp_path: Path) -> None:
    environment = {
        "ZHICHAO_WEIGHING_DATABASE_URL": "postgresql://weighing@db.example/weighing",
        "ZHICHAO_SIGNING_KEY_FILE": str(key_of(tmp_path)),
    }

    assert settings.check_settings(subject(environment=environment)).level is Level.OK


def test_a_missing_setting_is_named() -> None:
    found = settings.check_settings(subject())

    assert found.level is Level.FAIL
    assert "ZHICHAO_WEIGHING_DATABASE_URL is not set" in found.message.english


def test_a_misspelt_setting_is_named() -> None:
    environment = {
        "ZHICHAO_WEIGHING_DATABASE_URL": "postgresql://weighing@db.example/weighing",
        "ZHICHAO_WEIGHING_THREATS": "4",
    }
    found = settings.check_settings(subject(environment=environment))

    assert found.level is Level.WARN
    assert "ZHICHAO_WEIGHING_THREADS" in found.message.english


def test_no_secret_is_told(tmp_path: Path) -> None:
    environment = {"ZHICHAO_WEIGHING_DATABASE_URL": "mysql://weighing:hunter2@db.example/weighing"}
    found = examination.examine(
        subject(environment=environment, database_urls={"weighing": "postgresql://u:hunter2@127.0.0.1:1/x"})
    )

    assert "hunter2" not in str(found)


def test_a_signing_key_is_read(tmp_path: Path) -> None:
    path = key_of(tmp_path)
    right = subject(environment={"ZHICHAO_SIGNING_KEY_FILE": str(path)})

    assert settings.check_signing_key(right).level is Level.OK
    path.chmod(0o644)
    assert settings.check_signing_key(right).level is Level.WARN
    path.write_text("no key")
    assert settings.check_signing_key(right).level is Level.FAIL
    path.unlink()
    assert settings.check_signing_key(right).level is Level.FAIL
    assert settings.check_signing_key(subject()).level is Level.FAIL


def test_a_service_token_is_read(tmp_path: Path) -> None:
    path = tmp_path / "service.token"
    right = subject(environment={"ZHICHAO_SERVICE_TOKEN_FILE": str(path)})

    assert settings.check_service_token(right).level is Level.FAIL
    path.write_text("too short\n")
    assert settings.check_service_token(right).level is Level.FAIL
    secret = new_secret()
    path.write_text(secret + "\n")
    path.chmod(0o600)
    found = settings.check_service_token(right)
    assert found.level is Level.OK
    assert secret not in str(found)
    path.chmod(0o644)
    assert settings.check_service_token(right).level is Level.WARN


@pytest.fixture(scope="module")
def authority() -> Authority:
    return new_authority()


def tls_environment(directory: Path, authority: Authority, platform: str, days: int = 90) -> dict[str, str]:
    files = platform_files(directory, authority, platform, validity=days_ago(0, -days), hosts=["127.0.0.1"])
    return {
        "ZHICHAO_TLS_CERTIFICATE_FILE": str(files.certificate),
        "ZHICHAO_TLS_KEY_FILE": str(files.key),
        "ZHICHAO_TLS_CA_FILE": str(files.ca),
    }


def test_a_certificate_is_told_with_its_days(tmp_path: Path, authority: Authority) -> None:
    found = settings.check_certificate(subject(environment=tls_environment(tmp_path, authority, COUNTY)))

    assert found.level is Level.OK
    assert f"platform/{COUNTY}, 90 days left" in found.message.english


def test_a_certificate_that_ends_soon_is_a_warning(tmp_path: Path, authority: Authority) -> None:
    found = settings.check_certificate(subject(environment=tls_environment(tmp_path, authority, COUNTY, days=10)))

    assert found.level is Level.WARN


def test_the_certificate_of_another_platform_is_a_failure(tmp_path: Path, authority: Authority) -> None:
    found = settings.check_certificate(subject(environment=tls_environment(tmp_path, authority, CITY)))

    assert found.level is Level.FAIL
    assert CITY in found.message.english


def test_a_key_of_another_certificate_is_a_failure(tmp_path: Path, authority: Authority) -> None:
    one = tls_environment(tmp_path / "one", authority, COUNTY)
    other = tls_environment(tmp_path / "other", authority, COUNTY)
    mixed = one | {"ZHICHAO_TLS_KEY_FILE": other["ZHICHAO_TLS_KEY_FILE"]}
    found = settings.check_certificate(subject(environment=mixed))

    assert found.level is Level.FAIL
    assert "ZHICHAO_TLS_KEY_FILE" in found.message.english


def test_no_certificate_is_needed_on_loopback_only() -> None:
    alone = subject(addresses={"weighing": "127.0.0.1:7702"})

    assert settings.check_certificate(alone).level is Level.SKIP
    assert settings.check_certificate(replace(alone, addresses={"weighing": "192.0.2.1:7702"})).level is Level.FAIL
    upward = subject(environment={"ZHICHAO_RELAY_UPSTREAM": "192.0.2.1:7706"})
    assert settings.check_certificate(upward).level is Level.FAIL


@pytest.mark.parametrize(("free", "level"), [(10**12, Level.OK), (5 * 10**9, Level.WARN), (10**8, Level.FAIL)])
def test_the_room_on_the_disk_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: Level
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=free))

    assert settings.check_disk(subject(data_directory=tmp_path)).level is level


def test_there_is_no_evidence_store_yet() -> None:
    found = settings.check_evidence_store()

    assert (found.level, found.message.english.split(":")[0]) == (Level.SKIP, "not configured")


# The database


def test_a_durable_server_is_well(server: EmbeddedPostgres) -> None:
    found = database.check_server(server.url("weighing"))

    assert found.level is Level.OK
    assert "PostgreSQL 18" in found.message.english


def test_a_server_that_may_lose_what_was_acknowledged_is_a_failure(databases: Databases) -> None:
    url = databases.create()
    found = database.check_server(url)
    databases.drop(url)

    assert found.level is Level.FAIL
    assert "fsync" in found.message.english


def test_a_server_that_is_away_is_a_failure(tmp_path: Path) -> None:
    found = database.check_server(f"postgresql://nobody@/none?host={tmp_path}")

    assert found.level is Level.FAIL
    assert found.remedy


def test_the_schema_is_compared_with_the_release(server: EmbeddedPostgres) -> None:
    assert database.check_schema(server.url("weighing"), "weighing").level is Level.OK
    found = database.check_schema(server.url("empty"), "weighing")
    assert found.level is Level.FAIL
    assert "migrate weighing" in found.remedy.english


def test_the_log_is_ours(begun: str, key_directory: Path, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes((key_directory / f"{COUNTY}.pem").read_bytes())
    right = subject(environment={"ZHICHAO_SIGNING_KEY_FILE": str(path)})

    assert database.check_log(begun, right, "weighing").level is Level.OK
    other = database.check_log(begun, replace(right, platform=CITY), "weighing")
    assert other.level is Level.FAIL
    assert COUNTY in other.message.english
    path.write_bytes(new_private_key_pem())
    wrong = database.check_log(begun, right, "weighing")
    assert wrong.level is Level.FAIL
    assert "key" in wrong.message.english


def test_a_log_that_was_not_begun_is_a_warning(server: EmbeddedPostgres, databases: Databases) -> None:
    url = databases.borrow("weighing", lambda one: upgrade(one, WEIGHING))
    found = database.check_log(url, subject(), "weighing")
    databases.give_back("weighing", url)

    assert found.level is Level.WARN


def test_parked_entries_are_a_warning(begun: str) -> None:
    with psycopg.connect(begun, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO journal_parked (origin, sequence, kind, cause, detail, park_time, attempt_count)"
            " VALUES ('141025', 1, 'x', 'unknown_kind', '', now(), 1)"
        )
        found = database.check_log(begun, subject(), "weighing")
        connection.execute("DELETE FROM journal_parked")

    assert found.level is Level.WARN
    assert "1 parked" in found.message.english
    assert "replay" in found.remedy.english


def test_nothing_is_changed_by_looking(begun: str, server: EmbeddedPostgres) -> None:
    with psycopg.connect(begun) as connection:
        before = connection.execute("SELECT pg_current_wal_insert_lsn(), txid_current_snapshot()").fetchone()
        looked = subject(database_urls={"weighing": begun})
        for _, check in database.checks(looked):
            check()
        after = connection.execute("SELECT pg_current_wal_insert_lsn(), txid_current_snapshot()").fetchone()

    assert before == after


# What runs


def health_server(stack: ExitStack, status: int | None) -> str:
    """Run a health port; None for one that takes calls and never answers."""
    running = grpc.server(ThreadPoolExecutor(1))
    if status is None:
        released = threading.Event()
        stack.callback(released.set)
        hangs: Any = grpc.unary_unary_rpc_method_handler(lambda request, context: released.wait() and b"")
        running.add_registered_method_handlers("grpc.health.v1.Health", {"Check": hangs})
    else:
        servicer = health.HealthServicer()
        servicer.set("", status)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, running)
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    stack.callback(running.stop, None)
    return f"127.0.0.1:{port}"


def test_health_is_asked(stack: ExitStack) -> None:
    serving = health_server(stack, health_pb2.HealthCheckResponse.SERVING)
    waiting = health_server(stack, health_pb2.HealthCheckResponse.NOT_SERVING)

    def level(address: str) -> Level:
        return services.check_health(subject(health_addresses={"weighing": address}), "weighing").level

    assert level(serving) is Level.OK
    assert level(waiting) is Level.FAIL
    assert level(closed_port()) is Level.FAIL
    assert services.check_health(subject(), "weighing").level is Level.SKIP
    assert services.check_health(subject(is_running=False), "weighing").level is Level.FAIL


def test_a_service_that_hangs_is_a_failure(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "ANSWER_SECONDS_MAX", 0.2)
    address = health_server(stack, None)

    assert services.check_health(subject(health_addresses={"weighing": address}), "weighing").level is Level.FAIL


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


def shown(stack: ExitStack, *, component: str = "weighing", **values: float) -> str:
    """Serve figures with these values of gauges."""
    metrics = Metrics(component, COUNTY)
    for name, value in values.items():
        gauge = Gauge(f"zhichao_{name}", "As the test wants.")
        metrics.gauges(name, [gauge], lambda gauge=gauge, value=value: {gauge.name: [Sample((), value)]})  # type: ignore[misc]  # mypy infers no type for a lambda with defaults
    server = MetricsServer(metrics, "127.0.0.1:0")
    server.start()
    stack.callback(server.stop)
    assert server.address is not None
    return server.address


def test_releases_are_compared(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    running = subject(metrics_addresses={"weighing": shown(stack)})

    assert services.check_versions(running).level is Level.OK
    monkeypatch.setattr(services, "software_version", lambda: "99.0")
    found = services.check_versions(running)
    assert found.level is Level.WARN
    assert f"weighing {software_version()}" in found.message.english
    assert services.check_versions(subject()).level is Level.SKIP
    assert services.check_versions(subject(metrics_addresses={"weighing": closed_port()})).level is Level.WARN


@pytest.mark.parametrize(("age", "level"), [(1.5, Level.OK), (120.0, Level.WARN)])
def test_the_age_of_credentials_is_judged(stack: ExitStack, age: float, level: Level) -> None:
    running = subject(metrics_addresses={"weighing": shown(stack, credentials_age_seconds=age)})

    assert services.check_credentials(running).level is level


def test_a_service_that_knows_no_credentials_is_a_failure(stack: ExitStack) -> None:
    assert services.check_credentials(subject(metrics_addresses={"weighing": shown(stack)})).level is Level.FAIL


def relay_figures(stack: ExitStack, state: str, *, lag: float = 0.0, refused: str = "", skew: float = 0.0) -> Subject:
    metrics = Metrics("relay", COUNTY)
    states = Gauge("zhichao_relay_link_state", "State.", ("state",))
    lags = Gauge("zhichao_relay_lag_seconds", "Lag.", ("stream",))
    refusals = Gauge("zhichao_relay_refused_logs", "Refused.", ("direction", "stream", "reason"))
    skews = Gauge("zhichao_relay_clock_skew_seconds", "Skew.")
    metrics.gauges(
        "link",
        [states, lags, refusals, skews],
        lambda: {
            states.name: [Sample((state,), 1.0), Sample(("OTHER",), 0.0)],
            lags.name: [Sample(("weighing",), lag)],
            refusals.name: [Sample(("upward", "weighing", refused), 1.0)] if refused else [],
            skews.name: [Sample((), skew)],
        },
    )
    server = MetricsServer(metrics, "127.0.0.1:0")
    server.start()
    stack.callback(server.stop)
    return subject(services=("relay",), metrics_addresses={"relay": server.address})


@pytest.mark.parametrize(
    ("state", "lag", "refused", "level"),
    [
        ("CURRENT", 0.0, "", Level.OK),
        ("CATCHING_UP", 5.0, "", Level.OK),
        ("CATCHING_UP", 5000.0, "", Level.WARN),
        ("CONNECTING", 5.0, "", Level.FAIL),
        ("STALLED", 70.0, "", Level.FAIL),
        ("REFUSED", 0.0, "HISTORY_MISMATCH", Level.FAIL),
        ("NO_UPSTREAM", 0.0, "", Level.SKIP),
    ],
)
def test_the_link_is_judged(stack: ExitStack, state: str, lag: float, refused: str, level: Level) -> None:
    found = link.check_link(relay_figures(stack, state, lag=lag, refused=refused))

    assert found.level is level
    assert refused in found.message.english


def test_the_clock_of_the_upstream_is_compared(stack: ExitStack) -> None:
    assert link.check_skew(relay_figures(stack, "CURRENT", skew=0.2)).level is Level.OK
    assert link.check_skew(relay_figures(stack, "CURRENT", skew=-60.0)).level is Level.WARN
    assert link.check_skew(subject(services=("relay",))).level is Level.SKIP


# The upstream, over TLS


def upstream(stack: ExitStack, directory: Path, authority: Authority, *, clients_of: Authority | None = None) -> str:
    """Run a port with mutual TLS as a city's relay has; it trusts clients of another authority if one is given."""
    files = platform_files(directory, authority, CITY, hosts=["127.0.0.1"])
    if clients_of is not None:
        other = platform_files(directory / "other", clients_of, CITY)
        files.ca.write_bytes(other.ca.read_bytes())
    running = grpc.server(ThreadPoolExecutor(1))
    port = running.add_secure_port("127.0.0.1:0", Tls(files).server_credentials(require_client_certificate=True))
    running.start()
    stack.callback(running.stop, None)
    return f"127.0.0.1:{port}"


def upward(address: str, environment: dict[str, str], **more: str) -> Subject:
    return subject(services=("relay",), environment={**environment, "ZHICHAO_RELAY_UPSTREAM": address, **more})


def test_an_upstream_that_takes_our_certificate_is_told(stack: ExitStack, tmp_path: Path, authority: Authority) -> None:
    address = upstream(stack, tmp_path / "city", authority)
    ours = tls_environment(tmp_path / "county", authority, COUNTY)
    found = link.check_upstream(upward(address, ours, ZHICHAO_RELAY_UPSTREAM_PLATFORM=CITY))

    assert found.level is Level.OK
    assert f"platform/{CITY}" in found.message.english
    other = link.check_upstream(upward(address, ours, ZHICHAO_RELAY_UPSTREAM_PLATFORM="140000"))
    assert other.level is Level.FAIL


def test_an_upstream_that_does_not_know_our_authority_is_told(
    stack: ExitStack, tmp_path: Path, authority: Authority
) -> None:
    stranger = new_authority()
    address = upstream(stack, tmp_path / "city", authority, clients_of=stranger)
    ours = tls_environment(tmp_path / "county", authority, COUNTY)

    assert link.check_upstream(upward(address, ours)).level is Level.FAIL


def test_an_upstream_of_another_authority_is_told(stack: ExitStack, tmp_path: Path, authority: Authority) -> None:
    stranger = new_authority()
    address = upstream(stack, tmp_path / "city", stranger)
    ours = tls_environment(tmp_path / "county", authority, COUNTY)

    assert link.check_upstream(upward(address, ours)).level is Level.FAIL


def test_an_upstream_that_takes_connections_and_says_nothing_is_told(
    stack: ExitStack, tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "CONNECT_SECONDS_MAX", 0.2)
    silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    ours = tls_environment(tmp_path, authority, COUNTY)

    assert link.check_upstream(upward(f"127.0.0.1:{silent.getsockname()[1]}", ours)).level is Level.FAIL


def test_an_upstream_that_is_away_is_told() -> None:
    found = link.check_upstream(upward(closed_port(), {}))

    assert found.level is Level.FAIL
    assert "cannot be reached" in found.message.english
    assert link.check_upstream(subject(services=("relay",))).level is Level.SKIP


# All together


def test_a_check_that_hangs_or_breaks_costs_no_other() -> None:
    released = threading.Event()

    def hang() -> Finding:
        released.wait()
        return ok("late")

    def break_down() -> Finding:
        raise ZeroDivisionError("a fault")

    found = examination.run([("hangs", hang), ("breaks", break_down), ("works", lambda: ok("well"))], 0.2)
    released.set()

    assert [(one.name, one.level) for one in found] == [
        ("hangs", Level.FAIL),
        ("breaks", Level.FAIL),
        ("works", Level.OK),
    ]
    assert "no answer within" in found[0].message.english


def test_everything_that_is_wrong_has_a_remedy_and_both_languages(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    state = PlatformState(
        COUNTY, "serving", 1, str(directory), addresses=dict.fromkeys(("registry", "weighing", "relay"), "")
    )
    platform_state.write(directory / "platform.json", state)
    found = examination.examine(Subject.of_directory(directory, {"ZHICHAO_RELAY_UPSTREAM": closed_port()}))

    bad = [one for one in found if one.level in (Level.WARN, Level.FAIL)]
    assert {"platform", "signing-key", "service-token", "upstream", "service weighing"} <= {one.name for one in bad}
    assert [one.name for one in bad if not one.remedy] == []
    assert [one.name for one in found if not one.message.english or (one in bad and not one.message.chinese)] == []


def test_the_environment_names_the_services_of_a_container() -> None:
    environment = {
        "ZHICHAO_PLATFORM": COUNTY,
        "ZHICHAO_WEIGHING_LISTEN": "0.0.0.0:7702",
        "ZHICHAO_WEIGHING_DATABASE_URL": "postgresql://weighing@db.example/weighing",
        "PATH": "/bin",
    }
    found = Subject.of_environment(environment)

    assert (found.platform, found.services, found.is_running) == (COUNTY, ("weighing",), None)
    assert found.addresses == {"weighing": "127.0.0.1:7702"}
    assert "PATH" not in found.environment


def test_settings_that_are_files_are_found(tmp_path: Path) -> None:
    url = "postgresql://weighing:hunter2@db.example/weighing"
    (tmp_path / "zhichao_weighing_database_url").write_text(url + "\n")
    (tmp_path / "..data").mkdir()
    found = Subject.of_environment({"ZHICHAO_PLATFORM": COUNTY, "ZHICHAO_SECRETS_DIR": str(tmp_path)})

    assert (found.services, found.database_urls) == (("weighing",), {"weighing": url})


def test_a_directory_without_a_platform_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SubjectError, match="holds no platform"):
        Subject.of_directory(tmp_path, {})


def test_the_exit_status_tells_a_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(levels: list[Level], *options: str) -> tuple[int, str]:
        told, remedy = Text("told", "已告知"), Text("do", "处置")
        findings = [Finding(f"check {place}", level, told, remedy) for place, level in enumerate(levels)]
        monkeypatch.setattr(examination, "examine", lambda subject: findings)
        result = CliRunner().invoke(main, ["doctor", *options], env={"ZHICHAO_PLATFORM": COUNTY})
        return result.exit_code, result.stdout

    assert run([Level.OK, Level.SKIP, Level.WARN])[0] == 0
    assert run([Level.OK, Level.WARN], "--strict")[0] == 1
    code, printed = run([Level.OK, Level.FAIL], "--json")
    assert code == 1
    document = json.loads(printed)
    assert [check["level"] for check in document["checks"]] == ["ok", "fail"]
    _, shown_text = run([Level.FAIL])
    assert "fail check 0  told 已告知 -> do 处置" in shown_text


def test_without_a_platform_the_exit_status_is_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ZHICHAO_PLATFORM", raising=False)

    assert CliRunner().invoke(main, ["doctor"]).exit_code == 2
    assert CliRunner().invoke(main, ["doctor", "--platform", "141025"]).exit_code == 2
