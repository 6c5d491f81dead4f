"""Alarms over a link that is connected and does not advance: raised once, with what is known of the cause, and ended.

Pure: instants are passed in. A link that is away or refused says so by its state and raises no alarm here; nor does one
that waits for the bandwidth cap.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from services.relay.standing import LogKey

STALLED_LOGS_MAX: Final = 16
"""Logs that an alarm names: a screenful. How many there are is told beside them."""


class StallCause(Enum):
    """What keeps a log; the names are those of the contract without prefix."""

    NO_ANSWER = "NO_ANSWER"
    UPSTREAM_SERVICE = "UPSTREAM_SERVICE"
    OWN_SERVICE = "OWN_SERVICE"
    UNKNOWN = "UNKNOWN"


class Direction(Enum):
    """Which way something should go."""

    UPWARD = "upward"
    DOWNWARD = "downward"


@dataclass(frozen=True, slots=True)
class Stall:
    """One log that waits and does not advance. The origin is empty for a whole stream."""

    key: LogKey
    # Monotonic seconds.
    since: float
    cause: StallCause
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StalledLog:
    """A stall as people see it."""

    key: LogKey
    start_time: datetime
    cause: StallCause
    detail: str


@dataclass(frozen=True, slots=True)
class StallAlarm:
    """A direction in which nothing or not everything advances."""

    direction: Direction
    start_time: datetime
    # The one that has waited longest first, at most STALLED_LOGS_MAX.
    logs: tuple[StalledLog, ...]
    log_count: int


class StallAlarms:
    """The alarms of one link, at most one in each direction. Not thread-safe."""

    def __init__(self) -> None:
        self._alarms: dict[Direction, StallAlarm] = {}

    @property
    def standing(self) -> list[StallAlarm]:
        """The alarms that stand, upward first."""
        return [self._alarms[direction] for direction in Direction if direction in self._alarms]

    def look(
        self, direction: Direction, stalls: Sequence[Stall], now: datetime, monotonic: float
    ) -> tuple[StallAlarm | None, StallAlarm | None]:
        """Take over what is stalled now; return the alarm that was raised by it, and the one that ended."""
        before = self._alarms.get(direction)
        if not stalls:
            return None, self._alarms.pop(direction, None)
        longest = sorted(stalls, key=lambda one: (one.since, one.key))[:STALLED_LOGS_MAX]
        logs = tuple(
            StalledLog(one.key, now - timedelta(seconds=max(monotonic - one.since, 0.0)), one.cause, one.detail)
            for one in longest
        )
        alarm = StallAlarm(direction, before.start_time if before else now, logs, len(stalls))
        self._alarms[direction] = alarm
        return (None if before else alarm), None
