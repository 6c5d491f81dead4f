"""What a call leaves to be done after its answer is done, whatever becomes of the call, and nobody waits for it."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.request import request_context, use_request_context
from tests.common.conftest import Events
from tests.common.served import WAIT_SECONDS, Served, refused

Serve = Callable[..., Served]


def test_the_answer_does_not_wait_for_it(serve: Serve) -> None:
    may_end, done = threading.Event(), threading.Event()

    def slow() -> None:
        assert may_end.wait(WAIT_SECONDS)
        done.set()

    def once(_request: Any, _context: Any) -> bytes:
        request_context().after_answer(slow)
        return b"answer"

    served = serve(once=once)
    assert served.once() == b"answer"
    assert not done.is_set()
    may_end.set()
    assert done.wait(WAIT_SECONDS)


def test_all_of_it_is_done_in_order_and_one_that_fails_does_not_cost_the_others(serve: Serve, events: Events) -> None:
    order: list[int] = []
    done = threading.Event()

    def fail() -> None:
        raise ValueError("sample")

    def once(_request: Any, _context: Any) -> bytes:
        for do in (lambda: order.append(1), fail, lambda: order.append(2), done.set):
            request_context().after_answer(do)
        return b""

    served = serve(once=once)
    served.once()
    assert done.wait(WAIT_SECONDS)
    assert order == [1, 2]
    (line,) = events.finished()
    assert line["status"] == "OK"
    assert len(events.named("after_answer_failed")) == 1


def test_it_is_done_for_a_call_that_fails_later(serve: Serve) -> None:
    done = threading.Event()

    def once(_request: Any, _context: Any) -> bytes:
        request_context().after_answer(done.set)
        raise ServiceError(Reason.NOT_FOUND, "sample")

    served = serve(once=once)
    assert refused(served.once).code() is grpc.StatusCode.NOT_FOUND
    assert done.wait(WAIT_SECONDS)


def test_a_stream_does_it_at_once(serve: Serve) -> None:
    order: list[str] = []

    def spread(_request: Any, _context: Any) -> Iterator[bytes]:
        request_context().after_answer(lambda: order.append("left"))
        order.append("next")
        yield b""

    served = serve(spread=spread)
    assert list(served.spread()) == [b""]
    assert order == ["left", "next"]


def test_a_thread_that_works_for_a_call_does_it_at_once(serve: Serve) -> None:
    order: list[str] = []

    def once(_request: Any, _context: Any) -> bytes:
        call = request_context()

        def work() -> None:
            with use_request_context(call):
                request_context().after_answer(lambda: order.append("left"))
                order.append("next")

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(WAIT_SECONDS)
        return b""

    serve(once=once).once()
    assert order == ["left", "next"]


def test_outside_of_a_call_it_is_done_at_once() -> None:
    order: list[str] = []
    request_context().after_answer(lambda: order.append("left"))
    assert order == ["left"]
