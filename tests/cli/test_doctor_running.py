"""What `zhichao doctor` says of what runs: services, their figures, the link, and the way to the upstream."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from cli.doctor import link, services
from cli.doctor.finding import Level
from cli.doctor.subject import Subject
from cli.pki.authority import Authority
from services.common.metrics import Gauge, Metrics, Sample, software_version
from services.common.metrics_server import MetricsServer
from services.common.tls import Tls
from tests.certificates import new_authority, platform_files
from tests.cli.doctor_subject import closed_port, subject, tls_environment
from tests.cli.verified_journals import CITY, COUNTY


@pytest.fixture(scope="module")
def authority() -> Authority:
    return new_authority()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened_last:
        yield opened_last


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
