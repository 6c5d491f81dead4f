"""Bytes that should be here and were found missing or changed."""

from datetime import datetime

from services.common.database import RawConnection
from services.video.custody import CustodyAction


def mark_damaged(connection: RawConnection, digest: bytes, action: CustodyAction, now: datetime) -> bool:
    """Mark bytes that are held as damaged (state 4 of 1); False when they are in another state already."""
    marked = connection.execute(
        "UPDATE objects SET state = 4, damage = %s, damage_time = %s WHERE digest = %s AND state = 1",
        (action, now, digest),
    )
    return marked.rowcount == 1
