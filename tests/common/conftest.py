"""Fixtures for the tests of services.common."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.common.served import WAIT_SECONDS, Served


@pytest.fixture
def serve(socket_directory: Path) -> Iterator[Callable[..., Served]]:
    """Start a tiny server with the given behaviours; it is stopped after the test."""
    with ExitStack() as stack:

        def start(**behaviours: Any) -> Served:
            served = Served(socket_directory, **behaviours)
            stack.callback(served.close)
            return served

        yield start


class Events:
    """The log events of one test."""

    def __init__(self, events: list[Any]) -> None:
        self._events = events

    def finished(self, count: int = 1) -> list[Any]:
        """Wait until that many requests have been logged: the line is written beside the answer, not before it."""
        ends_at = time.monotonic() + WAIT_SECONDS
        while True:
            found = [event for event in self._events if event["event"] == "request_finished"]
            if len(found) >= count or time.monotonic() > ends_at:
                return found
            threading.Event().wait(0.002)

    def named(self, name: str) -> list[Any]:
        return [event for event in self._events if event["event"] == name]


@pytest.fixture
def events() -> Iterator[Events]:
    """Capture the log events of the test."""
    with capture_logs() as captured:
        yield Events(captured)
