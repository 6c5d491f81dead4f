"""Prepares the records of a batch request: in a process beside this one when that is worth the way, or else here."""

from collections.abc import Sequence

from services.common import wire
from services.common.clock import Clock
from services.common.errors import FieldViolation, ServiceError, invalid
from services.common.reasons import Reason
from services.weighing.bounds import UNBOUND, Bounds
from services.weighing.preparing import (
    BATCH_RECORDS_MAX,
    Prepared,
    PreparedBatch,
    RecordPreparer,
    not_records,
    records_of,
)
from services.weighing.preparing_process import BATCH_BYTES_MIN, PreparingProcess
from zhichao.weighing.v1 import record_pb2


class BatchPreparer:
    """Prepares requests of this platform's own terminals.

    Batch requests come as they arrived, serialised; a message with field 1 as its records and nothing else.
    """

    def __init__(self, preparer: RecordPreparer, processes: Sequence[PreparingProcess], clock: Clock) -> None:
        self._preparer = preparer
        self._processes = processes
        self._clock = clock

    def prepare_one(
        self, record: record_pb2.WeighingRecord, actor: str, request_id: str, bounds: Bounds = UNBOUND
    ) -> PreparedBatch:
        """Prepare one record; `bounds` are the sender's. Raises ServiceError for its refusal."""
        return self._preparer.prepare_one(record, self._clock.now(), actor, request_id, bounds)

    def prepare(self, content: bytes, actor: str, request_id: str, bounds: Bounds = UNBOUND) -> Prepared:
        """Prepare the records of a batch request; `bounds` are the sender's.

        Raises ServiceError BATCH_TOO_LARGE, INVALID_ARGUMENT for no records, MALFORMED_MESSAGE for bytes that are no
        such request.
        """
        now = self._clock.now()
        # Where divisions lie is known here only; people who send backlogs for a part of a platform are few.
        if len(content) >= BATCH_BYTES_MIN and not bounds.division_code:
            for process in self._processes:
                found = process.prepare(content, now, actor, request_id, bounds.source_unit_ids)
                if found is not None:
                    prepared, places = found
                    return self._look_again(prepared, content, places, bounds) if places else prepared
        return self._preparer.prepare(_records(content), now, actor, request_id, bounds)

    def _look_again(self, prepared: Prepared, content: bytes, places: Sequence[int], bounds: Bounds) -> Prepared:
        """Look here at records that are not fit elsewhere: only here the registry can be asked what was missing."""
        records = _records(content)
        batch, refusals = prepared
        again = self._preparer.prepare(
            [records[place] for place in places], batch.receive_time, batch.actor, batch.request_id, bounds
        )
        fit = iter(zip(*again.batch.columns(), strict=True))
        for number, place in enumerate(places):
            if number in again.refusals:
                refusals[place] = again.refusals[number]
                continue
            for column, value in zip(batch.columns(), next(fit), strict=True):
                column.insert(place - len(refusals), value)
        return prepared


def _records(content: bytes) -> Sequence[bytes]:
    try:
        records = records_of(content)
    except wire.MalformedMessage as error:
        raise not_records() from error
    if len(records) > BATCH_RECORDS_MAX:
        # Counted no further: a message can hold millions.
        raise ServiceError(
            Reason.BATCH_TOO_LARGE,
            f"a message holds 1 to {BATCH_RECORDS_MAX} records, this one has more: split it",
            message_zh=f"每条消息最多 {BATCH_RECORDS_MAX} 条记录，请拆分后重发",
            metadata={"limit": str(BATCH_RECORDS_MAX), "actual": str(len(records))},
        )
    if not records:
        raise invalid([FieldViolation("records", "is empty; send at least one record")])
    return records
