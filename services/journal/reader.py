"""Reads logs: batches that end at a checkpoint signed by their origin, roots, and proofs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from services.common.database import Engine, raw_connection, translate_errors
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.journal import merkle, store
from services.journal.digests import Digester
from services.journal.entries import is_platform_code
from services.journal.limits import BATCH_BYTES_MAX, BATCH_RECORDS_MAX
from services.journal.notes import Checkpoint, SignedCheckpoint, Signer, log_name
from services.journal.store import checkpoints

_TILE_RECORDS: Final = 1 << merkle.STORED_LEVEL_STEP

METADATA_CHARACTERS_MAX: Final = 32
"""Characters of a caller's text that an error repeats: errors travel in HTTP headers, which are some KiB in all."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A run of entries that ends at a checkpoint."""

    origin: str
    first_sequence: int
    entries: list[bytes]
    leaves: list[bytes]
    checkpoint: str

    @property
    def last_sequence(self) -> int:
        """Sequence of the last entry."""
        return self.first_sequence + len(self.entries) - 1


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """Proof that one entry is in the tree of `size` and `root`."""

    size: int
    root: bytes
    leaf: bytes
    path: list[bytes]
    entry: bytes


@dataclass(frozen=True, slots=True)
class ConsistencyProof:
    """Proof that the tree of `first_root` is a prefix of the tree of `second_size` and `second_root`."""

    first_root: bytes
    second_size: int
    second_root: bytes
    path: list[bytes]


