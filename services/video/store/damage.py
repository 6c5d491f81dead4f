"""Bytes that should be here and were found missing or changed."""

from datetime import datetime

from services.common.database import RawConnection
from services.video.custody import COMING_AND_GOING, CustodyAction
from services.video.domain import BytesState


def mark_damaged(connection: RawConnection, digest: bytes, action: CustodyAction, now: datetime) -> bool:
    """Mark bytes that are held as damaged; False when they are in another state already."""
    marked = connection.execute(
        "UPDATE objects SET state = %s, damage = %s, damage_time = %s, unread_count = 0, unread_retry_time = NULL"
        " WHERE digest = %s AND state = %s",
        (BytesState.DAMAGED, action, now, digest, BytesState.HELD),
    )
    return marked.rowcount == 1


def mark_deleted_before(connection: RawConnection, digest: bytes, own: str) -> bool:
    """Mark bytes as deleted whose deletion is the last word of this platform's log about them; False when it is not.

    Tables that were restored from a backup do not know of it, and the log, which came back from above, does.
    """
    if not is_last_deleted(connection, digest, own):
        return False
    connection.execute(
        "UPDATE objects SET state = %s, damage = NULL, damage_time = NULL, purge_time = NULL, has_preview = FALSE,"
        " unread_count = 0, unread_retry_time = NULL WHERE digest = %s AND state IN (%s, %s, %s)",
        (BytesState.DELETED, digest, BytesState.HELD, BytesState.BELOW, BytesState.WANTED),
    )
    return True


def is_last_deleted(connection: RawConnection, digest: bytes, own: str) -> bool:
    """Tell whether the last word of this platform's log about bytes is that it has deleted them: it has not sealed,
    received or found them since.
    """
    row = connection.execute(
        "SELECT action FROM (SELECT c.sequence, c.action FROM evidence e JOIN custody_events c"
        " ON (c.evidence_origin, c.source_unit_id, c.evidence_id) = (e.origin, e.source_unit_id, e.evidence_id)"
        " WHERE e.digest = %(digest)s AND c.origin = %(own)s AND c.action = ANY(%(actions)s::smallint[])"
        " UNION ALL SELECT sequence, 0 FROM evidence WHERE digest = %(digest)s AND origin = %(own)s"
        ") AS words ORDER BY sequence DESC LIMIT 1",
        {"digest": digest, "own": own, "actions": list(COMING_AND_GOING)},
    ).fetchone()
    return row is not None and row[0] == CustodyAction.DELETED
