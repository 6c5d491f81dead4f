"""Batches of lower platforms before their transaction: checked, parsed, hashed, packed, and planned against the head
that they will probably meet. Writes nothing, and reads a log's head at most.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.journal import projection, store
from services.journal.digests import Digester
from services.journal.entries import is_platform_code, parse_log_start, written_at
from services.journal.limits import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, ENTRY_BYTES_MAX
from services.journal.merkle import EMPTY
from services.journal.notes import NoteError, SignedCheckpoint, VerifierKey, log_name, signer_name
from services.journal.projection import Parked, Projectable, Projection
from zhichao.journal.v1 import entry_pb2


@dataclass(frozen=True, slots=True)
class IncomingBatch:
    """A batch as it arrived."""

    origin: str
    first_sequence: int
    entries: list[bytes]
    checkpoint: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What appending a whole batch leads to if its log stands at `base` by then: its root and signature are checked."""

    base: store.LogHead
    growth: store.Growth
    verified: SignedCheckpoint
    entry_rows: bytes
    rows: Projectable


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
    byte_count: int
    plan: Plan | None
    """None when it cannot just be appended to the head that was expected."""
    expected_head: store.LogHead | None
    """The head that the next batch of the log will probably meet; None when nobody knows."""


class BatchPreparer:
    """Prepares batches; one instance serves all logs.

    `find_head` gives the head of a log after which a batch of this first sequence may come, or the nearest one known,
    or None for a log that is not held. Whether it still is the head is for the transaction to see.
    """

    def __init__(
        self,
        own_origin: str,
        stream: str,
        tables: Projection,
        find_head: Callable[[str, int], store.LogHead | None],
    ) -> None:
        self._own_origin = own_origin
        self._stream = stream
        self._projection = tables
        self._find_head = find_head

    def prepare(self, batch: IncomingBatch, expected: store.LogHead | None = None) -> PreparedBatch:
        """Parse, hash and pack a batch. Raises ServiceError for a batch that no state of the log could accept.

        `expected` is the head after the same log's earlier batch in this stream, which may not be committed.
        """
        self._check_bounds(batch)
        signed = self._read_checkpoint(batch)
        base, algorithm = self._base(batch, expected)
        leaves = Digester(algorithm).leaves(batch.entries)
        prepared, parked = projection.prepare_all(
            self._projection, batch.origin, batch.first_sequence, batch.entries, leaves
        )
        # The last entry's time; an earlier one's when that is no entry, or says nothing of it.
        times = (written_at(entry) for entry in reversed(batch.entries))
        write_time = next((time for time in times if time is not None), None)
        growth = _growth(batch, base, leaves, write_time) if base is not None else None
        checkpoint = signed.checkpoint
        if growth is not None and growth.head.size == checkpoint.size and growth.head.root != checkpoint.root:
            # Two histories, or a head that is no longer the log's: nothing can be expected any more.
            growth = None
        plan = None
        if base is not None and growth is not None and base.size + 1 == batch.first_sequence:
            plan = self._plan(batch, base, growth, signed, leaves, prepared)
        return PreparedBatch(
            batch,
            algorithm,
            leaves,
            prepared,
            parked,
            signed,
            write_time,
            sum(map(len, batch.entries)),
            plan,
            growth.head if growth is not None else None,
        )

    def _plan(
        self,
        batch: IncomingBatch,
        base: store.LogHead,
        growth: store.Growth,
        signed: SignedCheckpoint,
        leaves: list[bytes],
        prepared: list[tuple[int, Any]],
    ) -> Plan | None:
        try:
            verified = verify_signature(batch.origin, signed, base.verifier_key)
        except ServiceError:
            # Refused under the log's lock, after all batches before it are told.
            return None
        entry_rows = store.pack_entry_rows(batch.origin, batch.first_sequence, batch.entries, leaves)
        rows = Projectable(prepared, projection.pack(self._projection, batch.origin, prepared))
        return Plan(base, growth, verified, entry_rows, rows)

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

    def _read_checkpoint(self, batch: IncomingBatch) -> SignedCheckpoint:
        try:
            signed = SignedCheckpoint.parse(batch.checkpoint)
        except NoteError as error:
            raise invalid_checkpoint(batch.origin, str(error)) from error
        expected_name = log_name(self._stream, batch.origin)
        expected_size = batch.first_sequence + len(batch.entries) - 1
        if (signed.checkpoint.log_name, signed.checkpoint.size) != (expected_name, expected_size):
            raise invalid_checkpoint(
                batch.origin,
                f"it is for {signed.checkpoint.log_name[:64]!r} at {signed.checkpoint.size}, "
                f"not {expected_name!r} at {expected_size}",
            )
        return signed

    def _base(self, batch: IncomingBatch, expected: store.LogHead | None) -> tuple[store.LogHead | None, str]:
        """Return the head that the batch may be planned on, and the digest algorithm of its log.

        The algorithm is that of entry 1 if it is here, else that of the log held.
        """
        held = expected
        if held is None or held.size + 1 < batch.first_sequence:
            held = self._find_head(batch.origin, batch.first_sequence) or held
        if batch.first_sequence == 1:
            begun = self._beginning(batch)
            is_another = held is not None and held.digest_algorithm != begun.digest_algorithm
            # Refused under the log's lock, if the other log is held there still.
            return begun if is_another else held or begun, begun.digest_algorithm
        if held is None:
            raise sequence_gap(batch.origin, 1, batch.first_sequence)
        return held if held.size + 1 >= batch.first_sequence else None, held.digest_algorithm

    def _beginning(self, batch: IncomingBatch) -> store.LogHead:
        """Return the empty log that entry 1 begins."""
        start = read_log_start(batch.origin, self._stream, batch.entries[0])
        digester = Digester(start.digest_algorithm)
        return store.LogHead(
            batch.origin, False, EMPTY, digester.empty(), 0, None, digester.algorithm, start.verifier_key
        )


