"""Valid credentials of every kind, made up; tests change the fields they are about."""

from typing import Any

from zhichao.access.v1 import credential_pb2 as pb


def terminal(*source_unit_ids: str, **fields: Any) -> pb.Credential:
    values: dict[str, Any] = {
        "kind": pb.PRINCIPAL_KIND_TERMINAL,
        "display_name": "东门终端",
        "source_unit_ids": source_unit_ids or ("141025-001",),
    }
    return pb.Credential(**values | fields)


def integrator(*source_unit_ids: str, **fields: Any) -> pb.Credential:
    return terminal(*source_unit_ids, **{"kind": pb.PRINCIPAL_KIND_INTEGRATOR, "display_name": "示例集成商"} | fields)


def person(division_code: str, *roles: str, **fields: Any) -> pb.Credential:
    values: dict[str, Any] = {
        "kind": pb.PRINCIPAL_KIND_PERSON,
        "display_name": "示例甲",
        "division_code": division_code,
        "roles": [pb.Role.Value(f"ROLE_{role}") for role in roles],
    }
    return pb.Credential(**values | fields)
