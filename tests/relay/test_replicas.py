"""A service of several replicas under one name: the relay's calls go to all of them."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import grpc
import pytest

from services.common.rpc_client import connect
from services.relay.local_services import CHANNEL_OPTIONS, LocalService
from tests.relay.platforms import WAIT_SECONDS
from zhichao.journal.v1 import journal_pb2


def replica(size: int) -> grpc.Server:
    """Make a server that answers where its log stands with a size by which it is known."""
    answer = journal_pb2.ListPositionsResponse(positions=[journal_pb2.Position(stream="weighing", size=size)])
    method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(
        lambda _request, _context: answer.SerializeToString()
    )
    name = journal_pb2.DESCRIPTOR.services_by_name["JournalService"].full_name
    return grpc.server(
        ThreadPoolExecutor(2), handlers=[grpc.method_handlers_generic_handler(name, {"ListPositions": method})]
    )


@pytest.fixture
def address() -> Iterator[str]:
    """Run two replicas and return the address of both, as a resolver answers for a name with two pods."""
    ports = []
    with ExitStack() as running:
        for size in (1, 2):
            server = running.enter_context(stopping(replica(size)))
            ports.append(server.add_insecure_port("127.0.0.1:0"))
            server.start()
        yield "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)


@contextmanager
def stopping(server: grpc.Server) -> Iterator[grpc.Server]:
    """Stop a server at the end."""
    yield server
    server.stop(None).wait()


def dial(_stream: str, address: str) -> grpc.Channel:
    """Open a channel as the relay does, but for TLS and token."""
    return connect(address, options=CHANNEL_OPTIONS)


def test_every_replica_is_called(address: str) -> None:
    service = LocalService("weighing", address, dial)
    called: set[int] = set()
    ends_at = time.monotonic() + WAIT_SECONDS
    try:
        while called != {1, 2}:
            assert time.monotonic() < ends_at, f"only {called} were called"
            called |= {position.size for position in service.ask_positions()()}
    finally:
        service.close()
