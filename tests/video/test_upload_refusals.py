"""Uploads through the service that are refused: for what they are, for who sends them, for whose evidence it is."""

import hashlib

from services.common.access.permissions import Role
from services.common.instants import timestamp
from services.common.reasons import Reason
from tests.video.conftest import MakeVideo
from tests.video.harness import COUNTY, OTHER_UNIT, UNIT, RunningVideo, draft_of, messages
from tests.video.media_files import photo
from zhichao.video.v1 import evidence_pb2
from zhichao.video.v1 import service_pb2 as pb


def test_every_bad_field_is_named_at_once(county: RunningVideo) -> None:
    draft = pb.EvidenceDraft(
        source_unit_id="no unit",
        evidence_id="",
        digest=b"short",
        content_type="application/x-dosexec",
        view=99,  # type: ignore[arg-type]  # what nobody should send
        camera_id="\x07",
        subjects=[evidence_pb2.Subject(), evidence_pb2.Subject(acceptance_id="a b")],
    )

    refused = county.upload_refusal(b"x", draft)

    assert refused.reason is Reason.INVALID_ARGUMENT
    assert sorted(refused.fields) == [
        "draft.camera_id",
        "draft.content_type",
        "draft.digest",
        "draft.evidence_id",
        "draft.kind",
        "draft.size_bytes",
        "draft.source_unit_id",
        "draft.subjects[0]",
        "draft.subjects[1].acceptance_id",
        "draft.view",
    ]


def test_a_first_message_without_a_draft_is_refused(county: RunningVideo) -> None:
    refused = county.refusal("UploadEvidence", iter([pb.UploadEvidenceRequest(chunk=b"x")]))

    assert (refused.reason, list(refused.fields)) == (Reason.INVALID_ARGUMENT, ["draft"])


def test_a_draft_in_a_later_message_is_refused(county: RunningVideo) -> None:
    content = photo()
    draft = draft_of(content, county.clock.now())
    first = pb.UploadEvidenceRequest(draft=draft, chunk=content[:10])

    refused = county.refusal("UploadEvidence", iter([first, pb.UploadEvidenceRequest(draft=draft)]))

    assert (refused.reason, list(refused.fields)) == (Reason.INVALID_ARGUMENT, ["draft"])


def test_a_chunk_over_a_mebibyte_is_refused(county: RunningVideo) -> None:
    content = bytes(2 << 20)
    draft = draft_of(content, county.clock.now())

    refused = county.refusal("UploadEvidence", messages(content, draft, chunk_bytes=(1 << 20) + 1))

    assert (refused.reason, list(refused.fields)) == (Reason.INVALID_ARGUMENT, ["chunk"])


def test_bytes_of_another_digest_are_refused_and_forgotten(county: RunningVideo) -> None:
    content = photo()
    wrong = content[:-1] + bytes([content[-1] ^ 1])

    refused = county.upload_refusal(wrong, draft_of(content, county.clock.now()))

    assert (refused.reason, refused.metadata) == (
        Reason.DIGEST_MISMATCH,
        {"expected": hashlib.sha256(content).hexdigest(), "actual": hashlib.sha256(wrong).hexdigest()},
    )
    assert (county.spooled(), county.object_count(), county.own_entries()) == ([], 0, [])


def test_one_byte_more_than_said_is_refused_and_forgotten(county: RunningVideo) -> None:
    content = photo()

    refused = county.upload_refusal(content + b"x", draft_of(content, county.clock.now()))

    assert (refused.reason, county.spooled(), county.object_count()) == (Reason.DIGEST_MISMATCH, [], 0)


def test_one_byte_less_than_said_is_refused_and_can_be_sent_later(county: RunningVideo) -> None:
    content = photo()
    draft = draft_of(content, county.clock.now())

    refused = county.upload_refusal(content[:-1], draft)

    assert (refused.reason, refused.metadata) == (Reason.UPLOAD_INCOMPLETE, {"received_bytes": str(len(content) - 1)})
    assert county.upload(content, draft, offset=len(content) - 1).held_evidence.bytes_state == pb.BYTES_STATE_HELD


