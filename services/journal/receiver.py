"""Receives logs of lower platforms: checks place, bytes, root and signature, projects, cosigns and commits in one transaction."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC
from functools import partial
from typing import Any

import structlog
from zhichao.journal.v1 import entry_pb2

from services.common.clock import Clock
from services.common.database import Engine, raw_connection, translate_errors
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.journal import merkle, projection, store
from services.journal.digests import Digester
from services.journal.entries import NewEntry, parse, parse_log_start
from services.journal.limits import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, ENTRY_BYTES_MAX
from services.journal.notes import NoteError, SignedCheckpoint, Signer, VerifierKey, log_name
from services.journal.projection import Parked, Projection
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
    added: list[NewEntry]
    prepared: list[tuple[int, Any]]
    parked: list[Parked]
    signed: SignedCheckpoint
    last_entry: entry_pb2.Entry | None


@dataclass(frozen=True, slots=True)
class Received:
    """What a committed batch led to."""

    head: store.LogHead
    duplicate_count: int
    parked_count: int
    checkpoint: str


class Receiver:
    """Appends what lower platforms push. One instance serves all logs; logs run in parallel, one log queues on its row."""

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
        """Receive batches in order; the next is parsed and hashed while the last one commits."""
        source = iter(batches)

        def prepare_next() -> PreparedBatch | None:
            batch = next(source, None)
            return None if batch is None else self.prepare(batch)

        with ThreadPoolExecutor(1, thread_name_prefix=f"{self._stream}-receive") as ahead:
            coming = ahead.submit(prepare_next)
            while (prepared := coming.result()) is not None:
                coming = ahead.submit(prepare_next)
                yield self.commit(prepared)

    def prepare(self, batch: IncomingBatch) -> PreparedBatch:
        """Parse and hash a batch. Raises ServiceError for a batch that no state of the log could accept."""
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
                f"it is for {signed.checkpoint.log_name} at {signed.checkpoint.size}, not {expected_name} at {expected_size}",
            )
        algorithm = self._algorithm(batch)
        digester = Digester(algorithm)
        added = list(map(NewEntry, batch.entries, digester.leaves(batch.entries)))
        prepared: list[tuple[int, Any]] = []
        parked: list[Parked] = []
        for sequence, new in enumerate(added, batch.first_sequence):
            outcome = projection.prepare(self._projection, batch.origin, sequence, new.entry, new.leaf)
            if isinstance(outcome, Parked):
                parked.append(outcome)
            elif outcome is not None:
                prepared.append(outcome)
        return PreparedBatch(batch, algorithm, added, prepared, parked, signed, parse(batch.entries[-1]))

    def commit(self, batch: PreparedBatch) -> Received:
        """Append a prepared batch. Raises ServiceError SEQUENCE_GAP, HISTORY_MISMATCH, UNKNOWN_SIGNER, ….

        The projection is tried as a whole; only if a row fails is the batch done again entry by entry, parking the bad ones.
        """
        with translate_errors():
            try:
                received = self._append(batch, is_careful=False)
            except store.RowFailure:
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
        if not (len(batch.origin) == len("140000") and batch.origin.isascii() and batch.origin.isdecimal()):
            raise ServiceError(Reason.INVALID_ARGUMENT, f"origin {batch.origin[:32]!r} is not a six-digit platform code")
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
            limit, actual = (
                (ENTRY_BYTES_MAX, largest) if largest > ENTRY_BYTES_MAX else (BATCH_BYTES_MAX, total)
            )
            raise ServiceError(
                Reason.ENTRY_TOO_LARGE,
                f"{actual} bytes are more than the {limit} allowed for "
                f"{'an entry' if limit == ENTRY_BYTES_MAX else 'a batch'}",
                metadata={"limit": str(limit), "actual": str(actual)},
            )

    def _algorithm(self, batch: IncomingBatch) -> str:
        """Return the digest algorithm of the batch's log: from entry 1 if it is here, else from the log held."""
        if batch.first_sequence == 1:
            start = parse_log_start(batch.entries[0])
            if start is None or (start.origin, start.stream) != (batch.origin, self._stream):
                raise ServiceError(
                    Reason.HISTORY_MISMATCH,
                    f"entry 1 does not begin the {self._stream} log of {batch.origin}",
                    metadata={"origin": batch.origin, "sequence": "1"},
                )
            try:
                return Digester(start.digest_algorithm).algorithm
            except ValueError as error:
                raise ServiceError(Reason.INVALID_ARGUMENT, str(error)) from error
        algorithm = self._algorithms.get(batch.origin)
        if algorithm is None:
            with translate_errors(), self._engine.begin() as pooled:
                head = store.read_head(raw_connection(pooled), batch.origin)
            if head is None:
                raise _gap(batch.origin, 1, batch.first_sequence)
            algorithm = self._algorithms[batch.origin] = head.digest_algorithm
        return algorithm

    def _append(self, batch: PreparedBatch, is_careful: bool) -> Received:
        incoming = batch.incoming
        with self._engine.begin() as pooled:
            connection = raw_connection(pooled)
            head = self._locked_head(connection, incoming)
            if head.digest_algorithm != batch.digest_algorithm:
                raise _mismatch(incoming.origin, 1, "entry 1 sent again names another digest algorithm")
            held_count = min(head.size + 1 - incoming.first_sequence, len(batch.added))
            if held_count < 0:
                raise _gap(incoming.origin, head.size + 1, incoming.first_sequence)
            self._check_held(connection, incoming, batch.added[:held_count])
            added = batch.added[held_count:]
            if not added:
                return self._answer_duplicate(connection, head, batch)
            write_time = batch.last_entry.write_time.ToDatetime(tzinfo=UTC) if batch.last_entry else None
            growth = store.grow(head, Digester(head.digest_algorithm), added, write_time)
            cosigned = self._cosign(head, batch, growth.head.root)
            store.insert_entries(connection, store.pack_entries(incoming.origin, head.size + 1, added))
            first_new = head.size + 1
            parked = [one for one in batch.parked if one.sequence >= first_new]
            prepared = [one for one in batch.prepared if one[0] >= first_new] if held_count else batch.prepared
            if is_careful:
                parked += self._project_singly(connection, incoming.origin, prepared)
            elif prepared:
                self._projection.project(connection, incoming.origin, prepared)
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
            store.create_log(connection, incoming.origin, False, start.digest_algorithm, start.verifier_key)
            head = store.lock_head(connection, incoming.origin)
            assert head is not None
        return head

    def _check_held(self, connection: store.Connection, incoming: IncomingBatch, again: list[NewEntry]) -> None:
        """Compare entries sent again with what is held: other bytes at the same place are another history."""
        held = store.read_leaves(connection, incoming.origin, incoming.first_sequence, len(again)) if again else []
        for sequence, (leaf, new) in enumerate(zip(held, again, strict=True), incoming.first_sequence):
            if leaf != new.leaf:
                raise _mismatch(incoming.origin, sequence, "other bytes are held at this place")

    def _cosign(self, head: store.LogHead, batch: PreparedBatch, root: bytes) -> SignedCheckpoint:
        incoming, signed = batch.incoming, batch.signed
        if signed.checkpoint.root != root:
            raise _mismatch(incoming.origin, signed.checkpoint.size, "the root computed here differs from the checkpoint's")
        try:
            key = VerifierKey.parse(head.verifier_key)
        except NoteError as error:
            raise self._bad_checkpoint(incoming, f"entry 1 of the log holds no usable key: {error}") from error
        if not signed.is_signed_by(key):
            raise ServiceError(
                Reason.UNKNOWN_SIGNER,
                f"the checkpoint of {incoming.origin} at {signed.checkpoint.size} is not signed with the key "
                f"that the log began with, {key.format()}",
                metadata={"origin": incoming.origin},
            )
        return self._signer.cosign(signed, int(self._clock.now().timestamp()))

    def _answer_duplicate(self, connection: store.Connection, head: store.LogHead, batch: PreparedBatch) -> Received:
        """Answer a batch that is held entirely; its checkpoint is checked and cosigned like the first time."""
        nodes = partial(store.read_nodes, connection, head.origin)
        digester = Digester(head.digest_algorithm)
        size = batch.signed.checkpoint.size
        root = head.root if size == head.size else merkle.frontier_at(digester, nodes, size).root(digester)
        cosigned = self._cosign(head, batch, root)
        return Received(head, len(batch.added), 0, cosigned.format())

    def _project_singly(
        self, connection: store.Connection, origin: str, prepared: Iterable[tuple[int, Any]]
    ) -> list[Parked]:
        parked: list[Parked] = []
        for sequence, value in prepared:
            try:
                with connection.transaction():
                    self._projection.project(connection, origin, [(sequence, value)])
            except store.RowFailure as error:
                kind = _kind(connection, origin, sequence)
                parked.append(Parked(sequence, kind, projection.ParkCause.PROJECTION_FAILED, projection.detail(error)))
        return parked

    def replay_parked(self, origin: str | None) -> tuple[int, int]:
        """Project parked entries again in order, one transaction each. Return how many are projected and how many stay."""
        with translate_errors(), self._engine.begin() as pooled:
            places = store.parked_places(raw_connection(pooled), origin)
        projected = 0
        for place_origin, sequence in places:
            with translate_errors(), self._engine.begin() as pooled:
                projected += self._replay(raw_connection(pooled), place_origin, sequence)
        return projected, len(places) - projected

    def _replay(self, connection: store.Connection, origin: str, sequence: int) -> int:
        """Return 1 when the entry is projected now. The log's row is locked, so a replay never meets a receiving batch."""
        store.lock_head(connection, origin)
        (entry,), (leaf,) = store.read_entries(connection, origin, sequence, sequence)
        outcome = projection.prepare(self._projection, origin, sequence, entry, leaf)
        if isinstance(outcome, Parked):
            parked = [outcome]
        else:
            parked = self._project_singly(connection, origin, [outcome] if outcome is not None else [])
        if parked:
            store.insert_parked(connection, origin, parked)
            return 0
        store.delete_parked(connection, origin, sequence)
        return 1

    def _bad_checkpoint(self, batch: IncomingBatch, detail: str) -> ServiceError:
        return ServiceError(
            Reason.INVALID_CHECKPOINT,
            f"the checkpoint of {batch.origin} cannot be used: {detail}",
            metadata={"origin": batch.origin},
        )


def _kind(connection: store.Connection, origin: str, sequence: int) -> str:
    (entry,), _ = store.read_entries(connection, origin, sequence, sequence)
    parsed = parse(entry)
    return parsed.kind if parsed else ""


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
