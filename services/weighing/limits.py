"""The gross limit of a vehicle: from what is known of it to a conservative and a lenient limit with the reasons.

A fact that is not known may be anything that the rule set distinguishes. Each possibility is looked up like a known
vehicle; the lowest limit found is the conservative one and the highest the lenient one.
"""

from collections.abc import Iterable, Sequence
from enum import IntEnum
from itertools import product
from typing import Final, NamedTuple

from services.weighing.axles import (
    Axle,
    AxleGroup,
    count_axles,
    count_drive_axles,
    find_dual_drive_tires,
    find_single_tires,
    layout_of_codes,
    layout_of_spacings,
)
from services.weighing.rules import AirSuspensionLimit, GrossLimit, LimitModifiers, RuleSet


class VehicleClass(IntEnum):
    """Class of a vehicle, numbered as in `zhichao.weighing.v1.VehicleClass`."""

    UNSPECIFIED = 0
    RIGID_TRUCK = 1
    ARTICULATED = 2
    FULL_TRAILER = 3
    CENTER_AXLE_TRAILER = 4
    COMBINATION = 5
    LOW_SPEED = 6


# How rule sets name the kinds of combinations; the names are fixed by the proto comment of GrossLimit.
KIND_BY_CLASS: Final[dict[int, str]] = {
    VehicleClass.ARTICULATED: "articulated",
    VehicleClass.FULL_TRAILER: "full-trailer",
    VehicleClass.CENTER_AXLE_TRAILER: "center-axle-trailer",
}
COMBINATION_KINDS: Final = tuple(KIND_BY_CLASS.values())
COMBINATION_CLASSES: Final[frozenset[int]] = frozenset({*KIND_BY_CLASS, VehicleClass.COMBINATION})

# A two-axle rigid truck has a steering and a drive axle, so neither a group nor a trailer axle whose tyres could count
# (Order 62 article 3).
SINGLE_TIRES_RIGID_AXLES_MIN: Final = 3

# Group codes of tandems and tridems with single tyres; they do not tell wide tyres apart.
SINGLE_TIRED_GROUP_CODES: Final = frozenset("36")

# A combination stands on a steering, a drive and a trailer axle at least, each in a group of its own.
COMBINATION_GROUPS_MIN: Final = 3

# Reasons that are not codes of the rule set's rows. docs/rules.md explains each.
AXLE_COUNT_UNKNOWN: Final = "axle-count-unknown"
CLASS_UNKNOWN: Final = "class-unknown"
CLASS_CONTRADICTS_LAYOUT: Final = "class-contradicts-layout"
COMBINATION_KIND_UNKNOWN: Final = "combination-kind-unknown"
LAYOUT_UNKNOWN: Final = "axle-layout-unknown"
DRIVE_AXLES_UNKNOWN: Final = "drive-axles-unknown"
NO_ROW_FOR_CLASS: Final = "no-row-for-class"
NO_ROW: Final = "no-row"
AIR_SUSPENSION: Final = "air-suspension"
AIR_SUSPENSION_INCOMPLETE: Final = "air-suspension-incomplete"
SINGLE_TIRES: Final = "single-tires"
SINGLE_TIRES_WIDTH_UNKNOWN: Final = "single-tires-width-unknown"
REGISTERED_MASS: Final = "registered-mass"
REGISTERED_MASS_UNKNOWN: Final = "registered-mass-unknown"
LOW_SPEED_REGISTERED_MASS: Final = "low-speed-registered-mass"
AXLE_LIMITS: Final = "axle-limits"
PERMIT: Final = "permit"


class VehicleFacts(NamedTuple):
    """What is known of a vehicle that decides its row. Hashable: it is the key under which limits are kept.

    The first six fields are what a record says. The last three come from its axles (`with_axles`).
    """

    vehicle_class: int = VehicleClass.UNSPECIFIED
    axle_count: int | None = None
    axle_group_codes: str = ""
    drive_axle_count: int | None = None
    has_air_suspension: bool | None = None
    has_single_tires: bool | None = None
    axle_layout: str = ""
    has_dual_drive_tires: bool | None = None
    trailer_spacing_mm: int | None = None