class Reader:
    """Reads every log held in one service's database; signs checkpoints of the own log at any size."""

    def __init__(self, engine: Engine, stream: str, signer: Signer) -> None:
        self._engine = engine
        self._stream = stream
        self._signer = signer

    @contextmanager
    def _reading(self) -> Iterator[store.Connection]:
        """One snapshot for several statements, so that head and entries belong together."""
        with translate_errors(), self._engine.begin() as pooled:
            connection = raw_connection(pooled)
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield connection

    def heads(self) -> list[store.LogHead]:
        """Return all logs ordered by origin."""
        with translate_errors(), self._engine.begin() as pooled:
            return store.read_heads(raw_connection(pooled))

    def parked_counts(self) -> dict[str, int]:
        """Return how many entries of each log are parked."""
        with translate_errors(), self._engine.begin() as pooled:
            return store.parked_counts(raw_connection(pooled))

    def read(self, origin: str, first_sequence: int, records_max: int = BATCH_RECORDS_MAX) -> Batch | None:
        """Return the batch that begins at `first_sequence`, or None when the log ends right before it.

        Raises ServiceError UNKNOWN_LOG, BEYOND_LOG, or HISTORY_MISMATCH for an entry that is stored no more.
        """
        with self._reading() as connection:
            head = self._head(connection, origin)
            if first_sequence < 1 or first_sequence > head.size + 1:
                raise ServiceError(
                    Reason.BEYOND_LOG,
                    f"sequence {first_sequence} is outside the log of {origin}, which has {head.size} entries",
                    metadata={"size": str(head.size)},
                )
            if first_sequence == head.size + 1:
                return None
            try:
                if head.is_own:
                    return self._read_own(connection, head, first_sequence, records_max)
                return self._read_copy(connection, head, first_sequence, records_max)
            except store.MissingEntryError as error:
                raise ServiceError(
                    Reason.HISTORY_MISMATCH,
                    f"entry {error.sequence} of the log of {origin} is gone from this platform's database: "
                    "restore it from a backup or from another level",
                    message_zh=f"{origin} 日志第 {error.sequence} 条已从本平台数据库丢失，请从备份或其他级别恢复",
                    metadata={"origin": origin, "sequence": str(error.sequence)},
                ) from error

    def _read_own(self, connection: store.Connection, head: store.LogHead, first: int, records_max: int) -> Batch:
        end = min(head.size, first - 1 + records_max)
        if end < head.size and end - end % _TILE_RECORDS >= first:
            end -= end % _TILE_RECORDS
        entries, leaves = store.read_entries_within(connection, head.origin, first, end, BATCH_BYTES_MAX)
        signed = self._sign(connection, head, first + len(entries) - 1)
        return Batch(head.origin, first, entries, leaves, signed.format())

    def _read_copy(self, connection: store.Connection, head: store.LogHead, first: int, records_max: int) -> Batch:
        signed = checkpoints.end_of_batch(connection, head.origin, first - 1, records_max)
        if signed is None:
            raise LookupError(f"no checkpoint of {head.origin} above {first - 1} is kept")
        last = signed.checkpoint.size
        entries, leaves = store.read_entries(connection, head.origin, first, last)
        if len(entries) != last - first + 1:
            raise store.MissingEntryError(store.first_missing(connection, head.origin, first, last))
        return Batch(head.origin, first, entries, leaves, signed.format())

    def checkpoint(self, origin: str, size: int) -> tuple[SignedCheckpoint, str]:
        """Return a signed checkpoint with all signatures known here, and the origin's verifier key; 0 is the newest.

        Raises ServiceError UNKNOWN_LOG, or BEYOND_LOG when none is available for that size.
        """
        with self._reading() as connection:
            head = self._head(connection, origin)
            if head.is_own:
                if not 0 <= size <= head.size:
                    raise _no_checkpoint(origin, size, head.size)
                signed = self._sign(connection, head, size or head.size)
                held = checkpoints.at_size(connection, origin, signed.checkpoint.size)
                return (signed.merged(held.signatures) if held else signed), head.verifier_key
            kept = checkpoints.at_size(connection, origin, size) if size else checkpoints.newest(connection, origin)
            if kept is None:
                raise _no_checkpoint(origin, size, head.size)
            return kept, head.verifier_key

    def cosigned_checkpoint(self, origin: str, size_min: int) -> tuple[SignedCheckpoint, str]:
        """Return the newest checkpoint that somebody has cosigned, of at least a size, and the origin's verifier key.

        Raises ServiceError UNKNOWN_LOG, or BEYOND_LOG when there is none.
        """
        with self._reading() as connection:
            head = self._head(connection, origin)
            kept = checkpoints.newest(connection, origin)
            if (
                kept is None
                or kept.checkpoint.size < size_min
                or not any(line.is_cosignature_form for line in kept.signatures)
            ):
                raise _no_checkpoint(origin, size_min, head.size)
            if head.is_own:
                # Of the own log the others' signatures are kept; it signs itself whenever it is asked.
                return self._sign(connection, head, kept.checkpoint.size).merged(kept.signatures), head.verifier_key
            return kept, head.verifier_key

    def root_at(self, origin: str, size: int) -> bytes:
        """Return the root that a log had at a size up to the one held.

        Raises ServiceError UNKNOWN_LOG or BEYOND_LOG.
        """
        with self._reading() as connection:
            head = self._head(connection, origin)
            if not 0 <= size <= head.size:
                raise _no_checkpoint(origin, size, head.size)
            return _root_at(connection, head, size)

    def inclusion_proof(self, origin: str, sequence: int, size: int) -> InclusionProof:
        """Prove one entry against a size; size 0 is the size held.

        Raises ServiceError UNKNOWN_LOG or BEYOND_LOG.
        """
        with self._reading() as connection:
            head = self._head(connection, origin)
            size = size or head.size
            if not 1 <= sequence <= size <= head.size:
                raise ServiceError(
                    Reason.BEYOND_LOG,
                    f"sequence {sequence} and size {size} do not lie in the log of {origin} with {head.size} entries",
                    metadata={"size": str(head.size)},
                )
            digester = Digester(head.digest_algorithm)
            nodes = partial(store.read_nodes, connection, origin)
            path = merkle.inclusion_path(digester, nodes, sequence - 1, size)
            (entry,), (leaf,) = store.read_entries(connection, origin, sequence, sequence)
            return InclusionProof(size, _root_at(connection, head, size), leaf, path, entry)

    def consistency_proof(self, origin: str, first_size: int, second_size: int) -> ConsistencyProof:
        """Prove one size a prefix of another; second 0 is the size held.

        Raises ServiceError UNKNOWN_LOG or BEYOND_LOG.
        """
        with self._reading() as connection:
            head = self._head(connection, origin)
            second_size = second_size or head.size
            if not 1 <= first_size <= second_size <= head.size:
                raise ServiceError(
                    Reason.BEYOND_LOG,
                    f"sizes {first_size} and {second_size} do not lie in order in the log of {origin} "
                    f"with {head.size} entries",
                    metadata={"size": str(head.size)},
                )
            digester = Digester(head.digest_algorithm)
            nodes = partial(store.read_nodes, connection, origin)
            path = merkle.consistency_path(digester, nodes, first_size, second_size)
            first_root = _root_at(connection, head, first_size)
            return ConsistencyProof(first_root, second_size, _root_at(connection, head, second_size), path)

    def _head(self, connection: store.Connection, origin: str) -> store.LogHead:
        # Whatever is no platform code is not asked for: PostgreSQL does not even take every text.
        head = store.read_head(connection, origin) if is_platform_code(origin) else None
        if head is None:
            raise ServiceError(
                Reason.UNKNOWN_LOG,
                f"no {self._stream} log of {origin[:METADATA_CHARACTERS_MAX]!r} is held here",
                metadata={"origin": origin[:METADATA_CHARACTERS_MAX], "stream": self._stream},
            )
        return head

    def _sign(self, connection: store.Connection, head: store.LogHead, size: int) -> SignedCheckpoint:
        root = _root_at(connection, head, size)
        return self._signer.sign(Checkpoint(log_name(self._stream, head.origin), size, root))


def _no_checkpoint(origin: str, size: int, held: int) -> ServiceError:
    return ServiceError(
        Reason.BEYOND_LOG,
        f"no checkpoint of {origin} at size {size} is available; the log held has {held} entries",
        metadata={"size": str(held)},
    )


def _root_at(connection: store.Connection, head: store.LogHead, size: int) -> bytes:
    if size == head.size:
        return head.root
    digester = Digester(head.digest_algorithm)
    return merkle.frontier_at(digester, partial(store.read_nodes, connection, head.origin), size).root(digester)
