"""Until when a site holds a recording, and which report of a camera is news."""

from datetime import UTC, datetime, timedelta

import pytest

from services.video.recordings import REACH_DAYS_MAX, CameraState, is_news, reach, recording_until

NOON = datetime(2026, 7, 1, 4, 0, tzinfo=UTC)
DAY = timedelta(days=1)
KEEP = 30 * DAY

RECORDING = 1
UNREACHABLE = 4


def state(
    *,
    view: int = 2,
    state: int = RECORDING,
    since: datetime = NOON,
    oldest: datetime | None = NOON - 20 * DAY,
    received: datetime = NOON,
) -> CameraState:
    return CameraState(view, state, since, oldest, received)


def test_the_first_report_is_news() -> None:
    assert is_news(None, state())


def test_the_same_report_is_no_news() -> None:
    assert not is_news(state(), state(received=NOON + timedelta(hours=1)))


@pytest.mark.parametrize(
    "reported",
    [
        state(state=UNREACHABLE),
        state(view=3),
        state(since=NOON + timedelta(minutes=1)),
        state(oldest=None),
        state(oldest=NOON - 19 * DAY),
        state(oldest=NOON - 21 * DAY),
        # A recorder that fills up: the oldest stays and the stretch grows.
        state(received=NOON + DAY),
    ],
)
def test_what_differs_is_news(reported: CameraState) -> None:
    assert is_news(state(), reported)


def test_an_oldest_recording_that_was_not_known_is_news() -> None:
    assert is_news(state(oldest=None), state())


def test_a_recorder_that_writes_over_the_oldest_is_news_once_a_day() -> None:
    held = state()
    written = 0
    for minutes in range(0, 3 * 24 * 60, 10):
        now = NOON + timedelta(minutes=minutes)
        reported = state(oldest=now - 20 * DAY, received=now)
        if is_news(held, reported):
            held, written = reported, written + 1
    assert written == 2


@pytest.mark.parametrize("later", [state(state=UNREACHABLE), state(oldest=None)])
def test_what_was_true_before_the_state_that_is_known_is_no_news(later: CameraState) -> None:
    assert not is_news(later, state(since=NOON - timedelta(seconds=1)))


def test_without_reports_sites_keep_what_they_must() -> None:
    assert reach([], KEEP) == reach([state(oldest=None)], KEEP) == KEEP


def test_the_camera_that_keeps_most_counts() -> None:
    cameras = [state(oldest=NOON - 7 * DAY), state(oldest=NOON - 90 * DAY), state(oldest=None)]

    assert reach(cameras, KEEP) == 90 * DAY


def test_a_shorter_recording_than_asked_for_ends_earlier() -> None:
    assert recording_until(NOON, [state(oldest=NOON - 7 * DAY)], KEEP) == NOON + 7 * DAY


def test_what_a_recorder_without_a_clock_says_is_cut() -> None:
    assert reach([state(oldest=datetime(1970, 1, 1, tzinfo=UTC))], KEEP) == timedelta(days=REACH_DAYS_MAX)


def test_an_oldest_recording_in_the_future_reaches_nowhere() -> None:
    assert reach([state(oldest=NOON + DAY)], KEEP) == timedelta()


def test_a_weighing_before_the_oldest_recording_is_lost_when_the_report_came() -> None:
    oldest = NOON - 7 * DAY

    assert recording_until(oldest - timedelta(seconds=1), [state(oldest=oldest)], KEEP) < NOON
    assert recording_until(oldest, [state(oldest=oldest)], KEEP) == NOON
