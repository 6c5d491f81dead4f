"""What the locks of objects in the store have to be, and which of them may not be so yet."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from services.common.database import RawConnection
from services.video.custody import CustodyAction
from services.video.domain import BytesState

CHANGING_ACTIONS: Final = frozenset(
    {
        CustodyAction.HOLD_PLACED,
        CustodyAction.HOLD_RELEASED,
        CustodyAction.RETENTION_EXTENDED,
        # Bytes that come find what was decided about them before.
        CustodyAction.RECEIVED,
        CustodyAction.RESTORED,
    }
)
"""After these the locks of an object may have to be others."""


class LockChange(NamedTuple):
    """An object whose locks may have to follow."""

    digest: bytes
    change_count: int


class DueLocks(NamedTuple):
    """What the locks of an object have to be: those of all evidence with these bytes together."""

    retain_until_time: datetime
    is_held: bool
    state: int
    """1 held; 4 damaged or 5 deleted and not gone from the store, where a hold is only ever taken off."""


def note_changes(connection: RawConnection, digests: Sequence[bytes]) -> None:
    """Note that the locks of objects may have to follow."""
    if not digests:
        return
    # In the order of the keys, so that receivers of two logs never wait for each other in a circle.
    connection.execute(
        "INSERT INTO lock_changes (digest, change_count) SELECT digest, 1 FROM unnest(%s::bytea[]) AS came (digest)"
        " ORDER BY digest ON CONFLICT (digest) DO UPDATE SET change_count = lock_changes.change_count + 1,"
        " retry_time = NULL",
        (sorted(set(digests)),),
    )


def read_changes(connection: RawConnection, now: datetime, count: int) -> list[LockChange]:
    """Return objects whose turn it is."""
    rows = connection.execute(
        "SELECT digest, change_count FROM lock_changes WHERE retry_time IS NULL OR retry_time <= %s"
        " ORDER BY digest LIMIT %s",
        (now, count),
    )
    return [LockChange(*row) for row in rows]


def read_due(connection: RawConnection, digest: bytes) -> DueLocks | None:
    """Return what the locks of an object have to be; None when the store has none, or no manifest names it."""
    row = connection.execute(
        "SELECT max(GREATEST(e.retain_until_time, x.retain_until_time)), bool_or(EXISTS (SELECT 1 FROM legal_holds h"
        "  WHERE (h.evidence_origin, h.source_unit_id, h.evidence_id) = (e.origin, e.source_unit_id, e.evidence_id)"
        "  AND h.place_sequence > h.release_sequence)), max(o.state)"
        " FROM evidence e JOIN objects o ON o.digest = e.digest LEFT JOIN retention_extensions x"
        " ON (x.evidence_origin, x.source_unit_id, x.evidence_id) = (e.origin, e.source_unit_id, e.evidence_id)"
        " WHERE e.digest = %s AND (o.state IN (%s, %s) OR (o.state = %s AND o.purge_time IS NULL))"
        " HAVING count(*) > 0",
        (digest, BytesState.HELD, BytesState.DAMAGED, BytesState.DELETED),
    ).fetchone()
    return DueLocks(*row) if row else None


def held_after(connection: RawConnection, after: bytes, count: int) -> list[bytes]:
    """Return objects that are here and under a legal hold, after a digest, by digest."""
    rows = connection.execute(
        "SELECT DISTINCT e.digest FROM legal_holds h JOIN evidence e"
        " ON (h.evidence_origin, h.source_unit_id, h.evidence_id) = (e.origin, e.source_unit_id, e.evidence_id)"
        " JOIN objects o ON o.digest = e.digest WHERE h.place_sequence > h.release_sequence AND o.state = %s"
        " AND e.digest > %s ORDER BY e.digest LIMIT %s",
        (BytesState.HELD, after, count),
    )
    return [digest for (digest,) in rows]


def stored_after(connection: RawConnection, after: bytes, count: int) -> list[bytes]:
    """Return objects that are here, after a digest, by digest."""
    rows = connection.execute(
        "SELECT digest FROM objects WHERE state = %s AND digest > %s ORDER BY digest LIMIT %s",
        (BytesState.HELD, after, count),
    )
    return [digest for (digest,) in rows]


def forget_change(connection: RawConnection, change: LockChange) -> None:
    """Forget a change that was followed, unless another one has come meanwhile."""
    connection.execute("DELETE FROM lock_changes WHERE digest = %s AND change_count = %s", change)


def try_again(connection: RawConnection, change: LockChange, retry_time: datetime) -> None:
    """Note that the store has refused, and when it is asked again."""
    connection.execute(
        "UPDATE lock_changes SET retry_time = %s WHERE digest = %s AND change_count = %s",
        (retry_time, *change),
    )
