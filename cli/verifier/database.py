"""Reads a journal straight from the tables of its database, in one read-only snapshot."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import psycopg
from psycopg import conninfo

from cli.verifier.addressed import AddressedHead, AddressedRow, KnownPlace, StepRow
from cli.verifier.check import FINDINGS_MAX
from cli.verifier.source import CHUNK_RECORDS, CannotLookError, Chunk, Head, StoredNote
from cli.verifier.tree import NODE_LEVEL_STEP
from zhichao.journal.v1 import entry_pb2

CONNECT_SECONDS_MAX: Final = 10
"""A database that is there answers within milliseconds."""

_HEADS: Final = """
SELECT origin, size, root, is_own, peaks, verifier_key, digest_algorithm,
       (SELECT entry FROM journal_entries e WHERE e.origin = l.origin AND sequence = 1),
       (SELECT count(*) FROM journal_nodes n WHERE n.origin = l.origin)
FROM journal_logs l ORDER BY origin
"""
_ENTRIES: Final = "SELECT sequence, entry, leaf FROM journal_entries WHERE origin = %s ORDER BY sequence"
_NOTES: Final = (
    "SELECT size, note FROM journal_checkpoints WHERE origin = %s AND size > %s AND (%s::bigint IS NULL OR size <= %s)"
    " ORDER BY size"
)
_NODES: Final = (
    'SELECT "index", digest FROM journal_nodes WHERE origin = %s AND level = %s AND "index" BETWEEN %s AND %s'
)
_ADDRESSED_HEADS: Final = """
SELECT l.origin, l.through_sequence, l.root, l.digest_algorithm, l.verifier_key, a.entry, a.leaf, a.inclusion_path
FROM journal_addressed_logs l LEFT JOIN journal_addressed a ON a.origin = l.origin AND a.sequence = 1 ORDER BY origin
"""
_ADDRESSED_STEPS: Final = """
SELECT s.size, s.previous_size, s.note, s.consistency_path, a.sequence, a.audience, a.entry, a.leaf, a.inclusion_path
FROM journal_addressed_steps s LEFT JOIN journal_addressed a ON a.origin = s.origin AND a.sequence = s.size
WHERE s.origin = %s ORDER BY s.size
"""
_ADDRESSED_STRAYS: Final = """
SELECT sequence FROM journal_addressed a WHERE origin = %s AND sequence > 1
AND NOT EXISTS (SELECT FROM journal_addressed_steps s WHERE s.origin = a.origin AND s.size = a.sequence)
ORDER BY sequence LIMIT %s
"""
_OWN_PLACES: Final = """
SELECT coalesce(a.sequence, s.size), coalesce(a.audience, ''), s.previous_size FROM journal_addressed a
FULL JOIN journal_addressed_steps s ON s.origin = a.origin AND s.size = a.sequence
WHERE coalesce(a.origin, s.origin) = %s
"""

STRAYS_MAX: Final = FINDINGS_MAX
"""Entries without a step that are named: as many as findings are kept."""


class DatabaseSource:
    """The journal in one service's database. Opens one connection and keeps one snapshot until it is closed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection[Any] | None = None

    @property
    def label(self) -> str:
        """Server and database, without a password."""
        try:
            parts = conninfo.conninfo_to_dict(self._url)
        except psycopg.ProgrammingError:
            return "database"
        return f"{parts.get('host', 'localhost')}/{parts.get('dbname', '')}"

    def heads(self) -> list[Head]:
        """Return the logs of `journal_logs`."""
        with _failures():
            rows = self._open().execute(_HEADS, binary=True).fetchall()
        heads = []
        for origin, size, root, is_own, peaks, key, algorithm, first_entry, node_count in rows:
            entry = bytes(first_entry or b"")
            heads.append(
                Head(
                    stream=_stream(entry),
                    origin=origin,
                    size=size,
                    root=bytes(root),
                    is_own=is_own,
                    first_entry=entry,
                    peaks=bytes(peaks),
                    verifier_key=key,
                    digest_algorithm=algorithm,
                    node_count=node_count,
                )
            )
        # Entry 1 of a log may be damaged; its neighbours say which service this is.
        named = next((head.stream for head in heads if head.stream), "")
        return [_with_stream(head, named) for head in heads]

    def chunks(self, head: Head) -> Iterator[Chunk]:
        """Read every row of a log, also those that its head knows nothing of."""
        position = 0
        with _failures():
            connection = self._open()
            with connection.cursor(name="entries", binary=True) as cursor:
                cursor.itersize = CHUNK_RECORDS
                cursor.execute(_ENTRIES, (head.origin,))
                while rows := cursor.fetchmany(CHUNK_RECORDS):
                    sequences, entries, leaves = zip(*rows, strict=True)
                    last = sequences[-1]
                    notes = self._notes(head.origin, position, last)
                    yield Chunk(sequences, entries, leaves, notes, self._nodes(head.origin, position, last))
                    position = last
            if beyond := self._notes(head.origin, position, None):
                yield Chunk((), (), (), beyond, {})

    def addressed_heads(self, stream: str) -> list[AddressedHead]:
        """Return the logs of platforms above of which anything is held. A schema of before holds none."""
        with _failures():
            if not self._has_addressed():
                return []
            rows = self._open().execute(_ADDRESSED_HEADS, binary=True).fetchall()
        return [
            AddressedHead(
                stream, origin, through, bytes(root), algorithm, key, _addressed_row((1, "", entry, leaf, path))
            )
            for origin, through, root, algorithm, key, entry, leaf, path in rows
        ]

    def addressed_steps(self, origin: str) -> Iterator[StepRow]:
        """Read the steps of a log with the entries that are held."""
        with _failures(), self._open().cursor(name="steps", binary=True) as cursor:
            cursor.itersize = CHUNK_RECORDS
            cursor.execute(_ADDRESSED_STEPS, (origin,))
            for size, previous_size, note, path, *entry in cursor:
                yield StepRow(size, previous_size, note or "", path or b"", _addressed_row(entry))

    def addressed_strays(self, origin: str) -> list[int]:
        """Return the first sequences of entries that belong to no step."""
        with _failures():
            return [row[0] for row in self._open().execute(_ADDRESSED_STRAYS, (origin, STRAYS_MAX))]

    def own_places(self, origin: str) -> list[KnownPlace] | None:
        """Return what the own log makes known to platforms below; None where the schema is of before."""
        with _failures():
            if not self._has_addressed():
                return None
            return [KnownPlace(*row) for row in self._open().execute(_OWN_PLACES, (origin,))]

    def _has_addressed(self) -> bool:
        row = self._open().execute("SELECT to_regclass('journal_addressed_logs') IS NOT NULL").fetchone()
        return bool(row and row[0])

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            self._connection = psycopg.connect(
                self._url, connect_timeout=CONNECT_SECONDS_MAX, application_name="zhichao-verify"
            )
            self._connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        return self._connection

    def _notes(self, origin: str, after: int, last: int | None) -> list[StoredNote]:
        rows = self._open().execute(_NOTES, (origin, after, last, last))
        return [StoredNote(size, note) for size, note in rows]

    def _nodes(self, origin: str, after: int, last: int) -> dict[tuple[int, int], bytes]:
        found: dict[tuple[int, int], bytes] = {}
        level = NODE_LEVEL_STEP
        while last >> level:
            first_index, end_index = after >> level, last >> level
            if end_index > first_index:
                rows = self._open().execute(_NODES, (origin, level, first_index, end_index - 1), binary=True)
                found.update({(level, index): digest for index, digest in rows})
            level += NODE_LEVEL_STEP
        return found


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except psycopg.errors.UndefinedTable as error:
        raise CannotLookError("the database has no journal tables 数据库中没有日志表") from error
    except psycopg.Error as error:
        raise CannotLookError(str(error).strip().splitlines()[0]) from error


def _addressed_row(row: Sequence[Any]) -> AddressedRow | None:
    sequence, audience, entry, leaf, path = row
    return None if entry is None else AddressedRow(sequence, audience, bytes(entry), bytes(leaf), bytes(path))


def _stream(first_entry: bytes) -> str:
    try:
        return entry_pb2.LogStart.FromString(entry_pb2.Entry.FromString(first_entry).payload).stream
    except ValueError:
        # DecodeError is one, and so is text that is not UTF-8.
        return ""


def _with_stream(head: Head, stream: str) -> Head:
    return head if head.stream == stream else replace(head, stream=stream)
