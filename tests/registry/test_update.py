"""Changing resources over gRPC: masks, etags, ownership, and changes of nothing."""

from typing import Any

import pytest

from services.common.reasons import Reason
from tests.registry import examples
from tests.registry.calls import create, get, refused_update, update
from tests.registry.harness import RunningRegistry
from zhichao.registry.v1 import resources_pb2 as pb


def create_all(registry: RunningRegistry) -> list[Any]:
    return [create(registry, resource) for resource in examples.all_in_order()]


CHANGES = [
    examples.division(name="新名"),
    examples.platform(upstream_code="140000"),
    examples.source_unit(state=pb.SOURCE_UNIT_STATE_OPERATING, data_home_code="141000"),
    examples.weighing_point(is_active=False),
    examples.scale(capacity_kg=150_000),
    examples.verification_certificate(valid_until="2025-12-31"),
]


@pytest.mark.parametrize("changed", CHANGES, ids=lambda resource: resource.DESCRIPTOR.name)
def test_update_changes_the_resource_and_its_etag(registry: RunningRegistry, changed: Any) -> None:
    before = next(one for one in create_all(registry) if one.DESCRIPTOR == changed.DESCRIPTOR)

    after = update(registry, changed)

    assert get(registry, changed) == after
    assert after.info.etag == f"141025-{registry.last_change()}"
    assert after.info.create_time == before.info.create_time
    assert after.info.update_time.ToDatetime() > before.info.update_time.ToDatetime()
    after.ClearField("info")
    assert after == changed


def test_only_masked_fields_change(registry: RunningRegistry) -> None:
    create(registry, examples.source_unit())
    request = pb.SourceUnit(source_unit_id="141025-001", name="新名", kind=pb.SOURCE_UNIT_KIND_WORKS)

    updated = update(registry, request, "name")

    updated.ClearField("info")
    assert updated == examples.source_unit(name="新名")


def test_a_masked_field_that_is_absent_becomes_absent(registry: RunningRegistry) -> None:
    for resource in examples.all_in_order()[2:5]:
        create(registry, resource)

    unit = update(registry, pb.SourceUnit(source_unit_id="141025-001"), "location")
    scale = update(registry, pb.Scale(source_unit_id="141025-001", scale_id="scale-1"), "division_kg")

    assert not unit.HasField("location")
    assert not scale.HasField("division_kg")


@pytest.mark.parametrize("paths", [(), ("*",)])
def test_no_mask_and_star_replace_everything(registry: RunningRegistry, paths: tuple[str, ...]) -> None:
    create(registry, examples.source_unit())
    wanted = examples.source_unit(credit_code="", state=pb.SOURCE_UNIT_STATE_SURVEYED, location=None)

    updated = update(registry, wanted, *paths)

    updated.ClearField("info")
    assert updated == wanted


def test_a_change_of_nothing_writes_nothing(registry: RunningRegistry) -> None:
    created = create(registry, examples.source_unit())
    size = registry.size()
    assert update(registry, created) == created
    assert update(registry, created, "name", "state") == created
    assert registry.size() == size


def test_bad_paths_are_all_named(registry: RunningRegistry) -> None:
    create(registry, examples.source_unit())
    refused = refused_update(
        registry,
        examples.source_unit(),
        "name",
        "source_unit_id",
        "colour",
        "info.etag",
        "location.latitude_degrees",
        "*",
    )
    assert refused.reason is Reason.INVALID_ARGUMENT
    assert refused.fields == [f"update_mask.paths[{position}]" for position in range(1, 6)]
    assert "'colour' is not a field of source_unit" in refused.descriptions["update_mask.paths[2]"]
    assert "part of the id" in refused.descriptions["update_mask.paths[1]"]


def test_the_result_is_checked_as_a_whole(registry: RunningRegistry) -> None:
    for resource in examples.all_in_order()[2:6]:
        create(registry, resource)
    changed = examples.verification_certificate(valid_from="2027-01-01")
    refused = refused_update(registry, changed, "valid_from")
    assert refused.fields == ["verification_certificate.valid_until"]


def test_a_scale_moves_only_to_a_point_that_exists(registry: RunningRegistry) -> None:
    for resource in examples.all_in_order()[2:5]:
        create(registry, resource)
    moved = examples.scale(weighing_point_id="gate-2")

    refused = refused_update(registry, moved, "weighing_point_id")
    assert (refused.status, refused.reason) == ("FAILED_PRECONDITION", Reason.REFERENCE_NOT_FOUND)

    create(registry, examples.weighing_point(weighing_point_id="gate-2"))
    assert update(registry, moved, "weighing_point_id").weighing_point_id == "gate-2"


def test_an_old_etag_is_refused_with_the_current_one(registry: RunningRegistry) -> None:
    first = create(registry, examples.source_unit())
    second = update(registry, examples.source_unit(name="二"), "name")
    first.name = "三"

    refused = refused_update(registry, first, "name")

    assert (refused.status, refused.reason) == ("ABORTED", Reason.ETAG_MISMATCH)
    assert refused.metadata == {"etag": second.info.etag}
    second.name = "三"
    assert update(registry, second, "name").name == "三"


def test_what_is_not_held_is_not_found(registry: RunningRegistry) -> None:
    refused = refused_update(registry, examples.source_unit(), "name")
    assert (refused.status, refused.reason) == ("NOT_FOUND", Reason.NOT_FOUND)
    assert refused.metadata == {"resource_type": "source_unit", "resource_id": "141025-001"}


def test_a_bad_id_is_refused_before_the_database(registry: RunningRegistry) -> None:
    refused = refused_update(registry, examples.source_unit(source_unit_id="\0"), "name")
    assert refused.fields == ["source_unit.source_unit_id"]


@pytest.mark.parametrize("state", list(range(1, 6)))
@pytest.mark.parametrize("following", list(range(1, 6)))
def test_every_change_of_state_is_taken(shared: RunningRegistry, state: int, following: int) -> None:
    unit = examples.source_unit(source_unit_id=f"state-{state}-{following}", state=state)
    create(shared, unit)
    unit.state = pb.SourceUnitState.ValueType(following)
    assert update(shared, unit, "state").state == following
