"""What happens around every call of a server: limits, the mapping of refusals to gRPC statuses, one log line per call.
Handlers know nothing of it.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NoReturn

import grpc
import structlog

from services.common.access.caller import Caller
from services.common.errors import ServiceError
from services.common.metrics import OTHER, RequestMetrics
from services.common.reasons import Reason
from services.common.request import enter_request, leave_request
from services.common.rpc_call import Call, Requests, fail, finish, finish_after_answer, stopping_error
from services.common.rpc_gate import Admission, Gate
from services.common.rpc_limits import RETRY_AFTER_BUSY_SECONDS
from services.common.rpc_threads import CallExecutor, CountedCall, Turns, give_back_turn

log = structlog.get_logger()

HEALTH_METHODS = "/grpc.health.v1.Health/"

_Behaviour = Callable[..., Any]
_Parse = Callable[[bytes], Any]
_Make = Callable[[Admission], Any]


class RequestInterceptor(grpc.ServerInterceptor):
    """Covers all four kinds of calls. Health checks pass untouched: they come every few seconds and say nothing new."""

    def __init__(
        self,
        gate: Gate,
        unary: CallExecutor,
        streams: CallExecutor,
        refusals: CallExecutor,
        turns: Turns,
        unary_max: int,
        streams_max: int,
        metrics: RequestMetrics,
    ):
        self.stopping = threading.Event()
        self.gate = gate
        self.metrics = metrics
        self._unary = unary
        self._turns = turns
        self._streams = streams
        self._unary_max = unary_max
        self._streams_max = streams_max
        self._wrapped: dict[str, tuple[Any, _Make, bool]] = {}
        self._open_streams: set[Call] = set()
        self._open_streams_guard = threading.Lock()
        self._refusal_executor = refusals

    def begin_stop(self) -> None:
        """Refuse new calls from now on, and tell the open streams."""
        self.stopping.set()
        for call in self._streams_now():
            call.begin_stop()

    def end_refused(self) -> None:
        """End the open streams whose callers' rights have ended.

        Called whenever the registry has said something, and every few seconds, because rights end with time, too.
        """
        for call in self._streams_now():
            if call.end_error is not None:
                call.cut_if_overdue()
                continue
            try:
                self.gate.check_standing(call)
            except ServiceError as error:
                call.end_with(error)

    def intercept_service(
        self, continuation: Callable[[Any], Any], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """Return the handler of the method inside ours, or one that refuses the call."""
        # This runs on gRPC's one serving thread: it decides, it never waits.
        method = handler_call_details.method
        handler = continuation(handler_call_details)
        if handler is None:
            try:
                self.gate.recognise(handler_call_details.invocation_metadata)
            except ServiceError as error:
                # As with any method: whoever tries again and again is delayed, and does not fill the log.
                return self._refuse(OTHER, error)
            log.info("request_finished", method=method[:200].lstrip("/"), status="UNIMPLEMENTED", duration_ms=0.0)
            self.metrics.ended(OTHER, "UNIMPLEMENTED")
            return None
        if method.startswith(HEALTH_METHODS):
            return handler
        known = self._wrapped.get(method)
        if known is None or known[0] is not handler:
            known = self._wrapped[method] = (handler, *self._wrap(method.lstrip("/"), handler))
        _, make, is_stream = known
        if self.stopping.is_set():
            return self._refuse(method, stopping_error())
        caller: Caller | None = None
        try:
            caller = self.gate.recognise(handler_call_details.invocation_metadata)
            admission = self.gate.admit(method, caller, is_unary=not is_stream)
        except ServiceError as error:
            return self._refuse(method, error, caller)
        # Who shows nothing but a certificate is known once the call has begun, and is let wait for nothing before that.
        if is_stream or caller is None:
            if self._streams.call_count >= self._streams_max:
                return self._refuse(method, _busy_error("streams", self._streams_max))
            return make(admission)
        if self._unary.call_count >= self._unary_max:
            return self._refuse(method, _busy_error("calls", self._unary_max))
        try:
            count = self.gate.unary_counter(caller)
        except ServiceError as error:
            return self._refuse(method, error, caller)
        made = make(admission)
        if count is not None:
            admission.counted = CountedCall(self._unary, count)
            _on_executor(made.unary_unary, admission.counted)
        return made

    # The four kinds. Each takes the request as bytes: the gate reads them once it knows whose they are.

    def _wrap(self, method: str, handler: Any) -> tuple[_Make, bool]:
        parse, serialize = handler.request_deserializer, handler.response_serializer
        if handler.response_streaming:
            inner = handler.stream_stream if handler.request_streaming else handler.unary_stream
            kind = _StreamKind(self, method, inner, parse, handler.request_streaming, self._streams)

            def make(admission: Admission) -> Any:
                # As a stream on both sides also where one request is expected: the call is counted and can be ended
                # from its beginning, and not only once its request has come, which may be never.
                return grpc.stream_stream_rpc_method_handler(_StreamBehaviour(kind, admission), None, serialize)

            return make, True
        if handler.request_streaming:
            stream_unary = self._stream_unary(method, handler.stream_unary, parse)
            return (
                lambda admission: grpc.stream_unary_rpc_method_handler(
                    _on_executor(partial(stream_unary, admission), self._streams), None, serialize
                ),
                True,
            )
        unary_unary = self._unary_unary(method, handler.unary_unary, parse)
        # As a stream: see `intercept_service`.
        by_certificate = _StreamKind(
            self, method, self._one_answer(handler.unary_unary), parse, False, self._streams, answers_once=True
        )

        def make_unary(admission: Admission) -> Any:
            if admission.caller is None:
                behaviour = _StreamBehaviour(by_certificate, admission)
                return grpc.stream_stream_rpc_method_handler(behaviour, None, serialize)
            return grpc.unary_unary_rpc_method_handler(partial(unary_unary, admission), None, serialize)

        return make_unary, False

    def _one_answer(self, inner: _Behaviour) -> _Behaviour:
        turns = self._turns

        def behaviour(request: Any, context: Any) -> Iterator[Any]:
            turns.take()
            try:
                response = inner(request, context)
            finally:
                give_back_turn()
            yield response

        return behaviour

    def _unary_unary(self, method: str, inner: _Behaviour, parse: _Parse | None) -> _Behaviour:
        stopping, gate, metrics, turns = self.stopping, self.gate, self.metrics, self._turns

        def behaviour(admission: Admission, content: bytes, context: Any) -> Any:
            if admission.counted is not None:
                admission.counted.begin(context)
            # Until the thread is through with the call and with what it has left: see `CallExecutor`.
            has_waited = turns.take()
            call = Call(method, context, stopping, metrics)
            call.messages_in = 1
            enter_request(call)
            try:
                if has_waited and not context.is_active():
                    # Nobody wants it any more: those who have waited too need not wait for it.
                    raise stopping_error()
                gate.enter(call, admission)
                call.begin_trace()
                request = gate.read(call, admission, content, parse)
                response = gate.reply(call, admission, request, inner(request, context))
            except Exception as error:  # noqa: BLE001 - the one place where every error becomes a status
                refuse(gate, call, error)
            finally:
                leave_request(call)
            call.messages_out = 1
            finish_after_answer(call)
            return response

        return behaviour

    def _stream_unary(self, method: str, inner: _Behaviour, parse: _Parse | None) -> _Behaviour:
        gate = self.gate

        def behaviour(admission: Admission, contents: Iterator[bytes], context: Any) -> Any:
            call = self.open_stream(method, context, None)
            try:
                gate.enter(call, admission)
                call.begin_trace()
                read = partial(gate.read_next, call, admission, parse=parse)
                response = gate.reply(call, admission, None, inner(Requests(contents, call, read), context))
            except Exception as error:  # noqa: BLE001 - as above
                refuse(gate, call, error)
            else:
                call.messages_out = 1
                finish(call)
            finally:
                self.close_stream(call)
            return response

        return behaviour

    def open_stream(self, method: str, context: Any, send: Callable[[Any], None] | None) -> Call:
        """Begin a stream: from now on it is told when the server stops."""
        call = Call(method, context, self.stopping, self.metrics)
        call.begin_stream(send)
        enter_request(call)
        with self._open_streams_guard:
            self._open_streams.add(call)
        return call

    def close_stream(self, call: Call) -> None:
        """Forget a stream that has ended; called by the thread that serves it."""
        leave_request(call)
        self.gate.stream_closed(call)
        with self._open_streams_guard:
            self._open_streams.discard(call)

    def _streams_now(self) -> tuple[Call, ...]:
        with self._open_streams_guard:
            return tuple(self._open_streams)

    def _refuse(self, method: str, error: ServiceError, caller: Caller | None = None) -> Any:
        # Where it was raised would hold the handler that holds it, until the collector comes.
        error.__traceback__ = None

        def behaviour(_requests: Any, context: Any) -> Any:
            call = Call(method.lstrip("/"), context, self.stopping, self.metrics)
            if caller is not None:
                call.principal = caller.principal
            refuse(self.gate, call, self.gate.refused(call, error))

        # As a stream on both sides it fits a call of any kind: the status goes out before a request is read.
        return grpc.stream_stream_rpc_method_handler(_on_executor(behaviour, self._refusal_executor))


class _StreamKind:
    """What all calls of one method that answers with a stream have in common."""

    __slots__ = ("answers_once", "executor", "inner", "interceptor", "method", "parse", "reads_stream")

    def __init__(
        self,
        interceptor: RequestInterceptor,
        method: str,
        inner: _Behaviour,
        parse: _Parse | None,
        reads_stream: bool,
        executor: CallExecutor,
        *,
        answers_once: bool = False,
    ) -> None:
        self.answers_once = answers_once
        self.interceptor = interceptor
        self.method = method
        self.inner = inner
        self.parse = parse
        self.reads_stream = reads_stream
        self.executor = executor


class _StreamBehaviour:
    """Sends the answers of a handler itself, so that another thread can end the call while the handler waits.

    The two attributes are how gRPC's own health service asks for that (gRPC then passes `send`) and for threads of its
    own.
    """

    experimental_non_blocking = True

    def __init__(self, kind: _StreamKind, admission: Admission) -> None:
        self.experimental_thread_pool = kind.executor
        self._kind = kind
        self._admission = admission

    def __call__(self, argument: Any, context: Any, send: Callable[[Any], None]) -> None:
        interceptor = self._kind.interceptor
        call = interceptor.open_stream(self._kind.method, context, send)
        call.answers_once = self._kind.answers_once
        try:
            self._run(call, argument, context, send)
        finally:
            interceptor.close_stream(call)

    def _run(self, call: Call, argument: Any, context: Any, send: Callable[[Any], None]) -> None:
        responses: Iterable[Any] = ()
        request: Any = None
        kind, admission, gate = self._kind, self._admission, self._kind.interceptor.gate
        try:
            try:
                gate.enter(call, admission)
                call.begin_trace()
                # Looked at once the principal is known: what ended its right before is seen here, what ends it later
                # finds the call among the open ones.
                call.check_end()
                if kind.reads_stream:
                    argument = Requests(argument, call, partial(gate.read_next, call, admission, parse=kind.parse))
                else:
                    argument = request = gate.read(call, admission, _only(argument, call), kind.parse)
                responses = kind.inner(argument, context)
                for response in responses:
                    if response is None:
                        raise TypeError("a handler yielded None instead of a message")
                    send(gate.reply(call, admission, request, response))
                    call.messages_out += 1
                    if call.has_ended or not context.is_active():
                        break
                else:
                    # The handler may have left early because of it; OK would tell the caller that this was all.
                    call.check_end()
            finally:
                # Now and not when it is collected: its own clean-up belongs to this call.
                close = getattr(responses, "close", None)
                if close is not None:
                    close()
                gate.leave(call, admission, request)
        except Exception as error:  # noqa: BLE001 - as in the other kinds
            if call.claim_end():
                # A handler that was woken to end may have its own words for why.
                refuse(gate, call, error)
            finish(call, call.end_error or stopping_error())
            return
        if call.claim_end():
            finish(call)
            if context.is_active():
                send(None)
        else:
            finish(call, call.end_error or stopping_error())


def refuse(gate: Gate, call: Call, error: Exception) -> NoReturn:
    """End a call with an error, or with why it has to end; what was refused because of who calls is audited."""
    if call.is_stream and call.end_error is not None:
        # Its right has ended on the way, which is no attempt.
        fail(call, call.end_error)
    gate.note_refusal(call, error)
    fail(call, error)


def _only(requests: Iterator[bytes], call: Call) -> bytes:
    """Wait for the one request of a call. Raises ServiceError MALFORMED_MESSAGE when there is none."""
    call.is_reading = True
    try:
        content = next(requests, None)
    finally:
        call.is_reading = False
    call.check_end()
    if content is None:
        raise ServiceError(Reason.MALFORMED_MESSAGE, "the call ended without a request: send exactly one")
    call.messages_in = 1
    return content


def _on_executor(behaviour: _Behaviour, executor: ThreadPoolExecutor) -> _Behaviour:
    behaviour.experimental_thread_pool = executor  # type: ignore[attr-defined]  # read by gRPC
    return behaviour


def _busy_error(what: str, limit: int) -> ServiceError:
    return ServiceError(
        Reason.TOO_MANY_REQUESTS,
        f"{limit} {what} are open on this server, which is its limit: try again shortly",
        message_zh=f"并发数已达上限 {limit}，请稍后重试",
        metadata={"limit": str(limit)},
        retry_after_seconds=RETRY_AFTER_BUSY_SECONDS,
    )
