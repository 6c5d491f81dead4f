"""An import: rows become records and go out as a stream; what is not taken is counted and kept for correction."""

import enum
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from cli.importer.conversion import Problem, RecordConverter
from cli.importer.table import Row
from cli.importer.weighing_stream import BATCH_RECORDS_MAX, StreamBrokenError, stream_weighings
from services.common.errors import ServiceError
from zhichao.common.v1 import refusal_pb2
from zhichao.weighing.v1 import record_pb2, service_pb2, service_pb2_grpc, weighing_pb2

BATCH_RECORDS = 500
# A county that restarts with its database is back within seconds; longer is for a person to decide.
RETRY_SECONDS = 60.0
_PAUSE_FIRST_SECONDS = 0.2
_PAUSE_SECONDS_MAX = 5.0
# Findings that are kept for the table and the JSON result; the file of rejects has all.
FINDINGS_KEPT_MAX = 1_000

# Records that a dry run shows.
TRIED_RECORDS_SHOWN = 5

_CONFLICTS = frozenset(
    {refusal_pb2.ERROR_REASON_RECORD_CONFLICT, refusal_pb2.ERROR_REASON_TOO_MANY_CONFLICTS},
)
# Refusals that every further row would get too.
_HOPELESS = frozenset(
    {
        refusal_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
        refusal_pb2.ERROR_REASON_UNKNOWN_SOURCE_UNIT,
        refusal_pb2.ERROR_REASON_UNKNOWN_WEIGHING_POINT,
        refusal_pb2.ERROR_REASON_UNKNOWN_SCALE,
        refusal_pb2.ERROR_REASON_NO_RULE_SET,
    }
)


