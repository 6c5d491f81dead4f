"""Why and when `zhichao up` stops: a signal, or the end of its standard input, noticed at once by the main thread."""

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Self

# SIGHUP is the closed terminal. Where it is ignored (nohup), it stays ignored.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopRequestedError(BaseException):
    """Ends a long stage of the start when a stop is asked for meanwhile; not an Exception, so nobody swallows it."""


class StopSignals:
    """Counts requests to stop; the first asks for an orderly stop, the second for a quick one.

    Used as a context manager in the main thread, which is the only one that may handle signals.
    """

    def __init__(self, *, watches_input: bool) -> None:
        self._input = sys.stdin.fileno() if watches_input else None
        self._count = 0
        self._is_interrupting = False
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before: dict[int, signal.Handlers | int | object] = {}
        self._wakeup_before = -1
        self.reason = ""

    @property
    def is_requested(self) -> bool:
        """Whether somebody asked for a stop."""
        return self._count > 0

    @property
    def is_urgent(self) -> bool:
        """Whether somebody asked twice: they do not want to wait for running calls."""
        return self._count > 1

    def __enter__(self) -> Self:
        """Take over the signals."""
        self._wakeup_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        # Only so that the end of a child wakes the main thread.
        self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        for number in STOP_SIGNALS:
            before = signal.getsignal(number)
            if not (number == signal.SIGHUP and before == signal.SIG_IGN):
                self._before[number] = before
                signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        for number, before in self._before.items():
            signal.signal(number, before)  # type: ignore[arg-type]  # what getsignal returned
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._reader)
        os.close(self._writer)

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """Let a request to stop end the block with StopRequestedError; for blocks that can be left anywhere."""
        self._is_interrupting = True
        try:
            if self.is_requested:
                raise StopRequestedError
            yield
        finally:
            self._is_interrupting = False

    def wait(self, timeout_seconds: float) -> None:
        """Wait until a stop is asked for, a child process ended, or the time is over."""
        deadline = time.monotonic() + timeout_seconds
        watched = [self._reader] if self._input is None else [self._reader, self._input]
        ready, _, _ = select.select(watched, [], [], max(0.0, deadline - time.monotonic()))
        if self._reader in ready:
            with contextlib.suppress(BlockingIOError):
                while os.read(self._reader, 512):
                    pass
        if self._input is not None and self._input in ready and not os.read(self._input, 512):
            self._input = None
            self._request("standard input closed")

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self._request(signal.Signals(number).name)
        if self._is_interrupting:
            # Once: the clean-up that follows must not be interrupted by the second signal.
            self._is_interrupting = False
            raise StopRequestedError

    def _request(self, reason: str) -> None:
        self._count += 1
        self.reason = self.reason or reason
