"""Checks of a rule set before it is published: the shipped ones pass, each slip is found, nothing makes them fail."""

from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from services.registry.rule_set_checks import validate_rule_set
from zhichao.registry.v1.resources_pb2 import (
    AirSuspensionLimit,
    AxleGroupLimit,
    GrossLimit,
    RuleSet,
    ScaleTolerance,
)

RULE_SETS = Path(__file__).resolve().parents[2] / "services" / "registry" / "rule_sets"

Change = Callable[[RuleSet], object]


def load(rule_set_id: str) -> RuleSet:
    return json_format.Parse((RULE_SETS / f"{rule_set_id}.json").read_text(encoding="utf-8"), RuleSet())


def fields(rule_set: RuleSet) -> list[str]:
    return [field for field, _ in validate_rule_set(rule_set)]


def setting(path: str, value: object) -> Change:
    """Make a change that sets one field, named by its path."""

    def change(rule_set: RuleSet) -> None:
        *parents, last = path.split(".")
        message: object = rule_set
        for parent in parents:
            message = message[int(parent)] if parent.isdecimal() else getattr(message, parent)  # type: ignore[index]  # JSON and messages are walked by name
        setattr(message, last, value)

    return change


def appending(row: GrossLimit | AxleGroupLimit | ScaleTolerance | AirSuspensionLimit) -> Change:
    def change(rule_set: RuleSet) -> None:
        if isinstance(row, GrossLimit):
            rule_set.gross_limits.append(row)
        elif isinstance(row, AxleGroupLimit):
            rule_set.axle_group_limits.append(row)
        elif isinstance(row, ScaleTolerance):
            rule_set.scale_tolerances.append(row)
        else:
            rule_set.modifiers.air_suspension_limits.append(row)

    return change


@pytest.mark.parametrize("rule_set_id", ["chart-2016", "order-62-2016"])
def test_shipped_rule_sets_may_be_published(rule_set_id: str) -> None:
    assert validate_rule_set(load(rule_set_id)) == []


