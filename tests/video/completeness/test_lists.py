"""Lists of completeness and of what is missing: what they hold, their order, their pages."""

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.video.recordings import CameraState, recording_until
from services.video.store import completeness as store
from services.video.store.completeness import CompletenessRow, DayFilter, MissingFilter, MissingRow
from tests.video.completeness.examples import (
    CLIP,
    COUNTY,
    DAY,
    IN_TIME,
    KEEP,
    MINUTE,
    NEIGHBOUR,
    NOON,
    OTHER_UNIT,
    PHOTO,
    UNIT,
    camera,
    evidence,
    keep,
    seal,
    suspected,
)

Connection = psycopg.Connection[Any]

TODAY = date(2026, 7, 1)


def completeness(connection: Connection, count: int = 100, **narrow: Any) -> list[CompletenessRow]:
    """Read all pages of completeness."""
    found: list[CompletenessRow] = []
    while True:
        after = (found[-1].day, found[-1].origin, found[-1].source_unit_id) if found else None
        page = store.list_completeness(connection, DayFilter(**narrow), IN_TIME, after, count)
        found += page
        if len(page) < count:
            return found


def missing_held(
    connection: Connection, count: int = 100, as_of: datetime = NOON + DAY, **narrow: Any
) -> list[MissingRow]:
    """Read all pages of what is missing and may be held."""
    found: list[MissingRow] = []
    while True:
        after = (found[-1].until_time, found[-1].origin, found[-1].sequence) if found else None
        page = store.list_missing_held(connection, MissingFilter(as_of, KEEP, **narrow), after, count)
        found += page
        if len(page) < count:
            return found


def missing_lost(
    connection: Connection, count: int = 100, as_of: datetime = NOON + DAY, **narrow: Any
) -> list[MissingRow]:
    """Read all pages of what is lost."""
    found: list[MissingRow] = []
    while True:
        after = (found[-1].weigh_time, found[-1].origin, found[-1].sequence) if found else None
        page = store.list_missing_lost(connection, MissingFilter(as_of, KEEP, **narrow), after, count)
        found += page
        if len(page) < count:
            return found


def names(rows: Iterable[MissingRow]) -> list[str]:
    return [row.record_id for row in rows]


def test_clips_count_and_those_in_time_and_photos(connection: Connection) -> None:
    keep(connection, *(suspected(f"r-{number}", number) for number in range(1, 6)))
    seal(
        connection,
        evidence("in-time", "r-1", seal_time=NOON + IN_TIME),
        evidence("late", "r-2", seal_time=NOON + IN_TIME + timedelta(seconds=1)),
        # Before the weighing, as the clocks have it.
        evidence("early", "r-3", seal_time=NOON - DAY),
        evidence("again", "r-3", seal_time=NOON + DAY),
        evidence("photo", "r-3", "r-4", kind=PHOTO, seal_time=NOON + DAY),
    )

    assert completeness(connection) == [CompletenessRow(TODAY, COUNTY, UNIT, 5, 3, 2, 2)]


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        (datetime.fromisoformat("2026-06-30T15:59:59.999999+00:00"), date(2026, 6, 30)),
        (datetime.fromisoformat("2026-06-30T16:00:00+00:00"), date(2026, 7, 1)),
    ],
)
def test_days_are_days_in_china(connection: Connection, moment: datetime, day: date) -> None:
    keep(connection, suspected("r-1", 1, moment))

    assert [row.day for row in completeness(connection)] == [day]


def test_the_newest_day_comes_first_then_origin_and_unit(connection: Connection) -> None:
    for sequence, (origin, unit, days) in enumerate(
        [(NEIGHBOUR, UNIT, 0), (COUNTY, OTHER_UNIT, 0), (COUNTY, UNIT, 0), (COUNTY, UNIT, 1), (NEIGHBOUR, UNIT, 1)], 1
    ):
        keep(connection, suspected(f"r-{sequence}", sequence, NOON - days * DAY, unit), origin=origin)

    expected = [
        (TODAY, COUNTY, UNIT),
        (TODAY, COUNTY, OTHER_UNIT),
        (TODAY, NEIGHBOUR, UNIT),
        (TODAY - DAY, COUNTY, UNIT),
        (TODAY - DAY, NEIGHBOUR, UNIT),
    ]
    for count in range(1, 7):
        assert [row[:3] for row in completeness(connection, count)] == expected


