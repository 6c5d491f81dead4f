"""Bytes that somebody here has asked for."""

from datetime import datetime
from typing import Final

from services.common.database import RawConnection
from services.video.domain import BytesState, Name

REQUESTED: Final = 1
"""TransferUrgency of the contract: somebody has asked for it."""


def want(connection: RawConnection, name: Name, now: datetime, until_time: datetime) -> None:
    """Mark bytes that are not here as wanted, before all that is wanted only by policy.

    What a platform below has declined, or has no more, is asked for again; what is damaged stays marked so.
    """
    connection.execute(
        "UPDATE objects SET state = CASE WHEN state = %s THEN state ELSE %s END, urgency = %s,"
        " wanted_time = COALESCE(wanted_time, %s), wanted_until_time = GREATEST(wanted_until_time, %s),"
        " wanted_origin = e.origin, wanted_seal_time = e.seal_time, retry_time = NULL, decline_count = 0"
        " FROM evidence e WHERE (e.origin, e.source_unit_id, e.evidence_id) = (%s, %s, %s)"
        " AND objects.digest = e.digest AND objects.state <> %s",
        (BytesState.DAMAGED, BytesState.WANTED, REQUESTED, now, until_time, *name, BytesState.HELD),
    )
