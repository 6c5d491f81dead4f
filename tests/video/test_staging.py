"""Uploads straight to the store: real HTTP to a real store, then read back, checked and sealed as all others."""

import hashlib
import http.client
import secrets
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import grpc
import pytest

from cli.platform_layout import free_port
from services.common.errors import ServiceError
from services.video import staging
from services.video.object_store import STAGING_PREFIX, object_key
from services.video.staged_parts import PART_BYTES
from tests.video.harness import COUNTY, OTHER_UNIT, UNIT, RunningVideo, draft_of, photo
from tests.video.media_files import clip
from tests.waiting import wait_until
from zhichao.video.v1 import evidence_pb2
from zhichao.video.v1 import service_pb2 as pb

MakeVideo = Callable[..., RunningVideo]

_CLIP: Final = clip(seconds=1, starts_with_index=True)


def large_clip(size_bytes: int = 2 * PART_BYTES + 1000) -> bytes:
    """Make a clip of this size that is like no other: what fills it stands in a box that players pass over."""
    fill = size_bytes - len(_CLIP) - 8
    return _CLIP + struct.pack(">I4s", fill + 8, b"free") + secrets.token_bytes(16) + bytes(fill - 16)


def clip_draft(county: RunningVideo, content: bytes, **fields: Any) -> pb.EvidenceDraft:
    end = draft_of(content, county.clock.now()).capture_start_time
    values: dict[str, Any] = {
        "evidence_id": f"clip-{secrets.token_hex(8)}",
        "kind": evidence_pb2.EVIDENCE_KIND_CLIP,
        "content_type": "video/mp4",
        "capture_end_time": end,
    }
    return draft_of(content, county.clock.now(), **(values | fields))


def prepare(county: RunningVideo, draft: pb.EvidenceDraft) -> pb.PrepareUploadResponse:
    answer: pb.PrepareUploadResponse = county.call("PrepareUpload", pb.PrepareUploadRequest(draft=draft))
    return answer


def request_of(draft: pb.EvidenceDraft) -> pb.CompleteUploadRequest:
    name = evidence_pb2.EvidenceName(source_unit_id=draft.source_unit_id, evidence_id=draft.evidence_id)
    return pb.CompleteUploadRequest(name=name)


def complete(county: RunningVideo, draft: pb.EvidenceDraft) -> pb.HeldEvidence:
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
    for part in parts:
        assert put(part.url, content[part.offset : part.offset + part.size_bytes]) == 200


def staged(county: RunningVideo) -> list[str]:
    """Return what is under staging keys, and what is known of uploads."""
    keys = [found.key for found in county.objects.list(STAGING_PREFIX)]
    return keys + [str(name) for (name,) in county.query("SELECT evidence_id FROM uploads")]


def evidence_count(county: RunningVideo) -> int:
    return int(county.query("SELECT count(*) FROM evidence")[0][0])


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


def test_an_upload_that_broke_off_goes_on_with_what_is_missing(county: RunningVideo) -> None:
    content = large_clip()
    draft = clip_draft(county, content)
    first = prepare(county, draft)
    put_all([first.parts[0], first.parts[2]], content)
    refused = county.refusal("CompleteUpload", request_of(draft))
    assert (refused.status, refused.reason) == ("FAILED_PRECONDITION", "UPLOAD_INCOMPLETE")
    assert refused.metadata == {"parts": "2"}
    again = prepare(county, draft)
    assert [part.part_number for part in again.parts] == [2]
    put_all(again.parts, content)
    assert prepare(county, draft).parts == []
    assert complete(county, draft).evidence.size_bytes == len(content)


def test_a_part_of_another_size_has_to_come_again(county: RunningVideo) -> None:
    content = large_clip()
    draft = clip_draft(county, content)
    prepared = prepare(county, draft)
    put_all(prepared.parts, content)
    assert put(prepared.parts[2].url, content[:500]) == 200
    assert [part.part_number for part in prepare(county, draft).parts] == [3]
    assert county.refusal("CompleteUpload", request_of(draft)).metadata == {"parts": "3"}


def test_parts_may_come_at_once_and_more_than_once(county: RunningVideo) -> None:
    content = large_clip()
    draft = clip_draft(county, content)
    parts = list(prepare(county, draft).parts) * 2
    with ThreadPoolExecutor(6) as pool:
        statuses = list(
            pool.map(lambda part: put(part.url, content[part.offset : part.offset + part.size_bytes]), parts)
        )
    assert statuses == [200] * 6
    assert complete(county, draft).evidence.size_bytes == len(content)


