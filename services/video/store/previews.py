"""Which previews are still to be drawn."""

from datetime import datetime
from typing import NamedTuple

from services.common.database import RawConnection


class DueRow(NamedTuple):
    """Bytes in the store here of which previews are to be drawn, and how often that has failed."""

    digest: bytes
    size_bytes: int
    failures: int


def take_due(connection: RawConnection, now: datetime, until: datetime) -> DueRow | None:
    """Return what is due first, and let nobody else take it before `until`."""
    row = connection.execute(
        "UPDATE objects SET preview_due_time = %s WHERE digest ="
        " (SELECT digest FROM objects WHERE preview_due_time <= %s AND state = 1 AND preview_due_time IS NOT NULL"
        "  ORDER BY preview_due_time LIMIT 1 FOR UPDATE SKIP LOCKED)"
        " RETURNING digest, size_bytes, preview_failures",
        (until, now),
    ).fetchone()
    return DueRow(*row) if row else None


def read_manifest(connection: RawConnection, digest: bytes) -> bytes | None:
    """Return a manifest (payload of its entry) that names the bytes."""
    row = connection.execute(
        "SELECT content FROM evidence WHERE digest = %s ORDER BY origin, sequence LIMIT 1", (digest,)
    ).fetchone()
    return row[0] if row else None


def mark_drawn(connection: RawConnection, digest: bytes) -> bool:
    """Note that previews are in the store; False when the bytes are not held here any more."""
    marked = connection.execute(
        "UPDATE objects SET has_preview = TRUE, preview_due_time = NULL, preview_failures = 0"
        " WHERE digest = %s AND state = 1",
        (digest,),
    )
    return marked.rowcount == 1


def mark_not_drawable(connection: RawConnection, digest: bytes) -> None:
    """Note that there are no previews and will be none."""
    connection.execute("UPDATE objects SET preview_due_time = NULL WHERE digest = %s", (digest,))


def put_off(connection: RawConnection, digest: bytes, until: datetime, failures: int) -> None:
    """Note when it is tried again; what was drawn meanwhile stays so."""
    connection.execute(
        "UPDATE objects SET preview_due_time = %s, preview_failures = %s WHERE digest = %s AND NOT has_preview",
        (until, failures, digest),
    )
