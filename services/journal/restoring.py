"""Brings the own log back after its database was restored from a backup: appends what a platform above still holds of
it, as it was written, and ends the recovery once both sides were compared. Meanwhile nothing new is written.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import structlog

from services.common.clock import Clock
from services.common.database import Engine, raw_connection, translate_errors
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.journal import merkle, projection, store
from services.journal.addressed_steps import AddressedPlace, audiences_of
from services.journal.digests import Digester
from services.journal.incoming import BatchPreparer, IncomingBatch, PreparedBatch, history_mismatch, sequence_gap
from services.journal.log_writer import LogWriter
from services.journal.projection import Projection, ProjectionFailed
from services.journal.receiver import check_held, verify_root
from services.journal.replay import project_singly
from services.journal.store import addressed, checkpoints

_log = structlog.get_logger()

_NOBODY = ""
"""Own origin of a preparer that refuses no log as its own."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a committed batch led to."""

    head: store.LogHead
    duplicate_count: int
    parked_count: int


class OwnLogRestorer:
    """Appends own entries that come back. Batches queue on the log's row, like everything that is written to it."""

    def __init__(
        self, engine: Engine, writer: LogWriter, tables: Projection, clock: Clock, announce: Callable[[str], None]
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._projection = tables
        self._clock = clock
        self._announce = announce
        self._preparer = BatchPreparer(_NOBODY, writer.stream, tables, self._find_head)

    def restore(self, batch: IncomingBatch) -> Restored:
        """Append a batch and mark the log as recovering, in one transaction.

        Raises ServiceError ORIGIN_NOT_ALLOWED for another platform's log, SEQUENCE_GAP, HISTORY_MISMATCH when the log
        does not continue what is held, UNKNOWN_SIGNER, INVALID_CHECKPOINT, …; then nothing is changed.
        """
        if batch.origin != self._writer.origin:
            raise ServiceError(
                Reason.ORIGIN_NOT_ALLOWED,
                f"only the log of {self._writer.origin} itself is brought back here, not that of {batch.origin[:32]!r}",
                metadata={"origin": batch.origin[:32]},
            )
        prepared = self._preparer.prepare(batch)
        with translate_errors():
            try:
                restored = self._append(prepared, is_careful=False)
            except ProjectionFailed:
                restored = self._append(prepared, is_careful=True)
        self._announce(self._writer.origin)
        self._announce(addressed.ADDRESSED)
        if restored.parked_count:
            _log.warning("entries_parked", origin=batch.origin, stream=self._writer.stream, count=restored.parked_count)
        return restored

    def confirm(self, size: int, root: bytes) -> store.LogHead:
        """End the recovery: elsewhere `size` entries of the log are held, with this root. Return the head.

        A log that is empty here and elsewhere is begun. Raises ServiceError BEYOND_LOG when more is held elsewhere,
        HISTORY_MISMATCH when the root differs, INVALID_ARGUMENT for a negative size.
        """
        with translate_errors(), self._engine.begin() as pooled:
            connection = raw_connection(pooled)
            head = self._writer.lock_any(connection)
            self._compare(connection, head, size, root)
            if head.is_recovering:
                store.set_recovering(connection, head.origin, is_recovering=False)
                self._writer.write_start(connection, self._clock.now())
                _log.info("log_confirmed", origin=head.origin, stream=self._writer.stream, size=head.size)
            head = self._writer.lock(connection)
        self._announce(head.origin)
        return head

    def _find_head(self, origin: str, first_sequence: int) -> store.LogHead | None:
        del first_sequence
        with translate_errors(), self._engine.begin() as pooled:
            return store.read_head(raw_connection(pooled), origin)

    def _append(self, batch: PreparedBatch, *, is_careful: bool) -> Restored:
        incoming = batch.incoming
        with self._engine.begin() as pooled:
            connection = raw_connection(pooled)
            head = self._writer.lock_any(connection)
            held_count = min(head.size + 1 - incoming.first_sequence, len(batch.leaves))
            if held_count < 0:
                raise sequence_gap(incoming.origin, head.size + 1, incoming.first_sequence)
            if head.digest_algorithm != batch.digest_algorithm:
                raise history_mismatch(incoming.origin, 1, "entry 1 names another digest algorithm")
            check_held(connection, incoming, batch.leaves[:held_count])
            if held_count == len(batch.leaves):
                return Restored(head, held_count, 0)
            entries, leaves = incoming.entries[held_count:], batch.leaves[held_count:]
            growth = store.grow(head, Digester(head.digest_algorithm), entries, leaves, batch.write_time)
            # Our own signature: the origin is this platform, and the key that of its log.
            signed = verify_root(batch, head, growth.head.root)
            first_new = head.size + 1
            store.insert_entries(connection, store.pack_entries(head.origin, first_new, entries, leaves))
            places = [
                AddressedPlace(first_new + index, audience, len(entries[index]))
                for index, audience in audiences_of(entries).items()
            ]
            if places:
                addressed.index_own(connection, head.origin, places)
            parked = [one for one in batch.parked if one.sequence >= first_new]
            prepared = [one for one in batch.prepared if one[0] >= first_new]
            if is_careful:
                parked += project_singly(self._projection, connection, head.origin, prepared)
            elif prepared:
                projection.project(self._projection, connection, head.origin, prepared)
            if parked:
                store.insert_parked(connection, head.origin, parked)
            if any(line.is_cosignature_form for line in signed.signatures):
                # Bytes are for batches of copies; the own log signs any size and needs none.
                checkpoints.add(connection, head.origin, 0, signed)
            store.store_growth(connection, growth)
            if not head.is_recovering:
                store.set_recovering(connection, head.origin, is_recovering=True)
        return Restored(growth.head, held_count, len(parked))

    def _compare(self, connection: store.Connection, head: store.LogHead, size: int, root: bytes) -> None:
        if size < 0:
            raise ServiceError(Reason.INVALID_ARGUMENT, f"size {size} is below 0")
        if size > head.size:
            raise ServiceError(
                Reason.BEYOND_LOG,
                f"{size} entries of the {self._writer.stream} log of {head.origin} are held elsewhere, only "
                f"{head.size} here: they must be brought back first",
                metadata={"size": str(head.size)},
            )
        if not size:
            return
        digester = Digester(head.digest_algorithm)
        nodes = partial(store.read_nodes, connection, head.origin)
        held = head.root if size == head.size else merkle.frontier_at(digester, nodes, size).root(digester)
        if held != root:
            raise history_mismatch(head.origin, size, "the root held elsewhere at this size is another one")
