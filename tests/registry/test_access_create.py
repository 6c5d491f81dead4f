"""Issuing credentials over gRPC: what is answered, stored, journalled and refused."""

import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from services.common.reasons import Reason
from tests.registry import access_examples, examples
from tests.registry.access_calls import Access
from tests.registry.calls import create
from tests.registry.harness import RunningRegistry
from zhichao.access.v1 import credential_pb2 as pb
from zhichao.journal.v1 import entry_pb2


@pytest.fixture
def access(registry: RunningRegistry) -> Access:
    create(registry, examples.source_unit())
    create(registry, examples.source_unit(source_unit_id="141025-002", credit_code=""))
    return Access.of(registry)


def last_entry(registry: RunningRegistry) -> tuple[entry_pb2.Entry, pb.Credential]:
    entry = entry_pb2.Entry.FromString(registry.changes()[-1])
    return entry, pb.Credential.FromString(entry.payload)


def at(credential: pb.Credential, field: str) -> datetime:
    instant: datetime = getattr(credential, field).ToDatetime(tzinfo=UTC)
    return instant


@pytest.mark.parametrize(
    "credential",
    [
        access_examples.terminal(),
        access_examples.integrator("141025-001", "141025-002"),
        access_examples.person("141025", "VIEWER", "OFFICER"),
        access_examples.terminal(limits=pb.CallLimits(calls_per_second=5, burst_calls=50, bytes_per_second=1_000)),
    ],
    ids=["terminal", "integrator", "person", "limits"],
)
def test_a_credential_is_answered_got_listed_and_used(
    registry: RunningRegistry, access: Access, credential: pb.Credential
) -> None:
    credential.credential_id = "c-1"

    issued = access.create(credential)
    size = registry.last_change()

    assert access.get("c-1") == issued.credential
    assert issued.credential in access.list_all()
    for field in ("kind", "source_unit_ids", "division_code", "roles", "limits"):
        assert getattr(issued.credential, field) == getattr(credential, field)
    assert (issued.credential.origin, issued.credential.etag) == ("141025", f"141025-{size}")
    identity = Access.of(registry, issued.token).identity()
    assert identity.principal.partition("/")[2] == "c-1"
    assert (identity.platform, identity.kind) == ("141025", credential.kind)
    assert (list(identity.source_unit_ids), identity.division_code) == (
        list(credential.source_unit_ids),
        credential.division_code,
    )
    assert identity.expire_time == issued.credential.expire_time


def test_the_entry_holds_digest_and_actor_and_no_secret(registry: RunningRegistry, access: Access) -> None:
    issued = access.create(access_examples.terminal(credential_id="c-1"))
    entry, kept = last_entry(registry)

    secret = issued.token.rpartition(".")[2]
    assert issued.token == f"zhichao.c-1.{secret}"
    assert len(secret) == 43
    assert (entry.kind, entry.schema, entry.actor) == ("zhichao.access.v1.Credential", 1, "person/admin")
    assert [one.digest for one in kept.secrets] == [hashlib.sha256(secret.encode()).digest()]
    assert (kept.etag, kept.origin, kept.HasField("last_use_time")) == ("", "", False)
    assert kept.display_name == "东门终端"
    assert all(secret.encode() not in entry for entry in registry.entries())
    assert not issued.credential.secrets


def test_an_id_is_made_where_none_is_given(access: Access) -> None:
    first, second = (access.create(access_examples.terminal()).credential.credential_id for _ in range(2))
    assert first.startswith("t-")
    assert first != second
    assert access.create(access_examples.person("141025", "VIEWER")).credential.credential_id.startswith("p-")


def test_a_credential_ends_after_a_year_unless_it_is_said(access: Access) -> None:
    credential = access.create(access_examples.terminal()).credential
    assert timedelta(days=364) < at(credential, "expire_time") - at(credential, "create_time") < timedelta(days=366)

    wanted = access_examples.terminal()
    wanted.expire_time.FromDatetime(at(credential, "create_time") + timedelta(days=700))
    assert access.create(wanted).credential.expire_time == wanted.expire_time


def test_one_for_certificates_has_no_token(registry: RunningRegistry, access: Access) -> None:
    issued = access.create(access_examples.integrator("141025-001", credential_id="firm"), is_certificate_only=True)
    assert issued.token == ""
    assert issued.certificate_uri == "spiffe://zhichao/platform/141025/credential/firm"
    assert list(last_entry(registry)[1].secrets) == []


def test_what_only_the_registry_sets_is_ignored(access: Access) -> None:
    credential = access_examples.terminal(credential_id="c-1", etag="x", origin="140000", revoke_reason="x")
    for field in ("create_time", "revoke_time", "last_use_time"):
        getattr(credential, field).seconds = 1
    credential.secrets.add(digest=b"0" * 32).expire_time.seconds = 2**33

    issued = access.create(credential).credential

    assert (issued.origin, issued.revoke_reason, issued.HasField("revoke_time")) == ("141025", "", False)
    assert not issued.HasField("last_use_time")
    assert at(issued, "create_time").year == 2025
    assert not issued.secrets


