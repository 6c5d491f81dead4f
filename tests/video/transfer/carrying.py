"""What relays do between video services: entries both ways, and bytes upwards."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import grpc
import pytest

from services.common.errors import ServiceError
from services.common.instants import timestamp
from services.common.rpc_client import service_error
from tests.registry.harness import TIMEOUT_SECONDS
from tests.running_service import carry_down, carry_up
from tests.video.harness import RunningVideo
from tests.waiting import wait_until
from zhichao.video.v1 import custody_pb2, evidence_pb2, transfer_pb2
from zhichao.video.v1 import service_pb2 as pb

PIECE_BYTES = 64 * 1024
"""As small as the relay makes them on a slow line."""


REQUESTED = transfer_pb2.TRANSFER_URGENCY_REQUESTED
FRESH = transfer_pb2.TRANSFER_URGENCY_FRESH
BACKFILL = transfer_pb2.TRANSFER_URGENCY_BACKFILL


class Levels(NamedTuple):
    """A county, its city and its province."""

    county: RunningVideo
    city: RunningVideo
    province: RunningVideo

    def carry_all(self) -> None:
        """Carry every entry up and down as far as it goes."""
        carry_up(self.county, self.city)
        carry_up(self.city, self.province)
        carry_down(self.province, self.city)
        carry_down(self.city, self.county)


def name_of(held: pb.HeldEvidence) -> evidence_pb2.EvidenceName:
    """Return what names evidence."""
    evidence = held.evidence
    return evidence_pb2.EvidenceName(
        origin=held.origin, source_unit_id=evidence.source_unit_id, evidence_id=evidence.evidence_id
    )


def state_of(video: RunningVideo, held: pb.HeldEvidence) -> str:
    """Return where the bytes of evidence are, as a platform sees it."""
    answer = video.call("GetEvidence", pb.GetEvidenceRequest(name=name_of(held)))
    return pb.BytesState.Name(answer.held_evidence.bytes_state).removeprefix("BYTES_STATE_")


def wait_for_state(video: RunningVideo, held: pb.HeldEvidence, state: str) -> None:
    """Wait until the bytes of evidence are somewhere, as a platform sees it."""
    wait_until(lambda: state_of(video, held) == state, f"{state} at {video.platform}: it is {state_of(video, held)}")


@contextmanager
def watching(video: RunningVideo, platform: str) -> Iterator[Iterator[transfer_pb2.WatchWantedResponse]]:
    """Follow what a service wants of a platform below."""
    call = video.transfer.WatchWanted(transfer_pb2.WatchWantedRequest(platform=platform), timeout=TIMEOUT_SECONDS)
    try:
        yield iter(call)
    finally:
        call.cancel()


def wanted(video: RunningVideo, platform: str) -> transfer_pb2.WatchWantedResponse:
    """Return what a service wants of a platform below now."""
    with watching(video, platform) as answers:
        return next(answers)


def listed(video: RunningVideo, platform: str) -> list[tuple[bytes, int]]:
    """Return what a service wants of a platform below now: digests and urgencies, in order."""
    return [(one.object.digest, one.urgency) for one in wanted(video, platform).wanted]


def wait_listed(video: RunningVideo, platform: str, *expected: tuple[pb.HeldEvidence, int]) -> None:
    """Wait until this, and nothing else, is wanted of a platform below."""
    rows = [(held.evidence.digest, urgency) for held, urgency in expected]
    wait_until(lambda: listed(video, platform) == rows, f"{rows} are wanted of {platform}")


def pieces(
    content: bytes,
    platform: str,
    digest: bytes,
    *,
    offset: int = 0,
    size: int | None = None,
    end: int | None = None,
) -> Iterator[transfer_pb2.ReceiveObjectRequest]:
    """Yield the messages of a transfer from an offset to an end."""
    named = transfer_pb2.TransferObject(digest=digest, size_bytes=len(content) if size is None else size)
    yield transfer_pb2.ReceiveObjectRequest(object=named, platform=platform, offset=offset)
    for start in range(offset, len(content) if end is None else end, PIECE_BYTES):
        yield transfer_pb2.ReceiveObjectRequest(chunk=content[start : min(start + PIECE_BYTES, end or len(content))])


def give(video: RunningVideo, requests: Iterable[transfer_pb2.ReceiveObjectRequest]) -> Any:
    """Send the messages of a transfer; a refusal is raised as ServiceError."""
    try:
        return video.transfer.ReceiveObject(iter(requests), timeout=TIMEOUT_SECONDS)
    except grpc.RpcError as error:
        raise service_error(error) from None


def refusal_of(video: RunningVideo, requests: Iterable[transfer_pb2.ReceiveObjectRequest]) -> ServiceError:
    """Send the messages of a transfer that must be refused."""
    try:
        answer = give(video, requests)
    except ServiceError as error:
        return error
    raise AssertionError(f"it was taken: {answer}")


def read(video: RunningVideo, digest: bytes, offset: int = 0) -> bytes:
    """Read an object for a platform above; a refusal is raised as ServiceError."""
    request = transfer_pb2.SendObjectRequest(digest=digest, offset=offset)
    try:
        return b"".join(answer.chunk for answer in video.transfer.SendObject(request, timeout=TIMEOUT_SECONDS))
    except grpc.RpcError as error:
        raise service_error(error) from None


def refusal_reason(call: Callable[[], object]) -> str:
    """Return why a call is refused."""
    with pytest.raises(ServiceError) as error:
        call()
    return error.value.reason.value


def send_up(lower: RunningVideo, upper: RunningVideo, digest: bytes) -> None:
    """Carry the bytes of an object up, as relays do."""
    content = read(lower, digest)
    assert give(upper, pieces(content, lower.platform, digest)).is_complete


def decline(video: RunningVideo, platform: str, digest: bytes, *, is_gone: bool = False) -> None:
    """Say that a platform below does not hold an object."""
    video.transfer.DeclineObject(
        transfer_pb2.DeclineObjectRequest(platform=platform, digest=digest, is_gone=is_gone), timeout=TIMEOUT_SECONDS
    )


def want_above(video: RunningVideo, digest: bytes, urgency: transfer_pb2.TransferUrgency.ValueType) -> None:
    """Say that the platform above wants an object that this one does not hold, as its relay does."""
    assert refusal_reason(lambda: read(video, digest)) == "BYTES_NOT_HERE"
    video.transfer.WantForUpstream(
        transfer_pb2.WantForUpstreamRequest(digest=digest, urgency=urgency), timeout=TIMEOUT_SECONDS
    )


def write_deleted(video: RunningVideo, held: pb.HeldEvidence) -> None:
    """Write into a platform's log that it has deleted bytes after their retention."""
    deleted = custody_pb2.CustodyEvent(
        evidence_origin=held.origin,
        source_unit_id=held.evidence.source_unit_id,
        evidence_id=held.evidence.evidence_id,
        digest=held.evidence.digest,
        action=custody_pb2.CUSTODY_ACTION_DELETED,
        purpose="Retention is over",
        actor="service/video",
        event_time=timestamp(video.clock.now()),
    )
    video.append_raw("zhichao.video.v1.CustodyEvent", deleted.SerializeToString())


def custody(video: RunningVideo, held: pb.HeldEvidence) -> list[tuple[str, str]]:
    """Return what was done with evidence, as a platform sees it: where, and what."""
    events = video.call("ListCustody", pb.ListCustodyRequest(name=name_of(held), page_size=1_000)).held_events
    return [
        (one.origin, custody_pb2.CustodyAction.Name(one.event.action).removeprefix("CUSTODY_ACTION_")) for one in events
    ]


def ask(video: RunningVideo, held: pb.HeldEvidence) -> str:
    """Ask for the bytes of evidence, and return the id of the request."""
    answer = video.call("FetchEvidence", pb.FetchEvidenceRequest(name=name_of(held), purpose="case 12"))
    return str(answer.request_id)
