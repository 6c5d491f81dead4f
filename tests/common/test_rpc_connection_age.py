"""A connection does not last for ever, so that clients find replicas that were added; streams are not cut by it."""

import queue
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from services.common.rpc_client import connect
from services.common.rpc_limits import CONNECTION_SECONDS_MAX, SERVER_OPTIONS

AGE_MILLISECONDS = 200
TIMEOUT_SECONDS = 20.0


def peer(_request: bytes, context: grpc.ServicerContext) -> bytes:
    """Tell the caller which of its connections it used."""
    return str(context.peer()).encode()


def peers(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
    """Do so for every message."""
    for request in requests:
        yield peer(request, context)


@pytest.fixture
def address() -> Iterator[str]:
    """Serve both with our options but for the age, and return where."""
    server = grpc.server(
        ThreadPoolExecutor(4),
        handlers=[
            grpc.method_handlers_generic_handler(
                "test",
                {
                    "One": grpc.unary_unary_rpc_method_handler(peer),
                    "Many": grpc.stream_stream_rpc_method_handler(peers),
                },
            )
        ],
        options=list((SERVER_OPTIONS | {"grpc.max_connection_age_ms": AGE_MILLISECONDS}).items()),
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_the_age_is_bounded() -> None:
    assert SERVER_OPTIONS["grpc.max_connection_age_ms"] == CONNECTION_SECONDS_MAX * 1000
    # Without an end to the grace, what runs may run.
    assert "grpc.max_connection_age_grace_ms" not in SERVER_OPTIONS


def test_new_calls_move_to_a_new_connection_and_a_stream_goes_on(address: str) -> None:
    messages: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    with connect(address) as channel:
        one: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test/One")
        many: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream("/test/Many")
        stream = many(iter(messages.get, b"end"), timeout=TIMEOUT_SECONDS)
        messages.put(b"")
        first = next(stream)
        ends_at = time.monotonic() + TIMEOUT_SECONDS
        while one(b"", timeout=TIMEOUT_SECONDS) == first:
            assert time.monotonic() < ends_at, "in vain"

        messages.put(b"")
        assert next(stream) == first
        messages.put(b"end")
        assert list(stream) == []
