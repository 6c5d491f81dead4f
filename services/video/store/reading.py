"""Evidence as it is shown: one piece, and lists, each with where its bytes are and until when it is kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from psycopg import sql

from services.common.database import RawConnection
from services.video.domain import BytesState, Name, Subject
from services.video.store.custody import Named, name_columns


class HeldRow(NamedTuple):
    """Evidence as held here."""

    origin: str
    source_unit_id: str
    evidence_id: str
    sequence: int
    leaf: bytes
    content: bytes
    digest: bytes
    size_bytes: int
    list_time: datetime
    retain_until_time: datetime
    """Extensions included."""
    state: int
    """Numbered as BytesState of the contract."""
    received_bytes: int
    has_preview: bool
    damage: int | None
    """CustodyAction of what was found while the state is DAMAGED."""

    @property
    def name(self) -> Name:
        """What names it."""
        return Name(self.origin, self.source_unit_id, self.evidence_id)

    @property
    def named(self) -> Named:
        """What names it, with its bytes."""
        return Named(self.name, self.digest)


@dataclass(frozen=True, slots=True)
class EvidenceFilter:
    """What to list; None, False and empty do not narrow."""

    origin: str = ""
    source_unit_id: str = ""
    subject: Subject | None = None
    """What it proves."""
    camera_id: str = ""
    start_time: datetime | None = None
    end_time: datetime | None = None
    kinds: tuple[int, ...] = ()
    bytes_states: tuple[int, ...] = ()
    is_held: bool = False


ListKey = tuple[datetime, str, str, str]
"""List time, origin, source unit and evidence id: where a page ends."""

# A row of the bytes is written with each manifest; one that is gone says nothing but that they are not here.
_STATE: Final = f"COALESCE(o.state, {BytesState.BELOW.value})"
_COLUMNS: Final = (
    "e.origin, e.source_unit_id, e.evidence_id, e.sequence, e.leaf, e.content, e.digest, e.size_bytes, e.list_time,"
    f" GREATEST(e.retain_until_time, x.retain_until_time), {_STATE}, COALESCE(o.received_bytes, 0),"
    " COALESCE(o.has_preview, FALSE), o.damage"
)
_TABLES: Final = (
    "evidence e LEFT JOIN objects o ON o.digest = e.digest LEFT JOIN retention_extensions x"
    " ON (x.evidence_origin, x.source_unit_id, x.evidence_id) = (e.origin, e.source_unit_id, e.evidence_id)"
)


def read_evidence(connection: RawConnection, name: Name) -> HeldRow | None:
    """Return one piece of evidence; None when its manifest is not held."""
    row = connection.execute(
        sql.SQL(
            "SELECT {columns} FROM {tables} WHERE (e.origin, e.source_unit_id, e.evidence_id) = (%s, %s, %s)"
        ).format(columns=sql.SQL(_COLUMNS), tables=sql.SQL(_TABLES)),
        name,
    ).fetchone()
    return HeldRow(*row) if row else None


def read_evidence_of(connection: RawConnection, names: Sequence[Name]) -> dict[Name, HeldRow]:
    """Return those of several pieces whose manifests are held."""
    rows = connection.execute(
        sql.SQL(
            "SELECT {columns} FROM {tables} JOIN unnest(%s::text[], %s::text[], %s::text[])"
            " AS wanted (origin, source_unit_id, evidence_id)"
            " ON (wanted.origin, wanted.source_unit_id, wanted.evidence_id)"
            " = (e.origin, e.source_unit_id, e.evidence_id)"
        ).format(columns=sql.SQL(_COLUMNS), tables=sql.SQL(_TABLES)),
        name_columns(names),
    )
    found = [HeldRow(*row) for row in rows]
    return {row.name: row for row in found}


def list_evidence(
    connection: RawConnection, narrow: EvidenceFilter, after: ListKey | None, count: int
) -> list[HeldRow]:
    """Return evidence after a key: newest first, then by origin, source unit and id, all descending."""
    conditions = ["TRUE"]
    values: dict[str, Any] = {"count": count}

    def require(condition: str, **parameters: Any) -> None:
        conditions.append(condition)
        values.update(parameters)

    if narrow.origin:
        require("e.origin = %(origin)s", origin=narrow.origin)
    if narrow.source_unit_id:
        require("e.source_unit_id = %(source_unit_id)s", source_unit_id=narrow.source_unit_id)
    if narrow.subject is not None:
        require(
            "EXISTS (SELECT 1 FROM evidence_subjects s WHERE s.source_unit_id = e.source_unit_id"
            " AND s.subject_kind = %(subject_kind)s AND s.subject_id = %(subject_id)s"
            " AND s.origin = e.origin AND s.evidence_id = e.evidence_id)",
            subject_kind=narrow.subject.kind,
            subject_id=narrow.subject.subject_id,
        )
    if narrow.camera_id:
        # The second condition lets the planner use the index that leaves out evidence of no camera.
        require("e.camera_id = %(camera_id)s AND e.camera_id <> ''", camera_id=narrow.camera_id)
    if narrow.start_time is not None:
        require("e.list_time >= %(start_time)s", start_time=narrow.start_time)
    if narrow.end_time is not None:
        require("e.list_time < %(end_time)s", end_time=narrow.end_time)
    if narrow.kinds:
        require("e.kind = ANY(%(kinds)s::smallint[])", kinds=list(narrow.kinds))
    if narrow.bytes_states:
        require(f"{_STATE} = ANY(%(states)s::smallint[])", states=list(narrow.bytes_states))
    if narrow.is_held:
        require(
            "EXISTS (SELECT 1 FROM legal_holds h WHERE h.place_sequence > h.release_sequence"
            " AND (h.evidence_origin, h.source_unit_id, h.evidence_id)"
            " = (e.origin, e.source_unit_id, e.evidence_id))"
        )
    if after is not None:
        require(
            "(e.list_time, e.origin, e.source_unit_id, e.evidence_id)"
            " < (%(time)s, %(after_origin)s, %(after_unit)s, %(after_id)s)",
            time=after[0],
            after_origin=after[1],
            after_unit=after[2],
            after_id=after[3],
        )
    query = sql.SQL(
        "SELECT {columns} FROM {tables} WHERE {conditions} ORDER BY e.list_time DESC, e.origin DESC,"
        " e.source_unit_id DESC, e.evidence_id DESC LIMIT %(count)s"
    ).format(
        columns=sql.SQL(_COLUMNS),
        tables=sql.SQL(_TABLES),
        conditions=sql.SQL(" AND ").join(map(sql.SQL, conditions)),
    )
    return [HeldRow(*row) for row in connection.execute(query, values)]
