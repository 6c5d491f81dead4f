"""What is held, as messages of the contract."""

from typing import Final

from services.common.instants import timestamp
from services.common.request import request_context
from services.journal.entries import varint
from services.video.holding import Held
from services.video.outgoing_bytes import Part
from services.video.store.custody import EventRow, HoldRow
from zhichao.video.v1 import custody_pb2, evidence_pb2
from zhichao.video.v1 import service_pb2 as pb

_CHUNK_TAG: Final = bytes([pb.ReadEvidenceResponse.CHUNK_FIELD_NUMBER << 3 | 2])
"""Field and wire type (length-delimited) in the protobuf wire format."""


def held_evidence(held: Held) -> pb.HeldEvidence:
    """Write evidence as held, for the caller of this call; the manifest as its origin wrote it."""
    row = held.row
    evidence = evidence_pb2.Evidence.FromString(row.content)
    return pb.HeldEvidence(
        origin=row.origin,
        sequence=row.sequence,
        leaf_digest=row.leaf,
        evidence=evidence,
        bytes_state=pb.BytesState.ValueType(row.state),
        received_bytes=row.received_bytes,
        retain_until_time=timestamp(row.retain_until_time) if sees_holds() else evidence.retain_until_time,
        holds=[legal_hold(hold) for hold in held.holds] if sees_holds() else [],
        has_preview=row.has_preview,
    )


def sees_holds() -> bool:
    """Tell whether the caller may know that evidence is held, or kept longer: a site that is looked into may not."""
    return request_context().principal.source_unit_ids is None


def legal_hold(hold: HoldRow) -> pb.LegalHold:
    """Write a hold as the event says that placed it."""
    event = custody_pb2.CustodyEvent.FromString(hold.content)
    return pb.LegalHold(
        platform_code=hold.platform,
        hold_id=hold.hold_id,
        purpose=event.purpose,
        actor=event.actor,
        place_time=event.event_time,
    )


def held_event(row: EventRow) -> pb.HeldCustodyEvent:
    """Write a custody event with its place."""
    return pb.HeldCustodyEvent(
        origin=row.origin, sequence=row.sequence, event=custody_pb2.CustodyEvent.FromString(row.content)
    )


def read_response(part: Part) -> bytes:
    """Write a part of a read as a serialised ReadEvidenceResponse. The chunk is copied once and not by a message."""
    whole = pb.ReadEvidenceResponse(size_bytes=part.size_bytes, content_type=part.content_type)
    return b"".join((whole.SerializeToString(), _CHUNK_TAG, varint(len(part.chunk)), part.chunk))
