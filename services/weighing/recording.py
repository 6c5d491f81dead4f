"""Recording prepared batches: decides what is new, held or conflicting, and commits in groups, one plan ahead of the
database.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, NamedTuple, TypeVar, overload

import structlog

from services.common.database import Engine, KeptConnection, RawConnection, raw_connection, translate_errors
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.journal.entries import EntryBuilder, NewEntry, parse, timestamp
from services.journal.log_writer import LogWriter, PlannedAppend
from services.journal.store import LogHead
from services.journal.store.lone import can_append_one
from services.weighing import convert
from services.weighing.preparing import PreparedBatch
from services.weighing.rows import PackedRow, RecordKey
from services.weighing.store import weighings as store
from services.weighing.store.lone import record_one
from zhichao.weighing.v1 import weighing_pb2

CONFLICT_SCHEMA: Final = 1
"""Version of what a `WeighingConflict` entry means."""

CONFLICTS_PER_RECORD_MAX: Final = 8
"""Conflicting submissions kept under one record id: enough to show what was tried, too few to fill a disk with."""

T = TypeVar("T")

_log = structlog.get_logger()


class Recorded(NamedTuple):
    """A record that is durable: its place, leaf digest and serialised judgement. A tuple, because it is made
    fastest.
    """

    sequence: int
    leaf: bytes
    judgement: bytes
    is_duplicate: bool


Outcome = Recorded | ServiceError


class NewlyRecorded(Sequence[Outcome]):
    """The outcomes of a batch whose records are all new, made one by one only for those who ask for one."""

    def __init__(self, first_sequence: int, batch: PreparedBatch) -> None:
        self.first_sequence = first_sequence
        self.leaves = batch.leaves
        self.judgements = batch.judgements

    def __len__(self) -> int:
        return len(self.leaves)

    @overload
    def __getitem__(self, index: int) -> Outcome: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Outcome]: ...
    def __getitem__(self, index: int | slice) -> Outcome | Sequence[Outcome]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        return Recorded(self.first_sequence + place, self.leaves[place], self.judgements[place], is_duplicate=False)


@dataclass(frozen=True, slots=True)
class _Item:
    """One record of a batch, for those cases in which records are looked at one by one."""

    batch: PreparedBatch
    place: int

    @property
    def key(self) -> RecordKey:
        return self.batch.keys[self.place]

    @property
    def record(self) -> convert.WeighingRecord:
        return _weighing(self.batch.entries[self.place]).record


@dataclass(slots=True)
class RecordPlan:
    """What one transaction will write, decided against a head that may itself still be on its way."""

    batches: Sequence[PreparedBatch]
    append: PlannedAppend
    rows: store.PackedWeighings | None
    fresh: Mapping[RecordKey, int]
    """Sequences of the records that become held."""
    conflicts: list[tuple[int, _Item]]
    conflicting: frozenset[RecordKey]
    results: list[Sequence[Outcome]]
    is_done: bool = False
    is_guess: bool = False
    """Whether nobody looked yet if the record is held; the statement that records it does."""

    def added(self, sequence: int) -> tuple[bytes, bytes]:
        """Return the entry and the leaf that this plan adds at a sequence."""
        packed = self.append.packed
        place = sequence - packed.first_sequence
        return packed.entries[place], packed.leaves[place]


class RecordCommitter:
    """Records in two steps for `GroupCommit`: `plan` beside the running transaction, `commit` in the next one.

    A plan holds only after the head that it was made for. `commit` locks the head and compares: when another replica
    wrote meanwhile, or the plan before failed, it decides anew under the lock. So nothing is recorded twice, whatever
    overtakes what.
    """

    def __init__(self, engine: Engine, writer: LogWriter) -> None:
        self._engine = engine
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._kept = KeptConnection(engine)
        self._writer = writer
        self._planning = threading.Lock()
        self._pending: list[RecordPlan] = []
        self._last_head: LogHead | None = None

    def close(self) -> None:
        """Give up the connection that is kept for lone records."""
        self._kept.close()

    def plan(self, batches: Sequence[PreparedBatch]) -> RecordPlan:
        """Decide about records against what is held and what is under way. Raises ServiceError when the database is
        away.
        """
        with self._planning:
            self._pending = [plan for plan in self._pending if not plan.is_done]
            if len(batches) == len(batches[0]) == 1 and not self._pending and self._last_head is not None:
                plan = self._guess(batches[0], self._last_head)
                self._pending.append(plan)
                return plan
        # Each look-up is a statement of its own: what counts is compared under the lock, and a lone record is spared
        # the round trips of a transaction.
        with self._planning, translate_errors(), self._autocommit.connect() as pooled:
            connection = raw_connection(pooled)
            # Taken before the first statement: a plan that is done by now is visible to it.
            self._pending = [plan for plan in self._pending if not plan.is_done]
            base = self._pending[-1].append.growth.head if self._pending else self._last_head
            if base is None:
                base = self._writer.read(connection)
            plan = self._decide(connection, batches, base, self._pending)
            self._pending.append(plan)
            return plan

    def _guess(self, batch: PreparedBatch, base: LogHead) -> RecordPlan:
        """Plan a lone record without asking the database: nearly always it is new and the head is where we left it."""
        plan = self._all_new([batch], base, batch.keys, dict.fromkeys(batch.keys, base.size + 1))
        plan.is_guess = True
        return plan

    def commit(self, plan: RecordPlan) -> list[Sequence[Outcome]]:
        """Record in one transaction and return, for each batch, one outcome per record in order. Raises ServiceError.

        A record that is held gets the first answer again; one with other content under a held id is journalled as a
        conflict and refused. Both also within the batch: the first of two counts as held.
        """
        try:
            with translate_errors():
                done = plan if self._record_one(plan) else self._record_all(plan)
            self._last_head = done.append.growth.head
        except BaseException:
            self._last_head = None
            raise
        finally:
            plan.is_done = True
        return done.results

    def _record_one(self, plan: RecordPlan) -> bool:
        """Record a lone record with one statement. False when there is more to it, and nothing is written then."""
        growth, packed = plan.append.growth, plan.append.packed
        if len(packed.entries) != 1 or not plan.fresh or not can_append_one(growth):
            return False
        if sum(map(len, plan.batches)) != 1:
            return False
        entry = NewEntry(packed.entries[0], packed.leaves[0])
        with self._kept.use() as connection:
            return record_one(connection, plan.append.base, growth, entry, plan.batches[0].rows[0])

    def _record_all(self, plan: RecordPlan) -> RecordPlan:
        """Record in a transaction that holds the head from its first statement."""
        with self._engine.begin() as pooled:
            return self._write(raw_connection(pooled), plan)

    def _write(self, connection: RawConnection, plan: RecordPlan) -> RecordPlan:
        head = self._writer.lock(connection)
        base = plan.append.base
        if plan.is_guess:
            plan = self._decide(connection, plan.batches, head, ())
        elif (head.size, head.root) != (base.size, base.root):
            _log.info("record_plan_overtaken", planned_size=base.size, size=head.size)
            plan = self._decide(connection, plan.batches, head, ())
        self._writer.write(connection, plan.append)
        if plan.rows is not None:
            store.insert_weighings(connection, plan.rows)
        if plan.conflicts:
            store.insert_conflicts(
                connection,
                self._writer.origin,
                [(sequence, *item.key, item.batch.receive_time) for sequence, item in plan.conflicts],
            )
        return plan

    def _decide(
        self,
        connection: RawConnection,
        batches: Sequence[PreparedBatch],
        base: LogHead,
        pending: Sequence[RecordPlan],
    ) -> RecordPlan:
        keys = _joined([batch.keys for batch in batches])
        held = store.find_places(connection, self._writer.origin, keys)
        next_sequence = base.size + 1
        fresh = dict(zip(keys, range(next_sequence, next_sequence + len(keys)), strict=True))
        if not held and len(fresh) == len(keys) and all(plan.fresh.keys().isdisjoint(fresh) for plan in pending):
            # Nearly every batch: all is new, and nothing but the next sequences remains to be decided.
            return self._all_new(batches, base, keys, fresh)
        return self._decide_singly(connection, batches, base, pending, held)

    def _all_new(
        self,
        batches: Sequence[PreparedBatch],
        base: LogHead,
        keys: Sequence[RecordKey],
        fresh: Mapping[RecordKey, int],
    ) -> RecordPlan:
        sequence = base.size + 1
        entries = _joined([batch.entries for batch in batches])
        leaves = _joined([batch.leaves for batch in batches])
        rows = _joined([batch.rows for batch in batches])
        packed = store.pack_weighings(self._writer.origin, range(sequence, sequence + len(keys)), rows)
        results: list[Sequence[Outcome]] = []
        for batch in batches:
            results.append(NewlyRecorded(sequence, batch))
            sequence += len(batch)
        append = self._writer.plan(base, entries, leaves, batches[-1].receive_time)
        return RecordPlan(batches, append, packed, fresh, [], frozenset(), results)

    def _decide_singly(
        self,
        connection: RawConnection,
        batches: Sequence[PreparedBatch],
        base: LogHead,
        pending: Sequence[RecordPlan],
        held: dict[RecordKey, int],
    ) -> RecordPlan:
        """Decide record by record, because some are held, on their way, or twice in the batch."""
        origin = self._writer.origin
        # All at once: a backlog that is sent again is nothing but records that are held.
        entries_held = store.read_entries(connection, origin, list(held.values())) if held else {}
        under_way = {key: (plan, sequence) for plan in pending for key, sequence in plan.fresh.items()}
        known: dict[RecordKey, list[convert.WeighingRecord]] = {}
        next_sequence = base.size + 1
        entries: list[bytes] = []
        leaves: list[bytes] = []
        sequences: list[int] = []
        rows: list[PackedRow] = []
        fresh: dict[RecordKey, int] = {}
        conflicts: list[tuple[int, _Item]] = []
        results: list[Sequence[Outcome]] = []
        for batch in batches:
            outcomes: list[Outcome] = []
            results.append(outcomes)
            for place, key in enumerate(batch.keys):
                sequence = next_sequence + len(entries)
                if key in fresh:
                    first_sequence = fresh[key]
                    first = entries[first_sequence - next_sequence], leaves[first_sequence - next_sequence]
                elif key in under_way:
                    plan, first_sequence = under_way[key]
                    first = plan.added(first_sequence)
                elif key in held:
                    first_sequence = held[key]
                    first = entries_held[first_sequence]
                else:
                    entries.append(batch.entries[place])
                    leaves.append(batch.leaves[place])
                    sequences.append(sequence)
                    rows.append(batch.rows[place])
                    fresh[key] = sequence
                    outcomes.append(Recorded(sequence, batch.leaves[place], batch.judgements[place], False))
                    continue
                item = _Item(batch, place)
                record = item.record
                weighing = _weighing(first[0])
                if convert.is_same_content(weighing.record, record):
                    judgement = weighing.judgement.SerializeToString()
                    outcomes.append(Recorded(first_sequence, first[1], judgement, is_duplicate=True))
                    continue
                if key not in known:
                    known[key] = self._known_conflicts(connection, key, pending)
                outcome, conflict = self._judge_conflict(item, record, first_sequence, known[key])
                outcomes.append(outcome)
                if conflict is not None:
                    known[key].append(record)
                    conflicts.append((sequence, item))
                    entries.append(conflict.entry)
                    leaves.append(conflict.leaf)
        append = self._writer.plan(base, entries, leaves, batches[-1].receive_time)
        packed = store.pack_weighings(origin, sequences, rows)
        return RecordPlan(batches, append, packed, fresh, conflicts, frozenset(known), results)

    def _known_conflicts(
        self, connection: RawConnection, key: RecordKey, pending: Sequence[RecordPlan]
    ) -> list[convert.WeighingRecord]:
        """Return the conflicting submissions that are kept under a record id, or are on their way."""
        origin = self._writer.origin
        places = store.find_conflicts(connection, origin, key)
        entries = store.read_entries(connection, origin, places) if places else {}
        contents = (_payload(entries[place][0]) for place in places)
        known = [weighing_pb2.WeighingConflict.FromString(content).record for content in contents]
        under_way = (one for plan in pending if key in plan.conflicting for one in plan.conflicts)
        return known + [item.record for sequence, item in under_way if item.key == key and sequence not in places]

    def _judge_conflict(
        self,
        item: _Item,
        record: convert.WeighingRecord,
        first_sequence: int,
        known: Sequence[convert.WeighingRecord],
    ) -> tuple[ServiceError, NewEntry | None]:
        """Return the refusal of a conflicting record, and the entry that keeps it unless it is kept already."""
        record_id, batch = record.record_id, item.batch
        if any(convert.is_same_content(one, record) for one in known):
            return _conflict(record_id, self._writer.origin, first_sequence), None
        if len(known) >= CONFLICTS_PER_RECORD_MAX:
            return _too_many_conflicts(record_id), None
        conflict = weighing_pb2.WeighingConflict(
            record=record, first_sequence=first_sequence, receive_time=timestamp(batch.receive_time)
        )
        builder = EntryBuilder(
            convert.CONFLICT_KIND, CONFLICT_SCHEMA, batch.receive_time, batch.actor, batch.request_id
        )
        entry = builder.build(conflict.SerializeToString(), self._writer.digester)
        return _conflict(record_id, self._writer.origin, first_sequence), entry


def _joined(columns: Sequence[list[T]]) -> list[T]:
    """Return columns as one; a lone one as it is."""
    return columns[0] if len(columns) == 1 else list(chain.from_iterable(columns))


def _weighing(entry: bytes) -> weighing_pb2.Weighing:
    return weighing_pb2.Weighing.FromString(_payload(entry))


def _payload(entry: bytes) -> bytes:
    parsed = parse(entry)
    if parsed is None:
        raise LookupError("an entry of the own log is not an Entry")
    return parsed.payload


def _conflict(record_id: str, origin: str, first_sequence: int) -> ServiceError:
    return ServiceError(
        Reason.RECORD_CONFLICT,
        f"record {record_id!r} is held with other content as entry {first_sequence} of {origin}; "
        "the first is kept, this one is kept as a conflicting submission",
        message_zh=f"记录号 {record_id!r} 已存在且内容不同（{origin} 第 {first_sequence} 条），"
        "保留首次记录，本次作为冲突留存",
        metadata={"record_id": record_id, "origin": origin, "sequence": str(first_sequence)},
    )


def _too_many_conflicts(record_id: str) -> ServiceError:
    return ServiceError(
        Reason.TOO_MANY_CONFLICTS,
        f"{CONFLICTS_PER_RECORD_MAX} conflicting submissions are kept under record {record_id!r}; this one is not kept",
        message_zh=f"记录号 {record_id!r} 的冲突提交已达 {CONFLICTS_PER_RECORD_MAX} 条，本次未留存",
        metadata={"record_id": record_id, "limit": str(CONFLICTS_PER_RECORD_MAX)},
    )
