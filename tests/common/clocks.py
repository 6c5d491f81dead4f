"""A clock that a test sets."""

from datetime import UTC, datetime, timedelta

NOON = datetime(2026, 3, 1, 4, tzinfo=UTC)
"""Noon in China; where the clock stands at first."""


class SetClock:
    """A clock that a test sets; both of its scales go on together."""

    def __init__(self) -> None:
        self.moment = NOON
        self.seconds = 0.0

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.seconds

    def go_on(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)
        self.seconds += seconds
