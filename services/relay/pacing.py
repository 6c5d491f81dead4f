"""Keeps what is pushed upwards below the cap of the hour: one budget for the link, shared fairly by the logs that push.

A log asks before it sends a batch and is told to go, or when to ask again. Among logs that wait the one goes first that
has had least (start-time fair queueing, Goyal et al. 1996), so one small entry never waits behind a backlog for longer
than the batches that were granted already.
"""

import threading
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from services.common.clock import Clock
from services.relay.bandwidth import BandwidthSchedule
from services.relay.standing import LogKey

BURST_SECONDS: Final = 1.0
"""Budget that an idle link saves up: what comes singly is sent at once."""

ASK_SECONDS_MAX: Final = 1.0
"""Longest wait before asking again: the cap changes with the hour, and others may have left."""

ASK_SECONDS_MIN: Final = 0.01
"""Shortest wait before asking again: rounding must not make anybody ask in a loop."""

ASKER_SECONDS_MAX: Final = 5.0
"""A log that waits asks at least once a second; one that has not for this long holds up nobody any more."""

BATCH_SECONDS: Final = 1.0
"""What one batch may take of the line where batches can be made smaller: others get their turn that soon."""

BATCH_BYTES_MIN: Final = 16 * 1024
"""A batch is not made smaller than this: each has a checkpoint, a signature and a commit, some 600 bytes and 2 ms."""


@dataclass(frozen=True, slots=True)
class CapStatus:
    """What people see of the cap."""

    schedule: str
    # None: nothing bounds it now.
    bytes_per_second: int | None
    change_time: datetime | None
    is_waiting: bool


@dataclass(slots=True)
class _Asker:
    # Virtual time at which its batch may begin, in bytes that every log has had.
    start: float
    order: int
    asked_at: float


class Pace(Protocol):
    """What the push of one log asks."""

    def ask(self, byte_count: int) -> float:
        """Return 0 if a batch of so many bytes may go, and count it; else the seconds to wait before asking again."""
        ...

    def withdraw(self) -> None:
        """Ask no more."""
        ...

    @property
    def batch_bytes_max(self) -> int | None:
        """Bytes to which batches should be kept now; None when nothing bounds them."""
        ...


class Pacer:
    """The budget of one link. Thread-safe; never waits itself."""

    def __init__(self, schedule: BandwidthSchedule, clock: Clock) -> None:
        self._schedule = schedule
        self._clock = clock
        self._guard = threading.Lock()
        self._askers: dict[LogKey, _Asker] = {}
        # Where each log's last batch ended in virtual time, as long as that is ahead of the link's.
        self._ends: dict[LogKey, float] = {}
        self._virtual = 0.0
        self._order = 0
        # Bytes that may be sent; below 0 after a batch that was larger than what was there.
        self._balance = 0.0
        self._filled_at = clock.monotonic()
        self._pushed_bytes = 0

    @property
    def pushed_bytes(self) -> int:
        """Bytes granted since the start."""
        return self._pushed_bytes

    @property
    def batch_bytes_max(self) -> int | None:
        """Bytes to which batches should be kept now; None when nothing bounds them."""
        cap = self._schedule.bytes_per_second(self._clock.now())
        return None if cap is None else max(int(cap * BATCH_SECONDS), BATCH_BYTES_MIN)

    def status(self) -> CapStatus | None:
        """Return the cap in force; None when there is no schedule."""
        if not self._schedule.spans:
            return None
        now = self._clock.now()
        with self._guard:
            self._forget_silent(self._clock.monotonic())
            is_waiting = bool(self._askers)
        return CapStatus(
            self._schedule.text, self._schedule.bytes_per_second(now), self._schedule.change_time(now), is_waiting
        )

    def ask(self, key: LogKey, byte_count: int) -> float:
        """Return 0 if a batch of a log may go, and count it; else the seconds to wait before asking again."""
        with self._guard:
            cap = self._schedule.bytes_per_second(self._clock.now()) if self._schedule.spans else None
            now = self._clock.monotonic()
            if cap is None:
                self._balance, self._filled_at = 0.0, now
                self._askers.pop(key, None)
                self._pushed_bytes += byte_count
                return 0.0
            self._fill(cap, now)
            asker = self._note(key, now)
            self._forget_silent(now)
            first = min(self._askers.values(), key=lambda one: (one.start, one.order))
            if asker is not first or self._balance <= 0 or cap == 0:
                return self._seconds_until_asked(cap)
            self._grant(key, asker, byte_count)
            return 0.0

    def withdraw(self, key: LogKey) -> None:
        """Forget that a log has asked."""
        with self._guard:
            self._askers.pop(key, None)

    def _fill(self, cap: int, now: float) -> None:
        earned = cap * max(now - self._filled_at, 0.0)
        self._balance = min(self._balance + earned, cap * BURST_SECONDS)
        self._filled_at = now

    def _note(self, key: LogKey, now: float) -> _Asker:
        asker = self._askers.get(key)
        if asker is None:
            self._order += 1
            start = max(self._virtual, self._ends.get(key, 0.0))
            asker = self._askers[key] = _Asker(start, self._order, now)
        asker.asked_at = now
        return asker

    def _forget_silent(self, now: float) -> None:
        for key in [key for key, one in self._askers.items() if now - one.asked_at > ASKER_SECONDS_MAX]:
            del self._askers[key]

    def _grant(self, key: LogKey, asker: _Asker, byte_count: int) -> None:
        del self._askers[key]
        self._balance -= byte_count
        self._pushed_bytes += byte_count
        self._virtual = asker.start
        self._ends[key] = asker.start + byte_count
        for other in [other for other, end in self._ends.items() if end <= self._virtual]:
            del self._ends[other]

    def _seconds_until_asked(self, cap: int) -> float:
        if not cap:
            return ASK_SECONDS_MAX
        return min(max(-self._balance / cap, ASK_SECONDS_MIN), ASK_SECONDS_MAX)


def batch_records(batch_bytes_max: int | None, entry_bytes: int, records_max: int) -> int:
    """Return how many entries to read at once so that batches keep to these bytes; `entry_bytes` is their mean size.

    A log of another platform has ends of batches where its checkpoints are kept, and is read as it is held.
    """
    if batch_bytes_max is None:
        return records_max
    return max(min(batch_bytes_max // max(entry_bytes, 1), records_max), 1)


class LogPace:
    """The pace of one log's push."""

    def __init__(self, pacer: Pacer, key: LogKey) -> None:
        self._pacer = pacer
        self._key = key

    def ask(self, byte_count: int) -> float:
        """See `Pacer.ask`."""
        return self._pacer.ask(self._key, byte_count)

    def withdraw(self) -> None:
        """See `Pacer.withdraw`."""
        self._pacer.withdraw(self._key)

    @property
    def batch_bytes_max(self) -> int | None:
        """See `Pacer.batch_bytes_max`."""
        return self._pacer.batch_bytes_max
