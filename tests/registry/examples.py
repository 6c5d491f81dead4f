"""One valid resource of every kind, made up; tests change the fields they are about."""

from typing import Any

from services.registry import shipped
from zhichao.registry.v1 import resources_pb2 as pb

# Made up; its check character is right.
CREDIT_CODE = "91141025MA0EXAMP1G"


def division(**fields: Any) -> pb.Division:
    values: dict[str, Any] = {
        "division_code": "141025",
        "name": "古县",
        "parent_code": "141000",
        "level": pb.DIVISION_LEVEL_COUNTY,
        "valid_from": "1971-01-01",
    }
    return pb.Division(**values | fields)


def platform(**fields: Any) -> pb.Platform:
    values: dict[str, Any] = {"platform_code": "141025", "name": "古县治超平台", "upstream_code": "141000"}
    return pb.Platform(**values | fields)


def source_unit(**fields: Any) -> pb.SourceUnit:
    values: dict[str, Any] = {
        "source_unit_id": "141025-001",
        "name": "示例煤矿",
        "credit_code": CREDIT_CODE,
        "kind": pb.SOURCE_UNIT_KIND_COAL_MINE,
        "division_code": "141025",
        "location": pb.GeoPoint(latitude_degrees=36.27, longitude_degrees=111.92),
        "state": pb.SOURCE_UNIT_STATE_PUBLICIZED,
    }
    return pb.SourceUnit(**values | fields)


def attended_unit(**fields: Any) -> pb.SourceUnit:
    """Make a source unit with persons responsible for it: made up, with numbers that no network gives out."""
    persons = [
        {"duty": pb.RESPONSIBLE_DUTY_UNIT_HEAD, "name": "示例甲", "phone_number": "10000000000"},
        {"duty": pb.RESPONSIBLE_DUTY_SUPERVISOR, "name": "示例乙"},
    ]
    return source_unit(**{"responsible_persons": persons} | fields)


def weighing_point(**fields: Any) -> pb.WeighingPoint:
    values: dict[str, Any] = {
        "source_unit_id": "141025-001",
        "weighing_point_id": "gate-1",
        "name": "东门",
        "is_active": True,
    }
    return pb.WeighingPoint(**values | fields)


def scale(**fields: Any) -> pb.Scale:
    values: dict[str, Any] = {
        "source_unit_id": "141025-001",
        "weighing_point_id": "gate-1",
        "scale_id": "scale-1",
        "kind": pb.SCALE_KIND_STATIC,
        "accuracy_class": "III",
        "capacity_kg": 120_000,
        "division_kg": 20,
        "model": "示例 SCS-120",
        "serial_number": "0001",
        "is_active": True,
    }
    return pb.Scale(**values | fields)


def verification_certificate(**fields: Any) -> pb.VerificationCertificate:
    values: dict[str, Any] = {
        "source_unit_id": "141025-001",
        "scale_id": "scale-1",
        "certificate_number": "检字第2025-0001号",
        "issuer": "示例计量所",
        "valid_from": "2025-01-10",
        "valid_until": "2026-01-09",
    }
    return pb.VerificationCertificate(**values | fields)


def rule_set(**fields: Any) -> pb.RuleSet:
    """Return a rule set that is right in itself, under an id of its own."""
    made = pb.RuleSet()
    made.CopyFrom(shipped.rule_sets()[0])
    made.rule_set_id = "example"
    made.version = 1
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def all_in_order() -> list[Any]:
    """Return one of every kind, each after what it refers to."""
    return [
        division(),
        platform(),
        source_unit(),
        weighing_point(),
        scale(),
        verification_certificate(),
        rule_set(),
    ]