def test_evidence_without_bytes_is_refused(county: RunningVideo) -> None:
    refused = county.upload_refusal(b"", draft_of(b"", county.clock.now()))

    assert (refused.reason, list(refused.fields)) == (Reason.INVALID_ARGUMENT, ["draft.size_bytes"])


def test_no_bytes_of_evidence_that_has_some_are_refused(county: RunningVideo) -> None:
    refused = county.upload_refusal(b"", draft_of(photo(), county.clock.now()))

    assert (refused.reason, refused.metadata) == (Reason.UPLOAD_INCOMPLETE, {"received_bytes": "0"})
    assert county.spooled() == []


def test_a_renamed_executable_is_refused_and_forgotten(county: RunningVideo) -> None:
    program = b"MZ" + bytes(1000)

    refused = county.upload_refusal(program, draft_of(program, county.clock.now()))

    assert (refused.reason, refused.metadata["content_type"]) == (Reason.CONTENT_REFUSED, "image/jpeg")
    assert (county.spooled(), county.object_count(), county.own_entries()) == ([], 0, [])


def test_a_photo_that_is_said_to_be_a_clip_is_refused(county: RunningVideo) -> None:
    content = photo()
    now = timestamp(county.clock.now())
    draft = draft_of(
        content,
        county.clock.now(),
        kind=evidence_pb2.EVIDENCE_KIND_CLIP,
        content_type="video/mp4",
        capture_start_time=now,
        capture_end_time=now,
    )

    refused = county.upload_refusal(content, draft)

    assert (refused.reason, refused.metadata) == (
        Reason.CONTENT_REFUSED,
        {"content_type": "video/mp4", "found": "image/jpeg"},
    )


# Who may


def test_a_terminal_uploads_for_its_own_unit_only(county: RunningVideo) -> None:
    stub = county.terminal(UNIT)
    content = photo()

    own = county.upload(content, draft_of(content, county.clock.now()), stub=stub)
    refused = county.upload_refusal(
        content, draft_of(content, county.clock.now(), source_unit_id=OTHER_UNIT), stub=stub
    )

    assert own.held_evidence.evidence.actor == "terminal/terminal-1"
    assert (refused.reason, refused.metadata) == (Reason.OUTSIDE_SCOPE, {"field": "draft.source_unit_id"})


def test_a_data_steward_of_another_division_is_refused(county: RunningVideo) -> None:
    county.access.say(parents={"141026": COUNTY})
    content = photo()
    draft = draft_of(content, county.clock.now())

    refused = county.upload_refusal(content, draft, stub=county.person(Role.DATA_STEWARD, division="141026"))
    whole = county.upload(content, draft, stub=county.person(Role.DATA_STEWARD, name="person-2"))

    assert refused.reason is Reason.OUTSIDE_SCOPE
    assert whole.held_evidence.evidence.actor == "person/person-2"


def test_who_only_looks_uploads_nothing(county: RunningVideo) -> None:
    refused = county.upload_refusal(
        photo(), draft_of(photo(), county.clock.now()), stub=county.person(Role.OFFICER, Role.VIEWER)
    )

    assert refused.reason is Reason.PERMISSION_MISSING


# Source units


def test_an_unknown_unit_is_refused(county: RunningVideo) -> None:
    refused = county.upload_refusal(photo(), draft_of(photo(), county.clock.now(), source_unit_id="141025-404"))

    assert (refused.reason, refused.metadata) == (Reason.UNKNOWN_SOURCE_UNIT, {"source_unit_id": "141025-404"})


def test_a_unit_that_is_known_goes_on_being_known_without_the_registry(video_of: MakeVideo) -> None:
    video = video_of(COUNTY)
    video.sealed()
    video.stop()
    video.environment["ZHICHAO_VIDEO_REGISTRY_ADDRESS"] = f"unix:{video.directory}/nobody.sock"
    video.clock.advance(hours=12)
    video.start()

    known = video.sealed()
    refused = video.upload_refusal(photo(), draft_of(photo(), video.clock.now(), source_unit_id=OTHER_UNIT))

    assert known.bytes_state == pb.BYTES_STATE_HELD
    assert (refused.reason, refused.metadata) == (Reason.SERVICE_UNAVAILABLE, {"service": "registry"})
