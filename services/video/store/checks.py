"""What a look at an object in the store says of it: right, damaged, right again, or not to be read for now."""

from datetime import datetime

from services.common.database import RawConnection
from services.video.custody import CustodyAction
from services.video.store.keeping import StoredRow


def oldest_checked(
    connection: RawConnection, before: datetime, latest: datetime
) -> tuple[StoredRow, datetime | None] | None:
    """Return the held object whose last check is the oldest, with that, if it was before a time.

    One whose last check is later than `latest`, by a clock that was ahead, goes first, as if it had none. What could
    not be read is left out: `due_unread` has it.
    """
    row = connection.execute(
        "SELECT digest, size_bytes, state FROM objects WHERE state = 1 AND unread_retry_time IS NULL"
        " AND coalesce(scrub_time, stored_time, '-infinity') > %s"
        " ORDER BY coalesce(scrub_time, stored_time, '-infinity') DESC, digest DESC LIMIT 1",
        (latest,),
    ).fetchone()
    if row is not None:
        return StoredRow(*row), None
    row = connection.execute(
        "SELECT digest, size_bytes, state, coalesce(scrub_time, stored_time) FROM objects WHERE state = 1"
        " AND unread_retry_time IS NULL AND coalesce(scrub_time, stored_time, '-infinity') < %s"
        " ORDER BY coalesce(scrub_time, stored_time, '-infinity'), digest LIMIT 1",
        (before,),
    ).fetchone()
    return (StoredRow(*row[:3]), row[3]) if row else None


def due_unread(connection: RawConnection, now: datetime, latest: datetime) -> StoredRow | None:
    """Return a held object that could not be read and is to be read again by now, the one that waits longest; or later
    than `latest`, which a clock has said that was ahead.
    """
    row = connection.execute(
        "SELECT digest, size_bytes, state FROM objects WHERE (unread_retry_time <= %s OR unread_retry_time > %s)"
        " AND state = 1 ORDER BY unread_retry_time, digest LIMIT 1",
        (now, latest),
    ).fetchone()
    return StoredRow(*row) if row else None


def suspect_unread(connection: RawConnection, digest: bytes, now: datetime) -> None:
    """Let a held object be read next: somebody wanted to and could not."""
    connection.execute(
        "UPDATE objects SET unread_retry_time = %s WHERE digest = %s AND state = 1 AND unread_retry_time IS NULL",
        (now, digest),
    )


def put_unread(connection: RawConnection, digest: bytes, now: datetime, retry_time: datetime, latest: datetime) -> int:
    """Count that an object could not be read, note when it is tried again, and return how often that was; 0 when it was
    not to be tried again yet, `latest` as in `due_unread`.
    """
    row = connection.execute(
        "UPDATE objects SET unread_count = unread_count + 1, unread_retry_time = %s"
        " WHERE digest = %s AND state IN (1, 2, 3)"
        " AND coalesce(unread_retry_time <= %s OR unread_retry_time > %s, true) RETURNING unread_count",
        (retry_time, digest, now, latest),
    ).fetchone()
    return int(row[0]) if row else 0


def read_damaged(connection: RawConnection, after: bytes, count: int) -> list[StoredRow]:
    """Return damaged objects after a digest, by digest."""
    rows = connection.execute(
        "SELECT digest, size_bytes, state FROM objects WHERE state = 4 AND digest > %s ORDER BY digest LIMIT %s",
        (after, count),
    )
    return [StoredRow(*row) for row in rows]


def mark_checked(connection: RawConnection, digest: bytes, now: datetime) -> None:
    """Note that an object was read and is as it should be."""
    connection.execute(
        "UPDATE objects SET scrub_time = %s, unread_count = 0, unread_retry_time = NULL"
        " WHERE digest = %s AND state = 1",
        (now, digest),
    )


def mark_restored(connection: RawConnection, digest: bytes, now: datetime) -> bool:
    """Mark damaged bytes as held again; False when they are not damaged."""
    marked = connection.execute(
        "UPDATE objects SET state = 1, damage = NULL, damage_time = NULL, scrub_time = %s,"
        " unread_count = 0, unread_retry_time = NULL, stored_time = coalesce(stored_time, %s)"
        " WHERE digest = %s AND state = 4",
        (now, now, digest),
    )
    return marked.rowcount == 1


def mark_found(connection: RawConnection, digest: bytes, size_bytes: int, now: datetime) -> bool:
    """Mark bytes as held that are in the store though their row says otherwise, or there is none; False when it does
    not.
    """
    marked = connection.execute(
        "INSERT INTO objects (digest, size_bytes, state, stored_time, scrub_time, preview_due_time)"
        " VALUES (%s, %s, 1, %s, %s, %s)"
        " ON CONFLICT (digest) DO UPDATE SET size_bytes = excluded.size_bytes, state = 1,"
        " stored_time = excluded.stored_time,"
        " preview_due_time = CASE WHEN NOT objects.has_preview THEN excluded.preview_due_time END,"
        " scrub_time = excluded.scrub_time, damage = NULL, damage_time = NULL, wanted_time = NULL, urgency = NULL,"
        " wanted_until_time = NULL, retry_time = NULL, received_bytes = 0, unread_count = 0, unread_retry_time = NULL"
        " WHERE objects.state IN (2, 3, 4)",
        (digest, size_bytes, now, now, now),
    )
    return marked.rowcount == 1


def mark_lost(connection: RawConnection, digest: bytes, size_bytes: int, action: CustodyAction, now: datetime) -> bool:
    """Mark bytes of an own manifest as damaged that have no row, or one that says that they are below; else False.

    Below this platform nobody has what it has sealed itself.
    """
    marked = connection.execute(
        "INSERT INTO objects (digest, size_bytes, state, damage, damage_time) VALUES (%s, %s, 4, %s, %s)"
        " ON CONFLICT (digest) DO UPDATE SET size_bytes = excluded.size_bytes, state = 4, damage = excluded.damage,"
        " damage_time = excluded.damage_time, unread_count = 0, unread_retry_time = NULL WHERE objects.state IN (2, 3)",
        (digest, size_bytes, action, now),
    )
    return marked.rowcount == 1
