"""Prepares the records of a batch request: in a process beside this one when that is worth the way, or else here."""

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from services.common.clock import Clock
from services.common.errors import FieldViolation, ServiceError, invalid
from services.common.reasons import Reason
from services.weighing.preparing import BATCH_RECORDS_MAX, Prepared, RecordPreparer
from services.weighing.preparing_process import BATCH_BYTES_MIN, PreparingProcess
from zhichao.weighing.v1 import record_pb2, service_pb2


class BatchPreparer:
    """Prepares requests of this platform's own terminals.

    Batch requests come as they arrived, serialised; a message with field 1 as its records and nothing else.
    """

    def __init__(self, preparer: RecordPreparer, processes: Sequence[PreparingProcess], clock: Clock) -> None:
        self._preparer = preparer
        self._processes = processes
        self._clock = clock

    def prepare_one(
        self, record: record_pb2.WeighingRecord, actor: str, request_id: str, units: frozenset[str] | None = None
    ) -> Prepared:
        """Prepare one record; `units` are those that the sender is bound to."""
        return self._preparer.prepare([record], self._clock.now(), actor, request_id, units)

    def prepare(self, content: bytes, actor: str, request_id: str, units: frozenset[str] | None = None) -> Prepared:
        """Prepare the records of a batch request; `units` are those that the sender is bound to.

        Raises ServiceError BATCH_TOO_LARGE, and INVALID_ARGUMENT for no records or bytes that are no such request.
        """
        now = self._clock.now()
        if len(content) >= BATCH_BYTES_MIN:
            for process in self._processes:
                found = process.prepare(content, now, actor, request_id, units)
                if found is not None:
                    prepared, places = found
                    return self._look_again(prepared, content, places, units) if places else prepared
        return self._preparer.prepare(_records(content), now, actor, request_id, units)

    def _look_again(
        self, prepared: Prepared, content: bytes, places: Sequence[int], units: frozenset[str] | None
    ) -> Prepared:
        """Look here at records that are not fit elsewhere: only here the registry can be asked what was missing."""
        records = _records(content)
        batch, refusals = prepared
        again = self._preparer.prepare(
            [records[place] for place in places], batch.receive_time, batch.actor, batch.request_id, units
        )
        fit = iter(zip(*again.batch.columns(), strict=True))
        for number, place in enumerate(places):
            if number in again.refusals:
                refusals[place] = again.refusals[number]
                continue
            for column, value in zip(batch.columns(), next(fit), strict=True):
                column.insert(place - len(refusals), value)
        return prepared


def _records(content: bytes) -> Sequence[record_pb2.WeighingRecord]:
    try:
        records = service_pb2.RecordWeighingsRequest.FromString(content).records
    except DecodeError as error:
        raise ServiceError(
            Reason.INVALID_ARGUMENT,
            "the message is not a batch of weighing records: check that both sides use the same proto",
            message_zh="消息不是称重记录批次，请检查双方使用的 proto 是否一致",
        ) from error
    if len(records) > BATCH_RECORDS_MAX:
        raise ServiceError(
            Reason.BATCH_TOO_LARGE,
            f"a message holds 1 to {BATCH_RECORDS_MAX} records, this one has {len(records)}: split it",
            message_zh=f"每条消息最多 {BATCH_RECORDS_MAX} 条记录，实际 {len(records)} 条，请拆分后重发",
            metadata={"limit": str(BATCH_RECORDS_MAX), "actual": str(len(records))},
        )
    if not records:
        raise invalid([FieldViolation("records", "is empty; send at least one record")])
    return records
