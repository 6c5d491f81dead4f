"""Figures for Prometheus: what is counted, what a scrape reads, and what happens when something cannot be read."""

import http.client
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from services.common import metrics as subject
from services.common.metrics import METHODS_MAX, Gauge, Metrics, Sample, level_of
from services.common.metrics_server import CONNECTIONS_MAX, MetricsServer
from services.common.rpc_server import AddressInUse, ListenError
from tests.metrics import scrape
from tests.system.waiting import wait_until

SECONDS = 10.0


def get(address: str, path: str = "/metrics") -> tuple[int, str, str]:
    """Return status, `Server` header and text of one answer."""
    with closing(http.client.HTTPConnection(address, timeout=SECONDS)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Server") or "", answer.read().decode()


def samples(address: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return scrape(address).samples


def value(address: str, name: str, **labels: str) -> float | None:
    return scrape(address).value(name, **labels)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("weighing", "141025")


@pytest.fixture
def address(metrics: Metrics) -> Iterator[str]:
    server = MetricsServer(metrics, "127.0.0.1:0")
    server.start()
    assert server.address is not None
    yield server.address
    server.stop()


def test_build_and_process_are_told(address: str) -> None:
    found = samples(address)

    (labels,) = [dict(labels) for name, labels in found if name == "zhichao_build_info"]
    assert labels == {
        "component": "weighing",
        "platform": "141025",
        "level": "county",
        "version": subject.software_version(),
    }
    assert found[("process_resident_memory_bytes", ())] > 1_000_000


@pytest.mark.parametrize(("platform", "level"), [("140000", "province"), ("141000", "city"), ("141025", "county")])
def test_the_level_is_read_from_the_code(platform: str, level: str) -> None:
    assert level_of(platform) == level


def test_calls_are_counted_by_how_they_ended(metrics: Metrics, address: str) -> None:
    method = "zhichao.weighing.v1.WeighingService/RecordWeighing"
    metrics.requests.ended(method, "OK", seconds=0.002)
    metrics.requests.ended(method, "OK", seconds=0.3)
    metrics.requests.ended(method, "INVALID_ARGUMENT", "INVALID_ARGUMENT", seconds=0.0001)
    metrics.requests.ended("zhichao.weighing.v1.WeighingService/WatchWeighings", "CANCELLED")

    names = {"component": "weighing", "method": method}
    total = "zhichao_requests_total"
    assert value(address, total, **names, status="OK", reason="") == 2
    assert value(address, total, **names, status="INVALID_ARGUMENT", reason="INVALID_ARGUMENT") == 1
    seconds = "zhichao_request_duration_seconds"
    assert value(address, f"{seconds}_count", **names) == 3
    assert value(address, f"{seconds}_bucket", **names, le="0.0025") == 2
    # A stream lasts as long as somebody wants it: that is no duration of ours.
    watch = {"component": "weighing", "method": "zhichao.weighing.v1.WeighingService/WatchWeighings"}
    assert value(address, f"{seconds}_count", **watch) is None
    assert value(address, total, **watch, status="CANCELLED", reason="") == 1


def test_failed_authentication_is_counted_by_its_reason(metrics: Metrics, address: str) -> None:
    metrics.requests.ended("a/B", "UNAUTHENTICATED", "CREDENTIAL_REVOKED")
    metrics.requests.ended("a/B", "PERMISSION_DENIED", "OUTSIDE_SCOPE")

    name = "zhichao_authentication_failures_total"
    found = {dict(labels)["reason"]: count for (one, labels), count in samples(address).items() if one == name}
    assert found == {"CREDENTIAL_REVOKED": 1}


def test_methods_that_strangers_make_up_do_not_grow_the_series(metrics: Metrics, address: str) -> None:
    for number in range(3 * METHODS_MAX):
        metrics.requests.ended(f"stranger/Method{number}", "PERMISSION_DENIED", "PERMISSION_MISSING", seconds=0.1)

    found = [dict(labels) for (name, labels) in samples(address) if name == "zhichao_requests_total"]
    assert len(found) == METHODS_MAX + 1
    other = {"component": "weighing", "method": "other", "status": "PERMISSION_DENIED", "reason": "PERMISSION_MISSING"}
    assert value(address, "zhichao_requests_total", **other) == 2 * METHODS_MAX
    assert value(address, "zhichao_request_duration_seconds_count", component="weighing", method="other") is not None


def test_gauges_are_read_at_a_scrape_and_kept_for_a_moment(
    metrics: Metrics, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = Gauge("zhichao_test_waiting", "Waiting.", ("stream",))
    looks: list[int] = []

    def read() -> dict[str, list[Sample]]:
        looks.append(1)
        return {waiting.name: [Sample(("weighing",), float(len(looks)))]}

    metrics.gauges("test", [waiting], read)
    # Registering and counting reads nothing.
    assert looks == []

    assert value(address, waiting.name, stream="weighing") == 1
    assert value(address, waiting.name, stream="weighing") == 1
    monkeypatch.setattr(subject, "READ_KEPT_SECONDS", 0.0)
    assert value(address, waiting.name, stream="weighing") == 2


def test_a_group_that_cannot_be_read_costs_no_other(metrics: Metrics, address: str) -> None:
    def fail() -> dict[str, list[Sample]]:
        raise ConnectionError("postgresql://zhichao:password@db.example/weighing")

    good = Gauge("zhichao_test_good", "Good.")
    metrics.gauges("bad", [Gauge("zhichao_test_bad", "Bad.")], fail)
    metrics.gauges("good", [good], lambda: {good.name: [Sample((), 7.0)]})

    status, _, text = get(address)
    assert status == 200
    assert "password" not in text
    assert value(address, good.name) == 7
    assert value(address, "zhichao_test_bad") is None
    assert value(address, "zhichao_collection_failures_total", component="weighing", group="bad") == 1


def test_a_name_is_used_once(metrics: Metrics) -> None:
    gauge = Gauge("zhichao_test_once", "Once.")
    metrics.gauges("first", [gauge], dict)

    with pytest.raises(ValueError, match="zhichao_test_once"):
        metrics.gauges("second", [gauge], dict)


def test_services_of_one_process_stay_apart() -> None:
    first, second = Metrics("registry", "141025"), Metrics("weighing", "141025")
    first.requests.ended("a/B", "OK")
    with ExitStack() as stack:
        servers = [MetricsServer(one, "127.0.0.1:0") for one in (first, second)]
        for server in servers:
            server.start()
            stack.callback(server.stop)
        addresses = [server.address or "" for server in servers]

        assert value(addresses[0], "zhichao_requests_total", component="registry", method="a/B", status="OK", reason="")
        assert not [name for name, _ in samples(addresses[1]) if name == "zhichao_requests_total"]


def test_only_the_figures_are_served(address: str) -> None:
    status, server, text = get(address, "/")

    assert status == 404
    assert "Python" not in server + text


def test_without_an_address_nothing_listens(metrics: Metrics) -> None:
    server = MetricsServer(metrics, None)
    server.start()
    server.stop()

    assert server.address is None


def test_a_taken_port_names_the_setting(metrics: Metrics, address: str) -> None:
    with pytest.raises(AddressInUse, match="ZHICHAO_WEIGHING_METRICS_LISTEN"):
        MetricsServer(metrics, address).start()


def test_an_address_of_another_machine_names_the_setting(metrics: Metrics) -> None:
    with pytest.raises(ListenError, match="ZHICHAO_WEIGHING_METRICS_LISTEN"):
        MetricsServer(metrics, "192.0.2.1:7722").start()


def test_a_stopped_server_can_be_followed_by_another_one_on_its_port(metrics: Metrics) -> None:
    first = MetricsServer(metrics, "127.0.0.1:0")
    first.start()
    address = first.address or ""
    assert samples(address)
    first.stop()

    second = MetricsServer(metrics, address)
    second.start()
    try:
        assert samples(address)
    finally:
        second.stop()


def test_silent_connections_are_bounded(address: str) -> None:
    host, _, port = address.rpartition(":")
    with ExitStack() as stack:
        for _ in range(CONNECTIONS_MAX):
            silent = stack.enter_context(socket.create_connection((host, int(port)), timeout=SECONDS))
            silent.sendall(b"GET /met")
        one_more = stack.enter_context(socket.create_connection((host, int(port)), timeout=SECONDS))

        # Closed without an answer, and without a thread.
        assert one_more.recv(1) == b""
    wait_until(lambda: is_answered(address), SECONDS, "connections that were closed still take room")


def is_answered(address: str) -> bool:
    try:
        return get(address)[0] == 200
    except (ConnectionError, http.client.HTTPException):
        return False
