"""A stop lets running calls finish, tells open streams, refuses new calls, and never takes longer than its grace."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.reasons import Reason
from services.common.request import use_request_context
from services.common.rpc_client import service_error
from services.common.rpc_server import request_context
from tests.common.conftest import Events
from tests.common.served import WAIT_SECONDS, Requests, Served, refused

Serve = Callable[..., Served]

# A stop with nothing that needs the grace; a busy machine takes a while to schedule threads.
PROMPT_SECONDS = 3.0
GRACE_SECONDS = 30.0


def test_running_call_finishes(serve: Serve, events: Events) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def once(request: bytes, _context: object) -> bytes:
        begun.set()
        go_on.wait(WAIT_SECONDS)
        return request

    served = serve(once=once)
    answer = served.once_future(b"a")
    assert begun.wait(WAIT_SECONDS)
    stopping = served.stop_in_background(GRACE_SECONDS)
    stopping.join(0.1)
    assert stopping.is_alive()
    go_on.set()

    assert answer.result() == b"a"
    stopping.join(PROMPT_SECONDS)
    assert not stopping.is_alive()
    assert events.named("server_stopped")[0]["calls_cut"] == 0


def test_new_call_is_refused_while_stopping(serve: Serve) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def once(request: bytes, _context: object) -> bytes:
        begun.set()
        go_on.wait(WAIT_SECONDS)
        return request

    served = serve(once=once)
    answer = served.once_future(b"a")
    assert begun.wait(WAIT_SECONDS)
    stopping = served.stop_in_background(GRACE_SECONDS)
    health: Any = health_pb2_grpc.HealthStub(served.channel)
    request = health_pb2.HealthCheckRequest()
    wait_until(lambda: health.Check(request).status == health_pb2.HealthCheckResponse.NOT_SERVING)
    # Health turns first.
    wait_until(served.server._interceptor.stopping.is_set)

    refusals = [
        service_error(refused(lambda: served.once(b"b"))),
        service_error(refused(lambda: list(served.spread(b"b")))),
        service_error(refused(lambda: list(served.exchange(Requests(b"b"))))),
        service_error(refused(lambda: served.gather(iter([b"b"])))),
    ]

    assert [error.reason for error in refusals] == [Reason.SHUTTING_DOWN] * 4
    assert refusals[0].retry_after_seconds is not None
    go_on.set()
    assert answer.result() == b"a"
    stopping.join(WAIT_SECONDS)


def assert_answered_then_cut(
    served: Served, requests: Requests, begun: threading.Event, go_on: threading.Event
) -> None:
    """Stop while the first request is worked on: its answer is sent, then the stream ends, and the server with it."""
    answers = served.exchange(requests)
    assert begun.wait(WAIT_SECONDS)
    stopping = served.stop_in_background(GRACE_SECONDS)
    stopping.join(0.1)
    go_on.set()

    assert next(answers) == b"1"
    assert service_error(refused(lambda: next(answers))).reason == Reason.SHUTTING_DOWN
    stopping.join(PROMPT_SECONDS)
    assert not stopping.is_alive()


def test_idle_stream_ends_at_once(serve: Serve, events: Events) -> None:
    def exchange(requests: Iterator[bytes], _context: object) -> Iterator[bytes]:
        yield from requests

    served = serve(exchange=exchange)
    answers = served.exchange(Requests(b"1"))
    assert next(answers) == b"1"
    took = stop_seconds(served)

    error = service_error(refused(lambda: next(answers)))
    assert (error.reason, error.retry_after_seconds) == (Reason.SHUTTING_DOWN, 2.0)
    assert took < PROMPT_SECONDS
    (line,) = events.finished()
    assert (line["status"], line["reason"], line["messages_out"]) == ("UNAVAILABLE", "SHUTTING_DOWN", 1)


def test_watch_ends_at_once(serve: Serve) -> None:
    def spread(_request: bytes, _context: object) -> Iterator[bytes]:
        context = request_context()
        changed = threading.Event()
        context.on_end(changed.set)
        yield b"first"
        while context.is_active():
            changed.wait(WAIT_SECONDS)

    served = serve(spread=spread)
    answers = served.spread()
    assert next(answers) == b"first"

    assert stop_seconds(served) < PROMPT_SECONDS
    # Not OK: the handler left early, and the caller must not take what it got for all there is.
    assert service_error(refused(lambda: next(answers))).reason == Reason.SHUTTING_DOWN


def test_stream_that_reads_in_a_thread_answers_what_it_has_begun(serve: Serve) -> None:
    go_on, begun = threading.Event(), threading.Event()

    def exchange(requests: Iterator[bytes], _context: object) -> Iterator[bytes]:
        context = request_context()
        waiting: queue.Queue[bytes | None] = queue.Queue()

        def read() -> None:
            with use_request_context(context):
                for request in requests:
                    waiting.put(request)
            waiting.put(None)

        context.on_end(lambda: waiting.put(None))
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        while (request := waiting.get()) is not None:
            begun.set()
            go_on.wait(WAIT_SECONDS)
            yield request

    assert_answered_then_cut(serve(exchange=exchange), Requests(b"1"), begun, go_on)


def test_stream_in_mid_work_sends_its_answer_first(serve: Serve) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def exchange(requests: Iterator[bytes], _context: object) -> Iterator[bytes]:
        for request in requests:
            begun.set()
            go_on.wait(WAIT_SECONDS)
            yield request

    assert_answered_then_cut(serve(exchange=exchange), Requests(b"1", b"2"), begun, go_on)


def test_idle_client_stream_is_cut(serve: Serve) -> None:
    read = threading.Event()

    def gather(requests: Iterator[bytes], _context: object) -> bytes:
        for _ in requests:
            read.set()
        return b""

    served = serve(gather=gather)
    failures: list[grpc.RpcError] = []
    caller = threading.Thread(target=lambda: failures.append(refused(lambda: served.gather(Requests(b"1")))))
    caller.start()
    assert read.wait(WAIT_SECONDS)

    assert stop_seconds(served) < PROMPT_SECONDS
    caller.join(WAIT_SECONDS)
    assert service_error(failures[0]).reason == Reason.SERVICE_UNAVAILABLE


def test_what_overruns_the_grace_is_cut(serve: Serve, events: Events) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def once(request: bytes, _context: object) -> bytes:
        begun.set()
        go_on.wait(WAIT_SECONDS)
        return request

    served = serve(once=once)
    answer = served.once_future()
    assert begun.wait(WAIT_SECONDS)
    served.server.stop(0.1)

    assert answer.exception() is not None
    assert events.named("server_stopped")[0]["calls_cut"] == 1
    go_on.set()


def test_health_watcher_does_not_keep_the_server(serve: Serve) -> None:
    served = serve()
    health: Any = health_pb2_grpc.HealthStub(served.channel)
    watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=WAIT_SECONDS)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING

    assert stop_seconds(served) < PROMPT_SECONDS
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    refused(lambda: next(watch))


def test_callback_that_fails_does_not_keep_the_others(serve: Serve, events: Events) -> None:
    def fail() -> None:
        raise ValueError("a mistake in a handler")

    def exchange(requests: Iterator[bytes], _context: object) -> Iterator[bytes]:
        request_context().on_end(fail)
        yield from requests

    served = serve(exchange=exchange)
    streams = [served.exchange(Requests(b"1")) for _ in range(3)]
    assert [next(answers) for answers in streams] == [b"1"] * 3

    assert stop_seconds(served) < PROMPT_SECONDS
    assert len(events.named("stream_callback_failed")) == 3


def test_callback_after_the_stop_began_is_called_at_once(serve: Serve) -> None:
    begun, go_on = threading.Event(), threading.Event()
    called = []

    def once(_request: bytes, _context: object) -> bytes:
        begun.set()
        assert request_context().stopping.wait(WAIT_SECONDS)
        request_context().on_end(lambda: called.append("now"))
        go_on.set()
        return b"".join(name.encode() for name in called)

    served = serve(once=once)
    answer = served.once_future()
    assert begun.wait(WAIT_SECONDS)
    served.server.stop(GRACE_SECONDS)

    assert answer.result() == b"now"


@pytest.mark.parametrize("round_number", range(5))
def test_stop_under_load_answers_or_refuses_every_message(serve: Serve, round_number: int) -> None:
    def exchange(requests: Iterator[bytes], _context: object) -> Iterator[bytes]:
        yield from requests

    served = serve(exchange=exchange, streams_max=8)
    counts: list[tuple[int, Reason]] = []

    def push() -> None:
        requests = Requests(*[b"m"] * 20_000)
        answered = 0
        try:
            for _ in served.exchange(requests):
                answered += 1
        except grpc.RpcError as error:
            counts.append((answered, service_error(error).reason))

    pushers = [threading.Thread(target=push) for _ in range(4)]
    for pusher in pushers:
        pusher.start()
    wait_until(lambda: len(served.server._interceptor._open_streams) == 4)
    took = stop_seconds(served)
    for pusher in pushers:
        pusher.join(WAIT_SECONDS)

    assert took < PROMPT_SECONDS
    assert [reason for _, reason in counts] == [Reason.SHUTTING_DOWN] * 4


def stop_seconds(served: Served) -> float:
    started = time.monotonic()
    served.server.stop(GRACE_SECONDS)
    return time.monotonic() - started


def wait_until(is_so: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + WAIT_SECONDS
    while not is_so():
        assert time.monotonic() < ends_at
        threading.Event().wait(0.002)