@pytest.mark.parametrize(
    ("narrow", "expected"),
    [
        ({"origin": NEIGHBOUR}, [(TODAY, NEIGHBOUR, UNIT)]),
        ({"source_unit_id": OTHER_UNIT}, [(TODAY - DAY, COUNTY, OTHER_UNIT)]),
        ({"first_day": TODAY}, [(TODAY, COUNTY, UNIT), (TODAY, NEIGHBOUR, UNIT)]),
        ({"last_day": TODAY - DAY}, [(TODAY - DAY, COUNTY, OTHER_UNIT)]),
        ({"origin": NEIGHBOUR, "source_unit_id": OTHER_UNIT}, []),
    ],
)
def test_completeness_is_narrowed(connection: Connection, narrow: dict[str, Any], expected: list[Any]) -> None:
    keep(connection, suspected("r-1", 1), suspected("r-2", 2, NOON - DAY, OTHER_UNIT))
    keep(connection, suspected("r-3", 1), origin=NEIGHBOUR)

    assert [row[:3] for row in completeness(connection, **narrow)] == expected


def test_what_lacks_a_clip_or_a_photo_is_missing(connection: Connection) -> None:
    keep(connection, *(suspected(name, place) for place, name in enumerate(["both", "clip", "photo", "none"], 1)))
    seal(
        connection,
        evidence("e-1", "none", "photo"),
        evidence("e-2", "none", "clip", kind=PHOTO),
    )

    rows = missing_held(connection)

    assert [(row.record_id, row.lacks_clip, row.lacks_photo) for row in rows] == [
        ("both", True, True),
        ("clip", True, False),
        ("photo", False, True),
    ]


def test_what_is_there_and_shows_another_time_is_missing_and_said_so(connection: Connection) -> None:
    keep(connection, *(suspected(name, place) for place, name in enumerate(["none", "clip", "photo", "right"], 1)))
    seal(
        connection,
        evidence("e-1", "clip", start_time=NOON - DAY, end_time=NOON - DAY + MINUTE),
        evidence("e-2", "photo", kind=PHOTO, start_time=NOON + DAY),
        # One of another time takes nothing from what has one of its own.
        evidence("e-3", "right"),
        evidence("e-4", "right", start_time=NOON - DAY),
        evidence("e-5", "right", origin=NEIGHBOUR, kind=PHOTO, start_time=NOON - DAY),
    )

    for rows in (missing_held(connection), list(reversed(missing_lost(connection, as_of=NOON + 99 * DAY)))):
        assert [
            (row.record_id, row.lacks_clip, row.has_clip_of_other_time, row.has_photo_of_other_time) for row in rows
        ] == [
            ("none", True, False, False),
            ("clip", True, True, False),
            ("photo", True, False, True),
            ("right", False, False, False),
        ]
    assert completeness(connection) == [CompletenessRow(TODAY, COUNTY, UNIT, 4, 1, 1, 0)]


def test_what_ends_first_comes_first(connection: Connection) -> None:
    camera(connection, "short", 7 * DAY, unit=OTHER_UNIT)
    keep(
        connection,
        suspected("kept-30-days", 1, NOON - 2 * DAY),
        suspected("kept-7-days", 2, NOON - 1 * DAY, OTHER_UNIT),
        suspected("kept-30-days-older", 3, NOON - 3 * DAY),
        suspected("lost-after-7-days", 4, NOON - 8 * DAY, OTHER_UNIT),
        suspected("lost-after-30-days", 5, NOON - 40 * DAY),
    )

    assert [(row.record_id, row.until_time) for row in missing_held(connection, as_of=NOON)] == [
        ("kept-7-days", NOON + 6 * DAY),
        ("kept-30-days-older", NOON + 27 * DAY),
        ("kept-30-days", NOON + 28 * DAY),
    ]
    assert names(missing_lost(connection, as_of=NOON)) == ["lost-after-7-days", "lost-after-30-days"]


def test_a_site_that_keeps_longer_than_it_must_is_asked_longer(connection: Connection) -> None:
    camera(connection, "c-1", 3 * DAY)
    camera(connection, "c-2", 90 * DAY)
    camera(connection, "c-3", None)
    keep(connection, suspected("r-1", 1, NOON - 60 * DAY))

    assert names(missing_held(connection, as_of=NOON)) == ["r-1"]
    assert missing_lost(connection, as_of=NOON) == []


def test_a_camera_of_the_same_unit_id_elsewhere_says_nothing(connection: Connection) -> None:
    camera(connection, "c-1", 90 * DAY, origin=NEIGHBOUR)
    keep(connection, suspected("r-1", 1, NOON - 60 * DAY))

    assert missing_held(connection, as_of=NOON) == []


