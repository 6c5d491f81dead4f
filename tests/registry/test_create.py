"""Creating resources over gRPC: every kind, idempotency, references, refusals."""

from typing import Any

import pytest

from services.common.reasons import Reason
from tests.registry import examples
from tests.registry.calls import create, get, kind_of, list_all, refused_create
from tests.registry.harness import RunningRegistry
from zhichao.journal.v1 import entry_pb2
from zhichao.registry.v1 import service_pb2

KINDS = [kind_of(resource).resource_type for resource in examples.all_in_order()]


def example(resource_type: str) -> Any:
    return getattr(examples, resource_type)()


def create_before(registry: RunningRegistry, resource_type: str) -> None:
    """Create what an example of this kind refers to."""
    for resource in examples.all_in_order()[2 : KINDS.index(resource_type)]:
        create(registry, resource)


def without_info(resource: Any) -> Any:
    bare = type(resource)()
    bare.CopyFrom(resource)
    bare.ClearField("info")
    return bare


@pytest.mark.parametrize("resource_type", KINDS)
def test_created_resource_is_answered_got_and_listed(registry: RunningRegistry, resource_type: str) -> None:
    create_before(registry, resource_type)
    resource = example(resource_type)

    created = create(registry, resource)

    assert without_info(created) == resource
    assert get(registry, resource) == created
    assert created in list_all(registry, resource)


@pytest.mark.parametrize("resource_type", KINDS)
def test_info_names_owner_place_and_times(registry: RunningRegistry, resource_type: str) -> None:
    create_before(registry, resource_type)
    created = create(registry, example(resource_type))
    assert created.info.origin == "141025"
    assert created.info.etag == f"141025-{registry.last_change()}"
    assert created.info.create_time == created.info.update_time


@pytest.mark.parametrize("resource_type", KINDS)
def test_same_content_again_writes_nothing(registry: RunningRegistry, resource_type: str) -> None:
    create_before(registry, resource_type)
    created = create(registry, example(resource_type))
    changes = registry.changes()

    # What was answered may be sent back: info is ignored.
    assert create(registry, created) == created
    assert create(registry, example(resource_type)) == created
    assert registry.changes() == changes


OTHER_CONTENT: dict[str, dict[str, Any]] = {
    "division": {"name": "别名"},
    "platform": {"name": "别名"},
    "source_unit": {"name": "别名"},
    "weighing_point": {"is_active": False},
    "scale": {"capacity_kg": 100_000},
    "verification_certificate": {"issuer": "另一计量所"},
    "rule_set": {"title": "Another"},
}


@pytest.mark.parametrize("resource_type", KINDS)
def test_other_content_is_refused_and_the_first_kept(registry: RunningRegistry, resource_type: str) -> None:
    create_before(registry, resource_type)
    created = create(registry, example(resource_type))

    refused = refused_create(registry, getattr(examples, resource_type)(**OTHER_CONTENT[resource_type]))

    assert (refused.status, refused.reason) == ("ALREADY_EXISTS", Reason.RESOURCE_EXISTS)
    assert refused.metadata["resource_type"] == resource_type
    assert get(registry, example(resource_type)) == created


@pytest.mark.parametrize(
    ("resource", "resource_type", "resource_id"),
    [
        (examples.weighing_point(), "source_unit", "141025-001"),
        (examples.scale(), "weighing_point", "141025-001/gate-1"),
        (examples.verification_certificate(), "scale", "141025-001/scale-1"),
    ],
)
def test_what_a_resource_belongs_to_must_exist(
    registry: RunningRegistry, resource: Any, resource_type: str, resource_id: str
) -> None:
    refused = refused_create(registry, resource)
    assert (refused.status, refused.reason) == ("FAILED_PRECONDITION", Reason.REFERENCE_NOT_FOUND)
    assert refused.metadata == {"resource_type": resource_type, "resource_id": resource_id}


def test_every_bad_field_is_named_at_once(registry: RunningRegistry) -> None:
    refused = refused_create(
        registry,
        examples.source_unit(
            source_unit_id="a b",
            name="x\ny",
            credit_code="123",
            kind=99,
            division_code="14102",
            data_home_code="abc",
            enforcement_code="１４１０２５",
            location={"latitude_degrees": 91.0, "longitude_degrees": float("nan")},
            state=0,
            rule_set_id="Order 62",
        ),
    )
    assert (refused.status, refused.reason) == ("INVALID_ARGUMENT", Reason.INVALID_ARGUMENT)
    assert refused.fields == [
        "source_unit.source_unit_id",
        "source_unit.name",
        "source_unit.credit_code",
        "source_unit.kind",
        "source_unit.division_code",
        "source_unit.data_home_code",
        "source_unit.enforcement_code",
        "source_unit.state",
        "source_unit.rule_set_id",
        "source_unit.location.latitude_degrees",
        "source_unit.location.longitude_degrees",
    ]


@pytest.mark.parametrize("resource_type", KINDS)
def test_an_empty_resource_is_refused(registry: RunningRegistry, resource_type: str) -> None:
    size = registry.size()
    refused = refused_create(registry, type(example(resource_type))())
    assert refused.reason is Reason.INVALID_ARGUMENT
    assert registry.size() == size


def test_the_entry_holds_the_resource_and_who_asked(registry: RunningRegistry) -> None:
    request_id = "test-request-1"
    created = registry.call(
        "CreateSourceUnit",
        service_pb2.CreateSourceUnitRequest(source_unit=examples.source_unit()),
        x_request_id=request_id,
    ).source_unit

    entry = entry_pb2.Entry.FromString(registry.entries()[-1])
    kept = type(created).FromString(entry.payload)
    assert (entry.kind, entry.schema) == ("zhichao.registry.v1.SourceUnit", 1)
    assert (entry.actor, entry.request_id) == ("person/operator", request_id)
    assert entry.write_time == created.info.update_time
    assert without_info(kept) == examples.source_unit()
    assert (kept.info.create_time, kept.info.update_time) == (created.info.create_time, created.info.update_time)
    assert (kept.info.origin, kept.info.etag, len(kept.info.warnings)) == ("", "", 0)


def test_doubts_become_warnings_that_go_away_with_their_cause(registry: RunningRegistry) -> None:
    wrong_check = examples.CREDIT_CODE[:-1] + "0"
    created = create(registry, examples.source_unit(credit_code=wrong_check, rule_set_id="not-there"))
    assert [warning.field for warning in created.info.warnings] == ["credit_code", "division_code", "rule_set_id"]

    create(registry, examples.division())
    create(registry, examples.rule_set(rule_set_id="not-there"))
    assert [warning.field for warning in get(registry, created).info.warnings] == ["credit_code"]


def test_certificates_of_one_scale_may_overlap(registry: RunningRegistry) -> None:
    create_before(registry, "verification_certificate")
    create(registry, examples.verification_certificate())
    create(registry, examples.verification_certificate(certificate_number="2", valid_from="2025-06-01"))
    assert len(list_all(registry, examples.verification_certificate(), scale_id="scale-1")) == 2
