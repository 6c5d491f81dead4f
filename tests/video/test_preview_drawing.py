"""Pictures of every kind are made small: every mode, every shape, the largest that is taken."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from services.video.inspecting_process import InspectingProcesses, Previews
from services.video.media_types import JPEG, MP4, PDF, PNG, ContentRefused
from tests.video.media_files import clip, jpeg, pdf, picture


@pytest.fixture(scope="module")
def processes() -> Iterator[InspectingProcesses]:
    running = InspectingProcesses(1)
    yield running
    running.stop()


def drawn(processes: InspectingProcesses, content: bytes, content_type: str) -> Previews:
    return processes.draw_ranges(lambda at, length: content[at : at + length], len(content), content_type)


def image_of(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content), formats=["JPEG"])


def png_of(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG", compress_level=1)
    return content.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_pictures_of_every_mode(processes: InspectingProcesses, mode: str) -> None:
    image = picture(1300, 700)
    image = Image.new("I;16", (1300, 700), 30_000) if mode == "I;16" else image.convert(mode)
    previews = drawn(processes, png_of(image), PNG)
    assert image_of(previews.thumbnail).size == (320, 172)
    assert previews.poster is None


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_photos_of_every_mode(processes: InspectingProcesses, mode: str) -> None:
    thumbnail = image_of(drawn(processes, jpeg(image=picture(4000, 3000).convert(mode)), JPEG).thumbnail)
    assert (thumbnail.mode, thumbnail.size) == ("RGB", (320, 240))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1, 1), (1, 1)),
        ((320, 240), (320, 240)),
        ((321, 10), (320, 10)),
        ((60_000, 3), (320, 1)),
        ((3, 60_000), (1, 640)),
        ((7_000, 7_000), (320, 320)),
    ],
)
def test_pictures_of_every_shape(
    processes: InspectingProcesses, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert image_of(drawn(processes, png_of(Image.new("RGBA", size)), PNG).thumbnail).size == expected


@pytest.mark.parametrize(
    ("size", "poster", "thumbnail"),
    [
        ((64, 48), (64, 48), (64, 48)),
        ((1920, 1080), (1280, 720), (320, 180)),
        ((720, 1280), (720, 1280), (320, 569)),
    ],
)
def test_clips_of_every_shape(
    processes: InspectingProcesses, size: tuple[int, int], poster: tuple[int, int], thumbnail: tuple[int, int]
) -> None:
    previews = drawn(processes, clip(*size, seconds=0.5), MP4)
    assert previews.poster is not None
    assert (image_of(previews.poster).size, image_of(previews.thumbnail).size) == (poster, thumbnail)


def test_a_clip_of_one_frame_and_one_in_fragments_are_drawn(processes: InspectingProcesses) -> None:
    for content in (clip(seconds=0.1), clip(is_fragmented=True), clip(codec="libx265")):
        assert image_of(drawn(processes, content, MP4).thumbnail).size == (320, 240)


def test_the_frame_in_the_middle_is_shown(processes: InspectingProcesses) -> None:
    content = clip(draw=lambda at: Image.new("RGB", (320, 240), (0, 0, 0) if at < 10 else (250, 250, 250)))
    shown: Any = image_of(drawn(processes, content, MP4).thumbnail).convert("L").getpixel((160, 120))
    assert shown > 200


@pytest.mark.parametrize(("content", "content_type"), [(pdf(), PDF), (b"MZ" + bytes(100), JPEG), (b"x", MP4)])
def test_of_what_is_no_picture_nothing_is_drawn(
    processes: InspectingProcesses, content: bytes, content_type: str
) -> None:
    with pytest.raises(ContentRefused):
        drawn(processes, content, content_type)
