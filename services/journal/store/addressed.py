"""Addressed entries, the steps between them, and the heads of logs of platforms above. Everything runs in the caller's
transaction.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from services.journal.addressed_steps import AddressedPlace
from services.journal.digests import DIGEST_BYTES
from services.journal.store.logs import CHANNEL, Connection

ADDRESSED: Final = "addressed"
"""What the notification of a commit with addressed entries says instead of the log that grew. Readers of addressed
entries wait for this, so that a log that grows without any costs them nothing."""

_SELECT_LOGS: Final = (
    b"SELECT origin, through_sequence, root, digest_algorithm, verifier_key, last_receive_time"
    b" FROM journal_addressed_logs"
)
_SELECT_STEPS: Final = b"SELECT size, previous_size, note, consistency_path FROM journal_addressed_steps"


@dataclass(frozen=True, slots=True)
class AddressedLog:
    """Where the addressed entries of a platform above stand: a row of `journal_addressed_logs`."""

    origin: str
    through_sequence: int
    root: bytes
    digest_algorithm: str
    verifier_key: str
    last_receive_time: datetime | None


@dataclass(frozen=True, slots=True)
class Step:
    """A row of `journal_addressed_steps`; the own log's have neither note nor path."""

    size: int
    previous_size: int
    note: str
    consistency_path: list[bytes]


@dataclass(frozen=True, slots=True)
class CopiedEntry:
    """An addressed entry; the own log's have no path."""

    sequence: int
    audience: str
    entry: bytes
    leaf: bytes
    inclusion_path: list[bytes]


def index_own(connection: Connection, origin: str, places: Sequence[AddressedPlace]) -> None:
    """Make entries that were appended in this transaction known to readers, and tell them with the commit."""
    sequences = [place.sequence for place in places]
    connection.execute(
        "WITH entries AS (INSERT INTO journal_addressed (origin, sequence, audience)"
        " SELECT %(origin)s, * FROM unnest(%(sequences)s::bigint[], %(audiences)s::text[])),"
        " steps AS (INSERT INTO journal_addressed_steps (origin, previous_size, size)"
        " SELECT %(origin)s, * FROM unnest(%(previous)s::bigint[], %(sequences)s::bigint[]))"
        " SELECT pg_notify(%(channel)s, %(addressed)s)",
        {
            "origin": origin,
            "sequences": sequences,
            "audiences": [place.audience for place in places],
            "previous": [newest_step(connection, origin), *sequences[:-1]],
            "channel": CHANNEL,
            "addressed": ADDRESSED,
        },
    )


def lock_log(connection: Connection, origin: str) -> AddressedLog | None:
    """Return where a log stands and hold its row until the transaction ends."""
    row = connection.execute(_SELECT_LOGS + b" WHERE origin = %s FOR UPDATE", (origin,)).fetchone()
    return _log(row) if row else None


def read_log(connection: Connection, origin: str) -> AddressedLog | None:
    """Return where a log stands."""
    row = connection.execute(_SELECT_LOGS + b" WHERE origin = %s", (origin,)).fetchone()
    return _log(row) if row else None


def read_logs(connection: Connection) -> list[AddressedLog]:
    """Return all logs of platforms above, ordered by origin."""
    return [_log(row) for row in connection.execute(_SELECT_LOGS + b" ORDER BY origin")]


def create_log(connection: Connection, origin: str, digest_algorithm: str, verifier_key: str) -> None:
    """Begin the copy of a log unless it is there. What is there afterwards only `lock_log` tells."""
    connection.execute(
        "INSERT INTO journal_addressed_logs (origin, through_sequence, root, digest_algorithm, verifier_key)"
        " VALUES (%s, 0, '', %s, %s) ON CONFLICT DO NOTHING",
        (origin, digest_algorithm, verifier_key),
    )


def store_log(connection: Connection, log: AddressedLog) -> None:
    """Store where a log stands, and tell readers with the commit."""
    connection.execute(
        "WITH log AS (UPDATE journal_addressed_logs SET through_sequence = %s, root = %s, last_receive_time = %s"
        " WHERE origin = %s) SELECT pg_notify(%s, %s)",
        (log.through_sequence, log.root, log.last_receive_time, log.origin, CHANNEL, ADDRESSED),
    )


def newest_step(connection: Connection, origin: str) -> int:
    """Return the size of the newest step; 0 when there is none."""
    row = connection.execute(
        "SELECT coalesce(max(size), 0) FROM journal_addressed_steps WHERE origin = %s", (origin,)
    ).fetchone()
    return int(row[0]) if row else 0


def steps_after(connection: Connection, origin: str, size: int, count: int) -> list[Step]:
    """Return the steps beyond a size, in order."""
    with connection.cursor(binary=True) as cursor:
        rows = cursor.execute(
            _SELECT_STEPS + b" WHERE origin = %s AND size > %s ORDER BY size LIMIT %s", (origin, size, count)
        ).fetchall()
    return [_step(row) for row in rows]


