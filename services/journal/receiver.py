"""Receives logs of lower platforms: checks place, bytes, root and signature, projects, cosigns and commits. Batches of
a log that wait together are one transaction.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from services.common.clock import Clock
from services.common.database import Engine, raw_connection, translate_errors
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.request import request_context
from services.journal import merkle, projection, store
from services.journal.digests import Digester
from services.journal.entries import parse_log_start
from services.journal.incoming import (
    BatchPreparer,
    IncomingBatch,
    Plan,
    PreparedBatch,
    history_mismatch,
    sequence_gap,
    verify_signature,
)
from services.journal.limits import (
    BATCH_BYTES_MAX,
    BATCH_RECORDS_MAX,
    LOGS_MAX,
    RUN_BATCHES_MAX,
    RUN_BYTES_MAX,
    RUN_RECORDS_MAX,
)
from services.journal.lookahead import Lookahead
from services.journal.metrics import JournalMetrics
from services.journal.notes import SignedCheckpoint, Signer
from services.journal.projection import Projection, ProjectionFailed
from services.journal.replay import project_singly, replay_parked
from services.journal.store import checkpoints
from services.journal.store.runs import store_run

# What a caller of the receiver deals with; that batches are prepared elsewhere is no concern of theirs.
__all__ = ["IncomingBatch", "Received", "Receiver"]

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Received:
    """What a committed batch led to."""

    head: store.LogHead
    duplicate_count: int
    parked_count: int
    checkpoint: str


class Receiver:
    """Appends what lower platforms push. One instance serves all logs; logs run in parallel, one queues on its row."""

    def __init__(
        self,
        engine: Engine,
        own_origin: str,
        stream: str,
        signer: Signer,
        tables: Projection,
        clock: Clock,
        announce: Callable[[str], None],
        metrics: JournalMetrics,
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._stream = stream
        self._signer = signer
        self._projection = tables
        self._clock = clock
        self._announce = announce
        self._preparer = BatchPreparer(own_origin, stream, tables, self._find_head)
        # Where logs stood when they were last looked at, as many as are held: what batches are planned on.
        self._heads: dict[str, store.LogHead] = {}

    def receive_all(self, batches: Iterable[IncomingBatch]) -> Iterator[Received]:
        """Receive batches in order; those that come while the last ones commit are prepared, then committed together.

        Ends early, without a word, when the call ends or the server stops. Raises ServiceError as
        `BatchPreparer.prepare` and `commit` do, after every batch before the refused one is committed and told.
        """
        expected: dict[str, store.LogHead | None] = {}

        def prepare_next(batch: IncomingBatch) -> PreparedBatch:
            prepared = self._preparer.prepare(batch, expected.get(batch.origin))
            expected[batch.origin] = prepared.expected_head
            return prepared

        ahead = Lookahead(f"{self._stream}-receive", iter(batches), prepare_next, _has_room)
        request_context().on_end(ahead.stop)
        ahead.start()
        try:
            while run := ahead.take_run(_is_continued):
                yield from self.commit(run)
        finally:
            ahead.stop()

    def commit(self, run: Sequence[PreparedBatch]) -> Iterator[Received]:
        """Append prepared batches of one log, and tell of each once it is durable.

        All in one transaction if all is as planned, else one by one: then every batch before a refused one is committed
        and told. Raises ServiceError SEQUENCE_GAP, HISTORY_MISMATCH, UNKNOWN_SIGNER, …, and DATABASE_UNAVAILABLE, after
        which nothing of the run is left but what was told; or all of it, when the connection was lost with the answer
        to the commit on its way. Sent again it is recognised.
        """
        has_failed = False
        together: list[Received] | None = None
        with translate_errors():
            try:
                with self._metrics.receiving(sum(len(batch.leaves) for batch in run)) as timing:
                    together = self._append_planned(run)
                    timing.is_void = together is None
            except ProjectionFailed:
                has_failed = True
        if together is not None:
            self._announce(run[0].incoming.origin)
            yield from together
            return
        for batch in run:
            # What has just failed for this batch alone fails again.
            yield self._commit_one(batch, is_careful=has_failed and len(run) == 1)

    def _commit_one(self, batch: PreparedBatch, is_careful: bool) -> Received:
        """Append a batch whatever it was planned on.

        The projection is tried as a whole; only if that fails is the batch done again entry by entry, parking the bad
        ones.
        """
        with translate_errors(), self._metrics.receiving(len(batch.leaves)):
            try:
                received = self._append(batch, is_careful)
            except ProjectionFailed:
                received = self._append(batch, is_careful=True)
        self._metrics.received_again(received.duplicate_count)
        self._announce(batch.incoming.origin)
        return received

    def _find_head(self, origin: str, first_sequence: int) -> store.LogHead | None:
        head = self._heads.get(origin)
        if head is None or head.size + 1 < first_sequence:
            with translate_errors(), self._engine.begin() as pooled:
                head = store.read_head(raw_connection(pooled), origin)
            if head is not None:
                self._heads[origin] = head
        return head

    def _append_planned(self, run: Sequence[PreparedBatch]) -> list[Received] | None:
        """Append whole batches that were planned one on the other; None, and nothing done, where that does not hold."""
        plans = [batch.plan for batch in run if batch.plan is not None]
        if len(plans) < len(run):
            return None
        origin = run[0].incoming.origin
        with self._engine.begin() as pooled:
            connection = raw_connection(pooled)
            # Every root and signature was checked after the head that the plan began with: the same head, the same log.
            if self._locked_head(connection, run[0].incoming) != plans[0].base:
                return None
            kept = checkpoints.newest_kept(connection, origin)
            seconds = self._cosign_seconds(SignedCheckpoint.parse(kept[-1].note) if kept else None)
            cosigned = []
            for plan in plans:
                cosigned.append(self._signer.cosign(plan.verified, seconds))
                # One that a note brought back may be of a later time than now.
                seconds = max(seconds, cosigned[-1].cosigned_at(self._signer.verifier_key) or 0)
            self._insert_entries(connection, run, plans)
            projection.project_together(self._projection, connection, origin, [plan.rows for plan in plans])
            parked = [one for batch in run for one in batch.parked]
            if parked:
                store.insert_parked(connection, origin, parked)
            head = plans[-1].growth.head
            added = [
                checkpoints.Kept(plan.growth.head.size, plan.growth.head.total_bytes, signed.format())
                for plan, signed in zip(plans, cosigned, strict=True)
            ]
            nodes = [node for plan in plans for node in plan.growth.nodes]
            store_run(connection, head, nodes, *checkpoints.thin(kept, added))
        self._heads[origin] = head
        self._warn_of_parked(origin, len(parked))
        return [
            Received(plan.growth.head, 0, len(batch.parked), one.note)
            for batch, plan, one in zip(run, plans, added, strict=True)
        ]

    def _insert_entries(
        self, connection: store.Connection, run: Sequence[PreparedBatch], plans: Sequence[Plan]
    ) -> None:
        if sum(len(batch.leaves) for batch in run) >= store.COPY_ROWS_MIN:
            store.copy_entries(connection, [plan.entry_rows for plan in plans])
            return
        entries = [entry for batch in run for entry in batch.incoming.entries]
        leaves = [leaf for batch in run for leaf in batch.leaves]
        first = run[0].incoming
        store.insert_entries(connection, store.pack_entries(first.origin, first.first_sequence, entries, leaves))

    def _warn_of_parked(self, origin: str, count: int) -> None:
        if count:
            _log.warning("entries_parked", origin=origin, stream=self._stream, count=count)

    def _append(self, batch: PreparedBatch, is_careful: bool) -> Received:
        incoming = batch.incoming
        with self._engine.begin() as pooled:
            connection = raw_connection(pooled)
            head = self._locked_head(connection, incoming)
            held_count = min(head.size + 1 - incoming.first_sequence, len(batch.leaves))
            if held_count < 0:
                raise sequence_gap(incoming.origin, head.size + 1, incoming.first_sequence)
            if head.digest_algorithm != batch.digest_algorithm:
                if incoming.first_sequence == 1:
                    raise history_mismatch(incoming.origin, 1, "entry 1 sent again names another digest algorithm")
                # It was hashed after a head that is held no more: the database was replaced under us.
                batch = self._preparer.prepare(incoming, head)
            check_held(connection, incoming, batch.leaves[:held_count])
            if held_count == len(batch.leaves):
                return self._answer_duplicate(connection, head, batch)
            entries, leaves = incoming.entries[held_count:], batch.leaves[held_count:]
            growth = store.grow(head, Digester(head.digest_algorithm), entries, leaves, batch.write_time)
            signed = verify_root(batch, head, growth.head.root)
            cosigned = self._signer.cosign(signed, self._cosign_seconds(checkpoints.newest(connection, head.origin)))
            store.insert_entries(connection, store.pack_entries(incoming.origin, head.size + 1, entries, leaves))
            first_new = head.size + 1
            parked = [one for one in batch.parked if one.sequence >= first_new]
            prepared = [one for one in batch.prepared if one[0] >= first_new] if held_count else batch.prepared
            if is_careful:
                parked += project_singly(self._projection, connection, incoming.origin, prepared)
            elif prepared:
                projection.project(self._projection, connection, incoming.origin, prepared)
            if parked:
                store.insert_parked(connection, incoming.origin, parked)
            checkpoints.add(connection, incoming.origin, growth.head.total_bytes, cosigned)
            store.store_growth(connection, growth)
        self._heads[incoming.origin] = growth.head
        self._warn_of_parked(incoming.origin, len(parked))
        return Received(growth.head, held_count, len(parked), cosigned.format())

    def _locked_head(self, connection: store.Connection, incoming: IncomingBatch) -> store.LogHead:
        head = store.lock_head(connection, incoming.origin)
        if head is None:
            start = parse_log_start(incoming.entries[0]) if incoming.first_sequence == 1 else None
            if start is None:
                raise sequence_gap(incoming.origin, 1, incoming.first_sequence)
            if store.count_logs(connection) >= LOGS_MAX:
                raise ServiceError(
                    Reason.ORIGIN_NOT_ALLOWED,
                    f"{LOGS_MAX} {self._stream} logs are held here already; the log of {incoming.origin} is not begun",
                    metadata={"origin": incoming.origin, "limit": str(LOGS_MAX)},
                )
            store.create_log(connection, incoming.origin, False, start.digest_algorithm, start.verifier_key)
            head = store.lock_head(connection, incoming.origin)
        if head is None or head.is_own:
            # Only a database that another platform's service wrote comes here.
            raise LookupError(f"the log of {incoming.origin} cannot be received into this database")
        return head

    def _cosign_seconds(self, newest: SignedCheckpoint | None) -> int:
        """Return the time of a cosignature: now, but never before the last one of the log, on its newest checkpoint.

        A cosignature states the largest size seen at its time (C2SP tlog-cosignature); a clock that was set back must
        not make us state a larger size at an earlier time.
        """
        last = newest.cosigned_at(self._signer.verifier_key) if newest else None
        return max(int(self._clock.now().timestamp()), last or 0)

    def _answer_duplicate(self, connection: store.Connection, head: store.LogHead, batch: PreparedBatch) -> Received:
        """Answer a batch that is held entirely; its checkpoint is checked like the first time.

        The answer carries the cosignature given then. Where it is no longer kept it carries none: a new one would state
        that nothing larger has been seen.
        """
        nodes = partial(store.read_nodes, connection, head.origin)
        digester = Digester(head.digest_algorithm)
        size = batch.signed.checkpoint.size
        root = head.root if size == head.size else merkle.frontier_at(digester, nodes, size).root(digester)
        signed = verify_root(batch, head, root)
        held = checkpoints.at_size(connection, head.origin, size)
        return Received(head, len(batch.leaves), 0, (held or signed).format())

    def replay_parked(self, origin: str | None) -> tuple[int, int]:
        """Project parked entries again in order. Return how many are projected and how many stay (see `replay`)."""
        return replay_parked(self._engine, self._projection, origin)


def check_held(connection: store.Connection, incoming: IncomingBatch, again: list[bytes]) -> None:
    """Compare entries sent again with what is held: other bytes at the same place are another history.

    Raises ServiceError HISTORY_MISMATCH.
    """
    held = store.read_leaves(connection, incoming.origin, incoming.first_sequence, len(again)) if again else []
    for sequence, (leaf, sent) in enumerate(zip(held, again, strict=True), incoming.first_sequence):
        if leaf != sent:
            raise history_mismatch(incoming.origin, sequence, "other bytes are held at this place")


def verify_root(batch: PreparedBatch, head: store.LogHead, root: bytes) -> SignedCheckpoint:
    """Return the batch's checkpoint as it is kept, once it is known to be true.

    Raises ServiceError HISTORY_MISMATCH, UNKNOWN_SIGNER.
    """
    if batch.signed.checkpoint.root != root:
        raise history_mismatch(
            batch.incoming.origin,
            batch.signed.checkpoint.size,
            "the root computed here differs from the checkpoint's",
        )
    return verify_signature(batch.incoming.origin, batch.signed, head.verifier_key)


def _has_room(waiting: Sequence[PreparedBatch]) -> bool:
    """Return whether the largest batch beside those that wait would still stay within a run."""
    return not waiting or (
        len(waiting) < RUN_BATCHES_MAX
        and sum(len(batch.leaves) for batch in waiting) + BATCH_RECORDS_MAX <= RUN_RECORDS_MAX
        and sum(batch.byte_count for batch in waiting) + BATCH_BYTES_MAX <= RUN_BYTES_MAX
    )


def _is_continued(batch: PreparedBatch, following: PreparedBatch) -> bool:
    """Return whether a batch was planned on the head that the one before it leaves."""
    return batch.plan is not None and following.plan is not None and following.plan.base is batch.plan.growth.head
