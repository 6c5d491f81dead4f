"""Uploads straight to the store as a site makes them that knows two calls and plain HTTP, and what is left of them."""

import http.client
import secrets
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from services.video.object_store import STAGING_PREFIX
from services.video.staged_parts import PART_BYTES
from tests.video.harness import RunningVideo, draft_of
from tests.video.media_files import BigClip, clip
from zhichao.video.v1 import evidence_pb2
from zhichao.video.v1 import service_pb2 as pb

_CLIP: Final = clip(seconds=1, starts_with_index=True)


def big_clip(size_bytes: int) -> BigClip:
    """Make a clip of this size that no disk need hold before."""
    return BigClip(_CLIP, size_bytes)


def large_clip(size_bytes: int = 2 * PART_BYTES + 1000) -> bytes:
    """Make a clip of this size, by default of two parts and a short one."""
    return big_clip(size_bytes).content()


def clip_draft(county: RunningVideo, content: bytes, **fields: Any) -> pb.EvidenceDraft:
    """Describe a clip; `fields` are laid over that."""
    end = draft_of(content, county.clock.now()).capture_start_time
    values: dict[str, Any] = {
        "evidence_id": f"clip-{secrets.token_hex(8)}",
        "kind": evidence_pb2.EVIDENCE_KIND_CLIP,
        "content_type": "video/mp4",
        "capture_end_time": end,
    }
    return draft_of(content, county.clock.now(), **(values | fields))


def prepare(county: RunningVideo, draft: pb.EvidenceDraft) -> pb.PrepareUploadResponse:
    """Ask for the addresses of what is missing."""
    answer: pb.PrepareUploadResponse = county.call("PrepareUpload", pb.PrepareUploadRequest(draft=draft))
    return answer


def request_of(draft: pb.EvidenceDraft) -> pb.CompleteUploadRequest:
    """Return the request to seal an upload."""
    name = evidence_pb2.EvidenceName(source_unit_id=draft.source_unit_id, evidence_id=draft.evidence_id)
    return pb.CompleteUploadRequest(name=name)


def complete(county: RunningVideo, draft: pb.EvidenceDraft) -> pb.HeldEvidence:
    """Seal an upload."""
    answer: pb.CompleteUploadResponse = county.call("CompleteUpload", request_of(draft))
    return answer.held_evidence


def put(url: str, content: bytes) -> int:
    """Put bytes to an address as a site does that knows nothing but HTTP, and return the status."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    try:
        connection.request("PUT", f"{parts.path}?{parts.query}", content)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def put_all(parts: Sequence[pb.UploadPart], content: bytes) -> None:
    """Put parts of some bytes to their addresses."""
    for part in parts:
        assert put(part.url, content[part.offset : part.offset + part.size_bytes]) == 200


def staged(county: RunningVideo) -> list[str]:
    """Return what is under staging keys, and what is known of uploads."""
    keys = [found.key for found in county.objects.list(STAGING_PREFIX)]
    return keys + [str(name) for (name,) in county.query("SELECT evidence_id FROM uploads")]


def evidence_count(county: RunningVideo) -> int:
    """Count the manifests."""
    return int(county.query("SELECT count(*) FROM evidence")[0][0])


def multipart_of(county: RunningVideo, draft: pb.EvidenceDraft) -> tuple[str, str]:
    """Return the staging key of an upload, and its id at the store."""
    rows = county.query("SELECT staging_key, multipart_id FROM uploads WHERE evidence_id = %s", draft.evidence_id)
    key, upload_id = rows[0]
    return str(key), str(upload_id)
