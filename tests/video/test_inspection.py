"""What is read from photos, clips and documents, and what is refused: real files, made ones, and ones made wrong."""

import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from services.video.inspecting_process import InspectingProcesses
from services.video.media_types import JPEG, MP4, PDF, PNG, ContentRefused, Inspection, MediaFacts
from tests.video import media_files
from tests.video.media_files import clip, jpeg, pdf, png, real

CHINA = timezone(timedelta(hours=8))


@pytest.fixture(scope="module")
def processes() -> Iterator[InspectingProcesses]:
    running = InspectingProcesses(1)
    yield running
    running.stop()


@pytest.fixture
def inspect(processes: InspectingProcesses, tmp_path: Path) -> Callable[[bytes, str], Inspection]:
    """Look at bytes twice: as a file, and as bytes that lie elsewhere."""

    def look(content: bytes, content_type: str) -> Inspection:
        path = tmp_path / "upload.exe"
        path.write_bytes(content)

        def elsewhere() -> Inspection:
            return processes.inspect_ranges(
                lambda offset, length: content[offset : offset + length], len(content), content_type
            )

        try:
            found = processes.inspect_file(path, content_type)
        except ContentRefused as refused:
            with pytest.raises(ContentRefused, match=re.escape(refused.message)):
                elsewhere()
            raise
        assert elsewhere() == found
        return found

    return look


Inspect = Callable[[bytes, str], Inspection]


@pytest.mark.parametrize(
    ("name", "content_type", "facts"),
    [
        ("road_20s.mp4", MP4, MediaFacts(640, 360, 20_020, "h264")),
        ("roadside_11s.mp4", MP4, MediaFacts(640, 352, 11_023, "h264")),
        (
            "photo_with_exif.jpg",
            JPEG,
            MediaFacts(768, 576, device_time=datetime(2014, 9, 19, 16, 8, 30, tzinfo=CHINA)),
        ),
    ],
)
def test_reads_real_files(inspect: Inspect, name: str, content_type: str, facts: MediaFacts) -> None:
    assert inspect(real(name), content_type) == Inspection(content_type, facts)


@pytest.mark.parametrize(
    ("content", "content_type", "facts"),
    [
        (jpeg(), JPEG, MediaFacts(320, 240)),
        (jpeg(is_progressive=True), JPEG, MediaFacts(320, 240)),
        (jpeg(image=media_files.picture().convert("L")), JPEG, MediaFacts(320, 240)),
        (jpeg(image=media_files.picture().convert("CMYK")), JPEG, MediaFacts(320, 240)),
        (jpeg(image=Image.new("RGB", (1, 1))), JPEG, MediaFacts(1, 1)),
        (png(), PNG, MediaFacts(320, 240)),
        (png(mode="RGBA"), PNG, MediaFacts(320, 240)),
        (png(mode="P"), PNG, MediaFacts(320, 240)),
        (pdf(), PDF, MediaFacts(page_count=1)),
        (pdf(37), PDF, MediaFacts(page_count=37)),
        # Not for printing, as certificates are; anybody can open it.
        (pdf(2, password=""), PDF, MediaFacts(page_count=2)),
        (pdf(2) + b"\r\n\0\0", PDF, MediaFacts(page_count=2)),
    ],
)
def test_reads_photos_and_documents(inspect: Inspect, content: bytes, content_type: str, facts: MediaFacts) -> None:
    assert inspect(content, content_type) == Inspection(content_type, facts)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_as_large_as_it_is_displayed(inspect: Inspect, orientation: int) -> None:
    facts = inspect(jpeg(orientation=orientation), JPEG).facts
    assert (facts.width_px, facts.height_px) == ((320, 240) if orientation < 5 else (240, 320))


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ("2025:11:20 08:30:00", datetime(2025, 11, 20, 0, 30, tzinfo=UTC)),
        ("0000:00:00 00:00:00", None),
        ("    :  :     :  :  ", None),
        ("yesterday", None),
        ("2025:13:41 25:61:61", None),
    ],
)
def test_the_time_of_a_photo_is_china_standard_time(inspect: Inspect, taken: str, expected: datetime | None) -> None:
    assert inspect(jpeg(taken=taken), JPEG).facts.device_time == expected


def test_a_photo_with_other_pictures_in_it_is_one_photo(inspect: Inspect) -> None:
    content = BytesIO()
    first, second = media_files.picture(640, 480), media_files.picture(160, 120)
    first.save(content, "MPO", save_all=True, append_images=[second])
    assert inspect(content.getvalue(), JPEG).facts == MediaFacts(640, 480)


