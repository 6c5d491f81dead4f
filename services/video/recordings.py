"""Until when a site holds the recording of a moment: what its cameras report, and what sites must keep. And which
report of a camera is news. Pure.

A recorder keeps a stretch of time and writes over what is older. How long the stretch is follows from a report: from
the oldest recording to the moment at which the report came. What was recorded at some moment is held until the moment
is that long ago. A recorder that fills up for the first time says so anew every day.

Lists of what is missing work `recording_until` out in the database; a test holds the two together.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final, NamedTuple

REACH_DAYS_MAX: Final = 3_650
"""Longest stretch that is believed: ten years, the most that the setting takes. A recorder that lost its clock names
1970."""

REACH_NEWS: Final = timedelta(days=1)
"""The oldest recording moves on all the time; it is news once it has moved, or the stretch has grown or shrunk, by a
day. So a camera whose state does not change writes one entry a day at most."""

STATE_AHEAD_SECONDS_MAX: Final = 600
"""How far ahead of the platform's clock the time of a state may lie, as of a weighing. A report from the future would
hide all others until then."""


class RecordingState(IntEnum):
    """What a camera and its recorder do, numbered as in the contract."""

    RECORDING = 1
    NOT_RECORDING = 2
    BLIND = 3
    UNREACHABLE = 4
    DECLARED_OUTAGE = 5


class CameraState(NamedTuple):
    """What was last said of a camera, as far as it decides about the next report. Enumerations are plain numbers."""

    view: int
    state: int
    state_time: datetime
    oldest_recording_time: datetime | None
    receive_time: datetime


def is_news(held: CameraState | None, reported: CameraState) -> bool:
    """Tell whether a report says something that is not known.

    What was true before the state that is known is not: reports come late and out of order.
    """
    if held is None:
        return True
    if reported.state_time < held.state_time:
        return False
    if (reported.view, reported.state, reported.state_time) != (held.view, held.state, held.state_time):
        return True
    if reported.oldest_recording_time is None or held.oldest_recording_time is None:
        return reported.oldest_recording_time != held.oldest_recording_time
    has_moved = abs(reported.oldest_recording_time - held.oldest_recording_time) >= REACH_NEWS
    return has_moved or abs(_stretch(reported) - _stretch(held)) >= REACH_NEWS


def reach(cameras: Iterable[CameraState], keep: timedelta) -> timedelta:
    """Return how far back the recordings of a site reach: those of the camera that keeps most.

    `keep` is what sites must keep: what holds where no camera reports its oldest recording.
    """
    found = [_stretch(camera) for camera in cameras if camera.oldest_recording_time is not None]
    return min(max(*found, timedelta()), timedelta(days=REACH_DAYS_MAX)) if found else keep


def recording_until(weigh_time: datetime, cameras: Iterable[CameraState], keep: timedelta) -> datetime:
    """Return until when a site holds, or held, the recording of a weighing.

    Of a weighing before the oldest recording of every camera that is in the past: the report came after the end.
    """
    return weigh_time + reach(cameras, keep)


def _stretch(camera: CameraState) -> timedelta:
    oldest = camera.oldest_recording_time
    return camera.receive_time - oldest if oldest is not None else timedelta()
