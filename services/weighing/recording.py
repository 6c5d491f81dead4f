"""Recording: from records as sent to durable weighings. Prepared in the caller's thread, committed in groups by one thread."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from zhichao.weighing.v1 import record_pb2, weighing_pb2

from services.common.clock import Clock
from services.common.database import Engine, RawConnection, raw_connection, translate_errors
from services.common.errors import FieldViolation, ServiceError, invalid
from services.common.reasons import Reason
from services.journal.entries import EntryBuilder, NewEntry, parse, timestamp
from services.journal.log_writer import LogWriter
from services.weighing import convert
from services.weighing.directory import Directory, Site
from services.weighing.plates import normalize_plate
from services.weighing.quality import find_quality_flags
from services.weighing.rows import Totals, WeighingRow, day_number, pack_row, postgres_microseconds
from services.weighing.store import weighings as store
from services.weighing.store.weighings import RecordKey
from services.weighing.validation import validate_record
from services.weighing.verdict import Judgement, Verdict, judge

WEIGHING_SCHEMA: Final = 1
"""Version of what a `Weighing` entry means; raised when an older release would misread it."""

CONFLICT_SCHEMA: Final = 1
"""Version of what a `WeighingConflict` entry means."""

CONFLICTS_PER_RECORD_MAX: Final = 8
"""Conflicting submissions kept under one record id: enough to show what was tried, too few to fill a disk with."""

NO_RULE_SET_IN_FORCE: Final = Judgement(Verdict.NOT_JUDGED, reasons=("no-rule-set-in-force",))
"""Judgement of a weighing from before the rule set's first version: kept, because it is evidence all the same."""


@dataclass(slots=True)
class PreparedRecord:
    """A record with everything made that needs no database."""

    key: RecordKey
    record: record_pb2.WeighingRecord
    entry: NewEntry
    row: WeighingRow
    judgement: bytes
    receive_time: datetime
    actor: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """A record that is durable: its place, leaf digest and serialised judgement."""

    sequence: int
    leaf: bytes
    judgement: bytes
    is_duplicate: bool


Outcome = Recorded | ServiceError


