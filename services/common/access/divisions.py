"""Which division lies below which: by the platform's own records, and without one by the GB/T 2260 code."""

import re
from collections.abc import Mapping
from typing import Final

_CODE: Final = re.compile(r"[0-9]{6}")
# Province, city, county: GB/T 2260 counts in pairs of digits, and 00 stands for the whole.
_STEPS: Final = (4, 2)
LEVELS_MAX: Final = 8
"""Steps from a county to its province: three in the standard; more only with zones in between, and never a circle."""


def code_above(code: str) -> str:
    """Return the division above by the code's digits (GB/T 2260): 141025 -> 141000 -> 140000 -> ""."""
    for digits in _STEPS:
        above = code[:digits].ljust(6, "0")
        if above != code:
            return above
    return ""


class Divisions:
    """The tree of divisions as one platform sees it. Immutable.

    `parents` holds what the platform itself has recorded: division code to the code above, empty for the top. What
    other platforms say of divisions must not be in it: it decides who may write whose data.
    """

    def __init__(self, parents: Mapping[str, str] | None = None) -> None:
        self._parents = dict(parents or {})

    def above(self, code: str) -> str:
        """Return the division directly above; empty at the top."""
        known = self._parents.get(code)
        return code_above(code) if known is None else known

    def is_within(self, code: str, division: str) -> bool:
        """Tell whether `code` is the division or lies below it. Never true for what is no code."""
        if not _CODE.fullmatch(code) or not _CODE.fullmatch(division):
            return False
        for _ in range(LEVELS_MAX):
            if code == division:
                return True
            code = self.above(code)
        return False
