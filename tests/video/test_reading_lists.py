"""GetEvidence and ListEvidence: every filter, pages that hold everything once, and whose evidence a caller sees."""

from datetime import timedelta
from typing import Any

import pytest

from services.common.access.permissions import Role
from services.common.instants import timestamp
from services.common.reasons import Reason
from services.video import handlers_reading
from tests.running_service import carry_up
from tests.video.conftest import MakeVideo
from tests.video.harness import CITY, COUNTY, OTHER_UNIT, UNIT, RunningVideo
from tests.video.media_files import pdf
from tests.video.transfer.carrying import name_of
from zhichao.video.v1 import evidence_pb2
from zhichao.video.v1 import service_pb2 as pb


def list_evidence(video: RunningVideo, narrow: pb.EvidenceFilter | None = None, stub: Any = None, **fields: Any) -> Any:
    """Return one page."""
    return video.call("ListEvidence", pb.ListEvidenceRequest(filter=narrow, **fields), stub)


def ids(answer: Any) -> list[str]:
    """Return the ids of the evidence on a page."""
    return [held.evidence.evidence_id for held in answer.held_evidence]


def found(video: RunningVideo, **narrow: Any) -> list[str]:
    """Return the ids that a filter lets pass."""
    return ids(list_evidence(video, pb.EvidenceFilter(**narrow)))


def document(video: RunningVideo, **fields: Any) -> pb.HeldEvidence:
    """Seal a document that proves an acceptance."""
    return video.sealed(
        pdf(),
        kind=evidence_pb2.EVIDENCE_KIND_DOCUMENT,
        content_type="application/pdf",
        view=None,
        camera_id=None,
        capture_start_time=None,
        subjects=[evidence_pb2.Subject(acceptance_id="acceptance-1")],
        **fields,
    )


def test_what_is_got_is_what_was_sealed(county: RunningVideo) -> None:
    held = county.sealed()

    answer = county.call("GetEvidence", pb.GetEvidenceRequest(name=name_of(held))).held_evidence

    assert (answer.evidence, answer.sequence, answer.leaf_digest) == (held.evidence, held.sequence, held.leaf_digest)
    assert answer.bytes_state == pb.BYTES_STATE_HELD
    assert answer.retain_until_time == held.evidence.retain_until_time


def test_without_an_origin_it_is_this_platforms(county: RunningVideo) -> None:
    held = county.sealed()
    name = evidence_pb2.EvidenceName(source_unit_id=UNIT, evidence_id=held.evidence.evidence_id)

    assert county.call("GetEvidence", pb.GetEvidenceRequest(name=name)).held_evidence.origin == COUNTY


def test_every_filter_narrows(county: RunningVideo) -> None:
    now = county.clock.now()
    weighed = evidence_pb2.Subject(record_id="weighing-1")
    other_camera: dict[str, Any] = {"camera_id": "34020000001320000002", "subjects": [weighed]}
    county.sealed(evidence_id="late", capture_start_time=timestamp(now - timedelta(minutes=1)))
    county.sealed(evidence_id="early", capture_start_time=timestamp(now - timedelta(minutes=9)), **other_camera)
    held = county.sealed(
        evidence_id="other-unit",
        source_unit_id=OTHER_UNIT,
        capture_start_time=timestamp(now - timedelta(minutes=5)),
        subjects=[weighed, evidence_pb2.Subject(acceptance_id="acceptance-1")],
    )
    document(county, evidence_id="document")
    request = pb.PlaceLegalHoldRequest(name=name_of(held), hold_id="case-7", purpose="案件核查")
    county.call("PlaceLegalHold", request)

    # What has no time of capture stands where it was sealed.
    assert found(county) == ["document", "late", "other-unit", "early"]
    assert found(county, origin=COUNTY) == ["document", "late", "other-unit", "early"]
    assert found(county, origin=CITY) == []
    assert found(county, source_unit_id=UNIT) == ["document", "late", "early"]
    assert found(county, source_unit_id=UNIT, record_id="weighing-1") == ["early"]
    assert found(county, source_unit_id=OTHER_UNIT, record_id="weighing-1") == ["other-unit"]
    assert found(county, source_unit_id=UNIT, acceptance_id="acceptance-1") == ["document"]
    assert found(county, source_unit_id=UNIT, record_id="acceptance-1") == []
    assert found(county, camera_id="34020000001320000002") == ["early"]
    assert found(county, start_time=timestamp(now - timedelta(minutes=5))) == ["document", "late", "other-unit"]
    assert found(county, end_time=timestamp(now - timedelta(minutes=5))) == ["early"]
    assert found(county, kinds=[evidence_pb2.EVIDENCE_KIND_DOCUMENT]) == ["document"]
    assert found(county, kinds=[evidence_pb2.EVIDENCE_KIND_CLIP]) == []
    assert found(county, kinds=[1, 3]) == ["document", "late", "other-unit", "early"]
    assert found(county, bytes_states=[pb.BYTES_STATE_HELD]) == ["document", "late", "other-unit", "early"]
    assert found(county, bytes_states=[pb.BYTES_STATE_BELOW, pb.BYTES_STATE_DAMAGED]) == []
    assert found(county, is_held=True) == ["other-unit"]
    assert found(county, is_held=True, source_unit_id=UNIT) == []


