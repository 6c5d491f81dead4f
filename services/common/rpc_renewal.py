"""A channel whose certificates are renewed while it is used: calls that begin after a renewal go over a new connection,
those under way end over the one that they began on. gRPC's own channels keep for ever what they were opened with.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc

from services.common.tls import ClientTls, channel_credentials
from services.common.tls_files import TlsBundle


class RenewedChannel(grpc.Channel):
    """A TLS channel to one address, as stubs and interceptors use any other."""

    def __init__(self, address: str, tls: ClientTls, options: Sequence[tuple[str, str | int]]) -> None:
        self._address = address
        self._tls = tls
        self._options = options
        self._guard = threading.Lock()
        self._is_closed = False
        self._former: set[_Connection] = set()
        self._connection = self._open(tls.current())

    def connection(self) -> "_Connection":
        """Return the connection for a call that begins now; it is counted as using it."""
        bundle = self._tls.current()
        with self._guard:
            if bundle is not self._connection.bundle and not self._is_closed:
                former, self._connection = self._connection, self._open(bundle)
                self._former.add(former)
                former.close_when_idle()
            self._connection.begin_call()
            return self._connection

    def _open(self, bundle: TlsBundle) -> "_Connection":
        channel = grpc.secure_channel(self._address, channel_credentials(bundle), options=self._options)
        return _Connection(channel, bundle, self._forget)

    def _forget(self, connection: "_Connection") -> None:
        # Without the lock: removing from a set is one step, and it comes from any thread, also from `connection`.
        self._former.discard(connection)

    def subscribe(
        self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool | None = False
    ) -> None:
        """Tell of the connection that is current now."""
        self._connection.channel.subscribe(callback, bool(try_to_connect))

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        """Tell no more."""
        self._connection.channel.unsubscribe(callback)

    def unary_unary(self, *arguments: Any, **options: Any) -> Any:
        """Return what makes such calls."""
        return _Method(self, "unary_unary", arguments, options)

    def unary_stream(self, *arguments: Any, **options: Any) -> Any:
        """Return what makes such calls."""
        return _Method(self, "unary_stream", arguments, options)

    def stream_unary(self, *arguments: Any, **options: Any) -> Any:
        """Return what makes such calls."""
        return _Method(self, "stream_unary", arguments, options)

    def stream_stream(self, *arguments: Any, **options: Any) -> Any:
        """Return what makes such calls."""
        return _Method(self, "stream_stream", arguments, options)

    def close(self) -> None:
        """Close all connections; calls under way end."""
        with self._guard:
            self._is_closed = True
            connections = (self._connection, *self._former)
        for connection in connections:
            connection.channel.close()

    def __enter__(self) -> "RenewedChannel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Connection:
    """One gRPC channel and the count of calls that it carries. Closed when it is former and carries none."""

    def __init__(self, channel: grpc.Channel, bundle: TlsBundle, on_closed: Callable[["_Connection"], None]) -> None:
        self.channel = channel
        self.bundle: Final = bundle
        self._on_closed = on_closed
        self._guard = threading.Lock()
        self._call_count = 0
        self._is_former = False

    def begin_call(self) -> None:
        with self._guard:
            self._call_count += 1

    def end_call(self) -> None:
        with self._guard:
            self._call_count -= 1
            is_over = self._is_former and self._call_count == 0
        if is_over:
            self._close()

    def close_when_idle(self) -> None:
        with self._guard:
            self._is_former = True
            is_over = self._call_count == 0
        if is_over:
            self._close()

    def _close(self) -> None:
        self._on_closed(self)
        # In a thread of its own: the end of the last call may be told by a thread of the channel itself, which closing
        # would wait for.
        threading.Thread(target=self.channel.close, name="former-channel", daemon=True).start()


class _Method:
    """One method of a channel, as stubs hold it: finds the connection anew for each call."""

    def __init__(self, channel: RenewedChannel, kind: str, arguments: Any, options: Any) -> None:
        self._channel = channel
        self._kind = kind
        self._arguments = arguments
        self._options = options
        self._known: tuple[_Connection, Any] | None = None

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Make a call; a stream of answers is counted until its end."""
        return self._run("__call__", arguments, options)

    def with_call(self, *arguments: Any, **options: Any) -> Any:
        """Make a call and wait for its answer."""
        return self._run("with_call", arguments, options)

    def future(self, *arguments: Any, **options: Any) -> Any:
        """Make a call whose answer is waited for later."""
        return self._run("future", arguments, options)

    def _run(self, way: str, arguments: Any, options: Any) -> Any:
        connection = self._channel.connection()
        try:
            call = getattr(self._callable(connection), way)(*arguments, **options)
        except BaseException:
            connection.end_call()
            raise
        add_callback = getattr(call, "add_callback", None) if isinstance(call, grpc.Call) else None
        if add_callback is None or not add_callback(connection.end_call):
            connection.end_call()
        return call

    def _callable(self, connection: _Connection) -> Any:
        known = self._known
        if known is None or known[0] is not connection:
            made = getattr(connection.channel, self._kind)(*self._arguments, **self._options)
            known = self._known = (connection, made)
        return known[1]
