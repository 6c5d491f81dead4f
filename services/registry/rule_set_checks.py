"""The checks of a rule set before it is published: a version never changes, so a slip in it would judge for ever.

Works on the message by its attributes and imports nothing of protobuf. Meaning of the rows: docs/rules.md.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, Final

from services.registry import forms
from services.registry.forms import Violation

# Titles and sources are shown on one line or in one paragraph.
TITLE_CHARACTERS_MAX: Final = 128
SOURCE_DOCUMENT_CHARACTERS_MAX: Final = 512

# Rows of one table. The shipped sets have about ten; every row costs time at each vehicle seen for the first time.
ROWS_MAX: Final = 100

# A record has 2 to 20 axles (record.proto); a group 1 to 3 (axle-group codes).
AXLES_MIN: Final = 2
AXLES_MAX: Final = 20
GROUP_AXLES_MAX: Final = 3
DRIVE_AXLES_MAX: Final = 4

# Rows of the table that every set has to fill, because each of these vehicles exists (Order 62 article 3).
RIGID_AXLES_EXPECTED: Final = range(2, 5)
COMBINATION_AXLES_EXPECTED: Final = range(3, AXLES_MAX + 1)
COMBINATION_KINDS: Final = ("articulated", "full-trailer", "center-axle-trailer")

# Below a tonne lies no truck, above 200 t no weighing (record.proto); an axle bears at most a tenth of that.
GROSS_LIMIT_MIN_KG: Final = 1_000
GROSS_LIMIT_MAX_KG: Final = 200_000
AXLE_LIMIT_MIN_KG: Final = 500
AXLE_LIMIT_MAX_KG: Final = 60_000
# Order 62 subtracts 3,000 kg; more than twice that would be another rule.
REDUCTION_MAX_KG: Final = 10_000
SPACING_MAX_MM: Final = 30_000
# Other provinces judge with factors up to 1.2 per county.
TOLERANCE_MAX_PERMILLE: Final = 200
# A plausible overload rate ends at 450 %.
RATE_MAX_PERMILLE: Final = 4_500

# Numbers of registry.v1.ScaleKind that a scale can have.
SCALE_KINDS: Final = {1: "SCALE_KIND_STATIC", 2: "SCALE_KIND_DYNAMIC", 3: "SCALE_KIND_LOADING"}
TIRES: Final = ("", "single", "dual")

_CODE: Final = re.compile(r"[a-z0-9-]{1,64}")
_LAYOUT: Final = re.compile(r"[1-3](?:\+[1-3]){1,19}")


def validate_rule_set(rule_set: Any) -> list[Violation]:
    """Check a rule set; returns every violation, and none when it may be published.

    Besides each value it is checked that no row is hidden by one before it, that rows do not overlap by halves, and
    that every class of vehicle has a limit. Never raises for a `registry.v1.RuleSet`.
    """
    return [Violation(field, description) for field, description in _checks(rule_set) if description]


def _checks(rule_set: Any) -> Iterator[tuple[str, str]]:
    yield from _header(rule_set)
    rows = {
        "gross_limits": rule_set.gross_limits,
        "axle_group_limits": rule_set.axle_group_limits,
        "modifiers.air_suspension_limits": rule_set.modifiers.air_suspension_limits,
        "scale_tolerances": rule_set.scale_tolerances,
    }
    too_many = [
        (field, f"holds {len(of)} rows; it must hold at most {ROWS_MAX}")
        for field, of in rows.items()
        if len(of) > ROWS_MAX
    ]
    if too_many:
        # Rows are compared with each other: that is not done with a million.
        yield from too_many
        return
    gross_limits, axle_group_limits = rule_set.gross_limits, rule_set.axle_group_limits
    yield from _codes(gross_limits, axle_group_limits)
    for position, row in enumerate(gross_limits):
        yield from _gross_limit(f"gross_limits[{position}]", row)
    yield from _order(gross_limits)
    yield from _coverage(gross_limits)
    yield from _modifiers(rule_set.modifiers, gross_limits)
    for position, row in enumerate(axle_group_limits):
        yield from _axle_group_limit(f"axle_group_limits[{position}]", row)
    yield from _axle_order(axle_group_limits)
    yield from _tolerances(rule_set.scale_tolerances)
    yield from _bands(rule_set.severity_bands)


def _header(rule_set: Any) -> Iterator[tuple[str, str]]:
    yield "rule_set_id", forms.rule_set_id(rule_set.rule_set_id)
    yield "version", forms.rule_set_version(rule_set.version)
    yield "title", forms.text(rule_set.title, TITLE_CHARACTERS_MAX, is_required=True)
    yield "title_zh", forms.text(rule_set.title_zh, TITLE_CHARACTERS_MAX, is_required=True)
    yield "source_document", forms.text(rule_set.source_document, SOURCE_DOCUMENT_CHARACTERS_MAX, is_required=True)
    if rule_set.jurisdiction:
        yield "jurisdiction", forms.division_code(rule_set.jurisdiction)
    wrong_from = forms.day(rule_set.effective_from)
    yield "effective_from", wrong_from
    if rule_set.effective_until:
        wrong_until = forms.day(rule_set.effective_until)
        yield "effective_until", wrong_until
        if not wrong_from and not wrong_until and rule_set.effective_until <= rule_set.effective_from:
            yield (
                "effective_until",
                f"is {rule_set.effective_until}; it must be after effective_from, which is {rule_set.effective_from}",
            )


def _codes(gross_limits: Iterable[Any], axle_group_limits: Iterable[Any]) -> Iterator[tuple[str, str]]:
    rows = [(f"gross_limits[{position}].code", row.code) for position, row in enumerate(gross_limits)]
    rows += [(f"axle_group_limits[{position}].code", row.code) for position, row in enumerate(axle_group_limits)]
    counts = Counter(code for _, code in rows)
    for field, code in rows:
        if not _CODE.fullmatch(code):
            yield field, f"is {forms.shown(code)}; it must be 1 to 64 characters of a-z 0-9 -"
        elif counts[code] > 1:
            yield field, f"is {code!r}, the code of {counts[code]} rows; a reason must name one row"


def _gross_limit(field: str, row: Any) -> Iterator[tuple[str, str]]:
    yield f"{field}.axle_count_min", _range(row.axle_count_min, AXLES_MIN, AXLES_MAX)
    if row.axle_count_max:
        yield f"{field}.axle_count_max", _range(row.axle_count_max, max(row.axle_count_min, AXLES_MIN), AXLES_MAX)
    if row.combination_kind and row.combination_kind not in COMBINATION_KINDS:
        yield f"{field}.combination_kind", _one_of(row.combination_kind, ("", *COMBINATION_KINDS))
    elif row.combination_kind and row.is_rigid:
        yield f"{field}.combination_kind", f"is {row.combination_kind!r}; it must be empty for a rigid truck"
    if row.axle_layout:
        if not _LAYOUT.fullmatch(row.axle_layout):
            yield (
                f"{field}.axle_layout",
                f"is {forms.shown(row.axle_layout)}; it must be axles per group, 1 to 3 each, such as 1+2+1",
            )
        else:
            axles = sum(map(int, row.axle_layout.split("+")))
            if not row.axle_count_min <= axles <= (row.axle_count_max or AXLES_MAX):
                yield (
                    f"{field}.axle_layout",
                    f"is {row.axle_layout}, {axles} axles, which is outside the row's axle count",
                )
    yield f"{field}.drive_axle_count", _range(row.drive_axle_count, 0, DRIVE_AXLES_MAX)
    yield f"{field}.limit_kg", _range(row.limit_kg, GROSS_LIMIT_MIN_KG, GROSS_LIMIT_MAX_KG, " kg")


def _most(row: Any) -> int:
    return int(row.axle_count_max or AXLES_MAX)


def _conditions(row: Any) -> tuple[Any, ...]:
    return (row.combination_kind, row.axle_layout, row.drive_axle_count)


def _is_wider(earlier: Any, later: Any) -> bool:
    """Say whether every vehicle that fits the later row's conditions fits the earlier one's."""
    return all(
        not ours or ours == theirs for ours, theirs in zip(_conditions(earlier), _conditions(later), strict=True)
    )


def _order(rows: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Find rows that can never fit, and rows alike whose axle counts overlap by halves: there a slip decides."""
    before: list[Any] = []
    for position, row in enumerate(rows):
        alike = [earlier for earlier in before if earlier.is_rigid == row.is_rigid]
        counts = range(max(row.axle_count_min, AXLES_MIN), min(_most(row), AXLES_MAX) + 1)
        wider = [earlier for earlier in alike if _is_wider(earlier, row)]
        hiding = [
            next((earlier.code for earlier in wider if earlier.axle_count_min <= count <= _most(earlier)), None)
            for count in counts
        ]
        if counts and None not in hiding:
            yield f"gross_limits[{position}]", f"can never fit: {_names(hiding)} before it takes every such vehicle"
        else:
            for earlier in alike:
                overlaps = earlier.axle_count_min <= _most(row) and row.axle_count_min <= _most(earlier)
                if overlaps and _conditions(earlier) == _conditions(row):
                    yield (
                        f"gross_limits[{position}]",
                        f"overlaps {earlier.code!r}, a row of the same vehicles, in axles",
                    )
        before.append(row)


