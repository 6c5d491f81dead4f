"""A TCP proxy between client and server that misbehaves as told: cuts in mid-message, delays, swallows, refuses."""

import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

CHUNK_BYTES = 16_384
"""Smaller than a batch, so that a cut falls into the middle of one."""

CONNECT_SECONDS = 5.0
"""Longest wait for the real server."""


class Kind(Enum):
    # Passes everything on.
    NONE = "none"
    # Resets the connection after so many bytes from the client, for relays the lower platform.
    CUT_PUSHES = "cut_pushes"
    # Resets it after so many bytes from the server: what was committed is not acknowledged.
    CUT_ANSWERS = "cut_answers"
    # Passes nothing on any more after so many bytes, and says nothing either.
    SWALLOW = "swallow"
    # Holds every chunk back for a while.
    DELAY = "delay"
    # Takes the connection and drops it.
    REFUSE = "refuse"


@dataclass(frozen=True)
class Fault:
    """What happens to one connection. `amount` is in bytes, for a delay in milliseconds."""

    kind: Kind
    amount: int = 0


class FaultProxy:
    """Listens on a port of its own. Each new connection gets the next fault of the script; after it none."""

    def __init__(self, target: str, script: Iterable[Fault] = ()) -> None:
        self.target = target
        self._script = deque(script)
        self._guard = threading.Lock()
        self._connections: set[_Connection] = set()
        self._is_open = True
        self._is_refusing = False
        self._is_dark = False
        self.connection_count = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, name="fault-proxy", daemon=True)
        self._thread.start()

    def plan(self, script: Iterable[Fault]) -> None:
        """Replace the script: the next connections get these faults, those after them none."""
        with self._guard:
            self._script = deque(script)

    def refuse(self, *, is_refusing: bool = True) -> None:
        """Drop every connection, open and new, until told otherwise: the upstream is away."""
        with self._guard:
            self._is_refusing = is_refusing
        if is_refusing:
            self.cut()

    def cut(self) -> None:
        """Reset all open connections."""
        for connection in self._open():
            connection.cut()

    def swallow(self) -> None:
        """Let all open connections hang without a word."""
        for connection in self._open():
            connection.is_swallowing = True

    def blackhole(self, *, is_dark: bool = True) -> None:
        """Let open and new connections hang without a word until told otherwise; those caught in it hang for ever."""
        with self._guard:
            self._is_dark = is_dark
        if is_dark:
            self.swallow()

    def close(self) -> None:
        """Stop."""
        with self._guard:
            self._is_open = False
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self._thread.join(CONNECT_SECONDS)

    def _open(self) -> "list[_Connection]":
        with self._guard:
            return list(self._connections)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._guard:
                self.connection_count += 1
                fault = self._script.popleft() if self._script else Fault(Kind.NONE)
                if self._is_refusing or not self._is_open or fault.kind is Kind.REFUSE:
                    _reset(client)
                    continue
            host, _, port = self.target.rpartition(":")
            try:
                server = socket.create_connection((host, int(port)), CONNECT_SECONDS)
            except OSError:
                _reset(client)
                continue
            server.settimeout(None)
            connection = _Connection(client, server, fault)
            with self._guard:
                connection.is_swallowing = self._is_dark
                self._connections.add(connection)
            connection.start(self._forget)

    def _forget(self, connection: "_Connection") -> None:
        with self._guard:
            self._connections.discard(connection)


class _Connection:
    def __init__(self, client: socket.socket, server: socket.socket, fault: Fault) -> None:
        self._client = client
        self._server = server
        self._fault = fault
        self._is_over = threading.Event()
        self.is_swallowing = False

    def start(self, forget: Callable[["_Connection"], None]) -> None:
        def run(source: socket.socket, target: socket.socket, cutting: Kind) -> None:
            try:
                self._pass(source, target, cutting)
            finally:
                self.cut()
                forget(self)

        for source, target, cutting in (
            (self._client, self._server, Kind.CUT_PUSHES),
            (self._server, self._client, Kind.CUT_ANSWERS),
        ):
            threading.Thread(target=run, args=(source, target, cutting), name="fault-pipe", daemon=True).start()

    def cut(self) -> None:
        if not self._is_over.is_set():
            self._is_over.set()
            _reset(self._client)
            _reset(self._server)

    def _pass(self, source: socket.socket, target: socket.socket, cutting: Kind) -> None:
        passed = 0
        while not self._is_over.is_set():
            try:
                chunk = source.recv(CHUNK_BYTES)
            except OSError:
                return
            if not chunk:
                return
            if self._fault.kind is Kind.DELAY:
                self._is_over.wait(self._fault.amount / 1000)
            if self._fault.kind is cutting and passed + len(chunk) > self._fault.amount:
                # The first bytes of the chunk arrive: the cut falls into the middle of a message.
                with contextlib.suppress(OSError):
                    target.sendall(chunk[: self._fault.amount - passed])
                return
            if self._fault.kind is Kind.SWALLOW and passed + len(chunk) > self._fault.amount:
                self.is_swallowing = True
            passed += len(chunk)
            if self.is_swallowing:
                continue
            try:
                target.sendall(chunk)
            except OSError:
                return


def _reset(connection: socket.socket) -> None:
    """Close with a reset instead of a goodbye, as a crash or a firewall does."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
