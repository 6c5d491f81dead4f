"""What a draft must hold, field by field."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.video.domain import CameraView, Draft, EvidenceKind, Subject, SubjectKind, time_violations
from zhichao.video.v1 import evidence_pb2

NOW = datetime(2026, 1, 15, 8, 30, tzinfo=UTC)
PHOTO = Draft("u", "e", EvidenceKind.PHOTO, bytes(32), 1, "image/jpeg", capture_start_time=NOW)
CLIP = replace(PHOTO, kind=EvidenceKind.CLIP, content_type="video/mp4", capture_end_time=NOW)


def fields(draft: Draft) -> list[str]:
    """Return the bad fields of a draft."""
    return [violation.field for violation in draft.violations()]


def test_enumerations_are_numbered_as_in_the_contract() -> None:
    assert {one.name: one.value for one in EvidenceKind} == _named(evidence_pb2.EvidenceKind, "EVIDENCE_KIND_")
    assert {one.name: one.value for one in CameraView} == _named(evidence_pb2.CameraView, "CAMERA_VIEW_")


def _named(enum: Any, prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): number for name, number in enum.items() if number}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"evidence_id": "0194:a.b_c-" + "x" * 53},
        {"size_bytes": 4 << 30},
        {"content_type": "image/png"},
        {"view": 8, "camera_id": "一号 camera"},
        {"subjects": tuple(Subject(SubjectKind.RECORD, f"r-{number}") for number in range(16))},
        {"kind": EvidenceKind.DOCUMENT, "content_type": "image/png", "capture_start_time": None},
    ],
)
def test_what_is_good_is_taken(changes: dict[str, Any]) -> None:
    assert fields(replace(PHOTO, **changes)) == []


@pytest.mark.parametrize(
    ("changes", "bad"),
    [
        ({"source_unit_id": ""}, "source_unit_id"),
        ({"source_unit_id": "a~b"}, "source_unit_id"),
        ({"evidence_id": "x" * 65}, "evidence_id"),
        ({"evidence_id": "a/b"}, "evidence_id"),
        ({"evidence_id": "é"}, "evidence_id"),
        ({"kind": 0}, "kind"),
        ({"kind": 4}, "kind"),
        ({"digest": bytes(31)}, "digest"),
        ({"size_bytes": 0}, "size_bytes"),
        ({"size_bytes": -1}, "size_bytes"),
        ({"size_bytes": (4 << 30) + 1}, "size_bytes"),
        ({"content_type": "text/html"}, "content_type"),
        ({"content_type": "video/mp4"}, "content_type"),
        ({"view": 9}, "view"),
        ({"camera_id": "x" * 65}, "camera_id"),
        ({"camera_id": "a\nb"}, "camera_id"),
        ({"capture_start_time": None}, "capture_start_time"),
        ({"capture_start_time": datetime(1970, 1, 1, tzinfo=UTC)}, "capture_start_time"),
        ({"capture_end_time": NOW}, "capture_end_time"),
        ({"subjects": (Subject(SubjectKind.RECORD, "r"),) * 17}, "subjects"),
        ({"subjects": (Subject(SubjectKind.RECORD, ""),)}, "subjects[0].record_id"),
    ],
)
def test_what_is_bad_is_named(changes: dict[str, Any], bad: str) -> None:
    assert fields(replace(PHOTO, **changes)) == [bad]


@pytest.mark.parametrize(
    ("end", "bad"),
    [
        (None, ["capture_end_time"]),
        (NOW, []),
        (NOW - timedelta(microseconds=1), ["capture_end_time"]),
        (NOW + timedelta(days=1), []),
        (NOW + timedelta(days=1, microseconds=1), ["capture_end_time"]),
    ],
)
def test_a_clip_has_an_end_within_a_day(end: datetime | None, bad: list[str]) -> None:
    assert fields(replace(CLIP, capture_end_time=end)) == bad


def test_a_capture_is_not_more_than_a_day_ahead() -> None:
    day = replace(CLIP, capture_end_time=NOW + timedelta(days=1))
    beyond = replace(CLIP, capture_end_time=NOW + timedelta(days=1, microseconds=1))

    assert list(time_violations(day, NOW)) == []
    assert [violation.field for violation in time_violations(beyond, NOW)] == ["capture_end_time"]


def test_what_it_proves_is_compared_without_order_and_once() -> None:
    one, two = Subject(SubjectKind.RECORD, "a"), Subject(SubjectKind.ACCEPTANCE, "b")

    assert replace(PHOTO, subjects=(two, one, two)).canonical() == replace(PHOTO, subjects=(one, two)).canonical()
