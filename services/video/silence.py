"""Ends calls whose callers have stopped sending, or taking: a recorder that hangs keeps its connection alive and its
call open, and with it the room for all the bytes that it announced; a reader that pauses keeps a place and some memory.
What has come is kept as after any break.
"""

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Final, Generic, Protocol, TypeVar

import structlog

from services.common.clock import Clock
from services.common.errors import ServiceError
from services.common.request import request_context
from services.video import refusals_uploading as refusals

UPLOAD_SECONDS_MAX: Final = 300.0
"""How long an upload may bring less than UPLOAD_BYTES_MIN. The longest message, 1 MiB, comes in that time over a line
of 28 kbit/s, as GPRS is; whoever is slower sends shorter ones."""

UPLOAD_BYTES_MIN: Final = 64 * 1024
"""Bytes that an upload brings in that time: the slowest line of all brings more, and a byte now and then is none."""

PUSH_SECONDS_MAX: Final = 900.0
"""How long a platform below may push nothing: its relay lets entries go first and keeps to a cap, ends a push that
waits for that for ten minutes (services.relay.limits), and comes again where it stood."""

PUSH_BYTES_MIN: Final = 1
"""Any byte: how fast a link is, its platform knows."""

READ_SECONDS_MAX: Final = 300.0
"""How long a reader may take for one message, 1 MiB at most: as long as an upload has for it."""

LOOK_SECONDS: Final = 5.0
"""How often calls are looked at: some dozens, for which minutes are counted."""

_log = structlog.get_logger()


class _HasChunk(Protocol):
    """A message that brings bytes."""

    @property
    def chunk(self) -> bytes | memoryview: ...


_Message = TypeVar("_Message", bound=_HasChunk)
_Answer = TypeVar("_Answer")


class Waiting:
    """How long the caller of one call has been waited for; made by the thread that serves it."""

    def __init__(self) -> None:
        self.call = request_context()
        # Since the last bytes that counted, without what this service itself took for them.
        self.waited_seconds = 0.0
        self.waiting_since = 0.0


class WatchedMessages(Waiting, Generic[_Message]):
    """The messages of one call, as they come; read by one thread."""

    def __init__(self, watch: "ProgressWatch", messages: Iterator[_Message]) -> None:
        super().__init__()
        self._came_bytes = 0
        self._watch = watch
        self._messages = messages

    def __iter__(self) -> Iterator[_Message]:
        """Return the messages."""
        return self

    def __next__(self) -> _Message:
        """Wait for the next one."""
        self._watch.begin(self)
        try:
            message = next(self._messages)
        finally:
            self._watch.end(self)
        self._came_bytes += len(message.chunk)
        if self._came_bytes >= self._watch.bytes_min:
            self._came_bytes = 0
            self.waited_seconds = 0.0
        return message


class ProgressWatch:
    """Watches calls of one kind. Thread safe."""

    def __init__(
        self,
        clock: Clock,
        seconds_max: float,
        bytes_min: int,
        refusal: Callable[[float], ServiceError] = refusals.silent,
    ) -> None:
        """End calls with a refusal that have brought less than `bytes_min` while they were waited for `seconds_max`."""
        self.bytes_min = bytes_min
        self._refusal = refusal
        self._seconds_max = seconds_max
        self._clock = clock
        self._guard = threading.Lock()
        # Only those that are waited for: what a call does with its bytes is not its caller's silence.
        self._waited_for: set[Waiting] = set()

    def watched(self, messages: Iterator[_Message]) -> Iterator[_Message]:
        """Return the messages of the call that this thread serves; waiting for them ends with the call."""
        return WatchedMessages(self, messages)

    def taken(self, answers: Generator[_Answer, None, None]) -> Generator[_Answer, None, None]:
        """Yield the answers of the call that this thread serves; waiting for each to be taken ends with the call."""
        waiting = Waiting()
        with closing(answers):
            for answer in answers:
                self.begin(waiting)
                try:
                    yield answer
                finally:
                    self.end(waiting)
                waiting.waited_seconds = 0.0

    def step(self) -> float:
        """End the calls that are silent, and return the seconds until the next look."""
        now = self._clock.monotonic()
        with self._guard:
            silent = [
                one for one in self._waited_for if one.waited_seconds + now - one.waiting_since > self._seconds_max
            ]
            self._waited_for.difference_update(silent)
        for one in silent:
            _log.info("silent_call_ended", request_id=one.call.request_id, principal=one.call.principal.name)
            one.call.end_with(self._refusal(self._seconds_max))
        return LOOK_SECONDS

    def begin(self, waiting: Waiting) -> None:
        """Count from now on. For WatchedMessages."""
        waiting.waiting_since = self._clock.monotonic()
        with self._guard:
            self._waited_for.add(waiting)

    def end(self, waiting: Waiting) -> None:
        """Count no more. For WatchedMessages."""
        with self._guard:
            self._waited_for.discard(waiting)
        waiting.waited_seconds += self._clock.monotonic() - waiting.waiting_since
