"""What a call holds is free once it is over, and not when the collector comes round: each has 20 KB of gRPC's own."""

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.rpc_call import Call
from tests.common.served import SERVICE, Served, refused
from tests.waiting import wait_until

Serve = Callable[..., Served]

CALLS = 20


@pytest.fixture
def _collector_off() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def echo(request: bytes, _context: object) -> bytes:
    return request


def refuse(_request: Any, _context: object) -> bytes:
    raise ServiceError(Reason.NOT_FOUND, "no such thing")


def gather(requests: Iterator[bytes], _context: object) -> bytes:
    return b"".join(requests)


def spread(request: bytes, _context: object) -> Iterator[bytes]:
    yield from [request] * 3


def exchange(requests: Iterator[bytes], _context: object) -> Iterator[bytes]:
    yield from requests


def held() -> int:
    """Count what something holds of calls: ours, and what gRPC keeps of each."""
    return sum(isinstance(one, Call) or type(one).__module__ == "grpc._server" for one in gc.get_objects())


def expect_freed(call: Callable[[], object]) -> None:
    """Call often, and wait until none of the calls is held."""
    before = held()
    for _ in range(CALLS):
        call()
    wait_until(lambda: held() <= before, "calls are freed without the collector")


@pytest.mark.usefixtures("_collector_off")
@pytest.mark.parametrize(
    "call",
    [
        lambda served: served.once(b"x"),
        lambda served: served.gather(iter([b"x", b"y"])),
        lambda served: list(served.spread(b"x")),
        lambda served: list(served.exchange(iter([b"x", b"y"]))),
    ],
    ids=["once", "gather", "spread", "exchange"],
)
def test_a_call_is_freed_when_it_is_over(serve: Serve, call: Callable[[Served], object]) -> None:
    served = serve(once=echo, gather=gather, spread=spread, exchange=exchange)

    expect_freed(lambda: call(served))


@pytest.mark.usefixtures("_collector_off")
def test_a_refused_call_is_freed_when_it_is_over(serve: Serve) -> None:
    served = serve(once=refuse)

    expect_freed(lambda: refused(served.once))


@pytest.mark.usefixtures("_collector_off")
def test_a_call_of_nobody_is_freed_when_it_is_over(serve: Serve) -> None:
    served = serve(once=echo)
    with served.connect(None) as channel:
        once: Any = channel.unary_unary(f"/{SERVICE}/Once")

        def call() -> object:
            return refused(lambda: once(b"", timeout=10))

        expect_freed(call)
