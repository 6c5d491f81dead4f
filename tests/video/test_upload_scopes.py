"""Who may resume and complete an upload: whoever may begin it, bound to source units or to a division."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.common.access.permissions import Role
from services.common.errors import ServiceError
from services.common.reasons import Reason
from tests.conftest import Databases
from tests.registry import examples
from tests.registry.calls import create
from tests.registry.harness import RunningRegistry
from tests.video.conftest import MakeVideo
from tests.video.direct_uploads import put_all, request_of
from tests.video.harness import CITY, COUNTY, OTHER_UNIT, UNIT, RunningVideo, draft_of
from tests.video.media_files import photo, unlike
from zhichao.video.v1 import evidence_pb2
from zhichao.video.v1 import service_pb2 as pb
from zhichao.video.v1.service_pb2_grpc import VideoServiceStub


@pytest.fixture
def city(video_of: MakeVideo, databases: Databases, socket_directory: Path) -> Iterator[RunningVideo]:
    """Run a city's service, whose registry knows a source unit in a county of the city."""
    registry = RunningRegistry(databases, socket_directory, CITY, datetime.now(UTC))
    try:
        create(registry, examples.source_unit(source_unit_id=UNIT, division_code=COUNTY))
        yield video_of(CITY, registry_address=registry.address)
    finally:
        registry.close()


@pytest.fixture
def steward(city: RunningVideo) -> VideoServiceStub:
    """Return somebody who enters data for that county."""
    return city.person(Role.DATA_STEWARD, name="steward-1", division=COUNTY)


def asked(draft: pb.EvidenceDraft) -> pb.GetUploadRequest:
    """Return the request for how far an upload has come."""
    name = evidence_pb2.EvidenceName(source_unit_id=draft.source_unit_id, evidence_id=draft.evidence_id)
    return pb.GetUploadRequest(name=name)


def test_a_steward_of_the_division_resumes_an_upload(city: RunningVideo, steward: VideoServiceStub) -> None:
    content = unlike(photo())
    draft = draft_of(content, city.clock.now())
    with pytest.raises(ServiceError):
        city.upload(content[:1000], draft, stub=steward)

    received = city.call("GetUpload", asked(draft), steward).received_bytes
    answer = city.upload(content, draft, offset=received, stub=steward)

    assert (received, answer.held_evidence.bytes_state) == (1000, pb.BYTES_STATE_HELD)
    assert city.call("GetUpload", asked(draft), steward).sealed == answer.held_evidence


def test_a_steward_of_the_division_completes_an_upload(city: RunningVideo, steward: VideoServiceStub) -> None:
    content = unlike(photo())
    draft = draft_of(content, city.clock.now())
    put_all(city.call("PrepareUpload", pb.PrepareUploadRequest(draft=draft), steward).parts, content)

    held = city.call("CompleteUpload", request_of(draft), steward).held_evidence

    assert held.bytes_state == pb.BYTES_STATE_HELD


def test_nobody_else_learns_of_it_or_completes_it(city: RunningVideo) -> None:
    content = unlike(photo())
    draft = draft_of(content, city.clock.now())
    put_all(city.call("PrepareUpload", pb.PrepareUploadRequest(draft=draft)).parts, content)
    strangers = [
        city.person(Role.DATA_STEWARD, name="steward-2", division="141026"),
        city.terminal(OTHER_UNIT),
    ]
    for stranger in strangers:
        for method, request in (("GetUpload", asked(draft)), ("CompleteUpload", request_of(draft))):
            refused = city.refusal(method, request, stranger)
            assert (refused.reason, refused.metadata) == (Reason.OUTSIDE_SCOPE, {"field": "name.source_unit_id"})
    assert city.call("CompleteUpload", request_of(draft), city.terminal(UNIT)).held_evidence.sequence


@pytest.mark.parametrize("is_same", [True, False], ids=["the same draft", "another one"])
def test_nobody_else_learns_that_it_is_sealed(city: RunningVideo, is_same: bool) -> None:
    content = unlike(photo())
    draft = draft_of(content, city.clock.now())
    city.upload(content, draft)
    if not is_same:
        draft.size_bytes += 1
    for stranger in (
        city.person(Role.DATA_STEWARD, name="steward-2", division="141026"),
        city.terminal(OTHER_UNIT),
    ):
        refused = city.refusal("PrepareUpload", pb.PrepareUploadRequest(draft=draft), stranger)
        assert (refused.reason, refused.metadata) == (Reason.OUTSIDE_SCOPE, {"field": "draft.source_unit_id"})
        with pytest.raises(ServiceError) as uploaded:
            city.upload(content, draft, stub=stranger)
        assert (uploaded.value.reason, uploaded.value.metadata) == (refused.reason, refused.metadata)


def test_a_site_does_not_choose_how_short_its_evidence_is_kept(video_of: MakeVideo, tmp_path: Path) -> None:
    usual = {"title": "-", "title_zh": "-", "kinds": ["photo", "clip", "document"]}
    classes = [
        {**usual, "retention_class": "usual", "days": 90, "default_of": ["photo", "clip", "document"]},
        {**usual, "retention_class": "short", "days": 1, "default_of": []},
        {**usual, "retention_class": "long", "days": 900, "default_of": []},
    ]
    table = tmp_path / "classes.json"
    table.write_text(json.dumps({"source_document": "-", "classes": classes}), encoding="utf-8")
    county = video_of(COUNTY, settings={"ZHICHAO_VIDEO_RETENTION_FILE": str(table)})
    terminal = county.terminal(UNIT)
    content = photo()
    short = draft_of(content, county.clock.now(), evidence_id="short", retention_class="short")
    long = draft_of(content, county.clock.now(), evidence_id="long", retention_class="long")

    assert county.upload_refusal(content, short, stub=terminal).fields == ["draft.retention_class"]
    assert county.upload(content, long, stub=terminal).held_evidence.evidence.retention_class == "long"
    # Whoever answers for the platform may.
    assert county.upload(content, short).held_evidence.evidence.retention_class == "short"
