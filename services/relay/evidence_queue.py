"""What the upstream wants of this platform's evidence, and which object goes next: the most urgent first, a few at
once, and one that is pushed gives way to a more urgent one.

Pure: instants are passed in, and the caller holds the lock. Kept in memory only: what is wanted, and how much of it has
come, the upstream says anew with each follow.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

from services.relay.limits import EVIDENCE_DECLINED_MAX, EVIDENCE_PUSHES_MAX
from services.relay.standing import backoff_seconds

RETRY_SECONDS_MIN: Final = 1.0
"""Bound of the first pause after a push that failed: the receiver's service restarts in about that time."""

RETRY_SECONDS_MAX: Final = 60.0
"""Bound of all later pauses: a store that comes back is found within a minute, and not asked all the time."""

SETTLED_SECONDS: Final = 2.0
"""Pause after an object was complete or declined: what the upstream lists until then it may have listed before it
knew."""


class Urgency(IntEnum):
    """Why an object is wanted now, as TransferUrgency of the contract; the lower, the more urgent."""

    REQUESTED = 1
    FRESH = 2
    BACKFILL = 3


@dataclass(frozen=True, slots=True)
class Wanted:
    """One object that the upstream wants."""

    digest: bytes
    size_bytes: int
    # Bytes that the upstream has already.
    received_bytes: int
    urgency: Urgency


@dataclass(slots=True)
class _Pause:
    failure_count: int
    due_at: float


