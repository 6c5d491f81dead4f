"""Reads a journal through JournalService, and fetches inclusion proofs to check."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from cli.verifier.source import (
    CHUNK_RECORDS,
    BrokenLogError,
    CannotLookError,
    Chunk,
    Head,
    RecoveringError,
    StoredNote,
)
from zhichao.journal.v1 import journal_pb2, journal_pb2_grpc

CALL_SECONDS_MAX: Final = 30.0
"""Positions, checkpoints and proofs take milliseconds."""

_BROKEN: Final = (
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.NOT_FOUND,
)
"""Statuses that say something about the log; the others say that we cannot look."""


_RECOVERING: Final = "RECOVERING"
"""The reason that a service gives while it was restored and not yet compared (docs/errors.md)."""


@dataclass(frozen=True, slots=True)
class Proof:
    """An inclusion proof as it was answered."""

    size: int
    root: bytes
    leaf: bytes
    path: tuple[bytes, ...]
    entry: bytes


class RpcSource:
    """The journal behind one service's address. The caller opens and closes the channel."""

    def __init__(self, channel: grpc.Channel, label: str) -> None:
        self._stub = journal_pb2_grpc.JournalServiceStub(channel)
        self._label = label
        # By origin.
        self._newest: dict[str, StoredNote | None] = {}

    @property
    def label(self) -> str:
        """The address."""
        return self._label

    def heads(self) -> list[Head]:
        """Return the positions that the service names, each with entry 1."""
        with _failures():
            answer = self._stub.ListPositions(journal_pb2.ListPositionsRequest(), timeout=CALL_SECONDS_MAX)
        # Before any entry is read: what an auditor reads is journalled itself, and for a size that is not the newest
        # any more a service signs what it holds by then, not what the log's head says.
        self._newest = {one.origin: self._checkpoint(one) for one in answer.positions}
        return [
            Head(one.stream, one.origin, one.size, one.root, one.is_own, first_entry=self._first_entry(one.origin))
            for one in answer.positions
        ]

    def chunks(self, head: Head) -> Iterator[Chunk]:
        """Read batches until the head's size is reached; each ends at a checkpoint that its origin signed."""
        newest = self._newest.get(head.origin)
        request = journal_pb2.ReadEntriesRequest(
            origin=head.origin, first_sequence=1, batch_records_max=CHUNK_RECORDS, include_leaf_digests=True
        )
        position = 0
        with _failures():
            call = self._stub.ReadEntries(request)
            try:
                for answer in call:
                    batch = answer.batch
                    first, count = batch.first_sequence, len(batch.entries)
                    last = first + count - 1
                    size = _claimed_size(batch.checkpoint, last)
                    notes = [StoredNote(size, batch.checkpoint)]
                    if newest is not None and position < newest.size <= last:
                        notes = sorted([newest, *notes], key=lambda note: note.size)
                    yield Chunk(range(first, first + count), batch.entries, answer.leaf_digests, notes)
                    position = last
                    if not count or last >= head.size:
                        # A server that cannot find an entry sends empty batches for ever.
                        return
            finally:
                call.cancel()

    def close(self) -> None:
        """Do nothing: the channel is the caller's."""

    def prove(self, origin: str, sequence: int, size: int) -> Proof:
        """Fetch the proof that an entry is in the log of a size. Raises CannotLookError, BrokenLogError."""
        request = journal_pb2.GetInclusionProofRequest(origin=origin, sequence=sequence, size=size)
        with _failures():
            answer = self._stub.GetInclusionProof(request, timeout=CALL_SECONDS_MAX)
        return Proof(answer.size, answer.root, answer.leaf_digest, tuple(answer.path), answer.entry)

    def _first_entry(self, origin: str) -> bytes:
        request = journal_pb2.ReadEntriesRequest(origin=origin, first_sequence=1, batch_records_max=1)
        try:
            with _failures():
                call = self._stub.ReadEntries(request, timeout=CALL_SECONDS_MAX)
                answer = next(iter(call), None)
                call.cancel()
        except BrokenLogError:
            return b""
        return answer.batch.entries[0] if answer is not None and answer.batch.entries else b""

    def _checkpoint(self, position: journal_pb2.Position) -> StoredNote | None:
        """Return the checkpoint of a log's position, with all cosignatures; of a copy the newest one kept."""
        request = journal_pb2.GetCheckpointRequest(origin=position.origin, size=position.size if position.is_own else 0)
        try:
            with _failures():
                note = self._stub.GetCheckpoint(request, timeout=CALL_SECONDS_MAX).checkpoint
        except BrokenLogError:
            return None
        return StoredNote(_claimed_size(note, position.size), note)


def _claimed_size(note: str, otherwise: int) -> int:
    lines = note.split("\n", 2)
    return int(lines[1]) if len(lines) > 1 and lines[1].isascii() and lines[1].isdecimal() else otherwise


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        code = error.code()
        text = f"{code.name}: {error.details()}"
        if code in _BROKEN:
            raise BrokenLogError(text) from error
        if _reason(error) == _RECOVERING:
            raise RecoveringError(text) from error
        raise CannotLookError(text) from error


def _reason(error: Any) -> str:
    """Return the reason in the details of a refusal; empty when it has none."""
    # An RpcError that a stub raises is a call too, which its type does not say.
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        named = error_details_pb2.ErrorInfo()
        if detail.Unpack(named):
            return str(named.reason)
    return ""
