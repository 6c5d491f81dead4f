"""The forms that single values have in every service. Each check returns what is wrong in English, or an empty text.
Pure; standard library only.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from services.common.errors import FieldViolation, ServiceError, invalid

# \d would take the digits of every script.
_SIX_DIGITS: Final = re.compile(r"[0-9]{6}")

# Control characters, line and paragraph separators: they break displays, logs and CSV files.
_FORBIDDEN_CATEGORIES: Final = frozenset({"Cc", "Zl", "Zp", "Cs"})
# They make a text read differently from what it is (Unicode TR 36, bidirectional text spoofing).
_BIDIRECTIONAL_CONTROLS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")
_LINE_FEED: Final = "\n"

# What is shown of a bad value: enough to recognise it.
_SHOWN_CHARACTERS_MAX: Final = 40


class Violation(NamedTuple):
    """One bad field: its path within the message that holds it, and what is wrong with it."""

    field: str
    description: str


def described(checked: Iterable[tuple[str, str]]) -> list[Violation]:
    """Return what is wrong of fields that were checked: those whose description is not empty."""
    return [Violation(field, description) for field, description in checked if description]


def bad_fields(violations: Sequence[Violation], prefix: str = "") -> ServiceError:
    """Make the refusal of fields, all at once; the prefix is the request's field that holds them."""
    return invalid(prefixed(violations, prefix))


def prefixed(violations: Sequence[Violation], prefix: str) -> list[FieldViolation]:
    """Name bad fields by their paths in the request."""
    return [FieldViolation(prefix + violation.field, violation.description) for violation in violations]


def shown(value: str) -> str:
    """Return a value for a message: quoted, escaped and cut."""
    return repr(value if len(value) <= _SHOWN_CHARACTERS_MAX else value[:_SHOWN_CHARACTERS_MAX] + "…")


def division_code(value: str) -> str:
    """Check a code of a division or platform: six digits, as in GB/T 2260."""
    return "" if _SIX_DIGITS.fullmatch(value) else f"is {shown(value)}, but must be six digits, for example 141025"


def text(value: str, characters_max: int, *, is_required: bool = True, has_lines: bool = False) -> str:
    """Check a text that people read; its lines, if it may have several, end with a line feed."""
    if not value:
        return f"is missing; it takes 1 to {characters_max} characters" if is_required else ""
    if len(value) > characters_max:
        return f"has {len(value)} characters, but takes at most {characters_max}"
    for position, character in enumerate(value, 1):
        if character == _LINE_FEED and has_lines:
            continue
        if unicodedata.category(character) in _FORBIDDEN_CATEGORIES or character in _BIDIRECTIONAL_CONTROLS:
            return f"holds the control character U+{ord(character):04X} at position {position}"
    if value != value.strip():
        return "must not begin or end with white space"
    return ""
