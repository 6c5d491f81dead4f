"""The figures of the video service: what is kept and how well, what is sealed, how the store behaves."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, cast

from services.common.database import Engine
from services.common.metrics import Counter, Gauge, Metrics, Sample
from services.journal.metrics import refuse_without_connection
from services.video.domain import EvidenceKind
from services.video.evidence_standing import read_standing
from services.video.object_store import (
    BucketMissingError,
    LockState,
    ObjectMissingError,
    ObjectReader,
    ObjectStore,
    PutResult,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    WrongCredentialsError,
)
from services.video.spool import Spool
from services.video.store_troubles import StoreTrouble, StoreWrites
from services.video.store_watch import StoreWatch

SEAL_SECONDS_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""A photo is sealed in some tens of milliseconds, a clip of 8 MB in some hundred (docs/benchmarks.md); files of
gigabytes are written to the store for minutes."""

ERRORS: Final[Mapping[type[StoreError], str]] = {
    StoreUnavailableError: "unavailable",
    StoreFullError: "full",
    BucketMissingError: "bucket_missing",
    WrongCredentialsError: "wrong_credentials",
    ObjectMissingError: "object_missing",
}
"""How errors of the store are told apart; all others are `other`."""

OTHER: Final = "other"

WRITES: Final = frozenset({"put", "put_rendition", "copy_from_staging", "complete_multipart"})
"""What stores bytes: a store that is full, or lets this key only read, is known by these alone."""

_OBJECTS: Final = Gauge("zhichao_evidence_objects", "Objects that should be in the store here.")
_BYTES: Final = Gauge("zhichao_evidence_bytes", "Their bytes.")
_MISSING: Final = Gauge("zhichao_evidence_missing_objects", "Of these, found missing.")
_CHANGED: Final = Gauge("zhichao_evidence_changed_objects", "Of these, found with other bytes.")
_UNREAD: Final = Gauge("zhichao_evidence_unread_objects", "Of these, not readable for now though others are.")
_ORPHANS: Final = Gauge("zhichao_evidence_orphan_objects", "Objects in the store that no manifest names.")
_WANTED: Final = Gauge("zhichao_evidence_wanted_objects", "Objects wanted from below.")
_SCRUBBED: Final = Gauge(
    "zhichao_evidence_scrub_complete_timestamp_seconds", "When the scrubber last came to the end of all objects."
)
_OLDEST_CHECK: Final = Gauge(
    "zhichao_evidence_oldest_check_timestamp_seconds", "When the object was checked whose check is the oldest of all."
)
_RECONCILED: Final = Gauge(
    "zhichao_evidence_reconcile_timestamp_seconds", "When store and tables were last compared to the end."
)
_LOCKS: Final = Gauge("zhichao_evidence_store_lock_state", "1 for what the last self-test of locks found.", ("state",))
_REACHABLE: Final = Gauge("zhichao_evidence_store_reachable", "Whether the store answered last time.")
_TROUBLE: Final = Gauge("zhichao_evidence_store_trouble", "1 for what keeps the store from its work.", ("trouble",))
_UPLOADS: Final = Gauge("zhichao_evidence_uploads", "Uploads under way, also those that broke off.")
_SPOOL: Final = Gauge("zhichao_evidence_spool_bytes", "Bytes that they hold on this replica's disk.")
_SPOOL_MAX: Final = Gauge("zhichao_evidence_spool_bytes_max", "Most bytes that they may hold there.")


