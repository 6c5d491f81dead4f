"""Puts together evidence as this platform holds it: manifest, where the bytes are, until when it is kept, holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.common.database import RawConnection
from services.common.errors import ServiceError
from services.video import refusals_reading as refusals
from services.video.custody import CustodyAction, delete_time, lost_as
from services.video.domain import BytesState, Name
from services.video.store import custody as custody_store
from services.video.store import reading as reading_store
from services.video.store.custody import HoldRow
from services.video.store.reading import HeldRow

COMING_AND_GOING: Final = (
    CustodyAction.RECEIVED,
    CustodyAction.DELETED,
    CustodyAction.FOUND_MISSING,
    CustodyAction.FOUND_CHANGED,
    CustodyAction.RESTORED,
)
"""What says whether a platform has the bytes."""


@dataclass(frozen=True, slots=True)
class Held:
    """One piece of evidence as held."""

    row: HeldRow
    holds: tuple[HoldRow, ...]
    """Those that stand."""


def find(connection: RawConnection, name: Name) -> Held | None:
    """Return one piece of evidence; None when its manifest is not held."""
    row = reading_store.read_evidence(connection, name)
    return put_together(connection, [row])[0] if row is not None else None


def put_together(connection: RawConnection, rows: Sequence[HeldRow]) -> list[Held]:
    """Return pieces of evidence with their holds, in order."""
    holds = custody_store.read_holds(connection, [row.name for row in rows]) if rows else {}
    return [Held(row, tuple(holds.get(row.name, ()))) for row in rows]


def gone(connection: RawConnection, row: HeldRow, own: str) -> ServiceError | None:
    """Return the refusal of bytes that are neither here nor below any more: deleted or lost where they were sealed.

    None when a platform below may have them.
    """
    facts = custody_store.read_facts(connection, row.name, COMING_AND_GOING)
    deleted = delete_time(facts, row.origin)
    if deleted is not None:
        return refusals.expired(row.name, deleted)
    if row.origin != own:
        return None
    if row.state == BytesState.DELETED:
        return refusals.expired(row.name, None)
    return refusals.damaged(lost_as(facts, own) or CustodyAction.FOUND_MISSING, row.digest)
