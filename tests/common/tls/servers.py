"""Servers that speak TLS, and what a client of them sees."""

import socket
import ssl
from collections.abc import Callable
from contextlib import closing
from typing import Any

import grpc
import pytest
from cryptography import x509

from services.common.access.knowledge import KnownPlatform
from services.common.clock import Clock
from services.common.errors import ServiceError
from services.common.request import request_context
from services.common.rpc_client import connect, service_error
from services.common.rpc_server import RpcServer
from services.common.tls import Tls
from tests.access import Access, open_method
from tests.common.served import SERVICE, WAIT_SECONDS

CITY = "141000"
COUNTY = "141025"
ONCE = f"/{SERVICE}/Once"
EXCHANGE = f"/{SERVICE}/Exchange"


def once_of(channel: grpc.Channel) -> Any:
    """Return the method `Once` of a channel."""
    return channel.unary_unary(ONCE)


def exchange_of(channel: grpc.Channel) -> Any:
    """Return the method `Exchange` of a channel."""
    return channel.stream_stream(EXCHANGE)


class Served:
    """A server of the city that speaks TLS. `Once` answers who calls, `Exchange` answers each message with itself."""

    def __init__(self, tls: Tls, clock: Clock | None = None, **options: Any) -> None:
        self.access = Access(CITY, clock=clock)
        self.access.say(platforms=[KnownPlatform(COUNTY, CITY)])
        handlers: dict[str, Any] = {
            "Once": grpc.unary_unary_rpc_method_handler(
                lambda _request, _context: request_context().principal.name.encode()
            ),
            "Exchange": grpc.stream_stream_rpc_method_handler(lambda requests, _context: requests),
        }
        generic = grpc.method_handlers_generic_handler(SERVICE, handlers)
        self.server = RpcServer(
            "test", "127.0.0.1:0", self.access.control, tls=tls, threads=4, streams_max=4, **options
        )
        self.server.add(
            lambda server: server.add_generic_rpc_handlers((generic,)),
            SERVICE,
            {path: open_method(path) for path in (ONCE, EXCHANGE)},
        )
        self.server.start()
        self.port = int(self.server.address.rpartition(":")[2])

    def call(self, tls: Any, token: str | None = None) -> str:
        """Call as a client with these certificates and return whom the server sees; raises grpc.RpcError."""
        with self.open(tls, token) as channel:
            return bytes(once_of(channel)(b"", timeout=WAIT_SECONDS)).decode()

    def open(self, tls: Any, token: str | None = None) -> grpc.Channel:
        """Open a channel with a token; by default the tester's."""
        return connect(self.server.address, tls=tls, credentials=self.access.credentials(token))

    def open_without_token(self, tls: Any) -> grpc.Channel:
        return connect(self.server.address, tls=tls)

    def serial(self) -> int:
        """Shake hands and return the serial number of the certificate that the server shows."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with closing(self.shake_hands(context)) as connection:
            shown = connection.getpeercert(binary_form=True)
        assert shown is not None
        return x509.load_der_x509_certificate(shown).serial_number

    def shake_hands(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        """Shake hands as something else than gRPC; raises OSError."""
        context.set_alpn_protocols(["h2"])
        raw = socket.create_connection(("127.0.0.1", self.port), WAIT_SECONDS)
        try:
            return context.wrap_socket(raw, server_hostname="127.0.0.1")
        except BaseException:
            raw.close()
            raise


Serve = Callable[..., Served]


def refusal(call: Callable[[], object]) -> ServiceError:
    """Make a call that must fail and return how the client reads it."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return service_error(raised.value)
