"""Evidence on platforms of one machine: uploaded at the county, asked for above, and where its bytes are."""

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from services.common.instants import timestamp
from tests.system.joined import CALL_SECONDS, WAIT_SECONDS, Joined
from tests.system.waiting import wait_until
from zhichao.relay.v1 import relay_pb2, relay_pb2_grpc
from zhichao.video.v1 import custody_pb2, evidence_pb2
from zhichao.video.v1 import service_pb2 as pb
from zhichao.video.v1.service_pb2_grpc import VideoServiceStub

CHUNK_BYTES: Final = 1 << 20


class Evidence:
    """One piece of evidence of the county, as the platforms of a test see it."""

    def __init__(self, joined: Joined, held: pb.HeldEvidence) -> None:
        self._joined = joined
        self.held = held
        self.name = evidence_pb2.EvidenceName(
            origin=held.origin, source_unit_id=held.evidence.source_unit_id, evidence_id=held.evidence.evidence_id
        )

    @property
    def digest(self) -> bytes:
        """Digest of the bytes."""
        return self.held.evidence.digest

    def call(self, platform: str, method: str, request: Any) -> Any:
        """Call a platform's video service as one of its people."""
        with self._joined.platforms[platform].connect("video") as channel:
            return getattr(VideoServiceStub(channel), method)(request, timeout=CALL_SECONDS)

    def at(self, platform: str) -> pb.HeldEvidence:
        """Return it as a platform holds it."""
        answer = self.call(platform, "GetEvidence", pb.GetEvidenceRequest(name=self.name))
        return pb.HeldEvidence.FromString(answer.held_evidence.SerializeToString())

    def state(self, platform: str) -> str:
        """Return where its bytes are, as a platform sees it."""
        return pb.BytesState.Name(self.at(platform).bytes_state).removeprefix("BYTES_STATE_")

    def wait_for(self, platform: str, state: str) -> None:
        """Wait until its bytes are somewhere, as a platform sees it; until then it may not even know of it."""
        wait_until(
            lambda: self.state(platform) == state,
            WAIT_SECONDS,
            lambda: f"{state} at {platform}: {self.state(platform)}\n{self._joined.tails()}",
        )

    def ask(self, platform: str) -> str:
        """Ask for its bytes; return the id of the request."""
        request = pb.FetchEvidenceRequest(name=self.name, purpose="case 12")
        return str(self.call(platform, "FetchEvidence", request).request_id)

    def read(self, platform: str) -> bytes:
        """Read its bytes where somebody looks at it."""
        request = pb.ReadEvidenceRequest(name=self.name, purpose="case 12")
        with self._joined.platforms[platform].connect("video") as channel:
            answers = VideoServiceStub(channel).ReadEvidence(request, timeout=CALL_SECONDS)
            return b"".join(answer.chunk for answer in answers)

    def custody(self, platform: str) -> list[tuple[str, str]]:
        """Return what was done with it, as a platform knows: where and what, ordered."""
        request = pb.ListCustodyRequest(name=self.name, page_size=1_000)
        return sorted(
            (one.origin, custody_pb2.CustodyAction.Name(one.event.action).removeprefix("CUSTODY_ACTION_"))
            for one in self.call(platform, "ListCustody", request).held_events
        )


def seal(joined: Joined, content: bytes, *, is_clip: bool = False) -> Evidence:
    """Upload a photo, or a clip, at the county and wait until it is sealed."""
    now = datetime.now(UTC)
    draft = pb.EvidenceDraft(
        source_unit_id=joined.site.units[0].source_unit_id,
        evidence_id=f"evidence-{secrets.token_hex(8)}",
        kind=evidence_pb2.EVIDENCE_KIND_CLIP if is_clip else evidence_pb2.EVIDENCE_KIND_PHOTO,
        digest=hashlib.sha256(content).digest(),
        size_bytes=len(content),
        content_type="video/mp4" if is_clip else "image/jpeg",
        capture_start_time=timestamp(now - timedelta(minutes=1)),
        capture_end_time=timestamp(now) if is_clip else None,
    )

    def messages() -> Any:
        yield pb.UploadEvidenceRequest(draft=draft)
        for start in range(0, len(content), CHUNK_BYTES):
            yield pb.UploadEvidenceRequest(chunk=content[start : start + CHUNK_BYTES])

    def upload() -> pb.HeldEvidence:
        with joined.county.connect("video") as channel:
            return VideoServiceStub(channel).UploadEvidence(messages(), timeout=CALL_SECONDS).held_evidence

    return Evidence(joined, wait_until(upload, WAIT_SECONDS, "it is not sealed"))


def evidence_progress(joined: Joined, platform: str) -> relay_pb2.EvidenceProgress:
    """Return how evidence goes up from a platform."""
    with joined.platforms[platform].connect("relay") as channel:
        stub = relay_pb2_grpc.RelayServiceStub(channel)
        return stub.GetRelayStatus(relay_pb2.GetRelayStatusRequest(), timeout=CALL_SECONDS).evidence_progress
