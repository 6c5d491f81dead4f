"""The lists of the weighing service: weighings, day totals, conflicts; each page in the order of an index."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, NamedTuple

from psycopg import sql

from services.weighing.rows import RecordKey
from services.weighing.store.weighings import Connection

FEW_VERDICTS: Final = frozenset({2, 3})
"""Undetermined and suspected: what the partial index over verdicts holds."""


class HeldEntry(NamedTuple):
    """An entry with its place, and the time by which the list is ordered."""

    origin: str
    sequence: int
    leaf: bytes
    entry: bytes
    order_time: datetime


@dataclass(frozen=True, slots=True)
class WeighingFilter:
    """What to list; None and empty do not narrow."""

    source_unit_id: str = ""
    plate_number: str = ""
    start_time: datetime | None = None
    end_time: datetime | None = None
    verdicts: tuple[int, ...] = ()
    origin: str = ""


class DayTotalRow(NamedTuple):
    """A row of `day_totals`."""

    day: date
    origin: str
    source_unit_id: str
    weighing_count: int
    compliant_count: int
    undetermined_count: int
    suspected_count: int
    not_judged_count: int
    no_plate_count: int
    gross_weight_sum_kg: int


def list_weighings(
    connection: Connection, narrow: WeighingFilter, after: tuple[datetime, str, int] | None, count: int
) -> list[HeldEntry]:
    """Return weighings after a key, newest weigh time first, with their entries."""
    conditions: list[sql.Composable] = []
    values: list[Any] = []

    def require(condition: str, *parameters: Any) -> None:
        conditions.append(sql.SQL(condition))
        values.extend(parameters)

    if narrow.source_unit_id:
        require("source_unit_id = %s", narrow.source_unit_id)
    if narrow.plate_number:
        # The second condition lets the planner use the index that leaves out weighings without a plate.
        require("plate_number = %s AND plate_number <> ''", narrow.plate_number)
    if narrow.start_time is not None:
        require("weigh_time >= %s", narrow.start_time)
    if narrow.end_time is not None:
        require("weigh_time < %s", narrow.end_time)
    if narrow.origin:
        require("origin = %s", narrow.origin)
    few = sorted(set(narrow.verdicts)) if narrow.verdicts and set(narrow.verdicts) <= FEW_VERDICTS else []
    if narrow.verdicts and not few:
        require("verdict = ANY(%s::smallint[])", list(narrow.verdicts))
    if after is not None:
        require("(weigh_time, origin, sequence) < (%s, %s, %s)", *after)
    # The few are read verdict by verdict: the index has them in order only within one. IN says what the index holds.
    conditions_each = [[*conditions, sql.SQL(f"verdict = {verdict} AND verdict IN (2, 3)")] for verdict in few]
    parts = [
        sql.SQL(
            "(SELECT origin, sequence, weigh_time FROM weighings {where}"
            " ORDER BY weigh_time DESC, origin DESC, sequence DESC LIMIT %s)"
        ).format(where=sql.SQL("WHERE ") + sql.SQL(" AND ").join(chosen) if chosen else sql.SQL(""))
        for chosen in conditions_each or [conditions]
    ]
    statement = sql.SQL(
        "SELECT w.origin, w.sequence, e.leaf, e.entry, w.weigh_time FROM"
        " (SELECT * FROM ({parts}) AS part ORDER BY weigh_time DESC, origin DESC, sequence DESC LIMIT %s) AS w"
        " JOIN journal_entries e ON e.origin = w.origin AND e.sequence = w.sequence"
        " ORDER BY w.weigh_time DESC, w.origin DESC, w.sequence DESC"
    ).format(parts=sql.SQL(" UNION ALL ").join(parts))
    values = [*values, count] * len(parts) + [count]
    with connection.cursor(binary=True) as cursor:
        return [HeldEntry(*row) for row in cursor.execute(statement, values)]


def get_weighing(connection: Connection, origin: str, sequence: int) -> HeldEntry | None:
    """Return one weighing by its place."""
    with connection.cursor(binary=True) as cursor:
        row = cursor.execute(
            "SELECT e.origin, e.sequence, e.leaf, e.entry, w.weigh_time FROM weighings w"
            " JOIN journal_entries e ON e.origin = w.origin AND e.sequence = w.sequence"
            " WHERE w.origin = %s AND w.sequence = %s",
            (origin, sequence),
        ).fetchone()
    return HeldEntry(*row) if row else None


def find_record(connection: Connection, own_origin: str, key: RecordKey, only_origin: str = "") -> HeldEntry | None:
    """Return one weighing by its terminal's key: of this platform, or else of the first other one that holds the
    key. With `only_origin` of that one or none.
    """
    with connection.cursor(binary=True) as cursor:
        row = cursor.execute(
            "SELECT e.origin, e.sequence, e.leaf, e.entry, w.weigh_time FROM journal_logs l"
            " JOIN weighings w ON w.origin = l.origin AND w.source_unit_id = %s AND w.record_id = %s"
            " JOIN journal_entries e ON e.origin = w.origin AND e.sequence = w.sequence"
            " WHERE %s IN ('', l.origin) ORDER BY w.origin <> %s, w.origin LIMIT 1",
            (*key, only_origin, own_origin),
        ).fetchone()
    return HeldEntry(*row) if row else None


def list_day_totals(
    connection: Connection,
    source_unit_id: str,
    origin: str,
    first_day: date | None,
    last_day: date | None,
    after: tuple[date, str, str] | None,
    count: int,
) -> list[DayTotalRow]:
    """Return totals after a key: newest day first, then by origin and source unit."""
    conditions = [sql.SQL("TRUE")]
    values: list[Any] = []
    for condition, value in (
        ("source_unit_id = %s", source_unit_id),
        ("origin = %s", origin),
        ("day >= %s", first_day),
        ("day <= %s", last_day),
    ):
        if value:
            conditions.append(sql.SQL(condition))
            values.append(value)
    if after is not None:
        # Days fall while the other parts rise, so the key cannot be compared as one row.
        conditions.append(sql.SQL("day <= %s AND (day < %s OR (origin, source_unit_id) > (%s, %s))"))
        values += [after[0], after[0], after[1], after[2]]
    statement = sql.SQL(
        "SELECT day, origin, source_unit_id, weighing_count, compliant_count, undetermined_count, suspected_count,"
        " not_judged_count, no_plate_count, gross_weight_sum_kg FROM day_totals WHERE {where}"
        " ORDER BY day DESC, origin, source_unit_id LIMIT %s"
    ).format(where=sql.SQL(" AND ").join(conditions))
    return [DayTotalRow(*row) for row in connection.execute(statement, (*values, count))]


def list_conflicts(
    connection: Connection,
    source_unit_id: str,
    record_id: str,
    origin: str,
    after: tuple[datetime, str, int] | None,
    count: int,
) -> list[HeldEntry]:
    """Return conflicting submissions after a key, newest first; empty texts do not narrow."""
    conditions = [sql.SQL("TRUE")]
    values: list[Any] = []
    if source_unit_id:
        conditions.append(sql.SQL("c.source_unit_id = %s"))
        values.append(source_unit_id)
    if record_id:
        conditions.append(sql.SQL("c.record_id = %s"))
        values.append(record_id)
    if origin:
        conditions.append(sql.SQL("c.origin = %s"))
        values.append(origin)
    if after is not None:
        conditions.append(sql.SQL("(c.receive_time, c.origin, c.sequence) < (%s, %s, %s)"))
        values += after
    statement = sql.SQL(
        "SELECT e.origin, e.sequence, e.leaf, e.entry, c.receive_time FROM weighing_conflicts c"
        " JOIN journal_entries e ON e.origin = c.origin AND e.sequence = c.sequence WHERE {where}"
        " ORDER BY c.receive_time DESC, c.origin DESC, c.sequence DESC LIMIT %s"
    ).format(where=sql.SQL(" AND ").join(conditions))
    with connection.cursor(binary=True) as cursor:
        return [HeldEntry(*row) for row in cursor.execute(statement, (*values, count))]


def read_weighing_entries(
    connection: Connection, origin: str, first: int, last: int, source_unit_id: str, verdicts: Sequence[int]
) -> list[HeldEntry]:
    """Return the weighings among entries first to last, in the order recorded."""
    with connection.cursor(binary=True) as cursor:
        rows = cursor.execute(
            "SELECT e.origin, e.sequence, e.leaf, e.entry, w.weigh_time FROM weighings w"
            " JOIN journal_entries e ON e.origin = w.origin AND e.sequence = w.sequence"
            " WHERE w.origin = %s AND w.sequence BETWEEN %s AND %s"
            " AND (%s = '' OR w.source_unit_id = %s) AND (%s::smallint[] = '{}' OR w.verdict = ANY(%s::smallint[]))"
            " ORDER BY w.sequence",
            (origin, first, last, source_unit_id, source_unit_id, list(verdicts), list(verdicts)),
        )
        return [HeldEntry(*row) for row in rows]
