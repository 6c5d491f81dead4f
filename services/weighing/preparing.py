"""From a record as sent to everything that recording it needs: checked, resolved, judged, serialised. No database."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from services.common.clock import Clock
from services.common.errors import FieldViolation, ServiceError, invalid
from services.common.reasons import Reason
from services.journal.digests import Digester
from services.journal.entries import EntryBuilder, NewEntry, timestamp
from services.weighing import convert
from services.weighing.directory import Directory, Site
from services.weighing.plates import normalize_plate
from services.weighing.quality import find_quality_flags
from services.weighing.rows import PackedRow, day_number, pack_row, postgres_microseconds
from services.weighing.store.weighings import RecordKey
from services.weighing.validation import validate_record
from services.weighing.verdict import Judgement, judge
from zhichao.weighing.v1 import record_pb2

RETRY_AFTER_SECONDS: Final = 2.0
"""What a caller is told to wait for the registry: it restarts in a few seconds."""

WEIGHING_SCHEMA: Final = 1
"""Version of what a `Weighing` entry means; raised when an older release would misread it."""

RECORD_BYTES_MAX: Final = 8 * 1024
"""Bytes of one record: twice the largest that fills every field, so that newer terminals have room for more fields. It
bounds what waits for a transaction (16,384 records) and keeps every entry, and a page of 1,000, below its limit."""


@dataclass(slots=True)
class PreparedRecord:
    """A record with everything made that needs no database."""

    key: RecordKey
    record: record_pb2.WeighingRecord
    entry: NewEntry
    row: PackedRow
    judgement: bytes
    receive_time: datetime
    actor: str
    request_id: str


class RecordPreparer:
    """Prepares records of this platform's own terminals, in the thread of whoever sent them."""

    def __init__(
        self,
        digester: Digester,
        directory: Directory,
        clock: Clock,
        look_again: Callable[[], bool],
    ) -> None:
        self._digester = digester
        self._directory = directory
        self._clock = clock
        self._look_again = look_again

    def prepare(
        self, records: Sequence[record_pb2.WeighingRecord], actor: str, request_id: str
    ) -> list[PreparedRecord | ServiceError]:
        """Check, resolve, judge and serialise records; a refused one gives the refusal in its place."""
        now = self._clock.now()
        reception = convert.Reception(timestamp(now))
        builder = EntryBuilder(convert.WEIGHING_KIND, WEIGHING_SCHEMA, now, actor, request_id)
        prepared: list[PreparedRecord | ServiceError] = []
        for record in records:
            try:
                prepared.append(self._prepare(record, now, reception, builder, actor, request_id))
            except ServiceError as refusal:
                prepared.append(refusal)
        return prepared

    def _prepare(
        self,
        record: record_pb2.WeighingRecord,
        now: datetime,
        reception: convert.Reception,
        builder: EntryBuilder,
        actor: str,
        request_id: str,
    ) -> PreparedRecord:
        vehicle_message = record.vehicle
        vehicle_key = vehicle_message.SerializeToString()
        vehicle = convert.known_vehicle(vehicle_key)
        violations = validate_record(record, reception.receive_seconds, is_vehicle_checked=vehicle is not None)
        if violations:
            raise invalid([FieldViolation(f"record.{field}", description) for field, description in violations])
        unit, record_id, event = record.source_unit_id, record.record_id, record.event
        weigh_time = record.weigh_time
        seconds, nanos = weigh_time.seconds, weigh_time.nanos
        day = day_number(seconds)
        site = self._site(unit, record.weighing_point_id, record.scale_id, day, reception)
        gross = record.gross_weight_kg
        if vehicle is None:
            vehicle = convert.read_vehicle(vehicle_message, vehicle_key)
        judgement = self._judge(record, site, vehicle, gross, event)
        front = normalize_plate(record.front_plate.number) if record.HasField("front_plate") else ""
        rear = normalize_plate(record.rear_plate.number) if record.HasField("rear_plate") else ""
        plate = front or rear
        flags = find_quality_flags(
            front,
            rear,
            vehicle.facts.vehicle_class,
            gross,
            record.tare_weight_kg if record.HasField("tare_weight_kg") else None,
            record.net_weight_kg if record.HasField("net_weight_kg") else None,
            vehicle.axle_weight_sum_kg,
            site.capacity_kg,
            bool(site.certificate_number),
            seconds + nanos / 1e9,
            reception.receive_seconds,
        )
        judgement_bytes = convert.judgement_bytes(judgement, site)
        content = record.SerializeToString()
        if len(content) > RECORD_BYTES_MAX:
            raise _too_large(len(content))
        payload = reception.weighing_bytes(content, judgement_bytes, site.division_code, plate, flags)
        row = pack_row(
            postgres_microseconds(seconds, nanos),
            reception.receive_microseconds,
            gross,
            judgement.verdict,
            judgement.severity,
            event,
            vehicle.axle_count,
            convert.quality_bits(flags),
            judgement.lenient_limit_kg or 0,
            judgement.excess_kg or 0,
            site.packed,
            record_id,
            plate,
        )
        return PreparedRecord(
            (unit, record_id),
            record,
            builder.build(payload, self._digester),
            row,
            judgement_bytes,
            now,
            actor,
            request_id,
        )

    def _site(self, unit: str, point: str, scale: str, day: int, reception: convert.Reception) -> Site:
        try:
            return self._directory.site(unit, point, scale, day)
        except ServiceError:
            # Perhaps it was registered a moment ago: look at the registry before refusing, once for a whole batch.
            if reception.is_directory_fresh is None:
                reception.is_directory_fresh = self._look_again()
        try:
            return self._directory.site(unit, point, scale, day)
        except ServiceError as refusal:
            if reception.is_directory_fresh:
                raise
            # The record may be good: a terminal must keep it and come again, not drop it as refused for ever.
            raise ServiceError(
                Reason.SERVICE_UNAVAILABLE,
                f"{refusal.message}, or try again: the registry cannot be asked now",
                message_zh=f"{refusal.message_zh}；登记服务暂不可用，请稍后重试",
                metadata={"service": "registry"},
                retry_after_seconds=RETRY_AFTER_SECONDS,
            ) from refusal

    def _judge(
        self,
        record: record_pb2.WeighingRecord,
        site: Site,
        vehicle: convert.VehicleReading,
        gross: int,
        event: int,
    ) -> Judgement:
        permitted = record.transport_permit.permitted_mass_kg if record.HasField("transport_permit") else None
        return judge(
            site.rules,
            vehicle.facts,
            gross,
            site.scale_kind,
            event,
            vehicle.registered_mass_kg,
            permitted,
            vehicle.axles,
        )


def _too_large(actual: int) -> ServiceError:
    # Refused here, alone: in the transaction it would take everybody else's records with it.
    return ServiceError(
        Reason.ENTRY_TOO_LARGE,
        f"the record has {actual} bytes, more than {RECORD_BYTES_MAX}",
        message_zh=f"记录有 {actual} 字节，超过上限 {RECORD_BYTES_MAX} 字节",
        metadata={"limit": str(RECORD_BYTES_MAX), "actual": str(actual)},
    )