# In `order-62-2016`: gross rows 0-2 are rigid, 3 combination-3, 4 articulated-4, 5 combination-4, 6 combination-5,
# 7 and 8 for six axles; axle rows 0-2 are single axles, 3-7 tandems, 8 and 9 tridems.


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (setting("rule_set_id", "Order 62"), ["rule_set_id"]),
        (setting("version", 0), ["version"]),
        (setting("title", ""), ["title"]),
        (setting("title_zh", "一\x00"), ["title_zh"]),
        (setting("source_document", ""), ["source_document"]),
        (setting("source_document", "x" * 513), ["source_document"]),
        (setting("jurisdiction", "141025"), []),
        (setting("jurisdiction", "1410"), ["jurisdiction"]),
        (setting("effective_from", ""), ["effective_from"]),
        (setting("effective_from", "2016-9-21"), ["effective_from"]),
        (setting("effective_from", "2016-02-30"), ["effective_from"]),
        (setting("effective_until", "2016-09-22"), []),
        (setting("effective_until", "2016-09-21"), ["effective_until"]),
        (setting("effective_until", "later"), ["effective_until"]),
        # Gross limits.
        (setting("gross_limits.0.code", "Rigid 2"), ["gross_limits[0].code"]),
        (setting("gross_limits.0.code", "rigid-2b"), []),
        (setting("gross_limits.3.code", "combination-5"), ["gross_limits[3].code", "gross_limits[6].code"]),
        (setting("gross_limits.3.code", "tandem-1000"), ["gross_limits[3].code", "axle_group_limits[4].code"]),
        (setting("gross_limits.3.limit_kg", -27_000), ["gross_limits[3].limit_kg"]),
        (setting("gross_limits.3.limit_kg", 0), ["gross_limits[3].limit_kg"]),
        (setting("gross_limits.3.limit_kg", 200_001), ["gross_limits[3].limit_kg"]),
        (setting("gross_limits.4.combination_kind", "road-train"), ["gross_limits[4].combination_kind"]),
        (setting("gross_limits.4.axle_layout", "1+1+2"), []),
        (setting("gross_limits.4.axle_layout", "1-1-2"), ["gross_limits[4].axle_layout"]),
        (setting("gross_limits.4.axle_layout", "1+1+3"), ["gross_limits[4].axle_layout"]),
        (setting("gross_limits.7.drive_axle_count", 5), ["gross_limits[7].drive_axle_count"]),
        (
            setting("gross_limits.0.axle_count_max", 21),
            ["gross_limits[0].axle_count_max", "gross_limits[1]", "gross_limits[2]"],
        ),
        (appending(GrossLimit(code="x", axle_count_min=4, axle_count_max=4, limit_kg=9_000)), ["gross_limits[9]"]),
        (appending(GrossLimit(code="x", axle_count_min=5, limit_kg=44_000)), ["gross_limits[9]"]),
        (
            appending(GrossLimit(code="x", is_rigid=True, axle_count_min=4, axle_count_max=5, limit_kg=31_000)),
            ["gross_limits[9]"],
        ),
        (appending(GrossLimit(code="x", is_rigid=True, axle_count_min=5, axle_count_max=5, limit_kg=35_000)), []),
        (
            appending(
                GrossLimit(
                    code="x",
                    is_rigid=True,
                    axle_count_min=5,
                    axle_count_max=5,
                    combination_kind="articulated",
                    limit_kg=35_000,
                )
            ),
            ["gross_limits[9].combination_kind"],
        ),
        # Classes without a row.
        (
            lambda rule_set: rule_set.gross_limits.pop(1),
            ["gross_limits", "modifiers.air_suspension_limits[0].gross_limit_code"],
        ),
        (lambda rule_set: rule_set.gross_limits.pop(6), ["gross_limits"] * 3),
        (lambda rule_set: rule_set.gross_limits.pop(5), ["gross_limits"] * 2),
        (setting("gross_limits.8.drive_axle_count", 2), ["gross_limits"] * 3),
        (setting("gross_limits.8.axle_count_max", 8), ["gross_limits"] * 3),
        # Modifiers.
        (setting("modifiers.single_tires_reduction_kg", -3_000), ["modifiers.single_tires_reduction_kg"]),
        (setting("modifiers.single_tires_reduction_kg", 0), []),
        (setting("modifiers.single_tires_reduction_kg", 10_001), ["modifiers.single_tires_reduction_kg"]),
        (
            setting("modifiers.air_suspension_limits.0.gross_limit_code", "rigid-9"),
            ["modifiers.air_suspension_limits[0].gross_limit_code"],
        ),
        (
            setting("modifiers.air_suspension_limits.0.gross_limit_code", "rigid-4"),
            [
                "modifiers.air_suspension_limits[0].gross_limit_code",
                "modifiers.air_suspension_limits[1].gross_limit_code",
            ],
        ),
        (
            setting("modifiers.air_suspension_limits.0.limit_kg", 24_999),
            ["modifiers.air_suspension_limits[0].limit_kg"],
        ),
        (
            setting("modifiers.air_suspension_limits.2.trailer_spacing_min_mm", -1),
            ["modifiers.air_suspension_limits[2].trailer_spacing_min_mm"],
        ),
        # Axle groups.
        (setting("axle_group_limits.0.axle_count", 4), ["axle_group_limits[0].axle_count"]),
        (setting("axle_group_limits.0.axle_count", 0), ["axle_group_limits[0].axle_count"]),
        (setting("axle_group_limits.0.spacing_min_mm", 1_000), ["axle_group_limits[0]"]),
        (setting("axle_group_limits.0.tires", "wide"), ["axle_group_limits[0].tires"]),
        (setting("axle_group_limits.0.limit_kg", -1), ["axle_group_limits[0].limit_kg"]),
        (
            setting("axle_group_limits.5.spacing_max_mm", 1_200),
            ["axle_group_limits[5].spacing_max_mm", "axle_group_limits[5]"],
        ),
        (setting("axle_group_limits.4.spacing_max_mm", 1_298), ["axle_group_limits[6].spacing_min_mm"]),
        (setting("axle_group_limits.9.spacing_min_mm", 1_300), ["axle_group_limits[9].spacing_min_mm"]),
        (appending(AxleGroupLimit(code="x", axle_count=1, tires="single", limit_kg=9_000)), ["axle_group_limits[10]"]),
        (appending(AxleGroupLimit(code="x", axle_count=1, limit_kg=9_000)), []),
        # Tolerances.
        (setting("scale_tolerances.0.permille", -1), ["scale_tolerances[0].permille"]),
        (setting("scale_tolerances.0.permille", 201), ["scale_tolerances[0].permille"]),
        (setting("scale_tolerances.0.scale_kind", 0), ["scale_tolerances[0].scale_kind"]),
        (setting("scale_tolerances.0.scale_kind", 9), ["scale_tolerances[0].scale_kind"]),
        (
            setting("scale_tolerances.0.scale_kind", 2),
            ["scale_tolerances[0].scale_kind", "scale_tolerances[1].scale_kind"],
        ),
        (lambda rule_set: rule_set.scale_tolerances.pop(), []),
        # Bands.
        (setting("severity_bands.warning_excess_max_kg", 0), []),
        (setting("severity_bands.warning_excess_max_kg", -1), ["severity_bands.warning_excess_max_kg"]),
        (setting("severity_bands.serious_rate_min_permille", 0), ["severity_bands.serious_rate_min_permille"]),
        (setting("severity_bands.extreme_gross_min_kg", 0), ["severity_bands.extreme_gross_min_kg"]),
    ],
)
def test_slips(change: Change, expected: list[str]) -> None:
    rule_set = load("order-62-2016")
    change(rule_set)

    assert fields(rule_set) == expected


