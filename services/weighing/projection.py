"""Weighings of lower platforms as rows: what the journal calls for every entry that it receives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import DecodeError

from services.common.database import RawConnection
from services.journal.projection import Unprojectable
from services.weighing import convert
from services.weighing.preparing import WEIGHING_SCHEMA
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


class WeighingProjection:
    """Implements the journal's `Projection` for weighings and conflicting submissions."""

    kinds: Mapping[str, int] = {convert.WEIGHING_KIND: WEIGHING_SCHEMA, convert.CONFLICT_KIND: CONFLICT_SCHEMA}

    def prepare(self, origin: str, kind: str, payload: bytes, leaf: bytes) -> PackedRow | ConflictRow:
        """Parse one payload. Raises Unprojectable."""
        if kind == convert.WEIGHING_KIND:
            return convert.received_row(payload)
        try:
            conflict = weighing_pb2.WeighingConflict.FromString(payload)
        except DecodeError as error:
            raise Unprojectable("the payload is not a WeighingConflict") from error
        convert.check_received(conflict.record)
        convert.check_instant("receive_time", conflict.receive_time)
        receive_time = conflict.receive_time.ToDatetime(tzinfo=UTC)
        return ConflictRow(conflict.record.source_unit_id, conflict.record.record_id, receive_time)

    def project(self, connection: RawConnection, origin: str, prepared: Sequence[tuple[int, Any]]) -> None:
        """Write the rows of received entries."""
        rows = [one for one in prepared if isinstance(one[1], PackedRow)]
        packed = store.pack_weighings(origin, [sequence for sequence, _ in rows], [row for _, row in rows])
        if packed is not None:
            store.insert_weighings(connection, packed)
        conflicts = [
            (sequence, row.source_unit_id, row.record_id, row.receive_time)
            for sequence, row in prepared
            if isinstance(row, ConflictRow)
        ]
        if conflicts:
            store.insert_conflicts(connection, origin, conflicts)
