"""The forms that single values must have. Each check returns what is wrong in English, or an empty text. Values that
are personal are never shown.
"""

import re
from typing import Final

from services.common.forms import Violation, division_code, shown, text
from services.enforcement.limits import (
    DIRECTIVE_ID_CHARACTERS_MAX,
    OFFICER_NAME_CHARACTERS_MAX,
    PHONE_NUMBER_CHARACTERS_MAX,
)

__all__ = [
    "MASK_CHARACTER",
    "NO",
    "NUMBER_DECIMALS_MAX",
    "NUMBER_DIGITS_MAX",
    "YES",
    "Violation",
    "directive_id",
    "division_code",
    "number",
    "person_name",
    "phone_number",
    "shown",
    "text",
    "yes_no",
]

MASK_CHARACTER: Final = "*"
"""Stands for characters of a name that its reader may not see: a name with it was read masked and is sent back."""

NUMBER_DIGITS_MAX: Final = 15
"""Digits of an answer that is a number (the contract): what a double holds without loss."""

NUMBER_DECIMALS_MAX: Final = 6
"""Digits behind the point of an answer that is a number (the contract): a gram in tonnes."""

YES: Final = "yes"
NO: Final = "no"
"""The two answers to a question that asks for one of them (the contract)."""

_ID: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{DIRECTIVE_ID_CHARACTERS_MAX}}}")
_PHONE_NUMBER: Final = re.compile(rf"(?=.{{1,{PHONE_NUMBER_CHARACTERS_MAX}}}\Z)\+?[0-9]+")
_NUMBER: Final = re.compile(rf"-?[0-9]{{1,{NUMBER_DIGITS_MAX}}}(\.[0-9]{{1,{NUMBER_DECIMALS_MAX}}})?")


def directive_id(value: str) -> str:
    """Check the id of a notice or duty check."""
    if _ID.fullmatch(value):
        return ""
    return f"is {shown(value)}, but must be 1 to {DIRECTIVE_ID_CHARACTERS_MAX} characters of A-Z a-z 0-9 _ -"


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