class Candidate(NamedTuple):
    """A limit that holds if the missing facts are of one kind."""

    limit_kg: int
    code: str
    is_capped_by_registered_mass: bool


class Limits(NamedTuple):
    """The limits of a vehicle, kg.

    Both are absent when nothing is known that a limit could be taken from. The conservative one alone is absent when
    the registered mass is the limit and is not known: the rows give no more than its upper bound.
    """

    conservative_kg: int | None
    lenient_kg: int | None
    reasons: tuple[str, ...]
    candidates: tuple[Candidate, ...] = ()
    is_registered_mass: bool = False

    @property
    def registered_mass_matters_below_kg(self) -> int | None:
        """A registered mass below this changes the limits; absent when any does."""
        if self.is_registered_mass:
            return None
        return max(
            (candidate.limit_kg for candidate in self.candidates if candidate.is_capped_by_registered_mass), default=0
        )


def with_axles(facts: VehicleFacts, axles: Sequence[Axle], groups: Iterable[AxleGroup]) -> VehicleFacts:
    """Add what the axles show to facts that the record left open; what the record says stands."""
    codes = facts.axle_group_codes
    axle_count = facts.axle_count or len(axles)
    drive_axle_count = facts.drive_axle_count
    if drive_axle_count is None:
        drive_axle_count = count_drive_axles(axles)
    single_tires = facts.has_single_tires
    if single_tires is None:
        single_tires = find_single_tires(groups, is_combination=facts.vehicle_class in COMBINATION_CLASSES)
    dual_drive_tires = None
    trailer_spacing_mm = None
    if facts.has_air_suspension:
        # Only then they matter; left out otherwise, they do not multiply the keys under which limits are kept.
        dual_drive_tires = find_dual_drive_tires(axles, codes)
        trailer_spacing_mm = axles[-2].spacing_mm if len(axles) > 1 else None
    return VehicleFacts(
        facts.vehicle_class,
        axle_count,
        codes,
        drive_axle_count,
        facts.has_air_suspension,
        single_tires,
        "" if codes else layout_of_spacings(axles),
        dual_drive_tires,
        trailer_spacing_mm,
    )


def find_limits(rule_set: RuleSet, facts: VehicleFacts) -> Limits:
    """Find the gross limits of a vehicle, without its registered mass, axle limits and permit.

    Takes some 20 µs, because it tries every possibility: keep the answer.
    """
    if facts.vehicle_class == VehicleClass.LOW_SPEED:
        limits = find_limits(rule_set, facts._replace(vehicle_class=VehicleClass.UNSPECIFIED))
        if not rule_set.modifiers.is_low_speed_by_registered_mass:
            return limits
        return Limits(None, limits.lenient_kg, (*limits.reasons, REGISTERED_MASS_UNKNOWN), is_registered_mass=True)

    axle_count = facts.axle_count or count_axles(facts.axle_group_codes)
    if not axle_count:
        return Limits(None, None, (AXLE_COUNT_UNKNOWN,))
    rows = [row for row in rule_set.gross_limits if row.includes_axle_count(axle_count)]
    layout = facts.axle_layout or layout_of_codes(facts.axle_group_codes)
    found = _rows_by_possibility(rows, facts, layout)
    reasons = _open_facts(found, facts.vehicle_class)
    if not found:
        found = _rows_of_other_classes(rule_set, rows, facts, axle_count, layout)
        reasons = [NO_ROW_FOR_CLASS]
    if not found:
        return Limits(None, None, (NO_ROW,))

    candidates: list[Candidate] = []
    changes: list[str] = []
    for row in dict.fromkeys(found.values()):
        limits_of_row, changes_of_row = _modified(row, rule_set.modifiers, facts, axle_count)
        candidates += [Candidate(limit, row.code, row.is_capped_by_registered_mass) for limit in limits_of_row]
        changes += changes_of_row
    strict = min(candidates, key=lambda candidate: candidate.limit_kg)
    generous = max(candidates, key=lambda candidate: candidate.limit_kg)
    if strict.limit_kg == generous.limit_kg:
        generous = strict
    return Limits(
        strict.limit_kg,
        generous.limit_kg,
        tuple(dict.fromkeys([strict.code, generous.code, *reasons, *changes])),
        tuple(candidates),
    )


