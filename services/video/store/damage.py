"""Bytes that should be here and were found missing or changed."""

from datetime import datetime

from services.common.database import RawConnection
from services.video.custody import CustodyAction
from services.video.domain import BytesState


def mark_damaged(connection: RawConnection, digest: bytes, action: CustodyAction, now: datetime) -> bool:
    """Mark bytes that are held as damaged; False when they are in another state already."""
    marked = connection.execute(
        "UPDATE objects SET state = %s, damage = %s, damage_time = %s, unread_count = 0, unread_retry_time = NULL"
        " WHERE digest = %s AND state = %s",
        (BytesState.DAMAGED, action, now, digest, BytesState.HELD),
    )
    return marked.rowcount == 1
