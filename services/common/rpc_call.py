"""One call under way: the context that its handler sees, how it ends, and the line that is logged of it."""

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

import grpc
import structlog

from services.common import tracing
from services.common.access.caller import Caller
from services.common.access.certificates import CertificateIdentity
from services.common.errors import ServiceError
from services.common.metrics import RequestMetrics
from services.common.reasons import Reason
from services.common.request import RequestContext, new_request_id
from services.common.rpc_limits import REQUEST_ID_CHARACTERS_MAX, REQUEST_ID_METADATA, RETRY_AFTER_STOPPING_SECONDS
from services.common.rpc_status import to_grpc_status

log = structlog.get_logger()

# A stranger's request id goes into our logs: no spaces, no control characters, no end of line.
_REQUEST_ID = re.compile(rf"[A-Za-z0-9._:/+=-]{{1,{REQUEST_ID_CHARACTERS_MAX}}}")

# gRPC reports "no deadline" as a time some centuries away.
_NO_DEADLINE_SECONDS = 10.0 * 365 * 24 * 3600

# A time-out travels as a duration and begins anew where it arrives, so the caller gives up about one network delay
# before our own reckoning says so: this much earlier still counts as its deadline and not as a change of mind.
_DEADLINE_TOLERANCE_SECONDS = 0.1

# After a stream was ended with a refusal its caller has so long to take it; with the look every two seconds it is gone
# well within the 10 seconds in which a revocation is in force.
CUT_SECONDS = 4.0

# Statuses that mean our own side is in trouble; the others are the callers' business.
_LOG_ERROR = frozenset({"INTERNAL", "DATA_LOSS", "UNKNOWN"})
_LOG_WARNING = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED"})


class _Left(threading.local):
    """What calls of a thread have left to be done after their answers."""

    def __init__(self) -> None:
        self.lines: list[tuple[Call, str, float]] = []
        self.tasks: list[Callable[[], None]] = []


_left = _Left()


