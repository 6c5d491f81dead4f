"""Draws the small pictures by which people find evidence. They prove nothing. Runs in a process of its own, as
`inspection` does.
"""

import io
from typing import Any, BinaryIO, Final

from PIL import Image

from services.video import inspection_clip, inspection_photo
from services.video.media_types import JPEG, MP4, PNG, ContentRefused

POSTER_WIDTH_PX: Final = 1280
"""Widest poster, as the contract says."""

THUMBNAIL_WIDTH_PX: Final = 320
"""Widest thumbnail, as the contract says."""

_HEIGHT_FACTOR: Final = 2
"""Highest preview, in widths: a clip of a phone held upright is 9:16."""

_BAND_ROWS: Final = 64
"""Rows of what is left that are made at once."""

_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a photo upright, by its orientation (CIPA DC-008, 4.6.5, tag 274)."""

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
    exif = inspection_photo.exif_of(picture)
    width, height = picture.size
    scale = _scale(width, height)
    # JPEG gives a half, a quarter or an eighth at once.
    picture.draft("RGB", (width // scale, height // scale))
    picture = _reduced(picture)
    turned = _TURNS.get(exif.get(inspection_photo.ORIENTATION))
    return picture if turned is None else picture.transpose(turned)


def _scale(width: int, height: int) -> int:
    """Return by how much a picture is too large; what is left is twice as large as needed, to be scaled well."""
    wanted = 2 * THUMBNAIL_WIDTH_PX
    return max(1, min(max(width // wanted, height // (wanted * _HEIGHT_FACTOR)), width, height))


def _reduced(picture: Any) -> Any:
    """Make a picture small band by band: a step on all pixels at once takes as much memory again as they do."""
    scale = _scale(*picture.size)
    width, height = picture.width // scale, picture.height // scale
    small = Image.new("RGB", (width, height))
    for top in range(0, height, _BAND_ROWS):
        rows = min(_BAND_ROWS, height - top)
        band = picture.crop((0, top * scale, width * scale, (top + rows) * scale)).convert("RGB")
        small.paste(band.reduce(scale), (0, top))
    return small


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