class Outcome(enum.StrEnum):
    """What became of a row."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICTING = "conflicting"
    REJECTED = "rejected"


@dataclass(frozen=True)
class Line:
    """A row with its record."""

    row: Row
    record: record_pb2.WeighingRecord


@dataclass(frozen=True)
class Finding:
    """A row that is not held as sent: which, why, and its cells."""

    line: int
    outcome: Outcome
    reason: str
    message: str
    record_id: str
    cells: Sequence[str]


@dataclass
class ImportResult:
    """Counts of an import so far."""

    rows: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    # The first FINDINGS_KEPT_MAX of them.
    findings: list[Finding] = field(default_factory=list)
    # Rows sent again after a broken connection: the first copy may have been held, so they can count as duplicate.
    resent: int = 0

    def note(self, finding: Finding) -> None:
        """Count a finding and keep it if it is among the first."""
        self.outcomes[finding.outcome] += 1
        if len(self.findings) < FINDINGS_KEPT_MAX:
            self.findings.append(finding)

    @property
    def has_findings(self) -> bool:
        """Say whether any row is rejected or conflicting."""
        return bool(self.outcomes[Outcome.CONFLICTING] or self.outcomes[Outcome.REJECTED])


class ImportStoppedError(Exception):
    """The import ended early; rows before `from_line` are answered, the others can be sent again."""

    def __init__(self, message: str, from_line: int) -> None:
        super().__init__(message)
        self.from_line = from_line


class WeighingImport:
    """Sends the rows of a table in order. `on_finding` sees every finding, `on_progress` is told of each answer."""

    def __init__(
        self,
        stub: service_pb2_grpc.WeighingServiceStub,
        converter: RecordConverter,
        *,
        batch_records: int = BATCH_RECORDS,
        retry_seconds: float = RETRY_SECONDS,
        on_finding: Callable[[Finding], None] = lambda finding: None,
        on_progress: Callable[[], None] = lambda: None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        if not 1 <= batch_records <= BATCH_RECORDS_MAX:
            raise ValueError(f"a batch of {batch_records} records; accepted are 1 to {BATCH_RECORDS_MAX}")
        self._stub = stub
        self._converter = converter
        self._batch_records = batch_records
        self._retry_seconds = retry_seconds
        self._on_finding = on_finding
        self._on_progress = on_progress
        self._pause = pause
        self.result = ImportResult()

    def run(self, rows: Iterator[Row]) -> ImportResult:
        """Send all rows; raises ImportStoppedError when the platform stays away or can take none of them."""
        batches = self._batches(rows)
        failing_since: float | None = None
        pause_seconds = _PAUSE_FIRST_SECONDS
        while True:
            try:
                for batch, results in stream_weighings(self._stub, batches):
                    failing_since, pause_seconds = None, _PAUSE_FIRST_SECONDS
                    self._check_hopeless(batch, results)
                    for line, answer in zip(batch, results, strict=True):
                        self._answered(line, answer)
                    self._on_progress()
            except StreamBrokenError as broken:
                now = time.monotonic()
                failing_since = now if failing_since is None else failing_since
                self._check_patience(broken, now - failing_since)
                self.result.resent += sum(map(len, broken.unanswered))
                batches = itertools.chain(broken.unanswered, batches)
                self._pause(max(pause_seconds, broken.error.retry_after_seconds or 0.0))
                pause_seconds = min(pause_seconds * 2, _PAUSE_SECONDS_MAX)
            else:
                self._on_progress()
                return self.result

    def _batches(self, rows: Iterator[Row]) -> Iterator[list[Line]]:
        lines = self._lines(rows)
        while batch := list(itertools.islice(lines, self._batch_records)):
            yield batch

    def _lines(self, rows: Iterator[Row]) -> Iterator[Line]:
        for row in rows:
            self.result.rows += 1
            line, finding = convert_row(self._converter, row)
            if finding is not None:
                self._found(finding)
            elif line is not None:
                yield line

    def _answered(self, line: Line, answer: service_pb2.RecordResult) -> None:
        if answer.HasField("recorded"):
            recorded = answer.recorded
            self.result.outcomes[Outcome.DUPLICATE if recorded.is_duplicate else Outcome.ACCEPTED] += 1
            self.result.verdicts[_verdict_name(recorded.judgement.verdict)] += 1
            return
        refusal = answer.refusal
        outcome = Outcome.CONFLICTING if refusal.reason in _CONFLICTS else Outcome.REJECTED
        message = "; ".join(f"{bad.field}: {bad.description}" for bad in refusal.field_violations) or refusal.message
        reason = _reason_name(refusal.reason)
        self._found(Finding(line.row.line, outcome, reason, message, line.record.record_id, line.row.cells))

    def _found(self, finding: Finding) -> None:
        self.result.note(finding)
        self._on_finding(finding)

    def _check_hopeless(self, batch: Sequence[Line], results: Sequence[service_pb2.RecordResult]) -> None:
        """Stop at the first batch if the platform does not know the scale: a million rows would fail alike."""
        if self.result.outcomes[Outcome.ACCEPTED] or self.result.outcomes[Outcome.DUPLICATE]:
            return
        if all(answer.refusal.reason in _HOPELESS for answer in results):
            refusal = results[0].refusal
            message = f"{_reason_name(refusal.reason)}: {refusal.message} {refusal.message_zh}".strip()
            raise ImportStoppedError(message, batch[0].row.line)

    def _check_patience(self, broken: StreamBrokenError[Line], failing_seconds: float) -> None:
        if broken.error.is_retryable and failing_seconds < self._retry_seconds:
            return
        # Nothing unanswered: the stream could not even be opened before the first row was read.
        from_line = broken.unanswered[0][0].row.line if broken.unanswered else 1
        raise ImportStoppedError(_described(broken.error), from_line) from broken


def try_out(
    converter: RecordConverter,
    rows: Iterator[Row],
    *,
    on_finding: Callable[[Finding], None] = lambda finding: None,
    on_progress: Callable[[], None] = lambda: None,
) -> tuple[list[tuple[int, record_pb2.WeighingRecord]], ImportResult]:
    """Convert all rows and send none; returns the first records with their lines, and the counts.

    Only what this side can see is found: ranges, repeats and conflicts are known to the platform alone.
    """
    first: list[tuple[int, record_pb2.WeighingRecord]] = []
    result = ImportResult()
    for row in rows:
        result.rows += 1
        line, finding = convert_row(converter, row)
        if line is not None:
            result.outcomes[Outcome.ACCEPTED] += 1
            if len(first) < TRIED_RECORDS_SHOWN:
                first.append((row.line, line.record))
        if finding is not None:
            result.note(finding)
            on_finding(finding)
        if result.rows % BATCH_RECORDS == 0:
            on_progress()
    on_progress()
    return first, result


def convert_row(converter: RecordConverter, row: Row) -> tuple[Line | None, Finding | None]:
    """Make the record of a row, or the finding that says why there is none."""
    if row.problem:
        return None, Finding(row.line, Outcome.REJECTED, "MALFORMED_LINE", row.problem, "", row.cells)
    record, problems = converter.convert(row.cells)
    if problems:
        message = "; ".join(map(Problem.__str__, problems))
        return None, Finding(row.line, Outcome.REJECTED, "INVALID_CELL", message, record.record_id, row.cells)
    return Line(row, record), None


def _described(error: ServiceError) -> str:
    return f"{error.reason}: {error.message} {error.message_zh}".strip()


def _reason_name(reason: int) -> str:
    # A reason of a newer platform has no name here.
    if reason in refusal_pb2.ErrorReason.values():
        return refusal_pb2.ErrorReason.Name(reason).removeprefix("ERROR_REASON_")  # type: ignore[arg-type]  # a number off the wire, named or refused by Name
    return f"REASON_{reason}"


def _verdict_name(verdict: int) -> str:
    if verdict in weighing_pb2.Verdict.values():
        return weighing_pb2.Verdict.Name(verdict).removeprefix("VERDICT_").lower()  # type: ignore[arg-type]  # a number off the wire, named or refused by Name
    return f"verdict {verdict}"
