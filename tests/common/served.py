"""A tiny service over a real server on a unix socket: each test says what its methods do, messages are bytes."""

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc

from services.common.access.methods import MethodAccess
from services.common.rpc_client import connect
from services.common.rpc_server import RpcServer
from tests.access import Access, open_method

SERVICE = "zhichao.test.v1.TestService"
WAIT_SECONDS = 10.0

Behaviour = Callable[[Any, Any], Any]


def unused(_request: Any, _context: Any) -> Any:
    raise AssertionError("this method is not part of the test")


class Served:
    """The server and a channel to it. `once` and `gather` answer once; `spread` and `exchange` answer with a stream."""

    def __init__(
        self,
        directory: Path,
        *,
        once: Behaviour = unused,
        gather: Behaviour = unused,
        spread: Behaviour = unused,
        exchange: Behaviour = unused,
        access: Access | None = None,
        methods: Mapping[str, MethodAccess] | None = None,
        **options: Any,
    ) -> None:
        self.address = f"unix:{directory / 'test.sock'}"
        handlers: dict[str, Any] = {
            "Once": grpc.unary_unary_rpc_method_handler(once),
            "Gather": grpc.stream_unary_rpc_method_handler(gather),
            "Spread": grpc.unary_stream_rpc_method_handler(spread),
            "Exchange": grpc.stream_stream_rpc_method_handler(exchange),
        }
        generic = grpc.method_handlers_generic_handler(SERVICE, handlers)
        options = {"threads": 4, "streams_max": 4} | options
        self.access = access or Access()
        self.server = RpcServer("test", self.address, self.access.control, **options)
        paths = [f"/{SERVICE}/{name}" for name in handlers]
        self.server.add(
            lambda server: server.add_generic_rpc_handlers((generic,)),
            SERVICE,
            {path: (methods or {}).get(path, open_method(path)) for path in paths},
        )
        self.server.start()
        self.channel = self.connect(self.access.token)

    def connect(self, token: str | None) -> grpc.Channel:
        """Open a channel of somebody; None for nobody. Whoever opens it closes it."""
        return connect(self.address, credentials=self.access.credentials(token) if token is not None else None)

    def call_unary(self, method: str, request: bytes = b"", **options: Any) -> Any:
        """Call without a deadline."""
        return self._method("unary_unary", method)(request, **options)

    def once(self, request: bytes = b"", **options: Any) -> Any:
        return self.call_unary("Once", request, **({"timeout": WAIT_SECONDS} | options))

    def once_future(self, request: bytes = b"") -> Any:
        return self._method("unary_unary", "Once").future(request, timeout=WAIT_SECONDS)

    def gather(self, requests: Iterator[bytes]) -> Any:
        return self._method("stream_unary", "Gather")(requests, timeout=WAIT_SECONDS)

    def spread(self, request: bytes = b"", timeout: float = WAIT_SECONDS) -> Any:
        return self._method("unary_stream", "Spread")(request, timeout=timeout)

    def exchange(self, requests: Iterator[bytes]) -> Any:
        return self._method("stream_stream", "Exchange")(requests, timeout=WAIT_SECONDS)

    def _method(self, kind: str, method: str) -> Any:
        return getattr(self.channel, kind)(f"/{SERVICE}/{method}")

    def stop_in_background(self, grace_seconds: float) -> threading.Thread:
        thread = threading.Thread(target=self.server.stop, args=(grace_seconds,))
        thread.start()
        return thread

    def close(self) -> None:
        self.channel.close()
        self.server.stop(0)


class Requests:
    """A request stream that the test feeds and ends."""

    def __init__(self, *first: bytes) -> None:
        self._waiting = list(first)
        self._changed = threading.Condition()
        self._is_over = False

    def send(self, request: bytes) -> None:
        with self._changed:
            self._waiting.append(request)
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_over, WAIT_SECONDS)
            if self._waiting:
                return self._waiting.pop(0)
            raise StopIteration


def refused(call: Callable[[], Any]) -> Any:
    """Make a call that must fail and return what it raised."""
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call was answered")
