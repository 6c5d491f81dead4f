"""What surrounds every call: the context, the log line, the limits, and health."""

import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.common import rpc_call
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.rpc_client import call_timeout_seconds, connect, service_error
from services.common.rpc_server import request_context
from tests.common.conftest import Events
from tests.common.served import SERVICE, WAIT_SECONDS, Requests, Served, refused

Serve = Callable[..., Served]

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def health(address: str, service: str = "") -> int:
    with connect(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=WAIT_SECONDS)
        return int(answer.status)


# The context


def test_request_id_is_the_caller_s(serve: Serve) -> None:
    served = serve(once=lambda _request, _context: request_context().request_id.encode())

    assert served.once(metadata=[("x-request-id", "site-7:42")]) == b"site-7:42"


@pytest.mark.parametrize("bad", ["", "a b", "a" * 65, 'a"b'])
def test_unusable_request_id_is_replaced(serve: Serve, bad: str) -> None:
    served = serve(once=lambda _request, _context: request_context().request_id.encode())

    made = served.once(metadata=[("x-request-id", bad)]).decode()

    assert made != bad
    assert len(made) == 16


def test_request_ids_differ(serve: Serve) -> None:
    served = serve(once=lambda _request, _context: request_context().request_id.encode())

    assert served.once() != served.once()


def test_request_id_goes_along_with_calls_of_a_handler(serve: Serve, events: Events) -> None:
    def once(request: bytes, _context: object) -> bytes:
        return served.once(b"inner") if request == b"outer" else request_context().request_id.encode()

    served = serve(once=once)

    assert served.once(b"outer", metadata=[("x-request-id", "abc")]) == b"abc"
    assert [line["request_id"] for line in events.finished(2)] == ["abc", "abc"]


def test_context_outside_of_a_call() -> None:
    context = contextvars.Context().run(request_context)

    assert (context.request_id, context.seconds_remaining(), context.is_active()) == ("", None, True)


def test_deadline_of_the_caller(serve: Serve) -> None:
    remaining: list[float | None] = []

    def once(_request: bytes, _context: object) -> bytes:
        remaining.extend([request_context().seconds_remaining(), call_timeout_seconds(5), call_timeout_seconds(90)])
        return b""

    served = serve(once=once)
    served.once(timeout=60)
    served.call_unary("Once")

    assert remaining[0] is not None
    # gRPC rounds the time that it sends up a little.
    assert 50 < remaining[0] <= 61
    assert remaining[1] == 5
    assert remaining[2] is not None
    assert 50 < remaining[2] <= 61
    assert remaining[3:] == [None, 5, 90]


def test_context_in_all_kinds_of_calls(serve: Serve) -> None:
    def gather(requests: Iterator[bytes], _context: object) -> bytes:
        return b"".join(requests) + request_context().principal.name.encode()

    def spread(request: bytes, _context: object) -> Iterator[bytes]:
        yield request + request_context().principal.name.encode()

    def exchange(requests: Iterator[bytes], _context: object) -> Iterator[bytes]:
        for request in requests:
            yield request + request_context().principal.name.encode()

    served = serve(gather=gather, spread=spread, exchange=exchange)

    assert served.gather(iter([b"a", b"b"])) == b"abperson/tester"
    assert list(served.spread(b"a")) == [b"aperson/tester"]
    assert list(served.exchange(iter([b"a", b"b"]))) == [b"aperson/tester", b"bperson/tester"]


# The log line


def test_one_line_per_call(serve: Serve, events: Events) -> None:
    served = serve(once=lambda request, _context: request)

    served.once(metadata=[("x-request-id", "abc")])

    (line,) = events.finished()
    assert line.pop("duration_ms") >= 0
    assert line == {
        "event": "request_finished",
        "log_level": "info",
        "method": f"{SERVICE}/Once",
        "status": "OK",
        "request_id": "abc",
        "principal": "person/tester",
        "peer": "unix",
        "messages_in": 1,
        "messages_out": 1,
    }


