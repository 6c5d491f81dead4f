"""What a service tells the journal about its entries: which kinds it knows and how received ones become rows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, Protocol, runtime_checkable

from services.common.database import RawConnection, translate_errors
from services.common.errors import ServiceError
from services.journal import entries
from services.journal.limits import DETAIL_CHARACTERS_MAX
from services.journal.payloads import PayloadRun, read_payloads


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

    @property
    def kinds(self) -> Mapping[str, int]:
        """Full message names that are projected, with the highest schema known of each."""

    def prepare(self, origin: str, kind: str, payload: bytes, leaf: bytes) -> Any:
        """Parse one payload into whatever `project` needs. No database. Raises Unprojectable."""

    def project(self, connection: RawConnection, origin: str, prepared: Sequence[tuple[int, Any]]) -> None:
        """Write rows for (sequence, prepared) pairs in the receiving transaction.

        Any error but a database that is away makes the journal try the entries one by one and park the bad ones.
        """


@runtime_checkable
class AddressedProjection(Projection, Protocol):
    """A projection that wants to know to whom an entry is addressed.

    Entries with an audience come from above, to this platform or to be passed on to platforms below it, and from below,
    where a platform has addressed them to those below itself.
    """

    def prepare_addressed(self, origin: str, kind: str, payload: bytes, leaf: bytes, audience: str) -> Any:
        """Do what `prepare` does, for an entry with an audience."""


@runtime_checkable
class PackingProjection(Projection, Protocol):
    """A projection that makes the rows of a batch ready to be sent before the transaction begins."""

    def pack(self, origin: str, prepared: Sequence[tuple[int, Any]]) -> Any:
        """Return (sequence, prepared) pairs in the form that `project_packed` takes. No database, raises nothing."""

    def project_packed(self, connection: RawConnection, origin: str, packed: Sequence[Any]) -> None:
        """Do what `project` does, for the batches that follow each other in a log and are committed together."""


@dataclass(frozen=True, slots=True)
class Parked:
    """An entry that could not be prepared or projected."""

    sequence: int
    kind: str
    cause: ParkCause
    detail: str


def prepare_all(
    projection: Projection, origin: str, first_sequence: int, batch: Sequence[bytes], leaves: Sequence[bytes]
) -> tuple[list[tuple[int, Any]], list[Parked]]:
    """Return what the projection needs for the entries of a batch that have rows, and those that are parked, and why.

    Pure. An entry that says the beginning of a log has no rows.
    """
    prepared: list[tuple[int, Any]] = []
    parked: list[Parked] = []
    sequence = first_sequence
    for run in read_payloads(batch):
        if run.is_entry and run.kind == entries.LOG_START_KIND:
            sequence += len(run.payloads)
            continue
        refusal = _refusal(projection, run)
        if refusal is not None:
            cause, detail_text = refusal
            kind = run.kind[:DETAIL_CHARACTERS_MAX]
            parked += [
                Parked(place, kind, cause, detail_text) for place in range(sequence, sequence + len(run.payloads))
            ]
            sequence += len(run.payloads)
            continue
        kind, prepare_one = run.kind, _preparer(projection, run)
        for payload in run.payloads:
            try:
                prepared.append((sequence, prepare_one(origin, kind, payload, leaves[sequence - first_sequence])))
            except Unprojectable as error:
                parked.append(Parked(sequence, kind, ParkCause.MALFORMED, str(error)[:DETAIL_CHARACTERS_MAX]))
            except Exception as error:  # noqa: BLE001 - what a peer wrote must not keep its log from advancing, whatever it is
                parked.append(Parked(sequence, kind, ParkCause.PROJECTION_FAILED, detail(error)))
            sequence += 1
    return prepared, parked


def _preparer(projection: Projection, run: PayloadRun) -> Callable[[str, str, bytes, bytes], Any]:
    if run.audience and isinstance(projection, AddressedProjection):
        return partial(projection.prepare_addressed, audience=run.audience)
    return projection.prepare


def _refusal(projection: Projection, run: PayloadRun) -> tuple[ParkCause, str] | None:
    """Return why no entry of the run can be prepared, whatever its payload holds."""
    if not run.is_entry:
        return ParkCause.MALFORMED, "the bytes are not an Entry"
    schema_known = projection.kinds.get(run.kind)
    if schema_known is None:
        return ParkCause.UNKNOWN_KIND, "this release knows no such kind"
    if run.schema > schema_known:
        newer = f"schema {run.schema} is newer than {schema_known}, the newest that this release knows"
        return ParkCause.NEWER_SCHEMA, newer
    return None


def prepare(
    projection: Projection, origin: str, sequence: int, entry: bytes, leaf: bytes
) -> tuple[int, Any] | Parked | None:
    """Return what the projection needs for one entry, or why it is parked, or None for an entry without rows."""
    prepared, parked = prepare_all(projection, origin, sequence, [entry], [leaf])
    return (*prepared, *parked, None)[0]


def pack(projection: Projection, origin: str, prepared: Sequence[tuple[int, Any]]) -> Any:
    """Return rows ready to be sent, or None where the projection does not pack."""
    return projection.pack(origin, prepared) if prepared and isinstance(projection, PackingProjection) else None


@dataclass(frozen=True, slots=True)
class Projectable:
    """What a projection writes for one batch: (sequence, prepared) pairs, and what `pack` made of them."""

    prepared: Sequence[tuple[int, Any]]
    packed: Any


def project_together(
    projection: Projection, connection: RawConnection, origin: str, batches: Sequence[Projectable]
) -> None:
    """Write the rows of batches that follow each other in a log. Raises as `project`."""
    filled = [batch for batch in batches if batch.prepared]
    if not filled:
        return
    if isinstance(projection, PackingProjection):
        with _told_apart():
            projection.project_packed(connection, origin, [batch.packed for batch in filled])
    else:
        project(projection, connection, origin, [pair for batch in filled for pair in batch.prepared])


def project(
    projection: Projection, connection: RawConnection, origin: str, prepared: Sequence[tuple[int, Any]]
) -> None:
    """Write rows. Raises ProjectionFailed, and ServiceError(DATABASE_UNAVAILABLE) when it is not the entries' fault."""
    with _told_apart():
        projection.project(connection, origin, prepared)


@contextmanager
def _told_apart() -> Iterator[None]:
    """Tell a database that is away, which is nobody's fault, from entries that will fail again."""
    try:
        with translate_errors():
            yield
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
