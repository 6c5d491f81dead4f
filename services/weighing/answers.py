"""Answers of the weighing service as messages, and request fields read with their checks. Pure."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from services.common.errors import FieldViolation, ServiceError, invalid
from services.common.refusals import refusal
from services.journal.entries import parse, varint
from services.weighing.plates import normalize_plate
from services.weighing.preparing import Prepared
from services.weighing.recording import NewlyRecorded, Outcome, Recorded
from services.weighing.rows import RecordKey, day_text
from services.weighing.store.queries import DayTotalRow, HeldEntry, WeighingFilter
from services.weighing.validation import FORBIDDEN
from services.weighing.verdict import Verdict
from zhichao.weighing.v1 import service_pb2 as pb
from zhichao.weighing.v1 import weighing_pb2

_IS_DUPLICATE: Final = b"\x18\x01"
_LENGTHS: Final = 1_024
"""Lengths whose varint is precomputed; a judgement is some 100 bytes, an id at most 64."""

_VARINTS: Final = tuple(varint(length) for length in range(_LENGTHS))
# Tag and length of field 1 and of field 2, both length-delimited, of every message that is joined here.
_FIELD_1: Final = tuple(b"\x0a" + length for length in _VARINTS)
_FIELD_2: Final = tuple(b"\x12" + length for length in _VARINTS)


def _field(tags: tuple[bytes, ...], content: bytes) -> bytes:
    length = len(content)
    return (tags[length] if length < _LENGTHS else tags[0][:1] + varint(length)) + content


class RecordedWriter:
    """Writes `Recorded` messages by joining parts: on a backlog the answers cost as much as the records otherwise."""

    def __init__(self, origin: str) -> None:
        self._origin = _field(_FIELD_1, origin.encode()) + b"\x10"

    def recorded_bytes(self, recorded: Recorded) -> bytes:
        """Return a serialised `Recorded`."""
        sequence, leaf, judgement, is_duplicate = recorded
        receipt = self._origin + varint(sequence) + b"\x1a\x20" + leaf
        content = _field(_FIELD_1, receipt) + _field(_FIELD_2, judgement)
        return content + _IS_DUPLICATE if is_duplicate else content

    def recorded(self, recorded: Recorded) -> pb.Recorded:
        """Return the message."""
        return pb.Recorded.FromString(self.recorded_bytes(recorded))

    def results_bytes(self, prepared: Prepared, outcomes: Sequence[Outcome]) -> bytes:
        """Return a serialised response whose field 1 is one RecordResult per record of the request."""
        keys, refusals = prepared.batch.keys, prepared.refusals
        if isinstance(outcomes, NewlyRecorded):
            results = self._new_results(keys, outcomes)
        else:
            results = [self._result(key[1], outcome) for key, outcome in zip(keys, outcomes, strict=True)]
        for place, (record_id, error) in refusals.items():
            results.insert(place, _refused(record_id, error))
        return b"".join(results)

    def _new_results(self, keys: Sequence[RecordKey], outcomes: NewlyRecorded) -> list[bytes]:
        """Return the results of records that are all new: nearly every batch, so without a call per part."""
        origin, tags_1, tags_2 = self._origin, _FIELD_1, _FIELD_2
        results: list[bytes] = []
        for sequence, (_, record_id), leaf, judgement in zip(
            range(outcomes.first_sequence, outcomes.first_sequence + len(outcomes)),
            keys,
            outcomes.leaves,
            outcomes.judgements,
            strict=True,
        ):
            if len(judgement) >= _LENGTHS // 2:
                results.append(self._result(record_id, Recorded(sequence, leaf, judgement, is_duplicate=False)))
                continue
            receipt = origin + varint(sequence) + b"\x1a\x20" + leaf
            recorded = tags_1[len(receipt)] + receipt + tags_2[len(judgement)] + judgement
            # A checked id is ASCII: as many bytes as characters.
            result = tags_1[len(record_id)] + record_id.encode() + tags_2[len(recorded)] + recorded
            results.append(tags_1[len(result)] + result)
        return results

    def _result(self, record_id: str, outcome: Outcome) -> bytes:
        if isinstance(outcome, ServiceError):
            return _refused(record_id, outcome)
        name = _field(_FIELD_1, record_id.encode())
        return _field(_FIELD_1, name + _field(_FIELD_2, self.recorded_bytes(outcome)))


def _refused(record_id: str, error: ServiceError) -> bytes:
    # A longer id is refused; sent back whole it could make the answer larger than a message may be.
    shown = record_id[:FILTER_CHARACTERS_MAX]
    return _field(_FIELD_1, pb.RecordResult(record_id=shown, refusal=refusal(error)).SerializeToString())


def receipt(held: HeldEntry) -> weighing_pb2.Receipt:
    """Return the receipt of an entry that is held."""
    return weighing_pb2.Receipt(origin=held.origin, sequence=held.sequence, leaf_digest=held.leaf)


def _payload(held: HeldEntry) -> bytes:
    entry = parse(held.entry)
    return entry.payload if entry else b""


def held_weighing(held: HeldEntry) -> pb.HeldWeighing:
    """Return a weighing with its place."""
    return pb.HeldWeighing(receipt=receipt(held), weighing=weighing_pb2.Weighing.FromString(_payload(held)))


def held_conflict(held: HeldEntry) -> pb.HeldWeighingConflict:
    """Return a conflicting submission with its place."""
    conflict = weighing_pb2.WeighingConflict.FromString(_payload(held))
    return pb.HeldWeighingConflict(receipt=receipt(held), conflict=conflict)


def day_total(row: DayTotalRow) -> pb.DayTotal:
    """Return a day total."""
    values = row._asdict() | {"day": row.day.isoformat()}
    return pb.DayTotal(**values)


def _moment(field: str, value: Timestamp, violations: list[FieldViolation]) -> datetime | None:
    try:
        return value.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        violations.append(
            FieldViolation(field, f"has {value.seconds} seconds, but must lie between the years 1 and 9999")
        )
        return None


def read_verdicts(field: str, numbers: Sequence[int], violations: list[FieldViolation]) -> tuple[int, ...]:
    """Return verdict numbers, noting those that are none."""
    known = [verdict for verdict in Verdict if verdict is not Verdict.UNSPECIFIED]
    if len(numbers) > len(known):
        # Not gone through one by one: a message can hold millions.
        violations.append(FieldViolation(field, f"has {len(numbers)} values, but there are only {len(known)} verdicts"))
        return ()
    for place, number in enumerate(numbers):
        if number not in known:
            names = ", ".join(f"VERDICT_{verdict.name}" for verdict in known)
            violations.append(FieldViolation(f"{field}[{place}]", f"is {number}, but must be one of {names}"))
    return tuple(numbers)


def read_filter(message: pb.WeighingFilter) -> WeighingFilter:
    """Return what to list. Raises ServiceError(INVALID_ARGUMENT) with every bad field."""
    violations: list[FieldViolation] = []
    start = _moment("filter.start_time", message.start_time, violations) if message.HasField("start_time") else None
    end = _moment("filter.end_time", message.end_time, violations) if message.HasField("end_time") else None
    if start is not None and end is not None and end <= start:
        violations.append(FieldViolation("filter.end_time", f"is {end.isoformat()}, but must be after start_time"))
    for name in ("source_unit_id", "plate_number", "origin"):
        check_text(f"filter.{name}", getattr(message, name), violations)
    verdicts = read_verdicts("filter.verdicts", message.verdicts, violations)
    plate = normalize_plate(message.plate_number)
    if message.plate_number and not plate and not violations:
        # Left out it would list everything.
        violations.append(FieldViolation("filter.plate_number", "says that there is no plate; name one or none at all"))
    if violations:
        raise invalid(violations)
    return WeighingFilter(message.source_unit_id, plate, start, end, verdicts, message.origin)


FILTER_CHARACTERS_MAX = 64
"""Characters of a text that is searched for: as long as the longest id."""


def check_name(fields: Mapping[str, str]) -> None:
    """Check the texts of a name by their fields. Raises ServiceError(INVALID_ARGUMENT) with every bad field."""
    violations: list[FieldViolation] = []
    for field, value in fields.items():
        check_text(field, value, violations)
    if violations:
        raise invalid(violations)


def check_text(field: str, value: str, violations: list[FieldViolation]) -> None:
    """Note a text that no id or plate can be."""
    if len(value) > FILTER_CHARACTERS_MAX or (not value.isprintable() and FORBIDDEN.search(value)):
        violations.append(
            FieldViolation(field, f"must be at most {FILTER_CHARACTERS_MAX} characters without control characters")
        )


def read_day(field: str, text: str, violations: list[FieldViolation]) -> date | None:
    """Return a day, or None when the text is empty; note one that is none."""
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or day.isoformat() != text:
        violations.append(FieldViolation(field, f"is {text[:32]!r}, but must be a day like {day_text(0)}"))
        return None
    return day


def read_watch(request: pb.WatchWeighingsRequest) -> tuple[int, ...]:
    """Check a watch and return its verdicts. Raises ServiceError(INVALID_ARGUMENT) with every bad field."""
    violations: list[FieldViolation] = []
    check_text("origin", request.origin, violations)
    check_text("source_unit_id", request.source_unit_id, violations)
    if request.first_sequence < 0:
        violations.append(FieldViolation("first_sequence", f"is {request.first_sequence}, but must not be negative"))
    verdicts = read_verdicts("verdicts", request.verdicts, violations)
    if violations:
        raise invalid(violations)
    return verdicts


def read_days(request: pb.ListDayTotalsRequest) -> tuple[date | None, date | None]:
    """Check a list of totals and return its days. Raises ServiceError(INVALID_ARGUMENT) with every bad field."""
    violations: list[FieldViolation] = []
    check_text("origin", request.origin, violations)
    check_text("source_unit_id", request.source_unit_id, violations)
    first = read_day("first_day", request.first_day, violations)
    last = read_day("last_day", request.last_day, violations)
    if first and last and last < first:
        violations.append(FieldViolation("last_day", f"is {last}, but must not be before first_day, {first}"))
    if violations:
        raise invalid(violations)
    return first, last


def check_conflicts_request(request: pb.ListWeighingConflictsRequest) -> None:
    """Check a list of conflicts. Raises ServiceError(INVALID_ARGUMENT) with every bad field."""
    violations: list[FieldViolation] = []
    check_text("source_unit_id", request.source_unit_id, violations)
    check_text("record_id", request.record_id, violations)
    if violations:
        raise invalid(violations)
