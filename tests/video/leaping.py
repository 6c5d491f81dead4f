"""A clock whose durations pass as they do, and as many seconds more as a test says."""

import time

from tests.running_service import SharedClock


class LeapingClock(SharedClock):
    """Counts on, and leaps when `leapt_seconds` is raised."""

    leapt_seconds = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.leapt_seconds
