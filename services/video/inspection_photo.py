"""Reads photos: whether they are whole and nothing else besides, how large they are displayed, when they were taken."""

import importlib
import io
import re
import struct
import warnings
import zlib
from datetime import datetime
from typing import Any, BinaryIO, Final

from PIL import Image

from services.common.china_time import CHINA_TIME
from services.video.media_types import JPEG, PNG, SIDE_PX_MAX, ContentRefused, MediaFacts

PHOTO_BYTES_MAX: Final = 64 * 1024 * 1024
"""Largest photo: a PNG of twenty million pixels that does not compress. Cameras at scales send hundreds of KB."""

PHOTO_PIXELS_MAX: Final = 50_000_000
"""Most pixels of a photo: the largest sensors of phones give so many by default; decoded it takes 200 MB."""

_PICTURES_MAX: Final = 8
"""Pictures in one JPEG file: phones add a preview, a depth map and a gain map (CIPA DC-007)."""

ORIENTATION: Final = 0x0112
"""EXIF tag that says how the picture is turned."""

_SIDEWAYS: Final = frozenset((5, 6, 7, 8))
_EXIF_DIRECTORY: Final = 0x8769
# DateTimeOriginal, DateTimeDigitized; DateTime is when the file was changed last (CIPA DC-008, 4.6.5).
_TIME_TAGS: Final = (0x9003, 0x9004)
_TIME_TAG_OF_FILE: Final = 0x0132

# The next marker within or between scans: neither a stuffed byte, a restart nor a fill byte (ITU-T T.81, B.1.1).
_MARKER: Final = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
_SOI, _EOI, _SOS, _TEM = 0xD8, 0xD9, 0xDA, 0x01
_PNG_HEADER_BYTES: Final = 8
_PNG_CHUNK_BYTES: Final = 12


def load_libraries() -> None:
    """Load the decoders with all that they load by themselves at their first picture."""
    Image.MAX_IMAGE_PIXELS = PHOTO_PIXELS_MAX
    for format_name in ("JPEG", "PNG"):
        content = io.BytesIO()
        Image.new("RGB", (8, 8)).save(content, format_name)
        content.seek(0)
        Image.open(content, formats=(format_name,)).load()
    # A photo with several pictures is opened by this one.
    importlib.import_module("PIL.MpoImagePlugin")


def inspect_jpeg(file: BinaryIO, size: int) -> MediaFacts:
    """Read a JPEG photo. Raises ContentRefused."""
    content = _whole(file, size)
    _check_jpeg(content)
    return _facts(content, "JPEG", JPEG)


def inspect_png(file: BinaryIO, size: int) -> MediaFacts:
    """Read a PNG photo. Raises ContentRefused."""
    content = _whole(file, size)
    _check_png(content)
    return _facts(content, "PNG", PNG)


def opened(content: bytes, format_name: str) -> Any:
    """Open a picture without decoding it yet. Raises ContentRefused for one that is too large or makes no sense."""
    try:
        with warnings.catch_warnings(action="ignore"):
            picture = Image.open(io.BytesIO(content), formats=(format_name,))
    except Image.DecompressionBombError as error:
        raise _too_many_pixels() from error
    except MemoryError:
        raise
    except Exception as error:
        # What a decoder raises for broken bytes is nowhere written down.
        raise _unreadable() from error
    width, height = picture.size
    if width * height > PHOTO_PIXELS_MAX or max(width, height) > SIDE_PX_MAX:
        raise _too_many_pixels()
    return picture


