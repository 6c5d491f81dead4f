"""Uploads straight to the store that are completed at once: others are answered meanwhile, and one object results."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from services.video.object_store import object_key
from services.video.staging import COMPLETIONS_MAX
from tests.video.conftest import MakeVideo
from tests.video.direct_uploads import clip_draft, complete, evidence_count, large_clip, prepare, put_all, staged
from tests.video.harness import COUNTY, draft_of
from tests.video.media_files import photo, unlike
from tests.video.stores.gateway import Gateway
from tests.video.stores.servers import Server
from zhichao.video.v1 import evidence_pb2
from zhichao.video.v1 import service_pb2 as pb

AT_ONCE_SECONDS_MAX = 10.0


def test_others_are_answered_while_uploads_are_read_back(video_of: MakeVideo, evidence_store: Server) -> None:
    goes_on = threading.Event()
    read_back = threading.Semaphore(0)

    def answer(method: str, path: str) -> tuple[int, bytes] | None:
        if method == "GET" and "/uploads/" in path and "uploadId" not in path:
            read_back.release()
            goes_on.wait(60.0)
        return None

    with Gateway(evidence_store.url.removeprefix("http://"), answer) as gateway:
        # As many turns as uploads that are read back at once.
        settings = {
            "ZHICHAO_VIDEO_S3_ENDPOINT": gateway.url,
            "ZHICHAO_VIDEO_S3_READ_TIMEOUT_SECONDS": "60",
            "ZHICHAO_VIDEO_THREADS": str(COMPLETIONS_MAX),
        }
        county = video_of(COUNTY, settings=settings)
        sealed = county.sealed()
        contents = [unlike(photo()) for _ in range(2 * COMPLETIONS_MAX)]
        drafts = [draft_of(content, county.clock.now()) for content in contents]
        for draft, content in zip(drafts, contents, strict=True):
            put_all(prepare(county, draft).parts, content)
        with ThreadPoolExecutor(len(drafts)) as pool:
            completed = [pool.submit(complete, county, draft) for draft in drafts]
            try:
                for _ in range(COMPLETIONS_MAX):
                    assert read_back.acquire(timeout=20.0)
                name = evidence_pb2.EvidenceName(
                    source_unit_id=sealed.evidence.source_unit_id, evidence_id=sealed.evidence.evidence_id
                )
                shown = county.call("GetEvidence", pb.GetEvidenceRequest(name=name)).held_evidence
            finally:
                goes_on.set()
            assert shown.evidence == sealed.evidence
            assert {one.result().bytes_state for one in completed} == {pb.BYTES_STATE_HELD}
        county.stop()


@pytest.mark.parametrize("at_once", [2, 4])
def test_the_same_bytes_completed_at_once_are_one_object(
    video_of: MakeVideo, evidence_store: Server, at_once: int
) -> None:
    content = large_clip()
    all_are_there = threading.Barrier(at_once)

    def answer(method: str, path: str) -> tuple[int, bytes] | None:
        if method == "PUT" and "/sha256/" in path and "?" not in path:
            # Nobody copies before all are about to; who comes later finds nobody to wait for.
            with suppress(threading.BrokenBarrierError):
                all_are_there.wait(AT_ONCE_SECONDS_MAX)
        return None

    with Gateway(evidence_store.url.removeprefix("http://"), answer) as gateway:
        settings = {"ZHICHAO_VIDEO_S3_ENDPOINT": gateway.url, "ZHICHAO_VIDEO_S3_READ_TIMEOUT_SECONDS": "60"}
        county = video_of(COUNTY, settings=settings)
        drafts = [clip_draft(county, content) for _ in range(at_once)]
        for draft in drafts:
            put_all(prepare(county, draft).parts, content)
        with ThreadPoolExecutor(at_once) as pool:
            held = list(pool.map(lambda draft: complete(county, draft), drafts))

        assert not all_are_there.broken
        assert {one.bytes_state for one in held} == {pb.BYTES_STATE_HELD}
        assert (evidence_count(county), staged(county)) == (at_once, [])
        assert len(county.objects.versions(object_key(drafts[0].digest))) == 1
        county.stop()
