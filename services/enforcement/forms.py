"""The forms that single values must have. Each check returns what is wrong in English, or an empty text. Values that
are personal are never shown.
"""

import re
import unicodedata
from typing import Final, NamedTuple

from services.enforcement.limits import (
    DIRECTIVE_ID_CHARACTERS_MAX,
    OFFICER_NAME_CHARACTERS_MAX,
    PHONE_NUMBER_CHARACTERS_MAX,
)

MASK_CHARACTER: Final = "*"
"""Stands for characters of a name that its reader may not see: a name with it was read masked and is sent back."""

NUMBER_DIGITS_MAX: Final = 15
"""Digits of an answer that is a number (the contract): what a double holds without loss."""

NUMBER_DECIMALS_MAX: Final = 6
"""Digits behind the point of an answer that is a number (the contract): a gram in tonnes."""

YES: Final = "yes"
NO: Final = "no"
"""The two answers to a question that asks for one of them (the contract)."""

# \d would take the digits of every script.
_SIX_DIGITS: Final = re.compile(r"[0-9]{6}")
_ID: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{DIRECTIVE_ID_CHARACTERS_MAX}}}")
_PHONE_NUMBER: Final = re.compile(rf"(?=.{{1,{PHONE_NUMBER_CHARACTERS_MAX}}}\Z)\+?[0-9]+")
_NUMBER: Final = re.compile(rf"-?[0-9]{{1,{NUMBER_DIGITS_MAX}}}(\.[0-9]{{1,{NUMBER_DECIMALS_MAX}}})?")

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


def shown(value: str) -> str:
    """Return a value for a message: quoted, escaped and cut."""
    return repr(value if len(value) <= _SHOWN_CHARACTERS_MAX else value[:_SHOWN_CHARACTERS_MAX] + "…")


def division_code(value: str) -> str:
    """Check a code of a division or platform: six digits, as in GB/T 2260."""
    return "" if _SIX_DIGITS.fullmatch(value) else f"is {shown(value)}, but must be six digits, for example 141025"


def directive_id(value: str) -> str:
    """Check the id of a notice or duty check."""
    if _ID.fullmatch(value):
        return ""
    return f"is {shown(value)}, but must be 1 to {DIRECTIVE_ID_CHARACTERS_MAX} characters of A-Z a-z 0-9 _ -"


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


def person_name(value: str) -> str:
    """Check the name of an officer."""
    if MASK_CHARACTER in value:
        return f"holds {MASK_CHARACTER}, which stands for characters that were masked; send the whole name"
    return text(value, OFFICER_NAME_CHARACTERS_MAX)


def phone_number(value: str) -> str:
    """Check a phone number; empty when not given."""
    if not value or _PHONE_NUMBER.fullmatch(value):
        return ""
    return f"must be digits with an optional leading +, at most {PHONE_NUMBER_CHARACTERS_MAX} characters"


def number(value: str) -> str:
    """Check an answer that must be a number."""
    if _NUMBER.fullmatch(value):
        return ""
    return (
        f"is {shown(value)}, but the question asks for a number: at most {NUMBER_DIGITS_MAX} digits, and "
        f"{NUMBER_DECIMALS_MAX} behind the point"
    )


def yes_no(value: str) -> str:
    """Check an answer that must be yes or no."""
    return "" if value in (YES, NO) else f"is {shown(value)}, but the question asks for {YES} or {NO}"
