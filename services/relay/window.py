"""The batches of one push between being read and being acknowledged: bounded, merged while they wait, in order.

Thread-safe; knows no gRPC. A reader offers, a sender takes, acknowledgements free places; each may wait for the others.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from google.protobuf.message import DecodeError

from services.common.clock import Clock
from services.relay.limits import WAITING_BATCHES_MAX
from services.relay.pacing import Pace
from zhichao.journal.v1 import entry_pb2, journal_pb2

_CHECKPOINT_BYTES_MAX: Final = 16_384
"""Room for the checkpoint in a batch's size (services.journal.notes.NOTE_BYTES_MAX)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What both sides of a link agreed on."""

    batch_records_max: int
    batch_bytes_max: int
    window_batches_max: int


class Waiting:
    """One batch on its way. It grows while it waits: a run of small batches travels as one."""

    __slots__ = ("batch", "byte_count", "first_write_time")

    def __init__(self, batch: journal_pb2.EntryBatch) -> None:
        self.batch = batch
        self.byte_count = batch.ByteSize()
        self.first_write_time = _write_time(batch.entries[0]) if batch.entries else None

    @property
    def last_sequence(self) -> int:
        """Sequence of the last entry."""
        return self.batch.first_sequence + len(self.batch.entries) - 1

    def merge(self, following: "Waiting", limits: Limits) -> bool:
        """Take the following batch in if both fit together; its checkpoint then stands for all."""
        fits = (
            self.last_sequence + 1 == following.batch.first_sequence
            and len(self.batch.entries) + len(following.batch.entries) <= limits.batch_records_max
            and self.byte_count + following.byte_count <= limits.batch_bytes_max + _CHECKPOINT_BYTES_MAX
        )
        if fits:
            self.batch.entries.extend(following.batch.entries)
            self.batch.checkpoint = following.batch.checkpoint
            self.byte_count += following.byte_count
        return fits


