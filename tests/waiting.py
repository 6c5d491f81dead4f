"""Waiting for what comes by itself: until it is so, or a deadline is over. No test sleeps for as long as it hopes is
enough. Whoever waits for processes that are killed meanwhile takes `tests.system.waiting`.
"""

import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

WAIT_SECONDS_MAX: Final = 20.0
"""What is waited for takes milliseconds; a busy machine may need a thousand times as long."""

POLL_SECONDS: Final = 0.01
"""Conditions ask services and databases: oftener, the asking holds up what it waits for."""

Answer = TypeVar("Answer")


def wait_until(condition: Callable[[], Answer | None], what: str, seconds_max: float = WAIT_SECONDS_MAX) -> Answer:
    """Return the first true answer of the condition; AssertionError with `what` when the time is over."""
    ends_at = time.monotonic() + seconds_max
    while not (found := condition()):
        assert time.monotonic() < ends_at, f"in vain for {seconds_max:g} s: {what}"
        threading.Event().wait(POLL_SECONDS)
    return found
