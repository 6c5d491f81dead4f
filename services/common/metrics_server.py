"""Serves the figures of one service to Prometheus, in plain HTTP on a port of its own."""

import contextlib
import errno
import socket
import threading
from http.server import ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import urlsplit

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import MetricsHandler

from services.common.metrics import Metrics
from services.common.rpc_server import AddressInUse, ListenError

log = structlog.get_logger()

PATH: Final = "/metrics"

CONNECTIONS_MAX: Final = 8
"""Scrapes under way at once: two Prometheus servers, a person, and room. One more is closed without an answer."""

CONNECTION_SECONDS_MAX: Final = 10.0
"""How long a connection may be silent, or slow to take its answer: the time that Prometheus gives a scrape."""

JOIN_SECONDS: Final = 5.0
"""The server looks twice a second whether it shall end."""


class MetricsServer:
    """The port of one service's figures; started and stopped once. Without an address it does nothing.

    `setting` is the variable that errors name.
    """

    def __init__(self, metrics: Metrics, listen: str | None, *, setting: str = "") -> None:
        self.address = listen
        self._metrics = metrics
        self._setting = setting or f"ZHICHAO_{metrics.component.upper()}_METRICS_LISTEN"
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen and serve. Raises AddressInUse, or ListenError if the address cannot be listened on at all."""
        if self.address is None:
            return
        host, _, port = self.address.rpartition(":")
        try:
            self._server = _Server(host.strip("[]"), int(port), self._metrics.registry)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise AddressInUse(
                    f"{self.address} is in use by another process: stop it or change {self._setting}"
                ) from error
            why = error.strerror or str(error)
            raise ListenError(f"{self.address} cannot be listened on ({why}): change {self._setting}") from error
        self.address = f"{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, name=f"{self._metrics.component}-metrics", daemon=True
        )
        self._thread.start()
        log.info("metrics_served", component=self._metrics.component, address=self.address)

    def stop(self) -> None:
        """Stop; a scrape that is under way is not waited for."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join(JOIN_SECONDS)
            self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A restart shall not wait until the connections of the former process are forgotten.
    allow_reuse_address = True
    block_on_close = False

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._room = threading.BoundedSemaphore(CONNECTIONS_MAX)
        super().__init__((host, port), type("_Handler", (_Handler,), {"registry": registry}))

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own, if there is room for it."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection, then make room."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a scraper that went away."""


class _Handler(MetricsHandler):
    timeout = CONNECTION_SECONDS_MAX

    def do_GET(self) -> None:  # noqa: N802 - the name that the standard library calls
        """Answer one scrape."""
        if urlsplit(self.path).path != PATH:
            self.send_error(404)
            return
        with contextlib.suppress(ConnectionError, TimeoutError):
            super().do_GET()

    def version_string(self) -> str:
        """Name the suite, not the interpreter and its version."""
        return "zhichao"