def with_registered_mass(limits: Limits, registered_mass_kg: int) -> Limits:
    """Lower limits to the registered total mass where it caps them.

    For a low-speed vehicle the registered mass is the limit, but never above what the table allows a truck of as many
    axles: a mass above that is not believed.
    """
    if limits.is_registered_mass:
        upper_kg = limits.lenient_kg
        limit_kg = registered_mass_kg if upper_kg is None else min(upper_kg, registered_mass_kg)
        return Limits(limit_kg, limit_kg, (LOW_SPEED_REGISTERED_MASS,))
    lowered = [
        min(candidate.limit_kg, registered_mass_kg) if candidate.is_capped_by_registered_mass else candidate.limit_kg
        for candidate in limits.candidates
    ]
    if not lowered or (min(lowered), max(lowered)) == (limits.conservative_kg, limits.lenient_kg):
        return limits
    return Limits(min(lowered), max(lowered), (*limits.reasons, REGISTERED_MASS))


def with_axle_limits(limits: Limits, limit_sum_kg: int) -> Limits:
    """Lower limits to the sum of the axle limits (Order 62 article 3)."""
    conservative_kg, lenient_kg = limits.conservative_kg, limits.lenient_kg
    if lenient_kg is None or max(lenient_kg, conservative_kg or 0) <= limit_sum_kg:
        return limits
    conservative_kg = None if conservative_kg is None else min(conservative_kg, limit_sum_kg)
    return Limits(conservative_kg, min(lenient_kg, limit_sum_kg), (*limits.reasons, AXLE_LIMITS))


def with_permit(permitted_mass_kg: int) -> Limits:
    """Take the permitted mass as the limit, whatever the vehicle."""
    return Limits(permitted_mass_kg, permitted_mass_kg, (PERMIT,))


class _Possibility(NamedTuple):
    """One way in which the missing facts may be: kind of combination (none: rigid), layout and drive axles.

    A layout or number of drive axles that no row names is all one: none.
    """

    kind: str | None
    layout: str | None
    drive_axle_count: int | None


def _rows_by_possibility(
    rows: Sequence[GrossLimit], facts: VehicleFacts, layout: str
) -> dict[_Possibility, GrossLimit]:
    """Find the row of every possibility that has one."""
    kinds: list[str | None]
    has_few_groups = bool(layout) and layout.count("+") + 1 < COMBINATION_GROUPS_MIN
    has_rigid_layout = has_few_groups and any(row.is_rigid for row in rows)
    if facts.vehicle_class == VehicleClass.RIGID_TRUCK:
        kinds = [None]
    elif facts.vehicle_class in COMBINATION_CLASSES:
        kinds = [KIND_BY_CLASS[facts.vehicle_class]] if facts.vehicle_class in KIND_BY_CLASS else [*COMBINATION_KINDS]
        if has_rigid_layout:
            # The class or the layout is wrong, and calling a rigid truck a combination raises its limit.
            kinds.append(None)
    else:
        kinds = [None] if has_rigid_layout else [None, *COMBINATION_KINDS]
    layouts = [layout] if layout else [None, *dict.fromkeys(row.axle_layout for row in rows if row.axle_layout)]
    drives = (
        [None, *dict.fromkeys(row.drive_axle_count for row in rows if row.drive_axle_count)]
        if facts.drive_axle_count is None
        else [facts.drive_axle_count]
    )
    found = {}
    for possibility in map(_Possibility._make, product(kinds, layouts, drives)):
        row = next((row for row in rows if _fits(row, possibility)), None)
        if row is not None:
            found[possibility] = row
    return found


def _fits(row: GrossLimit, possibility: _Possibility) -> bool:
    return (
        row.is_rigid == (possibility.kind is None)
        and (not row.combination_kind or row.combination_kind == possibility.kind)
        and (not row.axle_layout or row.axle_layout == possibility.layout)
        and (not row.drive_axle_count or row.drive_axle_count == possibility.drive_axle_count)
    )


