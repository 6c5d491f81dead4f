"""Who has been shown what."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self

from services.journal.store.logs import Connection


@dataclass(frozen=True, slots=True)
class AccessRecordRow:
    """A row of `journal_access_records`."""

    origin: str
    sequence: int
    access_time: datetime
    principal: str
    record: bytes

    def at(self, origin: str, sequence: int) -> Self:
        """Return the row at its place."""
        return replace(self, origin=origin, sequence=sequence)


def insert(connection: Connection, rows: Sequence[AccessRecordRow]) -> None:
    """Insert records."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO journal_access_records (origin, sequence, access_time, principal, record)"
            " VALUES (%s, %s, %s, %s, %s)",
            [(row.origin, row.sequence, row.access_time, row.principal, row.record) for row in rows],
        )


@dataclass(frozen=True, slots=True)
class NewestRecord:
    """The newest record of one log: its content, and the leaf digest of its entry."""

    record: bytes
    leaf: bytes


def newest(connection: Connection, origin: str) -> NewestRecord | None:
    """Return the newest record of one log, None when it has none."""
    row = connection.execute(
        "SELECT a.record, e.leaf FROM journal_access_records a JOIN journal_entries e USING (origin, sequence)"
        " WHERE a.origin = %s ORDER BY a.sequence DESC LIMIT 1",
        (origin,),
    ).fetchone()
    return None if row is None else NewestRecord(*row)


def list_rows(
    connection: Connection,
    origin: str,
    principal: str,
    start: datetime | None,
    end: datetime | None,
    after: tuple[datetime, str, int] | None,
    count: int,
) -> list[AccessRecordRow]:
    """Return records before a place, newest first; empty and None do not narrow."""
    rows = connection.execute(
        "SELECT origin, sequence, access_time, principal, record FROM journal_access_records"
        " WHERE (%(origin)s = '' OR origin = %(origin)s) AND (%(principal)s = '' OR principal = %(principal)s)"
        " AND (%(start)s::timestamptz IS NULL OR access_time >= %(start)s)"
        " AND (%(end)s::timestamptz IS NULL OR access_time < %(end)s)"
        " AND (%(time)s::timestamptz IS NULL"
        " OR (access_time, origin, sequence) < (%(time)s::timestamptz, %(after)s, %(sequence)s))"
        " ORDER BY access_time DESC, origin DESC, sequence DESC LIMIT %(count)s",
        {
            "origin": origin,
            "principal": principal,
            "start": start,
            "end": end,
            "time": after[0] if after else None,
            "after": after[1] if after else "",
            "sequence": after[2] if after else 0,
            "count": count,
        },
    )
    return [AccessRecordRow(*row) for row in rows]
