"""ListCustody, RecordExport and links: what was done with evidence, everywhere, in one order."""

import urllib.error
import urllib.request
from datetime import timedelta
from typing import Any

import pytest

from services.common.access.permissions import Role
from services.common.instants import timestamp
from services.common.reasons import Reason
from tests.running_service import carry_up
from tests.video.bytes_read import PURPOSE, actions, events, read, remove, replace
from tests.video.conftest import MakeVideo
from tests.video.harness import CITY, COUNTY, PROVINCE, UNIT, RunningVideo
from tests.video.media_files import photo
from tests.video.transfer.carrying import Levels, name_of, state_of
from zhichao.video.v1 import custody_pb2, evidence_pb2
from zhichao.video.v1 import service_pb2 as pb


@pytest.fixture
def levels(video_of: MakeVideo, county: RunningVideo) -> Levels:
    """Run the services of a county, its city and its province."""
    return Levels(county, video_of(CITY), video_of(PROVINCE))


def list_custody(video: RunningVideo, held: pb.HeldEvidence, **fields: Any) -> Any:
    """Return one page of what was done with evidence."""
    return video.call("ListCustody", pb.ListCustodyRequest(name=name_of(held), **fields))


def places(answer: Any) -> list[tuple[str, int]]:
    """Return the places of events."""
    return [(one.origin, one.sequence) for one in answer.held_events]


def export(video: RunningVideo, *held: pb.HeldEvidence, **fields: Any) -> pb.RecordExportRequest:
    """Say what goes into a bundle; `fields` are laid over that."""
    values: dict[str, Any] = {"names": [name_of(one) for one in held], "purpose": PURPOSE, "bundle_id": "bundle-1"}
    return pb.RecordExportRequest(**(values | fields))


# ListCustody


def test_what_every_platform_did_is_listed_in_the_order_in_which_it_was_done(levels: Levels) -> None:
    county, city, province = levels
    held = county.sealed()
    levels.carry_all()
    hold = pb.PlaceLegalHoldRequest(name=name_of(held), hold_id="case-7", purpose=PURPOSE)
    for video in (province, county, city):
        county.clock.advance(seconds=1)
        video.call("PlaceLegalHold", hold)
    county.clock.advance(seconds=1)
    read(county, held)
    levels.carry_all()

    answer = list_custody(province, held)

    assert [one.origin for one in answer.held_events] == [PROVINCE, COUNTY, CITY, COUNTY]
    # The county hears of what was addressed to it, of all else only those above.
    assert places(list_custody(county, held)) == places(answer)
    assert places(list_custody(city, held)) == places(answer)


def test_pages_hold_every_event_once(county: RunningVideo) -> None:
    """Events of one moment have an order, too."""
    held, other = county.sealed(), county.sealed()
    for _ in range(5):
        read(county, held)
        read(county, other)
    whole = places(list_custody(county, held))

    token, seen = "", []
    for _ in range(3):
        answer = list_custody(county, held, page_size=2, page_token=token)
        seen += places(answer)
        token = answer.next_page_token
        # What comes meanwhile does not move what was there.
        read(county, held)

    assert seen[:5] == whole
    assert len(set(seen)) == len(seen) == 6


def test_a_page_token_is_for_its_evidence(county: RunningVideo) -> None:
    held, other = county.sealed(), county.sealed()
    read(county, held)
    read(county, held)
    token = list_custody(county, held, page_size=1).next_page_token

    for wrong in (
        pb.ListCustodyRequest(name=name_of(other), page_token=token),
        pb.ListCustodyRequest(name=name_of(held), page_token="x"),
    ):
        assert county.refusal("ListCustody", wrong).reason is Reason.INVALID_PAGE_TOKEN


def test_a_site_is_not_told_who_looks_at_its_evidence_nor_what_is_held(county: RunningVideo) -> None:
    held = county.sealed()
    hold = pb.PlaceLegalHoldRequest(name=name_of(held), hold_id="case-1", purpose="立案")
    assert len(county.call("PlaceLegalHold", hold).held_evidence.holds) == 1
    later = pb.ExtendRetentionRequest(name=name_of(held), purpose="立案")
    later.retain_until_time.FromDatetime(held.retain_until_time.ToDatetime() + timedelta(days=1))
    extended = county.call("ExtendRetention", later).held_evidence
    assert extended.retain_until_time == later.retain_until_time
    terminal = county.terminal(UNIT)

    named = pb.GetEvidenceRequest(name=name_of(held))
    listed = pb.EvidenceFilter(source_unit_id=UNIT)
    shown = [
        county.call("GetEvidence", named, terminal).held_evidence,
        *county.call("ListEvidence", pb.ListEvidenceRequest(filter=listed), terminal).held_evidence,
    ]
    assert [list(one.holds) for one in shown] == [[], []]
    assert [one.retain_until_time for one in shown] == [held.evidence.retain_until_time] * 2
    refused = county.refusal("ListCustody", pb.ListCustodyRequest(name=name_of(held)), terminal)
    assert refused.reason is Reason.OUTSIDE_SCOPE
    narrowed = pb.ListEvidenceRequest(filter=pb.EvidenceFilter(source_unit_id=UNIT, is_held=True))
    assert county.refusal("ListEvidence", narrowed, terminal).fields == ["filter.is_held"]