def _rows_of_other_classes(
    rule_set: RuleSet, rows: Sequence[GrossLimit], facts: VehicleFacts, axle_count: int, layout: str
) -> dict[_Possibility, GrossLimit]:
    """Find rows for a vehicle whose class has none for so many axles, such as a rigid truck of five.

    Either the class was misread, then the rows of the other classes hold; or the vehicle is of no lawful type, then it
    is not allowed more than its class allows with fewer axles. Both are kept, so that an officer decides.
    """
    found = _rows_by_possibility(
        rows, facts._replace(vehicle_class=VehicleClass.UNSPECIFIED, axle_layout=layout), layout
    )
    is_rigid = facts.vehicle_class == VehicleClass.RIGID_TRUCK
    smaller = [row for row in rule_set.gross_limits if row.is_rigid == is_rigid and 0 < row.axle_count_max < axle_count]
    if smaller:
        nearest = max(smaller, key=lambda row: (row.axle_count_max, row.limit_kg))
        found[_Possibility("", None, None)] = nearest
    return found


def _open_facts(found: dict[_Possibility, GrossLimit], vehicle_class: int) -> list[str]:
    """Name what leaves the limit open: possibilities that differ in nothing else differ in the limit."""
    class_reason = CLASS_UNKNOWN
    if vehicle_class in COMBINATION_CLASSES:
        has_rigid = any(possibility.kind is None for possibility in found)
        class_reason = CLASS_CONTRADICTS_LAYOUT if has_rigid else COMBINATION_KIND_UNKNOWN
    reasons = []
    for position, reason in enumerate((class_reason, LAYOUT_UNKNOWN, DRIVE_AXLES_UNKNOWN)):
        limits_by_rest: dict[tuple[object, ...], set[int]] = {}
        for possibility, row in found.items():
            rest = possibility[:position] + possibility[position + 1 :]
            limits_by_rest.setdefault(rest, set()).add(row.limit_kg)
        if any(len(limits) > 1 for limits in limits_by_rest.values()):
            reasons.append(reason)
    return reasons


def _modified(
    row: GrossLimit, modifiers: LimitModifiers, facts: VehicleFacts, axle_count: int
) -> tuple[list[int], list[str]]:
    """Apply air suspension and single tyres to a row's limit; two limits where half of what decides is known.

    What nobody states does not apply: Order 62 counts all tyres as dual ones unless they are not, and air suspension is
    an allowance that the vehicle has to have.
    """
    limits = [row.limit_kg]
    changes = []
    if facts.has_air_suspension:
        for allowance in modifiers.air_suspension_limits:
            if allowance.gross_limit_code == row.code:
                has_allowance = _has_air_suspension_allowance(allowance, facts)
                if has_allowance:
                    limits = [allowance.limit_kg]
                    changes = [AIR_SUSPENSION]
                elif has_allowance is None:
                    limits = [row.limit_kg, allowance.limit_kg]
                    changes = [AIR_SUSPENSION_INCOMPLETE]
                break
    if modifiers.single_tires_reduction_kg and not (row.is_rigid and axle_count < SINGLE_TIRES_RIGID_AXLES_MIN):
        lowered = [limit_kg - modifiers.single_tires_reduction_kg for limit_kg in limits]
        if facts.has_single_tires:
            limits = lowered
            changes.append(SINGLE_TIRES)
        elif facts.has_single_tires is None and SINGLE_TIRED_GROUP_CODES.intersection(facts.axle_group_codes[1:]):
            limits += lowered
            changes.append(SINGLE_TIRES_WIDTH_UNKNOWN)
    return limits, changes


def _has_air_suspension_allowance(allowance: AirSuspensionLimit, facts: VehicleFacts) -> bool | None:
    """Say whether the allowance holds for a vehicle with air suspension; None when tyres or spacing are not known."""
    has_dual_tires = facts.has_dual_drive_tires
    if has_dual_tires is None and facts.axle_group_codes:
        has_dual_tires = find_dual_drive_tires((), facts.axle_group_codes)
    spacing_mm = facts.trailer_spacing_mm
    if has_dual_tires is False or (spacing_mm is not None and spacing_mm < allowance.trailer_spacing_min_mm):
        return False
    if has_dual_tires is None or (spacing_mm is None and allowance.trailer_spacing_min_mm):
        return None
    return True