def exif_of(picture: Any) -> Any:
    """Return what the device wrote into the picture; empty when that cannot be read, which spoils no photo."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return picture.getexif()
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - see above
        return {}


def _whole(file: BinaryIO, size: int) -> bytes:
    if size > PHOTO_BYTES_MAX:
        raise ContentRefused(
            f"The photo has {size} bytes; at most {PHOTO_BYTES_MAX} are taken",
            f"照片有 {size} 字节，最多接收 {PHOTO_BYTES_MAX} 字节",
        )
    content = file.read(size)
    if len(content) != size:
        raise _cut_off()
    return content


def _check_jpeg(content: bytes) -> None:
    """Walk all pictures of the file, marker by marker; nothing but fill bytes may stand behind the last."""
    place = 0
    for _ in range(_PICTURES_MAX):
        place = _end_of_picture(content, place)
        while content[place : place + 1] in (b"\x00", b"\xff") and content[place : place + 2] != b"\xff\xd8":
            place += 1
        if place == len(content):
            return
        if content[place : place + 2] != b"\xff\xd8":
            break
    raise _more_behind(len(content) - place)


def _end_of_picture(content: bytes, start: int) -> int:
    place, has_scan = start + 2, False
    while True:
        found = _MARKER.search(content, place)
        if found is None:
            raise _cut_off()
        marker, place = found[1][0], found.end()
        if marker == _EOI:
            if not has_scan:
                raise _unreadable()
            return place
        if marker in (_SOI, _TEM):
            raise _unreadable()
        if place + 2 > len(content):
            raise _cut_off()
        length = struct.unpack_from(">H", content, place)[0]
        if length < 2:
            raise _unreadable()
        place += length
        # Bytes follow only a scan; but cameras leave some behind other parts, and decoders pass over them.
        has_scan = has_scan or marker == _SOS


def _check_png(content: bytes) -> None:
    """Walk all chunks with their check sums to the last, which has to end the file (ISO/IEC 15948, 5.3)."""
    place = _PNG_HEADER_BYTES
    while True:
        if place + _PNG_CHUNK_BYTES > len(content):
            raise _cut_off()
        length, kind = struct.unpack_from(">I4s", content, place)
        end = place + _PNG_CHUNK_BYTES + length
        if end > len(content):
            raise _cut_off()
        if struct.unpack_from(">I", content, end - 4)[0] != zlib.crc32(memoryview(content)[place + 4 : end - 4]):
            raise _unreadable()
        if kind == b"acTL":
            raise ContentRefused("The picture is animated", "图片为动画")
        place = end
        if kind == b"IEND":
            break
    if place != len(content):
        raise _more_behind(len(content) - place)


def _facts(content: bytes, format_name: str, content_type: str) -> MediaFacts:
    picture = opened(content, format_name)
    width, height = picture.size
    exif = exif_of(picture)
    try:
        # An eighth of each side: every bit is read all the same, and most of the time is saved.
        picture.draft(picture.mode, (max(width // 8, 1), max(height // 8, 1)))
        with warnings.catch_warnings(action="ignore"):
            picture.load()
    except MemoryError:
        raise
    except Exception as error:
        raise _unreadable(content_type) from error
    if exif.get(ORIENTATION) in _SIDEWAYS:
        width, height = height, width
    return MediaFacts(width_px=width, height_px=height, device_time=_device_time(exif))


def _device_time(exif: Any) -> datetime | None:
    try:
        taken = exif.get_ifd(_EXIF_DIRECTORY) if hasattr(exif, "get_ifd") else {}
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - what cannot be read is not known
        taken = {}
    for value in (*(taken.get(tag) for tag in _TIME_TAGS), exif.get(_TIME_TAG_OF_FILE)):
        try:
            # Cameras whose clock was never set write zeros or blanks.
            return datetime.strptime(str(value).strip("\x00 "), "%Y:%m:%d %H:%M:%S").replace(tzinfo=CHINA_TIME)
        except ValueError:
            continue
    return None


def _cut_off() -> ContentRefused:
    return ContentRefused("The photo is cut off: its end is missing", "照片不完整：缺少结尾部分")


def _unreadable(found: str = "") -> ContentRefused:
    return ContentRefused("The photo cannot be decoded: its bytes are damaged", "照片无法解码：数据已损坏", found=found)


def _too_many_pixels() -> ContentRefused:
    return ContentRefused(
        f"The photo has more than {PHOTO_PIXELS_MAX} pixels, or more than {SIDE_PX_MAX} on a side",
        f"照片像素超过 {PHOTO_PIXELS_MAX}，或单边超过 {SIDE_PX_MAX}",
    )


def _more_behind(count: int) -> ContentRefused:
    return ContentRefused(
        f"Behind the photo there are {count} bytes that do not belong to it", f"照片之后有 {count} 字节不属于照片的数据"
    )
