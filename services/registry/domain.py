"""What the registry knows about its resources: their fields, what is refused and what is doubtful about them.

Pure; standard library only. Every check reports all that is wrong at once. A *doubt* accepts the resource and becomes a
warning on it: the world is allowed to be untidy, and a registry that refuses it is worked around.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from enum import IntEnum
from typing import Final

from services.registry import forms
from services.registry.forms import Violation
from services.registry.persons import ResponsiblePerson, persons_violations

CREDIT_CODE_ALPHABET: Final = "0123456789ABCDEFGHJKLMNPQRTUWXY"
"""Characters of a unified social credit code: no I, O, S, V, Z (GB 32100-2015, table 1)."""

CREDIT_CODE_CHARACTERS: Final = 18
"""Length of a unified social credit code (GB 32100-2015)."""

CAPACITY_KG_MIN: Final = 1_000
"""Smallest capacity of a truck scale."""

CAPACITY_KG_MAX: Final = 1_000_000
"""Largest capacity: twice the largest weighbridges on the market."""

DIVISION_KG_MAX: Final = 1_000
"""Largest verification interval e: scales of class III for trucks have 10 to 100 kg (JJG 539)."""

CERTIFICATE_DAYS_MAX: Final = 366
"""Longest usual validity of a verification: one year for truck scales (JJG 539, JJG 907). Longer is doubtful."""

# A rectangle around China: coordinates outside are nearly always swapped or in another unit.
LATITUDE_USUAL: Final = (3.0, 54.0)
LONGITUDE_USUAL: Final = (73.0, 136.0)


class DivisionLevel(IntEnum):
    """Level of a division; the numbers are those of the contract."""

    PROVINCE = 1
    CITY = 2
    COUNTY = 3


class SourceUnitKind(IntEnum):
    """Kind of a source unit; 0 means that it is not known."""

    UNKNOWN = 0
    COAL_MINE = 1
    MINE = 2
    QUARRY = 3
    COAL_PLANT = 4
    WORKS = 5
    FREIGHT_YARD = 6
    OTHER = 7


class SourceUnitState(IntEnum):
    """Where a source unit stands. Every change from one state to another is taken.

    The plans of two counties order the same steps differently, and a unit entered by mistake must have a way back; the
    journal keeps who changed what. Acceptance, which has rules, is the audit service's.
    """

    SURVEYED = 1
    PUBLICIZED = 2
    OPERATING = 3
    SUSPENDED = 4
    DEREGISTERED = 5


class ScaleKind(IntEnum):
    """Kind of a scale."""

    STATIC = 1
    DYNAMIC = 2
    LOADING = 3


@dataclass(frozen=True, slots=True)
class GeoPoint:
    """A place on WGS-84, in degrees."""

    latitude_degrees: float
    longitude_degrees: float

    def violations(self) -> list[Violation]:
        """Return what is outside the globe; NaN is."""
        return _found(
            ("location.latitude_degrees", _within(self.latitude_degrees, 90.0)),
            ("location.longitude_degrees", _within(self.longitude_degrees, 180.0)),
        )

    def doubts(self) -> list[Violation]:
        """Return a doubt about a place outside China."""
        south, north = LATITUDE_USUAL
        west, east = LONGITUDE_USUAL
        if south <= self.latitude_degrees <= north and west <= self.longitude_degrees <= east:
            return []
        return [Violation("location", "lies outside China; latitude and longitude may be swapped")]


@dataclass(frozen=True, slots=True)
class Division:
    """An administrative division, or a zone that acts like one, for as long as its code is valid."""

    division_code: str
    name: str
    parent_code: str
    level: int
    valid_from: str
    valid_until: str
    successor_code: str
    is_extra_zone: bool

    def violations(self) -> list[Violation]:
        """Return every field that refuses the division."""
        level = _level_violation(self)
        parent = forms.optional(forms.division_code)(self.parent_code)
        if not parent and self.level == DivisionLevel.PROVINCE and self.parent_code:
            parent = f"is {self.parent_code}, but a province has no division above it"
        if not parent and self.level in (DivisionLevel.CITY, DivisionLevel.COUNTY) and not self.parent_code:
            parent = "is missing; only a province has no division above it"
        successor = forms.optional(forms.division_code)(self.successor_code)
        if not successor and self.successor_code and self.successor_code == self.division_code:
            successor = f"is {self.successor_code}, but a code cannot take its own place"
        return _found(
            ("division_code", forms.division_code(self.division_code)),
            ("name", forms.text(self.name, forms.NAME_CHARACTERS_MAX, is_required=False)),
            ("parent_code", parent),
            ("level", level),
            *_period(self.valid_from, self.valid_until),
            ("successor_code", successor),
        )

    def doubts(self) -> list[Violation]:
        """Return what is unusual about the code. Extra zones have no rule."""
        doubts = []
        usual = usual_parents(self.division_code, self.level)
        if usual and self.parent_code not in usual and not self.is_extra_zone:
            doubts.append(
                Violation("parent_code", f"is {self.parent_code}, but the code suggests {' or '.join(usual)}")
            )
        if self.successor_code and not self.valid_until:
            doubts.append(Violation("valid_until", f"is empty though {self.successor_code} took the place of the code"))
        return doubts


def usual_parents(division_code: str, level: int) -> tuple[str, ...]:
    """Return the codes that GB/T 2260 puts above a code; counties right below a province exist."""
    if level == DivisionLevel.CITY:
        return (division_code[:2] + "0000",)
    if level == DivisionLevel.COUNTY:
        return (division_code[:4] + "00", division_code[:2] + "0000")
    return ()


def _level_violation(division: Division) -> str:
    if division.level not in [*DivisionLevel]:
        return _not_one_of(division.level, DivisionLevel)
    code = division.division_code
    if division.is_extra_zone or forms.division_code(code):
        return ""
    # GB/T 2260: two digits each for province, city and county; zeros for the levels that do not apply.
    by_digits = (
        DivisionLevel.PROVINCE
        if code.endswith("0000")
        else DivisionLevel.CITY
        if code.endswith("00")
        else DivisionLevel.COUNTY
    )
    if division.level == by_digits:
        return ""
    return (
        f"is {DivisionLevel(division.level).name}, but {code} is a code of a {by_digits.name.lower()} (GB/T 2260); "
        "set is_extra_zone for a code that was made up"
    )


@dataclass(frozen=True, slots=True)
class Platform:
    """One installation of this suite."""

    platform_code: str
    name: str
    upstream_code: str
    valid_from: str
    valid_until: str

    def violations(self) -> list[Violation]:
        """Return every field that refuses the platform."""
        upstream = forms.optional(forms.division_code)(self.upstream_code)
        if not upstream and self.upstream_code and self.upstream_code == self.platform_code:
            upstream = f"is {self.upstream_code}, but a platform is not above itself"
        return _found(
            ("platform_code", forms.division_code(self.platform_code)),
            ("name", forms.text(self.name, forms.NAME_CHARACTERS_MAX, is_required=False)),
            ("upstream_code", upstream),
            *_period(self.valid_from, self.valid_until),
        )

    def doubts(self) -> list[Violation]:
        """Return nothing: a platform has no doubtful fields."""
        return []


@dataclass(frozen=True, slots=True)
class SourceUnit:
    """A freight source unit (货运源头单位)."""

    source_unit_id: str
    name: str
    credit_code: str
    kind: int
    division_code: str
    data_home_code: str
    enforcement_code: str
    location: GeoPoint | None
    state: int
    rule_set_id: str
    responsible_persons: tuple[ResponsiblePerson, ...]

    def violations(self) -> list[Violation]:
        """Return every field that refuses the source unit."""
        return [
            *_found(
                ("source_unit_id", forms.identifier(self.source_unit_id)),
                ("name", forms.text(self.name, forms.UNIT_NAME_CHARACTERS_MAX, is_required=True)),
                ("credit_code", credit_code_violation(self.credit_code) if self.credit_code else ""),
                ("kind", _not_one_of(self.kind, SourceUnitKind)),
                ("division_code", forms.division_code(self.division_code)),
                ("data_home_code", forms.optional(forms.division_code)(self.data_home_code)),
                ("enforcement_code", forms.optional(forms.division_code)(self.enforcement_code)),
                ("state", _not_one_of(self.state, SourceUnitState)),
                ("rule_set_id", forms.optional(forms.rule_set_id)(self.rule_set_id)),
            ),
            *(self.location.violations() if self.location else ()),
            *persons_violations(self.responsible_persons),
        ]

    def doubts(self) -> list[Violation]:
        """Return what is doubtful: a credit code that is missing or fails its check, a place outside China."""
        doubts = list(self.location.doubts()) if self.location else []
        if not self.credit_code:
            if self.state != SourceUnitState.SURVEYED:
                doubts.append(Violation("credit_code", "is missing; it is due when a unit is publicised"))
        elif (expected := credit_code_check_character(self.credit_code)) != self.credit_code[-1]:
            description = f"ends with {self.credit_code[-1]}, but its check character is {expected} (GB 32100)"
            doubts.append(Violation("credit_code", description))
        return doubts


def credit_code_violation(code: str) -> str:
    """Return what is wrong with the form of a unified social credit code; a wrong check character is not."""
    if len(code) == CREDIT_CODE_CHARACTERS and all(character in CREDIT_CODE_ALPHABET for character in code):
        return ""
    return (
        f"is {forms.shown(code)}, but must be {CREDIT_CODE_CHARACTERS} characters of 0-9 and A-Z "
        "without I, O, S, V, Z (GB 32100)"
    )


def credit_code_check_character(code: str) -> str:
    """Return the character with which a well-formed code should end: (31 - sum of value * 3^i) mod 31 (GB 32100)."""
    modulus = len(CREDIT_CODE_ALPHABET)
    total = sum(
        CREDIT_CODE_ALPHABET.index(character) * pow(3, position, modulus)
        for position, character in enumerate(code[: CREDIT_CODE_CHARACTERS - 1])
    )
    return CREDIT_CODE_ALPHABET[-total % modulus]


@dataclass(frozen=True, slots=True)
class WeighingPoint:
    """A place at a source unit where trucks are weighed."""

    source_unit_id: str
    weighing_point_id: str
    name: str
    location: GeoPoint | None

    def violations(self) -> list[Violation]:
        """Return every field that refuses the weighing point."""
        return [
            *_found(
                ("source_unit_id", forms.identifier(self.source_unit_id)),
                ("weighing_point_id", forms.identifier(self.weighing_point_id)),
                ("name", forms.text(self.name, forms.NAME_CHARACTERS_MAX, is_required=False)),
            ),
            *(self.location.violations() if self.location else ()),
        ]

    def doubts(self) -> list[Violation]:
        """Return what is doubtful: a place outside China."""
        return self.location.doubts() if self.location else []


@dataclass(frozen=True, slots=True)
class Scale:
    """A scale at a weighing point."""

    source_unit_id: str
    weighing_point_id: str
    scale_id: str
    kind: int
    accuracy_class: str
    capacity_kg: int
    division_kg: int | None
    model: str
    serial_number: str

    def violations(self) -> list[Violation]:
        """Return every field that refuses the scale."""
        capacity = ""
        if not CAPACITY_KG_MIN <= self.capacity_kg <= CAPACITY_KG_MAX:
            capacity = f"is {self.capacity_kg}, but must be {CAPACITY_KG_MIN} to {CAPACITY_KG_MAX} kg"
        division = ""
        if self.division_kg is not None and not 1 <= self.division_kg <= DIVISION_KG_MAX:
            division = f"is {self.division_kg}, but must be 1 to {DIVISION_KG_MAX} kg, or absent when not known"
        return _found(
            ("source_unit_id", forms.identifier(self.source_unit_id)),
            ("weighing_point_id", forms.identifier(self.weighing_point_id)),
            ("scale_id", forms.identifier(self.scale_id)),
            ("kind", _not_one_of(self.kind, ScaleKind)),
            ("accuracy_class", forms.text(self.accuracy_class, forms.ACCURACY_CLASS_CHARACTERS_MAX, is_required=False)),
            ("capacity_kg", capacity),
            ("division_kg", division),
            ("model", forms.text(self.model, forms.UNIT_NAME_CHARACTERS_MAX, is_required=False)),
            ("serial_number", forms.text(self.serial_number, forms.SERIAL_NUMBER_CHARACTERS_MAX, is_required=False)),
        )

    def doubts(self) -> list[Violation]:
        """Return nothing: a scale has no doubtful fields."""
        return []


@dataclass(frozen=True, slots=True)
class VerificationCertificate:
    """A metrological verification (检定证书) of one scale. Certificates of one scale may overlap, as in life."""

    source_unit_id: str
    scale_id: str
    certificate_number: str
    issuer: str
    valid_from: str
    valid_until: str

    def violations(self) -> list[Violation]:
        """Return every field that refuses the certificate."""
        valid_from, valid_until = forms.day(self.valid_from), forms.day(self.valid_until)
        if not valid_from and not valid_until and self.valid_until < self.valid_from:
            valid_until = f"is {self.valid_until}, but the last day is not before the first, {self.valid_from}"
        number = forms.text(self.certificate_number, forms.CERTIFICATE_NUMBER_CHARACTERS_MAX, is_required=True)
        return _found(
            ("source_unit_id", forms.identifier(self.source_unit_id)),
            ("scale_id", forms.identifier(self.scale_id)),
            ("certificate_number", number),
            ("issuer", forms.text(self.issuer, forms.UNIT_NAME_CHARACTERS_MAX, is_required=False)),
            ("valid_from", valid_from),
            ("valid_until", valid_until),
        )

    def doubts(self) -> list[Violation]:
        """Return a doubt about an unusually long validity."""
        days = (date.fromisoformat(self.valid_until) - date.fromisoformat(self.valid_from)) // timedelta(days=1) + 1
        if days <= CERTIFICATE_DAYS_MAX:
            return []
        return [Violation("valid_until", f"makes {days} days of validity; truck scales are verified every year")]


def _found(*checked: tuple[str, str]) -> list[Violation]:
    return [Violation(field, description) for field, description in checked if description]


def _period(valid_from: str, valid_until: str) -> list[tuple[str, str]]:
    """Check a first day and a first day after the end, both of which may be empty."""
    begins, ends = forms.optional(forms.day)(valid_from), forms.optional(forms.day)(valid_until)
    if not begins and not ends and valid_from and valid_until and valid_until <= valid_from:
        ends = f"is {valid_until}, but the first day after the end is later than the first day, {valid_from}"
    return [("valid_from", begins), ("valid_until", ends)]


def _within(degrees: float, bound: float) -> str:
    # Written so that NaN fails.
    return "" if -bound <= degrees <= bound else f"is {degrees}, but must be {-bound:g} to {bound:g} degrees"


def _not_one_of(number: int, kind: type[IntEnum]) -> str:
    if number in [*kind]:
        return ""
    names = ", ".join(member.name for member in kind)
    return f"is {number}, but must be one of {names}"
