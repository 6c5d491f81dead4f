"""Weighings of lower platforms as rows: what the journal calls for every entry that it receives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import DecodeError

from services.common.database import RawConnection
from services.journal.projection import Unprojectable
from services.journal.store import COPY_ROWS_MIN
from services.weighing import convert
from services.weighing.preparing import WEIGHING_SCHEMA
from services.weighing.receiving import check_instant, check_received, received_row
from services.weighing.recording import CONFLICT_SCHEMA
from services.weighing.rows import PackedRow
from services.weighing.store import weighings as store
from zhichao.weighing.v1 import weighing_pb2


@dataclass(frozen=True, slots=True)
class ConflictRow:
    """A conflicting submission of another platform."""

    source_unit_id: str
    record_id: str
    receive_time: datetime


PlacedConflict = tuple[int, str, str, datetime]
"""Sequence, source unit id, record id and receive time of a conflict."""


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """The rows of one batch: (sequence, row) pairs, and those that are weighings in binary COPY form."""

    prepared: Sequence[tuple[int, Any]]
    sequences: Sequence[int]
    rows: bytes
    conflicts: Sequence[PlacedConflict]


class WeighingProjection:
    """Implements the journal's `PackingProjection` for weighings and conflicting submissions."""

    kinds: Mapping[str, int] = {convert.WEIGHING_KIND: WEIGHING_SCHEMA, convert.CONFLICT_KIND: CONFLICT_SCHEMA}

    def prepare(self, origin: str, kind: str, payload: bytes, leaf: bytes) -> PackedRow | ConflictRow:
        """Parse one payload. Raises Unprojectable."""
        if kind == convert.WEIGHING_KIND:
            return received_row(payload)
        try:
            conflict = weighing_pb2.WeighingConflict.FromString(payload)
        except DecodeError as error:
            raise Unprojectable("the payload is not a WeighingConflict") from error
        check_received(conflict.record)
        check_instant("receive_time", conflict.receive_time)
        receive_time = conflict.receive_time.ToDatetime(tzinfo=UTC)
        return ConflictRow(conflict.record.source_unit_id, conflict.record.record_id, receive_time)

    def project(self, connection: RawConnection, origin: str, prepared: Sequence[tuple[int, Any]]) -> None:
        """Write the rows of received entries."""
        weighings, conflicts = _split(prepared)
        packed = store.pack_weighings(origin, [sequence for sequence, _ in weighings], [row for _, row in weighings])
        if packed is not None:
            store.insert_weighings(connection, packed)
        if conflicts:
            store.insert_conflicts(connection, origin, conflicts)

    def pack(self, origin: str, prepared: Sequence[tuple[int, Any]]) -> PackedBatch:
        """Put the rows of a batch into the form in which many are sent."""
        weighings, conflicts = _split(prepared)
        sequences = [sequence for sequence, _ in weighings]
        rows = store.pack_rows(origin, sequences, [row for _, row in weighings])
        return PackedBatch(prepared, sequences, rows, conflicts)

    def project_packed(self, connection: RawConnection, origin: str, packed: Sequence[PackedBatch]) -> None:
        """Write the rows of received batches, with one COPY and one sum of their totals."""
        filled = [batch for batch in packed if batch.sequences]
        if sum(len(batch.sequences) for batch in filled) < COPY_ROWS_MIN:
            self.project(connection, origin, [pair for batch in packed for pair in batch.prepared])
            return
        place = (origin, filled[0].sequences[0], filled[-1].sequences[-1])
        store.copy_weighings(connection, [batch.rows for batch in filled], place)
        conflicts = [conflict for batch in packed for conflict in batch.conflicts]
        if conflicts:
            store.insert_conflicts(connection, origin, conflicts)


def _split(prepared: Sequence[tuple[int, Any]]) -> tuple[list[tuple[int, PackedRow]], list[PlacedConflict]]:
    """Return the rows of weighings and of conflicts apart."""
    weighings = [pair for pair in prepared if isinstance(pair[1], PackedRow)]
    if len(weighings) == len(prepared):
        return weighings, []
    conflicts = [
        (sequence, row.source_unit_id, row.record_id, row.receive_time)
        for sequence, row in prepared
        if isinstance(row, ConflictRow)
    ]
    return weighings, conflicts
