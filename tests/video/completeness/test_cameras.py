"""What sites report of their cameras: what is journalled, who may say it, how it is listed."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from services.common.access.permissions import Role
from services.common.instants import timestamp
from services.video.kinds import CAMERA_KIND
from services.video.recordings import REACH_NEWS, STATE_AHEAD_SECONDS_MAX
from tests.running_service import carry_up
from tests.video.harness import CITY, COUNTY, OTHER_UNIT, UNIT, RunningVideo
from zhichao.video.v1 import service_pb2 as pb
from zhichao.video.v1.camera_pb2 import (
    RECORDING_STATE_BLIND,
    RECORDING_STATE_RECORDING,
    RECORDING_STATE_UNREACHABLE,
    CameraReport,
)
from zhichao.video.v1.evidence_pb2 import CAMERA_VIEW_FRONT

HOUR = timedelta(hours=1)


def report(video: RunningVideo, camera_id: str = "c-1", **fields: Any) -> CameraReport:
    """Return a report of a camera that has recorded for an hour, 20 days back."""
    now = video.clock.now()
    values: dict[str, Any] = {
        "source_unit_id": UNIT,
        "camera_id": camera_id,
        "view": CAMERA_VIEW_FRONT,
        "state": RECORDING_STATE_RECORDING,
        "state_time": timestamp(now - HOUR),
        "oldest_recording_time": timestamp(now - timedelta(days=20)),
    }
    return CameraReport(**values | fields)


def send(video: RunningVideo, *reports: CameraReport, stub: Any = None) -> list[bool]:
    """Report cameras and return which reports were news."""
    answer: pb.ReportCamerasResponse = video.call("ReportCameras", pb.ReportCamerasRequest(reports=reports), stub)
    return list(answer.is_news)


def listed(video: RunningVideo, page_size: int = 0, stub: Any = None, **narrow: Any) -> list[pb.HeldCamera]:
    """Read all pages of cameras."""
    found: list[pb.HeldCamera] = []
    token = ""
    while True:
        request = pb.ListCamerasRequest(page_size=page_size, page_token=token, **narrow)
        answer: pb.ListCamerasResponse = video.call("ListCameras", request, stub)
        found += answer.held_cameras
        token = answer.next_page_token
        if not token:
            return found


def journalled(video: RunningVideo) -> list[CameraReport]:
    return [CameraReport.FromString(entry.payload) for entry in video.own_entries() if entry.kind == CAMERA_KIND]


def test_a_report_is_journalled_with_who_and_when(county: RunningVideo) -> None:
    sent = report(county)
    assert send(county, sent, stub=county.terminal(UNIT)) == [True]

    expected = CameraReport()
    expected.CopyFrom(sent)
    expected.receive_time.CopyFrom(timestamp(county.clock.now()))
    expected.actor = "terminal/terminal-1"
    assert journalled(county) == [expected]
    assert listed(county) == [pb.HeldCamera(origin=COUNTY, report=expected)]


def test_what_is_known_is_not_written_again(county: RunningVideo) -> None:
    sent = report(county)
    send(county, sent)
    county.clock.advance(minutes=5)

    assert send(county, sent, sent) == [False, False]
    assert len(journalled(county)) == 1


def test_each_report_of_a_call_is_held_against_those_before_it(county: RunningVideo) -> None:
    now = county.clock.now()
    blind = report(county, state=RECORDING_STATE_BLIND, state_time=timestamp(now - 2 * HOUR))
    recording = report(county)

    assert send(county, blind, recording, recording, blind) == [True, True, False, False]
    assert [one.state for one in journalled(county)] == [RECORDING_STATE_BLIND, RECORDING_STATE_RECORDING]


def test_a_report_from_before_the_state_that_is_known_is_no_news(county: RunningVideo) -> None:
    now = county.clock.now()
    send(county, report(county))

    late = report(county, state=RECORDING_STATE_UNREACHABLE, state_time=timestamp(now - 2 * HOUR))
    assert send(county, late) == [False]
    assert [one.report.state for one in listed(county)] == [RECORDING_STATE_RECORDING]


def test_how_far_recordings_reach_is_news_once_a_day(county: RunningVideo) -> None:
    now = county.clock.now()
    news = []
    for half_days in range(5):
        oldest = timestamp(now - half_days * REACH_NEWS / 2)
        news += send(county, report(county, oldest_recording_time=oldest))

    assert news == [True, False, True, False, True]


def test_fields_of_a_newer_release_are_kept(county: RunningVideo) -> None:
    newer = CameraReport.FromString(report(county).SerializeToString() + b"\xa2\x06\x03new")
    send(county, newer)

    assert b"\xa2\x06\x03new" in journalled(county)[0].SerializeToString()


def test_what_a_caller_says_of_receive_time_and_actor_does_not_count(county: RunningVideo) -> None:
    send(county, report(county, actor="person/mayor", receive_time=timestamp(county.clock.now() - 9 * HOUR)))

    assert [one.actor for one in journalled(county)] == ["person/tester"]
    assert journalled(county)[0].receive_time == timestamp(county.clock.now())


BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"source_unit_id": ""}, "source_unit_id"),
    ({"source_unit_id": "不是编号"}, "source_unit_id"),
    ({"camera_id": ""}, "camera_id"),
    ({"camera_id": "c" * 65}, "camera_id"),
    ({"view": 99}, "view"),
    ({"state": 0}, "state"),
    ({"state": 6}, "state"),
    ({"state_time": None}, "state_time"),
]


def test_bad_fields_are_named_and_nothing_is_written(county: RunningVideo) -> None:
    refused = county.refusal(
        "ReportCameras",
        pb.ReportCamerasRequest(reports=[report(county), *(report(county, **fields) for fields, _ in BAD_FIELDS)]),
    )

    assert refused.status == "INVALID_ARGUMENT"
    assert refused.fields == [f"reports[{place}].{field}" for place, (_, field) in enumerate(BAD_FIELDS, 1)]
    assert journalled(county) == []


def test_times_that_cannot_be_are_refused(county: RunningVideo) -> None:
    ahead = timestamp(county.clock.now() + timedelta(seconds=STATE_AHEAD_SECONDS_MAX + 1))
    bad = [ahead, Timestamp(seconds=86_400), Timestamp(nanos=-1)]
    fields = ["state_time", "oldest_recording_time"]
    wrong: list[dict[str, Any]] = [{field: moment} for field in fields for moment in bad]
    reports = [report(county, **one) for one in wrong]

    refused = county.refusal("ReportCameras", pb.ReportCamerasRequest(reports=reports))

    assert refused.fields == [f"reports[{place}].{fields[place // len(bad)]}" for place in range(len(reports))]


def test_a_clock_that_is_a_little_ahead_is_taken(county: RunningVideo) -> None:
    ahead = timestamp(county.clock.now() + timedelta(seconds=STATE_AHEAD_SECONDS_MAX))

    assert send(county, report(county, state_time=ahead)) == [True]


def test_a_call_has_1_to_200_reports(county: RunningVideo) -> None:
    statuses = [
        county.refusal("ReportCameras", pb.ReportCamerasRequest(reports=[report(county)] * count)).status
        for count in (0, 201)
    ]

    # Beyond what the contract says the gate does not even parse the message.
    assert statuses[0] == "INVALID_ARGUMENT"
    assert statuses[1] in {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}


def test_two_hundred_cameras_are_taken_at_once(county: RunningVideo) -> None:
    reports = [report(county, f"c-{number:03}") for number in range(200)]

    assert send(county, *reports) == [True] * 200
    assert [one.report.camera_id for one in listed(county, page_size=7)] == [f"c-{number:03}" for number in range(200)]


def test_a_unit_that_nobody_knows_is_refused(county: RunningVideo) -> None:
    refused = county.refusal(
        "ReportCameras", pb.ReportCamerasRequest(reports=[report(county, source_unit_id="141025-0000")])
    )

    assert refused.reason == "UNKNOWN_SOURCE_UNIT"


def test_a_terminal_reports_for_its_own_units_only(county: RunningVideo) -> None:
    terminal = county.terminal(UNIT)
    request = pb.ReportCamerasRequest(reports=[report(county), report(county, source_unit_id=OTHER_UNIT)])

    refused = county.refusal("ReportCameras", request, terminal)

    assert refused.reason == "OUTSIDE_SCOPE"
    assert refused.metadata == {"field": "reports[1].source_unit_id"}
    assert journalled(county) == []


def test_an_integrator_reports_for_all_of_its_units(county: RunningVideo) -> None:
    integrator = county.terminal(UNIT, OTHER_UNIT)

    assert send(county, report(county), report(county, source_unit_id=OTHER_UNIT), stub=integrator) == [True, True]


def test_a_steward_of_a_division_elsewhere_is_refused(county: RunningVideo) -> None:
    steward = county.person(Role.DATA_STEWARD, division="141034")

    refused = county.refusal("ReportCameras", pb.ReportCamerasRequest(reports=[report(county)]), steward)

    assert refused.reason == "OUTSIDE_SCOPE"


def test_who_only_reads_does_not_report(county: RunningVideo) -> None:
    viewer = county.person(Role.VIEWER)

    refused = county.refusal("ReportCameras", pb.ReportCamerasRequest(reports=[report(county)]), viewer)

    assert refused.reason == "PERMISSION_MISSING"


def test_cameras_are_listed_by_unit_and_camera(county: RunningVideo) -> None:
    send(
        county,
        report(county, "c-2"),
        report(county, "c-1", source_unit_id=OTHER_UNIT),
        report(county, "c-10", state=RECORDING_STATE_BLIND),
        report(county, "c-1"),
    )

    expected = [(UNIT, "c-1"), (UNIT, "c-10"), (UNIT, "c-2"), (OTHER_UNIT, "c-1")]
    for page_size in (0, 1, 3):
        assert [(one.report.source_unit_id, one.report.camera_id) for one in listed(county, page_size)] == expected


def test_the_list_is_narrowed(county: RunningVideo) -> None:
    send(county, report(county), report(county, source_unit_id=OTHER_UNIT, state=RECORDING_STATE_BLIND))

    assert [one.report.source_unit_id for one in listed(county, source_unit_id=UNIT)] == [UNIT]
    assert [one.report.source_unit_id for one in listed(county, states=[RECORDING_STATE_BLIND])] == [OTHER_UNIT]
    assert listed(county, origin=CITY) == []
    assert len(listed(county, origin=COUNTY)) == 2


def test_lists_that_cannot_be_are_refused(county: RunningVideo) -> None:
    bad: list[tuple[dict[str, Any], str]] = [
        ({"origin": "14102"}, "origin"),
        ({"source_unit_id": "a b"}, "source_unit_id"),
        ({"states": [0]}, "states"),
        ({"states": [9]}, "states"),
        ({"states": [1] * 17}, "states"),
        ({"page_size": -1}, "page_size"),
        ({"page_token": "nonsense"}, "page_token"),
    ]
    refused = [county.refusal("ListCameras", pb.ListCamerasRequest(**narrow)) for narrow, _ in bad]

    assert [(one.status, one.fields) for one in refused] == [("INVALID_ARGUMENT", [field]) for _, field in bad]


def test_a_token_of_another_filter_is_refused(county: RunningVideo) -> None:
    send(county, report(county, "c-1"), report(county, "c-2"))
    first: pb.ListCamerasResponse = county.call("ListCameras", pb.ListCamerasRequest(page_size=1))
    request = pb.ListCamerasRequest(page_size=1, page_token=first.next_page_token, source_unit_id=UNIT)

    assert county.refusal("ListCameras", request).reason == "INVALID_PAGE_TOKEN"


def test_a_terminal_lists_its_own_cameras(county: RunningVideo) -> None:
    send(county, report(county), report(county, source_unit_id=OTHER_UNIT))
    terminal = county.terminal(UNIT)

    assert len(listed(county, stub=terminal, source_unit_id=UNIT)) == 1
    refused = county.refusal("ListCameras", pb.ListCamerasRequest(), terminal)
    assert refused.reason == "OUTSIDE_SCOPE"


def test_platforms_above_know_the_cameras(county: RunningVideo, video_of: Any) -> None:
    city = video_of(CITY)
    send(county, report(county))
    carry_up(county, city)
    county.clock.advance(hours=2)
    send(county, report(county, state=RECORDING_STATE_BLIND))
    carry_up(county, city)

    assert listed(city) == listed(county)
    assert [one.report.state for one in listed(city)] == [RECORDING_STATE_BLIND]


def test_the_same_report_from_several_at_once_is_written_once(county: RunningVideo) -> None:
    reports = [report(county, f"c-{number}") for number in range(5)]
    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(lambda _: send(county, *reports), range(16)))

    assert sorted(answers, reverse=True) == [[True] * 5] + [[False] * 5] * 15
    assert len(journalled(county)) == 5
