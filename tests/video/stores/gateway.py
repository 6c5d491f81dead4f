"""Something before a real store that answers some requests itself: a store that is overloaded, or that lies."""

import http.client
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

TARGET_SECONDS_MAX: Final = 30.0

# Method and path with query to status and body; None passes the request on.
Answer = Callable[[str, str], tuple[int, bytes] | None]

# Method and headers, their names in lower case, to whether the request is never answered.
Hold = Callable[[str, Mapping[str, str]], bool]

ERROR: Final = (
    '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{}</Code><Message>as the test wants it</Message></Error>'
)


def error(code: str, status: int) -> tuple[int, bytes]:
    """Make the answer that S3 gives for an error."""
    return status, ERROR.format(code).encode()


class Gateway:
    """Listens on a port of its own and passes on what `answer` leaves; a context manager that stops it.

    The host of the request is passed on as it came, so that signatures stay good.
    """

    def __init__(self, target: str, answer: Answer, hold: Hold = lambda method, headers: False) -> None:
        self._target = target
        self._answer = answer
        self._hold = hold
        self._stopped = threading.Event()
        self.requests: list[tuple[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="gateway", daemon=True)

    def __enter__(self) -> Self:
        """Start."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline:
                    self.close_connection = True
                elif self.parse_request():
                    self._pass_on()

            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                gateway.requests.append((self.command, self.path))
                if gateway._hold(self.command, {name.lower(): value for name, value in self.headers.items()}):
                    gateway._stopped.wait()
                    self.close_connection = True
                    return
                answer = gateway._answer(self.command, self.path)
                headers: list[tuple[str, str]] = [("Content-Type", "application/xml")]
                if answer is None:
                    status, headers, answer_body = gateway._ask(self.command, self.path, dict(self.headers), body)
                else:
                    status, answer_body = answer
                self.send_response_only(status)
                for name, value in headers:
                    if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                length = dict(headers).get("Content-Length") if self.command == "HEAD" else None
                self.send_header("Content-Length", length or str(len(answer_body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer_body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        return Handler

    def _ask(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self._target, timeout=TARGET_SECONDS_MAX)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            connection.close()
