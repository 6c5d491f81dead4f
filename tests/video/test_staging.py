"""Uploads straight to the store: real HTTP to a real store, then read back, checked and sealed as all others. What
breaks off or comes at once stands in test_staging_resumed.
"""

import hashlib
import os
import secrets

import grpc
import pytest

from services.video import staging
from services.video.object_store import object_key
from services.video.staged_parts import PART_BYTES
from tests.fuzzing.growth import size_of
from tests.video.conftest import MakeVideo
from tests.video.direct_uploads import (
    big_clip,
    clip_draft,
    complete,
    evidence_count,
    large_clip,
    multipart_of,
    prepare,
    put,
    put_all,
    request_of,
    staged,
)
from tests.video.harness import COUNTY, OTHER_UNIT, UNIT, RunningVideo, draft_of
from tests.video.media_files import photo
from zhichao.video.v1 import service_pb2 as pb


def test_what_is_put_is_sealed_as_any_upload(county: RunningVideo) -> None:
    content = large_clip()
    draft = clip_draft(county, content)
    prepared = prepare(county, draft)
    assert [(part.part_number, part.offset, part.size_bytes) for part in prepared.parts] == [
        (1, 0, PART_BYTES),
        (2, PART_BYTES, PART_BYTES),
        (3, 2 * PART_BYTES, 1000),
    ]
    assert prepared.expire_time.ToDatetime() > county.clock.now().replace(tzinfo=None)
    put_all(prepared.parts, content)
    held = complete(county, draft)
    assert (held.evidence.digest, held.evidence.size_bytes) == (hashlib.sha256(content).digest(), len(content))
    assert (held.evidence.media.width_px, held.evidence.media.video_codec) == (320, "h264")
    assert held.bytes_state == pb.BYTES_STATE_HELD
    with county.objects.read(object_key(held.evidence.digest)) as chunks:
        assert b"".join(chunks) == content
    assert staged(county) == []


def test_a_photo_of_one_part_is_taken(county: RunningVideo) -> None:
    content = photo()
    draft = draft_of(content, county.clock.now())
    prepared = prepare(county, draft)
    put_all(prepared.parts, content)
    assert complete(county, draft).evidence.media.width_px == 1920


@pytest.mark.parametrize("content", [large_clip(), photo()])
def test_bytes_of_another_digest_are_forgotten(county: RunningVideo, content: bytes) -> None:
    is_clip = len(content) > PART_BYTES
    draft = clip_draft(county, content) if is_clip else draft_of(content, county.clock.now())
    changed = content[:-1] + bytes([content[-1] ^ 1])
    put_all(prepare(county, draft).parts, changed)
    refused = county.refusal("CompleteUpload", request_of(draft))
    assert (refused.status, refused.reason) == ("INVALID_ARGUMENT", "DIGEST_MISMATCH")
    assert refused.metadata == {
        "expected": hashlib.sha256(content).hexdigest(),
        "actual": hashlib.sha256(changed).hexdigest(),
    }
    assert staged(county) == []
    assert county.refusal("CompleteUpload", request_of(draft)).reason == "NOT_FOUND"
    # All of it again, and it is taken.
    put_all(prepare(county, draft).parts, content)
    assert complete(county, draft).evidence.size_bytes == len(content)


def test_a_program_is_refused_and_nothing_of_it_is_kept(county: RunningVideo) -> None:
    content = b"MZ" + secrets.token_bytes(PART_BYTES)
    draft = clip_draft(county, content)
    put_all(prepare(county, draft).parts, content)
    refused = county.refusal("CompleteUpload", request_of(draft))
    assert (refused.status, refused.reason) == ("INVALID_ARGUMENT", "CONTENT_REFUSED")
    assert refused.metadata == {"content_type": "video/mp4", "found": "executable"}
    assert staged(county) == []
    assert list(county.objects.list(object_key(draft.digest))) == []
    assert evidence_count(county) == 0


def test_nothing_cannot_be_uploaded(county: RunningVideo) -> None:
    refused = county.refusal("PrepareUpload", pb.PrepareUploadRequest(draft=clip_draft(county, b"", size_bytes=0)))
    assert (refused.status, refused.reason) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT")


def test_without_a_single_part_it_is_incomplete(county: RunningVideo) -> None:
    draft = clip_draft(county, large_clip())
    prepare(county, draft)
    assert county.call("GetStoreStatus", pb.GetStoreStatusRequest()).upload_count == 1
    refused = county.refusal("CompleteUpload", request_of(draft))
    assert (refused.reason, refused.metadata) == ("UPLOAD_INCOMPLETE", {"parts": "1-3"})


def test_what_was_never_prepared_is_not_found(county: RunningVideo) -> None:
    refused = county.refusal("CompleteUpload", request_of(clip_draft(county, b"x")))
    assert (refused.status, refused.reason) == ("NOT_FOUND", "NOT_FOUND")


def test_other_content_under_a_sealed_id_is_refused(county: RunningVideo) -> None:
    first, second = large_clip(), large_clip()
    draft = clip_draft(county, first)
    prepared = prepare(county, draft)
    put_all(prepared.parts, first)
    # Somebody is faster, the other way.
    sealed = county.upload(second, clip_draft(county, second, evidence_id=draft.evidence_id)).held_evidence
    for method, request in (
        ("CompleteUpload", request_of(draft)),
        ("PrepareUpload", pb.PrepareUploadRequest(draft=draft)),
    ):
        refused = county.refusal(method, request)
        assert (refused.status, refused.reason) == ("ALREADY_EXISTS", "EVIDENCE_CONFLICT")
    assert staged(county) == []
    assert complete(county, draft).evidence == sealed.evidence


