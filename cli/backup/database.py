"""What backups ask of a database: how large it is, where its logs stand, and to compare its own log before writing."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

import psycopg

from cli.backup.evidence_list import ListedObject
from cli.backup.record import BackupError, LogRecord
from cli.verifier.database import DatabaseSource
from cli.verifier.source import CannotLookError

CONNECT_SECONDS_MAX: Final = 10
"""A server on the same machine answers within milliseconds."""

FETCH_ROWS: Final = 10_000
"""Rows that are read from the database at once: one MB."""

# The journal's mark on its own log (services.journal.tables): nothing new is written until it was compared with what is
# held above. Databases of releases before have no such column.
_HAS_MARK: Final = (
    "SELECT EXISTS (SELECT FROM information_schema.columns"
    " WHERE table_name = 'journal_logs' AND column_name = 'is_recovering')"
)
_MARK: Final = "UPDATE journal_logs SET is_recovering = true WHERE is_own"


def read_logs(database: str, url: str) -> list[LogRecord]:
    """Return where the logs of one database stand. Raises BackupError."""
    source = DatabaseSource(url)
    try:
        heads = source.heads()
    except CannotLookError as error:
        raise BackupError(f"the database {database} cannot be read: {error} 无法读取该数据库") from error
    finally:
        source.close()
    return [
        LogRecord(database, head.stream, head.origin, head.is_own, head.size, head.root.hex(), head.verifier_key or "")
        for head in heads
    ]


def total_bytes(url: str) -> int:
    """Return the size of all databases of a server. Raises BackupError."""
    return int(_ask(url, "SELECT coalesce(sum(pg_database_size(oid)), 0) FROM pg_database"))


def evidence_bytes(url: str) -> int:
    """Return the size of all evidence that a video database says is held. Raises BackupError."""
    has_table = "SELECT to_regclass('objects') IS NOT NULL"
    total = "SELECT coalesce(sum(size_bytes), 0)::bigint FROM objects WHERE state = 1"
    return int(_ask(url, total)) if _ask(url, has_table) else 0


def read_objects(url: str) -> Iterator[ListedObject]:
    """Yield the objects that a video database says are held, by digest. Raises BackupError."""
    with _evidence_errors(), _connect(url) as connection, connection.cursor(name="objects") as cursor:
        cursor.itersize = FETCH_ROWS
        cursor.execute("SELECT digest, size_bytes FROM objects WHERE state = 1 ORDER BY digest")
        for digest, size_bytes in cursor:
            yield ListedObject(digest, size_bytes)


def read_retained(url: str) -> dict[bytes, datetime]:
    """Return until when a video database keeps objects at least, by digest. Raises BackupError."""
    with _evidence_errors(), _connect(url) as connection:
        rows = connection.execute(
            "SELECT e.digest, max(GREATEST(e.retain_until_time, x.retain_until_time)) FROM evidence e"
            " LEFT JOIN retention_extensions x ON (x.evidence_origin, x.source_unit_id, x.evidence_id)"
            " = (e.origin, e.source_unit_id, e.evidence_id) GROUP BY e.digest"
        )
        return dict(rows)


def read_held(url: str) -> frozenset[bytes]:
    """Return the digests of the objects on which a video database says that a legal hold stands. Raises BackupError."""
    with _evidence_errors(), _connect(url) as connection:
        rows = connection.execute(
            "SELECT DISTINCT e.digest FROM evidence e JOIN legal_holds h"
            " ON (h.evidence_origin, h.source_unit_id, h.evidence_id) = (e.origin, e.source_unit_id, e.evidence_id)"
            " WHERE h.place_sequence > h.release_sequence"
        )
        return frozenset(digest for (digest,) in rows)


@contextmanager
def _evidence_errors() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        told = str(error).strip().splitlines()[0]
        raise BackupError(f"the video database cannot be read: {told} 无法读取视频数据库") from error


def mark_restored(url: str) -> bool:
    """Let the service compare its own log with the platform above before it writes. False where nothing knows the mark.

    Raises BackupError.
    """
    if not _ask(url, _HAS_MARK):
        return False
    with _connect(url) as connection:
        connection.execute(_MARK)
    return True


def _ask(url: str, statement: str) -> Any:
    with _connect(url) as connection:
        row = connection.execute(statement.encode()).fetchone()
    return row[0] if row else None


def _connect(url: str) -> psycopg.Connection[Any]:
    try:
        return psycopg.connect(url, connect_timeout=CONNECT_SECONDS_MAX, application_name="zhichao-backup")
    except psycopg.Error as error:
        raise BackupError(
            f"the database cannot be reached: {str(error).strip().splitlines()[0]} 无法连接数据库"
        ) from error
