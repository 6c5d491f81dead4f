"""What a service tells the journal about its entries: which kinds it knows and how received ones become rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from services.common.database import RawConnection, translate_errors
from services.common.errors import ServiceError
from services.journal import entries
from services.journal.limits import DETAIL_CHARACTERS_MAX


class ParkCause(StrEnum):
    """Why an entry that is held is not projected."""

    UNKNOWN_KIND = "unknown_kind"
    NEWER_SCHEMA = "newer_schema"
    MALFORMED = "malformed"
    PROJECTION_FAILED = "projection_failed"


class Unprojectable(Exception):  # noqa: N818 - reads as the fact it is
    """Raised by a projection for an entry that it cannot make rows of; the entry is kept and parked."""


class ProjectionFailed(Exception):  # noqa: N818 - as above
    """Entries could not be made rows, and trying the same again would fail again. `detail` is for a person."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.detail = detail(cause)


class Projection(Protocol):
    """The tables of one service as a function of its journal."""

    kinds: Mapping[str, int]
    """Full message names that are projected, with the highest schema known of each."""

    def prepare(self, origin: str, kind: str, payload: bytes, leaf: bytes) -> Any:
        """Parse one payload into whatever `project` needs. No database. Raises Unprojectable."""

    def project(self, connection: RawConnection, origin: str, prepared: Sequence[tuple[int, Any]]) -> None:
        """Write rows for (sequence, prepared) pairs in the receiving transaction.

        Any error but a database that is away makes the journal try the entries one by one and park the bad ones.
        """


@dataclass(frozen=True, slots=True)
class Parked:
    """An entry that could not be prepared or projected."""

    sequence: int
    kind: str
    cause: ParkCause
    detail: str


def prepare(
    projection: Projection, origin: str, sequence: int, entry: bytes, leaf: bytes
) -> tuple[int, Any] | Parked | None:
    """Return what the projection needs for one entry, or why it is parked, or None for an entry without rows."""
    parsed = entries.parse(entry)
    if parsed is None:
        return Parked(sequence, "", ParkCause.MALFORMED, "the bytes are not an Entry")
    kind = parsed.kind
    if kind == entries.LOG_START_KIND:
        return None
    schema_known = projection.kinds.get(kind)
    if schema_known is None:
        return Parked(sequence, kind[:DETAIL_CHARACTERS_MAX], ParkCause.UNKNOWN_KIND, "this release knows no such kind")
    if parsed.schema > schema_known:
        newer = f"schema {parsed.schema} is newer than {schema_known}, the newest that this release knows"
        return Parked(sequence, kind, ParkCause.NEWER_SCHEMA, newer)
    try:
        return sequence, projection.prepare(origin, kind, parsed.payload, leaf)
    except Unprojectable as error:
        return Parked(sequence, kind, ParkCause.MALFORMED, str(error)[:DETAIL_CHARACTERS_MAX])
    except Exception as error:  # noqa: BLE001 - what a peer wrote must not keep its log from advancing, whatever it is
        return Parked(sequence, kind, ParkCause.PROJECTION_FAILED, detail(error))


def project(
    projection: Projection, connection: RawConnection, origin: str, prepared: Sequence[tuple[int, Any]]
) -> None:
    """Write rows. Raises ProjectionFailed, and ServiceError(DATABASE_UNAVAILABLE) when it is not the entries' fault."""
    try:
        with translate_errors():
            projection.project(connection, origin, prepared)
    except ServiceError:
        raise
    except Exception as error:
        raise ProjectionFailed(error) from error


def detail(error: Exception) -> str:
    """Return a sentence about a failed projection without row contents, which may hold personal data."""
    diagnostics = getattr(error, "diag", None)
    constraint = getattr(diagnostics, "constraint_name", None)
    suffix = f" ({constraint})" if constraint else ""
    return f"{type(error).__name__}{suffix}"[:DETAIL_CHARACTERS_MAX]
