"""Puts together evidence as this platform holds it: manifest, where the bytes are, until when it is kept, holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.common.database import RawConnection
from services.common.errors import ServiceError
from services.video import custody
from services.video import refusals_reading as refusals
from services.video.custody import COMING_AND_GOING, CustodyAction, delete_time, lost_as
from services.video.domain import BytesState, Name
from services.video.store import custody as custody_store
from services.video.store import reading as reading_store
from services.video.store.custody import HoldRow
from services.video.store.reading import HeldRow

SEALS_MAX: Final = 100
"""Manifests of one digest that are looked at: the same bytes are sealed twice when a site sends them twice, and more
often only by somebody who tries."""


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

    None when a platform below may have them: the one that sealed them, unless it has deleted them; or any other that
    says so, such as one in between that keeps them because of a hold.
    """
    facts = custody_store.read_facts(connection, row.name, COMING_AND_GOING)
    deleted = delete_time(facts, row.origin)
    is_deleted = deleted is not None or (row.origin == own and row.state == BytesState.DELETED)
    if is_deleted:
        return None if is_held_elsewhere(connection, row.digest, own) else refusals.expired(row.name, deleted)
    if row.origin != own:
        return None
    return refusals.damaged(lost_as(facts, own) or CustodyAction.FOUND_MISSING, row.digest)


def is_held_elsewhere(connection: RawConnection, digest: bytes, own: str) -> bool:
    """Tell whether another platform has bytes, by what is known here of its custody. It lies below: what platforms
    above say of bytes of their own does not come down.
    """
    return bool(holders(connection, digest) - {own})


def holders(connection: RawConnection, digest: bytes) -> frozenset[str]:
    """Return the platforms that have bytes, by what is known here of the custody of each."""
    seals = custody_store.read_seals(connection, digest, SEALS_MAX)
    facts = custody_store.read_facts_of_bytes(connection, digest, COMING_AND_GOING, SEALS_MAX)
    return custody.holders(facts, seals)
