"""Health is answered without credentials: what anybody may ask must cost nothing that somebody else needs."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common import rpc_health
from services.common.reasons import Reason
from services.common.rpc_client import connect, service_error
from tests.common.served import SERVICE, WAIT_SECONDS, Served

Serve = Callable[..., Served]

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"


def statuses(served: Served, service: str, channel: grpc.Channel) -> Any:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=WAIT_SECONDS)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xff\xff", Reason.MALFORMED_MESSAGE),
        (b"\x0a\x02\xff\xfe", Reason.MALFORMED_MESSAGE),
        (b"\x0a\xff\x7f" + b"x" * 0x3FFF, Reason.MESSAGE_TOO_LARGE),
    ],
)
def test_what_is_no_request_is_refused_with_a_reason(serve: Serve, content: bytes, reason: Reason) -> None:
    served = serve()
    with connect(served.address) as channel:
        check: Any = channel.unary_unary(CHECK)
        watch: Any = channel.unary_stream(WATCH)
        for call in (check, lambda *asked, **options: next(watch(*asked, **options))):
            with pytest.raises(grpc.RpcError) as raised:
                call(content, timeout=WAIT_SECONDS)
            failed: Any = raised.value
            assert (failed.code().name, service_error(failed).reason) == ("INVALID_ARGUMENT", reason)


def test_a_service_that_is_not_there(serve: Serve) -> None:
    served = serve()
    with connect(served.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.RpcError) as raised:
            stub.Check(health_pb2.HealthCheckRequest(service="elsewhere"), timeout=WAIT_SECONDS)
        failed: Any = raised.value
        assert failed.code() is grpc.StatusCode.NOT_FOUND
        assert next(statuses(served, "elsewhere", channel)).status == UNKNOWN


def test_a_watch_is_told_of_changes(serve: Serve) -> None:
    served = serve()
    with connect(served.address) as channel:
        watched = statuses(served, SERVICE, channel)
        assert next(watched).status == SERVING
        served.server.set_serving(SERVICE, False)
        assert next(watched).status == NOT_SERVING
        served.server.set_serving("", False)
        served.server.set_serving(SERVICE, True)
        assert next(watched).status == SERVING


def test_watches_end_with_their_callers_and_leave_nothing(serve: Serve) -> None:
    served = serve()
    for number in range(rpc_health.WATCHES_MAX * 2):
        with connect(served.address) as channel:
            watched = statuses(served, f"made-up-{number}", channel)
            assert next(watched).status == UNKNOWN
            watched.cancel()
        wait_until(lambda: not served.server.health.watch_count, "the watch is still there")


def test_nobody_takes_all_watches_for_ever(serve: Serve) -> None:
    served = serve()
    with ExitStack() as stack:
        channel = stack.enter_context(connect(served.address))
        watched = []
        for _ in range(rpc_health.WATCHES_MAX):
            # One after another: of calls that begin at once only so many are taken.
            watched.append(statuses(served, "", channel))
            assert next(watched[-1]).status == SERVING
        with pytest.raises(grpc.RpcError) as raised:
            next(statuses(served, "", channel))
        assert service_error(raised.value).reason is Reason.TOO_MANY_REQUESTS
        watched.pop().cancel()
        wait_until(lambda: served.server.health.watch_count < rpc_health.WATCHES_MAX, "no room")
        assert next(statuses(served, "", channel)).status == SERVING


def test_checks_without_a_message_hold_up_nobody(serve: Serve) -> None:
    """GRPC reads a request in the thread that will answer it: whoever sends none keeps that thread."""
    served = serve(once=lambda _request, _context: b"served")
    with connect(served.address) as channel:
        silent = threading.Event()

        def never() -> Any:
            silent.wait(WAIT_SECONDS)
            yield from ()

        check: Any = channel.stream_unary(CHECK)
        calls = [check.future(never(), timeout=WAIT_SECONDS) for _ in range(16)]
        try:
            assert served.once() == b"served"
        finally:
            silent.set()
            for call in calls:
                call.cancel()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    pause = threading.Event()
    for _ in range(int(WAIT_SECONDS / 0.005)):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError(what)


@pytest.mark.parametrize("method", [CHECK, WATCH])
def test_silent_calls_are_bounded_and_cut(serve: Serve, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    served = serve(once=lambda _request, _context: b"served", threads=2, health_listen="127.0.0.1:0")
    ports = served.server.health._ports
    silent = threading.Event()

    def never() -> Any:
        silent.wait(WAIT_SECONDS)
        yield from ()

    with ExitStack() as stack:
        channel = stack.enter_context(connect(served.address))
        stack.callback(silent.set)
        call: Any = channel.stream_stream(method)
        calls = [call(never(), timeout=60) for _ in range(rpc_health.CALLS_MAX)]
        wait_until(lambda: len(ports[0]._silent) == rpc_health.CALLS_MAX, "all are open")

        assert served.once() == b"served"
        # More of them do not wait: what waits counts among the calls that a server takes at all.
        with pytest.raises(grpc.RpcError) as raised:
            next(call(never(), timeout=60))
        assert service_error(raised.value).reason is Reason.TOO_MANY_REQUESTS
        # Whoever holds up one port holds up nothing of the other.
        probe: Any = health_pb2_grpc.HealthStub(stack.enter_context(connect(served.server.health_address or "")))
        assert probe.Check(health_pb2.HealthCheckRequest(), timeout=WAIT_SECONDS).status == SERVING

        monkeypatch.setattr(rpc_health, "MESSAGE_SECONDS_MAX", -1.0)
        served.server._watch.look()
        for one in calls:
            with pytest.raises(grpc.RpcError):
                next(one)
        wait_until(lambda: not ports[0]._calls.call_count, "their threads are free")
        stub: Any = health_pb2_grpc.HealthStub(channel)
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=WAIT_SECONDS).status == SERVING


def test_a_server_stops_while_watches_of_its_health_end(serve: Serve) -> None:
    """The servicer of gRPC itself waits for the server's thread for events under a lock that this thread waits for."""
    served = serve()
    with connect(served.address) as channel:
        watched = [statuses(served, "", channel) for _ in range(8)]
        assert {next(one).status for one in watched} == {SERVING}
        stopping = served.stop_in_background(5.0)
        for one in watched:
            one.cancel()
        stopping.join(WAIT_SECONDS)

    assert not stopping.is_alive()


def test_the_health_port_takes_no_large_message(serve: Serve) -> None:
    served = serve(health_listen="127.0.0.1:0")
    with connect(served.server.health_address or "") as channel:
        check: Any = channel.unary_unary(CHECK)
        with pytest.raises(grpc.RpcError) as raised:
            check(b"x" * 100_000, timeout=WAIT_SECONDS)
        failed: Any = raised.value
        assert failed.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
