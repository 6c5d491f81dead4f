"""What the terminals were told: one line per acknowledged or refused record, for a checker that trusts nobody else.

A line is written and flushed before the terminal forgets the record, so whatever was acknowledged is in the file even
when the process is killed.
"""

import dataclasses
import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from zhichao.weighing.v1 import record_pb2, service_pb2, weighing_pb2

# Refusals are kept by reason; the catalogue has fewer reasons than this.
REASONS_MAX = 64


@dataclass
class Counters:
    """Totals since the start, over all terminals."""

    # Records made, true overloads among them.
    generated: int = 0
    overloads: int = 0
    # Records put on the wire, repeats included.
    sent: int = 0
    # Records acknowledged, each counted once; of these the verdicts.
    acknowledged: int = 0
    suspected: int = 0
    undetermined: int = 0
    # Answers that said the record was held already.
    duplicates: int = 0
    # Records refused for good.
    refused: int = 0
    # Calls and streams that failed and were repeated.
    retries: int = 0
    # Records sent as backfill.
    backfilled: int = 0
    # A repeat that got another receipt than the first: must stay 0.
    mismatches: int = 0


@dataclass(frozen=True)
class FirstRefusal:
    """The first refusal of a reason, and how many there were."""

    reason: str
    message: str
    source_unit_id: str
    record_id: str
    count: int = 1


def content_digest(record: record_pb2.WeighingRecord) -> str:
    """Return the SHA-256 of a record's content, which `is_backfill` is not part of.

    Fit for comparing within one build of the software: protobuf serialisation is deterministic there, not for ever.
    """
    content = record
    if record.is_backfill:
        content = record_pb2.WeighingRecord()
        content.CopyFrom(record)
        content.ClearField("is_backfill")
    return hashlib.sha256(content.SerializeToString(deterministic=True)).hexdigest()


class Ledger:
    """Counts and remembers answers; safe for all terminals at once."""

    def __init__(
        self,
        path: Path | None = None,
        *,
        keeps_receipts: bool = True,
        on_acknowledged: Callable[[record_pb2.WeighingRecord, service_pb2.Recorded], None] | None = None,
    ) -> None:
        self._on_acknowledged = on_acknowledged
        self._lock = threading.Lock()
        self._counters = Counters()
        self._refusals: dict[str, FirstRefusal] = {}
        self._keeps_receipts = keeps_receipts
        self._acknowledged: dict[tuple[str, str], weighing_pb2.Receipt] = {}
        self._file: TextIO | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8")

    @property
    def counters(self) -> Counters:
        """Return the totals as they are now."""
        with self._lock:
            return dataclasses.replace(self._counters)

    @property
    def refusals(self) -> list[FirstRefusal]:
        """Return the first refusal of each reason."""
        with self._lock:
            return list(self._refusals.values())

    @property
    def acknowledged(self) -> dict[tuple[str, str], weighing_pb2.Receipt]:
        """Return the receipts by source unit and record id, as they are now; empty if receipts are not kept."""
        with self._lock:
            return dict(self._acknowledged)

    def count(self, **increments: int) -> None:
        """Add to totals by name."""
        with self._lock:
            for name, increment in increments.items():
                setattr(self._counters, name, getattr(self._counters, name) + increment)

    def record_acknowledged(self, record: record_pb2.WeighingRecord, recorded: service_pb2.Recorded) -> None:
        """Note the answer by which a terminal may forget a record."""
        receipt, verdict = recorded.receipt, recorded.judgement.verdict
        line = ""
        if self._file is not None:
            line = _json_line(
                outcome="acknowledged",
                source_unit_id=record.source_unit_id,
                record_id=record.record_id,
                origin=receipt.origin,
                sequence=receipt.sequence,
                leaf_digest=receipt.leaf_digest.hex(),
                verdict=weighing_pb2.Verdict.Name(verdict),
                is_duplicate=recorded.is_duplicate,
                content_digest=content_digest(record),
            )
        with self._lock:
            self._write(line)
            counters = self._counters
            counters.acknowledged += 1
            counters.duplicates += recorded.is_duplicate
            counters.suspected += verdict == weighing_pb2.VERDICT_SUSPECTED
            counters.undetermined += verdict == weighing_pb2.VERDICT_UNDETERMINED
            if self._keeps_receipts:
                self._acknowledged[record.source_unit_id, record.record_id] = receipt
        if self._on_acknowledged is not None:
            self._on_acknowledged(record, recorded)

    def record_repeated(
        self, record: record_pb2.WeighingRecord, first: service_pb2.Recorded, again: service_pb2.Recorded
    ) -> None:
        """Note the answer to a repeat, which has to be the first answer again."""
        is_same = first.receipt == again.receipt and first.judgement == again.judgement
        with self._lock:
            self._counters.duplicates += again.is_duplicate
            # Of two copies sent at once one is the first and one the duplicate, whichever comes back sooner.
            if is_same and (first.is_duplicate or again.is_duplicate):
                return
            self._counters.mismatches += 1
            if self._file is not None:
                self._write(
                    _json_line(
                        outcome="mismatch",
                        source_unit_id=record.source_unit_id,
                        record_id=record.record_id,
                        first_sequence=first.receipt.sequence,
                        repeated_sequence=again.receipt.sequence,
                    )
                )

    def record_refused(self, record: record_pb2.WeighingRecord, reason: str, message: str) -> None:
        """Note that a record was refused for good."""
        line = ""
        if self._file is not None:
            line = _json_line(
                outcome="refused",
                source_unit_id=record.source_unit_id,
                record_id=record.record_id,
                reason=reason,
                message=message,
            )
        with self._lock:
            self._write(line)
            self._counters.refused += 1
            known = self._refusals.get(reason)
            if known is not None:
                self._refusals[reason] = dataclasses.replace(known, count=known.count + 1)
            elif len(self._refusals) < REASONS_MAX:
                self._refusals[reason] = FirstRefusal(reason, message, record.source_unit_id, record.record_id)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _write(self, line: str) -> None:
        if self._file is not None and line:
            self._file.write(line)
            self._file.flush()


def _json_line(**values: object) -> str:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")) + "\n"
