"""A stream of batches, answered in order: the next are checked and judged while the last ones commit, a few at a
time.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Final, Generic, NoReturn, TypeVar

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.request import request_context, use_request_context

Request = TypeVar("Request")
Response = TypeVar("Response")

WINDOW_BATCHES_MAX: Final = 8
"""Batches taken ahead of their answers: 8,000 records, a few megabytes; more gains nothing (bench/stream_ingest)."""

_WAIT_SECONDS: Final = 0.5
"""How often a waiting reader looks whether the stream is still wanted."""


def _woken() -> Any:
    """Stand in the queue for "look whether the stream is still wanted"; never called."""
    raise AssertionError


def _raise(error: BaseException) -> NoReturn:
    raise error


class AnswerStream(Generic[Request, Response]):
    """Reads requests in a thread of its own and yields their answers in order. Bounded: a slow answer stops the
    reading.

    `begin(request)` starts the work and returns a function that waits for the answer.
    """

    def __init__(self, begin: Callable[[Request], Callable[[], Response]]) -> None:
        self._begin = begin
        self._begun: queue.Queue[Callable[[], Response] | None] = queue.Queue(WINDOW_BATCHES_MAX)
        self._is_over = threading.Event()

    def run(self, requests: Iterator[Request]) -> Iterator[Response]:
        """Yield one answer per request. The first error ends the stream, after the answers before it."""
        request = request_context()

        def read() -> None:
            with use_request_context(request):
                try:
                    for message in requests:
                        if not self._put(self._begin(message)):
                            return
                except BaseException as error:  # noqa: BLE001 - raised again in the thread that answers
                    self._put(partial(_raise, error))
                    return
                self._put(None)

        request.on_end(self._wake)
        reader = threading.Thread(target=read, name="stream-reader", daemon=True)
        reader.start()
        try:
            while (begun := self._begun.get()) is not None:
                if begun is not _woken:
                    yield begun()
                if not request.is_active() and self._begun.empty():
                    # What was begun is answered; the client sends the rest again, to whoever serves then.
                    raise ServiceError(
                        Reason.SHUTTING_DOWN, "the stream ended: connect again", retry_after_seconds=_WAIT_SECONDS
                    )
        finally:
            self._is_over.set()

    def _wake(self) -> None:
        """Wake the answering thread, which may wait for a client that sends nothing more."""
        with suppress(queue.Full):
            self._begun.put_nowait(_woken)

    def _put(self, begun: Callable[[], Response] | None) -> bool:
        """Queue one; False when nobody waits for answers any more."""
        while not self._is_over.is_set():
            try:
                self._begun.put(begun, timeout=_WAIT_SECONDS)
            except queue.Full:
                continue
            return True
        return False
