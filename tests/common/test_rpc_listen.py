"""Where a server may listen, and what it says when it cannot."""

import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.rpc_client import connect
from services.common.rpc_server import AddressInUse, ListenError, RpcServer
from tests.access import Access
from tests.common.served import WAIT_SECONDS, Served

Serve = Callable[..., Served]


def is_serving(address: str) -> bool:
    with connect(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=WAIT_SECONDS)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def test_any_free_port() -> None:
    server = RpcServer("test", "localhost:0", Access().control)
    server.start()

    assert is_serving(server.address)
    assert server.address.startswith("127.0.0.1:")
    server.stop(0)


def test_taken_port_names_the_address_and_the_setting() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"

        with pytest.raises(AddressInUse, match=f"{address} is in use .* ZHICHAO_WEIGHING_LISTEN"):
            RpcServer("weighing", address, Access().control).start()


def test_second_server_on_a_port() -> None:
    first = RpcServer("test", "127.0.0.1:0", Access().control)
    first.start()

    with pytest.raises(AddressInUse):
        RpcServer("test", first.address, Access().control).start()
    first.stop(0)


def test_taken_health_port() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"

        with pytest.raises(AddressInUse, match="ZHICHAO_TEST_HEALTH_LISTEN"):
            RpcServer("test", "127.0.0.1:0", Access().control, health_listen=address).start()


def test_taken_socket(serve: Serve) -> None:
    served = serve(once=lambda request, _context: request)

    with pytest.raises(AddressInUse, match="ZHICHAO_OTHER_LISTEN"):
        RpcServer("other", served.address, Access().control).start()
    assert served.once(b"a") == b"a"


def test_socket_that_a_dead_server_left_behind(socket_directory: Path, serve: Serve) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(socket_directory / "test.sock"))

    assert serve(once=lambda request, _context: request).once(b"a") == b"a"


def test_address_that_cannot_be_had(socket_directory: Path) -> None:
    absent = socket_directory / "absent" / "test.sock"

    with pytest.raises(ListenError, match=r"absent/test\.sock cannot be listened on: change") as raised:
        RpcServer("test", f"unix:{absent}", Access().control).start()

    assert not isinstance(raised.value, AddressInUse)


@pytest.mark.parametrize("listen", ["0.0.0.0:7702", "[::]:7702", "192.0.2.1:7702", "county.example:7702"])
def test_network_without_tls_is_refused(listen: str) -> None:
    with pytest.raises(ListenError, match="TLS"):
        RpcServer("test", listen, Access().control)


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.1.2.3:0", "localhost:0", "[::1]:0", "unix:/run/a.sock"])
def test_this_machine_without_tls_is_allowed(listen: str) -> None:
    assert RpcServer("test", listen, Access().control).address == listen
