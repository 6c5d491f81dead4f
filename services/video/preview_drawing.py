"""Draws the small pictures by which people find evidence. They prove nothing. Runs in a process of its own, as
`inspection` does.
"""

import io
from typing import Any, BinaryIO, Final

from PIL import ImageOps

from services.video import inspection_clip, inspection_photo
from services.video.media_types import JPEG, MP4, PNG, ContentRefused

POSTER_WIDTH_PX: Final = 1280
"""Widest poster, as the contract says."""

THUMBNAIL_WIDTH_PX: Final = 320
"""Widest thumbnail, as the contract says."""

_HEIGHT_FACTOR: Final = 2
"""Highest preview, in widths: a clip of a phone held upright is 9:16."""

_QUALITY: Final = 80
"""JPEG quality at which a plate on a poster can still be read."""


def draw(file: BinaryIO, size: int, content_type: str) -> list[bytes]:
    """Draw the thumbnail and, of a clip, the poster after it. Raises ContentRefused when nothing can be drawn."""
    try:
        if content_type == MP4:
            picture = _middle_of(file)
            return [_drawn(picture, THUMBNAIL_WIDTH_PX), _drawn(picture, POSTER_WIDTH_PX)]
        if content_type in (JPEG, PNG):
            return [_drawn(_photo(file.read(size), content_type), THUMBNAIL_WIDTH_PX)]
    except (ContentRefused, MemoryError):
        raise
    except Exception as error:
        # What a decoder raises for broken bytes is nowhere written down.
        raise _nothing() from error
    raise _nothing()


def _photo(content: bytes, content_type: str) -> Any:
    picture = inspection_photo.opened(content, "JPEG" if content_type == JPEG else "PNG")
    width, height = picture.size
    # Twice as large as needed, so that what is left is scaled well; JPEG gives a half, a quarter or an eighth at once.
    scale = max(min(width, height) // (2 * THUMBNAIL_WIDTH_PX), 1)
    picture.draft("RGB", (width // scale, height // scale))
    inspection_photo.exif_of(picture)
    return ImageOps.exif_transpose(picture)


def _middle_of(file: BinaryIO) -> Any:
    with inspection_clip.opened(file) as container:
        stream = inspection_clip.picture_stream(container)
        if stream.duration:
            # What matters is in the middle; the first frame is often black.
            container.seek(stream.duration // 2, stream=stream)
        try:
            frame = inspection_clip.first_frame(container, stream)
        except ContentRefused:
            container.seek(0, stream=stream)
            frame = inspection_clip.first_frame(container, stream)
        width, height = inspection_clip.displayed_size(stream, frame)
        if frame.rotation % 180:
            width, height = height, width
        scale = min(1.0, POSTER_WIDTH_PX / max(min(width, height), 1))
        picture = frame.reformat(max(round(width * scale), 1), max(round(height * scale), 1), "rgb24").to_image()
        return picture.rotate(frame.rotation, expand=True) if frame.rotation else picture


def _drawn(picture: Any, width: int) -> bytes:
    small = picture.convert("RGB")
    small.thumbnail((width, width * _HEIGHT_FACTOR))
    content = io.BytesIO()
    # Nothing but the picture goes out: no place, no owner, no device.
    small.save(content, "JPEG", quality=_QUALITY, optimize=True, exif=b"", comment=b"", icc_profile=None)
    return content.getvalue()


def _nothing() -> ContentRefused:
    return ContentRefused("Nothing can be drawn of the file", "无法生成预览图")
