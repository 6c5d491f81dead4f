"""Journal messages to and from what the journal works with. Pure."""

from services.journal import store
from services.journal.entries import timestamp
from services.journal.reader import Batch, ConsistencyProof, InclusionProof
from services.journal.receiver import IncomingBatch, Received
from services.journal.restoring import Restored
from zhichao.journal.v1 import journal_pb2 as pb


def position(head: store.LogHead, stream: str, parked_count: int) -> pb.Position:
    """Return a log's head as a position."""
    return pb.Position(
        origin=head.origin,
        stream=stream,
        size=head.size,
        root=head.root,
        total_bytes=head.total_bytes,
        last_write_time=timestamp(head.last_write_time) if head.last_write_time else None,
        parked_count=parked_count,
        is_own=head.is_own,
        is_recovering=head.is_recovering,
    )


def incoming(batch: pb.EntryBatch) -> IncomingBatch:
    """Read a batch that arrived."""
    return IncomingBatch(batch.origin, batch.first_sequence, list(batch.entries), batch.checkpoint)


def read_response(batch: Batch, include_leaf_digests: bool) -> pb.ReadEntriesResponse:
    """Return a batch that was read."""
    return pb.ReadEntriesResponse(
        batch=pb.EntryBatch(
            origin=batch.origin,
            first_sequence=batch.first_sequence,
            entries=batch.entries,
            checkpoint=batch.checkpoint,
        ),
        leaf_digests=batch.leaves if include_leaf_digests else (),
    )


def append_response(received: Received, stream: str) -> pb.AppendEntriesResponse:
    """Return the answer to a received batch."""
    return pb.AppendEntriesResponse(
        position=position(received.head, stream, 0),
        duplicate_count=received.duplicate_count,
        parked_count=received.parked_count,
        checkpoint=received.checkpoint,
    )


def restore_response(restored: Restored, stream: str) -> pb.RestoreEntriesResponse:
    """Return the answer to a batch that was brought back."""
    return pb.RestoreEntriesResponse(
        position=position(restored.head, stream, 0),
        duplicate_count=restored.duplicate_count,
        parked_count=restored.parked_count,
    )


def inclusion_response(proof: InclusionProof) -> pb.GetInclusionProofResponse:
    """Return an inclusion proof."""
    return pb.GetInclusionProofResponse(
        size=proof.size, root=proof.root, leaf_digest=proof.leaf, path=proof.path, entry=proof.entry
    )


def consistency_response(proof: ConsistencyProof) -> pb.GetConsistencyProofResponse:
    """Return a consistency proof."""
    return pb.GetConsistencyProofResponse(
        first_root=proof.first_root, second_size=proof.second_size, second_root=proof.second_root, path=proof.path
    )


def parked_entry(row: store.ParkedRow) -> pb.ParkedEntry:
    """Return a parked entry."""
    return pb.ParkedEntry(
        origin=row.origin,
        sequence=row.sequence,
        kind=row.kind,
        cause=row.cause,
        detail=row.detail,
        park_time=timestamp(row.park_time),
        attempt_count=row.attempt_count,
    )
