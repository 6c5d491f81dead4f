"""What is taken as evidence, what is read from it, and how a refusal of it is told. Knows no file and no library."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

JPEG: Final = "image/jpeg"
PNG: Final = "image/png"
MP4: Final = "video/mp4"
PDF: Final = "application/pdf"

CONTENT_TYPES: Final = (JPEG, PNG, MP4, PDF)
"""Media types that are taken, as `EvidenceDraft.content_type` says."""

PREVIEWED_TYPES: Final = frozenset((JPEG, PNG, MP4))
"""Media types of which a thumbnail is made; of documents none is."""

SIDE_PX_MAX: Final = 65_535
"""Longest side of a picture: JPEG has sixteen bits for it."""

VIDEO_CODECS: Final = ("h264", "hevc")
"""Codecs of the picture of a clip: H.264 and H.265, which every recorder of the trade writes and GB/T 28181 names."""


@dataclass(frozen=True, slots=True)
class MediaFacts:
    """What was read from the bytes themselves (`zhichao.video.v1.MediaFacts`); None is not known or does not apply."""

    width_px: int | None = None
    height_px: int | None = None
    duration_milliseconds: int | None = None
    video_codec: str = ""
    page_count: int | None = None
    device_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Inspection:
    """What bytes are: the media type found in them, and their facts."""

    content_type: str
    facts: MediaFacts = field(default_factory=MediaFacts)


class ContentRefused(Exception):  # noqa: N818 - reads as the fact it is
    """The bytes are not taken as evidence, whoever sends them and however often.

    `message` and `message_zh` are a sentence for a person and hold nothing of the platform's inside; `found` is what
    the bytes were recognised as, a media type or a word, empty when they were not.
    """

    def __init__(self, message: str, message_zh: str, *, found: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.message_zh = message_zh
        self.found = found


class InspectionUnavailable(Exception):  # noqa: N818 - as above
    """Nothing can be inspected now, whatever it is: no process could be started, or all stayed busy. Try again."""
