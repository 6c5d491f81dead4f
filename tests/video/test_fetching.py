"""FetchEvidence: requests for bytes below, which go down with the journal and are answered until their deadline."""

from datetime import timedelta
from typing import Any

import pytest

from services.common.access.permissions import Role
from services.common.instants import timestamp
from services.common.reasons import Reason
from tests.video.bytes_read import actions, events
from tests.video.conftest import MakeVideo
from tests.video.harness import CITY, COUNTY, PROVINCE, RunningVideo
from tests.video.transfer.carrying import (
    REQUESTED,
    Levels,
    decline,
    name_of,
    send_up,
    state_of,
    wait_for_state,
    wait_listed,
    write_deleted,
)
from zhichao.video.v1 import custody_pb2
from zhichao.video.v1 import service_pb2 as pb


@pytest.fixture
def levels(video_of: MakeVideo, county: RunningVideo) -> Levels:
    """Run the services of a county, its city and its province, which want nothing without being asked."""
    settings = {"ZHICHAO_VIDEO_EAGER": "nothing"}
    return Levels(county, video_of(CITY, settings=settings), video_of(PROVINCE, settings=settings))


def request_of(held: pb.HeldEvidence, **fields: Any) -> pb.FetchEvidenceRequest:
    """Ask for the bytes of evidence; `fields` are laid over that."""
    values: dict[str, Any] = {"name": name_of(held), "purpose": "案件核查"} | fields
    return pb.FetchEvidenceRequest(**values)


def fetch(video: RunningVideo, held: pb.HeldEvidence, **fields: Any) -> Any:
    """Ask for the bytes of evidence and return the answer."""
    return video.call("FetchEvidence", request_of(held, **fields))


def test_a_request_goes_down_to_the_platform_that_sealed_it(levels: Levels) -> None:
    held = levels.county.sealed()
    levels.carry_all()

    answer = fetch(levels.province, held)
    levels.carry_all()

    assert answer.request_id
    assert answer.held_evidence.bytes_state == pb.BYTES_STATE_WANTED
    for video in levels:
        (event,) = events(video, held)
        assert (event.action, event.purpose, event.reference_id, event.actor) == (
            custody_pb2.CUSTODY_ACTION_REQUESTED,
            "案件核查",
            answer.request_id,
            "person/tester",
        )
        assert event.until_time == timestamp(levels.province.clock.now() + timedelta(days=7))
    # The city wants them for the province; the county has them.
    wait_for_state(levels.city, held, "WANTED")
    assert state_of(levels.county, held) == "HELD"


def test_a_request_that_is_open_is_answered(levels: Levels) -> None:
    held = levels.county.sealed()
    levels.carry_all()

    first = fetch(levels.province, held)
    levels.province.clock.advance(hours=20)
    again = fetch(levels.province, held, purpose="another case")

    assert again.request_id == first.request_id
    assert actions(levels.province, held) == ["REQUESTED"]


def test_what_was_found_gone_is_asked_for_anew_though_a_request_is_open(levels: Levels) -> None:
    held = levels.county.sealed()
    levels.carry_all()
    first = fetch(levels.city, held)
    decline(levels.city, COUNTY, held.evidence.digest, is_gone=True)
    assert state_of(levels.city, held) == "GONE"

    again = fetch(levels.city, held)
    assert again.request_id not in ("", first.request_id)
    assert actions(levels.city, held) == ["REQUESTED", "REQUESTED"]
    wait_listed(levels.city, COUNTY, (held, REQUESTED))
    assert fetch(levels.city, held).request_id == again.request_id


def test_after_the_deadline_somebody_has_to_ask_anew(levels: Levels) -> None:
    held = levels.county.sealed()
    levels.carry_all()
    now = levels.province.clock.now()

    first = fetch(levels.province, held, deadline_time=timestamp(now + timedelta(hours=1)))
    levels.province.clock.advance(hours=1)
    again = fetch(levels.province, held)

    assert again.request_id != first.request_id
    assert actions(levels.province, held) == ["REQUESTED", "REQUESTED"]