def test_a_row_behind_a_more_general_one_is_hidden() -> None:
    rule_set = load("chart-2016")
    special, general = rule_set.gross_limits[7], rule_set.gross_limits[8]
    assert (special.code, general.code) == ("articulated-5-113", "combination-5")
    swapped = RuleSet()
    swapped.CopyFrom(rule_set)
    swapped.gross_limits[7].CopyFrom(general)
    swapped.gross_limits[8].CopyFrom(special)

    assert validate_rule_set(swapped) == [
        ("gross_limits[8]", "can never fit: combination-5 before it takes every such vehicle")
    ]


def test_a_missing_class_is_named() -> None:
    rule_set = load("order-62-2016")
    rule_set.gross_limits[8].axle_count_max = 8

    counts = "9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20"
    assert validate_rule_set(rule_set)[0] == (
        "gross_limits",
        f"holds no row for every combination of kind articulated with {counts} axles",
    )


def test_too_many_rows_are_not_compared_with_each_other() -> None:
    rule_set = load("order-62-2016")
    for _ in range(50_000):
        rule_set.gross_limits.add(code="x", axle_count_min=-(2**31), axle_count_max=2**31 - 1)

    assert fields(rule_set) == ["gross_limits"]


def test_an_absurd_range_of_axles_takes_no_time() -> None:
    rule_set = load("order-62-2016")
    rule_set.gross_limits.add(
        code="x", is_rigid=True, axle_count_min=-(2**31), axle_count_max=2**31 - 1, limit_kg=50_000
    )

    assert fields(rule_set) == [
        "gross_limits[9].axle_count_min",
        "gross_limits[9].axle_count_max",
        "gross_limits[9]",
        "gross_limits[9]",
        "gross_limits[9]",
    ]


@given(st.binary(max_size=300))
def test_no_bytes_make_the_checks_fail(content: bytes) -> None:
    try:
        rule_set = RuleSet.FromString(content)
    except DecodeError:
        return

    assert validate_rule_set(rule_set)


int32s = st.integers(-(2**31), 2**31 - 1) | st.integers(0, 8)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10) | st.sampled_from(
    ["articulated", "1+2+1", "single"]
)
gross_limits = st.builds(
    GrossLimit,
    code=texts,
    is_rigid=st.booleans(),
    axle_count_min=int32s,
    axle_count_max=int32s,
    combination_kind=texts,
    axle_layout=texts,
    drive_axle_count=int32s,
    limit_kg=int32s,
)
axle_group_limits = st.builds(
    AxleGroupLimit,
    code=texts,
    axle_count=int32s,
    spacing_min_mm=int32s,
    spacing_max_mm=int32s,
    tires=texts,
    is_drive=st.booleans(),
    has_air_suspension=st.booleans(),
    limit_kg=int32s,
)


@given(st.lists(gross_limits, max_size=8), st.lists(axle_group_limits, max_size=8))
def test_no_rows_make_the_checks_fail(rows: list[GrossLimit], axle_rows: list[AxleGroupLimit]) -> None:
    rule_set = load("order-62-2016")
    rule_set.gross_limits.extend(rows)
    rule_set.axle_group_limits.extend(axle_rows)

    assert all(field and description for field, description in validate_rule_set(rule_set))
