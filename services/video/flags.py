"""What is doubtful about evidence though it is kept. Pure."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final

from services.video.domain import Draft, EvidenceKind
from services.video.media_types import MediaFacts

LATE: Final = timedelta(minutes=10)
"""Later than this after it was taken evidence is late (the contract): twice the five minutes that sites are usually
given."""

DURATION_TOLERANCE: Final = timedelta(seconds=2)
"""How far the length of a clip and its interval may differ (the contract): recorders cut at key frames, which are one
or two seconds apart."""

DEVICE_TIME_TOLERANCE: Final = timedelta(minutes=1)
"""How far a device's own time and the time of capture may differ (the contract): cameras are set by NTP; a minute also
forgives clocks that are set by hand."""

PIXELS_MIN: Final = 2_000_000
"""Pixels that acceptance asks of a camera, 2 MP; full HD has 2,073,600."""


class EvidenceFlag(IntEnum):
    """What is doubtful, numbered as in the contract."""

    CLOCK_AHEAD = 1
    LATE = 2
    DURATION_DIFFERS = 3
    DEVICE_TIME_DIFFERS = 4
    SMALL_PICTURE = 5


def flags(draft: Draft, facts: MediaFacts, seal_time: datetime) -> tuple[EvidenceFlag, ...]:
    """Return what is doubtful about evidence that is sealed now, in the order of the contract."""
    return tuple(_flags(draft, facts, seal_time))


def _flags(draft: Draft, facts: MediaFacts, seal_time: datetime) -> Iterator[EvidenceFlag]:
    start = draft.capture_start_time
    # A clip is taken once it ends.
    taken = draft.capture_end_time or start
    # Documents have a date and not a moment; pixels are asked of cameras.
    is_taken_by_camera = draft.kind in (EvidenceKind.PHOTO, EvidenceKind.CLIP)
    if taken is not None and taken > seal_time:
        yield EvidenceFlag.CLOCK_AHEAD
    if taken is not None and is_taken_by_camera and seal_time - taken > LATE:
        yield EvidenceFlag.LATE
    if start is not None and draft.capture_end_time is not None and facts.duration_milliseconds is not None:
        said = draft.capture_end_time - start
        if abs(timedelta(milliseconds=facts.duration_milliseconds) - said) > DURATION_TOLERANCE:
            yield EvidenceFlag.DURATION_DIFFERS
    if start is not None and taken is not None and _is_elsewhere(facts.device_time, start, taken):
        yield EvidenceFlag.DEVICE_TIME_DIFFERS
    if is_taken_by_camera and facts.width_px is not None and facts.height_px is not None:
        pixels = facts.width_px * facts.height_px
        if pixels < PIXELS_MIN:
            yield EvidenceFlag.SMALL_PICTURE


def _is_elsewhere(device_time: datetime | None, start: datetime, end: datetime) -> bool:
    """Tell whether a device's time lies outside; recorders date a clip by its beginning or by its end."""
    if device_time is None:
        return False
    return not start - DEVICE_TIME_TOLERANCE <= device_time <= end + DEVICE_TIME_TOLERANCE
