"""The use cases of the journal: one method each, free of gRPC types but for the position messages, which travel as they
are.
"""

from collections.abc import Iterable, Iterator

from services.common.database import Engine, raw_connection, translate_errors
from services.common.errors import FieldViolation, ServiceError, invalid
from services.common.paging import decode_token, encode_token, filter_digest, page_size
from services.common.reasons import Reason
from services.common.request import request_context
from services.journal import convert, store
from services.journal.entries import is_platform_code
from services.journal.limits import BATCH_RECORDS_MAX, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, WATCH_INTERVAL_SECONDS
from services.journal.notes import NoteError, SignedCheckpoint, log_name
from services.journal.reader import Batch, ConsistencyProof, InclusionProof, Reader
from services.journal.receiver import IncomingBatch, Received, Receiver
from services.journal.restoring import OwnLogRestorer, Restored
from services.journal.store import checkpoints
from services.journal.store.tail import Tail
from services.journal.tracing import followed
from zhichao.journal.v1 import journal_pb2 as pb


class JournalHandlers:
    """What JournalService does, over the logs of one service."""

    def __init__(
        self, engine: Engine, stream: str, reader: Reader, receiver: Receiver, restorer: OwnLogRestorer, tail: Tail
    ) -> None:
        self._engine = engine
        self.stream = stream
        self._reader = reader
        self._receiver = receiver
        self._restorer = restorer
        self._tail = tail

    def positions(self, origin: str | None) -> list[pb.Position]:
        """Return where every log, or one, stands."""
        parked = self._reader.parked_counts()
        heads = self._reader.heads()
        return [
            convert.position(head, self.stream, parked.get(head.origin, 0))
            for head in heads
            if origin is None or head.origin == origin
        ]

    def watch_positions(self) -> Iterator[list[pb.Position]]:
        """Yield all positions, then those that changed, until the caller leaves or the server stops."""
        request = request_context()
        request.on_end(self._tail.wake)
        known: dict[str, pb.Position] = {}
        is_first = True
        while request.is_active():
            seen = self._tail.count(None)
            positions = {position.origin: position for position in self.positions(None)}
            changed = [position for origin, position in positions.items() if known.get(origin) != position]
            if changed or is_first:
                yield changed
            is_first = False
            known = positions
            self._tail.wait(None, seen, request.is_active)
            request.stopping.wait(WATCH_INTERVAL_SECONDS)

    def read(self, origin: str, first_sequence: int, records_max: int, *, follow: bool) -> Iterator[Batch]:
        """Yield batches from a position to the log's end, or on and on.

        Raises ServiceError UNKNOWN_LOG, BEYOND_LOG, or INVALID_ARGUMENT for a negative number of records.
        """
        if records_max < 0:
            raise invalid(
                [FieldViolation("batch_records_max", f"is {records_max}, but must be 0 to {BATCH_RECORDS_MAX}")]
            )
        request = request_context()
        if follow:
            request.on_end(self._tail.wake)
        bounded = min(records_max, BATCH_RECORDS_MAX) or BATCH_RECORDS_MAX
        next_sequence = first_sequence
        while request.is_active():
            seen = self._tail.count(origin)
            batch = self._reader.read(origin, next_sequence, bounded)
            if batch is not None:
                yield batch
                next_sequence = batch.last_sequence + 1
            elif not follow:
                return
            else:
                self._tail.wait(origin, seen, request.is_active)

    def receive(self, batches: Iterable[IncomingBatch]) -> Iterator[Received]:
        """Append batches of one lower platform's log in order."""
        return followed(batches, self.stream, self._receiver.receive_all)

    def restore(self, batch: IncomingBatch) -> Restored:
        """Append entries of the own log that come back from a platform above."""
        return self._restorer.restore(batch)

    def confirm_own_log(self, size: int, root: bytes) -> store.LogHead:
        """End the recovery of the own log."""
        return self._restorer.confirm(size, root)

    def checkpoint(self, origin: str, size: int, *, is_cosigned: bool = False) -> tuple[str, str]:
        """Return a signed checkpoint and the origin's verifier key; with `is_cosigned` the newest one of that kind."""
        read = self._reader.cosigned_checkpoint if is_cosigned else self._reader.checkpoint
        signed, verifier_key = read(origin, size)
        return signed.format(), verifier_key

    def add_cosignatures(self, note: str) -> int:
        """Keep cosignatures for a checkpoint that is true here; return how many were new. Raises INVALID_CHECKPOINT.

        Whose they are is not known here: a platform does not hold the keys of those above it. Their readers check them.
        """
        try:
            signed = SignedCheckpoint.parse(note)
        except NoteError as error:
            raise _invalid_checkpoint(str(error)) from error
        prefix = log_name(self.stream, "").removesuffix(f"/{self.stream}")
        origin = signed.checkpoint.log_name.removeprefix(prefix).removesuffix(f"/{self.stream}")
        if signed.checkpoint.log_name != log_name(self.stream, origin):
            raise _invalid_checkpoint(f"{signed.checkpoint.log_name[:64]!r} is no {self.stream} log")
        try:
            root = self._reader.root_at(origin, signed.checkpoint.size)
        except ServiceError as error:
            if error.reason not in (Reason.UNKNOWN_LOG, Reason.BEYOND_LOG):
                raise
            raise _invalid_checkpoint(error.message) from error
        if root != signed.checkpoint.root:
            raise _invalid_checkpoint("its root is not the root held here at that size")
        added = [line for line in signed.signatures if line.is_cosignature_form]
        with translate_errors(), self._engine.begin() as pooled:
            connection = raw_connection(pooled)
            head = store.lock_head(connection, origin)
            if head is None:
                raise _invalid_checkpoint(f"the {self.stream} log of {origin} is not held any more")
            held = checkpoints.at_size(connection, origin, signed.checkpoint.size)
            if held is None and not head.is_own:
                # A copy's checkpoints are ends of batches; one that was thinned out is covered by a later one.
                return 0
            known = held.signatures if held else ()
            merged = SignedCheckpoint(signed.checkpoint, known).merged(added)
            if len(merged.signatures) == len(known):
                return 0
            # Bytes are for batches of copies; the own log signs any size and needs none.
            checkpoints.add(connection, origin, 0 if head.is_own else head.total_bytes, merged)
            return len(merged.signatures) - len(known)

    def inclusion_proof(self, origin: str, sequence: int, size: int) -> InclusionProof:
        """Prove an entry."""
        return self._reader.inclusion_proof(origin, sequence, size)

    def consistency_proof(self, origin: str, first_size: int, second_size: int) -> ConsistencyProof:
        """Prove a prefix."""
        return self._reader.consistency_proof(origin, first_size, second_size)

    def list_parked(self, origin: str | None, requested: int, token: str) -> tuple[list[store.ParkedRow], str]:
        """Return one page of parked entries and the next page's token."""
        size = page_size(requested, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        digest = filter_digest("ListParkedEntries", origin)
        key = decode_token(token, digest, (str, int))
        after = (str(key[0]), int(key[1])) if key else ("", 0)
        if origin is not None and not is_platform_code(origin):
            return [], ""
        with translate_errors(), self._engine.begin() as pooled:
            rows = store.list_parked(raw_connection(pooled), origin, after, size + 1)
        if len(rows) <= size:
            return rows, ""
        last = rows[size - 1]
        return rows[:size], encode_token(digest, (last.origin, last.sequence))

    def replay_parked(self, origin: str | None) -> tuple[int, int]:
        """Project parked entries again."""
        if origin is not None and not is_platform_code(origin):
            return 0, 0
        return self._receiver.replay_parked(origin)


def _invalid_checkpoint(detail: str) -> ServiceError:
    return ServiceError(Reason.INVALID_CHECKPOINT, f"the checkpoint cannot be used: {detail}")