class Recorder:
    """Records weighings of this platform's own terminals."""

    def __init__(
        self,
        engine: Engine,
        writer: LogWriter,
        directory: Directory,
        clock: Clock,
        announce: Callable[[str], None],
        look_again: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._directory = directory
        self._clock = clock
        self._announce = announce
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
        violations = validate_record(record, reception.receive_seconds)
        if violations:
            raise invalid([FieldViolation(f"record.{field}", description) for field, description in violations])
        unit, record_id, event = record.source_unit_id, record.record_id, record.event
        weigh_time = record.weigh_time
        seconds, nanos = weigh_time.seconds, weigh_time.nanos
        day = day_number(seconds)
        site = self._site(unit, record.weighing_point_id, record.scale_id, day)
        gross = record.gross_weight_kg
        vehicle = convert.read_vehicle(record.vehicle)
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
        payload = reception.weighing_bytes(
            record.SerializeToString(), judgement_bytes, site.division_code, plate, flags
        )
        verdict = int(judgement.verdict)
        row = pack_row(
            postgres_microseconds(seconds, nanos),
            reception.receive_microseconds,
            gross,
            verdict,
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
            builder.build(payload, self._writer.digester),
            WeighingRow(row, Totals(day, unit, verdict, bool(plate), gross)),
            judgement_bytes,
            now,
            actor,
            request_id,
        )

    def _site(self, unit: str, point: str, scale: str, day: int) -> Site:
        try:
            return self._directory.site(unit, point, scale, day)
        except ServiceError:
            # Perhaps it was registered a moment ago: look at the registry once before refusing.
            if not self._look_again():
                raise
            return self._directory.site(unit, point, scale, day)

    def _judge(
        self,
        record: record_pb2.WeighingRecord,
        site: Site,
        vehicle: convert.VehicleReading,
        gross: int,
        event: int,
    ) -> Judgement:
        if site.rules is None:
            return NO_RULE_SET_IN_FORCE
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

    def commit(self, items: Sequence[PreparedRecord]) -> list[Outcome]:
        """Record prepared records in one transaction and return one outcome each, in order. Raises ServiceError.

        A record that is held gets the first answer again; one with other content under a held id is journalled as a
        conflict and refused. Both also within the batch: the first of two counts as held.
        """
        with translate_errors(), self._engine.begin() as pooled:
            outcomes = self._commit(raw_connection(pooled), items)
        self._announce(self._writer.origin)
        return outcomes

    def _commit(self, connection: RawConnection, items: Sequence[PreparedRecord]) -> list[Outcome]:
        head = self._writer.lock(connection)
        origin = self._writer.origin
        held = store.find_places(connection, origin, [item.key for item in items])
        next_sequence = head.size + 1
        added: list[NewEntry] = []
        rows: list[tuple[int, WeighingRow]] = []
        conflicts: list[tuple[int, PreparedRecord]] = []
        in_batch: dict[RecordKey, tuple[int, PreparedRecord]] = {}
        outcomes: list[Outcome] = []
        for item in items:
            key = item.key
            if key in held or key in in_batch:
                outcome = self._answer_held(connection, item, held, in_batch, conflicts, next_sequence + len(added))
                if isinstance(outcome, NewEntry):
                    added.append(outcome)
                    conflicts.append((next_sequence + len(added) - 1, item))
                    outcomes.append(_conflict(item, origin, self._first_sequence(item, held, in_batch)))
                else:
                    outcomes.append(outcome)
                continue
            sequence = next_sequence + len(added)
            added.append(item.entry)
            rows.append((sequence, item.row))
            in_batch[key] = (sequence, item)
            outcomes.append(Recorded(sequence, item.entry.leaf, item.judgement, is_duplicate=False))
        if added:
            self._writer.append(connection, head, added, items[-1].receive_time)
            store.insert_weighings(connection, origin, rows)
        if conflicts:
            store.insert_conflicts(
                connection, origin, [(sequence, *item.key, item.receive_time) for sequence, item in conflicts]
            )
        return outcomes

    @staticmethod
    def _first_sequence(
        item: PreparedRecord, held: dict[RecordKey, int], in_batch: dict[RecordKey, tuple[int, PreparedRecord]]
    ) -> int:
        return held[item.key] if item.key in held else in_batch[item.key][0]

    def _answer_held(
        self,
        connection: RawConnection,
        item: PreparedRecord,
        held: dict[RecordKey, int],
        in_batch: dict[RecordKey, tuple[int, PreparedRecord]],
        conflicts: Sequence[tuple[int, PreparedRecord]],
        sequence: int,
    ) -> Outcome | NewEntry:
        """Return the first answer, or a refusal, or the entry of a conflict that must be added at this sequence."""
        key = item.key
        origin = self._writer.origin
        if key in in_batch:
            first_sequence, first = in_batch[key]
            if convert.is_same_content(first.record, item.record):
                return Recorded(first_sequence, first.entry.leaf, first.judgement, is_duplicate=True)
        else:
            first_sequence = held[key]
            entry, leaf = store.read_entry(connection, origin, first_sequence)
            weighing = _weighing(entry)
            if convert.is_same_content(weighing.record, item.record):
                return Recorded(first_sequence, leaf, weighing.judgement.SerializeToString(), is_duplicate=True)
        kept = [weighing_pb2.WeighingConflict.FromString(_payload(store.read_entry(connection, origin, place)[0])).record
                for place in store.find_conflicts(connection, origin, key)]  # fmt: skip
        kept += [other.record for _, other in conflicts if other.key == key]
        if any(convert.is_same_content(one, item.record) for one in kept):
            return _conflict(item, origin, first_sequence)
        if len(kept) >= CONFLICTS_PER_RECORD_MAX:
            return _too_many_conflicts(item)
        conflict = weighing_pb2.WeighingConflict(
            record=item.record, first_sequence=first_sequence, receive_time=timestamp(item.receive_time)
        )
        builder = EntryBuilder(
            convert.CONFLICT_KIND, CONFLICT_SCHEMA, item.receive_time, item.actor, item.request_id
        )
        return builder.build(conflict.SerializeToString(), self._writer.digester)


def _payload(entry: bytes) -> bytes:
    parsed = parse(entry)
    if parsed is None:
        raise LookupError("an entry of the own log is not an Entry")
    return parsed.payload


def _weighing(entry: bytes) -> weighing_pb2.Weighing:
    return weighing_pb2.Weighing.FromString(_payload(entry))


def _conflict(item: PreparedRecord, origin: str, first_sequence: int) -> ServiceError:
    record_id = item.record.record_id
    return ServiceError(
        Reason.RECORD_CONFLICT,
        f"record {record_id!r} is held with other content as entry {first_sequence} of {origin}; "
        "the first is kept, this one is kept as a conflicting submission",
        message_zh=f"记录号 {record_id!r} 已存在且内容不同（{origin} 第 {first_sequence} 条），保留首次记录，本次作为冲突留存",
        metadata={"record_id": record_id, "origin": origin, "sequence": str(first_sequence)},
    )


def _too_many_conflicts(item: PreparedRecord) -> ServiceError:
    record_id = item.record.record_id
    return ServiceError(
        Reason.TOO_MANY_CONFLICTS,
        f"{CONFLICTS_PER_RECORD_MAX} conflicting submissions are kept under record {record_id!r}; this one is not kept",
        message_zh=f"记录号 {record_id!r} 的冲突提交已达 {CONFLICTS_PER_RECORD_MAX} 条，本次未留存",
        metadata={"record_id": record_id, "limit": str(CONFLICTS_PER_RECORD_MAX)},
    )

