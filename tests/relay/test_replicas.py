"""Several replicas: the relay's calls go to all pods of a service, and two relays of one platform do no harm."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from services.common.rpc_client import connect
from services.relay.local_services import CHANNEL_OPTIONS, LocalService
from tests.conftest import Databases
from tests.relay.conftest import CITY, COUNTY
from tests.relay.platforms import WAIT_SECONDS, Platform, assert_same_log
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


@pytest.fixture
def other_directory() -> Iterator[Path]:
    """Return a second short directory: sockets of a second relay."""
    with tempfile.TemporaryDirectory(prefix="zc-") as directory:
        yield Path(directory)


def test_two_relays_of_one_platform_do_no_harm(
    platform: Callable[..., Platform], databases: Databases, socket_directory: Path, other_directory: Path
) -> None:
    """As during a roll-out: both push the same logs, and the upstream holds every entry once."""
    city = platform(CITY, streams=["weighing"])
    city.start()
    county = platform(COUNTY, streams=["weighing"], upstream=city.address)
    county.start()
    # The same key and service token, as two pods have them.
    shutil.copy(socket_directory / f"{COUNTY}.pem", other_directory)
    shutil.copytree(socket_directory / f"{COUNTY}-tokens", other_directory / f"{COUNTY}-tokens")
    second = Platform(databases, other_directory, COUNTY, upstream=city.address, streams=(), fakes=[county["weighing"]])
    second.start_relay()
    try:
        county["weighing"].write_many(5_000, per_batch=50)
        assert_same_log(city["weighing"], county["weighing"], COUNTY)
        for relay in (county, second):
            relay.wait_for_state("CURRENT")
        # The first one goes in the middle of it, as a roll-out ends.
        county["weighing"].write_many(2_000, per_batch=50)
        county.stop_relay()
        county["weighing"].write_many(2_000, per_batch=50)
        assert_same_log(city["weighing"], county["weighing"], COUNTY)
        second.wait_for_state("CURRENT")
    finally:
        second.stop_relay()