def _coverage(rows: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Find vehicles that no row is for, whatever their layout and drive axles."""
    general = [row for row in rows if not row.axle_layout and not row.drive_axle_count]
    for axle_count in RIGID_AXLES_EXPECTED:
        if not any(row.is_rigid and row.axle_count_min <= axle_count <= _most(row) for row in general):
            yield "gross_limits", f"holds no row for every rigid truck with {axle_count} axles"
    for kind in COMBINATION_KINDS:
        missing = [
            axle_count
            for axle_count in COMBINATION_AXLES_EXPECTED
            if not any(
                not row.is_rigid
                and row.combination_kind in {"", kind}
                and row.axle_count_min <= axle_count <= _most(row)
                for row in general
            )
        ]
        if missing:
            yield "gross_limits", f"holds no row for every combination of kind {kind} with {_names(missing)} axles"


def _modifiers(modifiers: Any, gross_limits: Iterable[Any]) -> Iterator[tuple[str, str]]:
    limits_by_code = {row.code: row.limit_kg for row in gross_limits}
    reduction_kg = modifiers.single_tires_reduction_kg
    field = "modifiers.single_tires_reduction_kg"
    yield field, _range(reduction_kg, 0, REDUCTION_MAX_KG, " kg")
    if 0 < reduction_kg <= REDUCTION_MAX_KG and any(0 < limit <= reduction_kg for limit in limits_by_code.values()):
        yield field, f"is {reduction_kg} kg; it must be below every gross limit"
    named = Counter(row.gross_limit_code for row in modifiers.air_suspension_limits)
    for position, row in enumerate(modifiers.air_suspension_limits):
        field = f"modifiers.air_suspension_limits[{position}]"
        code = row.gross_limit_code
        if code not in limits_by_code:
            yield f"{field}.gross_limit_code", f"is {forms.shown(code)}, which is no code of a row of gross_limits"
        elif named[code] > 1:
            yield f"{field}.gross_limit_code", f"is {code!r}, which is named {named[code]} times"
        else:
            least = max(limits_by_code[code], GROSS_LIMIT_MIN_KG)
            yield f"{field}.limit_kg", _range(row.limit_kg, least, GROSS_LIMIT_MAX_KG, " kg")
        yield f"{field}.trailer_spacing_min_mm", _range(row.trailer_spacing_min_mm, 0, SPACING_MAX_MM, " mm")


def _axle_group_limit(field: str, row: Any) -> Iterator[tuple[str, str]]:
    yield f"{field}.axle_count", _range(row.axle_count, 1, GROUP_AXLES_MAX)
    yield f"{field}.spacing_min_mm", _range(row.spacing_min_mm, 0, SPACING_MAX_MM, " mm")
    least = max(row.spacing_min_mm, 0) if row.spacing_max_mm else 0
    yield f"{field}.spacing_max_mm", _range(row.spacing_max_mm, least, SPACING_MAX_MM, " mm")
    if row.axle_count == 1 and (row.spacing_min_mm or row.spacing_max_mm):
        yield field, "is for a single axle; it must not have a spacing"
    if row.tires not in TIRES:
        yield f"{field}.tires", _one_of(row.tires, TIRES)
    yield f"{field}.limit_kg", _range(row.limit_kg, AXLE_LIMIT_MIN_KG, AXLE_LIMIT_MAX_KG, " kg")


def _axle_order(rows: Iterable[Any]) -> Iterator[tuple[str, str]]:
    before: list[Any] = []
    for position, row in enumerate(rows):
        for earlier in before:
            is_hidden = (
                earlier.axle_count == row.axle_count
                and earlier.tires in {"", row.tires}
                and earlier.is_drive <= row.is_drive
                and earlier.has_air_suspension <= row.has_air_suspension
                and earlier.spacing_min_mm <= row.spacing_min_mm
                and (earlier.spacing_max_mm == 0 or 0 < row.spacing_max_mm <= earlier.spacing_max_mm)
            )
            if is_hidden:
                yield (
                    f"axle_group_limits[{position}]",
                    f"can never fit: {earlier.code!r} before it takes every such group",
                )
                break
        before.append(row)
    # Spacings of the same groups have to join: a gap or an overlap of a millimetre is a slip.
    alike: dict[tuple[Any, ...], list[Any]] = {}
    for row in before:
        if row.axle_count > 1:
            alike.setdefault((row.axle_count, row.tires, row.is_drive, row.has_air_suspension), []).append(row)
    for group in alike.values():
        for lower, upper in pairwise(sorted(group, key=lambda row: row.spacing_min_mm)):
            if lower.spacing_max_mm and lower.spacing_max_mm + 1 != upper.spacing_min_mm:
                found = f"is {upper.spacing_min_mm} mm, but {lower.code!r} ends at {lower.spacing_max_mm} mm"
                yield f"axle_group_limits[{before.index(upper)}].spacing_min_mm", f"{found}: the rows must join"


def _tolerances(tolerances: Iterable[Any]) -> Iterator[tuple[str, str]]:
    counts = Counter(row.scale_kind for row in tolerances)
    for position, row in enumerate(tolerances):
        field = f"scale_tolerances[{position}]"
        if row.scale_kind not in SCALE_KINDS:
            yield (
                f"{field}.scale_kind",
                _one_of(row.scale_kind, [f"{name} ({kind})" for kind, name in SCALE_KINDS.items()]),
            )
        elif counts[row.scale_kind] > 1:
            yield (
                f"{field}.scale_kind",
                f"is {SCALE_KINDS[row.scale_kind]}, which is named {counts[row.scale_kind]} times",
            )
        yield f"{field}.permille", _range(row.permille, 0, TOLERANCE_MAX_PERMILLE, " permille")


def _bands(bands: Any) -> Iterator[tuple[str, str]]:
    field = "severity_bands"
    yield f"{field}.warning_excess_max_kg", _range(bands.warning_excess_max_kg, 0, GROSS_LIMIT_MAX_KG, " kg")
    rate_permille = bands.serious_rate_min_permille
    yield f"{field}.serious_rate_min_permille", _range(rate_permille, 1, RATE_MAX_PERMILLE, " permille")
    yield (
        f"{field}.extreme_gross_min_kg",
        _range(bands.extreme_gross_min_kg, GROSS_LIMIT_MIN_KG, GROSS_LIMIT_MAX_KG, " kg"),
    )


def _range(value: int, least: int, most: int, unit: str = "") -> str:
    return "" if least <= value <= most else f"is {value}{unit}; it must be {least} to {most}{unit}"


def _one_of(value: object, accepted: Iterable[str]) -> str:
    return f"is {value!r}; it must be one of {', '.join(one or 'empty' for one in accepted)}"


def _names(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in dict.fromkeys(values))
