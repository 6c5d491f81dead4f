"""The figures of one service's journal: what it holds, what is parked, how long commits take. Knows no service."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from services.common.database import Engine, pool_usage, raw_connection, reading, translate_errors
from services.common.metrics import OTHER, Gauge, Metrics, Sample
from services.journal import store

ORIGINS_MAX: Final = 256
"""Logs told apart in the figures: a province has some 140 platforms below it. What is beyond is added up as `other`."""

COMMIT_SECONDS_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""A lone record is committed in a millisecond, 2,048 in some tens (docs/benchmarks.md); a bad disk takes seconds."""

COMMIT_RECORDS_BUCKETS: Final = (1, 4, 16, 64, 256, 1_024, 2_048, 4_096)
"""From a lone record to the most that one transaction takes (services.journal.limits.RUN_RECORDS_MAX)."""

READ_SECONDS_MAX: Final = 2.0
"""Longest statement of a scrape: it takes a millisecond, and a database that takes longer has other work to do."""

OWN: Final = "own"
RECEIVED: Final = "received"

_LOG_LABELS: Final = ("stream", "origin", "is_own")
_ENTRIES: Final = Gauge("zhichao_journal_entries", "Size of a log, which is its position.", _LOG_LABELS)
_BYTES: Final = Gauge("zhichao_journal_bytes", "Bytes of a log's entries.", _LOG_LABELS)
_WRITTEN: Final = Gauge(
    "zhichao_journal_last_write_timestamp_seconds", "When a log's newest entry was written by its origin.", _LOG_LABELS
)
_PARKED: Final = Gauge(
    "zhichao_journal_parked_entries", "Entries that are held but not projected.", ("stream", "origin")
)
_RECOVERING: Final = Gauge(
    "zhichao_journal_recovering", "1 while the own log was restored and is not written to yet.", ("stream",)
)
_WAITING: Final = Gauge("zhichao_journal_waiting_records", "Records that wait for a transaction.", ("stream",))
_IN_USE: Final = Gauge("zhichao_database_connections_in_use", "Connections of the pool in use.", ("component",))
_POOL: Final = Gauge("zhichao_database_connections_max", "Size of the connection pool.", ("component",))


class NoConnectionFreeError(Exception):
    """Every connection of the pool is in use: figures take none from those who work."""


def refuse_without_connection(engine: Engine) -> None:
    """Raise NoConnectionFreeError while every connection of the pool is in use."""
    usage = pool_usage(engine)
    if usage.in_use >= usage.size:
        raise NoConnectionFreeError


@dataclass(slots=True)
class Timing:
    """One timed transaction; set `is_void` when it turned out that nothing was done."""

    is_void: bool = False


class JournalMetrics:
    """The figures of one journal."""

    def __init__(self, metrics: Metrics, stream: str, engine: Engine) -> None:
        self._stream = stream
        self._engine = engine
        self._metrics = metrics
        seconds = metrics.histogram(
            "zhichao_journal_commit_duration_seconds",
            "Transactions that append to a log.",
            ("stream", "source"),
            buckets=COMMIT_SECONDS_BUCKETS,
        )
        records = metrics.histogram(
            "zhichao_journal_commit_records",
            "Records or entries that one transaction decided about.",
            ("stream", "source"),
            buckets=COMMIT_RECORDS_BUCKETS,
        )
        self._seconds = {source: seconds.labels(stream, source) for source in (OWN, RECEIVED)}
        self._records = {source: records.labels(stream, source) for source in (OWN, RECEIVED)}
        self._again = metrics.counter(
            "zhichao_journal_received_again_total", "Entries from below that were held already.", ("stream",)
        ).labels(stream)
        metrics.gauges("journal", [_ENTRIES, _BYTES, _WRITTEN, _PARKED, _RECOVERING], self._read_logs)
        metrics.gauges("database", [_IN_USE, _POOL], self._read_pool)

    def watch_queue(self, waiting_records: Callable[[], int]) -> None:
        """Show how many records wait for a transaction."""
        self._metrics.gauges(
            "queue", [_WAITING], lambda: {_WAITING.name: [Sample((self._stream,), float(waiting_records()))]}
        )

    def committed(self, source: str, records: int, seconds: float) -> None:
        """Note a transaction that is durable."""
        self._seconds[source].observe(seconds)
        self._records[source].observe(records)

    @contextmanager
    def receiving(self, entries: int) -> Iterator[Timing]:
        """Time the receiving of so many entries; one that fails, or is declared void, is not counted."""
        began = time.monotonic()
        timing = Timing()
        yield timing
        if not timing.is_void:
            self.committed(RECEIVED, entries, time.monotonic() - began)

    def received_again(self, entries: int) -> None:
        """Note entries from below that were held already."""
        if entries:
            self._again.inc(entries)

    def _read_pool(self) -> Mapping[str, Sequence[Sample]]:
        usage = pool_usage(self._engine)
        labels = (self._metrics.component,)
        return {_IN_USE.name: [Sample(labels, usage.in_use)], _POOL.name: [Sample(labels, usage.size)]}

    def _read_logs(self) -> Mapping[str, Sequence[Sample]]:
        refuse_without_connection(self._engine)
        with translate_errors(), reading(self._engine, timeout_seconds=READ_SECONDS_MAX) as pooled:
            connection = raw_connection(pooled)
            heads = store.read_heads(connection)
            parked = store.parked_counts(connection)
        # The own log first: it is shown whatever the bound is.
        heads.sort(key=lambda head: (not head.is_own, head.origin))
        shown, others = heads[:ORIGINS_MAX], heads[ORIGINS_MAX:]
        entries, sizes, written = [], [], []
        for head in shown:
            labels = self._labels(head)
            entries.append(Sample(labels, head.size))
            sizes.append(Sample(labels, head.total_bytes))
            if head.last_write_time is not None:
                written.append(Sample(labels, head.last_write_time.timestamp()))
        if others:
            labels = (self._stream, OTHER, "false")
            entries.append(Sample(labels, sum(head.size for head in others)))
            sizes.append(Sample(labels, sum(head.total_bytes for head in others)))
        return {
            _ENTRIES.name: entries,
            _BYTES.name: sizes,
            _WRITTEN.name: written,
            _RECOVERING.name: [
                Sample((self._stream,), float(any(head.is_recovering for head in heads if head.is_own)))
            ],
            _PARKED.name: self._parked({head.origin for head in shown}, parked),
        }

    def _parked(self, shown: set[str], parked: Mapping[str, int]) -> list[Sample]:
        told = [Sample((self._stream, origin), count) for origin, count in parked.items() if origin in shown]
        others = sum(count for origin, count in parked.items() if origin not in shown)
        return [*told, *([Sample((self._stream, OTHER), others)] if others else [])]

    def _labels(self, head: store.LogHead) -> tuple[str, ...]:
        return (self._stream, head.origin, "true" if head.is_own else "false")
