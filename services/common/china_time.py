"""Days as everybody here counts them: in China. Pure."""

from datetime import datetime, timedelta, timezone
from typing import Final

CHINA_TIME: Final = timezone(timedelta(hours=8))
"""Days of weighing and of validity are days in China, which has one time zone and no summer time."""


def day_in_china(instant: datetime) -> str:
    """Return the day, `YYYY-MM-DD`."""
    return instant.astimezone(CHINA_TIME).date().isoformat()
