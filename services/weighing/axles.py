"""Axles and axle groups: how axles form groups, what a group may carry, and what axles tell about a vehicle.

Limits of groups are generous where a fact is missing: a group is reported only when it is too heavy whatever the fact.
"""

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from services.weighing.rules import AxleGroupLimit

# Axles closer than this share a load as a group. GB 1589-2016 table 2 ends the tandems of trucks below 1,800 mm, and
# the two steering axles of four-axle trucks, which count singly, stand 1,800 mm apart or more.
GROUP_SPACING_BELOW_MM: Final = 1_800

# Limits of groups kept in memory; spacings are measured to the millimetre, so the combinations are many.
GROUP_LIMITS_CACHED_MAX: Final = 4_096

SINGLE: Final = "single"
DUAL: Final = "dual"

# Axles of a group by its code (domain table of axle-group codes: 1-2 single axle, 3-5 tandem, 6-7 tridem).
AXLES_BY_CODE: Final = {"1": 1, "2": 1, "3": 2, "4": 2, "5": 2, "6": 3, "7": 3}

# Tyres of a group by its code; code 4 has one axle of each.
TIRES_BY_CODE: Final = {"1": SINGLE, "2": DUAL, "3": SINGLE, "4": "", "5": DUAL, "6": SINGLE, "7": DUAL}


class TireArrangement(IntEnum):
    """How an axle is tyred, numbered as in `zhichao.weighing.v1.TireArrangement`."""

    UNSPECIFIED = 0
    SINGLE = 1
    DUAL = 2
    WIDE_SINGLE = 3


class Axle(NamedTuple):
    """One axle, from the front: load in kg, distance to the next axle in mm, tyres, and whether it is driven."""

    weight_kg: int | None = None
    spacing_mm: int | None = None
    tires: int = TireArrangement.UNSPECIFIED
    is_drive: bool | None = None


class AxleGroup(NamedTuple):
    """Axles that share a load. The spacing is the smallest within the group, because GB 1589 limits it from below."""

    first_axle: int
    axle_count: int
    spacing_mm: int | None
    tires: str
    is_drive: bool | None
    weight_kg: int | None


class AxleExcess(NamedTuple):
    """An axle or axle group above its limit; axles count from 1 at the front."""

    first_axle: int
    axle_count: int
    weight_kg: int
    limit_kg: int


class AxleCheck(NamedTuple):
    """What checking the groups found; the sum of their limits is absent when the limit of one is not known."""

    excesses: tuple[AxleExcess, ...]
    limit_sum_kg: int | None
    reasons: tuple[str, ...]


def count_axles(axle_group_codes: str) -> int:
    """Count the axles that group codes stand for; 0 when the codes are empty or not all known."""
    try:
        return sum([AXLES_BY_CODE[code] for code in axle_group_codes])
    except KeyError:
        return 0


def layout_of_codes(axle_group_codes: str) -> str:
    """Write group codes as a layout, `157` as `1+2+3`; empty when the codes are empty or not all known."""
    try:
        return "+".join([str(AXLES_BY_CODE[code]) for code in axle_group_codes])
    except KeyError:
        return ""


def layout_of_spacings(axles: Sequence[Axle]) -> str:
    """Write the layout that the spacings show; empty unless every spacing between axles is known."""
    if any(axle.spacing_mm is None for axle in axles[:-1]):
        return ""
    return "+".join(map(str, _sizes_by_spacing(axles)))


def group_axles(axles: Sequence[Axle], axle_group_codes: str) -> tuple[AxleGroup, ...]:
    """Divide axles into groups, by the codes where they suit the number of axles and else by the spacings.

    Across a spacing that is not known, axles count singly: that is the generous reading.
    """
    if axle_group_codes and count_axles(axle_group_codes) == len(axles):
        sizes = [AXLES_BY_CODE[code] for code in axle_group_codes]
        tires_by_codes = [TIRES_BY_CODE[code] for code in axle_group_codes]
    else:
        sizes = _sizes_by_spacing(axles)
        tires_by_codes = [""] * len(sizes)
    groups = []
    first = 0
    for size, tires_by_code in zip(sizes, tires_by_codes, strict=True):
        if size == 1:
            weight_kg, _, tires, is_drive = axles[first]
            group = AxleGroup(first + 1, 1, None, _TIRES.get(tires, "") or tires_by_code, is_drive, weight_kg)
        else:
            group = _group(first, axles[first : first + size], tires_by_code)
        groups.append(group)
        first += size
    return tuple(groups)


def count_drive_axles(axles: Sequence[Axle]) -> int | None:
    """Count the driven axles; absent unless it is known of every axle and at least one is driven."""
    driven = [axle.is_drive for axle in axles]
    return None if None in driven else driven.count(True) or None


def find_dual_drive_tires(axles: Sequence[Axle], axle_group_codes: str) -> bool | None:
    """Say whether the drive axles have dual tyres, by the axles or else by the group codes; absent when not known."""
    tires = {axle.tires for axle in axles if axle.is_drive}
    if tires and TireArrangement.UNSPECIFIED not in tires:
        return tires == {TireArrangement.DUAL}
    if not axle_group_codes:
        return None
    # Steering axles come first and have single tyres; the first group of another kind holds the drive axles. A tandem
    # of one single-tyred and one dual-tyred axle (4) is a lifting axle beside a driven one.
    drive_group = next((code for code in axle_group_codes[1:] if code != "1"), "1")
    return drive_group in "2457"