def test_every_bad_field_is_named_at_once(access: Access) -> None:
    bad = access_examples.integrator("u 1", credential_id="A", display_name="", division_code="x")
    bad.limits.calls_per_second = -1
    bad.expire_time.seconds = 1
    refused = access.refused_create(bad)
    assert (refused.status, refused.reason) == ("INVALID_ARGUMENT", Reason.INVALID_ARGUMENT)
    assert refused.fields == [
        f"credential.{field}"
        for field in (
            "credential_id",
            "display_name",
            "source_unit_ids[0]",
            "division_code",
            "limits.calls_per_second",
            "expire_time",
        )
    ]


@pytest.mark.parametrize("seconds", [2**60, -(2**60)])
def test_an_end_that_no_calendar_has_is_refused(access: Access, seconds: int) -> None:
    credential = access_examples.terminal()
    credential.expire_time.seconds = seconds
    assert access.refused_create(credential).fields == ["credential.expire_time"]


def test_an_empty_request_is_refused(access: Access) -> None:
    assert "credential.kind" in access.refused_create(pb.Credential()).fields


def test_ids_are_taken_for_ever(registry: RunningRegistry, access: Access) -> None:
    access.create(access_examples.terminal(credential_id="c-1"))
    changes = registry.changes()
    # Also with the same content: the token is not shown twice.
    refused = access.refused_create(access_examples.terminal(credential_id="c-1"))
    assert (refused.status, refused.reason) == ("ALREADY_EXISTS", Reason.RESOURCE_EXISTS)
    access.revoke("c-1")
    assert access.refused_create(access_examples.terminal(credential_id="c-1")).reason is Reason.RESOURCE_EXISTS
    assert len(registry.changes()) == len(changes) + 1


def test_units_must_be_registered_here(access: Access) -> None:
    refused = access.refused_create(access_examples.integrator("141025-001", "u-8", "u-9"))
    assert (refused.status, refused.reason) == ("FAILED_PRECONDITION", Reason.REFERENCE_NOT_FOUND)
    assert refused.metadata == {"resource_type": "source_unit", "resource_id": "u-8"}
    assert "u-9" in refused.message


def test_units_of_a_lower_platform_are_not_registered_here(city: RunningRegistry, registry: RunningRegistry) -> None:
    create(registry, examples.source_unit())
    city.receive(registry.batches())
    assert Access.of(city).refused_create(access_examples.terminal()).reason is Reason.REFERENCE_NOT_FOUND


@pytest.mark.parametrize("division_code", ["141000", "141026", "110000"])
def test_a_person_belongs_to_the_platform_or_below(access: Access, division_code: str) -> None:
    refused = access.refused_create(access_examples.person(division_code, "VIEWER"))
    assert (refused.status, refused.reason) == ("FAILED_PRECONDITION", Reason.REFERENCE_NOT_FOUND)
    assert refused.metadata == {"resource_type": "division", "resource_id": division_code}


def test_a_zone_that_is_registered_below_is_below(registry: RunningRegistry, access: Access) -> None:
    person = access_examples.person("140671", "VIEWER")
    assert access.refused_create(person).reason is Reason.REFERENCE_NOT_FOUND
    create(registry, examples.division(division_code="140671", parent_code="141025", is_extra_zone=True))
    assert access.create(person).credential.division_code == "140671"


def test_a_division_that_a_lower_platform_claims_is_not_below(city: RunningRegistry, registry: RunningRegistry) -> None:
    create(registry, examples.division(division_code="140671", parent_code="141000", is_extra_zone=True))
    city.receive(registry.batches())
    refused = Access.of(city).refused_create(access_examples.person("140671", "VIEWER"))
    assert refused.reason is Reason.REFERENCE_NOT_FOUND


def test_two_administrators_in_one_are_refused(access: Access) -> None:
    both = access_examples.person("141025", "VIEWER", "AUDITOR", "SECURITY_ADMINISTRATOR")
    refused = access.refused_create(both)
    assert (refused.status, refused.reason) == ("FAILED_PRECONDITION", Reason.ROLES_CONFLICT)
    assert refused.metadata == {"roles": "AUDITOR,SECURITY_ADMINISTRATOR"}


def test_a_refused_credential_leaves_nothing(registry: RunningRegistry, access: Access) -> None:
    ids = access.ids(include_ended=True)
    size = registry.size()
    access.refused_create(access_examples.terminal("u-9", credential_id="c-9"))
    access.refused_create(access_examples.person("110000", "VIEWER", credential_id="c-9"))
    assert registry.size() == size
    assert access.ids(include_ended=True) == ids


def test_only_the_security_administrator_issues(registry: RunningRegistry, access: Access) -> None:
    refused = Access.of(registry, registry.operator_token).refused_create(access_examples.terminal())
    assert (refused.status, refused.reason) == ("PERMISSION_DENIED", Reason.PERMISSION_MISSING)
    refused = Access.of(registry, access.create(access_examples.terminal()).token).refused_create(
        access_examples.terminal()
    )
    assert refused.reason is Reason.PERMISSION_MISSING
    assert Access.of(registry, "").refused_create(access_examples.terminal()).reason is Reason.NO_CREDENTIALS