def test_caller_does_not_wait_for_the_line(serve: Serve, events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    write = rpc_call._write

    def write_late(*values: Any) -> None:
        assert answered.wait(WAIT_SECONDS)
        write(*values)

    monkeypatch.setattr(rpc_call, "_write", write_late)
    served = serve(once=lambda request, _context: request)
    assert served.once(b"1") == b"1"
    answered.set()

    (line,) = events.finished()
    assert (line["status"], line["messages_out"]) == ("OK", 1)


def test_line_of_a_stream_counts_messages(serve: Serve, events: Events) -> None:
    def exchange(requests: Iterator[bytes], _context: object) -> Iterator[bytes]:
        for request in requests:
            yield from [request] * 2

    served = serve(exchange=exchange, gather=lambda requests, _context: b"".join(requests))
    assert len(list(served.exchange(iter([b"a"] * 3)))) == 6
    served.gather(iter([b"a"] * 4))

    counts = {line["method"].split("/")[1]: (line["messages_in"], line["messages_out"]) for line in events.finished(2)}
    assert counts == {"Exchange": (3, 6), "Gather": (4, 1)}


def test_message_with_a_refused_value_is_not_logged(serve: Serve, events: Events) -> None:
    def once(_request: bytes, _context: object) -> bytes:
        raise ServiceError(Reason.NOT_FOUND, "truck 晋A00001 is not known")

    refused(serve(once=once).once)

    assert "晋A" not in str(events.finished())


def test_cancelled_by_the_caller_is_not_an_error(serve: Serve, events: Events) -> None:
    resumed, seen = threading.Event(), threading.Event()

    def spread(_request: bytes, _context: object) -> Iterator[bytes]:
        context = request_context()
        woken = threading.Event()
        context.on_end(woken.set)
        yield b"1"
        resumed.set()
        assert woken.wait(WAIT_SECONDS)
        seen.set()
        assert not context.is_active()
        raise ValueError("a consequence of the cancellation")

    served = serve(spread=spread)
    answers = served.spread()
    assert next(answers) == b"1"
    assert resumed.wait(WAIT_SECONDS)
    answers.cancel()

    assert seen.wait(WAIT_SECONDS)
    (line,) = events.finished()
    assert (line["status"], line["log_level"]) == ("CANCELLED", "info")


def test_stream_that_is_read_when_its_caller_cancels(serve: Serve, events: Events) -> None:
    def exchange(requests: Iterator[bytes], _context: object) -> Iterator[bytes]:
        yield from requests

    served = serve(exchange=exchange)
    answers = served.exchange(Requests(b"1"))
    assert next(answers) == b"1"
    answers.cancel()

    (line,) = events.finished()
    # gRPC may report the end of the requests before the cancellation; then the call has ended as it should.
    assert line["status"] in {"CANCELLED", "OK"}
    assert (line["log_level"], line["messages_in"]) == ("info", 1)


def test_deadline_that_passes_is_logged_as_such(serve: Serve, events: Events) -> None:
    def spread(_request: bytes, _context: object) -> Iterator[bytes]:
        context = request_context()
        over = threading.Event()
        context.on_end(over.set)
        over.wait(WAIT_SECONDS)
        # On a busy machine the call reaches us late and its end does not: our own reckoning must have come to an end.
        assert context.deadline is not None
        threading.Event().wait(max(0.0, context.deadline - time.monotonic()))
        yield from ()

    served = serve(spread=spread)
    failure = refused(lambda: list(served.spread(timeout=0.1)))

    assert failure.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert events.finished()[0]["status"] == "DEADLINE_EXCEEDED"


def test_health_checks_are_not_logged(serve: Serve, events: Events) -> None:
    served = serve(once=lambda request, _context: request)

    health(served.address)
    served.once()

    assert [line["method"] for line in events.finished()] == [f"{SERVICE}/Once"]


# Limits


def test_too_many_streams_are_refused_and_unary_calls_pass(serve: Serve) -> None:
    def exchange(requests: Iterator[bytes], _context: object) -> Iterator[bytes]:
        yield from requests

    served = serve(exchange=exchange, once=lambda request, _context: request, streams_max=2, threads=2)
    open_requests = [Requests(b"1"), Requests(b"1")]
    open_answers = [served.exchange(requests) for requests in open_requests]
    assert [next(answers) for answers in open_answers] == [b"1", b"1"]

    error = service_error(refused(lambda: next(served.exchange(Requests(b"1")))))

    assert (error.reason, dict(error.metadata)) == (Reason.TOO_MANY_REQUESTS, {"limit": "2"})
    assert error.retry_after_seconds is not None
    assert served.once(b"x") == b"x"
    for requests in open_requests:
        requests.end()
    assert [list(answers) for answers in open_answers] == [[], []]


def test_a_stream_that_ended_makes_room(serve: Serve) -> None:
    served = serve(spread=lambda request, _context: iter([request]), streams_max=1)

    for _ in range(20):
        # The last message arrives a moment before the thread is free again.
        answers: list[bytes] = []
        while not answers:
            with suppress(grpc.RpcError):
                answers = list(served.spread(b"a"))
        assert answers == [b"a"]


def test_too_many_unary_calls_are_refused(serve: Serve) -> None:
    go_on = threading.Event()
    begun = threading.Semaphore(0)

    def once(request: bytes, _context: object) -> bytes:
        begun.release()
        go_on.wait(WAIT_SECONDS)
        return request

    served = serve(once=once, threads=2, unary_calls_max=2)
    waiting = [served.once_future(b"a"), served.once_future(b"a")]
    assert all(begun.acquire(timeout=WAIT_SECONDS) for _ in waiting)

    error = service_error(refused(served.once))
    go_on.set()

    assert error.reason == Reason.TOO_MANY_REQUESTS
    assert [future.result() for future in waiting] == [b"a", b"a"]


# Health and reflection


def test_health_of_the_server_and_its_services(serve: Serve) -> None:
    served = serve(health_listen="127.0.0.1:0")
    addresses = [served.address, served.server.health_address or ""]

    assert [health(address, service) for address in addresses for service in ("", SERVICE)] == [SERVING] * 4


def test_unknown_service_has_no_health(serve: Serve) -> None:
    served = serve()

    assert refused(lambda: health(served.address, "zhichao.Absent")).code() == grpc.StatusCode.NOT_FOUND


def test_health_can_be_withdrawn(serve: Serve) -> None:
    served = serve()

    served.server.set_serving(SERVICE, False)

    assert (health(served.address), health(served.address, SERVICE)) == (SERVING, NOT_SERVING)


def test_health_port_serves_nothing_else(serve: Serve) -> None:
    served = serve(health_listen="127.0.0.1:0", once=lambda request, _context: request)

    with connect(served.server.health_address or "") as channel:
        call: Any = channel.unary_unary(f"/{SERVICE}/Once")
        failure = refused(lambda: call(b"", timeout=WAIT_SECONDS))

    assert failure.code() == grpc.StatusCode.UNIMPLEMENTED


def test_reflection_lists_the_services(serve: Serve) -> None:
    served = serve()
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(served.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")

    (answer,) = stub.ServerReflectionInfo(iter([request]), timeout=WAIT_SECONDS)

    names = {service.name for service in answer.list_services_response.service}
    assert names == {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


def handler_threads(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]


def test_threads_are_made_when_needed(serve: Serve) -> None:
    served: Any = serve(once=lambda request, _context: request, streams_max=500)

    served.once()

    assert len(handler_threads("test-call")) == 1
    assert handler_threads("test-stream") == []