def test_fill_bytes_behind_a_photo_are_nothing(inspect: Inspect) -> None:
    assert inspect(jpeg() + bytes(511), JPEG).facts == MediaFacts(320, 240)


def test_device_data_that_cannot_be_read_spoils_no_photo(inspect: Inspect) -> None:
    content = jpeg(taken="2025:11:20 08:30:00")
    at = content.index(b"Exif\0\0") + 6
    broken = content[:at] + b"\xff" * 20 + content[at + 20 :]
    assert inspect(broken, JPEG).facts == MediaFacts(320, 240)


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (clip(), MediaFacts(320, 240, 2_000, "h264")),
        (clip(codec="libx265"), MediaFacts(320, 240, 2_000, "hevc")),
        (clip(starts_with_index=True, has_sound=True), MediaFacts(320, 240, 2_000, "h264")),
        (clip(is_fragmented=True, seconds=3), MediaFacts(320, 240, 3_000, "h264")),
        (clip(rotation=90), MediaFacts(240, 320, 2_000, "h264")),
        (clip(rotation=180), MediaFacts(320, 240, 2_000, "h264")),
        (clip(sample_aspect_ratio=Fraction(4, 3)), MediaFacts(427, 240, 2_000, "h264")),
        (clip(seconds=0.1), MediaFacts(320, 240, 100, "h264")),
    ],
)
def test_reads_clips(inspect: Inspect, content: bytes, facts: MediaFacts) -> None:
    assert inspect(content, MP4) == Inspection(MP4, facts)


def zip_of(name: str, content: bytes) -> bytes:
    written = BytesIO()
    with zipfile.ZipFile(written, "w") as target:
        target.writestr(name, content)
    return written.getvalue()


def with_zip_inside_jpeg() -> bytes:
    hidden = zip_of("run.exe", b"MZ")
    content = jpeg()
    return content[:2] + b"\xff\xfe" + struct.pack(">H", len(hidden) + 2) + hidden + content[2:]


@pytest.mark.parametrize(
    ("content", "content_type", "found"),
    [
        (b"", JPEG, ""),
        (b"\xff", JPEG, ""),
        (b"MZ\x90\x00" + bytes(4096), JPEG, "executable"),
        (b"MZ\x90\x00" + bytes(4096), MP4, "executable"),
        (b"\x7fELF" + bytes(4096), PDF, "executable"),
        (b"#!/bin/sh\nrm -r /\n", JPEG, "script"),
        (b"<!DOCTYPE html><script>alert(1)</script>", PDF, "text/html"),
        (b"GIF89a/*" + bytes(100), PNG, "image/gif"),
        (zip_of("word/document.xml", b"<w/>"), PDF, "application/zip"),
        # Not what they are said to be, though each is taken by itself.
        (jpeg(), PNG, JPEG),
        (png(), JPEG, PNG),
        (jpeg(), MP4, JPEG),
        (pdf(), JPEG, PDF),
        (clip(), JPEG, MP4),
        # Two things at once.
        (pdf() + zip_of("run.exe", b"MZ"), PDF, "application/zip"),
        (png() + zip_of("run.exe", b"MZ"), PNG, "application/zip"),
        (clip() + zip_of("run.exe", b"MZ"), MP4, "application/zip"),
        (with_zip_inside_jpeg(), JPEG, "application/zip"),
        (b"<html>" + pdf(), PDF, "text/html"),
        # Clips that not everybody can play.
        (clip(codec="mpeg4"), MP4, "mpeg4"),
        (clip(format_name="mov"), MP4, "video/quicktime"),
        (clip(format_name="matroska"), MP4, "video/x-matroska"),
        (clip(format_name="mpegts"), MP4, "video/mp2t"),
        (clip(format_name="avi"), MP4, "video/x-msvideo"),
    ],
)
def test_refuses_what_is_not_taken_and_says_what_it_is(
    inspect: Inspect, content: bytes, content_type: str, found: str
) -> None:
    with pytest.raises(ContentRefused) as refused:
        inspect(content, content_type)
    assert refused.value.found == found
    assert refused.value.message.isascii()
    assert not refused.value.message_zh.isascii()


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


FILE_TYPE = box(b"ftyp", b"isom\0\0\0\0isom")
MOVIE = clip()


def without_pictures() -> bytes:
    content = clip(starts_with_index=True)
    at = content.index(b"mdat") + 4
    return content[:at] + bytes(len(content) - at)


def cut_where_the_last_box_is_open() -> bytes:
    # As a recorder leaves it that writes the index first and loses power.
    content = clip(starts_with_index=True)
    at = content.index(b"mdat") - 4
    return content[:at] + bytes(4) + content[at + 4 : -20_000]


