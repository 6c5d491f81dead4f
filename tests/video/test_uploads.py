"""Uploads through the service: sealed once, bytes first, nothing half kept. What breaks off stands in test_resuming,
what is refused in test_upload_refusals.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from services.common.errors import ServiceError
from services.common.instants import moment, timestamp
from services.common.reasons import Reason
from services.video.object_store import object_key
from tests.video.harness import COUNTY, OTHER_UNIT, UNIT, RunningVideo, draft_of
from tests.video.media_files import clip, jpeg, pdf, photo
from zhichao.video.v1 import evidence_pb2
from zhichao.video.v1 import service_pb2 as pb


def stored(video: RunningVideo, content: bytes) -> bytes:
    """Return what the store has under the digest of some bytes."""
    with video.objects.read(object_key(hashlib.sha256(content).digest())) as reader:
        return b"".join(reader)


def test_an_upload_is_sealed_with_what_was_said_and_what_was_found(county: RunningVideo) -> None:
    content = photo()
    draft = draft_of(content, county.clock.now(), subjects=[evidence_pb2.Subject(record_id="r-1")])

    answer = county.upload(content, draft)

    held = answer.held_evidence
    assert held.evidence == evidence_pb2.Evidence(
        source_unit_id=UNIT,
        evidence_id=draft.evidence_id,
        kind=evidence_pb2.EVIDENCE_KIND_PHOTO,
        division_code=COUNTY,
        digest=hashlib.sha256(content).digest(),
        size_bytes=len(content),
        content_type="image/jpeg",
        media=evidence_pb2.MediaFacts(width_px=1920, height_px=1080),
        view=evidence_pb2.CAMERA_VIEW_FRONT,
        camera_id=draft.camera_id,
        capture_start_time=draft.capture_start_time,
        subjects=draft.subjects,
        retention_class="photo",
        retain_until_time=timestamp(county.clock.now() + timedelta(days=1095)),
        seal_time=timestamp(county.clock.now()),
        actor="person/tester",
    )
    assert (held.origin, held.bytes_state, answer.is_duplicate) == (COUNTY, pb.BYTES_STATE_HELD, False)


def test_the_bytes_are_in_the_store_under_their_digest_and_not_in_the_spool(county: RunningVideo) -> None:
    content = photo()

    county.sealed(content)

    assert (stored(county, content), county.spooled()) == (content, [])


def test_the_manifest_is_an_entry_of_the_journal(county: RunningVideo) -> None:
    held = county.sealed()

    (entry,) = county.own_entries()
    assert (entry.kind, entry.schema, entry.actor) == ("zhichao.video.v1.Evidence", 1, "person/tester")
    assert evidence_pb2.Evidence.FromString(entry.payload) == held.evidence


def test_the_same_upload_again_is_answered_without_its_bytes(county: RunningVideo) -> None:
    content = photo()
    draft = draft_of(content, county.clock.now())
    first = county.upload(content, draft)

    again = county.stub.UploadEvidence(iter([pb.UploadEvidenceRequest(draft=draft)]))

    assert (again.is_duplicate, again.held_evidence) == (True, first.held_evidence)
    assert len(county.own_entries()) == 1


def test_the_same_upload_is_a_duplicate_with_its_class_named_or_left_to_the_platform(county: RunningVideo) -> None:
    content = photo()
    draft = draft_of(content, county.clock.now(), evidence_id="p-1")
    county.upload(content, draft)

    named = county.upload(content, draft_of(content, county.clock.now(), evidence_id="p-1", retention_class="photo"))

    assert named.is_duplicate


@pytest.mark.parametrize(
    "changed",
    [
        {"camera_id": "another"},
        {"view": evidence_pb2.CAMERA_VIEW_REAR},
        {"subjects": [evidence_pb2.Subject(record_id="r-2")]},
        {"retention_class": "case"},
        {"digest": hashlib.sha256(b"other").digest()},
        {"size_bytes": 7},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_other_content_under_the_id_is_refused_and_the_first_stands(
    county: RunningVideo, changed: dict[str, Any]
) -> None:
    content = photo()
    first = county.sealed(content, evidence_id="p-1")

    refused = county.upload_refusal(content, draft_of(content, county.clock.now(), evidence_id="p-1", **changed))

    assert (refused.reason, refused.metadata) == (
        Reason.EVIDENCE_CONFLICT,
        {"evidence_id": "p-1", "origin": COUNTY, "sequence": str(first.sequence)},
    )
    assert len(county.own_entries()) == 1


def test_the_same_bytes_are_stored_once_however_many_manifests_name_them(county: RunningVideo) -> None:
    content = photo()

    one, other = county.sealed(content), county.sealed(content, source_unit_id=OTHER_UNIT)

    assert one.evidence.digest == other.evidence.digest
    assert (county.object_count(), len(county.own_entries())) == (1, 2)


def test_the_same_bytes_uploaded_at_once_are_one_object_and_two_manifests(county: RunningVideo) -> None:
    content = photo()

    with ThreadPoolExecutor(8) as pool:
        held = list(pool.map(lambda _: county.sealed(content), range(8)))

    assert {one.bytes_state for one in held} == {pb.BYTES_STATE_HELD}
    assert (county.object_count(), len(county.own_entries())) == (1, 8)


def test_the_same_evidence_uploaded_at_once_on_two_replicas_is_sealed_once(county: RunningVideo) -> None:
    content = photo()
    draft = draft_of(content, county.clock.now())
    replica = county.replica()
    try:
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda one: one.upload(content, draft), (county, replica)))
    finally:
        replica.close()

    assert sorted(answer.is_duplicate for answer in answers) == [False, True]
    assert answers[0].held_evidence == answers[1].held_evidence
    assert len(county.own_entries()) == 1


def test_clips_and_documents_are_sealed_too(county: RunningVideo) -> None:
    film, paper = clip(), pdf()
    start = county.clock.now() - timedelta(minutes=2)

    of_clip = county.sealed(
        film,
        kind=evidence_pb2.EVIDENCE_KIND_CLIP,
        content_type="video/mp4",
        capture_start_time=timestamp(start),
        capture_end_time=timestamp(start + timedelta(seconds=1)),
    )
    of_paper = county.sealed(
        paper,
        kind=evidence_pb2.EVIDENCE_KIND_DOCUMENT,
        content_type="application/pdf",
        capture_start_time=None,
        view=None,
        camera_id=None,
    )

    assert (of_clip.evidence.media.video_codec, of_clip.evidence.retention_class) == ("h264", "clip")
    assert of_paper.evidence.retention_class == "document"
    assert not of_paper.evidence.flags
    assert not of_paper.evidence.HasField("capture_start_time")


# Flags and classes


def test_what_is_doubtful_is_kept_and_flagged(county: RunningVideo) -> None:
    small = jpeg(320, 240, taken="2020:01:01 00:00:00")

    late = county.sealed(small, capture_start_time=timestamp(county.clock.now() - timedelta(minutes=11)))
    ahead = county.sealed(capture_start_time=timestamp(county.clock.now() + timedelta(hours=8)))

    assert list(late.evidence.flags) == [
        evidence_pb2.EVIDENCE_FLAG_LATE,
        evidence_pb2.EVIDENCE_FLAG_DEVICE_TIME_DIFFERS,
        evidence_pb2.EVIDENCE_FLAG_SMALL_PICTURE,
    ]
    assert list(ahead.evidence.flags) == [evidence_pb2.EVIDENCE_FLAG_CLOCK_AHEAD]


def test_a_class_of_the_table_is_taken_and_another_one_refused(county: RunningVideo) -> None:
    kept = county.sealed(retention_class="case")
    refused = county.upload_refusal(photo(), draft_of(photo(), county.clock.now(), retention_class="clip"))

    assert moment(kept.retain_until_time) == county.clock.now() + timedelta(days=1095)
    assert (refused.reason, list(refused.fields)) == (Reason.INVALID_ARGUMENT, ["draft.retention_class"])


# GetUpload


def test_how_far_an_upload_has_come_is_told(county: RunningVideo) -> None:
    content = photo()
    draft = draft_of(content, county.clock.now())
    name = evidence_pb2.EvidenceName(source_unit_id=UNIT, evidence_id=draft.evidence_id)
    with pytest.raises(ServiceError):
        county.upload(content[:1000], draft)

    under_way = county.call("GetUpload", pb.GetUploadRequest(name=name))
    county.upload(content, draft, offset=1000)
    sealed = county.call("GetUpload", pb.GetUploadRequest(name=name))

    assert (under_way.received_bytes, under_way.HasField("sealed")) == (1000, False)
    assert moment(under_way.expire_time) == county.clock.now() + timedelta(hours=24)
    assert (sealed.received_bytes, sealed.HasField("expire_time")) == (len(content), False)
    assert sealed.sealed.evidence.evidence_id == draft.evidence_id


def test_nothing_is_told_of_an_upload_that_is_not_here(county: RunningVideo) -> None:
    name = evidence_pb2.EvidenceName(source_unit_id=UNIT, evidence_id="none")
    elsewhere = evidence_pb2.EvidenceName(origin="141000", source_unit_id=UNIT, evidence_id="a b")

    assert county.refusal("GetUpload", pb.GetUploadRequest(name=name)).reason is Reason.NOT_FOUND
    refused = county.refusal("GetUpload", pb.GetUploadRequest(name=elsewhere))
    assert (refused.reason, sorted(refused.fields)) == (Reason.INVALID_ARGUMENT, ["name.evidence_id", "name.origin"])
