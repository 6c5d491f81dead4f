"""Recording prepared records: decides what is new, held or conflicting, and commits in groups, one plan ahead of the
database.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import structlog

from services.common.database import Engine, RawConnection, raw_connection, translate_errors
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.journal.entries import EntryBuilder, NewEntry, parse, timestamp
from services.journal.log_writer import LogWriter, PlannedAppend
from services.journal.store import LogHead
from services.journal.store.lone import can_append_one
from services.weighing import convert
from services.weighing.preparing import PreparedRecord
from services.weighing.rows import PackedRow
from services.weighing.store import weighings as store
from services.weighing.store.lone import record_one
from services.weighing.store.weighings import RecordKey
from zhichao.weighing.v1 import weighing_pb2

CONFLICT_SCHEMA: Final = 1
"""Version of what a `WeighingConflict` entry means."""

CONFLICTS_PER_RECORD_MAX: Final = 8
"""Conflicting submissions kept under one record id: enough to show what was tried, too few to fill a disk with."""

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


@dataclass(slots=True)
class RecordPlan:
    """What one transaction will write, decided against a head that may itself still be on its way."""

    items: Sequence[PreparedRecord]
    append: PlannedAppend
    rows: store.PackedWeighings | None
    fresh: dict[RecordKey, tuple[int, PreparedRecord]]
    conflicts: list[tuple[int, PreparedRecord]]
    conflicting: frozenset[RecordKey]
    outcomes: list[Outcome]
    is_done: bool = False
    is_guess: bool = False
    """Whether nobody looked yet if the record is held; the statement that records it does."""


class RecordCommitter:
    """Records in two steps for `GroupCommit`: `plan` beside the running transaction, `commit` in the next one.

    A plan holds only after the head that it was made for. `commit` locks the head and compares: when another replica
    wrote
    meanwhile, or the plan before failed, it decides anew under the lock. So nothing is recorded twice, whatever
    overtakes what.
    """

    def __init__(self, engine: Engine, writer: LogWriter) -> None:
        self._engine = engine
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._writer = writer
        self._planning = threading.Lock()
        self._pending: list[RecordPlan] = []
        self._last_head: LogHead | None = None

    def plan(self, items: Sequence[PreparedRecord]) -> RecordPlan:
        """Decide about records against what is held and what is under way. Raises ServiceError when the database is
        away.
        """
        with self._planning:
            self._pending = [plan for plan in self._pending if not plan.is_done]
            if len(items) == 1 and not self._pending and self._last_head is not None:
                plan = self._guess(items, self._last_head)
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
            plan = self._decide(connection, items, base, self._pending)
            self._pending.append(plan)
            return plan

    def _guess(self, items: Sequence[PreparedRecord], base: LogHead) -> RecordPlan:
        """Plan a lone record without asking the database: nearly always it is new and the head is where we left it."""
        (item,) = items
        sequence = base.size + 1
        append = self._writer.plan(base, [item.entry.entry], [item.entry.leaf], item.receive_time)
        rows = store.pack_weighings(self._writer.origin, [sequence], [item.row])
        outcome = Recorded(sequence, item.entry.leaf, item.judgement, is_duplicate=False)
        return RecordPlan(items, append, rows, {item.key: (sequence, item)}, [], frozenset(), [outcome], is_guess=True)

    def commit(self, plan: RecordPlan) -> list[Outcome]:
        """Record in one transaction and return one outcome per record, in order. Raises ServiceError.

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
        return done.outcomes

    def _record_one(self, plan: RecordPlan) -> bool:
        """Record a lone record with one statement. False when there is more to it, and nothing is written then."""
        growth = plan.append.growth
        if len(plan.items) != 1 or not plan.fresh or not can_append_one(growth):
            return False
        (item,) = plan.items
        with self._autocommit.connect() as pooled:
            return record_one(raw_connection(pooled), plan.append.base, growth, item.entry, item.row)

    def _record_all(self, plan: RecordPlan) -> RecordPlan:
        """Record in a transaction that holds the head from its first statement."""
        with self._engine.begin() as pooled:
            return self._write(raw_connection(pooled), plan)

    def _write(self, connection: RawConnection, plan: RecordPlan) -> RecordPlan:
        head = self._writer.lock(connection)
        base = plan.append.base
        if plan.is_guess:
            plan = self._decide(connection, plan.items, head, ())
        elif (head.size, head.root) != (base.size, base.root):
            _log.info("record_plan_overtaken", planned_size=base.size, size=head.size)
            plan = self._decide(connection, plan.items, head, ())
        self._writer.write(connection, plan.append)
        if plan.rows is not None:
            store.insert_weighings(connection, plan.rows)
        if plan.conflicts:
            store.insert_conflicts(
                connection,
                self._writer.origin,
                [(sequence, *item.key, item.receive_time) for sequence, item in plan.conflicts],
            )
        return plan

    def _decide(
        self,
        connection: RawConnection,
        items: Sequence[PreparedRecord],
        base: LogHead,
        pending: Sequence[RecordPlan],
    ) -> RecordPlan:
        origin = self._writer.origin
        keys = [item.key for item in items]
        held = store.find_places(connection, origin, keys)
        next_sequence = base.size + 1
        fresh = dict(zip(keys, enumerate(items, next_sequence), strict=True))
        if not held and len(fresh) == len(keys) and all(plan.fresh.keys().isdisjoint(fresh) for plan in pending):
            # Nearly every batch: all is new, and nothing but the next sequences remains to be decided.
            added = [item.entry for item in items]
            outcomes: list[Outcome] = [
                Recorded(sequence, item.entry.leaf, item.judgement, False) for sequence, item in fresh.values()
            ]
            rows = store.pack_weighings(
                origin, range(next_sequence, next_sequence + len(items)), [i.row for i in items]
            )
            append = self._writer.plan(base, [e.entry for e in added], [e.leaf for e in added], items[-1].receive_time)
            return RecordPlan(items, append, rows, fresh, [], frozenset(), outcomes)
        return self._decide_singly(connection, items, base, pending, held)

    def _decide_singly(
        self,
        connection: RawConnection,
        items: Sequence[PreparedRecord],
        base: LogHead,
        pending: Sequence[RecordPlan],
        held: dict[RecordKey, int],
    ) -> RecordPlan:
        """Decide record by record, because some are held, on their way, or twice in the batch."""
        origin = self._writer.origin
        # All at once: a backlog that is sent again is nothing but records that are held.
        entries = store.read_entries(connection, origin, list(held.values())) if held else {}
        under_way = {key: place for plan in pending for key, place in plan.fresh.items()}
        known: dict[RecordKey, list[convert.WeighingRecord]] = {}
        next_sequence = base.size + 1
        added: list[NewEntry] = []
        sequences: list[int] = []
        rows: list[PackedRow] = []
        fresh: dict[RecordKey, tuple[int, PreparedRecord]] = {}
        conflicts: list[tuple[int, PreparedRecord]] = []
        outcomes: list[Outcome] = []
        for item in items:
            key = item.key
            first = fresh.get(key) or under_way.get(key)
            if first is None and key not in held:
                sequence = next_sequence + len(added)
                entry = item.entry
                added.append(entry)
                sequences.append(sequence)
                rows.append(item.row)
                fresh[key] = (sequence, item)
                outcomes.append(Recorded(sequence, entry.leaf, item.judgement, False))
                continue
            if first is not None:
                first_sequence, first_item = first
                answer = Recorded(first_sequence, first_item.entry.leaf, first_item.judgement, is_duplicate=True)
                is_same = convert.is_same_content(first_item.record, item.record)
            else:
                first_sequence = held[key]
                answer, is_same = _held_answer(first_sequence, *entries[first_sequence], item)
            if is_same:
                outcomes.append(answer)
                continue
            if key not in known:
                known[key] = self._known_conflicts(connection, key, pending)
            outcome, conflict = self._judge_conflict(item, first_sequence, known[key])
            outcomes.append(outcome)
            if conflict is not None:
                known[key].append(item.record)
                conflicts.append((next_sequence + len(added), item))
                added.append(conflict)
        append = self._writer.plan(base, [e.entry for e in added], [e.leaf for e in added], items[-1].receive_time)
        packed = store.pack_weighings(origin, sequences, rows)
        return RecordPlan(items, append, packed, fresh, conflicts, frozenset(known), outcomes)

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
        self, item: PreparedRecord, first_sequence: int, known: Sequence[convert.WeighingRecord]
    ) -> tuple[ServiceError, NewEntry | None]:
        """Return the refusal of a conflicting record, and the entry that keeps it unless it is kept already."""
        if any(convert.is_same_content(one, item.record) for one in known):
            return _conflict(item, self._writer.origin, first_sequence), None
        if len(known) >= CONFLICTS_PER_RECORD_MAX:
            return _too_many_conflicts(item), None
        conflict = weighing_pb2.WeighingConflict(
            record=item.record, first_sequence=first_sequence, receive_time=timestamp(item.receive_time)
        )
        builder = EntryBuilder(convert.CONFLICT_KIND, CONFLICT_SCHEMA, item.receive_time, item.actor, item.request_id)
        entry = builder.build(conflict.SerializeToString(), self._writer.digester)
        return _conflict(item, self._writer.origin, first_sequence), entry


def _held_answer(sequence: int, entry: bytes, leaf: bytes, item: PreparedRecord) -> tuple[Recorded, bool]:
    """Return the first answer of a record that is held, and whether it has the same content."""
    weighing = weighing_pb2.Weighing.FromString(_payload(entry))
    answer = Recorded(sequence, leaf, weighing.judgement.SerializeToString(), is_duplicate=True)
    return answer, convert.is_same_content(weighing.record, item.record)


def _payload(entry: bytes) -> bytes:
    parsed = parse(entry)
    if parsed is None:
        raise LookupError("an entry of the own log is not an Entry")
    return parsed.payload


def _conflict(item: PreparedRecord, origin: str, first_sequence: int) -> ServiceError:
    record_id = item.record.record_id
    return ServiceError(
        Reason.RECORD_CONFLICT,
        f"record {record_id!r} is held with other content as entry {first_sequence} of {origin}; "
        "the first is kept, this one is kept as a conflicting submission",
        message_zh=f"记录号 {record_id!r} 已存在且内容不同（{origin} 第 {first_sequence} 条），"
        "保留首次记录，本次作为冲突留存",
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
