"""How complete evidence is: suspected overloads with what was sealed for them, per source unit and day, and those that
lack something, in the order in which the recordings at their sites end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final, NamedTuple

from psycopg import sql

from services.common.database import RawConnection
from services.video.recordings import REACH_DAYS_MAX
from services.video.store.weighings import CLIP, PHOTO, SUBJECT_WEIGHING


class CompletenessRow(NamedTuple):
    """How many suspected overloads of one source unit and day have evidence."""

    day: date
    origin: str
    source_unit_id: str
    suspected_count: int
    with_clip_count: int
    with_clip_in_time_count: int
    with_photo_count: int


class MissingRow(NamedTuple):
    """A suspected overload that lacks a clip, a photo, or both."""

    origin: str
    source_unit_id: str
    record_id: str
    sequence: int
    weigh_time: datetime
    lacks_clip: bool
    lacks_photo: bool
    until_time: datetime
    """Until when the site holds a recording, or held one."""
    has_clip_of_other_time: bool
    has_photo_of_other_time: bool
    """Whether what is missing was sealed, and shows another time than that of the weighing."""


@dataclass(frozen=True, slots=True)
class DayFilter:
    """Whose days to list; None and empty do not narrow."""

    origin: str = ""
    source_unit_id: str = ""
    first_day: date | None = None
    last_day: date | None = None


@dataclass(frozen=True, slots=True)
class MissingFilter:
    """What to list of what is missing.

    `as_of` is the moment at which a recording has ended or not: that of the first page, so that the others follow it.
    `keep` is how long sites must keep recordings: what holds where their cameras report nothing.
    """

    as_of: datetime
    keep: timedelta
    origin: str = ""
    source_unit_id: str = ""
    start_time: datetime | None = None


MissingKey = tuple[datetime, str, int]
"""End of the recording, or for lost ones the weigh time; origin, sequence: where a page ends."""

DayKey = tuple[date, str, str]
"""Day, origin and source unit: where a page ends."""


def list_completeness(
    connection: RawConnection, narrow: DayFilter, in_time: timedelta, after: DayKey | None, count: int
) -> list[CompletenessRow]:
    """Return completeness after a key: newest day first, then by origin and source unit."""
    conditions = []
    values: dict[str, Any] = {"in_time": in_time, "count": count}
    for condition, name, value in (
        ("source_unit_id = %(unit)s", "unit", narrow.source_unit_id),
        ("origin = %(origin)s", "origin", narrow.origin),
        ("day >= %(first_day)s", "first_day", narrow.first_day),
        ("day <= %(last_day)s", "last_day", narrow.last_day),
    ):
        if value:
            conditions.append(condition)
            values[name] = value
    if after is not None:
        # Days fall while the other parts rise, so the key cannot be compared as one row.
        conditions.append(
            "day <= %(day)s AND (day < %(day)s OR (origin, source_unit_id) > (%(after_origin)s, %(after_unit)s))"
        )
        values.update(zip(("day", "after_origin", "after_unit"), after, strict=True))
    statement = sql.SQL(
        "SELECT day, origin, source_unit_id, count(*), count(clip_seal_time),"
        " count(*) FILTER (WHERE clip_seal_time <= weigh_time + %(in_time)s), count(photo_seal_time)"
        " FROM suspected_weighings {where} GROUP BY day, origin, source_unit_id"
        " ORDER BY day DESC, origin, source_unit_id LIMIT %(count)s"
    ).format(where=_where(conditions))
    return [CompletenessRow(*row) for row in connection.execute(statement, values)]


# How far back each site's recordings reach: the furthest of its cameras (services.video.recordings). What a report says
# beyond reason is cut.
_REACH: Final = (
    "SELECT origin, source_unit_id, LEAST(GREATEST(max(receive_time - oldest_recording_time), interval '0'),"  # noqa: S608 - a constant
    f" interval '{REACH_DAYS_MAX} days') AS reach FROM cameras WHERE oldest_recording_time IS NOT NULL"
    " GROUP BY origin, source_unit_id"
)
_IS_MISSING: Final = "(w.clip_seal_time IS NULL OR w.photo_seal_time IS NULL)"
_UNTIL: Final = "w.weigh_time + COALESCE(r.reach, %(keep)s)"
_KIND_NAMES_IT: Final = (
    "EXISTS (SELECT FROM evidence_subjects s JOIN evidence e USING (origin, source_unit_id, evidence_id)"
    " WHERE s.origin = w.origin AND s.source_unit_id = w.source_unit_id AND s.subject_id = w.record_id"
    f" AND s.subject_kind = {SUBJECT_WEIGHING} AND e.kind ="
)
# What names a weighing that has none that counts shows another time (store.weighings).
_CLIP_IS_OF_OTHER_TIME: Final = f"w.clip_seal_time IS NULL AND {_KIND_NAMES_IT} {CLIP})"
_PHOTO_IS_OF_OTHER_TIME: Final = f"w.photo_seal_time IS NULL AND {_KIND_NAMES_IT} {PHOTO})"
_JOINED: Final = "FROM suspected_weighings w LEFT JOIN reaches r USING (origin, source_unit_id)"
# No recording reaches further back: what is older is not looked at.
_MAY_BE_HELD: Final = (
    "w.weigh_time > %(as_of)s - GREATEST(%(keep)s, (SELECT max(reach) FROM reaches))"
    " AND w.weigh_time + COALESCE(r.reach, %(keep)s) > %(as_of)s"
)
# No recording ends sooner than that after the weighing: what is younger is not looked at.
_IS_LOST: Final = (
    "w.weigh_time <= %(as_of)s - LEAST(%(keep)s, (SELECT min(reach) FROM reaches))"
    " AND w.weigh_time + COALESCE(r.reach, %(keep)s) <= %(as_of)s"
)


def list_missing_held(
    connection: RawConnection, narrow: MissingFilter, after: MissingKey | None, count: int
) -> list[MissingRow]:
    """Return what is missing while the site may still hold it, those first whose recording ends first."""
    conditions, values = _missing_conditions(narrow, count)
    conditions.append(_MAY_BE_HELD)
    if after is not None:
        conditions.append(f"({_UNTIL}, w.origin, w.sequence) > (%(after_time)s, %(after_origin)s, %(after_sequence)s)")
        values.update(zip(("after_time", "after_origin", "after_sequence"), after, strict=True))
    return _list_missing(connection, conditions, values, f"{_UNTIL}, w.origin, w.sequence")


def list_missing_lost(
    connection: RawConnection, narrow: MissingFilter, after: MissingKey | None, count: int
) -> list[MissingRow]:
    """Return what is missing and held by no site any more, the newest weighing first."""
    conditions, values = _missing_conditions(narrow, count)
    conditions.append(_IS_LOST)
    if after is not None:
        conditions.append(
            "(w.weigh_time, w.origin, w.sequence) < (%(after_time)s, %(after_origin)s, %(after_sequence)s)"
        )
        values.update(zip(("after_time", "after_origin", "after_sequence"), after, strict=True))
    return _list_missing(connection, conditions, values, "w.weigh_time DESC, w.origin DESC, w.sequence DESC")


class PlatformCompleteness(NamedTuple):
    """How many suspected overloads of one platform, weighed within some time, have evidence."""

    origin: str
    suspected_count: int
    with_clip_count: int
    with_clip_in_time_count: int
    with_photo_count: int


def sum_completeness(
    connection: RawConnection, after_time: datetime, until_time: datetime, in_time: timedelta
) -> list[PlatformCompleteness]:
    """Sum up suspected overloads weighed after one time and until another, by origin."""
    rows = connection.execute(
        "SELECT origin, count(*), count(clip_seal_time),"
        " count(*) FILTER (WHERE clip_seal_time <= weigh_time + %(in_time)s), count(photo_seal_time)"
        " FROM suspected_weighings WHERE day BETWEEN %(after_day)s AND %(until_day)s"
        " AND weigh_time > %(after)s AND weigh_time <= %(until)s GROUP BY origin ORDER BY origin",
        {
            "in_time": in_time,
            "after": after_time,
            "until": until_time,
            # In any time zone, so that the index over days is used.
            "after_day": after_time.date() - timedelta(days=1),
            "until_day": until_time.date() + timedelta(days=1),
        },
    )
    return [PlatformCompleteness(*row) for row in rows]


class PlatformMissing(NamedTuple):
    """How many suspected overloads of one platform lack evidence that a site may still hold."""

    origin: str
    missing_count: int
    ending_count: int
    """Of these, whose recording ends soon."""


def count_missing(
    connection: RawConnection, as_of: datetime, keep: timedelta, in_time: timedelta, soon: timedelta
) -> list[PlatformMissing]:
    """Count what is missing though it should be here by now, by origin."""
    rows = connection.execute(
        f"WITH reaches AS MATERIALIZED ({_REACH}) SELECT w.origin, count(*),"
        f" count(*) FILTER (WHERE {_UNTIL} <= %(as_of)s + %(soon)s) {_JOINED}"
        f" WHERE {_IS_MISSING} AND {_MAY_BE_HELD} AND w.weigh_time <= %(as_of)s - %(in_time)s"
        " GROUP BY w.origin ORDER BY w.origin",
        {"as_of": as_of, "keep": keep, "in_time": in_time, "soon": soon},
    )
    return [PlatformMissing(*row) for row in rows]


def _missing_conditions(narrow: MissingFilter, count: int) -> tuple[list[str], dict[str, Any]]:
    conditions = [_IS_MISSING]
    values: dict[str, Any] = {"as_of": narrow.as_of, "keep": narrow.keep, "count": count}
    for condition, name, value in (
        ("w.source_unit_id = %(unit)s", "unit", narrow.source_unit_id),
        ("w.origin = %(origin)s", "origin", narrow.origin),
        ("w.weigh_time >= %(start_time)s", "start_time", narrow.start_time),
    ):
        if value:
            conditions.append(condition)
            values[name] = value
    return conditions, values


def _list_missing(
    connection: RawConnection, conditions: Sequence[str], values: dict[str, Any], order: str
) -> list[MissingRow]:
    statement = sql.SQL(
        "WITH reaches AS MATERIALIZED ({reach}) SELECT w.origin, w.source_unit_id, w.record_id, w.sequence,"
        " w.weigh_time, w.clip_seal_time IS NULL, w.photo_seal_time IS NULL, {until}, {other_clip}, {other_photo}"
        " {joined} {where}"
        " ORDER BY {order} LIMIT %(count)s"
    ).format(
        reach=sql.SQL(_REACH),
        until=sql.SQL(_UNTIL),
        other_clip=sql.SQL(_CLIP_IS_OF_OTHER_TIME),
        other_photo=sql.SQL(_PHOTO_IS_OF_OTHER_TIME),
        joined=sql.SQL(_JOINED),
        where=_where(conditions),
        order=sql.SQL(order),
    )
    return [MissingRow(*row) for row in connection.execute(statement, values)]


def _where(conditions: Sequence[str]) -> sql.Composable:
    if not conditions:
        return sql.SQL("")
    return sql.SQL("WHERE ") + sql.SQL(" AND ").join(map(sql.SQL, conditions))
