"""The forms that single values of evidence must have. Each check returns what is wrong in English, or an empty text."""

import re
from typing import Final

from services.common.forms import Violation, division_code, shown, text
from services.video.limits import (
    CAMERA_ID_CHARACTERS_MAX,
    DIGEST_BYTES,
    EVIDENCE_ID_CHARACTERS_MAX,
    PURPOSE_CHARACTERS_MAX,
    RECORD_ID_CHARACTERS_MAX,
    REFERENCE_ID_CHARACTERS_MAX,
    SOURCE_UNIT_ID_CHARACTERS_MAX,
)

__all__ = [
    "Violation",
    "camera_id",
    "digest",
    "division_code",
    "evidence_id",
    "purpose",
    "record_id",
    "reference_id",
    "shown",
    "source_unit_id",
    "text",
]

_UNIT_ID: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{SOURCE_UNIT_ID_CHARACTERS_MAX}}}")
_EVIDENCE_ID: Final = re.compile(rf"[A-Za-z0-9._:-]{{1,{EVIDENCE_ID_CHARACTERS_MAX}}}")
_RECORD_ID: Final = re.compile(rf"[A-Za-z0-9._:-]{{1,{RECORD_ID_CHARACTERS_MAX}}}")
_REFERENCE_ID: Final = re.compile(rf"[A-Za-z0-9._:-]{{1,{REFERENCE_ID_CHARACTERS_MAX}}}")


def source_unit_id(value: str) -> str:
    """Check the id of a source unit."""
    if _UNIT_ID.fullmatch(value):
        return ""
    return f"is {shown(value)}, but must be 1 to {SOURCE_UNIT_ID_CHARACTERS_MAX} characters of A-Z a-z 0-9 _ -"


def evidence_id(value: str) -> str:
    """Check the id of evidence."""
    return "" if _EVIDENCE_ID.fullmatch(value) else _no_id(value, EVIDENCE_ID_CHARACTERS_MAX)


def record_id(value: str) -> str:
    """Check the id of a weighing or an acceptance."""
    return "" if _RECORD_ID.fullmatch(value) else _no_id(value, RECORD_ID_CHARACTERS_MAX)


def reference_id(value: str) -> str:
    """Check the id of a hold, a bundle or a request."""
    return "" if _REFERENCE_ID.fullmatch(value) else _no_id(value, REFERENCE_ID_CHARACTERS_MAX)


def camera_id(value: str, *, is_required: bool = False) -> str:
    """Check the id of a camera."""
    return text(value, CAMERA_ID_CHARACTERS_MAX, is_required=is_required)


def digest(value: bytes) -> str:
    """Check a SHA-256 digest."""
    return "" if len(value) == DIGEST_BYTES else f"has {len(value)} bytes, but a SHA-256 digest has {DIGEST_BYTES}"


def purpose(value: str) -> str:
    """Check why somebody looks."""
    return text(value, PURPOSE_CHARACTERS_MAX)


def _no_id(value: str, characters_max: int) -> str:
    return f"is {shown(value)}, but must be 1 to {characters_max} characters of A-Z a-z 0-9 . _ : -"
