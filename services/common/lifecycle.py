"""Starts the parts of a process in numbered stages and stops them in reverse when the process is told to end."""

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import FrameType, TracebackType
from typing import Protocol, Self

import structlog

log = structlog.get_logger()

# Beyond the grace for running calls: closing pools and joining threads. After it the process ends by force.
STOP_MARGIN_SECONDS = 5.0
# What a shell shows for a process that SIGINT ended; the second signal ends the process with it.
EXIT_FORCED = 130


class Service(Protocol):
    """A part that is started and stopped. `stop` may be called once, after `start` returned, and never raises."""

    @property
    def name(self) -> str:
        """Name for the log."""
        ...

    def start(self) -> None:
        """Start, or raise: nothing may be left running then."""
        ...

    def stop(self, grace_seconds: float) -> None:
        """Stop; what is under way may take `grace_seconds` to finish."""
        ...


class StopRequest:
    """Lets any thread ask the process to stop, for example when a part that others rely on has died."""

    def __init__(self) -> None:
        # A socket and not an Event: a signal handler may run while the main thread holds the Event's lock.
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self.cause = ""

    def request(self, cause: str) -> None:
        """Ask for the stop; the first cause is kept. May be called from a signal handler, and again."""
        self.cause = self.cause or cause
        try:
            self._writer.send(b"\0")
        except OSError:
            # Full (asked often enough) or closed (already over).
            return

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait until the stop is asked for; False when the time is over."""
        return bool(select.select([self._reader], [], [], timeout_seconds)[0])

    def waking_descriptor(self) -> int:
        """Return the descriptor that ends `wait` when a byte is written to it, for signal.set_wakeup_fd."""
        return self._writer.fileno()

    def close(self) -> None:
        """Free the sockets."""
        self._reader.close()
        self._writer.close()


def run_until_signal(
    stages: Sequence[Service],
    *,
    grace_seconds: float,
    stop_request: StopRequest | None = None,
    on_started: Callable[[], None] | None = None,
) -> None:
    """Start the stages in order, wait for SIGTERM, SIGINT or a stop request, and stop the stages in reverse.

    A stage that cannot start raises its own error after the stages before it were stopped. A second signal, or a stop
    that takes longer than `grace_seconds` and a margin, ends the process at once. Only for the main thread.
    """
    request = stop_request if stop_request is not None else StopRequest()
    threads_before = set(threading.enumerate())
    with ExitStack() as stack:
        if stop_request is None:
            stack.callback(request.close)
        stack.enter_context(_Signals(request))
        deadline = _StopDeadline(grace_seconds)
        stack.callback(deadline.cancel)
        stack.callback(_join_threads_since, threads_before)
        for number, stage in enumerate(stages, start=1):
            stage.start()
            stack.callback(_stop, stage, number, deadline)
            log.info("stage_started", stage=stage.name, number=number, stages=len(stages))
            if request.wait(0):
                break
        else:
            if on_started is not None:
                on_started()
        request.wait()
        log.info("stop_requested", cause=request.cause)
        # The stages stop as the stack unwinds; also when one of them failed to start.


def _stop(stage: Service, number: int, deadline: "_StopDeadline") -> None:
    deadline.begin()
    started = time.monotonic()
    try:
        stage.stop(deadline.grace_seconds_remaining())
    except Exception:
        # The stages below must be stopped all the same.
        log.exception("stage_stop_failed", stage=stage.name, number=number)
        return
    log.info("stage_stopped", stage=stage.name, number=number, seconds=round(time.monotonic() - started, 3))


def _join_threads_since(before: set[threading.Thread]) -> None:
    """Wait for threads that would keep the process from ending, such as a handler that does not notice the end of its
    call, while the deadline of the stop still watches.
    """
    for thread in threading.enumerate():
        if not thread.daemon and thread not in before:
            thread.join()


class _StopDeadline:
    """One grace for all stages together, and the end by force when they overrun it."""

    def __init__(self, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._ends_at: float | None = None
        self._timer: threading.Timer | None = None

    def begin(self) -> None:
        if self._ends_at is None:
            self._ends_at = time.monotonic() + self._grace_seconds
            self._timer = threading.Timer(self._grace_seconds + STOP_MARGIN_SECONDS, _end_by_force, ["stop_overrun"])
            self._timer.daemon = True
            self._timer.start()

    def grace_seconds_remaining(self) -> float:
        return max((self._ends_at or 0.0) - time.monotonic(), 0.0)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class _Signals:
    """Turns the first SIGTERM or SIGINT into a stop request and the second into the end of the process."""

    def __init__(self, request: StopRequest) -> None:
        self._request = request
        self._is_first = True
        self._before: dict[signal.Signals, object] = {}
        self._wakeup_before = -1

    def __enter__(self) -> Self:
        # The kernel may hand a signal to any thread, such as one of gRPC's. The main thread, which alone runs handlers,
        # would wait on and never hear of it.
        self._wakeup_before = signal.set_wakeup_fd(self._request.waking_descriptor(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned
        signal.set_wakeup_fd(self._wakeup_before)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._is_first:
            self._is_first = False
            self._request.request(signal.Signals(number).name)
        else:
            os._exit(EXIT_FORCED)


def _end_by_force(event: str) -> None:
    log.error(event, remedy="a part did not stop in time; look for the last stage_stopped line")
    os._exit(EXIT_FORCED)
