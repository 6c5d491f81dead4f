"""Keeps what is pushed upwards below the cap of the hour: one budget for the link, shared fairly by the logs that push.

A log asks before it sends a batch and is told to go, or when to ask again. Among logs that wait the one goes first that
has had least (start-time fair queueing, Goyal et al. 1996), so one small entry never waits behind a backlog for longer
than the batches that were granted already. Bytes of evidence get what entries leave, and a small share while entries
wait for days; among them the most urgent goes first.
"""

import threading
from collections.abc import Callable
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

TRICKLE_SHARE: Final = 0.05
"""Share of the cap that evidence gets while entries wait: a request is answered in the end though a backlog takes days,
and the backlog takes a twentieth longer."""

PIECE_SECONDS: Final = 0.25
"""What one piece of evidence may take of the line: an entry that comes meanwhile waits no longer for it."""

PIECE_BYTES_MAX: Final = 1024 * 1024
"""Largest piece of evidence: what one message may hold."""

PIECE_BYTES_MIN: Final = BATCH_BYTES_MIN
"""A piece is not made smaller than a batch: it would be messages and little else."""


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


@dataclass(slots=True)
class _EvidenceAsker:
    # As TransferUrgency: the lower, the more urgent.
    urgency: int
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
        self._evidence_askers: dict[bytes, _EvidenceAsker] = {}
        # What evidence may send though entries wait; below 0 as above.
        self._trickle = 0.0
        self._filled_at = clock.monotonic()
        self._pushed_bytes = 0

    @property
    def pushed_bytes(self) -> int:
        """Bytes of entries granted since the start; those of evidence are counted where they are sent."""
        return self._pushed_bytes

    @property
    def batch_bytes_max(self) -> int | None:
        """Bytes to which batches should be kept now; None when nothing bounds them."""
        cap = self._schedule.bytes_per_second(self._clock.now())
        return None if cap is None else max(int(cap * BATCH_SECONDS), BATCH_BYTES_MIN)

    @property
    def piece_bytes_max(self) -> int:
        """Bytes to which pieces of evidence should be kept now."""
        cap = self._schedule.bytes_per_second(self._clock.now())
        return PIECE_BYTES_MAX if cap is None else max(min(int(cap * PIECE_SECONDS), PIECE_BYTES_MAX), PIECE_BYTES_MIN)

    @property
    def is_evidence_waiting(self) -> bool:
        """Whether evidence waits for the cap, or for entries."""
        with self._guard:
            self._forget_silent(self._clock.monotonic())
            return bool(self._evidence_askers)

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
            now = self._clock.monotonic()
            cap = self._fill(now)
            if cap is None:
                self._askers.pop(key, None)
                self._pushed_bytes += byte_count
                return 0.0
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

    def ask_for_evidence(self, digest: bytes, urgency: int, byte_count: int) -> float:
        """Return 0 if a piece of an object may go, and count it; else the seconds to wait before asking again.

        It goes when no entries wait, and by the trickle when they do.
        """
        with self._guard:
            now = self._clock.monotonic()
            cap = self._fill(now)
            if cap is None:
                self._evidence_askers.pop(digest, None)
                return 0.0
            asker = self._evidence_askers.get(digest)
            if asker is None:
                self._order += 1
                asker = self._evidence_askers[digest] = _EvidenceAsker(urgency, self._order, now)
            asker.urgency, asker.asked_at = urgency, now
            self._forget_silent(now)
            first = min(self._evidence_askers.values(), key=lambda one: (one.urgency, one.order))
            if asker is first and cap and self._balance > 0 and not self._askers:
                self._balance -= byte_count
            elif asker is first and cap and self._trickle > 0:
                # Entries wait that much longer.
                self._balance -= byte_count
                self._trickle -= byte_count
            else:
                short = self._trickle / TRICKLE_SHARE if self._askers else self._balance
                return min(max(-short / cap, ASK_SECONDS_MIN), ASK_SECONDS_MAX) if cap else ASK_SECONDS_MAX
            del self._evidence_askers[digest]
            return 0.0

    def withdraw_evidence(self, digest: bytes) -> None:
        """Forget that an object has asked."""
        with self._guard:
            self._evidence_askers.pop(digest, None)

    def _fill(self, now: float) -> int | None:
        """Return the cap in force, with what it has let through by now; without one nothing is saved up or owed."""
        cap = self._schedule.bytes_per_second(self._clock.now()) if self._schedule.spans else None
        if cap is None:
            self._balance = self._trickle = 0.0
            self._filled_at = now
            return None
        seconds = max(now - self._filled_at, 0.0)
        self._balance = min(self._balance + cap * seconds, cap * BURST_SECONDS)
        self._trickle = min(self._trickle + cap * TRICKLE_SHARE * seconds, cap * TRICKLE_SHARE * BURST_SECONDS)
        self._filled_at = now
        return cap

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
        for digest in [one for one, asker in self._evidence_askers.items() if now - asker.asked_at > ASKER_SECONDS_MAX]:
            del self._evidence_askers[digest]

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


class ObjectPace:
    """The pace of the push of one object. `urgency` tells how urgent it is now."""

    def __init__(self, pacer: Pacer, digest: bytes, urgency: Callable[[], int]) -> None:
        self._pacer = pacer
        self._digest = digest
        self._urgency = urgency

    def ask(self, byte_count: int) -> float:
        """See `Pacer.ask_for_evidence`."""
        return self._pacer.ask_for_evidence(self._digest, self._urgency(), byte_count)

    def withdraw(self) -> None:
        """See `Pacer.withdraw_evidence`."""
        self._pacer.withdraw_evidence(self._digest)

    @property
    def piece_bytes_max(self) -> int:
        """See `Pacer.piece_bytes_max`."""
        return self._pacer.piece_bytes_max