@pytest.mark.parametrize(
    ("narrow", "expected"),
    [
        ({"origin": NEIGHBOUR}, ["r-3"]),
        ({"source_unit_id": OTHER_UNIT}, ["r-2"]),
        ({"start_time": NOON}, ["r-1", "r-3"]),
        ({"start_time": NOON + MINUTE}, []),
    ],
)
def test_what_is_missing_is_narrowed(connection: Connection, narrow: dict[str, Any], expected: list[str]) -> None:
    keep(connection, suspected("r-1", 1), suspected("r-2", 2, NOON - DAY, OTHER_UNIT))
    keep(connection, suspected("r-3", 1), origin=NEIGHBOUR)

    assert names(missing_held(connection, **narrow)) == expected
    assert names(missing_lost(connection, as_of=NOON + 99 * DAY, **narrow)) == list(reversed(expected))


def test_a_report_beyond_reason_is_cut(connection: Connection) -> None:
    camera(connection, "c-1", 20_000 * DAY)
    keep(connection, suspected("old", 1, NOON - 4_000 * DAY), suspected("r-1", 2, NOON - 3_000 * DAY))

    assert names(missing_held(connection, as_of=NOON)) == ["r-1"]


def test_sums_are_of_those_weighed_within_the_time(connection: Connection) -> None:
    keep(
        connection,
        suspected("before", 1, NOON - DAY),
        suspected("first", 2, NOON - DAY + MINUTE),
        suspected("last", 3, NOON),
        suspected("after", 4, NOON + MINUTE),
    )
    keep(connection, suspected("r-1", 1), origin=NEIGHBOUR)
    seal(
        connection, evidence("c-1", "first", seal_time=NOON, start_time=NOON - DAY), evidence("p-1", "last", kind=PHOTO)
    )

    assert store.sum_completeness(connection, NOON - DAY, NOON, IN_TIME) == [
        (COUNTY, 2, 1, 0, 1),
        (NEIGHBOUR, 1, 0, 0, 0),
    ]


def test_counts_of_what_is_missing_leave_out_whose_time_is_not_over(connection: Connection) -> None:
    keep(
        connection,
        suspected("lost", 1, NOON - 31 * DAY),
        suspected("ending", 2, NOON - 28 * DAY),
        suspected("missing", 3, NOON - IN_TIME),
        suspected("on-its-way", 4, NOON - MINUTE),
    )

    assert store.count_missing(connection, NOON, KEEP, IN_TIME, 3 * DAY) == [(COUNTY, 2, 1)]


# The same as the rule says

UNITS = [(COUNTY, UNIT), (COUNTY, OTHER_UNIT), (NEIGHBOUR, UNIT)]
weighed = st.lists(
    st.tuples(st.sampled_from(UNITS), st.integers(0, 120 * 24).map(lambda hours: NOON - timedelta(hours=hours))),
    max_size=15,
)
# Reach and age of reports, in hours.
reports = st.lists(
    st.tuples(st.sampled_from(UNITS), st.none() | st.integers(-10, 100 * 24), st.integers(0, 90 * 24)), max_size=6
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(weighed=weighed, reports=reports, count=st.integers(1, 4))
def test_lists_are_what_the_rule_says(
    connection: Connection,
    weighed: list[tuple[tuple[str, str], datetime]],
    reports: list[tuple[tuple[str, str], int | None, int]],
    count: int,
) -> None:
    connection.execute("TRUNCATE suspected_weighings, weighing_positions, cameras")
    rows = [
        (origin, suspected(f"r-{place}", place, when, unit)) for place, ((origin, unit), when) in enumerate(weighed, 1)
    ]
    for origin, row in rows:
        keep(connection, row, origin=origin)
    states: dict[tuple[str, str], list[CameraState]] = {}
    for place, ((origin, unit), reach_hours, age_hours) in enumerate(reports):
        at = NOON - timedelta(hours=age_hours)
        reach = None if reach_hours is None else timedelta(hours=reach_hours)
        camera(connection, f"c-{place}", reach, at=at, unit=unit, origin=origin)
        states.setdefault((origin, unit), []).append(CameraState(1, 1, at, None if reach is None else at - reach, at))

    until = {
        (origin, row.sequence): recording_until(row.weigh_time, states.get((origin, row.source_unit_id), []), KEEP)
        for origin, row in rows
    }
    held = sorted((ends_at, *place) for place, ends_at in until.items() if ends_at > NOON)
    lost = sorted(
        ((row.weigh_time, origin, row.sequence) for origin, row in rows if until[origin, row.sequence] <= NOON),
        reverse=True,
    )
    assert [(row.until_time, row.origin, row.sequence) for row in missing_held(connection, count, as_of=NOON)] == held
    assert [(row.weigh_time, row.origin, row.sequence) for row in missing_lost(connection, count, as_of=NOON)] == lost


def test_kinds_are_numbered_as_in_the_contract() -> None:
    assert (PHOTO, CLIP) == (1, 2)