def _growth(
    batch: IncomingBatch, base: store.LogHead, leaves: list[bytes], write_time: datetime | None
) -> store.Growth:
    """Return what the batch makes of a log that may hold some of it."""
    held_count = min(base.size + 1 - batch.first_sequence, len(leaves))
    if held_count == len(leaves):
        return store.Growth(base, [])
    digester = Digester(base.digest_algorithm)
    return store.grow(base, digester, batch.entries[held_count:], leaves[held_count:], write_time)


def verify_signature(origin: str, signed: SignedCheckpoint, verifier_key: str) -> SignedCheckpoint:
    """Return a checkpoint with its origin's signature and cosignatures. Raises ServiceError UNKNOWN_SIGNER.

    `verifier_key` is the one of the log's entry 1; INVALID_CHECKPOINT when that is none.
    """
    key = read_key(origin, verifier_key)
    verified = signed.verified(key)
    if verified is None:
        raise ServiceError(
            Reason.UNKNOWN_SIGNER,
            f"the checkpoint of {origin} at {signed.checkpoint.size} is not signed with the key "
            f"that the log began with, {key.format()}",
            metadata={"origin": origin},
        )
    return verified


def sequence_gap(origin: str, expected: int, actual: int) -> ServiceError:
    """Return the refusal of a batch that leaves entries out."""
    return ServiceError(
        Reason.SEQUENCE_GAP,
        f"the log of {origin} goes on at sequence {expected} here, not at {actual}",
        metadata={"origin": origin, "expected_sequence": str(expected)},
    )


def read_log_start(origin: str, stream: str, entry: bytes) -> entry_pb2.LogStart:
    """Return what entry 1 says of a log: its digest algorithm, which is usable, and its key, which is its origin's.

    Raises ServiceError HISTORY_MISMATCH when it begins no such log, INVALID_CHECKPOINT, INVALID_ARGUMENT.
    """
    start = parse_log_start(entry)
    if start is None or (start.origin, start.stream) != (origin, stream):
        raise ServiceError(
            Reason.HISTORY_MISMATCH,
            f"entry 1 does not begin the {stream} log of {origin}",
            metadata={"origin": origin, "sequence": "1"},
        )
    read_key(origin, start.verifier_key)
    try:
        Digester(start.digest_algorithm)
    except ValueError as error:
        raise ServiceError(Reason.INVALID_ARGUMENT, str(error)) from error
    return start


def read_key(origin: str, text: str) -> VerifierKey:
    """Return the key of entry 1; it signs under its platform's own name, so that nobody signs as another.

    Raises ServiceError INVALID_CHECKPOINT when it is no such key.
    """
    try:
        key = VerifierKey.parse(text)
    except NoteError as error:
        raise invalid_checkpoint(origin, f"entry 1 of the log holds no usable key: {error}") from error
    if key.name != signer_name(origin):
        raise invalid_checkpoint(origin, f"entry 1 of the log holds a key of {key.name}, not of {signer_name(origin)}")
    return key


def invalid_checkpoint(origin: str, detail: str) -> ServiceError:
    """Return the refusal of a checkpoint that cannot prove what it comes with."""
    return ServiceError(
        Reason.INVALID_CHECKPOINT,
        f"the checkpoint of {origin} cannot be used: {detail}",
        metadata={"origin": origin},
    )


def history_mismatch(origin: str, sequence: int, detail: str) -> ServiceError:
    """Return the refusal of a log of which another history is held."""
    return ServiceError(
        Reason.HISTORY_MISMATCH,
        f"two histories of {origin} exist from sequence {sequence} or before: {detail}",
        metadata={"origin": origin, "sequence": str(sequence)},
    )
