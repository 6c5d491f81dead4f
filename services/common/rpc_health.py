"""The health service of a server (grpc.health.v1). It is answered without credentials, so it keeps nothing that a
caller chooses, has threads of its own, and lets only so many watch.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.rpc_limits import RETRY_AFTER_BUSY_SECONDS
from services.common.rpc_status import to_grpc_status
from services.common.rpc_threads import CallExecutor

SERVICE: Final = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

WATCHES_MAX: Final = 64
"""Open watches of one server. Clients that watch health have one for each connection; probes ask and go."""

CALLS_MAX: Final = 16
"""Calls in work at once on one port, watches that are open not counted: Kubernetes and people look, never more than a
few at once. Each holds a thread until its message has come."""

MESSAGE_SECONDS_MAX: Final = 5.0
"""Longest wait for the message of a call: it comes in the same packet, and probes have given up by then."""

NAME_BYTES_MAX: Final = 256
"""Longest name of a service that is looked up: ours have some forty characters."""

REQUEST_BYTES_MAX: Final = NAME_BYTES_MAX + 16
"""Largest request: such a name."""

_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


_Send = Callable[[bytes | None], None]


@dataclass(frozen=True, eq=False)
class _Watch:
    service: str
    send: _Send


class Health:
    """What a server says of its services. Messages come and go as bytes: what is none is refused with a reason."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._statuses: dict[str, int] = {}
        self._watches: set[_Watch] = set()
        self._is_stopping = False
        self._ports: list[_Port] = []

    def register(self, server: grpc.Server, name: str) -> None:
        """Serve it at a server, in threads that nothing else needs; may be called for several."""
        port = _Port(self._check, self._watch, name)
        self._ports.append(port)
        server.add_generic_rpc_handlers((port,))

    def cut_silent(self) -> None:
        """End the calls whose message has not come in time. Called every few seconds."""
        for port in self._ports:
            port.cut_silent()

    def close(self) -> None:
        """Take no more calls."""
        for port in self._ports:
            port.close()

    def set(self, service: str, status: int) -> None:
        """Say how a service is; without effect while stopping."""
        with self._guard:
            if self._is_stopping:
                return
            self._statuses[service] = status
            told = [watch for watch in self._watches if watch.service == service]
        self._tell(told)

    def begin_stop(self) -> None:
        """Say that nothing serves any more."""
        with self._guard:
            self._is_stopping = True
            self._statuses = dict.fromkeys(self._statuses, _NOT_SERVING)
            told = list(self._watches)
        self._tell(told)

    @property
    def watch_count(self) -> int:
        """How many watches are open."""
        return len(self._watches)

    def _check(self, content: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        service = _service_of(content, context)
        with self._guard:
            status = self._statuses.get(service)
        if status is None:
            # Without details, as the protocol says it.
            context.set_code(grpc.StatusCode.NOT_FOUND)
            return
        yield _answer(status)

    def _watch(self, content: bytes, context: grpc.ServicerContext, send: _Send) -> None:
        watch = _Watch(_service_of(content, context), send)
        with self._guard:
            has_room = len(self._watches) < WATCHES_MAX
            if has_room:
                self._watches.add(watch)
        if not has_room:
            _abort(
                context,
                ServiceError(
                    Reason.TOO_MANY_REQUESTS,
                    f"{WATCHES_MAX} watches are open on this server, which is its limit: ask with Check instead",
                    message_zh=f"健康检查订阅已达上限 {WATCHES_MAX}，请改用 Check",
                    metadata={"limit": str(WATCHES_MAX)},
                    retry_after_seconds=RETRY_AFTER_BUSY_SECONDS,
                ),
            )
        self._tell([watch])
        if not context.add_callback(lambda: self._forget(watch)):
            self._forget(watch)

    def _tell(self, watches: Iterable[_Watch]) -> None:
        """Send how things are now: whoever is told twice is told the same.

        Without the lock: sending waits for gRPC's own thread, which may be on its way to forget a watch.
        """
        for watch in watches:
            with self._guard:
                status = self._statuses.get(watch.service, _UNKNOWN)
            watch.send(_answer(status))

    def _forget(self, watch: _Watch) -> None:
        with self._guard:
            self._watches.discard(watch)
        watch.send(None)


class _Port(grpc.ServiceRpcHandler):
    """The health service at one server. So many calls are served at once; more are refused unread, and one is cut whose
    message does not come: gRPC reads it in the thread that answers it, whoever is at the other end.
    """

    def __init__(self, check: Callable[..., Any], watch: Callable[..., Any], name: str) -> None:
        self._calls = CallExecutor(CALLS_MAX, name)
        self._refusals = CallExecutor(1, f"{name}-refusal")
        # Calls whose message has not come yet, and since when.
        self._silent: dict[Any, float] = {}
        self._busy = _handler(_refuse_busy, self._refusals)
        self._handlers = {
            f"/{SERVICE}/Check": _handler(lambda *call: check(self._read(*call), call[1]), self._calls),
            # As gRPC's own health service asks for calls that need no thread while they are open.
            f"/{SERVICE}/Watch": _handler(
                lambda *call: watch(self._read(*call[:2]), *call[1:]), self._calls, is_non_blocking=True
            ),
        }

    def service_name(self) -> str:
        """Return the name of the service."""
        return SERVICE

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return what handles a call; None for a method that there is not."""
        handler = self._handlers.get(handler_call_details.method)
        return self._busy if handler is not None and self._calls.call_count >= CALLS_MAX else handler

    def cut_silent(self) -> None:
        """End the calls whose message has not come in time."""
        late = time.monotonic() - MESSAGE_SECONDS_MAX
        for context, since in tuple(self._silent.items()):
            if since < late:
                context.cancel()

    def close(self) -> None:
        """Take no more calls."""
        for executor in (self._calls, self._refusals):
            executor.shutdown(wait=False, cancel_futures=True)

    def _read(self, requests: Iterator[bytes], context: Any) -> bytes:
        self._silent[context] = time.monotonic()
        try:
            content = next(requests, None)
        finally:
            self._silent.pop(context, None)
        if content is None:
            _abort(context, ServiceError(Reason.MALFORMED_MESSAGE, "the call ended without a message: send one"))
        return content


class _Behaviour:
    """What gRPC runs for a call, in threads that it is told of by these names."""

    def __init__(self, behaviour: Callable[..., Any], executor: CallExecutor, *, is_non_blocking: bool) -> None:
        self._behaviour = behaviour
        self.experimental_thread_pool = executor
        self.experimental_non_blocking = is_non_blocking

    def __call__(self, *call: Any) -> Any:
        return self._behaviour(*call)


def _handler(behaviour: Callable[..., Any], executor: CallExecutor, *, is_non_blocking: bool = False) -> Any:
    # As a stream on both sides it fits the calls of both methods, and begins before the message has come.
    return grpc.stream_stream_rpc_method_handler(_Behaviour(behaviour, executor, is_non_blocking=is_non_blocking))


def _refuse_busy(_requests: Any, context: grpc.ServicerContext) -> NoReturn:
    _abort(
        context,
        ServiceError(
            Reason.TOO_MANY_REQUESTS,
            f"{CALLS_MAX} health checks are under way on this server, which is its limit: try again",
            message_zh=f"健康检查并发数已达上限 {CALLS_MAX}，请稍后重试",
            metadata={"limit": str(CALLS_MAX)},
            retry_after_seconds=RETRY_AFTER_BUSY_SECONDS,
        ),
    )


def _service_of(content: bytes, context: grpc.ServicerContext) -> str:
    """Read whom a request asks for; the call is ended where it cannot be read."""
    if len(content) > REQUEST_BYTES_MAX:
        _abort(
            context,
            ServiceError(
                Reason.MESSAGE_TOO_LARGE,
                f"the message has {len(content)} bytes, a health check takes {REQUEST_BYTES_MAX}",
                metadata={"limit": str(REQUEST_BYTES_MAX), "actual": str(len(content))},
            ),
        )
    try:
        return str(health_pb2.HealthCheckRequest.FromString(content).service)
    except DecodeError:
        _abort(context, ServiceError(Reason.MALFORMED_MESSAGE, "the bytes sent are not a request of a health check"))


def _abort(context: grpc.ServicerContext, error: ServiceError) -> NoReturn:
    # Not logged: it tells nothing of who asks, and anybody could fill the log.
    context.abort_with_status(to_grpc_status(error))
    raise AssertionError("abort_with_status always raises")


def _answer(status: int) -> bytes:
    return bytes(health_pb2.HealthCheckResponse(status=status).SerializeToString())
