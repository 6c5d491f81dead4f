"""Rule sets: those that come with the release, and versions without gaps."""

from services.common.reasons import Reason
from services.registry import kinds, shipped
from tests.registry import examples
from tests.registry.calls import create, get, list_all, refused_create
from tests.registry.harness import RunningRegistry
from zhichao.journal.v1 import entry_pb2
from zhichao.registry.v1 import resources_pb2 as pb


def test_shipped_rule_sets_are_right() -> None:
    assert shipped.rule_sets()
    for rule_set in shipped.rule_sets():
        assert kinds.RULE_SET.examine(rule_set).violations == []


def test_shipped_rule_sets_are_published_by_the_platform_itself(registry: RunningRegistry) -> None:
    published = list_all(registry, pb.RuleSet())
    assert {rule_set.info.origin for rule_set in published} == {"141025"}
    for rule_set in published:
        rule_set.ClearField("info")
    assert published == shipped.rule_sets()
    entries = [entry_pb2.Entry.FromString(entry) for entry in registry.entries()]
    published_by = {(entry.actor, entry.request_id) for entry in entries if entry.kind == kinds.RULE_SET.name}
    assert published_by == {("", "")}


def test_a_version_published_before_under_the_name_stays(registry: RunningRegistry) -> None:
    first = shipped.rule_sets()[0]
    own = examples.rule_set(rule_set_id=first.rule_set_id, version=first.version + 1, title="Own")
    created = create(registry, own)
    registry.stop()
    registry.start()
    assert get(registry, own) == created
    assert get(registry, pb.RuleSet(rule_set_id=first.rule_set_id)) == created


def test_versions_have_no_gaps(registry: RunningRegistry) -> None:
    refused = refused_create(registry, examples.rule_set(version=2))
    assert (refused.reason, refused.fields) == (Reason.INVALID_ARGUMENT, ["rule_set.version"])
    assert "the next one is 1" in refused.descriptions["rule_set.version"]

    for version in (1, 2, 3):
        create(registry, examples.rule_set(version=version))
    assert refused_create(registry, examples.rule_set(version=5)).fields == ["rule_set.version"]


def test_a_published_version_never_changes(registry: RunningRegistry) -> None:
    create(registry, examples.rule_set())
    changed = examples.rule_set()
    changed.gross_limits[0].limit_kg += 1
    refused = refused_create(registry, changed)
    assert refused.reason is Reason.RESOURCE_EXISTS
    assert "publish the next one" in refused.message


def test_a_bad_row_is_named(registry: RunningRegistry) -> None:
    bad = examples.rule_set(effective_from="2025-02-30")
    bad.gross_limits[1].limit_kg = -1
    refused = refused_create(registry, bad)
    assert "rule_set.effective_from" in refused.fields
    assert "rule_set.gross_limits[1].limit_kg" in refused.fields