def test_what_is_below_is_listed_and_said_to_be_there(county: RunningVideo, video_of: MakeVideo) -> None:
    city = video_of(CITY, settings={"ZHICHAO_VIDEO_EAGER": "nothing"})
    county.sealed(evidence_id="p-1")
    carry_up(county, city)

    assert found(city, origin=COUNTY, bytes_states=[pb.BYTES_STATE_BELOW]) == ["p-1"]
    assert found(city, bytes_states=[pb.BYTES_STATE_HELD]) == []


@pytest.mark.parametrize(
    ("narrow", "fields"),
    [
        ({"origin": "x", "source_unit_id": "?"}, ["filter.origin", "filter.source_unit_id"]),
        ({"record_id": "r-1"}, ["filter.record_id"]),
        ({"acceptance_id": "a-1"}, ["filter.acceptance_id"]),
        ({"source_unit_id": UNIT, "record_id": "r 1"}, ["filter.record_id"]),
        ({"source_unit_id": UNIT, "record_id": "r-1", "acceptance_id": "a-1"}, ["filter.acceptance_id"]),
        ({"camera_id": "x" * 65}, ["filter.camera_id"]),
        ({"kinds": [9], "bytes_states": [0]}, ["filter.kinds", "filter.bytes_states"]),
        ({"kinds": [1] * 17}, ["filter.kinds"]),
    ],
)
def test_filters_that_make_no_sense(county: RunningVideo, narrow: dict[str, Any], fields: list[str]) -> None:
    request = pb.ListEvidenceRequest(filter=pb.EvidenceFilter(**narrow))

    assert county.refusal("ListEvidence", request).fields == fields


def test_times_that_are_none(county: RunningVideo) -> None:
    request = pb.ListEvidenceRequest()
    request.filter.start_time.seconds = request.filter.end_time.seconds = 1 << 60

    assert county.refusal("ListEvidence", request).fields == ["filter.start_time", "filter.end_time"]


def test_pages_hold_everything_once_though_more_comes(county: RunningVideo) -> None:
    """Also what was taken at the same moment."""
    for number in range(7):
        county.sealed(evidence_id=f"p-{number}")
    whole = found(county)

    token, seen = "", []
    for number in range(4):
        answer = list_evidence(county, page_size=2, page_token=token)
        seen += ids(answer)
        token = answer.next_page_token
        # Newer evidence stands before the first page.
        county.clock.advance(seconds=1)
        county.sealed(evidence_id=f"new-{number}")

    assert seen == whole == [f"p-{number}" for number in reversed(range(7))]
    assert token == ""


def test_a_page_ends_where_an_answer_would_be_too_large(county: RunningVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        county.sealed(evidence_id=f"p-{number}")
    monkeypatch.setattr(handlers_reading, "PAGE_BYTES_MAX", 1)

    first = list_evidence(county)
    second = list_evidence(county, page_token=first.next_page_token)

    assert (ids(first), ids(second)) == (["p-2"], ["p-1"])


def test_a_page_token_is_for_its_filter(county: RunningVideo) -> None:
    county.sealed()
    county.sealed()
    token = list_evidence(county, page_size=1).next_page_token

    for request in (
        pb.ListEvidenceRequest(filter=pb.EvidenceFilter(is_held=True), page_token=token),
        pb.ListEvidenceRequest(filter=pb.EvidenceFilter(kinds=[evidence_pb2.EVIDENCE_KIND_PHOTO]), page_token=token),
        pb.ListEvidenceRequest(page_token=token[:-4]),
    ):
        assert county.refusal("ListEvidence", request).reason is Reason.INVALID_PAGE_TOKEN
    assert county.refusal("ListEvidence", pb.ListEvidenceRequest(page_size=-1)).fields == ["page_size"]


def test_a_terminal_sees_its_own_units(county: RunningVideo) -> None:
    own, other = county.sealed(), county.sealed(source_unit_id=OTHER_UNIT)
    terminal = county.terminal(UNIT)

    listed = list_evidence(county, pb.EvidenceFilter(source_unit_id=UNIT), terminal)
    all_units = county.refusal("ListEvidence", pb.ListEvidenceRequest(), terminal)
    refused = county.refusal("GetEvidence", pb.GetEvidenceRequest(name=name_of(other)), terminal)

    assert ids(listed) == [own.evidence.evidence_id]
    assert [all_units.reason, refused.reason] == [Reason.OUTSIDE_SCOPE, Reason.OUTSIDE_SCOPE]


def test_who_is_bound_to_a_division_names_a_platform_of_it(county: RunningVideo, video_of: MakeVideo) -> None:
    city = video_of(CITY)
    held = county.sealed()
    carry_up(county, city)
    own = city.person(Role.VIEWER, name="viewer-1", division=COUNTY)
    other = city.person(Role.VIEWER, name="viewer-2", division="141024")
    request = pb.GetEvidenceRequest(name=name_of(held))

    assert city.call("GetEvidence", request, own).held_evidence.origin == COUNTY
    assert ids(list_evidence(city, pb.EvidenceFilter(origin=COUNTY), own)) == [held.evidence.evidence_id]
    assert city.refusal("GetEvidence", request, other).reason is Reason.OUTSIDE_SCOPE
    assert city.refusal("ListEvidence", pb.ListEvidenceRequest(), own).reason is Reason.OUTSIDE_SCOPE


@pytest.mark.parametrize("role", [Role.VIEWER, Role.AUDITOR, Role.OFFICER])
def test_manifests_are_for_all_who_read(county: RunningVideo, role: Role) -> None:
    held = county.sealed()

    assert ids(list_evidence(county, stub=county.person(role))) == [held.evidence.evidence_id]
