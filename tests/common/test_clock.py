"""The system clock tells aware instants in UTC."""

import time
from datetime import UTC, datetime, timedelta

from services.common.clock import SystemClock


def test_now_is_aware() -> None:
    now = SystemClock().now()

    assert now.tzinfo is UTC
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=5)


def test_monotonic_is_the_scale_of_deadlines() -> None:
    assert abs(SystemClock().monotonic() - time.monotonic()) < 5
