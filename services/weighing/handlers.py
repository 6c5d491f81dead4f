"""The use cases of the weighing service: recording, finding, watching, totals."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Final

from services.common.access.divisions import Divisions
from services.common.access.readable import readable_origin
from services.common.database import Engine, raw_connection, reading, translate_errors
from services.common.errors import FieldViolation, ServiceError, invalid
from services.common.paging import decode_token, encode_token, filter_digest, page_size
from services.common.reasons import Reason
from services.common.request import request_context
from services.common.tracing import CallTrace
from services.journal.group_commit import GroupCommit, Sequel
from services.journal.store import read_head
from services.journal.store.tail import Tail
from services.journal.tracing import committed
from services.weighing.batches import BatchPreparer
from services.weighing.bounds import Bounds
from services.weighing.preparing import Prepared, PreparedBatch
from services.weighing.recording import Outcome, Recorded, RecordPlan
from services.weighing.store import queries
from services.weighing.store.queries import DayTotalRow, HeldEntry, WeighingFilter
from zhichao.weighing.v1 import record_pb2

STREAM: Final = "weighing"
"""Stream of this service's journal."""

LIST_PAGE_SIZE_DEFAULT: Final = 50
"""Weighings in one answer when the caller names no number: a screen."""

TOTALS_PAGE_SIZE_DEFAULT: Final = 100
"""Totals and conflicts in one answer when the caller names no number: a county's units for a day."""

PAGE_SIZE_MAX: Final = 1_000
"""Items in one answer."""

WATCH_RECORDS_MAX: Final = 500
"""Entries looked at for one message of a watch."""

