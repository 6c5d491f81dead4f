"""Photos and short clips of simulated weighings, with plate, weight and time burnt in. Everything follows from the seed
and the scene: the same ones make the same bytes with the same releases of Pillow and PyAV. No picture shows a real
place.
"""

import io
import tempfile
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Final

import av
from av.video.stream import VideoStream
from PIL import Image, ImageDraw

from cli.simulate.overlay_text import line_mask
from cli.simulate.seeding import seeded_random
from services.common.china_time import CHINA_TIME
from zhichao.video.v1 import evidence_pb2

SIZE_PX: Final = (1920, 1080)
"""Acceptance asks for two million pixels; this is the smallest usual size that has them."""

PHOTO_QUALITY: Final = 70
"""About 90 kB. Better ones cost bytes and show nothing more of a drawing."""

CLIP_SECONDS: Final = 10
CLIP_FRAMES_PER_SECOND: Final = 2
"""Enough to see the truck come and stand; a frame costs 10 ms."""

VIEW_NAMES: Final = {
    evidence_pb2.CAMERA_VIEW_FRONT: "车前",
    evidence_pb2.CAMERA_VIEW_REAR: "车后",
    evidence_pb2.CAMERA_VIEW_SIDE: "车侧",
}

_WIDTH, _HEIGHT = SIZE_PX
_GROUND_TOP: Final = 640
_PLATFORM: Final = (160, 860, 1760, 930)
_BAR_HEIGHT: Final = 76
_TEXT_SCALE: Final = 3
_MARGIN: Final = 24
_WHEEL: Final = 52
_ARRIVAL_SECONDS: Final = 4.0
_BACKGROUNDS_MAX: Final = 64
"""Pictures kept for cameras that were used last, 6 MB each: more than the stations that send at a time."""

_EXIF_IFD: Final = 0x8769
_EXIF_DATE_TIME_ORIGINAL: Final = 0x9003


@dataclass(frozen=True, slots=True)
class Scene:
    """One truck on one scale, as a camera sees it."""

    seed: int
    source_unit_id: str
    scale_id: str
    record_id: str
    plate_number: str
    gross_weight_kg: int
    axle_count: int
    weigh_time: datetime
    view: evidence_pb2.CameraView.ValueType = evidence_pb2.CAMERA_VIEW_SIDE

    @property
    def camera_id(self) -> str:
        """Name of the camera."""
        return f"{self.scale_id}-{evidence_pb2.CameraView.Name(self.view).removeprefix('CAMERA_VIEW_').lower()}"


@dataclass(frozen=True, slots=True)
class Media:
    """The bytes of a photo or clip, and when it was taken."""

    content: bytes
    content_type: str
    start_time: datetime
    end_time: datetime | None = None


def make_photo(scene: Scene) -> Media:
    """Make a JPEG of the truck standing on the scale."""
    picture = _background(scene.seed, scene.source_unit_id, scene.scale_id, scene.view).copy()
    _draw_truck(picture, scene, offset_px=0)
    _draw_overlay(picture, scene, scene.weigh_time, scene.gross_weight_kg)
    exif = Image.Exif()
    exif.get_ifd(_EXIF_IFD)[_EXIF_DATE_TIME_ORIGINAL] = f"{scene.weigh_time.astimezone(CHINA_TIME):%Y:%m:%d %H:%M:%S}"
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=PHOTO_QUALITY, exif=exif)
    return Media(buffer.getvalue(), "image/jpeg", scene.weigh_time)


def make_clip(scene: Scene) -> Media:
    """Make an MP4 (H.264) in which the truck drives onto the scale and stands; it ends with the weighing."""
    start = scene.weigh_time - timedelta(seconds=CLIP_SECONDS)
    empty = _background(scene.seed, scene.source_unit_id, scene.scale_id, scene.view)
    # A file, not memory: it is opened again by name, to put the index before the pictures: it plays while it comes.
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        # Bit-exact: no release names, no time of making.
        with av.open(
            file.name, "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"}
        ) as container:
            stream = _add_stream(container)
            for number in range(CLIP_SECONDS * CLIP_FRAMES_PER_SECOND):
                seconds = number / CLIP_FRAMES_PER_SECOND
                picture = empty.copy()
                left = max(0.0, 1 - seconds / _ARRIVAL_SECONDS)
                _draw_truck(picture, scene, offset_px=-int(_WIDTH * left))
                _draw_overlay(picture, scene, start + timedelta(seconds=seconds), 0 if left else scene.gross_weight_kg)
                frame = av.VideoFrame.from_image(picture)  # type: ignore[no-untyped-call]  # PyAV leaves pictures untyped
                frame.pts = number
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return Media(Path(file.name).read_bytes(), "video/mp4", start, scene.weigh_time)


