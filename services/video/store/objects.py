"""Where the bytes are."""

from datetime import datetime
from typing import NamedTuple

from services.common.database import RawConnection
from services.video.domain import BytesState


class ObjectRow(NamedTuple):
    """Bytes that a manifest names, seen from this platform."""

    digest: bytes
    size_bytes: int
    state: int
    stored_time: datetime | None
    has_preview: bool
    check_time: datetime | None
    """When they were last known to be right here; absent when they could not be read since."""


def read_object(connection: RawConnection, digest: bytes) -> ObjectRow | None:
    """Return where bytes are, or None when no manifest names them."""
    row = connection.execute(
        "SELECT digest, size_bytes, state, stored_time, has_preview,"
        " CASE WHEN state = 1 AND unread_retry_time IS NULL THEN coalesce(scrub_time, stored_time) END"
        " FROM objects WHERE digest = %s",
        (digest,),
    ).fetchone()
    return ObjectRow(*row) if row else None


def put_held(
    connection: RawConnection, digest: bytes, size_bytes: int, stored_time: datetime, *, has_preview: bool
) -> None:
    """Write that bytes are in the store here, checked just now; what was wanted or damaged is so no more."""
    connection.execute(
        "INSERT INTO objects (digest, size_bytes, state, stored_time, has_preview, preview_due_time)"
        " VALUES (%(digest)s, %(size)s, %(state)s, %(time)s, %(drawn)s, CASE WHEN NOT %(drawn)s THEN %(time)s END)"
        # Whatever a manifest has said of their size that came before them.
        " ON CONFLICT (digest) DO UPDATE SET size_bytes = excluded.size_bytes, state = excluded.state,"
        " stored_time = excluded.stored_time,"
        " has_preview = objects.has_preview OR excluded.has_preview, preview_failures = 0,"
        " preview_due_time = CASE WHEN NOT objects.has_preview THEN excluded.preview_due_time END,"
        " damage_time = NULL, damage = NULL,"
        " wanted_time = NULL, urgency = NULL, wanted_until_time = NULL, retry_time = NULL, decline_count = 0,"
        " received_bytes = 0, keep_check_time = NULL, purge_time = NULL, unread_count = 0, unread_retry_time = NULL",
        {
            "digest": digest,
            "size": size_bytes,
            "state": BytesState.HELD.value,
            "time": stored_time,
            "drawn": has_preview,
        },
    )