PAGE_BYTES_MAX: Final = 8 * 1024 * 1024
"""Bytes of entries in one answer: half of the message limit. Entries of other platforms may be larger than those
written here; a page of such ones has fewer."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class WeighingHandlers:
    """What WeighingService does."""

    def __init__(
        self,
        engine: Engine,
        origin: str,
        preparer: BatchPreparer,
        committer: GroupCommit[PreparedBatch, RecordPlan, Sequence[Outcome]],
        tail: Tail,
        divisions: Callable[[], Divisions],
    ) -> None:
        self._engine = engine
        self._divisions = divisions
        self._origin = origin
        self._preparer = preparer
        self._committer = committer
        self._tail = tail

    @property
    def origin(self) -> str:
        """Platform code of this platform."""
        return self._origin

    def record(self, record: record_pb2.WeighingRecord) -> Recorded:
        """Record one weighing. Raises ServiceError for a refusal."""
        request = request_context()
        sender = request.principal
        bounds = Bounds.of(sender, self._origin, self._divisions())
        batch = self._preparer.prepare_one(record, sender.name, request.request_id, bounds)
        began_ns = time.time_ns()
        (outcome,) = self._committer.run(batch)
        if isinstance(outcome, ServiceError):
            raise outcome
        if request.trace is not None:
            committed(request.trace, STREAM, self._origin, outcome.sequence, 1, began_ns)
        return outcome

    def begin_recording(
        self, content: bytes, sequel: Sequel | None = None
    ) -> tuple[Prepared, "Future[Sequence[Outcome]]"]:
        """Check and judge a serialised batch request now and commit it soon; not behind one of its sequel that failed.

        Returns what was found and a future with one outcome for each record that is fit, in order. Raises ServiceError
        BATCH_TOO_LARGE, INVALID_ARGUMENT for a batch of no records; waits when too much waits already.
        """
        request = request_context()
        sender = request.principal
        bounds = Bounds.of(sender, self._origin, self._divisions())
        prepared = self._preparer.prepare(content, sender.name, request.request_id, bounds)
        if prepared.batch:
            future = self._committer.submit(prepared.batch, sequel)
            if request.trace is not None:
                self._show_commit(request.trace, future)
            return prepared, future
        nothing: Future[Sequence[Outcome]] = Future()
        nothing.set_result(())
        return prepared, nothing

    def _show_commit(self, trace: CallTrace, future: "Future[Sequence[Outcome]]") -> None:
        began_ns = time.time_ns()

        def show(done: "Future[Sequence[Outcome]]") -> None:
            if done.cancelled() or done.exception() is not None:
                return
            outcomes = done.result()
            first = next((one.sequence for one in outcomes if isinstance(one, Recorded)), None)
            if first is not None:
                committed(trace, STREAM, self._origin, first, len(outcomes), began_ns)

        future.add_done_callback(show)

    def get_by_place(self, origin: str, sequence: int) -> HeldEntry:
        """Return one weighing by its place. Raises NOT_FOUND."""
        with translate_errors(), self._engine.begin() as pooled:
            held = queries.get_weighing(raw_connection(pooled), origin, sequence)
        return _found(held, f"{origin}/{sequence}")

    def get_by_name(self, source_unit_id: str, record_id: str) -> HeldEntry:
        """Return one weighing by its terminal's key. Raises NOT_FOUND."""
        key = (source_unit_id, record_id)
        with translate_errors(), self._engine.begin() as pooled:
            held = queries.find_record(raw_connection(pooled), self._origin, key, self._readable_origin("", ""))
        return _found(held, f"{source_unit_id}/{record_id}")

    def list_weighings(self, narrow: WeighingFilter, requested: int, token: str) -> tuple[list[HeldEntry], str]:
        """Return one page of weighings and the next page's token. Raises OUTSIDE_SCOPE, INVALID_PAGE_TOKEN."""
        narrow = replace(narrow, origin=self._readable_origin(narrow.origin, "filter.origin"))
        size = page_size(requested, LIST_PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        digest = filter_digest(
            "ListWeighings",
            narrow.source_unit_id,
            narrow.plate_number,
            str(narrow.start_time),
            str(narrow.end_time),
            narrow.origin,
            *sorted(narrow.verdicts),
        )
        key = decode_token(token, digest, (int, str, int))
        after = (_time(int(key[0])), str(key[1]), int(key[2])) if key else None
        with translate_errors(), reading(self._engine) as pooled:
            rows = queries.list_weighings(raw_connection(pooled), narrow, after, size + 1)
        return _page(rows, size, digest)

    def watch(
        self, origin: str, first_sequence: int, source_unit_id: str, verdicts: Sequence[int]
    ) -> Iterator[tuple[list[HeldEntry], int]]:
        """Yield weighings in the order recorded with the sequence to go on from. Raises UNKNOWN_LOG, OUTSIDE_SCOPE."""
        request = request_context()
        request.on_end(self._tail.wake)
        origin = self._readable_origin(origin, "origin") or self._origin
        next_sequence = first_sequence
        while request.is_active():
            seen = self._tail.count(origin)
            with translate_errors(), reading(self._engine) as pooled:
                connection = raw_connection(pooled)
                head = read_head(connection, origin)
                if head is None:
                    raise ServiceError(
                        Reason.UNKNOWN_LOG,
                        f"no weighings of {origin!r} are held here",
                        metadata={"origin": origin, "stream": "weighing"},
                    )
                if next_sequence <= 0:
                    next_sequence = head.size + 1
                last = min(head.size, next_sequence + WATCH_RECORDS_MAX - 1)
                rows = (
                    queries.read_weighing_entries(connection, origin, next_sequence, last, source_unit_id, verdicts)
                    if last >= next_sequence
                    else None
                )
            if rows is None:
                self._tail.wait(origin, seen, request.is_active)
                continue
            shown = _within_bytes(rows)
            next_sequence = last + 1 if len(shown) == len(rows) else shown[-1].sequence + 1
            yield shown, next_sequence

    def list_day_totals(
        self,
        source_unit_id: str,
        origin: str,
        first_day: date | None,
        last_day: date | None,
        requested: int,
        token: str,
    ) -> tuple[list[DayTotalRow], str]:
        """Return one page of day totals and the next page's token. Raises OUTSIDE_SCOPE, INVALID_PAGE_TOKEN."""
        origin = self._readable_origin(origin, "origin")
        size = page_size(requested, TOTALS_PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        digest = filter_digest("ListDayTotals", source_unit_id, origin, str(first_day), str(last_day))
        key = decode_token(token, digest, (int, str, str))
        after = (_day(int(key[0])), str(key[1]), str(key[2])) if key else None
        with translate_errors(), reading(self._engine) as pooled:
            rows = queries.list_day_totals(
                raw_connection(pooled), source_unit_id, origin, first_day, last_day, after, size + 1
            )
        if len(rows) <= size:
            return rows, ""
        last = rows[size - 1]
        return rows[:size], encode_token(digest, (last.day.toordinal(), last.origin, last.source_unit_id))

    def list_conflicts(
        self, source_unit_id: str, record_id: str, requested: int, token: str
    ) -> tuple[list[HeldEntry], str]:
        """Return one page of conflicting submissions and the next page's token."""
        if record_id and not source_unit_id:
            raise invalid(
                [FieldViolation("source_unit_id", "is empty, but record_id is only unique within a source unit")]
            )
        size = page_size(requested, TOTALS_PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        origin = self._readable_origin("", "")
        digest = filter_digest("ListWeighingConflicts", source_unit_id, record_id)
        key = decode_token(token, digest, (int, str, int))
        after = (_time(int(key[0])), str(key[1]), int(key[2])) if key else None
        with translate_errors(), reading(self._engine) as pooled:
            rows = queries.list_conflicts(raw_connection(pooled), source_unit_id, record_id, origin, after, size + 1)
        return _page(rows, size, digest)

    def _readable_origin(self, origin: str, field: str) -> str:
        return readable_origin(request_context().principal, self._origin, origin, field)


def _page(rows: list[HeldEntry], size: int, digest: str) -> tuple[list[HeldEntry], str]:
    shown = _within_bytes(rows[:size])
    if len(shown) == len(rows):
        return shown, ""
    last = shown[-1]
    # Whole microseconds since 1970: exact, which a float is not.
    microseconds = (last.order_time - _EPOCH) // _MICROSECOND
    return shown, encode_token(digest, (microseconds, last.origin, last.sequence))


def _within_bytes(rows: list[HeldEntry]) -> list[HeldEntry]:
    """Return the first rows that fit into one answer, at least one."""
    total = 0
    for count, row in enumerate(rows):
        total += len(row.entry)
        if total > PAGE_BYTES_MAX and count:
            return rows[:count]
    return rows


def _found(held: HeldEntry | None, name: str) -> HeldEntry:
    if held is None:
        raise ServiceError(
            Reason.NOT_FOUND,
            f"no weighing {name} is held here",
            message_zh=f"本平台没有称重记录 {name}",
            metadata={"resource_type": "weighing", "resource_id": name},
        )
    return held


def _time(microseconds: int) -> datetime:
    try:
        return _EPOCH + microseconds * _MICROSECOND
    except OverflowError as error:
        raise ServiceError(Reason.INVALID_PAGE_TOKEN, "the page token names no time") from error


def _day(ordinal: int) -> date:
    try:
        return date.fromordinal(ordinal)
    except (ValueError, OverflowError) as error:
        raise ServiceError(Reason.INVALID_PAGE_TOKEN, "the page token names no day") from error