class EvidenceQueue:
    """The objects that are wanted, running, waited for, put off. Not thread-safe."""

    def __init__(self, pushes_max: int = EVIDENCE_PUSHES_MAX, declined_max: int = EVIDENCE_DECLINED_MAX) -> None:
        self._pushes_max = pushes_max
        self._declined_max = declined_max
        self._wanted: dict[bytes, Wanted] = {}
        self._running: dict[bytes, Wanted] = {}
        # What this platform did not hold when it was asked; the oldest first.
        self._declined: dict[bytes, Wanted] = {}
        # Of these, what has come since.
        self._offers: dict[bytes, Wanted] = {}
        # What came while it was being looked for.
        self._came: set[bytes] = set()
        self._pauses: dict[bytes, _Pause] = {}
        # As the upstream counts it.
        self.object_count = 0
        self.missing_bytes = 0

    @property
    def running_count(self) -> int:
        """Objects that are being pushed."""
        return len(self._running)

    @property
    def declined_count(self) -> int:
        """Objects that are waited for here."""
        return len(self._declined)

    # What the upstream says

    def replace(self, wanted: Sequence[Wanted], object_count: int, missing_bytes: int) -> None:
        """Take over what is wanted now, the most urgent first."""
        self._wanted = {one.digest: one for one in wanted}
        self.object_count, self.missing_bytes = object_count, missing_bytes
        for digest, one in self._running.items():
            if digest in self._wanted:
                self._running[digest] = replace(one, urgency=self._wanted[digest].urgency)
        known = self._wanted.keys() | self._running.keys() | self._offers.keys()
        for digest in [digest for digest in self._pauses if digest not in known]:
            del self._pauses[digest]

    def clear(self) -> None:
        """Forget what is wanted: the follow is over. What was declined is remembered, and what runs ends by itself."""
        self._wanted = {}
        self._pauses = {}
        self.object_count = self.missing_bytes = 0

    # What the senders ask

    def take(self, now: float) -> Wanted | None:
        """Return the object that goes next, which is running then; None when none is due or enough are running."""
        if len(self._running) >= self._pushes_max:
            return None
        for one in self._due(now):
            self._running[one.digest] = one
            self._came.discard(one.digest)
            return one
        return None

    def seconds_until_due(self, now: float) -> float | None:
        """Return when the next one that was put off is due; None when nothing is."""
        if len(self._running) >= self._pushes_max:
            return None
        waiting = [
            pause.due_at - now
            for digest, pause in self._pauses.items()
            if digest not in self._running and (digest in self._wanted or digest in self._offers)
        ]
        return max(min(waiting), 0.0) if waiting else None

    def urgency(self, digest: bytes) -> Urgency:
        """Return how urgent one that is running is now."""
        running = self._running.get(digest)
        return running.urgency if running is not None else Urgency.BACKFILL

    def must_give_way(self, digest: bytes, now: float) -> bool:
        """Tell whether one that is running is to end so that a more urgent one can go; it is due again at once."""
        own = self._running.get(digest)
        if own is None or len(self._running) < self._pushes_max:
            return False
        more_urgent = sum(1 for one in self._due(now) if one.urgency < own.urgency)
        # Of those that are equally urgent the one that began last gives way.
        order = list(self._running)
        least_urgent = sorted(order, key=lambda one: (self._running[one].urgency, order.index(one)), reverse=True)
        return least_urgent.index(digest) < more_urgent

    def _due(self, now: float) -> list[Wanted]:
        offered = [one for digest, one in self._offers.items() if digest not in self._wanted]
        candidates = sorted([*self._wanted.values(), *offered], key=lambda one: one.urgency)
        return [
            one
            for one in candidates
            if one.digest not in self._running
            and ((pause := self._pauses.get(one.digest)) is None or pause.due_at <= now)
        ]

    # What the senders tell

    def completed(self, digest: bytes, now: float) -> None:
        """Take note that the upstream has all of it. What it lists for a moment it may have listed before."""
        self._forget(digest)
        self._pauses[digest] = _Pause(0, now + SETTLED_SECONDS)
        one = self._wanted.pop(digest, None)
        if one is not None:
            self.object_count = max(self.object_count - 1, 0)
            self.missing_bytes = max(self.missing_bytes - (one.size_bytes - one.received_bytes), 0)

    def unwanted(self, digest: bytes, now: float) -> None:
        """Take note that the upstream does not want it any more. As above."""
        self._forget(digest)
        self._pauses[digest] = _Pause(0, now + SETTLED_SECONDS)
        self._wanted.pop(digest, None)

    def gave_way(self, digest: bytes, received_bytes: int) -> None:
        """Take note that a push has ended early, in good order or where the upstream stands elsewhere."""
        self._running.pop(digest, None)
        self._stands_at(digest, received_bytes)

    def failed(self, digest: bytes, received_bytes: int | None, now: float, jitter: float, seconds_min: float) -> int:
        """Take note that a push has failed: put off, longer each time. `received_bytes` as far as it is known.

        Returns how often it has failed by now.
        """
        self._running.pop(digest, None)
        if received_bytes is not None:
            self._stands_at(digest, received_bytes)
        before = self._pauses.get(digest)
        count = before.failure_count + 1 if before is not None else 1
        pause = backoff_seconds(count, (1 + jitter) / 2, RETRY_SECONDS_MIN, RETRY_SECONDS_MAX)
        self._pauses[digest] = _Pause(count, now + max(pause, seconds_min))
        return count

    def not_held(self, digest: bytes, now: float) -> bool:
        """Take note that this platform does not hold it; False if it came meanwhile, and is due again at once.

        It is put off for a moment, in which the upstream is told.
        """
        one = self._running.pop(digest, None)
        if digest in self._came:
            self._came.discard(digest)
            return False
        if one is not None:
            self._offers.pop(digest, None)
            self._declined.pop(digest, None)
            self._declined[digest] = replace(one, received_bytes=0)
            while len(self._declined) > self._declined_max:
                del self._declined[next(iter(self._declined))]
        self._pauses[digest] = _Pause(0, now + SETTLED_SECONDS)
        return True

    def gone(self, digest: bytes, now: float) -> None:
        """Take note that this platform never will hold it again. Put off as above."""
        self._forget(digest)
        self._pauses[digest] = _Pause(0, now + SETTLED_SECONDS)

    # What the own service tells

    def try_again(self) -> None:
        """Take note that the own service was away and is back: what was put off is due."""
        self._pauses.clear()

    def held(self, digests: Collection[bytes]) -> None:
        """Take note that this platform has come to hold objects: what was declined is offered."""
        for digest in digests:
            if digest in self._running:
                self._came.add(digest)
            if (one := self._declined.pop(digest, None)) is not None:
                self._offers[digest] = one
                self._pauses.pop(digest, None)

    def _stands_at(self, digest: bytes, received_bytes: int) -> None:
        for known in (self._wanted, self._offers):
            if digest in known:
                known[digest] = replace(known[digest], received_bytes=received_bytes)

    def _forget(self, digest: bytes) -> None:
        self._running.pop(digest, None)
        self._declined.pop(digest, None)
        self._offers.pop(digest, None)
        self._came.discard(digest)
        self._pauses.pop(digest, None)
