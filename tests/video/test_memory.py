"""Memory of the service while many upload big files at once, as the kernel counts it."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Final

import grpc
import pytest

from services.common.instants import timestamp
from services.common.reasons import Reason
from services.common.rpc_client import service_error
from tests.registry.harness import RunningRegistry
from tests.video.harness import CHUNK_BYTES, RunningVideo, draft_of
from tests.video.media_files import BigClip, clip
from tests.video.processes import VideoProcess, steward_token
from zhichao.video.v1 import evidence_pb2
from zhichao.video.v1 import service_pb2 as pb

UPLOADS: Final = 16

UPLOAD_BYTES: Final = int(os.environ.get("ZHICHAO_TEST_UPLOAD_BYTES") or 48 << 20)
"""Size of each: what would show that any of it is held whole. 2 GiB each takes 64 GiB of disk and half an hour."""

MEMORY_BYTES_MAX: Final = 150_000_000
"""What the service promises for any size of files and 16 uploads at once."""

UPLOAD_SECONDS_MAX: Final = 3_600.0


def requests(big: BigClip, draft: pb.EvidenceDraft) -> Iterator[pb.UploadEvidenceRequest]:
    """Yield the messages of its upload."""
    yield pb.UploadEvidenceRequest(draft=draft)
    for chunk in big.chunks(CHUNK_BYTES):
        yield pb.UploadEvidenceRequest(chunk=chunk)


@pytest.mark.timeout(UPLOAD_SECONDS_MAX)
def test_sixteen_big_uploads_at_once_take_no_more_memory_than_promised(
    county: RunningVideo, county_registry: RunningRegistry
) -> None:
    county.stop()
    process = VideoProcess(county, steward_token(county_registry, f"steward-{county.bucket[-6:]}"))
    process.start()
    film = clip()
    start = timestamp(county.clock.now() - timedelta(minutes=1))
    ends = timestamp(county.clock.now() - timedelta(seconds=59))

    def upload(number: int) -> pb.HeldEvidence:
        big = BigClip(film, UPLOAD_BYTES)
        draft = draft_of(
            b"",
            county.clock.now(),
            evidence_id=f"clip-{number}",
            digest=big.digest(),
            size_bytes=UPLOAD_BYTES,
            kind=evidence_pb2.EVIDENCE_KIND_CLIP,
            content_type="video/mp4",
            capture_start_time=start,
            capture_end_time=ends,
        )
        sent = requests(big, draft)
        while True:
            try:
                return process.stub.UploadEvidence(sent, timeout=UPLOAD_SECONDS_MAX).held_evidence
            except grpc.RpcError as error:
                # A store of one small machine may be too slow for sixteen at once: then only the seal is missing.
                if service_error(error).reason is not Reason.OBJECT_STORE_UNAVAILABLE:
                    raise
            sent = iter([pb.UploadEvidenceRequest(draft=draft, offset=UPLOAD_BYTES)])

    try:
        with ThreadPoolExecutor(UPLOADS) as pool:
            held = list(pool.map(upload, range(UPLOADS)))
        memory_bytes = process.memory_bytes_max()
    finally:
        process.stop()
    print(f"most memory of the service: {memory_bytes / (1 << 20):.0f} MiB")

    assert [one.evidence.size_bytes for one in held] == [UPLOAD_BYTES] * UPLOADS
    assert memory_bytes <= MEMORY_BYTES_MAX
