"""Makes photos, clips and documents for tests, and finds the real ones beside the checkout."""

import hashlib
import io
import secrets
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import pytest
from PIL import Image, ImageDraw
from pypdf import PdfWriter

REAL = Path(__file__).parents[3] / "shared" / "data" / "video"


def real(name: str) -> bytes:
    """Return a real file; skips the test where it is not."""
    path = REAL / name
    if not path.exists():
        pytest.skip(f"../shared/data/video/{name} is not beside this checkout")
    return path.read_bytes()


def picture(width: int = 320, height: int = 240) -> Image.Image:
    """Draw something with edges and colours, so that a decoder has work."""
    image = Image.new("RGB", (width, height), (40, 90, 160))
    draw = ImageDraw.Draw(image)
    for at in range(0, width, 16):
        draw.line((at, 0, width - at, height), fill=(at % 256, 255 - at % 256, 80), width=3)
    draw.rectangle((0, 0, width // 4, height // 4), fill=(255, 0, 0))
    return image


def jpeg(
    width: int = 320,
    height: int = 240,
    *,
    taken: str = "",
    orientation: int = 0,
    is_progressive: bool = False,
    image: Image.Image | None = None,
) -> bytes:
    """Make a photo; `taken` is its EXIF time (`2025:11:20 08:30:00`)."""
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    if taken:
        exif.get_ifd(0x8769)[0x9003] = taken
    content = io.BytesIO()
    (image or picture(width, height)).save(content, "JPEG", quality=85, exif=exif, progressive=is_progressive)
    return content.getvalue()


_PHOTO: Final = jpeg(1920, 1080)


def photo() -> bytes:
    """Make a photo of two million pixels that is like no other."""
    return unlike(_PHOTO)


def unlike(content: bytes) -> bytes:
    """Return a JPEG with a comment that makes it another one."""
    comment = secrets.token_hex(16).encode()
    return content[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + content[2:]


def large_photo(size_bytes_min: int) -> bytes:
    """Make a photo of a little more than so many bytes that is like no other."""
    content, length = photo(), 32 * 1024
    marker = b"\xff\xfe" + length.to_bytes(2, "big")
    comments = (marker + secrets.token_bytes(length - 2) for _ in range(-(-size_bytes_min // length)))
    return b"".join((content[:2], *comments, content[2:]))


def png(width: int = 320, height: int = 240, *, mode: str = "RGB", is_animated: bool = False) -> bytes:
    """Make a picture without loss."""
    content = io.BytesIO()
    image = picture(width, height).convert(mode)
    if is_animated:
        image.save(content, "PNG", save_all=True, append_images=[Image.new(mode, image.size)], duration=100)
    else:
        image.save(content, "PNG")
    return content.getvalue()


def clip(
    width: int = 320,
    height: int = 240,
    *,
    seconds: float = 2,
    frames_per_second: int = 10,
    codec: str = "libx264",
    rotation: int = 0,
    sample_aspect_ratio: Fraction | None = None,
    is_fragmented: bool = False,
    starts_with_index: bool = False,
    has_sound: bool = False,
    format_name: str = "mp4",
    bit_rate: int = 0,
    draw: Callable[[int], Image.Image] | None = None,
) -> bytes:
    """Make a clip of moving pictures."""
    # To put the index first, the library reads again what it has written.
    file = tempfile.NamedTemporaryFile(suffix=".mp4")  # noqa: SIM115 - closed below
    flags = ["frag_keyframe+empty_moov+default_base_moof"] if is_fragmented else []
    flags += ["faststart"] if starts_with_index else []
    container = av.open(file.name, "w", format=format_name, options={"movflags": "+".join(flags)} if flags else {})
    stream: Any = container.add_stream(codec, rate=frames_per_second)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.options = {"x265-params": "log-level=none"} if codec == "libx265" else {"preset": "ultrafast", "g": "10"}
    if bit_rate:
        stream.bit_rate = bit_rate
    if sample_aspect_ratio is not None:
        stream.codec_context.sample_aspect_ratio = sample_aspect_ratio
    if rotation:
        stream.set_display_rotation(rotation)
    sound: Any = container.add_stream("aac", rate=8000) if has_sound else None
    frames: Any = av.VideoFrame
    background = picture(width, height)
    for at in range(round(seconds * frames_per_second)):
        image = draw(at) if draw is not None else background.copy()
        if draw is None:
            ImageDraw.Draw(image).rectangle((at * 4, 40, at * 4 + 60, 80), fill=(250, 250, 250))
        container.mux(stream.encode(frames.from_image(image)))
    container.mux(stream.encode())
    if sound is not None:
        silence = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        silence.sample_rate, silence.pts = 8000, 0
        for plane in silence.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(sound.encode(silence))
        container.mux(sound.encode())
    container.close()
    with file:
        return Path(file.name).read_bytes()


@dataclass(frozen=True)
class BigClip:
    """A clip that is filled up to a size with a box that players pass over; no two are alike."""

    film: bytes
    size_bytes: int
    number: bytes = field(default_factory=lambda: secrets.token_bytes(16))

    def chunks(self, chunk_bytes: int) -> Iterator[bytes]:
        """Yield its bytes so many at once: no more of it need ever be held."""
        free_bytes = self.size_bytes - len(self.film)
        # A box with a size of 64 bits (ISO/IEC 14496-12).
        head = self.film + (1).to_bytes(4, "big") + b"free" + free_bytes.to_bytes(8, "big") + self.number
        zeros = bytes(chunk_bytes)
        for start in range(0, self.size_bytes, chunk_bytes):
            begin = head[start : start + chunk_bytes]
            yield begin + zeros[: min(chunk_bytes, self.size_bytes - start) - len(begin)]

    def content(self) -> bytes:
        """Return all of its bytes."""
        return b"".join(self.chunks(self.size_bytes))

    def digest(self) -> bytes:
        """Return its SHA-256, without holding all of it."""
        sha256 = hashlib.sha256()
        for chunk in self.chunks(1 << 20):
            sha256.update(chunk)
        return sha256.digest()


def pdf(pages: int = 1, *, password: str | None = None) -> bytes:
    """Make a document of blank pages; an empty password encrypts it all the same."""
    writer = PdfWriter()
    for _ in range(pages):
        writer.add_blank_page(595, 842)
    if password is not None:
        writer.encrypt(password, "owner", algorithm="AES-256")
    content = io.BytesIO()
    writer.write(content)
    return content.getvalue()