def test_a_site_is_not_told_how_evidence_is_kept(county: RunningVideo) -> None:
    """Neither where the store is, nor whether its locks hold, nor how much it has lost."""
    request = pb.GetStoreStatusRequest()
    assert county.call("GetStoreStatus", request).endpoint
    assert county.refusal("GetStoreStatus", request, county.terminal(UNIT)).reason is Reason.OUTSIDE_SCOPE


def test_a_unit_of_another_platform_is_another_unit(county: RunningVideo, video_of: MakeVideo) -> None:
    held = county.sealed()
    city = video_of(CITY)
    carry_up(county, city)
    terminal = city.terminal(UNIT)

    for method, request in (
        ("GetEvidence", pb.GetEvidenceRequest(name=name_of(held))),
        ("ListEvidence", pb.ListEvidenceRequest(filter=pb.EvidenceFilter(origin=COUNTY, source_unit_id=UNIT))),
    ):
        assert city.refusal(method, request, terminal).reason is Reason.OUTSIDE_SCOPE
    own = pb.ListEvidenceRequest(filter=pb.EvidenceFilter(source_unit_id=UNIT))
    assert list(city.call("ListEvidence", own, terminal).held_evidence) == []
    assert len(city.call("ListEvidence", own).held_evidence) == 1


# RecordExport


def test_an_export_is_written_down_for_every_piece(county: RunningVideo) -> None:
    one, other = county.sealed(), county.sealed()

    answer = county.call("RecordExport", export(county, other, one))

    assert [held.event.evidence_id for held in answer.held_events] == [
        other.evidence.evidence_id,
        one.evidence.evidence_id,
    ]
    for held in (one, other):
        (event,) = events(county, held)
        assert (event.action, event.purpose, event.reference_id) == (
            custody_pb2.CUSTODY_ACTION_EXPORTED,
            PURPOSE,
            "bundle-1",
        )


def test_the_same_bundle_is_written_down_once(county: RunningVideo) -> None:
    one, other = county.sealed(), county.sealed()

    first = county.call("RecordExport", export(county, one))
    again = county.call("RecordExport", export(county, one))
    wider = county.call("RecordExport", export(county, one, other))
    another = county.call("RecordExport", export(county, one, bundle_id="bundle-2"))

    assert first == again
    assert wider.held_events[0] == first.held_events[0]
    assert another.held_events[0] != first.held_events[0]
    assert (actions(county, one), actions(county, other)) == (["EXPORTED", "EXPORTED"], ["EXPORTED"])


def test_nobody_exports_in_the_name_of_somebody_else(county: RunningVideo) -> None:
    one, other = county.sealed(), county.sealed()
    county.call("RecordExport", export(county, one))
    officer = county.person(Role.OFFICER, name="officer-2")

    refused = [
        county.refusal("RecordExport", export(county, other, one), officer),
        county.refusal("RecordExport", export(county, other, one, purpose="another")),
    ]

    assert [one.reason for one in refused] == [Reason.RESOURCE_EXISTS] * 2
    assert (actions(county, one), actions(county, other)) == (["EXPORTED"], [])


def test_a_bundle_with_one_piece_that_is_not_there_is_not_written_down(county: RunningVideo) -> None:
    held = county.sealed()
    nothing = evidence_pb2.EvidenceName(source_unit_id=UNIT, evidence_id="nothing")

    refused = county.refusal("RecordExport", export(county, names=[name_of(held), nothing]))

    assert refused.reason is Reason.NOT_FOUND
    assert events(county, held) == []


def test_bad_fields_of_an_export(county: RunningVideo) -> None:
    held = county.sealed()

    twice = county.refusal("RecordExport", export(county, held, held))
    none = county.refusal("RecordExport", export(county, purpose="", bundle_id="a b"))
    many = county.refusal("RecordExport", export(county, *[held] * 101))

    assert [one.fields for one in (twice, none, many)] == [["names[1]"], ["purpose", "bundle_id", "names"], ["names"]]


