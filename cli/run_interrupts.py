"""What Ctrl-C and SIGTERM mean to `zhichao run` in each of its phases."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class Interrupts:
    """While open: Ctrl-C asks a running simulation to end, a second one raises KeyboardInterrupt in the main thread.

    In other phases the first one raises, and while everything is being stopped it only asks to hurry. SIGTERM and
    SIGHUP raise SystemExit.
    """

    def __init__(self) -> None:
        # Set by the Ctrl-C that ends the weighing.
        self.ending = threading.Event()
        # Set by one that comes while everything is being stopped.
        self.hurrying = threading.Event()
        self._is_weighing = False
        self._is_stopping = False
        self._before: dict[int, Any] = {}

    def begin_weighing(self) -> None:
        """Take the next Ctrl-C as the wish to end."""
        self._is_weighing = True

    def end_weighing(self) -> None:
        """Take the next Ctrl-C as the wish to stop now."""
        self._is_weighing = False

    def begin_stopping(self) -> None:
        """Raise nothing any more: what was started is being stopped."""
        self._is_stopping = True

    def __enter__(self) -> Self:
        """Take over the signals; only in the main thread."""
        for number, handler in (
            (signal.SIGINT, self._interrupt),
            (signal.SIGTERM, self._terminate),
            (signal.SIGHUP, self._terminate),
        ):
            self._before[number] = signal.signal(number, handler)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self._is_stopping:
            self.hurrying.set()
        elif self._is_weighing and not self.ending.is_set():
            self.ending.set()
        else:
            raise KeyboardInterrupt

    def _terminate(self, _number: int, _frame: FrameType | None) -> None:
        if not self._is_stopping:
            raise SystemExit(EXIT_TERMINATED)
