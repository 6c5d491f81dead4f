"""Finds the suspected overloads among entries of a weighing journal: which records they are of, and when. Of another
platform's entries only what has a column is checked; what cannot be a row is passed over, as the weighing service parks
it. Pure.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from services.common.instants import moment
from services.journal.payloads import PayloadRun, read_payloads
from services.video.store.weighings import SuspectedRow
from zhichao.weighing.v1 import weighing_pb2

WEIGHING_KIND: Final = str(weighing_pb2.Weighing.DESCRIPTOR.full_name)
"""Kind of the entries that are looked at; all others are passed over, whatever they are."""

WEIGHING_SCHEMA: Final = 1
"""Highest schema of a weighing whose meaning this release knows."""

RECEIVED_CHARACTERS_MAX: Final = 320
"""Characters of an id that another platform sends, as many as the weighing service takes: an index row holds them."""

_FIRST_YEAR: Final = 2
_LAST_YEAR: Final = 9_000
"""Times have a day in any time zone, and room for a recording after them."""

_parse = weighing_pb2.Weighing.FromString


@dataclass(frozen=True, slots=True)
class Passed:
    """A weighing of a newer release, which nobody here can judge."""

    sequence: int
    schema: int


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in a batch."""

    suspected: Sequence[SuspectedRow]
    """One for each record, at its last place in the batch."""
    passed: Passed | None
    """The first weighing of a newer schema, with the lowest such schema of the batch."""
    unreadable_count: int
    """Weighings that cannot be rows."""


def find_suspected(first_sequence: int, entries: Sequence[bytes]) -> Found:
    """Return what a batch of entries says of suspected overloads."""
    rows: dict[tuple[str, str], SuspectedRow] = {}
    passed: Passed | None = None
    unreadable_count = 0
    sequence = first_sequence
    for run in read_payloads(entries):
        if run.is_entry and run.kind == WEIGHING_KIND:
            if run.schema > WEIGHING_SCHEMA:
                passed = Passed(
                    passed.sequence if passed else sequence, min(passed.schema, run.schema) if passed else run.schema
                )
            else:
                for row in _rows(sequence, run):
                    if row is None:
                        unreadable_count += 1
                    else:
                        rows[row.source_unit_id, row.record_id] = row
        sequence += len(run.payloads)
    return Found(list(rows.values()), passed, unreadable_count)


def _rows(first_sequence: int, run: PayloadRun) -> Iterator[SuspectedRow | None]:
    """Yield the suspected ones, and None for each that is suspected or may be, and cannot be a row."""
    for sequence, payload in enumerate(run.payloads, first_sequence):
        # Parsing takes two microseconds; looking for the verdict in the bytes saves one of them.
        try:
            weighing = _parse(payload)
        except DecodeError:
            yield None
            continue
        if weighing.judgement.verdict == weighing_pb2.VERDICT_SUSPECTED:
            yield _row(sequence, weighing)


def _row(sequence: int, weighing: weighing_pb2.Weighing) -> SuspectedRow | None:
    record = weighing.record
    weigh_time, receive_time = _time(record.weigh_time), _time(weighing.receive_time)
    if (
        weigh_time is None
        or receive_time is None
        or not record.HasField("weigh_time")
        or not (_is_id(record.source_unit_id) and _is_id(record.record_id))
    ):
        return None
    return SuspectedRow(record.source_unit_id, record.record_id, sequence, weigh_time, receive_time)


def _is_id(text: str) -> bool:
    return 0 < len(text) <= RECEIVED_CHARACTERS_MAX and "\x00" not in text


def _time(message: Timestamp) -> datetime | None:
    try:
        found = moment(message)
    except ValueError:
        return None
    return found if _FIRST_YEAR <= found.year <= _LAST_YEAR else None
