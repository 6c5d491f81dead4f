"""Clips are sent to the store while they come: sealed once, nothing of what is refused, and slow ones as before."""

from collections.abc import Iterator
from typing import Any

import pytest

from services.common.reasons import Reason
from services.video import growing_file, storing_ahead
from services.video.object_store import PutResult, object_key
from services.video.storing_ahead import AheadUpload
from tests.video.direct_uploads import clip_draft, large_clip
from tests.video.harness import RunningVideo, messages
from tests.video.media_files import unlike
from tests.waiting import wait_until
from zhichao.video.v1 import service_pb2 as pb

Outcomes = list[PutResult | None]


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> Outcomes:
    """Note what became of each upload that was sent ahead."""
    noted: Outcomes = []
    finish = AheadUpload.finish

    def noting(self: AheadUpload, *arguments: Any) -> PutResult | None:
        result = finish(self, *arguments)
        noted.append(result)
        return result

    monkeypatch.setattr(AheadUpload, "finish", noting)
    return noted


def versions(county: RunningVideo, draft: pb.EvidenceDraft) -> int:
    return len(county.objects.versions(object_key(draft.digest)))


def test_a_clip_is_in_the_store_when_its_last_byte_was_checked(county: RunningVideo, outcomes: Outcomes) -> None:
    content = large_clip()
    draft = clip_draft(county, content)
    held = county.upload(content, draft).held_evidence
    assert held.bytes_state == pb.BYTES_STATE_HELD
    assert outcomes[0] == PutResult(object_key(draft.digest), was_there=False)
    with county.objects.read(object_key(draft.digest)) as reader:
        assert b"".join(reader) == content
    assert versions(county, draft) == 1
    assert county.spooled() == []


def test_what_is_refused_is_not_in_the_store(county: RunningVideo) -> None:
    content = large_clip()
    # Right by its digest, and no clip.
    program = b"\x7fELF" + content[4:]
    assert county.upload_refusal(program, clip_draft(county, program)).reason == Reason.CONTENT_REFUSED
    draft = clip_draft(county, content)
    assert county.upload_refusal(unlike(content), draft).reason == Reason.DIGEST_MISMATCH
    assert county.object_count() == 0


def test_an_upload_that_breaks_off_and_goes_on_is_sealed_once(county: RunningVideo) -> None:
    content = large_clip()
    draft = clip_draft(county, content)
    broken = list(messages(content, draft))
    half = broken[: len(broken) // 2]
    assert county.refusal("UploadEvidence", iter(half)).reason == Reason.UPLOAD_INCOMPLETE
    received = sum(len(one.chunk) for one in half)
    assert versions(county, draft) == 0
    assert county.upload(content, draft, offset=received).held_evidence.bytes_state == pb.BYTES_STATE_HELD
    assert versions(county, draft) == 1


def test_a_clip_whose_terminal_stalls_is_put_from_the_spool(
    county: RunningVideo, outcomes: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing_file, "WAIT_SECONDS_MAX", 0.05)
    ended: list[bool] = []
    put = storing_ahead.StoringAhead._put

    def noting(self: Any, *arguments: Any) -> PutResult | None:
        try:
            return put(self, *arguments)
        finally:
            ended.append(True)

    monkeypatch.setattr(storing_ahead.StoringAhead, "_put", noting)
    content = large_clip()
    draft = clip_draft(county, content)
    whole = list(messages(content, draft))

    def stalling() -> Iterator[pb.UploadEvidenceRequest]:
        yield from whole[:-1]
        wait_until(lambda: bool(ended), "what was begun is given up")
        yield whole[-1]

    answer = county.stub.UploadEvidence(stalling(), timeout=60.0)
    assert answer.held_evidence.bytes_state == pb.BYTES_STATE_HELD
    assert outcomes[0] is None
    assert versions(county, draft) == 1


def test_the_same_bytes_twice_are_one_object(county: RunningVideo) -> None:
    content = large_clip()
    first, second = (clip_draft(county, content, evidence_id=name) for name in ("first", "second"))
    for draft in (first, second):
        assert county.upload(content, draft).held_evidence.bytes_state == pb.BYTES_STATE_HELD
    assert versions(county, first) == 1
