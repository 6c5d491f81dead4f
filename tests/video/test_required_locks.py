"""ZHICHAO_VIDEO_OBJECT_LOCK=require: nothing is taken while it is not found that the store enforces its locks."""

import secrets

from services.common.reasons import Reason
from services.video.object_store import LockState
from tests.video.conftest import MakeVideo
from tests.video.direct_uploads import clip_draft, large_clip
from tests.video.harness import COUNTY, RunningVideo, draft_of
from tests.video.media_files import photo
from tests.video.stores.servers import Server, harmful_client
from tests.waiting import wait_until
from zhichao.video.v1 import service_pb2 as pb

REQUIRED = {"ZHICHAO_VIDEO_OBJECT_LOCK": "require"}


def wait_for_test(video: RunningVideo, state: LockState) -> None:
    """Wait until the self-test has found something."""
    newest = "SELECT lock_state FROM store_tests ORDER BY test_time DESC LIMIT 1"
    wait_until(lambda: video.query(newest) == [(state.value,)], f"the self-test finds {state.name}")


def test_uploads_are_refused_where_locks_are_not_enforced(video_of: MakeVideo, evidence_store: Server) -> None:
    bucket = f"plain-{secrets.token_hex(6)}"
    harmful_client(evidence_store).make_bucket(bucket)
    video = video_of(COUNTY, bucket=bucket, settings=REQUIRED)
    wait_for_test(video, LockState.UNSUPPORTED)
    content = photo()
    draft = draft_of(content, video.clock.now())

    refused = [
        video.upload_refusal(content, draft),
        video.refusal("PrepareUpload", pb.PrepareUploadRequest(draft=clip_draft(video, large_clip()))),
    ]

    assert [one.reason for one in refused] == [Reason.OBJECT_STORE_UNAVAILABLE] * 2
    assert all("enforce its locks" in one.message for one in refused)
    assert (video.object_count(), video.query("SELECT count(*) FROM evidence")) == (0, [(0,)])


def test_uploads_are_taken_locked_where_they_are(video_of: MakeVideo) -> None:
    video = video_of(COUNTY, settings=REQUIRED)
    wait_for_test(video, LockState.ENFORCED)

    video.sealed()

    (found,) = video.objects.list("sha256/")
    assert video.objects.delete(found.key).kept_count == 1