class Call(RequestContext):
    """One call under way. It is the RequestContext that handlers see, and counts for the log line."""

    __slots__ = (
        "_callbacks",
        "_guard",
        "account_time",
        "answers_once",
        "caller",
        "certificate",
        "end_error",
        "end_time",
        "grpc_context",
        "has_ended",
        "is_reading",
        "is_stream",
        "messages_in",
        "messages_out",
        "method",
        "metrics",
        "personal_data_count",
        "send",
        "started",
        "thread",
    )

    def __init__(self, method: str, context: Any, stopping: threading.Event, metrics: RequestMetrics) -> None:
        started = time.monotonic()
        remaining = context.time_remaining()
        super().__init__(
            _given_request_id(context.invocation_metadata()) or new_request_id(),
            deadline=started + remaining if remaining is not None and remaining < _NO_DEADLINE_SECONDS else None,
            stopping=stopping,
        )
        self.grpc_context = context
        self.method = method
        self.metrics = metrics
        self.started = started
        self.is_stream = False
        # Whether it is served as a stream, and is a unary call for its caller.
        self.answers_once = False
        self.thread = threading.get_ident()
        self.messages_in = 0
        self.messages_out = 0
        # Values of personal data sent and not yet written down; from when on (time.monotonic()) they have to be.
        self.personal_data_count = 0
        self.account_time = 0.0
        # Of a caller that shows a certificate and no token: also of one that is refused.
        self.certificate: CertificateIdentity | None = None
        # Who calls, once that is known.
        self.caller: Caller | None = None
        # Why a stream has to end before its time, and since when (time.monotonic()).
        self.end_error: ServiceError | None = None
        self.end_time = 0.0

    def begin_stream(self, send: Callable[[Any], None] | None) -> None:
        """Add what only streams need: unary calls are many and short."""
        self.is_stream = True
        self.send = send
        self.is_reading = False
        self.has_ended = False
        self._guard = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []

    @property
    def is_long(self) -> bool:
        """Whether it goes on after its first answer."""
        return self.is_stream and not self.answers_once

    def begin_trace(self) -> None:
        """Trace the call if it is among those that are; from then on its request id names the trace, unless given."""
        now = tracing.current()
        if now is None:
            return
        metadata = self.grpc_context.invocation_metadata()
        self.trace = now.begin(metadata)
        if self.trace is not None and not _given_request_id(metadata):
            self.request_id = self.trace.request_id

    def is_active(self) -> bool:
        """Tell whether the caller still waits and the server is not stopping."""
        return not self.stopping.is_set() and self.end_error is None and bool(self.grpc_context.is_active())

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call back when the call ends or the server begins to stop; at once if that is already so."""
        callbacks = getattr(self, "_callbacks", None)
        if callbacks is not None:
            callbacks.append(callback)
        # Stopping is looked at after the callback is known: one of both sides sees the other.
        if not self.grpc_context.add_callback(callback) or self.stopping.is_set():
            callback()

    def after_answer(self, do: Callable[[], None]) -> None:
        """Do what nobody need wait for once a unary call has its answer; at once in streams and other threads."""
        if self.is_stream or threading.get_ident() != self.thread:
            do()
        else:
            _left.tasks.append(do)

    def claim_end(self) -> bool:
        """Take the right to send the status; only one thread gets it, gRPC would send two."""
        with self._guard:
            if self.has_ended:
                return False
            self.has_ended = True
            return True

    def check_end(self) -> None:
        """Raise the ServiceError with which the call has to end, if it has to."""
        if self.end_error is not None:
            raise self.end_error
        if self.stopping.is_set():
            raise stopping_error()

    def end_with(self, error: ServiceError) -> None:
        """End a stream with a refusal: its caller may not go on."""
        self.end_time = time.monotonic()
        self.end_error = error
        self._end_stream(error, is_forced=True)

    def cut_if_overdue(self) -> None:
        """Cut a stream that was ended a while ago and still is there: its caller does not read what was sent to it."""
        if time.monotonic() > self.end_time + CUT_SECONDS:
            self.grpc_context.cancel()

    def begin_stop(self) -> None:
        """Tell a stream that the server stops, and end it if nothing but its caller's next message could wake it."""
        self._end_stream(stopping_error(), is_forced=False)

    def _end_stream(self, error: ServiceError, *, is_forced: bool) -> None:
        for callback in tuple(self._callbacks):
            try:
                callback()
            except Exception:
                # The other streams must be told all the same.
                log.exception("stream_callback_failed", method=self.method)
        if not (self.is_reading or is_forced):
            return
        if self.send is None:
            # Client streams have no way to send a status from here; the caller sees CANCELLED and comes again.
            self.grpc_context.cancel()
        elif self.claim_end():
            status = to_grpc_status(error, self.request_id)
            self.grpc_context.set_code(status.code)
            self.grpc_context.set_details(status.details)
            self.grpc_context.set_trailing_metadata(status.trailing_metadata)
            self.send(None)


class Requests:
    """The messages of a request stream, counted; once the server stops there are no more."""

    __slots__ = ("_call", "_read", "_requests")

    def __init__(self, requests: Iterator[bytes], call: Call, read: Callable[[bytes], Any]) -> None:
        self._requests = requests
        self._call = call
        self._read = read

    def __iter__(self) -> "Requests":
        return self

    def __next__(self) -> Any:
        call = self._call
        # A handler that reads in a thread of its own may have answers under way: it is told by on_end instead.
        call.is_reading = threading.get_ident() == call.thread
        if call.stopping.is_set() or call.end_error is not None:
            call.is_reading = False
            call.check_end()
        try:
            request = next(self._requests)
        finally:
            call.is_reading = False
        call.messages_in += 1
        return self._read(request)


# The end of a call


def finish(call: Call, error: ServiceError | None = None) -> None:
    """Write the line of a call that ended as it should, was ended by its caller, or ended at our stop."""
    if error is not None:
        _write(call, error.status, reason=error.reason.value)
    else:
        _write(call, _status(call))


def finish_after_answer(call: Call) -> None:
    """Write the line of a unary call that ended as it should once gRPC has its answer: the caller need not wait for it.

    The thread that serves the call does so in `do_what_was_left`.
    """
    _left.lines.append((call, _status(call), time.monotonic()))


def do_what_was_left() -> None:
    """Do what calls of this thread have left, then write their lines."""
    tasks, lines = _left.tasks, _left.lines
    for do in tasks:
        try:
            do()
        except Exception:
            # The answer is out; what else is left must be done all the same.
            log.exception("after_answer_failed")
    tasks.clear()
    while lines:
        call, status, ended = lines.pop()
        _write(call, status, ended)