def find_single_tires(groups: Iterable[AxleGroup], *, is_combination: bool) -> bool | None:
    """Say whether a non-drive group or a trailer axle has single tyres; absent unless an axle group shows it.

    The front group steers and never counts. A single axle counts only behind the driven ones of a combination, where it
    is a trailer's (Order 62 article 3 names groups of two and three axles and all axles of trailers).
    """
    is_behind_drive = False
    for group in groups:
        is_trailer_axle = is_combination and is_behind_drive
        is_counted = group.first_axle > 1 and (group.axle_count > 1 or is_trailer_axle)
        if group.is_drive is False and group.tires == SINGLE and is_counted:
            return True
        is_behind_drive = is_behind_drive or group.is_drive is True
    return None


class AxleLimits:
    """The limits of axle groups of one rule set, with the limits found kept in memory."""

    def __init__(self, rows: Sequence[AxleGroupLimit]) -> None:
        self._rows = tuple(rows)
        self._limits: dict[tuple[int, int | None, str, bool | None, bool], AxleGroupLimit | None] = {}

    def find(self, group: AxleGroup, *, has_air_suspension: bool) -> AxleGroupLimit | None:
        """Find the row for a group; the most generous of those that may fit, none when no row can."""
        key = (group.axle_count, group.spacing_mm, group.tires, group.is_drive, has_air_suspension)
        try:
            return self._limits[key]
        except KeyError:
            pass
        found = self._find(group, has_air_suspension=has_air_suspension)
        if len(self._limits) >= GROUP_LIMITS_CACHED_MAX:
            self._limits.clear()
        self._limits[key] = found
        return found

    def check(self, groups: Iterable[AxleGroup], *, has_air_suspension: bool) -> AxleCheck:
        """Compare every weighed group with its limit, and add the limits up."""
        excesses: list[AxleExcess] = []
        reasons: list[str] = []
        limit_sum_kg: int | None = 0
        for group in groups:
            row = self.find(group, has_air_suspension=has_air_suspension)
            if row is None:
                limit_sum_kg = None
                continue
            if limit_sum_kg is not None:
                limit_sum_kg += row.limit_kg
            if group.weight_kg is not None and group.weight_kg > row.limit_kg:
                excesses.append(AxleExcess(group.first_axle, group.axle_count, group.weight_kg, row.limit_kg))
                if row.code not in reasons:
                    reasons.append(row.code)
        return AxleCheck(tuple(excesses), limit_sum_kg, tuple(reasons))

    def _find(self, group: AxleGroup, *, has_air_suspension: bool) -> AxleGroupLimit | None:
        best: AxleGroupLimit | None = None
        for row in self._rows:
            fits = _fits(row, group, has_air_suspension=has_air_suspension)
            if fits is False:
                continue
            if best is None or row.limit_kg > best.limit_kg:
                best = row
            if fits:
                # Rows are read in order: behind the first that surely fits none is reached.
                break
        return best


def _fits(row: AxleGroupLimit, group: AxleGroup, *, has_air_suspension: bool) -> bool | None:
    """Say whether a row fits a group; None when a missing fact decides."""
    if row.axle_count != group.axle_count or (row.has_air_suspension and not has_air_suspension):
        return False
    if (row.tires and group.tires and row.tires != group.tires) or (row.is_drive and group.is_drive is False):
        return False
    is_sure = not (row.tires and not group.tires) and not (row.is_drive and group.is_drive is None)
    if row.spacing_min_mm or row.spacing_max_mm:
        if group.spacing_mm is None:
            is_sure = False
        elif group.spacing_mm < row.spacing_min_mm or 0 < row.spacing_max_mm < group.spacing_mm:
            return False
    return True if is_sure else None


# A wide single tyre carries what two tyres carry (GB 1589-2016 table 2, notes).
_TIRES: Final = {
    int(TireArrangement.UNSPECIFIED): "",
    int(TireArrangement.SINGLE): SINGLE,
    int(TireArrangement.DUAL): DUAL,
    int(TireArrangement.WIDE_SINGLE): DUAL,
}


def _sizes_by_spacing(axles: Sequence[Axle]) -> list[int]:
    sizes = [1] if axles else []
    for axle in axles[:-1]:
        if axle.spacing_mm is not None and axle.spacing_mm < GROUP_SPACING_BELOW_MM:
            sizes[-1] += 1
        else:
            sizes.append(1)
    return sizes


def _group(first: int, axles: Sequence[Axle], tires_by_code: str) -> AxleGroup:
    weights = [axle.weight_kg for axle in axles]
    spacings = [axle.spacing_mm for axle in axles[:-1] if axle.spacing_mm is not None]
    tires = {_TIRES.get(axle.tires, "") for axle in axles}
    driven = [axle.is_drive for axle in axles]
    return AxleGroup(
        first_axle=first + 1,
        axle_count=len(axles),
        spacing_mm=min(spacings) if spacings else None,
        tires=tires_by_code if "" in tires else (tires.pop() if len(tires) == 1 else ""),
        is_drive=True if True in driven else (None if None in driven else False),
        weight_kg=None if None in weights else sum([weight for weight in weights if weight is not None]),
    )
