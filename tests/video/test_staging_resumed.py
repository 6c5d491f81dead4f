"""Uploads straight to the store that break off, are abandoned, come twice, or come at once on several replicas."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from cli.platform_layout import free_port
from services.common.errors import ServiceError
from services.video import staging
from services.video.staged_parts import PART_BYTES
from tests.video.conftest import MakeVideo
from tests.video.direct_uploads import (
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
from tests.video.harness import COUNTY, RunningVideo
from tests.waiting import wait_until
from zhichao.video.v1 import service_pb2 as pb


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


def test_both_calls_may_be_sent_again(county: RunningVideo) -> None:
    content = large_clip()
    draft = clip_draft(county, content)
    put_all(prepare(county, draft).parts, content)
    first = complete(county, draft)
    assert complete(county, draft) == first
    answer = prepare(county, draft)
    assert (answer.sealed, list(answer.parts)) == (first, [])
    assert evidence_count(county) == 1


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


def test_a_part_of_another_size_has_to_come_again(county: RunningVideo) -> None:
    content = large_clip()
    draft = clip_draft(county, content)
    prepared = prepare(county, draft)
    put_all(prepared.parts[:2], content)
    # An address takes no other size; whoever reaches the store by another way could put it.
    assert put(prepared.parts[2].url, content[:500]) == 403
    assert put(county.objects.presign_put_part(*multipart_of(county, draft), 3, 500, 60), content[:500]) == 200
    assert [part.part_number for part in prepare(county, draft).parts] == [3]
    assert county.refusal("CompleteUpload", request_of(draft)).metadata == {"parts": "3"}
    put_all(prepared.parts[2:], content)
    assert prepare(county, draft).parts == []
    assert complete(county, draft).evidence.size_bytes == len(content)


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
