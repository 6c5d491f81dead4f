"""Heads, entries and nodes of logs. Everything runs in the caller's transaction."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import psycopg

from services.journal.digests import DIGEST_BYTES, Digester
from services.journal.merkle import Frontier, StoredNode
from services.journal.store.copy_format import copy_content, send_copy

Connection = psycopg.Connection[Any]

CHANNEL: Final = "zhichao_journal"
"""NOTIFY channel on which a commit names the log that grew."""

COPY_ROWS_MIN: Final = 24
"""From this many rows COPY beats a multi-row INSERT; below it the INSERT saves two round trips
(bench/single_latency)."""

_ENTRY_PIECES: Final = 5
"""Byte strings that a packed entry is joined of: columns before the sequence, place, entry, length of a leaf, leaf."""

_COPY_ENTRIES: Final = b"COPY journal_entries (origin, sequence, entry, leaf) FROM STDIN (FORMAT BINARY)"
_INSERT_ENTRIES: Final = (
    b"INSERT INTO journal_entries (origin, sequence, entry, leaf)"
    b" SELECT %s, * FROM unnest(%s::bigint[], %s::bytea[], %s::bytea[])"
)
_SELECT_HEADS: Final = (
    b"SELECT origin, is_own, size, root, peaks, total_bytes, last_write_time, digest_algorithm, verifier_key,"
    b" is_recovering FROM journal_logs"
)


@dataclass(frozen=True, slots=True)
class LogHead:
    """Where one log stands: the row of `journal_logs`."""

    origin: str
    is_own: bool
    frontier: Frontier
    root: bytes
    total_bytes: int
    last_write_time: datetime | None
    digest_algorithm: str
    verifier_key: str
    # Nothing new is written to it: see `LogWriter.lock`.
    is_recovering: bool = False

    @property
    def size(self) -> int:
        """Number of entries; the last sequence."""
        return self.frontier.size

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "LogHead":
        """Read a row of `_SELECT_HEADS`."""
        origin, is_own, size, root, peaks, total_bytes, last_write_time, algorithm, verifier_key, is_recovering = row
        frontier = Frontier.from_bytes(size, bytes(peaks))
        root = bytes(root)
        return cls(origin, is_own, frontier, root, total_bytes, last_write_time, algorithm, verifier_key, is_recovering)


@dataclass(frozen=True, slots=True)
class Growth:
    """A log after entries were added, with what must be stored for it."""

    head: LogHead
    nodes: list[StoredNode]


def grow(
    head: LogHead, digester: Digester, entries: Sequence[bytes], leaves: Sequence[bytes], write_time: datetime | None
) -> Growth:
    """Return the head after entries with these leaf digests. Pure."""
    frontier, nodes = head.frontier.extend(digester, leaves)
    grown = replace(
        head,
        frontier=frontier,
        root=frontier.root(digester),
        total_bytes=head.total_bytes + sum(map(len, entries)),
        last_write_time=write_time or head.last_write_time,
    )
    return Growth(grown, nodes)


class MissingEntryError(LookupError):
    """An entry below the log's size is not stored: somebody removed it."""

    def __init__(self, sequence: int) -> None:
        super().__init__(f"entry {sequence} is missing")
        self.sequence = sequence


def create_log(connection: Connection, origin: str, is_own: bool, digest_algorithm: str, verifier_key: str) -> None:
    """Insert an empty log unless it, or for the own log another own one, is there.

    A concurrent creator waits for us or we for it; what is there afterwards only `lock_head` tells.
    """
    connection.execute(
        "INSERT INTO journal_logs (origin, is_own, size, root, peaks, total_bytes, digest_algorithm, verifier_key)"
        " VALUES (%s, %s, 0, %s, '', 0, %s, %s) ON CONFLICT DO NOTHING",
        (origin, is_own, Digester(digest_algorithm).empty(), digest_algorithm, verifier_key),
    )


