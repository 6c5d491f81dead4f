"""Callers that open calls and send nothing, and strangers who make up methods: they hold up nobody."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import pytest

from services.common.access.limits import STREAMS_MAX, UNARY_CALLS_MAX
from services.common.access.permissions import PrincipalKind
from services.common.access.throttle import FAILURES_FREE
from services.common.reasons import Reason
from services.common.rpc_client import connect, service_error
from services.common.rpc_threads import Turns, give_back_turn
from tests.common.conftest import Events
from tests.common.served import SERVICE, WAIT_SECONDS, Requests, Served, refused

Serve = Callable[..., Served]


def echo(request: bytes, _context: object) -> bytes:
    return request


class Silent:
    """Calls of one caller that are opened and never send their message."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._requests: list[Requests] = []

    def open(self, method: str) -> Any:
        requests = Requests()
        self._requests.append(requests)
        call: Any = self._channel.stream_stream(method)
        return call(requests, timeout=60)

    def end(self) -> None:
        for requests in self._requests:
            requests.end()


@pytest.fixture
def silent() -> Iterator[Callable[[grpc.Channel], Silent]]:
    with ExitStack() as stack:

        def start(channel: grpc.Channel) -> Silent:
            stack.callback(channel.close)
            made = Silent(channel)
            stack.callback(made.end)
            return made

        yield start


def wait_until(condition: Callable[[], Any], what: str) -> None:
    ends_at = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < ends_at, f"in vain: {what}"
        threading.Event().wait(0.005)


# Calls of somebody who is known


def test_calls_that_wait_for_their_messages_hold_up_nobody(
    serve: Serve, silent: Callable[[grpc.Channel], Silent]
) -> None:
    served = serve(once=echo, threads=2)
    terminal = silent(served.connect(served.access.terminal("u-1")))
    most = UNARY_CALLS_MAX[PrincipalKind.TERMINAL]
    calls = [terminal.open(f"/{SERVICE}/Once") for _ in range(most)]
    wait_until(lambda: served.server._unary.call_count == most, "all are open")

    assert served.once(b"x") == b"x"
    over = service_error(refused(lambda: next(terminal.open(f"/{SERVICE}/Once"))))
    assert (over.reason, dict(over.metadata)) == (Reason.TOO_MANY_REQUESTS, {"limit": str(most)})
    # They never came to their handler, and make room all the same.
    for call in calls:
        call.cancel()
    wait_until(lambda: not served.server._gate._unary_calls, "all are forgotten")
    with served.connect(served.access.terminal("u-1")) as channel:
        again: Any = channel.unary_unary(f"/{SERVICE}/Once")
        assert again(b"y", timeout=WAIT_SECONDS) == b"y"


def test_answers_that_nobody_reads_are_bounded(serve: Serve) -> None:
    """They stay in the memory of the server, megabytes each, until their caller takes them."""
    served = serve(once=lambda _request, _context: b"x" * (4 * 1024 * 1024), threads=2)
    most = UNARY_CALLS_MAX[PrincipalKind.TERMINAL]
    credentials = served.access.credentials(served.access.terminal("u-1"))
    # Takes no more than it is asked for, as a caller who means it.
    window = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536))
    with connect(served.address, credentials=credentials, options=window) as channel:
        call: Any = channel.stream_stream(f"/{SERVICE}/Once")
        unread = [call(iter([b""]), timeout=60) for _ in range(most)]
        counted = served.server._gate._unary_calls
        wait_until(lambda: counted["terminal/terminal-1"] == most, "all are open")
        wait_until(lambda: not served.server._unary.call_count, "all are answered")
        over = service_error(refused(lambda: list(call(iter([b""]), timeout=WAIT_SECONDS))))
        assert over.reason is Reason.TOO_MANY_REQUESTS
        assert len(next(unread[0])) == 4 * 1024 * 1024
        wait_until(lambda: counted["terminal/terminal-1"] == most - 1, "one was read")
        for one in unread:
            one.cancel()
        wait_until(lambda: "terminal/terminal-1" not in counted, "all are forgotten")


