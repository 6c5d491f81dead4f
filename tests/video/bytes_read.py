"""Reading evidence as callers do, and doing harm to the store that holds it."""

import hashlib
from io import BytesIO
from typing import Any, NamedTuple

import grpc

from services.common.errors import ServiceError
from services.common.rpc_client import service_error
from services.video.object_store import object_key
from tests.registry.harness import TIMEOUT_SECONDS
from tests.video.harness import RunningVideo
from tests.video.stores.servers import harmful_client
from tests.video.transfer.carrying import name_of
from zhichao.video.v1 import custody_pb2
from zhichao.video.v1 import service_pb2 as pb
from zhichao.video.v1.service_pb2_grpc import VideoServiceStub

PURPOSE = "核查案件 7"


class ReadBytes(NamedTuple):
    """What a read gave, and how it ended."""

    content: bytes
    messages: list[pb.ReadEvidenceResponse]
    refusal: ServiceError | None


def request_of(held: pb.HeldEvidence, **fields: Any) -> pb.ReadEvidenceRequest:
    """Ask for all bytes of evidence; `fields` are laid over that."""
    values: dict[str, Any] = {"name": name_of(held), "purpose": PURPOSE} | fields
    return pb.ReadEvidenceRequest(**values)


def read(video: RunningVideo, held: pb.HeldEvidence, stub: VideoServiceStub | None = None, **fields: Any) -> ReadBytes:
    """Read evidence to the end, or until it is refused."""
    messages: list[pb.ReadEvidenceResponse] = []
    refusal = None
    try:
        messages.extend((stub or video.stub).ReadEvidence(request_of(held, **fields), timeout=TIMEOUT_SECONDS))
    except grpc.RpcError as error:
        refusal = service_error(error)
    return ReadBytes(b"".join(message.chunk for message in messages), messages, refusal)


def refusal(video: RunningVideo, held: pb.HeldEvidence, **fields: Any) -> ServiceError:
    """Read what must be refused, and return the refusal."""
    came = read(video, held, **fields)
    assert came.refusal is not None, "it was not refused"
    return came.refusal


def events(video: RunningVideo, held: pb.HeldEvidence) -> list[custody_pb2.CustodyEvent]:
    """Return what was done with evidence, the oldest first."""
    answer = video.call("ListCustody", pb.ListCustodyRequest(name=name_of(held)))
    return [one.event for one in answer.held_events]


def actions(video: RunningVideo, held: pb.HeldEvidence) -> list[str]:
    """Return what was done with evidence, in one word each."""
    return [
        custody_pb2.CustodyAction.Name(event.action).removeprefix("CUSTODY_ACTION_") for event in events(video, held)
    ]


def key_of(held: pb.HeldEvidence) -> str:
    """Return the key of the bytes in the store."""
    return object_key(held.evidence.digest)


def remove(video: RunningVideo, held: pb.HeldEvidence) -> None:
    """Remove bytes behind the service's back: the store shows them no more."""
    harmful_client(video.store_server).remove_object(video.bucket, key_of(held))


def replace(video: RunningVideo, held: pb.HeldEvidence, content: bytes) -> None:
    """Put other bytes where the evidence is."""
    assert hashlib.sha256(content).digest() != held.evidence.digest
    harmful_client(video.store_server).put_object(video.bucket, key_of(held), BytesIO(content), len(content))