def _add_stream(container: "av.container.OutputContainer") -> VideoStream:
    # One thread: several divide the work by chance, and the bytes differ then. One key frame: the place is coded once.
    options = {"preset": "ultrafast", "crf": "28", "threads": "1", "x264-params": "keyint=250:scenecut=0"}
    stream = container.add_stream("libx264", rate=CLIP_FRAMES_PER_SECOND, options=options)
    stream.width, stream.height = SIZE_PX
    stream.pix_fmt = "yuv420p"
    stream.time_base = Fraction(1, CLIP_FRAMES_PER_SECOND)
    return stream


@lru_cache(maxsize=_BACKGROUNDS_MAX)
def _background(seed: int, source_unit_id: str, scale_id: str, view: int) -> Image.Image:
    """Draw the place that a camera sees: sky, hills, a building, the scale."""
    rng = seeded_random("place", seed, source_unit_id, scale_id, view)
    picture = Image.new("RGB", SIZE_PX, (150 + rng.randrange(40), 175 + rng.randrange(30), 200 + rng.randrange(30)))
    draw = ImageDraw.Draw(picture)
    for distance in range(3):
        tone = 120 - 25 * distance
        top = _GROUND_TOP - 160 + 50 * distance
        peaks = [(x, top - rng.randrange(110)) for x in range(0, _WIDTH + 1, 240)]
        draw.polygon([(0, _GROUND_TOP), *peaks, (_WIDTH, _GROUND_TOP)], (tone, tone + 25, tone))
    draw.rectangle((0, _GROUND_TOP, _WIDTH, _HEIGHT), (112, 108, 100))
    left = rng.randrange(100, 1300)
    wall = tuple(150 + rng.randrange(80) for _ in range(3))
    draw.rectangle((left, _GROUND_TOP - 230, left + 460, _GROUND_TOP + 20), wall)
    for window in range(4):
        draw.rectangle(
            (left + 30 + window * 110, _GROUND_TOP - 180, left + 100 + window * 110, _GROUND_TOP - 90), (60, 80, 100)
        )
    draw.rectangle(_PLATFORM, (70, 70, 74))
    draw.rectangle((_PLATFORM[0], _PLATFORM[1], _PLATFORM[2], _PLATFORM[1] + 10), (220, 190, 40))
    return picture


def _draw_truck(picture: Image.Image, scene: Scene, *, offset_px: int) -> None:
    rng = seeded_random("truck", scene.seed, scene.plate_number, scene.axle_count)
    draw = ImageDraw.Draw(picture)
    cab = tuple(rng.randrange(60, 230) for _ in range(3))
    body = tuple(rng.randrange(40, 150) for _ in range(3))
    length = 520 + 150 * max(2, min(scene.axle_count, 6))
    right = (_PLATFORM[0] + _PLATFORM[2] + length) // 2 + offset_px
    left, bottom = right - length, _PLATFORM[1]
    draw.rectangle((left, bottom - 330, right - 260, bottom - 60), body, (20, 20, 20), 4)
    draw.rectangle((right - 245, bottom - 300, right, bottom - 60), cab, (20, 20, 20), 4)
    draw.rectangle((right - 110, bottom - 280, right - 12, bottom - 180), (190, 215, 230))
    axles = max(2, min(scene.axle_count, 6))
    places = [right - 130] + [left + 90 + number * 2 * (_WHEEL + 8) for number in range(axles - 1)]
    for centre in places:
        draw.ellipse((centre - _WHEEL, bottom - 2 * _WHEEL, centre + _WHEEL, bottom), (25, 25, 25))
        draw.ellipse((centre - 18, bottom - _WHEEL - 18, centre + 18, bottom - _WHEEL + 18), (130, 130, 130))
    if scene.plate_number:
        mask = line_mask(scene.plate_number, 2)
        place = (right - 240, bottom - 110)
        picture.paste(
            (235, 190, 30), (place[0] - 6, place[1] - 4, place[0] + mask.width + 6, place[1] + mask.height + 4)
        )
        picture.paste((0, 0, 0), place, mask)


def _draw_overlay(picture: Image.Image, scene: Scene, moment: datetime, weight_kg: int) -> None:
    """Burn in what a recorder would: when and where above; plate and weight below, and that it is simulated."""
    local = moment.astimezone(CHINA_TIME)
    clock = f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03d}"
    above = f"{clock}  {scene.source_unit_id} {scene.scale_id} {VIEW_NAMES.get(scene.view, '')}"
    below = f"号牌 {scene.plate_number or '无牌'}  毛重 {weight_kg} kg  {scene.record_id}"
    for text, top in ((above, 0), (below, _HEIGHT - _BAR_HEIGHT)):
        picture.paste((16, 16, 16), (0, top, _WIDTH, top + _BAR_HEIGHT))
        mask = line_mask(text, _TEXT_SCALE)
        picture.paste((255, 255, 255), (_MARGIN, top + (_BAR_HEIGHT - mask.height) // 2), mask)
    label = line_mask("模拟数据", _TEXT_SCALE)
    picture.paste((255, 210, 60), (_WIDTH - label.width - _MARGIN, (_BAR_HEIGHT - label.height) // 2), label)
