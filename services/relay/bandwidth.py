"""The cap on what is pushed upwards by time of day: read from its text, and asked for any instant. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Final

from services.common.china_time import CHINA_TIME

BYTES_PER_SECOND_MIN: Final = 1024
"""Smallest cap: a weighing record has some 400 bytes, so less would not even carry one busy source unit. To send
nothing at all is said with `paused`."""

BYTES_PER_SECOND_MAX: Final = 100 * 1024**3
"""Largest cap that is taken for meant: more than the fastest network card moves."""

SPANS_MAX: Final = 24
"""Spans in one schedule: one for each hour."""

SCHEDULE_CHARACTERS_MAX: Final = 1_000
"""Characters of a schedule: 24 spans of some 30 characters, with room."""

_DAY_MINUTES: Final = 24 * 60
_UNITS: Final = {
    "B/s": Decimal(1),
    "KiB/s": Decimal(1024),
    "MiB/s": Decimal(1024**2),
    "GiB/s": Decimal(1024**3),
    # What lines are sold in.
    "kbit/s": Decimal(1000) / 8,
    "Mbit/s": Decimal(1000_000) / 8,
    "Gbit/s": Decimal(1000_000_000) / 8,
}
_RATE: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,3})?) ?([A-Za-z]+/s)")
_TIME: Final = re.compile(r"([0-9]{2}):([0-9]{2})")
_EXAMPLE: Final = "08:00-20:00=256KiB/s,20:00-08:00=unlimited"


@dataclass(frozen=True, slots=True)
class Span:
    """A part of every day, in minutes from midnight, with its cap: None is unlimited, 0 is paused."""

    first_minute: int
    end_minute: int
    bytes_per_second: int | None


@dataclass(frozen=True, slots=True)
class BandwidthSchedule:
    """A cap for every minute of the day; none where no span says one. `text` is how a person wrote it."""

    text: str
    spans: tuple[Span, ...]

    def bytes_per_second(self, now: datetime) -> int | None:
        """Return the cap at an instant; None when nothing bounds it, 0 when nothing may be sent."""
        return self._at(_minute(now))

    def change_time(self, now: datetime) -> datetime | None:
        """Return when the cap is another one next; None when it never is."""
        cap = self.bytes_per_second(now)
        local = now.astimezone(CHINA_TIME)
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
        edges = sorted({0} | {edge for span in self.spans for edge in (span.first_minute, span.end_minute)})
        for day in (0, 1):
            for edge in edges:
                moment = midnight + timedelta(days=day, minutes=edge)
                if moment > local and self._at(edge % _DAY_MINUTES) != cap:
                    return moment.astimezone(now.tzinfo)
        return None

    def _at(self, minute: int) -> int | None:
        return next(
            (span.bytes_per_second for span in self.spans if span.first_minute <= minute < span.end_minute), None
        )


UNLIMITED: Final = BandwidthSchedule("", ())
"""Nothing bounds what is pushed."""


def parse_schedule(text: str) -> BandwidthSchedule:
    """Read a schedule: one rate for the whole day, or `HH:MM-HH:MM=rate` separated by commas, China Standard Time.

    A rate is a number with a unit such as `256KiB/s`, `1.5MiB/s` or `2Mbit/s`, or `unlimited`, or `paused`. A span may
    go past midnight; hours that no span names are unlimited. Raises ValueError with a sentence that says what is wrong
    and where.
    """
    if len(text) > SCHEDULE_CHARACTERS_MAX:
        raise ValueError(f"must have at most {SCHEDULE_CHARACTERS_MAX} characters")
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > SPANS_MAX:
        raise ValueError(f"must have at most {SPANS_MAX} spans, not {len(parts)}")
    if len(parts) == 1 and "=" not in parts[0]:
        return BandwidthSchedule(text.strip(), (Span(0, _DAY_MINUTES, _rate(parts[0])),))
    spans = [span for part in parts for span in _spans(part)]
    spans.sort(key=lambda span: span.first_minute)
    _check_apart(spans)
    return BandwidthSchedule(text.strip(), tuple(spans))


def _spans(part: str) -> list[Span]:
    """Read one part; a span past midnight becomes two."""
    hours, equals, rate_text = part.partition("=")
    first_text, dash, end_text = hours.partition("-")
    if not equals or not dash:
        raise ValueError(f"{part!r} must be HH:MM-HH:MM=rate, for example {_EXAMPLE}")
    first, end = _minute_of(first_text.strip(), is_end=False), _minute_of(end_text.strip(), is_end=True)
    rate = _rate(rate_text.strip())
    if first == end:
        raise ValueError(f"{part!r} begins and ends at the same time; for the whole day write the rate alone")
    if first < end:
        return [Span(first, end, rate)]
    return [one for one in (Span(first, _DAY_MINUTES, rate), Span(0, end, rate)) if one.first_minute < one.end_minute]


def _minute_of(text: str, *, is_end: bool) -> int:
    found = _TIME.fullmatch(text)
    hour, minute = (int(found[1]), int(found[2])) if found else (99, 99)
    if (hour, minute) == (24, 0) and is_end:
        return _DAY_MINUTES
    if hour > 23 or minute > 59:
        raise ValueError(f"{text!r} is no time of day: it must be 00:00 to 23:59, or 24:00 as an end")
    return 60 * hour + minute


def _rate(text: str) -> int | None:
    if text == "unlimited":
        return None
    if text == "paused":
        return 0
    found = _RATE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no rate: write for example 256KiB/s, 1.5MiB/s, 2Mbit/s, unlimited or paused")
    unit = _UNITS.get(found[2])
    if unit is None:
        raise ValueError(f"{text!r} has no known unit: it must be one of {', '.join(_UNITS)}")
    rate = int(Decimal(found[1]) * unit)
    if rate < BYTES_PER_SECOND_MIN:
        raise ValueError(f"{text!r} is less than {BYTES_PER_SECOND_MIN} B/s; to send nothing write paused")
    if rate > BYTES_PER_SECOND_MAX:
        raise ValueError(f"{text!r} is more than 100 GiB/s; for no bound write unlimited")
    return rate


def _check_apart(spans: Sequence[Span]) -> None:
    for before, after in pairwise(spans):
        if after.first_minute < before.end_minute:
            raise ValueError(
                f"two spans hold {_clock(after.first_minute)}: {_named(before)} and {_named(after)}; "
                "each minute may have one rate"
            )


def _named(span: Span) -> str:
    return f"{_clock(span.first_minute)}-{_clock(span.end_minute)}"


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _minute(now: datetime) -> int:
    local = now.astimezone(CHINA_TIME)
    return 60 * local.hour + local.minute