def fail(call: Call, error: Exception) -> NoReturn:
    """End the call with the status of the error and write its line. An unknown error is logged here and told nobody."""
    context = call.grpc_context
    if not context.is_active():
        status = _ended_by_caller(call)
        _write(call, status, cause=type(error).__name__)
        # Nobody listens; gRPC only has to be left the way it wants to be left.
        context.abort(grpc.StatusCode[status], "")
    if isinstance(error, ServiceError):
        if error.reason is Reason.AUTHENTICATION_DELAYED:
            # Told of all together once the delay is over: whoever tries again and again must not fill the log.
            call.metrics.ended(call.method, error.status, error.reason.value)
            context.abort_with_status(to_grpc_status(error, call.request_id))
        # Messages to callers may name a plate or a person, which a log does not keep; those about ourselves do not.
        is_ours = error.status in _LOG_ERROR or error.status in _LOG_WARNING
        detail = error.message if is_ours else ""
        _write(call, error.status, reason=error.reason.value, detail=detail, cause=_cause(error))
        context.abort_with_status(to_grpc_status(error, call.request_id))
    if (code := context.code()) is not None and code is not grpc.StatusCode.OK:
        # A handler that is not ours, like reflection, has set the status itself.
        _write(call, code.name)
        raise error
    _write(call, "INTERNAL", reason=Reason.INTERNAL.value, exc_info=error)
    internal = ServiceError(
        Reason.INTERNAL,
        f"the server has a fault; its log has the details under request id {call.request_id}",
        message_zh=f"服务内部错误，请凭请求编号 {call.request_id} 查询服务日志",
        metadata={"request_id": call.request_id},
    )
    context.abort_with_status(to_grpc_status(internal, call.request_id))
    raise AssertionError("abort_with_status always raises")


def stopping_error() -> ServiceError:
    """Make the refusal of a server that stops."""
    return ServiceError(
        Reason.SHUTTING_DOWN,
        "the server is stopping: connect again",
        message_zh="服务正在停止，请稍后重新连接",
        retry_after_seconds=RETRY_AFTER_STOPPING_SECONDS,
    )


def _status(call: Call) -> str:
    """Return how a call ends that has not failed."""
    if not call.grpc_context.is_active():
        return _ended_by_caller(call)
    code = call.grpc_context.code()
    return code.name if code is not None else "OK"


def _ended_by_caller(call: Call) -> str:
    late = call.deadline is not None and call.deadline <= time.monotonic() + _DEADLINE_TOLERANCE_SECONDS
    return "DEADLINE_EXCEEDED" if late else "CANCELLED"


def _write(call: Call, status: str, ended: float | None = None, **more: Any) -> None:
    now = time.monotonic()
    seconds = (ended or now) - call.started
    reason = more.get("reason", "")
    # A call that was refused before its message was read took no time that anybody wants to know.
    call.metrics.ended(call.method, status, reason, None if call.is_long or not call.messages_in else seconds)
    if call.trace is not None:
        ago = now - ended if ended is not None else 0.0
        tracing.record_call(call.metrics.component, call.trace, call.method, status, reason, seconds, ago)
    write = log.error if status in _LOG_ERROR else log.warning if status in _LOG_WARNING else log.info
    write(
        "request_finished",
        method=call.method,
        status=status,
        duration_ms=round(seconds * 1000, 3),
        request_id=call.request_id,
        principal=call.principal.name,
        **({"certificate": call.certificate.name} if call.certificate is not None else {}),
        peer=_peer_kind(call.grpc_context.peer()),
        messages_in=call.messages_in,
        messages_out=call.messages_out,
        **{key: value for key, value in more.items() if value},
    )


def _cause(error: ServiceError) -> str:
    return type(error.__cause__).__name__ if error.__cause__ is not None else ""


def _peer_kind(peer: str) -> str:
    if peer.startswith("unix"):
        return "unix"
    return "loopback" if peer.startswith(("ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D")) else "network"


def _given_request_id(metadata: Iterable[Any]) -> str:
    """Return the request id that the caller gave; empty without one, and for what is none."""
    for key, value in metadata:
        if key == REQUEST_ID_METADATA and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
            return value
    return ""