def test_calls_that_grpc_itself_refuses_do_not_count(
    serve: Serve, silent: Callable[[grpc.Channel], Silent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is full refuses calls after they were admitted, and tells nobody."""
    served = serve(once=echo, threads=2)
    server: Any = served.server._server
    token = served.access.terminal("u-1")
    with served.connect(token) as channel:
        call: Any = channel.unary_unary(f"/{SERVICE}/Once")
        monkeypatch.setattr(server._state, "maximum_concurrent_rpcs", 0)
        for _ in range(UNARY_CALLS_MAX[PrincipalKind.TERMINAL] + 1):
            error = refused(lambda: call(b"x", timeout=WAIT_SECONDS))
            assert error.details() == "Concurrent RPC limit exceeded!"
        monkeypatch.undo()
        assert call(b"y", timeout=WAIT_SECONDS) == b"y"


def test_streams_are_counted_before_their_request_has_come(
    serve: Serve, silent: Callable[[grpc.Channel], Silent]
) -> None:
    served = serve(spread=lambda request, _context: iter([request]), streams_max=50)
    terminal = silent(served.connect(served.access.terminal("u-1")))
    most = STREAMS_MAX[PrincipalKind.TERMINAL]
    calls = [terminal.open(f"/{SERVICE}/Spread") for _ in range(most)]
    wait_until(lambda: sum(served.server._gate._streams.values()) == most, "all are counted")

    over = service_error(refused(lambda: next(terminal.open(f"/{SERVICE}/Spread"))))
    assert over.reason is Reason.TOO_MANY_REQUESTS
    assert list(served.spread(b"x")) == [b"x"]
    for call in calls:
        call.cancel()
    wait_until(lambda: not served.server._gate._streams, "all are forgotten")


def test_a_stream_that_sends_no_request_ends_with_its_credential(
    serve: Serve, silent: Callable[[grpc.Channel], Silent]
) -> None:
    served = serve(spread=lambda request, _context: iter([request]))
    terminal = silent(served.connect(served.access.terminal("u-1")))
    call = terminal.open(f"/{SERVICE}/Spread")
    wait_until(lambda: served.server._gate._streams, "it is open")
    known = served.access.knowledge.credential("terminal-1")
    assert known is not None
    served.access.issue(known.principal, is_revoked=True)

    assert service_error(refused(lambda: next(call))).reason is Reason.CREDENTIAL_REVOKED


def test_a_call_that_ends_without_a_request_is_told_so(serve: Serve) -> None:
    served = serve(spread=lambda request, _context: iter([request]))
    call: Any = served.channel.stream_stream(f"/{SERVICE}/Spread")

    assert service_error(refused(lambda: next(call(iter(())), None))).reason is Reason.MALFORMED_MESSAGE


def test_what_was_given_up_while_it_waited_is_not_done(serve: Serve, events: Events) -> None:
    begun, go_on, done = threading.Event(), threading.Event(), []

    def once(request: bytes, _context: object) -> bytes:
        begun.set()
        go_on.wait(WAIT_SECONDS)
        done.append(request)
        return request

    served = serve(once=once, threads=1)
    first = served.once_future(b"first")
    assert begun.wait(WAIT_SECONDS)
    second = served.once_future(b"second")
    wait_until(lambda: served.server._interceptor._turns._waiting, "the second waits for its turn")
    second.cancel()
    third = served.once_future(b"third")
    wait_until(lambda: len(served.server._interceptor._turns._waiting) == 2, "the third waits too")
    go_on.set()

    assert (first.result(), third.result()) == (b"first", b"third")
    assert done == [b"first", b"third"]
    assert [line["status"] for line in events.finished(3)] == ["OK", "CANCELLED", "OK"]


def test_turns_are_taken_in_the_order_of_coming() -> None:
    turns, order, threads = Turns(1), [], []
    assert not turns.take()

    def work(number: int) -> None:
        assert turns.take()
        order.append(number)
        give_back_turn()

    for number in range(8):
        threads.append(threading.Thread(target=work, args=(number,)))
        threads[-1].start()
        wait_until(lambda number=number: len(turns._waiting) == number + 1, "it waits")  # type: ignore[misc]  # as above
    give_back_turn()
    for thread in threads:
        thread.join(WAIT_SECONDS)

    assert order == list(range(8))
    assert turns._free_count == 1


# Methods that there are not


def test_strangers_do_not_fill_the_log_with_methods_that_they_make_up(serve: Serve, events: Events) -> None:
    served = serve()
    with served.connect(None) as channel:
        reasons = []
        for number in range(FAILURES_FREE + 20):
            call: Any = channel.unary_unary(f"/made.up.Service/Method{number}")
            reasons.append(service_error(refused(lambda call=call: call(b"", timeout=WAIT_SECONDS))).reason)  # type: ignore[misc]  # as above

    assert reasons == [Reason.NO_CREDENTIALS] * FAILURES_FREE + [Reason.AUTHENTICATION_DELAYED] * 20
    assert len(events.finished(FAILURES_FREE)) == FAILURES_FREE
    assert {event["method"] for event in events.finished(FAILURES_FREE)} == {"other"}
