"""Waiting on conditions with a deadline: no test sleeps for a time that it hopes is long enough."""

import time
from collections.abc import Callable
from typing import TypeVar

import grpc

POLL_SECONDS = 0.05

Answer = TypeVar("Answer")


def wait_until(condition: Callable[[], Answer], seconds_max: float, otherwise: str | Callable[[], str]) -> Answer:
    """Return the first true answer of the condition; AssertionError with `otherwise` when the time is over.

    A call that fails on the wire counts as "not yet": services are killed while somebody waits for them.
    """
    deadline = time.monotonic() + seconds_max
    error = ""
    while True:
        try:
            answer = condition()
        except grpc.RpcError as failure:
            error = f"; the last call failed: {failure}"
        else:
            error = ""
            if answer:
                return answer
        if time.monotonic() > deadline:
            text = otherwise if isinstance(otherwise, str) else otherwise()
            raise AssertionError(f"after {seconds_max:.0f} s: {text}{error}")
        time.sleep(POLL_SECONDS)
