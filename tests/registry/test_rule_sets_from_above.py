"""Rule sets that an upper platform publishes for those below: whom they reach, and what a registry there says."""

from pathlib import Path

import pytest

from services.common.reasons import Reason
from services.registry import shipped
from tests.conftest import Databases
from tests.registry import examples
from tests.registry.calls import create, get, list_all, refused_get
from tests.registry.downlink import carry_down
from tests.registry.harness import RunningRegistry
from zhichao.journal.v1 import entry_pb2
from zhichao.registry.v1 import resources_pb2 as pb


def audiences(registry: RunningRegistry) -> dict[str, str]:
    """Return the audience of each rule set in the own log."""
    entries = [entry_pb2.Entry.FromString(entry) for entry in registry.entries()]
    rule_set = pb.RuleSet.DESCRIPTOR.full_name
    return {pb.RuleSet.FromString(one.payload).rule_set_id: one.audience for one in entries if one.kind == rule_set}


@pytest.fixture
def province(databases: Databases, socket_directory: Path) -> object:
    running = RunningRegistry(databases, socket_directory, "140000")
    yield running
    running.close()


def test_a_rule_set_is_addressed_to_its_jurisdiction_or_to_all_below(city: RunningRegistry) -> None:
    create(city, examples.rule_set(rule_set_id="for-all"))
    create(city, examples.rule_set(rule_set_id="for-one", jurisdiction="141025"))
    create(city, examples.source_unit())
    assert audiences(city) == {
        **{rule_set.rule_set_id: "" for rule_set in shipped.rule_sets()},
        "for-all": "141000",
        "for-one": "141025",
    }


def test_it_arrives_with_its_owner_and_judges_there(city: RunningRegistry, registry: RunningRegistry) -> None:
    published = create(city, examples.rule_set(rule_set_id="of-the-city"))
    create(city, examples.rule_set(rule_set_id="of-a-neighbour", jurisdiction="141026"))
    doubtful = create(registry, examples.source_unit(rule_set_id="of-the-city"))
    assert "rule_set_id" in [warning.field for warning in doubtful.info.warnings]

    assert carry_down(city, registry) == 1

    assert get(registry, examples.rule_set(rule_set_id="of-the-city"), version=0) == published
    assert [one.rule_set_id for one in list_all(registry, pb.RuleSet(), origin="141000")] == ["of-the-city"]
    assert refused_get(registry, examples.rule_set(rule_set_id="of-a-neighbour")).reason is Reason.NOT_FOUND
    assert "rule_set_id" not in [warning.field for warning in get(registry, doubtful).info.warnings]
    assert carry_down(city, registry) == 0


def test_a_new_version_follows(city: RunningRegistry, registry: RunningRegistry) -> None:
    create(city, examples.rule_set())
    carry_down(city, registry)
    second = create(city, examples.rule_set(version=2, title="Second"))
    assert carry_down(city, registry) == 1
    assert get(registry, pb.RuleSet(rule_set_id="example")) == second
    assert get(registry, pb.RuleSet(rule_set_id="example", version=1)).title != "Second"


def test_of_several_owners_the_nearest_is_meant(
    province: RunningRegistry, city: RunningRegistry, registry: RunningRegistry
) -> None:
    create(province, examples.rule_set(title="Province"))
    create(city, examples.rule_set(title="City"))
    carry_down(province, city)
    assert carry_down(city, registry) == 2
    wanted = pb.RuleSet(rule_set_id="example")
    assert get(registry, wanted).title == "City"
    assert get(registry, wanted, origin="140000").title == "Province"
    create(registry, examples.rule_set(title="County"))
    assert get(registry, wanted).title == "County"


def test_what_the_county_publishes_under_its_name_is_its_own(city: RunningRegistry, registry: RunningRegistry) -> None:
    create(city, examples.rule_set(title="City"))
    carry_down(city, registry)
    own = create(registry, examples.rule_set(title="County"))
    assert (own.version, own.info.origin) == (1, "141025")
    assert get(registry, examples.rule_set(), origin="141000").title == "City"


def test_a_unit_of_a_copy_may_name_what_is_published_above_it(city: RunningRegistry, registry: RunningRegistry) -> None:
    create(city, examples.rule_set(rule_set_id="of-the-city"))
    carry_down(city, registry)
    create(registry, examples.source_unit(rule_set_id="of-the-city", division_code="141025"))
    city.receive(registry.batches())
    unit = get(city, examples.source_unit(), origin="141025")
    assert "rule_set_id" not in [warning.field for warning in unit.info.warnings]
    # What is published below is nobody's above.
    create(registry, examples.rule_set(rule_set_id="of-the-county"))
    city.receive(registry.batches())
    named = create(city, examples.source_unit(source_unit_id="city-1", rule_set_id="of-the-county"))
    assert "rule_set_id" in [warning.field for warning in named.info.warnings]
