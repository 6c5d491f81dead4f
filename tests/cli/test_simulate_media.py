"""Simulated photos and clips: seeded, readable, with every sign that plates have."""

import dataclasses
import io
from datetime import UTC, datetime, timedelta

import av
import pytest
from PIL import Image

from cli.simulate import plates
from cli.simulate.media import CLIP_SECONDS, SIZE_PX, Scene, make_clip, make_photo
from cli.simulate.overlay_text import line_mask
from services.common.china_time import CHINA_TIME
from zhichao.video.v1 import evidence_pb2

SCENE = Scene(
    seed=1,
    source_unit_id="141025-S1-001",
    scale_id="C1",
    record_id="0198abcd-1234-7abc-8def-0123456789ab",
    plate_number="晋N12345",
    gross_weight_kg=58_200,
    axle_count=6,
    weigh_time=datetime(2025, 3, 1, 4, 0, 0, 123_000, tzinfo=UTC),
)
PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"


def test_a_photo_has_the_pixels_that_acceptance_asks_for_and_says_when_it_was_taken() -> None:
    photo = make_photo(SCENE)
    with Image.open(io.BytesIO(photo.content)) as picture:
        picture.load()
        taken = picture.getexif().get_ifd(0x8769)[0x9003]
        assert (picture.format, picture.size) == ("JPEG", SIZE_PX)
    assert SIZE_PX[0] * SIZE_PX[1] >= 2_000_000
    assert taken == f"{SCENE.weigh_time.astimezone(CHINA_TIME):%Y:%m:%d %H:%M:%S}" == "2025:03:01 12:00:00"
    assert (photo.content_type, photo.start_time, photo.end_time) == ("image/jpeg", SCENE.weigh_time, None)


def test_a_clip_is_h264_of_the_length_that_it_is_said_to_have() -> None:
    clip = make_clip(SCENE)
    assert clip.end_time is not None
    with av.open(io.BytesIO(clip.content), "r") as container:
        stream = container.streams.video[0]
        frames = list(container.decode(video=0))
        assert stream.codec_context.name == "h264"
        assert (stream.width, stream.height) == SIZE_PX
        assert container.duration == CLIP_SECONDS * av.time_base
    assert (clip.start_time, clip.end_time) == (SCENE.weigh_time - timedelta(seconds=CLIP_SECONDS), SCENE.weigh_time)
    # It begins before the truck comes.
    assert bytes(frames[0].planes[0]) != bytes(frames[-1].planes[0])
    # What plays while it comes has its index before its pictures.
    assert clip.content.index(b"moov") < clip.content.index(b"mdat")


def test_a_clip_has_some_hundred_kilobytes() -> None:
    assert len(make_clip(SCENE).content) < 400_000


@pytest.mark.parametrize("make", [make_photo, make_clip])
def test_the_same_scene_makes_the_same_bytes_and_every_other_one_others(make: object) -> None:
    assert callable(make)
    content = make(SCENE).content
    assert make(SCENE).content == content
    for change in (
        {"plate_number": "晋N12346"},
        {"gross_weight_kg": 58_250},
        {"weigh_time": SCENE.weigh_time + timedelta(milliseconds=1)},
        {"record_id": "other"},
        {"seed": 2},
    ):
        assert make(dataclasses.replace(SCENE, **change)).content != content, change


def test_each_view_is_a_camera_of_its_own() -> None:
    front = dataclasses.replace(SCENE, view=evidence_pb2.CAMERA_VIEW_FRONT)
    assert (SCENE.camera_id, front.camera_id) == ("C1-side", "C1-front")
    assert make_photo(front).content != make_photo(SCENE).content


def test_every_sign_of_a_plate_can_be_drawn() -> None:
    made = "".join(province for province, _ in plates._REGIONS) + plates._LETTERS + plates._DIGITS
    unknown = line_mask("?", 1).tobytes()
    signs = PROVINCES + made + "挂学警领使港澳" + "无牌"
    assert [sign for sign in signs if line_mask(sign, 1).tobytes() == unknown] == []


def test_a_sign_that_is_not_known_is_drawn_as_a_question_mark() -> None:
    assert line_mask("\u9f98", 2).tobytes() == line_mask("?", 2).tobytes()


def test_no_plate_is_said_so() -> None:
    bare = dataclasses.replace(SCENE, plate_number="")
    assert make_photo(bare).content != make_photo(SCENE).content
