"""From records as sent to everything that recording them needs: checked, resolved, judged, serialised. No database.

A batch is kept in columns, one list for each fact: with an object for each record, making and clearing away the objects
would take a tenth of the time of a backlog.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError

from services.common import wire
from services.common.errors import FieldViolation, ServiceError, invalid
from services.common.reasons import Reason
from services.journal.digests import Digester
from services.journal.entries import EntryBuilder, timestamp
from services.weighing import convert
from services.weighing.bounds import UNBOUND, Bounds
from services.weighing.directory import Directory, Site
from services.weighing.plates import normalize_plate
from services.weighing.quality import find_quality_flags
from services.weighing.rows import PackedRow, RecordKey, day_number, pack_row, postgres_microseconds
from services.weighing.validation import validate_record
from services.weighing.verdict import judge
from zhichao.weighing.v1 import record_pb2, service_pb2

RETRY_AFTER_SECONDS: Final = 2.0
"""What a caller is told to wait for the registry: it restarts in a few seconds."""

WEIGHING_SCHEMA: Final = 1
"""Version of what a `Weighing` entry means; raised when an older release would misread it."""

BATCH_RECORDS_MAX: Final = 1_000
"""Records in one message: at some 300 bytes each far below the message limit, and committed in about 40 ms."""

RECORD_BYTES_MAX: Final = 8 * 1024
"""Bytes of one record: twice the largest that fills every field, so that newer terminals have room for more fields. It
bounds what waits for a transaction (16,384 records) and keeps every entry, and a page of 1,000, below its limit."""


_RECORDS_FIELD: Final = service_pb2.RecordWeighingsRequest.RECORDS_FIELD_NUMBER
_RECORD_ID_FIELD: Final = record_pb2.WeighingRecord.RECORD_ID_FIELD_NUMBER


@dataclass(slots=True)
class PreparedBatch:
    """Records of one request with everything made that needs no database: a list for each fact, in one order."""

    receive_time: datetime
    actor: str
    request_id: str
    keys: list[RecordKey] = field(default_factory=list)
    entries: list[bytes] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)
    rows: list[PackedRow] = field(default_factory=list)
    judgements: list[bytes] = field(default_factory=list)

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.keys)

    def columns(self) -> tuple[list[Any], ...]:
        """Return the lists, in the order in which the constructor takes them."""
        return self.keys, self.entries, self.leaves, self.rows, self.judgements


class Refused(NamedTuple):
    """A record that is not recorded, and why."""

    record_id: str
    error: ServiceError


class Prepared(NamedTuple):
    """What became of the records of one request."""

    batch: PreparedBatch
    """Those that are fit to be recorded."""
    refusals: dict[int, Refused]
    """Why the others are not, by their places in the request, in their order."""


_PreparedRecord = tuple[RecordKey, bytes, PackedRow, bytes]
"""Key, entry, row and serialised judgement."""


class RecordPreparer:
    """Prepares records of this platform's own terminals, in the thread of whoever sent them.

    `look_again` asks the registry whether anything is missing here; False when it does not answer.
    """

    def __init__(self, digester: Digester, directory: Directory, look_again: Callable[[], bool]) -> None:
        self._digester = digester
        self._directory = directory
        self._look_again = look_again

    def prepare(
        self,
        contents: Iterable[bytes],
        now: datetime,
        actor: str,
        request_id: str,
        bounds: Bounds = UNBOUND,
    ) -> Prepared:
        """Check, resolve, judge and serialise serialised records; a refused one leaves its refusal.

        `bounds` are the sender's. One record is parsed at a time: what a message makes of few bytes is gone before the
        next one. Raises ServiceError MALFORMED_MESSAGE when one is no record at all.
        """
        reception = convert.Reception(timestamp(now))
        build = EntryBuilder(convert.WEIGHING_KIND, WEIGHING_SCHEMA, now, actor, request_id).build_bytes
        batch = PreparedBatch(now, actor, request_id)
        refusals: dict[int, Refused] = {}
        keys, entries, rows, judgements = batch.keys, batch.entries, batch.rows, batch.judgements
        prepare_one = self._prepare
        for place, content in enumerate(contents):
            try:
                key, entry, row, judgement = prepare_one(_parsed(content), reception, build, bounds)
            except ServiceError as refusal:
                # With its traceback it would keep the parsed record, which may be large.
                refusals[place] = Refused(_record_id(content), refusal.with_traceback(None))
                continue
            except DecodeError as error:
                raise not_records() from error
            keys.append(key)
            entries.append(entry)
            rows.append(row)
            judgements.append(judgement)
        batch.leaves = self._digester.leaves(entries)
        return Prepared(batch, refusals)

    def prepare_one(
        self, record: record_pb2.WeighingRecord, now: datetime, actor: str, request_id: str, bounds: Bounds = UNBOUND
    ) -> PreparedBatch:
        """Prepare one record that is parsed already. Raises ServiceError for its refusal."""
        size = record.ByteSize()
        if size > RECORD_BYTES_MAX:
            raise _too_large(size)
        build = EntryBuilder(convert.WEIGHING_KIND, WEIGHING_SCHEMA, now, actor, request_id).build_bytes
        key, entry, row, judgement = self._prepare(record, convert.Reception(timestamp(now)), build, bounds)
        leaves = self._digester.leaves([entry])
        return PreparedBatch(now, actor, request_id, [key], [entry], leaves, [row], [judgement])

    def _prepare(
        self,
        record: record_pb2.WeighingRecord,
        reception: convert.Reception,
        build: Callable[[bytes], bytes],
        bounds: Bounds,
    ) -> _PreparedRecord:
        unit = record.source_unit_id
        if bounds.source_unit_ids is not None and unit not in bounds.source_unit_ids:
            raise bounds.outside_units(unit)
        vehicle_message = record.vehicle
        vehicle_key = vehicle_message.SerializeToString()
        vehicle = convert.known_vehicle(vehicle_key)
        violations = validate_record(record, reception.receive_seconds, is_vehicle_checked=vehicle is not None)
        if violations:
            raise invalid([FieldViolation(f"record.{name}", description) for name, description in violations])
        record_id, event = record.record_id, record.event
        weigh_time = record.weigh_time
        seconds, nanos = weigh_time.seconds, weigh_time.nanos
        site = self._site(unit, record.weighing_point_id, record.scale_id, day_number(seconds), reception)
        if bounds.division_code:
            bounds.check_division(unit, site.division_code)
        gross = record.gross_weight_kg
        if vehicle is None:
            vehicle = convert.read_vehicle(vehicle_message, vehicle_key)
        judgement = judge(
            site.rules,
            vehicle.facts,
            gross,
            site.scale_kind,
            event,
            vehicle.registered_mass_kg,
            record.transport_permit.permitted_mass_kg if record.HasField("transport_permit") else None,
            vehicle.axles,
        )
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
        payload = reception.weighing_bytes(content, judgement_bytes, site.division_code, plate, flags)
        return (unit, record_id), build(payload), row, judgement_bytes

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
                # As in `prepare`: a traceback would keep the parsed record.
            ) from refusal.with_traceback(None)


def _parsed(content: bytes) -> record_pb2.WeighingRecord:
    if len(content) > RECORD_BYTES_MAX:
        # Not parsed: a megabyte of empty axles would take twenty.
        raise _too_large(len(content))
    return record_pb2.WeighingRecord.FromString(content)


def records_of(content: bytes) -> list[bytes]:
    """Return the serialised records of a batch request, not more than one beyond the limit.

    Raises wire.MalformedMessage.
    """
    return wire.repeated(content, _RECORDS_FIELD, BATCH_RECORDS_MAX)


def not_records() -> ServiceError:
    """Make the refusal of bytes that are no batch of records."""
    return ServiceError(
        Reason.MALFORMED_MESSAGE,
        "the message is not a batch of weighing records: check that both sides use the same proto",
        message_zh="消息不是称重记录批次，请检查双方使用的 proto 是否一致",
    )


def _record_id(content: bytes) -> str:
    """Return the id of a record that is refused, as it was sent; without parsing one that is too large."""
    try:
        found = wire.repeated(content, _RECORD_ID_FIELD, RECORD_BYTES_MAX)
    except wire.MalformedMessage:
        return ""
    # The last one counts, as when parsed.
    return found[-1].decode(errors="replace") if found else ""


def _too_large(actual: int) -> ServiceError:
    # Refused here, alone: in the transaction it would take everybody else's records with it.
    return ServiceError(
        Reason.ENTRY_TOO_LARGE,
        f"the record has {actual} bytes, more than {RECORD_BYTES_MAX}",
        message_zh=f"记录有 {actual} 字节，超过上限 {RECORD_BYTES_MAX} 字节",
        metadata={"limit": str(RECORD_BYTES_MAX), "actual": str(actual)},
    )
