"""Reads clips: whether the file is whole, how long and large it is displayed, and whether a picture comes out of it."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO, Final

import av

from services.video.media_types import SIDE_PX_MAX, VIDEO_CODECS, ContentRefused, MediaFacts

BOXES_MAX: Final = 1_000_000
"""Most boxes side by side: five days of fragments of one second, each with its two boxes."""

INDEX_BYTES_MAX: Final = 64 * 1024 * 1024
"""Largest index (`moov`): a day at 25 frames a second takes half of it."""

FRAME_PIXELS_MAX: Final = 36_000_000
"""Most pixels of a frame: 8K has 33 million, and cameras of the trade have two to eight."""

STREAMS_MAX: Final = 16
"""Most streams in a file: recorders write a picture, a sound and sometimes a track of their own."""

_PACKETS_MAX: Final = 300
"""Packets within which a picture has to come out: twelve seconds, longer than any distance of key frames."""

_SAMPLED_ENTRIES: Final = 1000
"""Entries of the index that are compared with the size of the file: reading all of a day's takes seconds."""

# Neither files nor addresses that a clip may name are opened; one thread, as one file is not worth more.
_OPTIONS: Final = {
    "protocol_whitelist": "none",
    "max_pixels": str(FRAME_PIXELS_MAX),
    "threads": "1",
    "probesize": "5000000",
    "analyzeduration": "2000000",
    # Opening would decode a frame to learn what the first frame tells anyway: half of the time for a clip.
    "skip_frame": "all",
}


@dataclass(frozen=True, slots=True)
class Boxes:
    """What the boxes of a whole file say of it."""

    is_fragmented: bool


def load_libraries() -> None:
    """Make the decoder quiet."""
    # It would print what it thinks of broken files.
    av.logging.set_level(None)


def inspect(file: BinaryIO, size: int) -> MediaFacts:
    """Read a clip. Raises ContentRefused."""
    boxes = read_boxes(file, size)
    try:
        with opened(file) as container:
            return _facts(container, size, boxes)
    except (ContentRefused, MemoryError):
        raise
    except Exception as error:
        # What a decoder raises for broken bytes is nowhere written down.
        raise _unreadable() from error


def opened(file: BinaryIO) -> Any:
    """Open a clip as an MP4 file and nothing else."""
    file.seek(0)
    return av.open(file, format="mp4", options=_OPTIONS)


