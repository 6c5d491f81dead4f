"""Exports the access records of one log in order, with what proves that none is left out."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from google.protobuf.message import Message

from services.common.database import Engine, raw_connection, translate_errors
from services.common.errors import FieldViolation, invalid
from services.common.rpc_call import Call
from services.journal.entries import Place, is_platform_code
from services.journal.log_writer import LogWriter
from services.journal.reader import Reader
from services.journal.store import access_exports as store
from services.journal.store.access_exports import RecordEntry

PAGE_RECORDS: Final = 500
"""Entries in one message: some 200 kB, and 2 MB of the largest."""


class ExportJournal(Protocol):
    """Writes down that somebody exports."""

    def record(self, call: Call, request: Message | None, personal_count: int) -> Place:
        """Write one access durably. Raises ServiceError."""
        ...


@dataclass(frozen=True, slots=True)
class ExportOrder:
    """What is asked for. `size` is 0 for a new export; otherwise one is taken up again after a sequence."""

    origin: str = ""
    start: datetime | None = None
    end: datetime | None = None
    size: int = 0
    after_sequence: int = 0


@dataclass(frozen=True, slots=True)
class ExportHead:
    """What an export holds, and what proves where it lies."""

    origin: str
    stream: str
    checkpoint: str
    log_start: bytes
    log_start_path: list[bytes]
    record_count: int
    before: RecordEntry | None
    after: RecordEntry | None
    proven_sequence: int
    proven_path: list[bytes]


@dataclass(frozen=True, slots=True)
class _Range:
    """Where the exported records lie; empty with `last` below `first`."""

    first: int
    last: int
    count: int
    before: RecordEntry | None
    after: RecordEntry | None


class AccessRecordExporter:
    """Answers exports. Every one of them is written down before anything of it is answered."""

    def __init__(self, engine: Engine, writer: LogWriter, reader: Reader, journal: ExportJournal) -> None:
        self._engine = engine
        self._writer = writer
        self._reader = reader
        self._journal = journal

    def export(self, order: ExportOrder, call: Call, request: Message) -> Iterator[ExportHead | list[RecordEntry]]:
        """Yield what there is, unless an export is taken up again, and then the entries in pages.

        Raises ServiceError INVALID_ARGUMENT, UNKNOWN_LOG, BEYOND_LOG, and what writing it down does.
        """
        _check(order)
        origin = order.origin or self._writer.origin
        # Before the log is asked for: that somebody has tried is part of the account.
        own = self._journal.record(call, request, 0)
        if order.size:
            # Without a checkpoint: that of a log from below is replaced once more of the log has come up.
            self._reader.root_at(origin, order.size)
            found = self._find(origin, order, order.size)
        else:
            signed, _ = self._reader.checkpoint(origin, own.sequence if origin == own.origin else 0)
            found = self._find(origin, order, signed.checkpoint.size)
            yield self._head(origin, signed.checkpoint.size, signed.format(), found)
        position = max(found.first - 1, order.after_sequence)
        while position < found.last:
            # A transaction for each page: an export takes as long as its reader, and holds up no cleaning meanwhile.
            with translate_errors(), self._engine.begin() as pooled:
                entries = store.page(raw_connection(pooled), origin, position, found.last, PAGE_RECORDS)
            if not entries:
                return
            yield list(entries)
            position = entries[-1].sequence

    def _find(self, origin: str, order: ExportOrder, size: int) -> _Range:
        with translate_errors(), self._engine.begin() as pooled:
            connection = raw_connection(pooled)
            # Of the own log the record at the checkpoint is that of the export itself: what comes before it is all.
            end = size if origin == self._writer.origin else size + 1
            found = store.window(connection, origin, order.start, order.end, end - 1)
            if found is not None:
                return _Range(
                    found.first,
                    found.last,
                    found.count,
                    store.before(connection, origin, found.first),
                    store.after(connection, origin, found.last, size),
                )
            # Nothing lies in that time: the two records around it show that.
            following = None if order.end is None else store.first_at_or_after(connection, origin, order.end, size)
            place = end if following is None else following
            return _Range(
                place,
                place - 1,
                0,
                store.before(connection, origin, place),
                store.after(connection, origin, place - 1, size),
            )

    def _head(self, origin: str, size: int, checkpoint: str, found: _Range) -> ExportHead:
        start = self._reader.inclusion_proof(origin, 1, size)
        if found.after is not None:
            proven = found.after.sequence
        elif found.count:
            proven = found.last
        else:
            proven = found.before.sequence if found.before is not None else 0
        path = self._reader.inclusion_proof(origin, proven, size).path if proven else []
        return ExportHead(
            origin,
            self._writer.stream,
            checkpoint,
            start.entry,
            start.path,
            found.count,
            found.before,
            found.after,
            proven,
            path,
        )


def _check(order: ExportOrder) -> None:
    violations = []
    if order.origin and not is_platform_code(order.origin):
        violations.append(FieldViolation("origin", "must be a six-digit platform code, or empty for this platform"))
    if order.start is not None and order.end is not None and order.start >= order.end:
        violations.append(FieldViolation("end_time", "must be after start_time"))
    violations += [
        FieldViolation(field, "must not be negative")
        for field in ("size", "after_sequence")
        if getattr(order, field) < 0
    ]
    if violations:
        raise invalid(violations)
