"""Bytes that somebody here has asked for."""

from datetime import datetime
from typing import Final

from services.common.database import RawConnection
from services.video.domain import BytesState

REQUESTED: Final = 1
"""TransferUrgency of the contract: somebody has asked for it."""


def want(connection: RawConnection, digest: bytes, now: datetime, until_time: datetime) -> None:
    """Mark bytes that are not here as wanted, before all that is wanted only by policy.

    What the platform below has declined is asked for again at once; what is damaged stays marked so.
    """
    connection.execute(
        "UPDATE objects SET state = CASE WHEN state = %s THEN state ELSE %s END, urgency = %s,"
        " wanted_time = COALESCE(wanted_time, %s), wanted_until_time = GREATEST(wanted_until_time, %s),"
        " retry_time = NULL, decline_count = 0, is_gone_below = FALSE WHERE digest = %s AND state <> %s",
        (BytesState.DAMAGED, BytesState.WANTED, REQUESTED, now, until_time, digest, BytesState.HELD),
    )
