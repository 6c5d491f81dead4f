"""The health service of a server (grpc.health.v1). It is answered without credentials, so it keeps nothing that a
caller chooses, has threads of its own, and lets only so many watch.
"""

import threading
from collections.abc import Callable, Iterable
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

NAME_BYTES_MAX: Final = 256
"""Longest name of a service that is looked up: ours have some forty characters."""

_REQUEST_BYTES_MAX: Final = NAME_BYTES_MAX + 16

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

    def register(self, server: grpc.Server, executor: CallExecutor) -> None:
        """Serve it at a server, in threads that calls of the other services do not need; may be called for several."""

        def check(content: bytes, context: grpc.ServicerContext) -> bytes:
            return self._check(content, context)

        def watch(content: bytes, context: grpc.ServicerContext, send: _Send) -> None:
            self._watch(content, context, send)

        behaviours: tuple[Any, Any] = (check, watch)
        for behaviour in behaviours:
            behaviour.experimental_thread_pool = executor
        # As gRPC's own health service asks for calls that need no thread while they are open.
        behaviours[1].experimental_non_blocking = True
        handlers: dict[str, Any] = {
            "Check": grpc.unary_unary_rpc_method_handler(check),
            "Watch": grpc.unary_stream_rpc_method_handler(behaviours[1]),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

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

    def _check(self, content: bytes, context: grpc.ServicerContext) -> bytes:
        service = _service_of(content, context)
        with self._guard:
            status = self._statuses.get(service)
        if status is None:
            # Without details, as the protocol says it.
            context.set_code(grpc.StatusCode.NOT_FOUND)
            return b""
        return _answer(status)

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


def _service_of(content: bytes, context: grpc.ServicerContext) -> str:
    """Read whom a request asks for; the call is ended where it cannot be read."""
    if len(content) > _REQUEST_BYTES_MAX:
        _abort(
            context,
            ServiceError(
                Reason.MESSAGE_TOO_LARGE,
                f"the message has {len(content)} bytes, a health check takes {_REQUEST_BYTES_MAX}",
                metadata={"limit": str(_REQUEST_BYTES_MAX), "actual": str(len(content))},
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
