"""Uploads straight to the store that nobody ends, by the hundred: swept by pages, also in a store that goes away."""

from threading import Event

import pytest

from services.video import background, staging
from services.video.staged_parts import PART_BYTES
from tests.video.conftest import MakeVideo
from tests.video.direct_uploads import clip_draft, large_clip, multipart_of, prepare, put, staged
from tests.video.harness import COUNTY, RunningVideo
from tests.video.stores.gateway import Gateway, error
from tests.video.stores.servers import Server
from tests.waiting import wait_until
from zhichao.video.v1 import service_pb2 as pb

UPLOADS = 70
PAGE = 20


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweep few at once, and come back soon after a failure."""
    monkeypatch.setattr(staging, "SWEEP_UPLOADS", PAGE)
    monkeypatch.setattr(background, "RETRY_SECONDS_MIN", 0.1)
    monkeypatch.setattr(background, "RETRY_SECONDS_MAX", 0.1)


def rows(county: RunningVideo) -> int:
    """Count the uploads that the service knows of."""
    return int(county.query("SELECT count(*) FROM uploads")[0][0])


def abandon(county: RunningVideo) -> list[pb.EvidenceDraft]:
    """Begin uploads, put a part of one, and let their time pass while the service is stopped."""
    content = large_clip()
    drafts = [clip_draft(county, content) for _ in range(UPLOADS)]
    for number, draft in enumerate(drafts):
        address = prepare(county, draft).parts[0].url
        if not number:
            assert put(address, content[:PART_BYTES]) == 200
    county.stop()
    county.clock.advance(hours=25)
    return drafts


def left_at_the_store(county: RunningVideo) -> int:
    """Count, and end, what the store still has of uploads in parts."""
    return county.objects.abort_stale_multiparts(county.clock.now())


def test_a_store_that_goes_away_on_the_way_keeps_nothing(video_of: MakeVideo, evidence_store: Server) -> None:
    is_back, is_asked = Event(), Event()
    ended = 0

    def answer(method: str, path: str) -> tuple[int, bytes] | None:
        nonlocal ended
        if is_back.is_set():
            return None
        if ended >= PAGE + PAGE // 2:
            is_asked.set()
            return 503, b""
        ended += method == "DELETE" and "uploadId" in path
        return None

    with Gateway(evidence_store.url.removeprefix("http://"), answer) as gateway:
        county = video_of(COUNTY, settings={"ZHICHAO_VIDEO_S3_ENDPOINT": gateway.url, "ZHICHAO_VIDEO_S3_RETRIES": "0"})
        abandon(county)
        county.start()
        assert is_asked.wait(20.0)
        # What the store has not done is not forgotten.
        assert rows(county) >= UPLOADS - PAGE - PAGE // 2
        is_back.set()
        wait_until(lambda: staged(county) == [], "all of them are forgotten")
        assert left_at_the_store(county) == 0
        county.stop()


def test_one_that_the_store_refuses_to_end_does_not_keep_the_others(
    video_of: MakeVideo, evidence_store: Server
) -> None:
    refused: set[str] = set()

    def answer(method: str, path: str) -> tuple[int, bytes] | None:
        return error("InvalidArgument", 400) if method == "DELETE" and any(one in path for one in refused) else None

    with Gateway(evidence_store.url.removeprefix("http://"), answer) as gateway:
        county = video_of(COUNTY, settings={"ZHICHAO_VIDEO_S3_ENDPOINT": gateway.url})
        drafts = abandon(county)
        refused.add(multipart_of(county, drafts[0])[1])
        county.start()
        wait_until(lambda: rows(county) == 0, "all of them are forgotten")
        refused.clear()
        assert left_at_the_store(county) == 1
        county.stop()
