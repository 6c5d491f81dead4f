"""Access records in the order of their log, as the entries that hold them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from services.journal.store.logs import Connection


class RecordEntry(NamedTuple):
    """An entry that holds an access record, and its place."""

    sequence: int
    entry: bytes


@dataclass(frozen=True, slots=True)
class Window:
    """The records of a window of time: from the first to the last one, and how many."""

    first: int
    last: int
    count: int


def window(
    connection: Connection, origin: str, start: datetime | None, end: datetime | None, size: int
) -> Window | None:
    """Return the records of a log of `size` from the first at or after `start` to the last before `end`.

    None when no record lies in that time. All between the two are counted, also those whose time lies outside, after a
    clock was set.
    """
    # `+ 0`, because PostgreSQL would look for the smallest and the largest along the primary key, from both ends
    # of the log on, and not within the time that the other index leads to.
    row = connection.execute(
        "SELECT min(sequence + 0), max(sequence + 0) FROM journal_access_records"
        " WHERE origin = %(origin)s AND sequence <= %(size)s"
        " AND (%(start)s::timestamptz IS NULL OR access_time >= %(start)s)"
        " AND (%(end)s::timestamptz IS NULL OR access_time < %(end)s)",
        {"origin": origin, "size": size, "start": start, "end": end},
    ).fetchone()
    if row is None or row[0] is None:
        return None
    first, last = row
    counted = connection.execute(
        "SELECT count(*) FROM journal_access_records WHERE origin = %s AND sequence BETWEEN %s AND %s",
        (origin, first, last),
    ).fetchone()
    return Window(first, last, counted[0] if counted else 0)


def first_at_or_after(connection: Connection, origin: str, end: datetime, size: int) -> int | None:
    """Return the sequence of the first record of a log of `size` that is not before a time; None when there is none."""
    row = connection.execute(
        "SELECT min(sequence + 0) FROM journal_access_records"
        " WHERE origin = %s AND sequence <= %s AND access_time >= %s",
        (origin, size, end),
    ).fetchone()
    return None if row is None else row[0]


def before(connection: Connection, origin: str, sequence: int) -> RecordEntry | None:
    """Return the last record before a place."""
    row = connection.execute(
        "SELECT a.sequence, e.entry FROM journal_access_records a JOIN journal_entries e USING (origin, sequence)"
        " WHERE a.origin = %s AND a.sequence < %s ORDER BY a.sequence DESC LIMIT 1",
        (origin, sequence),
    ).fetchone()
    return None if row is None else RecordEntry(*row)


def after(connection: Connection, origin: str, sequence: int, size: int) -> RecordEntry | None:
    """Return the first record after a place in a log of `size`."""
    found = page(connection, origin, sequence, size, 1)
    return found[0] if found else None


def page(connection: Connection, origin: str, after_sequence: int, last: int, count: int) -> Sequence[RecordEntry]:
    """Return the next records after a place, up to the last one."""
    rows = connection.execute(
        "SELECT a.sequence, e.entry FROM journal_access_records a JOIN journal_entries e USING (origin, sequence)"
        " WHERE a.origin = %s AND a.sequence > %s AND a.sequence <= %s ORDER BY a.sequence LIMIT %s",
        (origin, after_sequence, last, count),
    )
    return [RecordEntry(*row) for row in rows]