def test_bytes_that_are_here_are_enough(levels: Levels) -> None:
    held = levels.county.sealed()
    levels.carry_all()
    fetch(levels.city, held)
    send_up(levels.county, levels.city, held.evidence.digest)

    own, arrived = fetch(levels.county, held), fetch(levels.city, held)

    assert (own.request_id, arrived.request_id) == ("", "")
    assert own.held_evidence.bytes_state == arrived.held_evidence.bytes_state == pb.BYTES_STATE_HELD
    assert actions(levels.city, held) == ["REQUESTED", "RECEIVED"]


def test_bytes_that_came_and_were_lost_are_asked_for_anew(levels: Levels) -> None:
    held = levels.county.sealed()
    levels.carry_all()
    first = fetch(levels.city, held)
    send_up(levels.county, levels.city, held.evidence.digest)
    levels.city.query("UPDATE objects SET state = 5, purge_time = now() WHERE digest = %s", held.evidence.digest)

    again = fetch(levels.city, held)

    assert again.request_id not in ("", first.request_id)
    assert again.held_evidence.bytes_state == pb.BYTES_STATE_WANTED


def test_bytes_that_were_deleted_where_they_were_sealed(levels: Levels) -> None:
    held = levels.county.sealed()
    levels.carry_all()
    write_deleted(levels.county, held)
    levels.carry_all()

    refused = levels.province.refusal("FetchEvidence", request_of(held))
    bytes_refused = levels.province.refusal(
        "GetPlaybackUrl", pb.GetPlaybackUrlRequest(name=name_of(held), purpose="案件核查")
    )

    assert (refused.status, refused.reason) == ("FAILED_PRECONDITION", Reason.BYTES_EXPIRED)
    assert refused.metadata["delete_time"].startswith(levels.county.clock.now().isoformat()[:19])
    assert bytes_refused.reason is Reason.BYTES_EXPIRED
    assert actions(levels.province, held) == ["DELETED"]


def test_bytes_that_one_in_between_keeps_are_fetched_and_held(levels: Levels) -> None:
    """The city was cut off when it placed its hold, and the county has deleted on time."""
    held = levels.county.sealed()
    levels.carry_all()
    fetch(levels.city, held)
    send_up(levels.county, levels.city, held.evidence.digest)
    write_deleted(levels.county, held)
    levels.carry_all()

    assert fetch(levels.province, held).held_evidence.bytes_state == pb.BYTES_STATE_WANTED
    hold = pb.PlaceLegalHoldRequest(name=name_of(held), hold_id="case-7", purpose="立案调查")
    placed = levels.province.call("PlaceLegalHold", hold).held_evidence
    assert [one.hold_id for one in placed.holds] == ["case-7"]
    wait_listed(levels.province, CITY, (held, REQUESTED))
    send_up(levels.city, levels.province, held.evidence.digest)
    assert state_of(levels.province, held) == "HELD"


def test_bytes_that_one_in_between_has_deleted_as_well(levels: Levels) -> None:
    held = levels.county.sealed()
    levels.carry_all()
    fetch(levels.city, held)
    send_up(levels.county, levels.city, held.evidence.digest)
    for video in (levels.county, levels.city):
        write_deleted(video, held)
    levels.carry_all()

    assert levels.province.refusal("FetchEvidence", request_of(held)).reason is Reason.BYTES_EXPIRED


def test_what_was_lost_where_it_was_sealed_is_not_asked_for_there(county: RunningVideo) -> None:
    held = county.sealed()
    county.query("UPDATE objects SET state = 4, damage = 12 WHERE digest = %s", held.evidence.digest)

    refused = county.refusal("FetchEvidence", request_of(held))

    assert refused.status == "DATA_LOSS"
    assert events(county, held) == []


def test_bad_fields_are_named(levels: Levels) -> None:
    held = levels.county.sealed()
    levels.carry_all()
    now = levels.province.clock.now()
    deadlines = [timestamp(now), timestamp(now + timedelta(days=91))]

    refused = [
        levels.province.refusal("FetchEvidence", request_of(held, purpose="", deadline_time=one)) for one in deadlines
    ]

    assert [one.fields for one in refused] == [["purpose", "deadline_time"]] * 2
    assert events(levels.province, held) == []


@pytest.mark.parametrize("role", [Role.VIEWER, Role.AUDITOR, Role.DATA_STEWARD])
def test_only_officers_ask(county: RunningVideo, role: Role) -> None:
    held = county.sealed()

    assert county.refusal("FetchEvidence", request_of(held), county.person(role)).reason is Reason.PERMISSION_MISSING
