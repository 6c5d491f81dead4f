"""The kinds of resources, each described once: its id, the fields with columns, its checks, what it refers to.

Handlers, store and projection work from these descriptions; nothing is written six times.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Generic, Protocol

from services.registry import convert, forms, rule_set_checks
from services.registry.convert import Resource
from services.registry.forms import Form, Violation
from zhichao.registry.v1 import resources_pb2 as pb

SCHEMA: Final = 1
"""Version of the meaning of all kinds; raised when an older release must not project an entry."""


UNIT_FIELD: Final = "source_unit_id"
"""Field that names a source unit, in the unit itself and in all that belongs to one."""


def _any(_value: object) -> str:
    """Take any value: an enum number of a newer release is kept, not refused, when it comes from a lower platform."""
    return ""


@dataclass(frozen=True, slots=True)
class Reference:
    """Fields of one kind that name a resource of another kind on the same platform."""

    resource_type: str
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Findings:
    """What the checks of one resource found."""

    violations: Sequence[Violation]
    doubts: Sequence[Violation]


@dataclass(frozen=True, slots=True)
class Kind(Generic[Resource]):
    """One kind of resource. Column names are field names of the message."""

    resource_type: str
    """The noun in errors and field paths, for example `source_unit`."""
    message: type[Resource]
    table: str
    key: Mapping[str, Form]
    """Fields that name a resource within its origin, in order, with the form that each must have."""
    columns: Mapping[str, Form]
    """Further fields with a column, because a list filters by them or a query needs them."""
    examine: Callable[[Resource], Findings]
    references: tuple[Reference, ...] = ()
    division_fields: tuple[str, ...] = ()
    """Fields that name a division. One that is not registered is a doubt: see RegistryHandlers.create."""

    @property
    def is_of_unit(self) -> bool:
        """Whether it is a source unit, or belongs to one."""
        return UNIT_FIELD in self.key

    @property
    def name(self) -> str:
        """Full name of the message: the kind of journal entries."""
        return self.message.DESCRIPTOR.full_name

    def parse(self, content: bytes) -> Resource:
        """Return the message that the bytes hold. Raises DecodeError."""
        message = self.message()
        message.ParseFromString(content)
        return message

    def key_of(self, message: Resource) -> tuple[Any, ...]:
        """Return the values that name the resource within its origin."""
        return tuple(getattr(message, field) for field in self.key)

    def columns_of(self, message: Resource) -> tuple[Any, ...]:
        """Return the values of the further columns."""
        return tuple(getattr(message, field) for field in self.columns)

    def column_violations(self, message: Resource) -> list[Violation]:
        """Check only what has a column: all that is asked of a resource that another platform owns and has checked."""
        checked = {**self.key, **self.columns}.items()
        found = [Violation(field, form(getattr(message, field))) for field, form in checked]
        return [violation for violation in found if violation.description]

    def mutable_fields(self) -> list[str]:
        """Return the fields that an update may change: neither part of the name nor set by the registry."""
        return [field.name for field in self.message.DESCRIPTOR.fields if field.name not in {*self.key, "info"}]


class _Checked(Protocol):
    """A resource of the domain."""

    def violations(self) -> list[Violation]: ...

    def doubts(self) -> list[Violation]: ...


def _examine(to_domain: Callable[[Resource], _Checked]) -> Callable[[Resource], Findings]:
    def examine(message: Resource) -> Findings:
        resource = to_domain(message)
        violations = resource.violations()
        # Doubts are about fields that are right in form.
        return Findings(violations, [] if violations else resource.doubts())

    return examine


def _examine_rule_set(message: pb.RuleSet) -> Findings:
    # A rule set has more structure than fields; it is checked as it is.
    return Findings(rule_set_checks.validate_rule_set(message), [])


DIVISION: Final = Kind(
    resource_type="division",
    message=pb.Division,
    table="divisions",
    # A code may be given again after years: the first day of validity tells the two apart.
    key={"division_code": forms.division_code, "valid_from": forms.optional(forms.day)},
    columns={"parent_code": forms.optional(forms.division_code), "valid_until": forms.optional(forms.day)},
    examine=_examine(convert.division),
    division_fields=("parent_code", "successor_code"),
)
PLATFORM: Final = Kind(
    resource_type="platform",
    message=pb.Platform,
    table="platforms",
    key={"platform_code": forms.division_code},
    columns={"upstream_code": forms.optional(forms.division_code)},
    examine=_examine(convert.platform),
    division_fields=("platform_code",),
)
SOURCE_UNIT: Final = Kind(
    resource_type="source_unit",
    message=pb.SourceUnit,
    table="source_units",
    key={"source_unit_id": forms.identifier},
    columns={"division_code": forms.division_code, "kind": _any, "state": _any},
    examine=_examine(convert.source_unit),
    division_fields=("division_code", "data_home_code", "enforcement_code"),
)
WEIGHING_POINT: Final = Kind(
    resource_type="weighing_point",
    message=pb.WeighingPoint,
    table="weighing_points",
    key={"source_unit_id": forms.identifier, "weighing_point_id": forms.identifier},
    columns={},
    examine=_examine(convert.weighing_point),
    references=(Reference("source_unit", ("source_unit_id",)),),
)
SCALE: Final = Kind(
    resource_type="scale",
    message=pb.Scale,
    table="scales",
    key={"source_unit_id": forms.identifier, "scale_id": forms.identifier},
    # Not part of the name: a scale may be moved to another point of its unit.
    columns={"weighing_point_id": forms.identifier},
    examine=_examine(convert.scale),
    references=(Reference("weighing_point", ("source_unit_id", "weighing_point_id")),),
)
VERIFICATION_CERTIFICATE: Final = Kind(
    resource_type="verification_certificate",
    message=pb.VerificationCertificate,
    table="verification_certificates",
    key={
        "source_unit_id": forms.identifier,
        "scale_id": forms.identifier,
        "certificate_number": forms.required_text(forms.CERTIFICATE_NUMBER_CHARACTERS_MAX),
    },
    columns={"valid_until": forms.day},
    examine=_examine(convert.verification_certificate),
    references=(Reference("scale", ("source_unit_id", "scale_id")),),
)
RULE_SET: Final = Kind(
    resource_type="rule_set",
    message=pb.RuleSet,
    table="rule_sets",
    key={"rule_set_id": forms.rule_set_id, "version": forms.rule_set_version},
    columns={"effective_from": forms.day, "effective_until": forms.optional(forms.day)},
    examine=_examine_rule_set,
    division_fields=("jurisdiction",),
)

KINDS: Final[tuple[Kind[Any], ...]] = (
    DIVISION,
    PLATFORM,
    SOURCE_UNIT,
    WEIGHING_POINT,
    SCALE,
    VERIFICATION_CERTIFICATE,
    RULE_SET,
)
BY_NAME: Final[Mapping[str, Kind[Any]]] = MappingProxyType({kind.name: kind for kind in KINDS})
