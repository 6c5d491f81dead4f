"""Puts together evidence as this platform holds it: manifest, where the bytes are, until when it is kept, holds."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.common.database import RawConnection
from services.video.domain import Name
from services.video.store import custody as custody_store
from services.video.store import reading as reading_store
from services.video.store.custody import HoldRow
from services.video.store.reading import HeldRow


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
