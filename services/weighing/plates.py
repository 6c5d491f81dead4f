"""Number plates: normal form and known forms, and what colours there are.

A plate of no known form is kept and flagged, never refused: the forms are tolerant and still not complete.
"""

import re
import unicodedata
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import Final

# The 31 provincial abbreviations on plates (GA 36).
PROVINCES: Final = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"

# What sites write when there is no plate or none was read. Typical, not from a standard; a missing plate is a fact.
NO_PLATE_TEXTS: Final = frozenset(
    {"无", "无牌", "无牌车", "无车牌", "无号牌", "未识别", "未知", "车牌未识别", "NULL", "NONE", "UNKNOWN"}
)

# Spaces are what str.isspace() says and characters without width; dots are the full stop and every middle dot in use.
_INVISIBLE: Final = "\u00ad\u200b\u200c\u200d\u2060\ufeff"
_DOTS: Final = ".\u00b7\u2022\u2024\u2027\u2219\u22c5\u25cf\u25e6\u30fb\u16eb"
_STRIPPED: Final = re.compile(rf"[\s{_INVISIBLE}{_DOTS}]+")

# Already normal: Chinese characters, capitals and digits. Nearly every plate; spares the Unicode tables.
_NORMAL: Final = re.compile(r"[\u4e00-\u9fff]?[A-Z0-9]{4,8}[\u4e00-\u9fff]?")


# Plates kept with what was found about them: a county's trucks come back several times a day.
PLATES_CACHED_MAX: Final = 16_384


class PlateColor(IntEnum):
    """Colour of a plate, numbered as in `zhichao.weighing.v1.PlateColor`."""

    UNSPECIFIED = 0
    BLUE = 1
    YELLOW = 2
    BLACK = 3
    WHITE = 4
    GREEN = 5
    GRADIENT_GREEN = 6
    YELLOW_GREEN = 7
    OTHER = 8


class PlateForm(StrEnum):
    """Form of a plate number."""

    ORDINARY = "ordinary"
    NEW_ENERGY_SMALL = "new-energy-small"
    NEW_ENERGY_LARGE = "new-energy-large"
    TRAILER = "trailer"
    SPECIAL = "special"
    EMERGENCY = "emergency"
    ARMED_POLICE = "armed-police"
    MILITARY = "military"
    DIPLOMATIC = "diplomatic"
    TRACTOR = "tractor"


# Letters and digits on plates leave out I and O (GA 36). The letters for new energy are D and F and, where these ran
# out, A to K.
_LETTER: Final = "[A-HJ-NP-Z]"
_SIGN: Final = "[0-9A-HJ-NP-Z]"
_ENERGY: Final = "[A-HJK]"
_OFFICE: Final = f"[{PROVINCES}]{_LETTER}"

PLATE_FORMS: Final = {
    PlateForm.ORDINARY: rf"{_OFFICE}{_SIGN}{{5}}",
    PlateForm.NEW_ENERGY_SMALL: rf"{_OFFICE}{_ENERGY}{_SIGN}[0-9]{{4}}",
    PlateForm.NEW_ENERGY_LARGE: rf"{_OFFICE}[0-9]{{5}}{_ENERGY}",
    PlateForm.TRAILER: rf"{_OFFICE}{_SIGN}{{4}}挂",
    # Police, learner, oversize, test, Hong Kong and Macau, consulate, temporary.
    PlateForm.SPECIAL: rf"{_OFFICE}{_SIGN}{{4,5}}[警学超试港澳领临]",
    PlateForm.EMERGENCY: rf"[{PROVINCES}]{_LETTER}[0-9]{{4}}应急",
    PlateForm.ARMED_POLICE: rf"WJ[{PROVINCES}]?{_SIGN}{{4,6}}",
    # Two letters and five digits since 2013, the first letter for the branch; before, a Chinese character and a letter.
    PlateForm.MILITARY: rf"(?:[VKHBSLJNGCEZ]{_LETTER}|[军空海北沈兰济南广成]{_LETTER})[0-9]{{5}}",
    PlateForm.DIPLOMATIC: r"使[0-9]{6}|[0-9]{6}使",
    # Tractors and farm vehicles: province, two digits for the county, five signs.
    PlateForm.TRACTOR: rf"[{PROVINCES}][0-9]{{2}}{_SIGN}{{5}}",
}

# One alternation for all forms; the groups are numbered in the order of PLATE_FORMS.
_ANY_FORM: Final = re.compile("|".join(f"({form})" for form in PLATE_FORMS.values()))
_FORM_BY_GROUP: Final = (None, *PLATE_FORMS)


@lru_cache(PLATES_CACHED_MAX)
def normalize_plate(raw: str) -> str:
    """Normalise a plate number: NFKC, upper case, no spaces and dots; empty when it says that there is no plate.

    Normalising twice changes nothing. Up to 16 characters can become some hundreds by NFKC; nothing is cut off.
    """
    if _NORMAL.fullmatch(raw):
        return "" if raw in NO_PLATE_TEXTS else raw
    number = raw
    # Upper case can undo NFKC and the other way round; the second round settles it for every character of Unicode.
    for _ in range(2):
        number = _STRIPPED.sub("", unicodedata.normalize("NFKC", number).upper())
    number = unicodedata.normalize("NFKC", number)
    return "" if number in NO_PLATE_TEXTS else number


def plate_form(number: str) -> PlateForm | None:
    """Find the form of a normalised plate number; None when it has no known one."""
    match = _ANY_FORM.fullmatch(number)
    return None if match is None or match.lastindex is None else _FORM_BY_GROUP[match.lastindex]


@lru_cache(PLATES_CACHED_MAX)
def has_known_form(number: str) -> bool:
    """Say whether a normalised plate number has a known form."""
    return _ANY_FORM.fullmatch(number) is not None