def photo_bomb() -> bytes:
    # Sixty million pixels in sixty thousand bytes.
    content = BytesIO()
    Image.new("1", (10_000, 6_000)).save(content, "PNG")
    return content.getvalue()


def strip() -> bytes:
    content = BytesIO()
    Image.new("1", (70_000, 2)).save(content, "PNG")
    return content.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def damaged_png() -> bytes:
    content = bytearray(png())
    content[len(content) // 2] ^= 1
    return bytes(content)


def png_without_enough_pixels() -> bytes:
    rows = zlib.compress(bytes(100))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 320, 240, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )


def without_pages() -> bytes:
    assert b"/Count 1" in pdf(1)
    return pdf(1).replace(b"/Count 1", b"/Count 0")


@pytest.mark.parametrize(
    ("content", "content_type", "message"),
    [
        (jpeg()[:-2], JPEG, "cut off"),
        (jpeg()[: len(jpeg()) // 2], JPEG, "cut off"),
        (jpeg()[:100], JPEG, "cut off"),
        (jpeg() + b"MZ" + bytes(100), JPEG, "do not belong"),
        (jpeg() + FILE_TYPE, JPEG, "do not belong"),
        (b"\xff\xd8\xff\xd9", JPEG, "damaged"),
        (b"\xff\xd8\xff" + bytes(1000), JPEG, "cut off"),
        (png()[:-1], PNG, "cut off"),
        (png()[:1000], PNG, "cut off"),
        (png() + b"\0", PNG, "do not belong"),
        (damaged_png(), PNG, "damaged"),
        (png_without_enough_pixels(), PNG, "damaged"),
        (photo_bomb(), PNG, "more than 50000000 pixels"),
        (strip(), PNG, "more than 65535 on a side"),
        (png(is_animated=True), PNG, "animated"),
        (FILE_TYPE, MP4, "no index"),
        (FILE_TYPE + box(b"mdat", bytes(5000)), MP4, "broken off"),
        (FILE_TYPE + box(b"moov", b""), MP4, "no pictures"),
        (FILE_TYPE + box(b"moov", b"") + box(b"mdat", bytes(10)), MP4, "no moving picture"),
        (box(b"free", b"") + MOVIE, MP4, "not known"),
        (MOVIE[:-1], MP4, "at least 1 bytes are missing"),
        (MOVIE[: len(MOVIE) // 2], MP4, "cut off"),
        (MOVIE + b"\0", MP4, "cut off"),
        (MOVIE + bytes(100), MP4, "damaged"),
        (cut_where_the_last_box_is_open(), MP4, "at least [0-9]{5} bytes are missing"),
        (without_pictures(), MP4, "No picture"),
        (b"%PDF-1.7\n", PDF, "cut off"),
        (b"%PDF-nonsense\n" + pdf()[9:], PDF, "damaged"),
        (pdf()[:-10], PDF, "cut off"),
        (pdf(200)[: len(pdf(200)) // 2], PDF, "cut off"),
        (pdf() + b"MZ" + bytes(2000), PDF, "more stands behind"),
        (pdf(password="secret"), PDF, "password"),
        (b"%PDF-1.7\n" + bytes(5000) + b"startxref\n9\n%%EOF", PDF, "damaged"),
        (b"%PDF-1.7\nstartxref\n999999\n%%EOF", PDF, "damaged"),
        (without_pages(), PDF, "damaged"),
    ],
)
def test_refuses_what_is_not_whole(inspect: Inspect, content: bytes, content_type: str, message: str) -> None:
    with pytest.raises(ContentRefused, match=message):
        inspect(content, content_type)


def test_a_photo_as_large_as_is_taken_is_read(processes: InspectingProcesses) -> None:
    content = BytesIO()
    Image.new("RGBA", (7_000, 7_000)).save(content, "PNG", compress_level=1)
    photo = content.getvalue()
    facts = processes.inspect_ranges(lambda at, length: photo[at : at + length], len(photo), PNG).facts
    assert facts == MediaFacts(7_000, 7_000)


@pytest.mark.parametrize("seed", range(6))
def test_a_clip_may_have_any_size_and_length(inspect: Inspect, seed: int) -> None:
    source = random.Random(seed)
    width, height = source.randrange(64, 800, 2), source.randrange(64, 600, 2)
    frames = source.randrange(1, 40)
    content = clip(width, height, seconds=frames / 10, is_fragmented=source.random() < 0.5)
    assert inspect(content, MP4).facts == MediaFacts(width, height, frames * 100, "h264")
