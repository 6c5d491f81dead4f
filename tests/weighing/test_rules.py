"""Rule sets as data: the shipped files are what the proto takes, and both ways of reading them agree."""

import json
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from services.weighing.axles import TireArrangement
from services.weighing.limits import VehicleClass
from services.weighing.plates import PlateColor
from services.weighing.quality import QualityFlag
from services.weighing.rules import RuleSet, ScaleKind, ScaleTolerance, rules_from_mapping
from services.weighing.verdict import Severity, Verdict, WeighingEvent
from zhichao.registry.v1 import resources_pb2
from zhichao.weighing.v1 import record_pb2, weighing_pb2

RULE_SETS = Path(__file__).resolve().parents[2] / "services" / "registry" / "rule_sets"
SHIPPED = ["chart-2016", "order-62-2016"]


def read(rule_set_id: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RULE_SETS / f"{rule_set_id}.json").read_text(encoding="utf-8"))
    return content


def test_shipped_rule_sets_are_these() -> None:
    assert sorted(path.stem for path in RULE_SETS.glob("*.json")) == SHIPPED


@pytest.mark.parametrize("rule_set_id", SHIPPED)
def test_shipped_rule_set_says_what_it_is(rule_set_id: str) -> None:
    rule_set = rules_from_mapping(read(rule_set_id))

    assert (rule_set.rule_set_id, rule_set.version, rule_set.effective_from) == (rule_set_id, 1, "2016-09-21")
    assert rule_set.source_document


@pytest.mark.parametrize("rule_set_id", SHIPPED)
def test_no_shipped_rule_set_claims_to_be_a_provincial_standard(rule_set_id: str) -> None:
    text = json.dumps(read(rule_set_id), ensure_ascii=False)

    assert "Shanxi" not in text
    assert "山西" not in text


@pytest.mark.parametrize("rule_set_id", SHIPPED)
def test_shipped_rule_set_is_a_rule_set_message(rule_set_id: str) -> None:
    message = json_format.ParseDict(read(rule_set_id), resources_pb2.RuleSet())

    # Nothing was passed over and nothing written that the proto would drop.
    assert json_format.MessageToDict(message) == read(rule_set_id)


@pytest.mark.parametrize("rule_set_id", SHIPPED)
def test_both_spellings_of_a_mapping_give_the_same_rule_set(rule_set_id: str) -> None:
    message = json_format.ParseDict(read(rule_set_id), resources_pb2.RuleSet())
    by_proto_names = json_format.MessageToDict(message, preserving_proto_field_name=True, use_integers_for_enums=True)

    assert rules_from_mapping(by_proto_names) == rules_from_mapping(read(rule_set_id))


def test_absent_values_take_the_defaults_of_the_proto() -> None:
    assert rules_from_mapping({"ruleSetId": "x", "version": 2}) == RuleSet("x", 2)


def test_names_of_a_newer_registry_are_passed_over() -> None:
    mapping = {"ruleSetId": "x", "version": 2, "colour": 1, "grossLimits": [{"code": "a", "colour": 1}]}

    assert [row.code for row in rules_from_mapping(mapping).gross_limits] == ["a"]


@pytest.mark.parametrize(
    "mapping",
    [
        {"version": "1"},
        {"version": True},
        {"ruleSetId": 5},
        {"grossLimits": {}},
        {"grossLimits": [5]},
        {"grossLimits": [{"limitKg": 1.5}]},
        {"modifiers": []},
        {"modifiers": {"airSuspensionLimits": [{"limitKg": "1"}]}},
        {"scaleTolerances": [{"scaleKind": "SCALE_KIND_SPRING"}]},
        {"scaleTolerances": [{"scaleKind": None}]},
    ],
)
def test_a_mapping_of_other_types_is_refused(mapping: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is "):
        rules_from_mapping(mapping)


def test_scale_kinds_are_taken_by_name_and_by_number() -> None:
    mapping = {"scaleTolerances": [{"scaleKind": "SCALE_KIND_DYNAMIC", "permille": 50}, {"scaleKind": 3}]}

    assert rules_from_mapping(mapping).scale_tolerances == (ScaleTolerance(2, 50), ScaleTolerance(3, 0))


@pytest.mark.parametrize(
    ("day", "expected"),
    [("2016-09-20", False), ("2016-09-21", True), ("2019-12-31", True), ("2020-01-01", False)],
)
def test_a_rule_set_judges_from_its_first_day_to_the_day_before_its_end(day: str, expected: bool) -> None:
    rule_set = RuleSet("x", 1, effective_from="2016-09-21", effective_until="2020-01-01")

    assert rule_set.is_effective_on(day) is expected


def test_a_rule_set_without_end_goes_on() -> None:
    assert RuleSet("x", 1, effective_from="2016-09-21").is_effective_on("2999-12-31")


@pytest.mark.parametrize(
    ("ours", "theirs", "prefix"),
    [
        (ScaleKind, resources_pb2.ScaleKind, "SCALE_KIND_"),
        (VehicleClass, record_pb2.VehicleClass, "VEHICLE_CLASS_"),
        (TireArrangement, record_pb2.TireArrangement, "TIRE_ARRANGEMENT_"),
        (PlateColor, record_pb2.PlateColor, "PLATE_COLOR_"),
        (WeighingEvent, record_pb2.WeighingEvent, "WEIGHING_EVENT_"),
        (Verdict, weighing_pb2.Verdict, "VERDICT_"),
        (Severity, weighing_pb2.Severity, "SEVERITY_"),
        (QualityFlag, weighing_pb2.QualityFlag, "QUALITY_FLAG_"),
    ],
)
def test_enums_are_numbered_as_in_the_protos(ours: type[IntEnum], theirs: Any, prefix: str) -> None:
    assert {prefix + member.name: member.value for member in ours} == dict(theirs.items())
