"""Forms of single fields: what a code, an id, a date or a text looks like. Each check returns what is wrong, or an
empty string. Pure; standard library only.
"""

import re
import unicodedata
from collections.abc import Callable
from datetime import date
from typing import Any, Final, NamedTuple

ID_CHARACTERS_MAX: Final = 32
"""Ids of source units, weighing points and scales: a division code, a dash and a number take half of it."""

NAME_CHARACTERS_MAX: Final = 64
"""Names of divisions, platforms and weighing points; the longest division name in China has 15 characters."""

UNIT_NAME_CHARACTERS_MAX: Final = 128
"""Names of source units, issuers and models: registered company names stay below 100 characters."""

CERTIFICATE_NUMBER_CHARACTERS_MAX: Final = 64
"""Numbers of verification certificates; the institutes use 10 to 30 characters."""

SERIAL_NUMBER_CHARACTERS_MAX: Final = 64
"""Serial numbers of scales."""

ACCURACY_CLASS_CHARACTERS_MAX: Final = 16
"""Accuracy class as on the plate: `III` (JJG 539), `5` (JJG 907), `OIML R134 1/C`."""

CREDENTIAL_ID_CHARACTERS_MAX: Final = 64
"""Ids of credentials (the contract): a source unit's id with a suffix takes half of it."""

RULE_SET_ID_CHARACTERS_MAX: Final = 64
"""Ids of rule sets: a document, its year and a variant."""

PERSON_NAME_CHARACTERS_MAX: Final = 64
"""Names of persons, and of whoever holds a credential (the contract)."""

PHONE_NUMBER_CHARACTERS_MAX: Final = 20
"""Phone numbers: at most 15 digits (ITU-T E.164), an extension, and a plus."""

MASK_CHARACTER: Final = "*"
"""Stands for characters of a name that its reader may not see: a name with it was read masked and is sent back."""

DATE_MIN: Final = "1949-10-01"
"""Earliest date taken: the state whose codes these are is not older. It catches years typed with two digits."""

DATE_MAX: Final = "2999-12-31"
"""Latest date taken. It catches typing errors, and the `9999-12-31` of other systems: here empty means no end."""

SIX_DIGITS_EXAMPLE: Final = "141025"

# \d would take the digits of every script.
_SIX_DIGITS: Final = re.compile(r"[0-9]{6}")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_ID: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{ID_CHARACTERS_MAX}}}")
_PHONE_NUMBER: Final = re.compile(rf"(?=.{{1,{PHONE_NUMBER_CHARACTERS_MAX}}}\Z)\+?[0-9]+")
_CREDENTIAL_ID: Final = re.compile(rf"[a-z0-9-]{{1,{CREDENTIAL_ID_CHARACTERS_MAX}}}")
_RULE_SET_ID: Final = re.compile(rf"[a-z0-9-]{{1,{RULE_SET_ID_CHARACTERS_MAX}}}")

# Control characters, line and paragraph separators: they break displays, logs and CSV files.
_FORBIDDEN_CATEGORIES: Final = frozenset({"Cc", "Zl", "Zp", "Cs"})
# They make a name read differently from what it is (Unicode TR 36, bidirectional text spoofing).
_BIDIRECTIONAL_CONTROLS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")

# What is shown of a bad value: enough to recognise it.
_SHOWN_CHARACTERS_MAX: Final = 40

Form = Callable[[Any], str]
"""Checks one value; returns what is wrong with it in English, or an empty string."""


class Violation(NamedTuple):
    """One bad or doubtful field: its path within the resource, and what is wrong with it."""

    field: str
    description: str


def shown(value: str) -> str:
    """Return a value for a message: quoted, escaped and cut."""
    return repr(value if len(value) <= _SHOWN_CHARACTERS_MAX else value[:_SHOWN_CHARACTERS_MAX] + "…")


def division_code(value: str) -> str:
    """Check a code of a division or platform: six digits, as in GB/T 2260."""
    if _SIX_DIGITS.fullmatch(value):
        return ""
    return f"is {shown(value)}, but must be six digits, for example {SIX_DIGITS_EXAMPLE}"


def identifier(value: str) -> str:
    """Check the id of a source unit, weighing point or scale."""
    if _ID.fullmatch(value):
        return ""
    return f"is {shown(value)}, but must be 1 to {ID_CHARACTERS_MAX} characters of A-Z a-z 0-9 _ -"


def credential_id(value: str) -> str:
    """Check the id of a credential."""
    if _CREDENTIAL_ID.fullmatch(value):
        return ""
    return f"is {shown(value)}, but must be 1 to {CREDENTIAL_ID_CHARACTERS_MAX} characters of a-z 0-9 -"


def rule_set_id(value: str) -> str:
    """Check the id of a rule set."""
    if _RULE_SET_ID.fullmatch(value):
        return ""
    return f"is {shown(value)}, but must be 1 to {RULE_SET_ID_CHARACTERS_MAX} characters of a-z 0-9 -"


def rule_set_version(value: int) -> str:
    """Check the version of a rule set."""
    return "" if value >= 1 else f"is {value}, but versions begin at 1"


def day(value: str) -> str:
    """Check a date written as YYYY-MM-DD."""
    if _DATE.fullmatch(value) and DATE_MIN <= value <= DATE_MAX:
        try:
            date.fromisoformat(value)
        except ValueError:
            return f"is {shown(value)}, which is not in the calendar"
        return ""
    return f"is {shown(value)}, but must be a date YYYY-MM-DD from {DATE_MIN} to {DATE_MAX}"


def text(value: str, characters_max: int, *, is_required: bool) -> str:
    """Check a text that people read."""
    if not value:
        return f"is missing; it takes 1 to {characters_max} characters" if is_required else ""
    if len(value) > characters_max:
        return f"has {len(value)} characters, but takes at most {characters_max}"
    for position, character in enumerate(value):
        if unicodedata.category(character) in _FORBIDDEN_CATEGORIES or character in _BIDIRECTIONAL_CONTROLS:
            return f"holds the control character U+{ord(character):04X} at position {position + 1}"
    if value != value.strip():
        return f"is {shown(value)}, but must not begin or end with white space"
    return ""


def person_name(value: str) -> str:
    """Check the name of a person, or of a firm or terminal that holds a credential. The value itself is never shown."""
    if MASK_CHARACTER in value:
        return f"holds {MASK_CHARACTER}, which stands for characters that were masked; send the whole name"
    if value != value.strip():
        return "must not begin or end with white space"
    return text(value, PERSON_NAME_CHARACTERS_MAX, is_required=True)


def phone_number(value: str) -> str:
    """Check a phone number. The value itself is never shown."""
    if _PHONE_NUMBER.fullmatch(value):
        return ""
    return f"must be digits with an optional leading +, at most {PHONE_NUMBER_CHARACTERS_MAX} characters"


def optional(form: Form) -> Form:
    """Return the form that also takes an empty text."""

    def check(value: str) -> str:
        return form(value) if value else ""

    return check


def required_text(characters_max: int) -> Form:
    """Return the form of a text that must be there."""

    def check(value: str) -> str:
        return text(value, characters_max, is_required=True)

    return check