def set_recovering(connection: Connection, origin: str, *, is_recovering: bool) -> None:
    """Set or clear the mark of an own log that was restored, and tell readers with the commit."""
    connection.execute(
        "WITH log AS (UPDATE journal_logs SET is_recovering = %s WHERE origin = %s) SELECT pg_notify(%s, %s)",
        (is_recovering, origin, CHANNEL, origin),
    )


def lock_head(connection: Connection, origin: str) -> LogHead | None:
    """Return the head and hold its row until the transaction ends: appends of one log queue up here."""
    row = connection.execute(_SELECT_HEADS + b" WHERE origin = %s FOR UPDATE", (origin,)).fetchone()
    return LogHead.from_row(row) if row else None


def read_head(connection: Connection, origin: str) -> LogHead | None:
    """Return the head as last committed."""
    row = connection.execute(_SELECT_HEADS + b" WHERE origin = %s", (origin,)).fetchone()
    return LogHead.from_row(row) if row else None


def read_heads(connection: Connection) -> list[LogHead]:
    """Return all heads ordered by origin."""
    rows = connection.execute(_SELECT_HEADS + b" ORDER BY origin")
    return [LogHead.from_row(row) for row in rows]


def read_own_head(connection: Connection) -> LogHead | None:
    """Return the head of the log that is written here, or None before the first start."""
    row = connection.execute(_SELECT_HEADS + b" WHERE is_own").fetchone()
    return LogHead.from_row(row) if row else None


def count_logs(connection: Connection) -> int:
    """Return how many logs are held."""
    row = connection.execute("SELECT count(*) FROM journal_logs").fetchone()
    return int(row[0]) if row else 0


@dataclass(frozen=True, slots=True)
class PackedEntries:
    """Entries at consecutive sequences, made ready to be sent before the transaction begins."""

    origin: str
    first_sequence: int
    entries: Sequence[bytes]
    leaves: Sequence[bytes]
    copy_content: bytes
    """The rows in binary COPY form; empty for a batch so small that an INSERT is quicker."""


def pack_entries(origin: str, first_sequence: int, entries: Sequence[bytes], leaves: Sequence[bytes]) -> PackedEntries:
    """Return entries ready to be inserted. Pure."""
    is_copied = len(entries) >= COPY_ROWS_MIN
    content = copy_content([pack_entry_rows(origin, first_sequence, entries, leaves)]) if is_copied else b""
    return PackedEntries(origin, first_sequence, entries, leaves, content)


def pack_entry_rows(origin: str, first_sequence: int, entries: Sequence[bytes], leaves: Sequence[bytes]) -> bytes:
    """Return entries as rows in binary COPY form, one part of what `copy_entries` sends. Pure."""
    count = len(entries)
    encoded = origin.encode()
    pack_place = struct.Struct("!qi").pack
    # Column by column, and joined once: a third quicker than row by row.
    pieces: list[bytes] = [b""] * (_ENTRY_PIECES * count)
    pieces[0::_ENTRY_PIECES] = [struct.pack(f"!hi{len(encoded)}si", 4, len(encoded), encoded, 8)] * count
    pieces[1::_ENTRY_PIECES] = map(pack_place, range(first_sequence, first_sequence + count), map(len, entries))
    pieces[2::_ENTRY_PIECES] = entries
    pieces[3::_ENTRY_PIECES] = [struct.pack("!i", DIGEST_BYTES)] * count
    pieces[4::_ENTRY_PIECES] = leaves
    return b"".join(pieces)


def copy_entries(connection: Connection, parts: Sequence[bytes]) -> None:
    """Insert entries that `pack_entry_rows` packed."""
    send_copy(connection, _COPY_ENTRIES, copy_content(parts))


def insert_entries(connection: Connection, packed: PackedEntries) -> None:
    """Insert entries."""
    if packed.copy_content:
        send_copy(connection, _COPY_ENTRIES, packed.copy_content)
        return
    sequences = list(range(packed.first_sequence, packed.first_sequence + len(packed.entries)))
    connection.execute(
        _INSERT_ENTRIES, (packed.origin, sequences, list(packed.entries), list(packed.leaves)), binary=True
    )


