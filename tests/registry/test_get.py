"""Getting resources over gRPC, also when several platforms have the id."""

from pathlib import Path

import pytest

from services.common.reasons import Reason
from tests.conftest import Databases
from tests.registry import examples
from tests.registry.calls import create, get, refused_get
from tests.registry.harness import RunningRegistry
from zhichao.registry.v1 import resources_pb2 as pb
from zhichao.registry.v1 import service_pb2


@pytest.mark.parametrize("resource", examples.all_in_order()[:6], ids=lambda resource: resource.DESCRIPTOR.name)
def test_what_is_not_held_is_not_found(shared: RunningRegistry, resource: object) -> None:
    refused = refused_get(shared, resource)
    assert (refused.status, refused.reason) == ("NOT_FOUND", Reason.NOT_FOUND)


def test_every_bad_field_is_named(shared: RunningRegistry) -> None:
    request = service_pb2.GetScaleRequest(source_unit_id="a b", scale_id="\0", origin="x")
    assert shared.refusal("GetScale", request).fields == ["source_unit_id", "scale_id", "origin"]


def test_without_an_owner_the_own_resource_comes_first(
    city: RunningRegistry, databases: Databases, socket_directory: Path
) -> None:
    counties = [RunningRegistry(databases, socket_directory, code) for code in ("141024", "141025")]
    try:
        for county in counties:
            create(county, examples.source_unit(name=county.platform))
            city.receive(county.batches())

        refused = refused_get(city, examples.source_unit())
        assert (refused.status, refused.fields) == ("INVALID_ARGUMENT", ["origin"])
        assert "141024, 141025" in refused.descriptions["origin"]
        assert get(city, examples.source_unit(), origin="141024").name == "141024"

        create(city, examples.source_unit(name="141000"))
        assert get(city, examples.source_unit()).name == "141000"
        assert refused_get(city, examples.source_unit(), origin="141022").reason is Reason.NOT_FOUND
    finally:
        for county in counties:
            county.close()


def test_an_id_of_one_other_platform_needs_no_owner(city: RunningRegistry, registry: RunningRegistry) -> None:
    created = create(registry, examples.source_unit())
    city.receive(registry.batches())
    # The division is not registered on either; the copy is the same in every field.
    assert get(city, examples.source_unit()) == created


def test_a_code_used_twice(registry: RunningRegistry) -> None:
    old = create(registry, examples.division(name="旧", valid_from="1958-01-01", valid_until="1961-01-01"))
    new = create(registry, examples.division(name="新", valid_from="1971-01-01"))
    coming = create(registry, examples.division(name="将来", valid_from="2030-01-01"))

    assert get(registry, examples.division(), valid_from="") == new
    assert get(registry, examples.division(), valid_from="1958-01-01") == old
    assert get(registry, examples.division(), valid_from="2030-01-01") == coming
    assert refused_get(registry, examples.division(), valid_from="1999-01-01").reason is Reason.NOT_FOUND


def test_a_code_that_is_not_valid_any_more_is_found(registry: RunningRegistry) -> None:
    old = create(registry, examples.division(valid_until="2001-01-01"))
    assert get(registry, examples.division(), valid_from="") == old


def test_days_are_days_in_china(registry: RunningRegistry) -> None:
    create(registry, examples.division(name="旧", valid_from="1971-01-01", valid_until="2025-03-02"))
    create(registry, examples.division(name="新", valid_from="2025-03-02"))
    registry.clock.moment = registry.clock.moment.replace(hour=15, minute=59, second=0)
    assert get(registry, examples.division(), valid_from="").name == "旧"
    registry.clock.moment = registry.clock.moment.replace(hour=16)
    assert get(registry, examples.division(), valid_from="").name == "新"


def test_divisions_of_several_owners(city: RunningRegistry, registry: RunningRegistry) -> None:
    create(registry, examples.division(name="古县的"))
    city.receive(registry.batches())
    assert get(city, examples.division()).name == "古县的"
    create(city, examples.division(name="临汾的"))
    assert get(city, examples.division()).name == "临汾的"


def test_the_newest_version_of_a_rule_set(registry: RunningRegistry) -> None:
    create(registry, examples.rule_set())
    second = create(registry, examples.rule_set(version=2, title="Second"))
    assert get(registry, pb.RuleSet(rule_set_id="example")) == second
    assert get(registry, pb.RuleSet(rule_set_id="example", version=1)).title != "Second"
    assert refused_get(registry, pb.RuleSet(rule_set_id="example", version=3)).reason is Reason.NOT_FOUND
    assert refused_get(registry, pb.RuleSet(rule_set_id="example", version=-1)).fields == ["version"]