def picture_stream(container: Any) -> Any:
    """Return the stream that is the clip. Raises ContentRefused for what has none, or one in another codec."""
    if len(container.streams) > STREAMS_MAX:
        raise _unreadable()
    streams = [one for one in container.streams.video if not one.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        raise ContentRefused("The file holds no moving picture", "文件中没有视频画面")
    stream = streams[0]
    codec = stream.codec_context.name if stream.codec_context is not None else ""
    if codec not in VIDEO_CODECS:
        raise ContentRefused(
            "The picture of the clip is neither H.264 nor H.265", "视频编码不是 H.264 或 H.265", found=codec
        )
    if stream.codec_context.width * stream.codec_context.height > FRAME_PIXELS_MAX:
        raise ContentRefused(
            f"The frames of the clip have more than {FRAME_PIXELS_MAX} pixels", f"视频画面像素超过 {FRAME_PIXELS_MAX}"
        )
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    stream.codec_context.skip_frame = "DEFAULT"
    return stream


def first_frame(container: Any, stream: Any) -> Any:
    """Return the next frame that can be decoded soundly. Raises ContentRefused when none comes soon."""
    for packet in islice(container.demux(stream), _PACKETS_MAX):
        try:
            for frame in packet.decode():
                if not frame.is_corrupt:
                    return frame
        except av.error.InvalidDataError:
            # The beginning may be damaged and the rest not.
            continue
    raise ContentRefused("No picture of the clip can be decoded", "视频中没有可解码的画面")


def displayed_size(stream: Any, frame: Any) -> tuple[int, int]:
    """Return width and height of a frame as it is displayed: with its shape of pixels, and turned."""
    width, height = frame.width, frame.height
    ratio = stream.sample_aspect_ratio
    if ratio:
        stretched = round(width * ratio)
        width = stretched if 0 < stretched <= SIDE_PX_MAX else width
    return (height, width) if frame.rotation % 180 else (width, height)


def read_boxes(file: BinaryIO, size: int) -> Boxes:
    """Walk the boxes of the file (ISO/IEC 14496-12, 4.2), which have to fill it exactly. Raises ContentRefused."""
    kinds: set[bytes] = set()
    for kind, length in _boxes(file, size):
        if not kinds and kind != b"ftyp":
            raise _unreadable()
        if kind == b"moov" and (kind in kinds or length > INDEX_BYTES_MAX):
            raise _unreadable()
        kinds.add(kind)
    if b"moov" not in kinds:
        raise ContentRefused(
            "The clip has no index (moov): the recording was broken off before it was finished",
            "视频缺少索引（moov）：录制未正常结束",
        )
    if b"mdat" not in kinds:
        raise ContentRefused("The clip holds no pictures", "视频中没有画面数据")
    return Boxes(is_fragmented=b"moof" in kinds)


def _boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int]]:
    place = 0
    for _ in range(BOXES_MAX):
        if place == size:
            return
        file.seek(place)
        header = file.read(16)
        if len(header) < 8:
            raise _cut_off(8 - len(header))
        length, kind = struct.unpack(">I4s", header[:8])
        if length == 1 and len(header) == 16:
            length = struct.unpack(">Q", header[8:])[0]
            least = 16
        elif length == 0 and kind == b"mdat":
            length, least = size - place, 8
        else:
            least = 8
        if length < least:
            raise _unreadable()
        if place + length > size:
            raise _cut_off(place + length - size)
        yield kind, length
        place += length
    raise _unreadable()


def _facts(container: Any, size: int, boxes: Boxes) -> MediaFacts:
    stream = picture_stream(container)
    if not boxes.is_fragmented:
        _check_index(container, size)
    frame = first_frame(container, stream)
    width, height = displayed_size(stream, frame)
    duration = _duration_of_packets(container, stream) if boxes.is_fragmented else _duration_of_index(container, stream)
    return MediaFacts(
        width_px=width,
        height_px=height,
        duration_milliseconds=duration,
        video_codec=stream.codec_context.name,
    )


def _check_index(container: Any, size: int) -> None:
    """Refuse a file whose index names pictures behind its end: it was cut off, and its last box says otherwise."""
    for stream in container.streams:
        entries = stream.index_entries
        count = len(entries)
        for at in {*range(0, count, max(count // _SAMPLED_ENTRIES, 1)), count - 1} if count else ():
            beyond = entries[at].pos + entries[at].size - size
            if beyond > 0:
                raise _cut_off(beyond)


def _duration_of_index(container: Any, stream: Any) -> int | None:
    if stream.duration and stream.time_base:
        milliseconds = round(stream.duration * stream.time_base * 1000)
    elif container.duration:
        milliseconds = round(container.duration * 1000 / av.time_base)
    else:
        return None
    return milliseconds if milliseconds > 0 else None


def _duration_of_packets(container: Any, stream: Any) -> int | None:
    """Add up what the fragments hold: their index says nothing of the whole, or what was planned."""
    container.seek(0, stream=stream)
    first: int | None = None
    end = 0
    for packet in container.demux(stream):
        if packet.pts is None:
            continue
        first = packet.pts if first is None else min(first, packet.pts)
        end = max(end, packet.pts + (packet.duration or 0))
    if first is None or not stream.time_base or end <= first:
        return None
    milliseconds: int = round((end - first) * stream.time_base * 1000)
    return milliseconds


def _cut_off(count: int) -> ContentRefused:
    return ContentRefused(
        f"The clip is cut off: at least {count} bytes are missing at its end", f"视频不完整：结尾至少缺少 {count} 字节"
    )


def _unreadable() -> ContentRefused:
    return ContentRefused("The clip cannot be read: its bytes are damaged", "视频无法读取：数据已损坏")