def test_the_same_bytes_by_both_ways_are_one_object(county: RunningVideo) -> None:
    content = large_clip()
    one, other = clip_draft(county, content), clip_draft(county, content)
    county.upload(content, one)
    put_all(prepare(county, other).parts, content)
    complete(county, other)
    assert len(county.objects.versions(object_key(one.digest))) == 1
    assert evidence_count(county) == 2


def test_whoever_does_not_act_for_the_unit_is_refused(county: RunningVideo) -> None:
    content = large_clip()
    draft = clip_draft(county, content)
    stranger = county.terminal(OTHER_UNIT)
    assert county.refusal("PrepareUpload", pb.PrepareUploadRequest(draft=draft), stranger).status == "PERMISSION_DENIED"
    prepare(county, draft)
    assert county.refusal("CompleteUpload", request_of(draft), stranger).status == "PERMISSION_DENIED"
    owner = county.terminal(UNIT)
    assert county.refusal("CompleteUpload", request_of(draft), owner).reason == "UPLOAD_INCOMPLETE"


def test_an_unknown_source_unit_gets_no_addresses(county: RunningVideo) -> None:
    draft = clip_draft(county, large_clip(), source_unit_id="141025-0000")
    refused = county.refusal("PrepareUpload", pb.PrepareUploadRequest(draft=draft))
    assert (refused.status, refused.reason) == ("FAILED_PRECONDITION", "UNKNOWN_SOURCE_UNIT")
    assert staged(county) == []


def test_addresses_are_those_that_callers_reach(video_of: MakeVideo) -> None:
    county = video_of(COUNTY, settings={"ZHICHAO_VIDEO_S3_PUBLIC_ENDPOINT": "https://evidence.example.org"})
    for part in prepare(county, clip_draft(county, large_clip())).parts:
        assert part.url.startswith(f"https://evidence.example.org/{county.bucket}/uploads/")


def test_without_such_an_address_it_is_not_configured(video_of: MakeVideo) -> None:
    county = video_of(COUNTY)
    county.stop()
    del county.environment["ZHICHAO_VIDEO_S3_PUBLIC_ENDPOINT"]
    county.start()
    refused = county.refusal("PrepareUpload", pb.PrepareUploadRequest(draft=clip_draft(county, large_clip())))
    assert (refused.status, refused.reason) == ("FAILED_PRECONDITION", "NOT_CONFIGURED")


def test_what_was_put_over_it_after_the_fact_is_noticed(county: RunningVideo) -> None:
    """Whoever reaches the bucket could do so; an address for a part is no such thing."""
    content = large_clip()
    draft = clip_draft(county, content)
    prepared = prepare(county, draft)
    put_all(prepared.parts, content)
    key, upload_id = multipart_of(county, draft)
    county.objects.complete_multipart(key, upload_id, county.objects.list_parts(key, upload_id))
    assert put(prepared.parts[0].url, b"x" * PART_BYTES) == 404


@pytest.mark.parametrize("limit", ["UNIT_UPLOADS_MAX", "UPLOADS_MAX", "UPLOADS_BYTES_MAX"])
def test_there_is_room_for_so_much_and_no_more(
    county: RunningVideo, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    content = large_clip()
    first, second = clip_draft(county, content), clip_draft(county, content)
    prepare(county, first)
    monkeypatch.setattr(staging, limit, len(content) * staging.UNIT_SHARE if "BYTES" in limit else 1)
    refused = county.refusal("PrepareUpload", pb.PrepareUploadRequest(draft=second))
    assert (refused.status, refused.reason) == ("RESOURCE_EXHAUSTED", "UPLOAD_SPACE_EXHAUSTED")
    # Whoever has a place keeps it, also with another draft.
    assert len(prepare(county, first).parts) == 3
    assert len(prepare(county, clip_draft(county, large_clip(), evidence_id=first.evidence_id)).parts) == 3
    put_all(prepare(county, clip_draft(county, content, evidence_id=first.evidence_id)).parts, content)
    complete(county, first)
    assert len(prepare(county, second).parts) == 3


@pytest.mark.system
@pytest.mark.timeout(600)
def test_two_gigabytes_are_sealed(county: RunningVideo) -> None:
    film = big_clip(2 << 30)
    draft = clip_draft(county, b"", digest=film.digest(), size_bytes=film.size_bytes)
    prepared = prepare(county, draft)
    before = size_of(os.getpid())
    for part, content in zip(prepared.parts, film.chunks(PART_BYTES), strict=True):
        assert put(part.url, content) == 200
    try:
        held = county.stub.CompleteUpload(request_of(draft), timeout=300).held_evidence
    except grpc.RpcError as error:
        pytest.fail(str(error))
    assert (held.evidence.size_bytes, held.evidence.digest) == (film.size_bytes, draft.digest)
    # Service and test are one process here: neither holds more than some chunks of it.
    assert size_of(os.getpid()).memory_bytes - before.memory_bytes < 100_000_000