class PushWindow:
    """The batches of one push. `is_wanted_elsewhere` tells, without waiting, whether another log needs this sender.

    `pace` is asked before each batch goes; without one nothing but the window bounds them.
    """

    def __init__(
        self,
        limits: Limits,
        clock: Clock,
        *,
        linger_seconds: float,
        turn_seconds: float,
        is_wanted_elsewhere: Callable[[], bool],
        pace: Pace | None = None,
    ) -> None:
        self._limits = limits
        self._pace = pace
        self._clock = clock
        self._linger_seconds = linger_seconds
        self._turn_seconds = turn_seconds
        self._is_wanted_elsewhere = is_wanted_elsewhere
        self._waiting: deque[Waiting] = deque()
        self._in_flight: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._began_at = clock.monotonic()
        self._idle_since = self._began_at
        # When the oldest batch in flight began to be the one whose answer is waited for.
        self._asked_at = self._began_at
        self._has_sent = False
        self._is_paced = False
        self._is_finishing = False
        self._is_closed = False

    def offer(self, batch: journal_pb2.EntryBatch) -> bool:
        """Add a batch that was read, waiting for a place. False when no more is wanted."""
        added = Waiting(batch)
        bytes_max = self._pace.batch_bytes_max if self._pace is not None else None
        limits = self._limits
        if bytes_max is not None:
            limits = replace(limits, batch_bytes_max=min(bytes_max, limits.batch_bytes_max))
        with self._changed:
            while not self._is_over():
                if self._waiting and self._waiting[-1].merge(added, limits):
                    return True
                if len(self._waiting) < WAITING_BATCHES_MAX:
                    self._waiting.append(added)
                    self._changed.notify_all()
                    return True
                self._changed.wait()
            return False

    def take(self) -> journal_pb2.EntryBatch | None:
        """Return the next batch to send, waiting for one, for a place in the window and for the bandwidth cap.

        None: the push ends here.

        It ends when it was told to, when nothing came for the linger, and when its turn is over and others wait.
        """
        with self._changed:
            while not self._is_over():
                now = self._clock.monotonic()
                is_idle = not self._waiting and not self._in_flight
                if self._must_hand_back(now, is_idle):
                    break
                is_sendable = bool(self._waiting) and len(self._in_flight) < self._limits.window_batches_max
                if is_sendable and (pause := self._seconds_to_pause()):
                    self._changed.wait(pause)
                    continue
                if is_sendable:
                    taken = self._waiting.popleft()
                    if not self._in_flight:
                        self._asked_at = now
                    self._in_flight.append(taken)
                    self._has_sent = True
                    self._changed.notify_all()
                    return taken.batch
                self._changed.wait(self._idle_since + self._linger_seconds - now if is_idle else None)
            self._is_finishing = True
            self._is_paced = False
            self._changed.notify_all()
        if self._pace is not None:
            self._pace.withdraw()
        return None

    def _seconds_to_pause(self) -> float:
        """Ask for the next batch to go; the longer it waits, the more is merged into it."""
        pause = self._pace.ask(self._waiting[0].byte_count) if self._pace is not None else 0.0
        self._is_paced = pause > 0
        return pause

    def _must_hand_back(self, now: float, is_idle: bool) -> bool:
        if is_idle and now >= self._idle_since + self._linger_seconds:
            return True
        # At least one batch per turn, or a slow reader would never get anywhere.
        return (
            self._has_sent and (is_idle or now >= self._began_at + self._turn_seconds) and self._is_wanted_elsewhere()
        )

    def acknowledge(self) -> datetime | None:
        """Free the place of the oldest batch in flight; return when the oldest entry that is left was written."""
        with self._changed:
            if self._in_flight:
                self._in_flight.popleft()
            self._asked_at = self._clock.monotonic()
            if not self._in_flight and not self._waiting:
                self._idle_since = self._asked_at
            self._changed.notify_all()
            return self._oldest()

    def oldest_write_time(self) -> datetime | None:
        """Return when the oldest entry that is held here was written."""
        with self._changed:
            return self._oldest()

    def _oldest(self) -> datetime | None:
        for waiting in (*self._in_flight, *self._waiting):
            return waiting.first_write_time
        return None

    @property
    def is_paced(self) -> bool:
        """Whether a batch waits for the bandwidth cap, and for nothing else."""
        with self._changed:
            return self._is_paced

    @property
    def in_flight_count(self) -> int:
        """Batches sent and not acknowledged."""
        with self._changed:
            return len(self._in_flight)

    def seconds_without_answer(self) -> float:
        """Return how long the answer to the oldest batch in flight has been missing; 0 when none is."""
        with self._changed:
            return self._clock.monotonic() - self._asked_at if self._in_flight else 0.0

    @property
    def has_finished(self) -> bool:
        """Whether the push was to end, so that the end of the call is no surprise."""
        with self._changed:
            return self._is_finishing or self._is_closed

    @property
    def is_closed(self) -> bool:
        """Whether everybody was let go."""
        with self._changed:
            return self._is_closed

    def nudge(self) -> None:
        """Look again whether another log needs this sender."""
        with self._changed:
            self._changed.notify_all()

    def finish(self) -> None:
        """Send nothing more; what is in flight may still be acknowledged."""
        with self._changed:
            self._is_finishing = True
            self._changed.notify_all()

    def close(self) -> None:
        """Let everybody go."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _is_over(self) -> bool:
        return self._is_finishing or self._is_closed


def _write_time(entry: bytes) -> datetime | None:
    """Read when an entry was written; None when it does not say. The only look that the relay takes into an entry."""
    try:
        parsed = entry_pb2.Entry.FromString(entry)
        return parsed.write_time.ToDatetime(tzinfo=UTC) if parsed.HasField("write_time") else None
    except (DecodeError, ValueError, OverflowError):
        # An entry that cannot be read is the receiver's to park, not ours to judge.
        return None
