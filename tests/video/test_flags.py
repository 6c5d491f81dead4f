"""What is doubtful about evidence though it is kept, at each bound."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.video.domain import Draft, EvidenceKind
from services.video.flags import EvidenceFlag, flags
from services.video.media_types import MediaFacts
from zhichao.video.v1 import evidence_pb2

SEALED = datetime(2026, 1, 15, 8, 30, tzinfo=UTC)
LARGE = MediaFacts(width_px=1920, height_px=1080)
PHOTO = Draft(
    "u", "e", EvidenceKind.PHOTO, bytes(32), 1, "image/jpeg", capture_start_time=SEALED - timedelta(minutes=1)
)
CLIP = replace(
    PHOTO,
    kind=EvidenceKind.CLIP,
    content_type="video/mp4",
    capture_start_time=SEALED - timedelta(seconds=90),
    capture_end_time=SEALED - timedelta(seconds=60),
)
DOCUMENT = replace(PHOTO, kind=EvidenceKind.DOCUMENT, content_type="application/pdf", capture_start_time=None)


def test_flags_are_numbered_as_in_the_contract() -> None:
    assert {f"EVIDENCE_FLAG_{one.name}": one.value for one in EvidenceFlag} == {
        name: number for name, number in evidence_pb2.EvidenceFlag.items() if number
    }


@pytest.mark.parametrize("draft", [PHOTO, CLIP, DOCUMENT], ids=["photo", "clip", "document"])
def test_nothing_is_doubtful_about_what_is_as_it_should_be(draft: Draft) -> None:
    assert flags(draft, LARGE, SEALED) == ()


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        (timedelta(0), ()),
        (timedelta(microseconds=1), (EvidenceFlag.CLOCK_AHEAD,)),
        (-timedelta(minutes=10), ()),
        (-timedelta(minutes=10, microseconds=1), (EvidenceFlag.LATE,)),
    ],
)
def test_a_photo_is_taken_before_its_seal_and_not_long_before(
    taken: timedelta, expected: tuple[EvidenceFlag, ...]
) -> None:
    assert flags(replace(PHOTO, capture_start_time=SEALED + taken), LARGE, SEALED) == expected


def test_a_clip_is_taken_once_it_ends() -> None:
    long = replace(CLIP, capture_start_time=SEALED - timedelta(hours=2))
    ahead = replace(CLIP, capture_end_time=SEALED + timedelta(seconds=1))

    assert flags(long, LARGE, SEALED) == ()
    assert flags(ahead, LARGE, SEALED) == (EvidenceFlag.CLOCK_AHEAD,)


def test_an_old_document_is_not_late_and_a_scan_not_small() -> None:
    old = replace(DOCUMENT, capture_start_time=SEALED - timedelta(days=300))

    assert flags(old, MediaFacts(width_px=800, height_px=600), SEALED) == ()


@pytest.mark.parametrize(
    ("milliseconds", "differs"), [(28_000, False), (27_999, True), (32_000, False), (32_001, True), (None, False)]
)
def test_the_length_of_a_clip_is_that_of_its_interval(milliseconds: int | None, differs: bool) -> None:
    facts = replace(LARGE, duration_milliseconds=milliseconds)

    assert flags(CLIP, facts, SEALED) == ((EvidenceFlag.DURATION_DIFFERS,) if differs else ())


@pytest.mark.parametrize(
    ("draft", "offset", "differs"),
    [
        (PHOTO, timedelta(seconds=60), False),
        (PHOTO, timedelta(seconds=61), True),
        (PHOTO, -timedelta(seconds=60), False),
        (PHOTO, -timedelta(seconds=61), True),
        # A clip of thirty seconds is dated by its beginning or its end.
        (CLIP, timedelta(seconds=90), False),
        (CLIP, timedelta(seconds=91), True),
    ],
)
def test_the_devices_time_is_about_that_of_capture(draft: Draft, offset: timedelta, differs: bool) -> None:
    assert draft.capture_start_time is not None
    facts = replace(LARGE, device_time=draft.capture_start_time + offset)

    assert flags(draft, facts, SEALED) == ((EvidenceFlag.DEVICE_TIME_DIFFERS,) if differs else ())


@pytest.mark.parametrize(("width", "height", "is_small"), [(2000, 1000, False), (1999, 1000, True), (None, 10, False)])
def test_a_picture_has_two_million_pixels(width: int | None, height: int, is_small: bool) -> None:
    facts = MediaFacts(width_px=width, height_px=height)

    assert flags(PHOTO, facts, SEALED) == ((EvidenceFlag.SMALL_PICTURE,) if is_small else ())


def test_several_doubts_stand_in_the_order_of_the_contract() -> None:
    facts = MediaFacts(width_px=1, height_px=1, duration_milliseconds=0, device_time=SEALED - timedelta(days=1))
    late = replace(
        CLIP, capture_start_time=SEALED - timedelta(minutes=12), capture_end_time=SEALED - timedelta(minutes=11)
    )

    assert flags(late, facts, SEALED) == (
        EvidenceFlag.LATE,
        EvidenceFlag.DURATION_DIFFERS,
        EvidenceFlag.DEVICE_TIME_DIFFERS,
        EvidenceFlag.SMALL_PICTURE,
    )