def test_an_officer_of_a_county_exports_what_is_the_countys(county: RunningVideo, video_of: MakeVideo) -> None:
    city = video_of(CITY)
    held = county.sealed()
    carry_up(county, city)
    own = city.person(Role.OFFICER, name="officer-1", division=COUNTY)
    other = city.person(Role.OFFICER, name="officer-2", division="141024")

    refused = city.refusal("RecordExport", export(city, held), other)
    answer = city.call("RecordExport", export(city, held), own)

    assert (refused.reason, refused.metadata["field"]) == (Reason.OUTSIDE_SCOPE, "names[0].origin")
    assert [one.event.actor for one in answer.held_events] == ["person/officer-1"]


@pytest.mark.parametrize("role", [Role.VIEWER, Role.AUDITOR, Role.DATA_STEWARD])
def test_only_officers_export(county: RunningVideo, role: Role) -> None:
    held = county.sealed()

    refused = county.refusal("RecordExport", export(county, held), county.person(role))

    assert refused.reason is Reason.PERMISSION_MISSING


# Links


def link(video: RunningVideo, held: pb.HeldEvidence, **fields: Any) -> Any:
    """Make a link to evidence; `fields` are laid over what it takes."""
    values: dict[str, Any] = {"name": name_of(held), "purpose": PURPOSE} | fields
    return video.call("GetPlaybackUrl", pb.GetPlaybackUrlRequest(**values))


def test_a_link_is_written_down_and_gives_the_bytes(county: RunningVideo) -> None:
    content = photo()
    held = county.sealed(content)

    made = link(county, held, seconds=60)

    with urllib.request.urlopen(made.url, timeout=10) as answer:  # noqa: S310 - the store of this test
        assert answer.read() == content
        assert answer.headers["content-type"] == "image/jpeg"
    (event,) = events(county, held)
    assert (event.action, event.purpose, event.actor) == (
        custody_pb2.CUSTODY_ACTION_SHARED,
        PURPOSE,
        "person/tester",
    )
    assert event.until_time == made.expire_time == timestamp(county.clock.now() + timedelta(seconds=60))
    assert event.reference_id


def test_a_link_is_for_these_bytes_only(county: RunningVideo) -> None:
    one, other = county.sealed(), county.sealed()
    url = link(county, one).url

    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(  # noqa: S310 - the store of this test
            url.replace(one.evidence.digest.hex(), other.evidence.digest.hex()), timeout=10
        )

    with refused.value:
        assert refused.value.code == 403


def test_a_link_is_good_for_five_minutes_unless_somebody_says_so(county: RunningVideo) -> None:
    made = link(county, county.sealed())

    assert made.expire_time == timestamp(county.clock.now() + timedelta(seconds=300))


@pytest.mark.parametrize("seconds", [-1, 3_601])
def test_links_are_short_lived(county: RunningVideo, seconds: int) -> None:
    held = county.sealed()
    request = pb.GetPlaybackUrlRequest(name=name_of(held), seconds=seconds, purpose="")

    assert county.refusal("GetPlaybackUrl", request).fields == ["seconds", "purpose"]
    assert events(county, held) == []


def test_no_link_is_made_when_it_cannot_be_written_down(county: RunningVideo) -> None:
    held = county.sealed()
    county.query("UPDATE journal_logs SET is_recovering = TRUE WHERE origin = %s", COUNTY)
    request = pb.GetPlaybackUrlRequest(name=name_of(held), purpose=PURPOSE)

    refused = county.refusal("GetPlaybackUrl", request)

    county.query("UPDATE journal_logs SET is_recovering = FALSE WHERE origin = %s", COUNTY)
    assert refused.reason is Reason.RECOVERING


def test_no_link_is_made_where_callers_do_not_reach_the_store(video_of: MakeVideo) -> None:
    county = video_of(COUNTY, settings={"ZHICHAO_VIDEO_S3_PUBLIC_ENDPOINT": ""})
    held = county.sealed()
    request = pb.GetPlaybackUrlRequest(name=name_of(held), purpose=PURPOSE)

    assert county.refusal("GetPlaybackUrl", request).reason is Reason.NOT_CONFIGURED
    assert events(county, held) == []


def test_no_link_is_made_to_what_is_lost_or_changed(county: RunningVideo) -> None:
    lost, changed = county.sealed(), county.sealed()
    remove(county, lost)
    replace(county, changed, b"something else")
    requests = [pb.GetPlaybackUrlRequest(name=name_of(held), purpose=PURPOSE) for held in (lost, changed)]

    refused = [county.refusal("GetPlaybackUrl", request).reason for request in requests]

    assert refused == [Reason.EVIDENCE_MISSING, Reason.EVIDENCE_CHANGED]
    assert [state_of(county, held) for held in (lost, changed)] == ["DAMAGED", "DAMAGED"]
    assert (actions(county, lost), actions(county, changed)) == (["FOUND_MISSING"], ["FOUND_CHANGED"])
