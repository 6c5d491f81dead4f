"""Default deny, as the protos say it: every method names what it demands, and docs/permissions.md shows all of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, MethodDescriptor

from services.common.access.masking import PersonalDataMask, personal_fields
from services.common.access.methods import field_exists, read_access
from services.common.access.permissions import (
    EXCLUSIVE_ROLES,
    KIND_PERMISSIONS,
    ROLE_PERMISSIONS,
    Permission,
    PrincipalKind,
    Role,
)
from services.common.logs import DROPPED, drop_secrets
from services.weighing.servicer import SERIALIZED_METHODS
from tests.contract.test_rpcs import _methods, _name
from zhichao.access.v1 import credential_pb2
from zhichao.common.v1 import access_pb2

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "permissions.md"

METHODS = [method for _, method in _methods()]

PARSED_BYTES_MAX = 128 * 1024
"""A message of nothing but empty items up to this takes some ten megabytes once it is parsed."""


def demanded(method: MethodDescriptor) -> str:
    """Return the row of the document for a method."""
    access = read_access(method)
    bounds = [f"unit `{access.unit_field}`"] if access.unit_field else []
    bounds += [f"division `{access.division_field}`"] if access.division_field else []
    bounds += ["open"] if access.is_open else []
    bounds += ["each item"] if access.checks_items else []
    size = access.message_bytes_max // 1024
    journalled = "yes" if access.is_journalled else ""
    service = method.containing_service.name
    return f"| `{service}/{method.name}` | `{access.permission}` | {', '.join(bounds)} | {size} | {journalled} |"


@pytest.mark.parametrize("method", METHODS, ids=_name)
def test_every_method_names_a_permission(method: MethodDescriptor) -> None:
    assert read_access(method).permission is not None


@pytest.mark.parametrize("method", METHODS, ids=_name)
def test_the_fields_that_bound_a_call_exist(method: MethodDescriptor) -> None:
    access = read_access(method)
    for path in filter(None, (access.unit_field, access.division_field)):
        assert field_exists(method.input_type, path), path


@pytest.mark.parametrize("method", METHODS, ids=_name)
def test_a_method_that_is_open_is_bounded_by_nothing_else(method: MethodDescriptor) -> None:
    access = read_access(method)
    assert not (access.is_open and (access.unit_field or access.division_field or access.checks_items))


def test_everybody_holds_some_permission_of_every_kind() -> None:
    held = set[Permission]().union(*KIND_PERMISSIONS.values(), *ROLE_PERMISSIONS.values())
    assert held == set(Permission)


def test_permissions_kinds_and_roles_are_those_of_the_protos() -> None:
    assert [f"PERMISSION_{one}" for one in Permission] == list(access_pb2.Permission.keys())[1:]
    assert [f"ROLE_{one}" for one in Role] == list(credential_pb2.Role.keys())[1:]
    assert [f"PRINCIPAL_KIND_{one.name}" for one in PrincipalKind] == list(credential_pb2.PrincipalKind.keys())[1:]


def test_administrators_share_no_power() -> None:
    """No one of the three can do alone what it takes two for: run, appoint, and look at what was done."""
    powers = {
        Role.SYSTEM_ADMINISTRATOR: {Permission.PLATFORM_WRITE, Permission.JOURNAL_REPLAY},
        Role.SECURITY_ADMINISTRATOR: {Permission.CREDENTIAL_WRITE},
        Role.AUDITOR: {Permission.ACCESS_RECORD_READ, Permission.JOURNAL_READ},
    }
    assert set(powers) == EXCLUSIVE_ROLES
    for role, own in powers.items():
        assert own <= ROLE_PERMISSIONS[role]
        for other in EXCLUSIVE_ROLES - {role}:
            assert not own & ROLE_PERMISSIONS[other]


@pytest.mark.parametrize("permission", ["JOURNAL_RECEIVE", "ACCESS_FOLLOW"])
def test_what_only_services_do_no_person_may(permission: str) -> None:
    holders = [role for role, held in ROLE_PERMISSIONS.items() if permission in held]
    kinds = [kind for kind, held in KIND_PERMISSIONS.items() if permission in held]
    assert (holders, kinds) == ([], [PrincipalKind.SERVICE])


def test_the_document_shows_every_method() -> None:
    rows = [
        line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| `") and "/" in line
    ]
    assert rows == [demanded(method) for method in METHODS]


@pytest.mark.parametrize("role", list(Role))
def test_the_document_shows_every_role(role: Role) -> None:
    held = ", ".join(f"`{one}`" for one in Permission if one in ROLE_PERMISSIONS[role])
    assert f"| `{role}` | {held} |" in DOCUMENT.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", list(PrincipalKind))
def test_the_document_shows_every_kind(kind: PrincipalKind) -> None:
    held = ", ".join(f"`{one}`" for one in Permission if one in KIND_PERMISSIONS[kind])
    assert f"| `{kind}` | {held} |" in DOCUMENT.read_text(encoding="utf-8")


def _messages(descriptor: Descriptor, seen: dict[str, Descriptor]) -> None:
    if descriptor.full_name in seen:
        return
    seen[descriptor.full_name] = descriptor
    for field in descriptor.fields:
        if field.message_type is not None:
            _messages(field.message_type, seen)


def personal() -> Iterator[tuple[str, str]]:
    """Yield every field with personal data that a method takes or gives."""
    seen: dict[str, Descriptor] = {}
    for method in METHODS:
        _messages(method.input_type, seen)
        _messages(method.output_type, seen)
    for name, descriptor in sorted(seen.items()):
        for field in personal_fields(descriptor):
            yield name, field


def test_drivers_officers_and_phone_numbers_are_marked() -> None:
    marked = set(personal())
    assert {
        ("zhichao.weighing.v1.Driver", "name"),
        ("zhichao.weighing.v1.Driver", "phone_number"),
        ("zhichao.weighing.v1.Driver", "license_number"),
        ("zhichao.registry.v1.ResponsiblePerson", "name"),
        ("zhichao.registry.v1.ResponsiblePerson", "phone_number"),
        ("zhichao.access.v1.Credential", "display_name"),
    } <= marked


@pytest.mark.parametrize("name", ["driver", "driver_name", "phone_number", "license_number", "display_name"])
def test_personal_data_never_stands_in_a_log(name: str) -> None:
    event: Any = {"event": "anything", name: "示例甲"}
    assert drop_secrets(None, "info", event)[name] == DROPPED


def test_the_names_of_personal_fields_are_dropped_from_logs() -> None:
    names = {field for _, field in personal()}
    events: list[Any] = [{"event": "anything", name: "示例甲"} for name in sorted(names)]
    assert [
        name
        for event, name in zip(events, sorted(names), strict=True)
        if drop_secrets(None, "info", event)[name] != DROPPED
    ] == []


def _has_repeated(message: Descriptor) -> bool:
    return any(
        field.is_repeated or (field.message_type is not None and _has_repeated(field.message_type))
        for field in message.fields
    )


@pytest.mark.parametrize("method", METHODS, ids=_name)
def test_large_messages_are_counted_before_they_are_parsed(method: MethodDescriptor) -> None:
    """What a message of megabytes makes of empty items would fill the memory."""
    access = read_access(method)
    # These take their messages apart themselves.
    is_taken_apart = method.full_name.split(".")[-1] in SERIALIZED_METHODS
    is_counted = access.items_max > 0 or not _has_repeated(method.input_type)
    assert access.message_bytes_max <= PARSED_BYTES_MAX or is_taken_apart or is_counted
    assert bool(access.items_path) == bool(access.items_max)


@pytest.mark.parametrize("method", METHODS, ids=_name)
def test_answers_with_personal_data_come_from_services_that_keep_account(method: MethodDescriptor) -> None:
    has_journal = not method.containing_service.full_name.startswith("zhichao.relay.")
    is_accounted = read_access(method).is_journalled or PersonalDataMask(method.output_type).is_needed
    assert has_journal or not is_accounted
    # Answers that stay serialised are never looked into.
    assert method.name not in SERIALIZED_METHODS or not is_accounted


def test_every_descriptor_is_loaded() -> None:
    names = {method.containing_service.full_name for method in METHODS}
    assert all(descriptor_pool.Default().FindServiceByName(name) is not None for name in names)
