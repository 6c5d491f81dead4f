"""What the service and an inspecting process say to each other.

The process reads bytes of strangers, so its words are not trusted: what is not written here is no answer.
"""

from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from services.video.media_types import (
    CONTENT_TYPES,
    SIDE_PX_MAX,
    VIDEO_CODECS,
    ContentRefused,
    Inspection,
    MediaFacts,
)

INSPECT: Final = "inspect"
"""Task: tell what the bytes are."""

DRAW: Final = "draw"
"""Task: draw poster and thumbnail."""

READY: Final[dict[str, Any]] = {"ready": True}
"""First word of a process: it has loaded what it needs."""

PACKET_BYTES_MAX: Final = 128 * 1024
"""Largest packet between the two: what fits the kernel's default buffer of a socket, 208 KiB, with its overhead."""

NUMBER_MAX: Final = 2**53
"""Largest number of an answer: 285,000 years of milliseconds, and what JSON keeps exactly."""

TEXT_MAX: Final = 500
"""Longest sentence of a refusal."""

PREVIEW_BYTES_MAX: Final = 1024 * 1024
"""Largest preview: 1,280 pixels wide at quality 80 it takes some 200 KB."""


def answer_with(inspection: Inspection) -> dict[str, Any]:
    """Put an inspection into plain values."""
    facts = asdict(inspection.facts)
    if inspection.facts.device_time is not None:
        facts["device_time"] = inspection.facts.device_time.isoformat()
    return {"content_type": inspection.content_type, "facts": facts}


def inspection_of(answer: dict[str, Any]) -> Inspection:
    """Take an inspection out of an answer. Raises ValueError for what no inspection says."""
    content_type, facts = answer.get("content_type"), answer.get("facts")
    if content_type not in CONTENT_TYPES or not isinstance(facts, dict):
        raise ValueError("not an inspection")
    codec = facts.get("video_codec")
    if codec != "" and codec not in VIDEO_CODECS:
        raise ValueError("not a codec")
    return Inspection(
        content_type,
        MediaFacts(
            width_px=_number(facts, "width_px", 1, SIDE_PX_MAX),
            height_px=_number(facts, "height_px", 1, SIDE_PX_MAX),
            duration_milliseconds=_number(facts, "duration_milliseconds", 0, NUMBER_MAX),
            video_codec=codec,
            page_count=_number(facts, "page_count", 1, 2**31 - 1),
            device_time=_time(facts.get("device_time")),
        ),
    )


def answer_refusing(refused: ContentRefused) -> dict[str, Any]:
    """Put a refusal into plain values."""
    return {"refused": [one[:TEXT_MAX] for one in (refused.message, refused.message_zh, refused.found)]}


def refusal_of(answer: dict[str, Any]) -> ContentRefused | None:
    """Take a refusal out of an answer; None if it is none. Raises ValueError for what no refusal says."""
    texts = answer.get("refused")
    if texts is None:
        return None
    if not isinstance(texts, list) or len(texts) != 3:
        raise ValueError("not a refusal")
    if not all(isinstance(one, str) and len(one) <= TEXT_MAX and one.isprintable() for one in texts):
        raise ValueError("not a sentence")
    return ContentRefused(texts[0], texts[1], found=texts[2])


def preview_sizes_of(answer: dict[str, Any]) -> list[int]:
    """Take the sizes of thumbnail and, of a clip, poster. Raises ValueError for what no drawing says."""
    sizes = answer.get("previews")
    if not isinstance(sizes, list) or len(sizes) not in (1, 2):
        raise ValueError("not previews")
    if not all(type(one) is int and 0 < one <= PREVIEW_BYTES_MAX for one in sizes):
        raise ValueError("not the size of a preview")
    return sizes


def _number(facts: dict[str, Any], name: str, least: int, most: int) -> int | None:
    value = facts.get(name)
    if value is None:
        return None
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name} is out of range")
    return value


def _time(value: Any) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("not a time")
    found = datetime.fromisoformat(value)
    if found.tzinfo is None:
        raise ValueError("a time without a zone")
    return found
