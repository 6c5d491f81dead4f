"""The window of time of an export: days and times as people write them."""

from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final

MONTHS_DEFAULT: Final = 6
"""Network logs are kept for six months at least (Cybersecurity Law, article 21, item 3): that is what one asks for."""


class TimeError(ValueError):
    """A time that is none, or a window without anything in it; the text names the option."""


def read_window(start_text: str | None, end_text: str | None, zone: tzinfo, now: datetime) -> tuple[datetime, datetime]:
    """Return begin and end: six months ago and now, unless given. A day as the end belongs to the window.

    Raises TimeError.
    """
    end = now if not end_text else _read("--to", end_text, zone, is_end=True)
    start = _months_before(end, zone) if not start_text else _read("--from", start_text, zone, is_end=False)
    for moment in (start, end):
        try:
            moment.astimezone(UTC)
        except OverflowError:
            raise TimeError(f"{moment.isoformat()} is beyond what a calendar has 时间超出范围") from None
    if start >= end:
        raise TimeError(f"--from {start.isoformat()} is not before --to {end.isoformat()} 起始时间须早于截止时间")
    return start, end


def _read(option: str, text: str, zone: tzinfo, *, is_end: bool) -> datetime:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        pass
    else:
        try:
            return datetime.combine(day + timedelta(days=1) if is_end else day, time(), zone)
        except OverflowError:
            raise TimeError(f"{option} {text!r} is the last day that there is 时间超出范围") from None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise TimeError(
            f"{option} {text!r}: give a day like 2026-01-31, or a time like 2026-01-31T08:00 or "
            "2026-01-31T08:00+08:00 时间格式不正确"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)


def _months_before(end: datetime, zone: tzinfo) -> datetime:
    """Return the beginning of the same day six months before; of a shorter month its last day."""
    day = end.astimezone(zone).date()
    year, month = divmod(day.year * 12 + day.month - 1 - MONTHS_DEFAULT, 12)
    _, days = monthrange(year, month + 1)
    return datetime.combine(date(year, month + 1, min(day.day, days)), time(), zone)
