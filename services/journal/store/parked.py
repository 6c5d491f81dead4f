"""Parked entries: held in the journal, not yet in the service's tables."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from services.journal.projection import Parked
from services.journal.store.logs import Connection, MissingEntryError


@dataclass(frozen=True, slots=True)
class ParkedRow:
    """A row of `journal_parked`."""

    origin: str
    sequence: int
    kind: str
    cause: str
    detail: str
    park_time: datetime
    attempt_count: int


def insert_parked(connection: Connection, origin: str, parked: Iterable[Parked]) -> None:
    """Insert parked entries; one that is parked already counts another attempt."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO journal_parked (origin, sequence, kind, cause, detail, park_time, attempt_count)"
            " VALUES (%s, %s, %s, %s, %s, now(), 1)"
            " ON CONFLICT (origin, sequence) DO UPDATE SET cause = excluded.cause, detail = excluded.detail,"
            " attempt_count = journal_parked.attempt_count + 1",
            [(origin, one.sequence, _text(one.kind), one.cause.value, _text(one.detail)) for one in parked],
        )


def _text(text: str) -> str:
    # PostgreSQL takes neither a zero byte nor half a surrogate pair in a text; what a peer wrote may hold both.
    return text.replace("\x00", "\ufffd").encode(errors="replace").decode()


def is_parked(connection: Connection, origin: str, sequence: int) -> bool:
    """Return whether the entry is parked."""
    row = connection.execute(
        "SELECT 1 FROM journal_parked WHERE origin = %s AND sequence = %s", (origin, sequence)
    ).fetchone()
    return row is not None


def delete_parked(connection: Connection, origin: str, sequence: int) -> None:
    """Forget that an entry was parked, because it is projected now."""
    connection.execute("DELETE FROM journal_parked WHERE origin = %s AND sequence = %s", (origin, sequence))


def parked_places(
    connection: Connection, origin: str | None, after: tuple[str, int], count: int
) -> list[tuple[str, int]]:
    """Return the places of parked entries after a place, of one origin or of all, in order."""
    rows = connection.execute(
        "SELECT origin, sequence FROM journal_parked WHERE (%s::text IS NULL OR origin = %s)"
        " AND (origin, sequence) > (%s, %s) ORDER BY origin, sequence LIMIT %s",
        (origin, origin, *after, count),
    )
    return [(row[0], row[1]) for row in rows]


def list_parked(connection: Connection, origin: str | None, after: tuple[str, int], count: int) -> list[ParkedRow]:
    """Return parked entries after a place, in order."""
    rows = connection.execute(
        "SELECT origin, sequence, kind, cause, detail, park_time, attempt_count FROM journal_parked"
        " WHERE (%s::text IS NULL OR origin = %s) AND (origin, sequence) > (%s, %s)"
        " ORDER BY origin, sequence LIMIT %s",
        (origin, origin, *after, count),
    )
    return [ParkedRow(*row) for row in rows]


def parked_counts(connection: Connection) -> dict[str, int]:
    """Return how many entries of each log are parked."""
    return dict(connection.execute("SELECT origin, count(*) FROM journal_parked GROUP BY origin").fetchall())


def read_held(connection: Connection, origin: str, sequence: int) -> tuple[bytes, bytes]:
    """Return an entry with its leaf digest, from a log held in full or from what was addressed to us.

    Raises MissingEntryError when it is in neither.
    """
    with connection.cursor(binary=True) as cursor:
        row = cursor.execute(
            "SELECT entry, leaf FROM journal_entries WHERE origin = %(origin)s AND sequence = %(sequence)s UNION ALL"
            " SELECT entry, leaf FROM journal_addressed"
            " WHERE origin = %(origin)s AND sequence = %(sequence)s AND entry IS NOT NULL LIMIT 1",
            {"origin": origin, "sequence": sequence},
        ).fetchone()
    if row is None:
        raise MissingEntryError(sequence)
    return row[0], row[1]
