"""A rule set as plain values: the figures by which weighings are judged, with their source and dates.

The shape mirrors `zhichao.registry.v1.RuleSet`. Nothing here knows a figure; the figures are data of the registry.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class ScaleKind(IntEnum):
    """Kind of a scale, numbered as in `zhichao.registry.v1.ScaleKind`."""

    UNSPECIFIED = 0
    STATIC = 1
    DYNAMIC = 2
    LOADING = 3


@dataclass(frozen=True, slots=True)
class GrossLimit:
    """One row of the table of gross limits; 0 and the empty string mean "any", as in the proto."""

    code: str = ""
    is_rigid: bool = False
    axle_count_min: int = 0
    axle_count_max: int = 0
    combination_kind: str = ""
    axle_layout: str = ""
    drive_axle_count: int = 0
    limit_kg: int = 0
    is_capped_by_registered_mass: bool = False

    def includes_axle_count(self, axle_count: int) -> bool:
        """Say whether the row is for vehicles with this many axles."""
        return self.axle_count_min <= axle_count and (self.axle_count_max == 0 or axle_count <= self.axle_count_max)


@dataclass(frozen=True, slots=True)
class AirSuspensionLimit:
    """A limit that replaces that of a row when the drive axles have air suspension and dual tyres."""

    gross_limit_code: str = ""
    limit_kg: int = 0
    trailer_spacing_min_mm: int = 0


@dataclass(frozen=True, slots=True)
class LimitModifiers:
    """What changes the limit of a row."""

    single_tires_reduction_kg: int = 0
    air_suspension_limits: tuple[AirSuspensionLimit, ...] = ()
    is_capped_by_axle_limits: bool = False
    is_replaced_by_permit: bool = False
    is_low_speed_by_registered_mass: bool = False


@dataclass(frozen=True, slots=True)
class AxleGroupLimit:
    """The limit of one axle or one group of axles."""

    code: str = ""
    axle_count: int = 0
    spacing_min_mm: int = 0
    spacing_max_mm: int = 0
    tires: str = ""
    is_drive: bool = False
    has_air_suspension: bool = False
    limit_kg: int = 0


@dataclass(frozen=True, slots=True)
class ScaleTolerance:
    """What is added to the limit for one kind of scale, in permille of the limit."""

    scale_kind: int = 0
    permille: int = 0


@dataclass(frozen=True, slots=True)
class SeverityBands:
    """Bands of a suspected overload; 0 means that the rule set has no such band."""

    warning_excess_max_kg: int = 0
    serious_rate_min_permille: int = 0
    extreme_gross_min_kg: int = 0


@dataclass(frozen=True, slots=True)
class RuleSet:
    """One version of a rule set. Dates are ISO dates in China Standard Time; the end is the first day without it."""

    rule_set_id: str
    version: int
    title: str = ""
    title_zh: str = ""
    source_document: str = ""
    jurisdiction: str = ""
    effective_from: str = ""
    effective_until: str = ""
    gross_limits: tuple[GrossLimit, ...] = ()
    modifiers: LimitModifiers = LimitModifiers()
    axle_group_limits: tuple[AxleGroupLimit, ...] = ()
    scale_tolerances: tuple[ScaleTolerance, ...] = ()
    severity_bands: SeverityBands = SeverityBands()

    def is_effective_on(self, day: str) -> bool:
        """Say whether the rule set judges a weighing of this day, `YYYY-MM-DD` in China Standard Time."""
        # ISO dates of equal length compare like dates.
        return self.effective_from <= day and (not self.effective_until or day < self.effective_until)


RowT = TypeVar("RowT", bound="DataclassInstance")

_CAPITAL = re.compile(r"[A-Z]")

_HEADER_TEXTS = (
    "rule_set_id",
    "title",
    "title_zh",
    "source_document",
    "jurisdiction",
    "effective_from",
    "effective_until",
)


def rules_from_mapping(mapping: Mapping[str, Any]) -> RuleSet:
    """Make a rule set from its JSON form, with the names of proto JSON (`ruleSetId`) or of the proto (`rule_set_id`).

    What is absent takes the proto default; names not known here are passed over, as a newer registry may send them.
    Raises ValueError for a value of another type or an unknown kind of scale.
    """
    values = _snake_case(mapping)
    modifiers = _snake_case(_message(values, "modifiers"))
    header = {name: _checked(name, values.get(name, ""), str) for name in _HEADER_TEXTS}
    air_suspension_limits = tuple(_row(AirSuspensionLimit, row) for row in _rows(modifiers, "air_suspension_limits"))
    return RuleSet(
        version=_checked("version", values.get("version", 0), int),
        gross_limits=tuple(_row(GrossLimit, row) for row in _rows(values, "gross_limits")),
        modifiers=_row(LimitModifiers, {**modifiers, "air_suspension_limits": air_suspension_limits}),
        axle_group_limits=tuple(_row(AxleGroupLimit, row) for row in _rows(values, "axle_group_limits")),
        scale_tolerances=tuple(_scale_tolerance(row) for row in _rows(values, "scale_tolerances")),
        severity_bands=_row(SeverityBands, _message(values, "severity_bands")),
        **header,
    )


def _scale_tolerance(mapping: Mapping[str, Any]) -> ScaleTolerance:
    values = _snake_case(mapping)
    kind = values.get("scale_kind", 0)
    if isinstance(kind, str):
        try:
            kind = ScaleKind[kind.removeprefix("SCALE_KIND_")]
        except KeyError:
            raise ValueError(f"scale_kind is {kind!r}, which is no known kind of scale") from None
    return ScaleTolerance(int(_checked("scale_kind", kind, int)), _checked("permille", values.get("permille", 0), int))


def _row(row_type: type[RowT], mapping: Mapping[str, Any]) -> RowT:
    """Make one row; each field has a default of its own type, which says what is accepted."""
    values = _snake_case(mapping)
    return row_type(
        **{
            field.name: _checked(field.name, values[field.name], type(field.default))
            for field in fields(row_type)
            if field.name in values
        }
    )


def _checked(name: str, value: Any, wanted: type) -> Any:
    # bool is an int to Python, not to a rule set.
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise ValueError(f"{name} is {value!r}, but must be of type {wanted.__name__}")
    return value


def _snake_case(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {_CAPITAL.sub(lambda match: "_" + match.group().lower(), name): value for name, value in mapping.items()}


def _message(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", _checked(name, values.get(name, {}), cast("type", Mapping)))


def _rows(values: Mapping[str, Any], name: str) -> Sequence[Mapping[str, Any]]:
    rows = _checked(name, values.get(name, []), list)
    for row in rows:
        _checked(name, row, cast("type", Mapping))
    return cast("Sequence[Mapping[str, Any]]", rows)