def store_growth(connection: Connection, growth: Growth) -> None:
    """Store the new head and the completed nodes, and tell readers with the commit."""
    head = growth.head
    if growth.nodes:
        connection.execute(
            'INSERT INTO journal_nodes (origin, level, "index", digest)'
            " SELECT %s, * FROM unnest(%s::smallint[], %s::bigint[], %s::bytea[])",
            (
                head.origin,
                [node.level for node in growth.nodes],
                [node.index for node in growth.nodes],
                [node.digest for node in growth.nodes],
            ),
        )
    connection.execute(
        "WITH head AS (UPDATE journal_logs SET size = %s, root = %s, peaks = %s, total_bytes = %s, last_write_time = %s"
        " WHERE origin = %s) SELECT pg_notify(%s, %s)",
        (
            head.size,
            head.root,
            head.frontier.to_bytes(),
            head.total_bytes,
            head.last_write_time,
            head.origin,
            CHANNEL,
            head.origin,
        ),
    )


def read_leaves(connection: Connection, origin: str, first_sequence: int, count: int) -> list[bytes]:
    """Return stored leaf digests in order; fewer than asked for when the log ends."""
    with connection.cursor(binary=True) as cursor:
        rows = cursor.execute(
            "SELECT leaf FROM journal_entries WHERE origin = %s AND sequence >= %s AND sequence < %s ORDER BY sequence",
            (origin, first_sequence, first_sequence + count),
        ).fetchall()
    return [row[0] for row in rows]


def read_nodes(connection: Connection, origin: str, level: int, first_index: int, count: int) -> list[bytes]:
    """Return stored nodes of one level in order; level 0 are the leaves."""
    if level == 0:
        return read_leaves(connection, origin, first_index + 1, count)
    with connection.cursor(binary=True) as cursor:
        rows = cursor.execute(
            'SELECT digest FROM journal_nodes WHERE origin = %s AND level = %s AND "index" >= %s AND "index" < %s'
            ' ORDER BY "index"',
            (origin, level, first_index, first_index + count),
        ).fetchall()
    return [row[0] for row in rows]


def read_entries_within(
    connection: Connection, origin: str, first: int, last: int, bytes_max: int
) -> tuple[list[bytes], list[bytes]]:
    """Return the entries from first, as far as last and as bytes_max allow but at least one, with their leaf digests.

    The database counts the bytes: a thousand entries of the largest size would be sixteen times what a batch may hold.
    """
    with connection.cursor(binary=True) as cursor:
        rows = cursor.execute(
            "SELECT entry, leaf, sequence FROM"
            " (SELECT sequence, entry, leaf, sum(octet_length(entry)) OVER (ORDER BY sequence) AS bytes"
            "  FROM journal_entries WHERE origin = %s AND sequence BETWEEN %s AND %s) AS run"
            " WHERE bytes <= %s OR sequence = %s ORDER BY sequence",
            (origin, first, last, bytes_max, first),
        ).fetchall()
    if not rows or rows[-1][2] != first + len(rows) - 1:
        raise MissingEntryError(first_missing(connection, origin, first, last))
    return [row[0] for row in rows], [row[1] for row in rows]


def first_missing(connection: Connection, origin: str, first: int, last: int) -> int:
    """Return the first sequence of a range at which no entry is stored."""
    row = connection.execute(
        "SELECT min(place) FROM generate_series(%s::bigint, %s::bigint) AS place WHERE NOT EXISTS"
        " (SELECT FROM journal_entries WHERE origin = %s AND sequence = place)",
        (first, last, origin),
    ).fetchone()
    return first if row is None or row[0] is None else int(row[0])


def read_entries(connection: Connection, origin: str, first: int, last: int) -> tuple[list[bytes], list[bytes]]:
    """Return the entries from first to last with their leaf digests."""
    with connection.cursor(binary=True) as cursor:
        rows = cursor.execute(
            "SELECT entry, leaf FROM journal_entries WHERE origin = %s AND sequence BETWEEN %s AND %s"
            " ORDER BY sequence",
            (origin, first, last),
        ).fetchall()
    return [row[0] for row in rows], [row[1] for row in rows]
