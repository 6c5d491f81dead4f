"""Receives logs of lower platforms: checks place, bytes, root and signature, projects, cosigns and commits in one
transaction.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import structlog

from services.common.clock import Clock
from services.common.database import Engine, raw_connection, translate_errors
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.request import request_context
from services.journal import merkle, projection, store
from services.journal.digests import Digester
from services.journal.entries import is_platform_code, parse_log_start, written_at
from services.journal.limits import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, ENTRY_BYTES_MAX, LOGS_MAX
from services.journal.lookahead import Lookahead
from services.journal.notes import NoteError, SignedCheckpoint, Signer, VerifierKey, log_name, signer_name
from services.journal.projection import Parked, Projection, ProjectionFailed
from services.journal.replay import project_singly, replay_parked
from services.journal.store import checkpoints

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class IncomingBatch:
    """A batch as it arrived."""

    origin: str
    first_sequence: int
    entries: list[bytes]
    checkpoint: str


@dataclass(frozen=True, slots=True)
class PreparedBatch:
    """A batch with everything computed that needs no database."""

    incoming: IncomingBatch
    digest_algorithm: str
    leaves: list[bytes]
    prepared: list[tuple[int, Any]]
    parked: list[Parked]
    signed: SignedCheckpoint
    write_time: datetime | None


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
    ) -> None:
        self._engine = engine
        self._own_origin = own_origin
        self._stream = stream
        self._signer = signer
        self._projection = tables
        self._clock = clock
        self._announce = announce
        self._algorithms: dict[str, str] = {}

    def receive_all(self, batches: Iterable[IncomingBatch]) -> Iterator[Received]:
        """Receive batches in order; the next is parsed and hashed while the last one commits.

        Ends early, without a word, when the call ends or the server stops. Raises ServiceError as `prepare` and
        `commit` do, after every batch before the refused one is committed and told.
        """
        begun: dict[str, str] = {}

        def prepare_next(batch: IncomingBatch) -> PreparedBatch:
            prepared = self.prepare(batch, begun.get(batch.origin))
            begun[batch.origin] = prepared.digest_algorithm
            return prepared

        ahead = Lookahead(f"{self._stream}-receive", iter(batches), prepare_next)
        request_context().on_end(ahead.stop)
        ahead.start()
        try:
            while (prepared := ahead.take()) is not None:
                yield self.commit(prepared)
        finally:
            ahead.stop()

    def prepare(self, batch: IncomingBatch, begun_with: str | None = None) -> PreparedBatch:
        """Parse and hash a batch. Raises ServiceError for a batch that no state of the log could accept.

        `begun_with` is the digest algorithm of the same log's earlier batch in this stream, which may not be committed.
        """
        self._check_bounds(batch)
        try:
            signed = SignedCheckpoint.parse(batch.checkpoint)
        except NoteError as error:
            raise self._bad_checkpoint(batch, str(error)) from error
        expected_name = log_name(self._stream, batch.origin)
        expected_size = batch.first_sequence + len(batch.entries) - 1
        if (signed.checkpoint.log_name, signed.checkpoint.size) != (expected_name, expected_size):
            raise self._bad_checkpoint(
                batch,
                f"it is for {signed.checkpoint.log_name[:64]!r} at {signed.checkpoint.size}, "
                f"not {expected_name!r} at {expected_size}",
            )
        algorithm = self._algorithm(batch, begun_with)
        digester = Digester(algorithm)
        leaves = digester.leaves(batch.entries)
        prepared: list[tuple[int, Any]] = []
        parked: list[Parked] = []
        for sequence, (entry, leaf) in enumerate(zip(batch.entries, leaves, strict=True), batch.first_sequence):
            outcome = projection.prepare(self._projection, batch.origin, sequence, entry, leaf)
            if isinstance(outcome, Parked):
                parked.append(outcome)
            elif outcome is not None:
                prepared.append(outcome)
        # The last entry's time; an earlier one's when that is no entry, or says nothing of it.
        times = (written_at(entry) for entry in reversed(batch.entries))
        write_time = next((time for time in times if time is not None), None)
        return PreparedBatch(batch, algorithm, leaves, prepared, parked, signed, write_time)

    def commit(self, batch: PreparedBatch) -> Received:
        """Append a prepared batch. Raises ServiceError SEQUENCE_GAP, HISTORY_MISMATCH, UNKNOWN_SIGNER, ….

        The projection is tried as a whole; only if that fails is the batch done again entry by entry, parking the bad
        ones.
        """
        with translate_errors():
            try:
                received = self._append(batch, is_careful=False)
            except ProjectionFailed:
                received = self._append(batch, is_careful=True)
        self._announce(batch.incoming.origin)
        return received

    def _check_bounds(self, batch: IncomingBatch) -> None:
        if batch.origin == self._own_origin:
            raise ServiceError(
                Reason.ORIGIN_NOT_ALLOWED,
                f"{batch.origin} is this platform itself; its log is written here and nowhere else",
                metadata={"origin": batch.origin},
            )
        if not is_platform_code(batch.origin):
            raise ServiceError(
                Reason.INVALID_ARGUMENT, f"origin {batch.origin[:32]!r} is not a six-digit platform code"
            )
        if not 1 <= len(batch.entries) <= BATCH_RECORDS_MAX:
            raise ServiceError(
                Reason.BATCH_TOO_LARGE,
                f"a batch has 1 to {BATCH_RECORDS_MAX} entries, this one has {len(batch.entries)}",
                metadata={"limit": str(BATCH_RECORDS_MAX), "actual": str(len(batch.entries))},
            )
        if batch.first_sequence < 1:
            raise ServiceError(Reason.INVALID_ARGUMENT, f"first_sequence {batch.first_sequence} is below 1")
        largest = max(map(len, batch.entries))
        total = sum(map(len, batch.entries))
        if largest > ENTRY_BYTES_MAX or (total > BATCH_BYTES_MAX and len(batch.entries) > 1):
            limit, actual = (ENTRY_BYTES_MAX, largest) if largest > ENTRY_BYTES_MAX else (BATCH_BYTES_MAX, total)
            raise ServiceError(
                Reason.ENTRY_TOO_LARGE,
                f"{actual} bytes are more than the {limit} allowed for "
                f"{'an entry' if limit == ENTRY_BYTES_MAX else 'a batch'}",
                metadata={"limit": str(limit), "actual": str(actual)},
            )

    def _algorithm(self, batch: IncomingBatch, begun_with: str | None) -> str:
        """Return the digest algorithm of the batch's log: from entry 1 if it is here, else from the log held."""
        if batch.first_sequence == 1:
            start = parse_log_start(batch.entries[0])
            if start is None or (start.origin, start.stream) != (batch.origin, self._stream):
                raise ServiceError(
                    Reason.HISTORY_MISMATCH,
                    f"entry 1 does not begin the {self._stream} log of {batch.origin}",
                    metadata={"origin": batch.origin, "sequence": "1"},
                )
            self._read_key(batch, start.verifier_key)
            try:
                return Digester(start.digest_algorithm).algorithm
            except ValueError as error:
                raise ServiceError(Reason.INVALID_ARGUMENT, str(error)) from error
        algorithm = self._algorithms.get(batch.origin) or begun_with
        if algorithm is None:
            with translate_errors(), self._engine.begin() as pooled:
                head = store.read_head(raw_connection(pooled), batch.origin)
            if head is None:
                raise _gap(batch.origin, 1, batch.first_sequence)
            algorithm = self._algorithms[batch.origin] = head.digest_algorithm
        return algorithm

    def _read_key(self, batch: IncomingBatch, text: str) -> VerifierKey:
        """Return the key of entry 1; it signs under its platform's own name, so that nobody signs as another."""
        try:
            key = VerifierKey.parse(text)
        except NoteError as error:
            raise self._bad_checkpoint(batch, f"entry 1 of the log holds no usable key: {error}") from error
        if key.name != signer_name(batch.origin):
            raise self._bad_checkpoint(
                batch, f"entry 1 of the log holds a key of {key.name}, not of {signer_name(batch.origin)}"
            )
        return key

    def _append(self, batch: PreparedBatch, is_careful: bool) -> Received:
        incoming = batch.incoming
        with self._engine.begin() as pooled:
            connection = raw_connection(pooled)
            head = self._locked_head(connection, incoming)
            if head.digest_algorithm != batch.digest_algorithm:
                raise _mismatch(incoming.origin, 1, "entry 1 sent again names another digest algorithm")
            held_count = min(head.size + 1 - incoming.first_sequence, len(batch.leaves))
            if held_count < 0:
                raise _gap(incoming.origin, head.size + 1, incoming.first_sequence)
            self._check_held(connection, incoming, batch.leaves[:held_count])
            if held_count == len(batch.leaves):
                return self._answer_duplicate(connection, head, batch)
            entries, leaves = incoming.entries[held_count:], batch.leaves[held_count:]
            growth = store.grow(head, Digester(head.digest_algorithm), entries, leaves, batch.write_time)
            signed = self._verify(head, batch, growth.head.root)
            cosigned = self._signer.cosign(signed, self._cosign_seconds(connection, head))
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
        if parked:
            _log.warning("entries_parked", origin=incoming.origin, stream=self._stream, count=len(parked))
        return Received(growth.head, held_count, len(parked), cosigned.format())

    def _locked_head(self, connection: store.Connection, incoming: IncomingBatch) -> store.LogHead:
        head = store.lock_head(connection, incoming.origin)
        if head is None:
            start = parse_log_start(incoming.entries[0]) if incoming.first_sequence == 1 else None
            if start is None:
                raise _gap(incoming.origin, 1, incoming.first_sequence)
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

    def _check_held(self, connection: store.Connection, incoming: IncomingBatch, again: list[bytes]) -> None:
        """Compare entries sent again with what is held: other bytes at the same place are another history."""
        held = store.read_leaves(connection, incoming.origin, incoming.first_sequence, len(again)) if again else []
        for sequence, (leaf, sent) in enumerate(zip(held, again, strict=True), incoming.first_sequence):
            if leaf != sent:
                raise _mismatch(incoming.origin, sequence, "other bytes are held at this place")

    def _verify(self, head: store.LogHead, batch: PreparedBatch, root: bytes) -> SignedCheckpoint:
        """Return the batch's checkpoint with its origin's signature and cosignatures, once it is known to be true."""
        incoming, signed = batch.incoming, batch.signed
        size = signed.checkpoint.size
        if signed.checkpoint.root != root:
            raise _mismatch(incoming.origin, size, "the root computed here differs from the checkpoint's")
        key = self._read_key(incoming, head.verifier_key)
        verified = signed.verified(key)
        if verified is None:
            raise ServiceError(
                Reason.UNKNOWN_SIGNER,
                f"the checkpoint of {incoming.origin} at {size} is not signed with the key "
                f"that the log began with, {key.format()}",
                metadata={"origin": incoming.origin},
            )
        return verified

    def _cosign_seconds(self, connection: store.Connection, head: store.LogHead) -> int:
        """Return the time of a cosignature: now, but never before the last one of the log.

        A cosignature states the largest size seen at its time (C2SP tlog-cosignature); a clock that was set back must
        not make us state a larger size at an earlier time.
        """
        newest = checkpoints.newest(connection, head.origin)
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
        signed = self._verify(head, batch, root)
        held = checkpoints.at_size(connection, head.origin, size)
        return Received(head, len(batch.leaves), 0, (held or signed).format())

    def replay_parked(self, origin: str | None) -> tuple[int, int]:
        """Project parked entries again in order. Return how many are projected and how many stay (see `replay`)."""
        return replay_parked(self._engine, self._projection, origin)

    def _bad_checkpoint(self, batch: IncomingBatch, detail: str) -> ServiceError:
        return ServiceError(
            Reason.INVALID_CHECKPOINT,
            f"the checkpoint of {batch.origin} cannot be used: {detail}",
            metadata={"origin": batch.origin},
        )


def _gap(origin: str, expected: int, actual: int) -> ServiceError:
    return ServiceError(
        Reason.SEQUENCE_GAP,
        f"the log of {origin} goes on at sequence {expected} here, not at {actual}",
        metadata={"origin": origin, "expected_sequence": str(expected)},
    )


def _mismatch(origin: str, sequence: int, detail: str) -> ServiceError:
    return ServiceError(
        Reason.HISTORY_MISMATCH,
        f"two histories of {origin} exist from sequence {sequence} or before: {detail}",
        metadata={"origin": origin, "sequence": str(sequence)},
    )