def test_both_calls_may_be_sent_again(county: RunningVideo) -> None:
    content = large_clip()
    draft = clip_draft(county, content)
    put_all(prepare(county, draft).parts, content)
    first = complete(county, draft)
    assert complete(county, draft) == first
    answer = prepare(county, draft)
    assert (answer.sealed, list(answer.parts)) == (first, [])
    assert evidence_count(county) == 1


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


def test_another_draft_takes_the_place_of_the_first(county: RunningVideo) -> None:
    first, second = large_clip(), large_clip()
    draft = clip_draft(county, first)
    old = prepare(county, draft)
    put_all(old.parts[:1], first)
    other = clip_draft(county, second, evidence_id=draft.evidence_id)
    new = prepare(county, other)
    assert [part.part_number for part in new.parts] == [1, 2, 3]
    assert put(old.parts[1].url, first[PART_BYTES : 2 * PART_BYTES]) == 404
    put_all(new.parts, second)
    assert complete(county, draft).evidence.digest == other.digest
    assert staged(county) == []


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


def test_while_the_store_is_away_nothing_is_lost(video_of: MakeVideo) -> None:
    county = video_of(COUNTY)
    content = large_clip()
    draft = clip_draft(county, content)
    put_all(prepare(county, draft).parts, content)
    there = county.environment["ZHICHAO_VIDEO_S3_ENDPOINT"]
    county.stop()
    county.environment["ZHICHAO_VIDEO_S3_ENDPOINT"] = f"http://127.0.0.1:{free_port()}"
    county.start()
    for method, request in (
        ("CompleteUpload", request_of(draft)),
        ("PrepareUpload", pb.PrepareUploadRequest(draft=draft)),
    ):
        refused = county.refusal(method, request)
        assert (refused.status, refused.reason) == ("UNAVAILABLE", "OBJECT_STORE_UNAVAILABLE")
    county.stop()
    county.environment["ZHICHAO_VIDEO_S3_ENDPOINT"] = there
    county.start()
    assert complete(county, draft).evidence.size_bytes == len(content)


def multipart_of(county: RunningVideo, draft: pb.EvidenceDraft) -> tuple[str, str]:
    rows = county.query("SELECT staging_key, multipart_id FROM uploads WHERE evidence_id = %s", draft.evidence_id)
    key, upload_id = rows[0]
    return str(key), str(upload_id)


def test_a_service_killed_after_the_parts_became_one_object_goes_on(county: RunningVideo) -> None:
    content = large_clip()
    draft = clip_draft(county, content)
    put_all(prepare(county, draft).parts, content)
    key, upload_id = multipart_of(county, draft)
    county.objects.complete_multipart(key, upload_id, county.objects.list_parts(key, upload_id))
    assert prepare(county, draft).parts == []
    assert complete(county, draft).evidence.size_bytes == len(content)
    assert staged(county) == []


def test_a_service_killed_after_the_seal_has_nothing_to_do(county: RunningVideo) -> None:
    content = large_clip()
    draft = clip_draft(county, content)
    prepared = prepare(county, draft)
    put_all(prepared.parts, content)
    county.upload(content, draft)
    assert complete(county, draft).evidence.digest == draft.digest
    assert staged(county) == []
    assert evidence_count(county) == 1


def test_what_the_store_has_forgotten_is_begun_anew(county: RunningVideo) -> None:
    content = large_clip()
    draft = clip_draft(county, content)
    put_all(prepare(county, draft).parts, content)
    county.objects.abort_multipart(*multipart_of(county, draft))
    refused = county.refusal("CompleteUpload", request_of(draft))
    assert (refused.reason, refused.metadata) == ("UPLOAD_INCOMPLETE", {"parts": "1-3"})
    again = prepare(county, draft)
    assert len(again.parts) == 3
    put_all(again.parts, content)
    assert complete(county, draft).evidence.size_bytes == len(content)


def test_what_was_put_over_it_after_the_fact_is_noticed(county: RunningVideo) -> None:
    """Whoever reaches the bucket could do so; an address for a part is no such thing."""
    content = large_clip()
    draft = clip_draft(county, content)
    prepared = prepare(county, draft)
    put_all(prepared.parts, content)
    key, upload_id = multipart_of(county, draft)
    county.objects.complete_multipart(key, upload_id, county.objects.list_parts(key, upload_id))
    assert put(prepared.parts[0].url, b"x" * PART_BYTES) == 404


