"""Clocks that a test moves."""

from datetime import UTC, datetime, timedelta

NOON = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
"""Twelve o'clock in China Standard Time, on a Monday."""


class StandingClock:
    """Stands still until it is moved."""

    def __init__(self, now: datetime = NOON) -> None:
        self._began = now
        self._seconds = 0.0

    def advance(self, seconds: float) -> None:
        self._seconds += seconds

    def now(self) -> datetime:
        return self._began + timedelta(seconds=self._seconds)

    def monotonic(self) -> float:
        return 1_000.0 + self._seconds