def steps_at(connection: Connection, origin: str, sizes: Iterable[int]) -> dict[int, Step]:
    """Return the steps of these sizes, as far as there are any, by size."""
    with connection.cursor(binary=True) as cursor:
        rows = cursor.execute(
            _SELECT_STEPS + b" WHERE origin = %s AND size = ANY(%s::bigint[])", (origin, list(sizes))
        ).fetchall()
    return {row[0]: _step(row) for row in rows}


def audience_counts(connection: Connection, origin: str, through: int) -> dict[str, int]:
    """Return how many entries up to a sequence are addressed to each division."""
    return dict(
        connection.execute(
            "SELECT audience, count(*) FROM journal_addressed WHERE origin = %s AND sequence <= %s AND audience <> ''"
            " GROUP BY audience ORDER BY audience",
            (origin, through),
        ).fetchall()
    )


def audiences_between(connection: Connection, origin: str, after: int, through: int) -> list[str]:
    """Return the divisions that entries after a sequence and up to another one are addressed to."""
    rows = connection.execute(
        "SELECT DISTINCT audience FROM journal_addressed WHERE origin = %s AND sequence > %s AND sequence <= %s"
        " AND audience <> ''",
        (origin, after, through),
    )
    return [row[0] for row in rows]


def list_places(
    connection: Connection, origin: str, after: int, through: int, audiences: Sequence[str], count: int
) -> list[AddressedPlace]:
    """Return places of entries with one of these audiences after a sequence and up to another one, in order."""
    rows = connection.execute(
        "SELECT a.sequence, a.audience, octet_length(coalesce(a.entry, e.entry)) FROM journal_addressed a"
        " LEFT JOIN journal_entries e ON e.origin = a.origin AND e.sequence = a.sequence AND a.entry IS NULL"
        " WHERE a.origin = %s AND a.sequence > %s AND a.sequence <= %s AND a.audience = ANY(%s::text[])"
        " ORDER BY a.sequence LIMIT %s",
        (origin, after, through, list(audiences), count),
    )
    # An entry that is gone has no length; reading it says so.
    return [AddressedPlace(sequence, audience, byte_count or 0) for sequence, audience, byte_count in rows]


def read_copied(connection: Connection, origin: str, sequences: Sequence[int]) -> list[CopiedEntry]:
    """Return entries of another platform's log, in order."""
    with connection.cursor(binary=True) as cursor:
        rows = cursor.execute(
            "SELECT sequence, audience, entry, leaf, inclusion_path FROM journal_addressed"
            " WHERE origin = %s AND sequence = ANY(%s::bigint[]) AND entry IS NOT NULL ORDER BY sequence",
            (origin, list(sequences)),
        ).fetchall()
    return [
        CopiedEntry(sequence, audience, entry, leaf, split_path(path)) for sequence, audience, entry, leaf, path in rows
    ]


def read_own(connection: Connection, origin: str, sequences: Sequence[int]) -> list[tuple[int, bytes]]:
    """Return entries of the own log with their sequences, in order."""
    with connection.cursor(binary=True) as cursor:
        return cursor.execute(
            "SELECT sequence, entry FROM journal_entries WHERE origin = %s AND sequence = ANY(%s::bigint[])"
            " ORDER BY sequence",
            (origin, list(sequences)),
        ).fetchall()


def held_leaves(connection: Connection, origin: str, sequences: Iterable[int]) -> dict[int, bytes]:
    """Return the leaf digests of those of another platform's entries that are held, by sequence."""
    with connection.cursor(binary=True) as cursor:
        rows = cursor.execute(
            "SELECT sequence, leaf FROM journal_addressed WHERE origin = %s AND sequence = ANY(%s::bigint[])",
            (origin, list(sequences)),
        ).fetchall()
    return dict(rows)


def insert_entries(connection: Connection, origin: str, entries: Sequence[CopiedEntry]) -> None:
    """Insert entries of another platform's log."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO journal_addressed (origin, sequence, audience, entry, leaf, inclusion_path)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            [
                (origin, one.sequence, one.audience, one.entry, one.leaf, b"".join(one.inclusion_path))
                for one in entries
            ],
        )


def insert_steps(connection: Connection, origin: str, steps: Sequence[Step]) -> None:
    """Insert steps of another platform's log."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO journal_addressed_steps (origin, size, previous_size, note, consistency_path)"
            " VALUES (%s, %s, %s, %s, %s)",
            [(origin, one.size, one.previous_size, one.note, b"".join(one.consistency_path)) for one in steps],
        )


def split_path(joined: bytes) -> list[bytes]:
    """Take the digests of a proof apart."""
    return [joined[start : start + DIGEST_BYTES] for start in range(0, len(joined), DIGEST_BYTES)]


def _log(row: Sequence[Any]) -> AddressedLog:
    origin, through_sequence, root, digest_algorithm, verifier_key, last_receive_time = row
    return AddressedLog(origin, through_sequence, bytes(root), digest_algorithm, verifier_key, last_receive_time)


def _step(row: Sequence[Any]) -> Step:
    size, previous_size, note, path = row
    return Step(size, previous_size, note or "", split_path(path or b""))