class VideoMetrics:
    """The figures of one video service."""

    def __init__(self, metrics: Metrics, engine: Engine) -> None:
        self._metrics = metrics
        self._engine = engine
        sealed = metrics.counter("zhichao_evidence_sealed_total", "Evidence sealed here, by kind.", ("kind",))
        # All from the beginning, at 0: an alarm needs a value before the first one.
        self._sealed: dict[int, Counter] = {kind: sealed.labels(kind.name.lower()) for kind in EvidenceKind}
        self._sealed_bytes = metrics.counter("zhichao_evidence_sealed_bytes_total", "Bytes of evidence sealed here.")
        self._seconds = metrics.histogram(
            "zhichao_evidence_seal_duration_seconds",
            "From the last byte of an upload to the answer: inspected, stored, journalled.",
            buckets=SEAL_SECONDS_BUCKETS,
        )
        errors = metrics.counter(
            "zhichao_evidence_store_errors_total", "What the store did not do, by cause.", ("error",)
        )
        self._errors = {name: errors.labels(name) for name in (*ERRORS.values(), OTHER)}

    def sealed(self, kind: int, size_bytes: int, seconds: float) -> None:
        """Note evidence that was sealed."""
        counter = self._sealed.get(kind)
        if counter is not None:
            counter.inc()
        self._sealed_bytes.inc(size_bytes)
        self._seconds.observe(seconds)

    def store_failed(self, error: StoreError) -> None:
        """Note that the store did not do something."""
        self._errors[ERRORS.get(type(error), OTHER)].inc()

    def counted(self, objects: ObjectStore, writes: StoreWrites) -> ObjectStore:
        """Return a store whose errors are counted, and that tells `writes` which bytes it took."""
        return cast("ObjectStore", _CountedStore(objects, self.store_failed, writes))

    def watch(self, spool: Spool, spool_bytes_max: int, watch: StoreWatch) -> None:
        """Show what is kept, and how store and spool stand."""
        self._metrics.gauges(
            "evidence",
            [
                _OBJECTS,
                _BYTES,
                _MISSING,
                _CHANGED,
                _UNREAD,
                _ORPHANS,
                _WANTED,
                _SCRUBBED,
                _OLDEST_CHECK,
                _RECONCILED,
                _LOCKS,
            ],
            self._read_evidence,
        )
        self._metrics.gauges(
            "spool",
            [_REACHABLE, _TROUBLE, _UPLOADS, _SPOOL, _SPOOL_MAX],
            lambda: _read_spool(spool, spool_bytes_max, watch),
        )

    def _read_evidence(self) -> Mapping[str, Iterable[Sample]]:
        refuse_without_connection(self._engine)
        standing = read_standing(self._engine)
        test = standing.lock_test
        values = {
            _OBJECTS: standing.totals.object_count,
            _BYTES: standing.totals.object_bytes,
            _MISSING: standing.troubles.missing_count,
            _CHANGED: standing.troubles.changed_count,
            _UNREAD: standing.troubles.unread_count,
            _ORPHANS: standing.troubles.orphan_count,
            _WANTED: standing.troubles.wanted_count,
        }
        times = {
            _SCRUBBED: standing.scrub.scrub_complete_time,
            _OLDEST_CHECK: standing.oldest_check_time,
            _RECONCILED: standing.reconcile_time,
        }
        return {
            **{gauge.name: [Sample((), float(value))] for gauge, value in values.items()},
            **{gauge.name: [Sample((), moment.timestamp())] for gauge, moment in times.items() if moment is not None},
            _LOCKS.name: [
                Sample((state.name.lower(),), float(test is not None and test.lock_state == state.value))
                for state in LockState
            ],
        }


def _read_spool(spool: Spool, spool_bytes_max: int, watch: StoreWatch) -> Mapping[str, Iterable[Sample]]:
    usage = spool.usage()
    trouble = watch.trouble
    return {
        _REACHABLE.name: [Sample((), float(watch.standing.is_reachable))],
        _TROUBLE.name: [
            Sample((kind.name.lower(),), float(trouble is not None and trouble.kind is kind)) for kind in StoreTrouble
        ],
        _UPLOADS.name: [Sample((), float(usage.upload_count))],
        _SPOOL.name: [Sample((), float(usage.received_bytes))],
        _SPOOL_MAX.name: [Sample((), float(spool_bytes_max))],
    }


class _CountedStore:
    """A store that counts what it does not do, and tells which bytes it took. Everything else is the store's own."""

    def __init__(self, objects: ObjectStore, failed: Callable[[StoreError], None], writes: StoreWrites) -> None:
        self._objects = objects
        self._failed = failed
        self._writes = writes

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._objects, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            try:
                result = found(*arguments, **options)
            except StoreError as error:
                self._failed(error)
                if name in WRITES:
                    self._writes.refused(error)
                raise
            # What was there already was not sent, and says nothing about room.
            if name in WRITES and not (isinstance(result, PutResult) and result.was_there):
                self._writes.taken()
            return _CountedReader(result, self._failed) if name == "read" else result

        return call


class _CountedReader:
    """Bytes of an object that break off are counted, too."""

    def __init__(self, reader: ObjectReader, failed: Callable[[StoreError], None]) -> None:
        self._reader = reader
        self._failed = failed

    @property
    def size_bytes(self) -> int:
        """Size of the whole object."""
        return self._reader.size_bytes

    def __iter__(self) -> "_CountedReader":
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._reader)
        except StoreError as error:
            self._failed(error)
            raise

    def close(self) -> None:
        """Give up the rest."""
        self._reader.close()

    def __enter__(self) -> "_CountedReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
