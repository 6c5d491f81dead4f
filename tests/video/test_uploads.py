"""Uploads through the service: sealed once, bytes first, taken up again where they broke off."""

from tests.video.harness import RunningVideo, draft_of, photo
from zhichao.video.v1 import service_pb2 as pb


def test_an_upload_is_sealed_with_what_was_said_and_what_was_found(county: RunningVideo) -> None:
    content = photo()
    draft = draft_of(content, county.clock.now())

    answer = county.upload(content, draft)

    evidence = answer.held_evidence.evidence
    assert not answer.is_duplicate
    assert (evidence.digest, evidence.size_bytes, evidence.content_type) == (draft.digest, len(content), "image/jpeg")
    assert (evidence.media.width_px, evidence.media.height_px) == (1920, 1080)
    assert evidence.division_code == "141025"
    assert answer.held_evidence.bytes_state == pb.BYTES_STATE_HELD