def test_abandoned_uploads_are_cleaned_up(video_of: MakeVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "SWEEP_UPLOADS", 10)
    county = video_of(COUNTY, settings={"ZHICHAO_VIDEO_UPLOAD_KEEP_HOURS": "2"})
    content = large_clip()
    drafts = [clip_draft(county, content) for _ in range(25)]
    addresses = [prepare(county, draft).parts[0].url for draft in drafts]
    assert put(addresses[0], content[:PART_BYTES]) == 200
    county.clock.advance(hours=1)
    kept = clip_draft(county, content)
    assert put(prepare(county, kept).parts[0].url, content[:PART_BYTES]) == 200
    county.clock.advance(hours=1, minutes=1)
    assert county.refusal("CompleteUpload", request_of(drafts[0])).reason == "NOT_FOUND"
    # At every start, and every minute.
    county.stop()
    county.start()
    wait_until(lambda: staged(county) == [kept.evidence_id], "what was abandoned is forgotten")
    for address in addresses:
        assert put(address, content[:PART_BYTES]) in (403, 404)
    # Whoever comes back begins anew; whoever was here an hour ago goes on.
    assert len(prepare(county, drafts[0]).parts) == 3
    assert [part.part_number for part in prepare(county, kept).parts] == [2, 3]


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


def test_of_many_calls_at_once_one_seals(county: RunningVideo) -> None:
    content = large_clip()
    draft = clip_draft(county, content)
    with ThreadPoolExecutor(8) as pool:
        prepared = list(pool.map(lambda _: prepare(county, draft), range(8)))
        # Whoever was first, all were given addresses of one and the same upload.
        assert len({part.url.split("uploadId=")[1][:32] for one in prepared for part in one.parts[:1]}) == 1
        put_all(prepared[0].parts, content)

        def finish(_: int) -> bytes:
            while True:
                try:
                    return complete(county, draft).evidence.digest
                except ServiceError as error:
                    if error.reason != "UPLOAD_BUSY":
                        raise

        assert set(pool.map(finish, range(8))) == {draft.digest}
    assert evidence_count(county) == 1
    assert staged(county) == []


def test_another_replica_completes_what_one_has_prepared(county: RunningVideo) -> None:
    content = large_clip()
    draft = clip_draft(county, content)
    replica = county.replica()
    try:
        put_all(prepare(county, draft).parts, content)
        assert prepare(replica, draft).parts == []
        with ThreadPoolExecutor(2) as pool:
            held = list(pool.map(lambda one: complete(one, draft), (county, replica)))
        assert held[0].evidence == held[1].evidence
    finally:
        replica.close()
    assert evidence_count(county) == 1
    assert staged(county) == []


GIGABYTES_2: Final = 2 << 30


def big_clip() -> Iterator[bytes]:
    """Yield a clip of 2 GiB in parts: what makes it large is a box of zeros, which no disk need hold before."""
    fill = GIGABYTES_2 - len(_CLIP)
    head = _CLIP + struct.pack(">I4sQ", 1, b"free", fill) + secrets.token_bytes(16)
    yield head + bytes(PART_BYTES - len(head))
    zeros = bytes(PART_BYTES)
    for _ in range(GIGABYTES_2 // PART_BYTES - 1):
        yield zeros


def memory_kb() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError


@pytest.mark.system
@pytest.mark.timeout(600)
def test_two_gigabytes_are_sealed(county: RunningVideo) -> None:
    head = next(big_clip())
    digest = hashlib.sha256(head)
    for _ in range(GIGABYTES_2 // PART_BYTES - 1):
        digest.update(bytes(PART_BYTES))
    draft = clip_draft(county, head, digest=digest.digest(), size_bytes=GIGABYTES_2)
    prepared = prepare(county, draft)
    zeros = bytes(PART_BYTES)
    before = memory_kb()
    for part in prepared.parts:
        assert put(part.url, head if part.part_number == 1 else zeros) == 200
    try:
        held = county.stub.CompleteUpload(request_of(draft), timeout=300).held_evidence
    except grpc.RpcError as error:
        pytest.fail(str(error))
    assert (held.evidence.size_bytes, held.evidence.digest) == (GIGABYTES_2, digest.digest())
    # Service and test are one process here: neither holds more than some chunks of it.
    assert memory_kb() - before < 100_000
