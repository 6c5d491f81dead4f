"""Completeness as people ask for it: at county, city and province, with real weighing services beside the video
services, whatever came first.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.common.access.permissions import Role
from services.common.instants import timestamp
from tests.conftest import Databases
from tests.registry import examples
from tests.registry.calls import create
from tests.registry.harness import START, RunningRegistry
from tests.running_service import SharedClock
from tests.video.completeness.sites import IN_TIME_MINUTES, Site, names
from tests.video.conftest import MakeVideo
from tests.video.harness import CITY, COUNTY, OTHER_UNIT, PROVINCE, UNIT
from tests.weighing.harness import RunningWeighing, forged
from tests.weighing.records import COMPLIANT
from zhichao.video.v1 import service_pb2 as pb
from zhichao.video.v1.camera_pb2 import RECORDING_STATE_RECORDING, CameraReport

MakeSite = Callable[[str], Site]


@pytest.fixture(scope="session")
def scales(county_registry: RunningRegistry) -> RunningRegistry:
    """Register a scale at each of the two source units."""
    for unit in (UNIT, OTHER_UNIT):
        create(county_registry, examples.weighing_point(source_unit_id=unit))
        create(county_registry, examples.scale(source_unit_id=unit))
        create(county_registry, examples.verification_certificate(source_unit_id=unit))
    return county_registry


@pytest.fixture
def site(
    databases: Databases, scales: RunningRegistry, socket_directory: Path, video_of: MakeVideo, day: SharedClock
) -> Iterator[MakeSite]:
    """Run platforms by their codes; only the county has a registry that answers."""
    # Certificates of scales and rule sets are good then; locks of the store would have ended.
    day.moment = START
    with ExitStack() as running:

        def make(platform: str) -> Site:
            address = scales.address if platform == COUNTY else f"unix:{socket_directory}/nobody.sock"
            weighing = RunningWeighing(databases, socket_directory, address, platform)
            running.callback(weighing.close)
            settings = {
                "ZHICHAO_VIDEO_WEIGHING_ADDRESS": weighing.address,
                "ZHICHAO_VIDEO_OBJECT_LOCK": "off",
                "ZHICHAO_VIDEO_CLIP_IN_TIME_MINUTES": str(IN_TIME_MINUTES),
            }
            return Site(weighing, video_of(platform, settings=settings))

        yield make


@pytest.fixture
def county_site(site: MakeSite) -> Site:
    """Run the county."""
    return site(COUNTY)


def total(suspected: int, clips: int, in_time: int, photos: int, unit: str = UNIT) -> pb.Completeness:
    return pb.Completeness(
        origin=COUNTY,
        source_unit_id=unit,
        date="2025-03-01",
        suspected_count=suspected,
        with_clip_count=clips,
        with_clip_in_time_count=in_time,
        with_photo_count=photos,
    )


def test_the_same_at_all_levels_whatever_came_first(site: MakeSite) -> None:
    county, city, province = site(COUNTY), site(CITY), site(PROVINCE)
    steps = list(permutations(["weigh", "photo", "clip"]))
    for place, order in enumerate(steps):
        for step in order:
            if step == "weigh":
                county.weigh(f"r-{place}")
            else:
                county.seal(step, f"r-{place}")
            # Manifests go up at once, weighings of half of them not before the end; and the other way round.
            push = county.push_evidence if place % 2 else county.push_weighings
            push(city)
    county.weigh("no-clip")
    county.seal("photo", "no-clip")
    county.weigh("nothing")
    county.weigh("compliant", COMPLIANT)
    for lower, upper in ((county, city), (city, province)):
        lower.push_weighings(upper)
        lower.push_evidence(upper)

    for platform in (county, city, province):
        platform.follow()
        assert platform.completeness() == [total(len(steps) + 2, len(steps), len(steps), len(steps) + 1)]
        assert [(one.record_id, one.lacks_clip, one.lacks_photo) for one in platform.missing()] == [
            ("no-clip", True, False),
            ("nothing", True, True),
        ]


def test_a_clip_that_comes_late_is_there_and_not_in_time(county_site: Site) -> None:
    county_site.weigh("in-time")
    county_site.weigh("late")
    county_site.follow()
    county_site.video.clock.advance(minutes=IN_TIME_MINUTES)
    county_site.seal("clip", "in-time", age=timedelta(minutes=IN_TIME_MINUTES))
    county_site.video.clock.advance(seconds=1)
    county_site.seal("clip", "late", age=timedelta(minutes=IN_TIME_MINUTES))

    assert county_site.completeness() == [total(2, 2, 1, 0)]


def test_a_clip_of_another_time_proves_nothing_at_any_level(site: MakeSite) -> None:
    county, city = site(COUNTY), site(CITY)
    county.weigh("r-1")
    county.seal("clip", "r-1", age=timedelta(days=1))
    county.seal("photo", "r-1")
    county.push_weighings(city)
    county.push_evidence(city)

    for platform in (county, city):
        platform.follow()
        assert platform.completeness() == [total(1, 0, 0, 1)]
        assert [
            (one.lacks_clip, one.has_clip_of_other_time, one.lacks_photo, one.has_photo_of_other_time)
            for one in platform.missing()
        ] == [(True, True, False, False)]


def test_one_clip_of_two_weighings_is_evidence_of_both(county_site: Site) -> None:
    county_site.weigh("r-1")
    county_site.weigh("r-2")
    county_site.seal("clip", "r-1", "r-2")
    county_site.follow()

    assert county_site.completeness() == [total(2, 2, 2, 0)]


def test_it_goes_on_after_a_restart(county_site: Site) -> None:
    county_site.weigh("r-1")
    county_site.follow()
    county_site.video.stop()
    county_site.weigh("r-2")
    county_site.video.start()
    county_site.seal("clip", "r-2")
    county_site.follow()

    assert county_site.completeness() == [total(2, 1, 1, 0)]


def test_callers_are_held_to_their_units(county_site: Site) -> None:
    county_site.weigh("r-1")
    county_site.weigh("r-2", unit=OTHER_UNIT)
    county_site.follow()
    terminal = county_site.video.terminal(UNIT)

    assert county_site.completeness(stub=terminal, source_unit_id=UNIT) == [total(1, 0, 0, 0)]
    assert names(county_site.missing(stub=terminal, source_unit_id=UNIT)) == ["r-1"]
    for method, request in (
        ("ListCompleteness", pb.ListCompletenessRequest()),
        ("ListCompleteness", pb.ListCompletenessRequest(source_unit_id=OTHER_UNIT)),
        ("ListCompleteness", pb.ListCompletenessRequest(source_unit_id=UNIT, origin=CITY)),
        ("ListMissingEvidence", pb.ListMissingEvidenceRequest()),
        ("ListMissingEvidence", pb.ListMissingEvidenceRequest(source_unit_id=OTHER_UNIT)),
        ("ListMissingEvidence", pb.ListMissingEvidenceRequest(source_unit_id=UNIT, origin=CITY)),
    ):
        assert county_site.video.refusal(method, request, terminal).reason == "OUTSIDE_SCOPE"


def test_callers_are_held_to_their_division(site: MakeSite) -> None:
    county, city = site(COUNTY), site(CITY)
    county.weigh("r-1")
    county.push_weighings(city)
    city.follow()
    of_the_county = city.video.person(Role.VIEWER, division=COUNTY)

    assert city.completeness(stub=of_the_county, origin=COUNTY) == [total(1, 0, 0, 0)]
    assert names(city.missing(stub=of_the_county, origin=COUNTY)) == ["r-1"]
    for method, request in (
        ("ListCompleteness", pb.ListCompletenessRequest()),
        ("ListCompleteness", pb.ListCompletenessRequest(origin=CITY)),
        ("ListMissingEvidence", pb.ListMissingEvidenceRequest(origin="141034")),
    ):
        assert city.video.refusal(method, request, of_the_county).reason == "OUTSIDE_SCOPE"


def test_pages_hold_everything_once(county_site: Site) -> None:
    for number in range(7):
        county_site.weigh(f"r-{number}", unit=UNIT if number % 2 else OTHER_UNIT)
        county_site.video.clock.advance(hours=3)
    county_site.follow()

    by_day = county_site.completeness()
    assert [(one.date, one.source_unit_id, one.suspected_count) for one in by_day] == [
        ("2025-03-02", UNIT, 1),
        ("2025-03-02", OTHER_UNIT, 2),
        ("2025-03-01", UNIT, 2),
        ("2025-03-01", OTHER_UNIT, 2),
    ]
    for page_size in (1, 2, 3):
        assert county_site.completeness(page_size) == by_day
        assert names(county_site.missing(page_size)) == [f"r-{number}" for number in range(7)]


def test_what_comes_between_two_pages_neither_hides_nor_repeats_anything(county_site: Site) -> None:
    for number in range(4):
        county_site.weigh(f"r-{number}")
        county_site.video.clock.advance(minutes=1)
    county_site.follow()
    first: pb.ListMissingEvidenceResponse = county_site.video.call(
        "ListMissingEvidence", pb.ListMissingEvidenceRequest(page_size=2)
    )
    county_site.seal("clip", "r-0")
    county_site.seal("photo", "r-0")
    county_site.weigh("r-4")
    county_site.follow()
    county_site.video.clock.advance(hours=20)
    second: pb.ListMissingEvidenceResponse = county_site.video.call(
        "ListMissingEvidence", pb.ListMissingEvidenceRequest(page_size=9, page_token=first.next_page_token)
    )

    assert names(first.missing) + names(second.missing) == ["r-0", "r-1", "r-2", "r-3", "r-4"]


def test_what_the_site_holds_no_more_is_listed_when_asked_for(county_site: Site) -> None:
    video = county_site.video
    county_site.weigh("lost-1")
    county_site.weigh("held-elsewhere", unit=OTHER_UNIT)
    video.clock.advance(minutes=1)
    county_site.weigh("lost-2")
    video.clock.advance(hours=3)
    county_site.weigh("held")
    county_site.follow()
    now = video.clock.now()
    # Its recorder keeps two hours.
    short = CameraReport(
        source_unit_id=UNIT,
        camera_id="c-1",
        state=RECORDING_STATE_RECORDING,
        state_time=timestamp(now - timedelta(hours=9)),
        oldest_recording_time=timestamp(now - timedelta(hours=2)),
    )
    video.call("ReportCameras", pb.ReportCamerasRequest(reports=[short]))

    missing = county_site.missing()
    assert [(one.record_id, one.recording_until_time) for one in missing] == [
        ("held", timestamp(now + timedelta(hours=2))),
        ("held-elsewhere", timestamp(START + timedelta(days=30))),
    ]
    everything = county_site.missing(includes_lost=True)
    assert names(everything) == ["held", "held-elsewhere", "lost-2", "lost-1"]
    assert [one.HasField("recording_until_time") for one in everything] == [True, True, False, False]
    for page_size in (1, 2, 3):
        assert county_site.missing(page_size, includes_lost=True) == everything


def test_lists_are_narrowed(county_site: Site) -> None:
    county_site.weigh("r-1")
    county_site.video.clock.advance(hours=13)
    county_site.weigh("r-2", unit=OTHER_UNIT)
    county_site.follow()
    later = timestamp(county_site.video.clock.now())

    assert [one.source_unit_id for one in county_site.completeness(source_unit_id=UNIT)] == [UNIT]
    assert [one.date for one in county_site.completeness(start_date="2025-03-02")] == ["2025-03-02"]
    assert [one.date for one in county_site.completeness(end_date="2025-03-01")] == ["2025-03-01"]
    assert county_site.completeness(origin=CITY) == []
    assert names(county_site.missing(start_time=later)) == ["r-2"]
    assert names(county_site.missing(source_unit_id=UNIT)) == ["r-1"]
    assert county_site.missing(origin=CITY) == []


def test_lists_that_cannot_be_are_refused(county_site: Site) -> None:
    bad: list[tuple[Any, str]] = [
        (pb.ListCompletenessRequest(origin="x"), "origin"),
        (pb.ListCompletenessRequest(source_unit_id="a b"), "source_unit_id"),
        (pb.ListCompletenessRequest(start_date="20250301"), "start_date"),
        (pb.ListCompletenessRequest(end_date="2025-02-30"), "end_date"),
        (pb.ListCompletenessRequest(page_size=-1), "page_size"),
        (pb.ListCompletenessRequest(page_token="?"), "page_token"),
        (pb.ListMissingEvidenceRequest(origin="x"), "origin"),
        (pb.ListMissingEvidenceRequest(source_unit_id="a b"), "source_unit_id"),
        (pb.ListMissingEvidenceRequest(start_time=Timestamp(seconds=2**60)), "start_time"),
        (pb.ListMissingEvidenceRequest(page_size=-1), "page_size"),
        (pb.ListMissingEvidenceRequest(page_token="?"), "page_token"),
    ]
    refused = [county_site.video.refusal(type(request).__name__.removesuffix("Request"), request) for request, _ in bad]

    assert [(one.status, one.fields) for one in refused] == [("INVALID_ARGUMENT", [field]) for _, field in bad]


def test_a_token_of_another_list_is_refused(county_site: Site) -> None:
    county_site.weigh("r-1")
    county_site.weigh("r-2")
    county_site.follow()
    first: pb.ListMissingEvidenceResponse = county_site.video.call(
        "ListMissingEvidence", pb.ListMissingEvidenceRequest(page_size=1)
    )
    for request in (
        pb.ListMissingEvidenceRequest(page_size=1, page_token=first.next_page_token, includes_lost=True),
        pb.ListMissingEvidenceRequest(page_size=1, page_token=first.next_page_token, source_unit_id=UNIT),
    ):
        assert county_site.video.refusal("ListMissingEvidence", request).reason == "INVALID_PAGE_TOKEN"


def test_forged_tokens_do_no_harm(county_site: Site) -> None:
    def days(day: int) -> pb.ListCompletenessRequest:
        token = forged("ListCompleteness", [day, COUNTY, UNIT], "", "", "None", "None")
        return pb.ListCompletenessRequest(page_token=token)

    def missing(as_of: int, part: int, ends_at: int) -> pb.ListMissingEvidenceRequest:
        key = [as_of, part, ends_at, COUNTY, 2**63 - 1]
        token = forged("ListMissingEvidence", key, "", "", "None", True)
        return pb.ListMissingEvidenceRequest(page_token=token, includes_lost=True)

    county_site.weigh("r-1")
    county_site.follow()
    first_moment, last_moment = -62_135_596_800_000_000, 253_402_300_799_000_000
    refused = [days(0), days(2**40), missing(2**62, 0, 0), missing(0, 0, -(2**62))]
    harmless = [
        missing(as_of, part, ends_at)
        for as_of in (first_moment, last_moment)
        for part in (-1, 0, 1, 2**40)
        for ends_at in (first_moment, last_moment)
    ]

    for request in refused:
        method = type(request).__name__.removesuffix("Request")
        assert county_site.video.refusal(method, request).reason == "INVALID_PAGE_TOKEN"
    for asked in harmless:
        county_site.video.call("ListMissingEvidence", asked)
    county_site.video.call("ListCompleteness", days(1))
