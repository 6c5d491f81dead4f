"""The context of the call that is being served: who asked, under which id, until when, and whether anybody still waits.

It knows no gRPC, so that logs, handlers and stores may read it.
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from services.common.access.principal import NOBODY, Principal
from services.common.errors import ServiceError
from services.common.tracing import CallTrace

# As long as a trace id's half; 64 random bits do not collide within the life of a log.
REQUEST_ID_BYTES = 8


class RequestContext:
    """One call. Outside of a call `request_context()` returns one with an empty request id that never ends."""

    __slots__ = ("deadline", "principal", "request_id", "stopping", "trace")

    def __init__(
        self,
        request_id: str = "",
        principal: Principal = NOBODY,
        *,
        deadline: float | None = None,
        stopping: threading.Event | None = None,
    ) -> None:
        self.request_id = request_id
        self.principal = principal
        # The trace that the call belongs to; None for most.
        self.trace: CallTrace | None = None
        # On the scale of time.monotonic(); None when the caller set none.
        self.deadline = deadline
        # Set when the server begins to stop: long streams end themselves then.
        self.stopping = stopping if stopping is not None else threading.Event()

    def seconds_remaining(self) -> float | None:
        """Return the seconds until the caller's deadline, never below 0; None when the caller set none."""
        if self.deadline is None:
            return None
        return max(self.deadline - time.monotonic(), 0.0)

    def is_active(self) -> bool:
        """Tell whether it makes sense to go on: the caller still waits and the server is not stopping."""
        return not self.stopping.is_set()

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call back when the call ends, or for a stream when the server begins to stop; at once if that is already so.

        For handlers that wait on a condition of their own and must be woken. The callback comes from any thread,
        returns at once and may be called twice. A unary call is left to finish: a stop does not call back.
        """
        del callback  # Nothing ends outside of a call.

    def end_with(self, error: ServiceError) -> None:
        """End a stream with a refusal, from any thread: also one that waits for its caller's next message.

        Only for streams. The caller of one that answers once sees CANCELLED.
        """
        del error  # As above.

    def after_answer(self, do: Callable[[], None]) -> None:
        """Do what its caller need not wait for once a unary call has its answer; at once anywhere else.

        Done in the same thread, whatever becomes of the call.
        """
        do()


_OUTSIDE = RequestContext()
_current: ContextVar[RequestContext] = ContextVar("zhichao_request", default=_OUTSIDE)


def request_context() -> RequestContext:
    """Return the context of the call that this thread serves."""
    return _current.get()


def enter_request(context: RequestContext) -> None:
    """Make this the context for the rest of the current `contextvars` context (gRPC gives each call one of its own)."""
    _current.set(context)


def leave_request(context: RequestContext) -> None:
    """Forget a call that is over; without effect where another one is served.

    A call holds its `contextvars` context, which would hold the call: a circle that only the collector finds, some
    thousand calls later, with 20 KB of gRPC's own in each that the collector knows nothing of.
    """
    if _current.get() is context:
        _current.set(_OUTSIDE)


@contextmanager
def use_request_context(context: RequestContext) -> Iterator[RequestContext]:
    """Make this the context within a block, for a thread that works on behalf of a call."""
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)


def new_request_id() -> str:
    """Make a request id: 16 hexadecimal digits."""
    return secrets.token_hex(REQUEST_ID_BYTES)
