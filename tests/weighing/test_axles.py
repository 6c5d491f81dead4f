"""Axles: how they form groups, what a group may carry, and what they tell about a vehicle."""

import json
from pathlib import Path

import pytest

from services.weighing.axles import (
    GROUP_LIMITS_CACHED_MAX,
    Axle,
    AxleCheck,
    AxleExcess,
    AxleGroup,
    AxleLimits,
    TireArrangement,
    count_axles,
    count_drive_axles,
    find_dual_drive_tires,
    find_single_tires,
    group_axles,
    layout_of_codes,
    layout_of_spacings,
)
from services.weighing.limits import VehicleClass, VehicleFacts, with_axles
from services.weighing.rules import AxleGroupLimit, rules_from_mapping

RULE_SETS = Path(__file__).resolve().parents[2] / "services" / "registry" / "rule_sets"
ROWS = rules_from_mapping(json.loads((RULE_SETS / "order-62-2016.json").read_text("utf-8"))).axle_group_limits

SINGLE, DUAL, WIDE = TireArrangement.SINGLE, TireArrangement.DUAL, TireArrangement.WIDE_SINGLE


def group(
    axle_count: int,
    spacing_mm: int | None = None,
    tires: str = "",
    is_drive: bool | None = None,
    weight_kg: int | None = None,
) -> AxleGroup:
    return AxleGroup(1, axle_count, spacing_mm, tires, is_drive, weight_kg)


# GB 1589-2016 table 2.


@pytest.mark.parametrize(
    ("axle_group", "has_air_suspension", "limit_kg"),
    [
        (group(1, tires="single"), False, 7_000),
        (group(1, tires="single", is_drive=True), False, 7_000),
        (group(1, tires="dual", is_drive=False), False, 10_000),
        (group(1, tires="dual", is_drive=True), False, 11_500),
        (group(2, 999), False, 11_500),
        (group(2, 1_000), False, 16_000),
        (group(2, 1_299), False, 16_000),
        (group(2, 1_300), False, 18_000),
        (group(2, 1_799), False, 18_000),
        (group(2, 1_300, "dual", True), True, 19_000),
        (group(2, 1_799, "dual", True), True, 19_000),
        (group(2, 1_300, "dual", True), False, 18_000),
        (group(2, 1_300, "dual", False), True, 18_000),
        (group(2, 1_300, "single", True), True, 18_000),
        (group(2, 1_299, "dual", True), True, 16_000),
        (group(2, 1_800), False, 20_000),
        (group(3, 1_300), False, 21_000),
        (group(3, 1_301), False, 24_000),
        (group(3, 1_400), False, 24_000),
        # Where a fact is missing, the generous row holds.
        (group(1), False, 11_500),
        (group(1, is_drive=False), False, 10_000),
        (group(1, tires="dual"), False, 11_500),
        (group(2), False, 20_000),
        (group(2, 1_300, "dual"), True, 19_000),
        (group(3), False, 24_000),
        # No row: not limited.
        (group(3, 1_401), False, None),
        (group(4, 1_300), False, None),
    ],
)
def test_limit_of_a_group(axle_group: AxleGroup, has_air_suspension: bool, limit_kg: int | None) -> None:
    row = AxleLimits(ROWS).find(axle_group, has_air_suspension=has_air_suspension)

    assert (row.limit_kg if row else None) == limit_kg


def test_a_limit_is_found_once_and_kept() -> None:
    limits = AxleLimits(ROWS)
    first = limits.find(group(2, 1_300), has_air_suspension=False)

    assert limits.find(group(2, 1_300), has_air_suspension=False) is first


def test_limits_kept_are_bounded() -> None:
    limits = AxleLimits(ROWS)
    for spacing_mm in range(GROUP_LIMITS_CACHED_MAX + 10):
        limits.find(group(2, spacing_mm), has_air_suspension=False)

    assert len(limits._limits) == 10


def test_groups_above_their_limit_are_named_with_the_rows_that_limit_them() -> None:
    groups = [
        AxleGroup(1, 1, None, "single", False, 7_001),
        AxleGroup(2, 2, 1_350, "dual", True, 18_000),
        AxleGroup(4, 3, 1_310, "dual", False, 24_500),
    ]

    assert AxleLimits(ROWS).check(groups, has_air_suspension=False) == AxleCheck(
        (AxleExcess(1, 1, 7_001, 7_000), AxleExcess(4, 3, 24_500, 24_000)),
        49_000,
        ("axle-single-tires", "tridem-1400"),
    )


def test_the_sum_is_not_known_when_one_group_has_no_limit() -> None:
    groups = [AxleGroup(1, 1, None, "single", False, 7_001), AxleGroup(2, 3, 1_500, "", None, 40_000)]

    assert AxleLimits(ROWS).check(groups, has_air_suspension=False).limit_sum_kg is None


def test_a_rule_set_without_axle_rows_limits_none() -> None:
    assert AxleLimits(()).check([group(1, weight_kg=90_000)], has_air_suspension=False) == AxleCheck((), None, ())


def test_rows_are_read_in_order() -> None:
    rows = [AxleGroupLimit("first", 1, limit_kg=5_000), AxleGroupLimit("second", 1, limit_kg=9_000)]
    found = AxleLimits(rows).find(group(1), has_air_suspension=False)

    assert found == rows[0]


# Codes and spacings.


@pytest.mark.parametrize(
    ("codes", "layout", "axle_count"),
    [
        ("12", "1+1", 2),
        ("15", "1+2", 3),
        ("115", "1+1+2", 4),
        ("127", "1+1+3", 5),
        ("157", "1+2+3", 6),
        ("1246", "1+1+2+3", 7),
        ("11527", "1+1+2+1+3", 8),
        ("13", "1+2", 3),
        ("", "", 0),
        ("18", "", 0),
    ],
)
def test_group_codes(codes: str, layout: str, axle_count: int) -> None:
    assert (layout_of_codes(codes), count_axles(codes)) == (layout, axle_count)


@pytest.mark.parametrize(
    ("spacings", "layout"),
    [
        ([3_300, 1_350, 6_000, 1_310, 1_310], "1+2+3"),
        ([1_800, 4_000, 1_350], "1+1+2"),
        ([1_799], "2"),
        ([4_000], "1+1"),
        ([3_300, None, 6_000], ""),
    ],
)
def test_layout_of_spacings(spacings: list[int | None], layout: str) -> None:
    assert layout_of_spacings([*(Axle(spacing_mm=spacing) for spacing in spacings), Axle()]) == layout


def test_axles_are_grouped_by_the_codes() -> None:
    axles = [Axle(6_000, 3_300), Axle(8_000, 1_900), Axle(9_000)]

    assert group_axles(axles, "15") == (
        AxleGroup(1, 1, None, "single", None, 6_000),
        AxleGroup(2, 2, 1_900, "dual", None, 17_000),
    )


def test_axles_are_grouped_by_spacings_when_the_codes_are_for_another_number() -> None:
    axles = [Axle(6_000, 3_300), Axle(8_000, 1_350), Axle(9_000)]

    assert group_axles(axles, "157") == (
        AxleGroup(1, 1, None, "", None, 6_000),
        AxleGroup(2, 2, 1_350, "", None, 17_000),
    )


def test_axles_count_singly_across_an_unknown_spacing() -> None:
    assert [one.axle_count for one in group_axles([Axle(), Axle(), Axle()], "")] == [1, 1, 1]


def test_a_group_weighs_nothing_known_unless_all_its_axles_were_weighed() -> None:
    assert group_axles([Axle(6_000, 1_300), Axle(None)], "")[0].weight_kg is None


def test_the_smallest_spacing_within_a_group_is_its_spacing() -> None:
    axles = [Axle(spacing_mm=1_310), Axle(spacing_mm=1_290), Axle()]

    assert group_axles(axles, "")[0].spacing_mm == 1_290


def test_a_lifted_axle_weighs_nothing() -> None:
    assert group_axles([Axle(6_000, 1_300), Axle(0)], "")[0].weight_kg == 6_000


@pytest.mark.parametrize(
    ("tires", "codes", "expected"),
    [
        ([DUAL, DUAL], "", "dual"),
        ([DUAL, WIDE], "", "dual"),
        ([SINGLE, SINGLE], "5", "single"),
        ([SINGLE, DUAL], "", ""),
        ([SINGLE, TireArrangement.UNSPECIFIED], "", ""),
        ([TireArrangement.UNSPECIFIED] * 2, "5", "dual"),
        ([TireArrangement.UNSPECIFIED] * 2, "4", ""),
        ([99, 99], "", ""),
    ],
)
def test_tires_of_a_group(tires: list[int], codes: str, expected: str) -> None:
    axles = [Axle(spacing_mm=1_300, tires=tires[0]), Axle(tires=tires[1])]

    assert group_axles(axles, codes)[0].tires == expected


@pytest.mark.parametrize(
    ("driven", "expected"),
    [([True, False], True), ([False, False], False), ([False, None], None), ([True, None], True)],
)
def test_a_group_is_driven_when_one_of_its_axles_is(driven: list[bool | None], expected: bool | None) -> None:
    axles = [Axle(spacing_mm=1_300, is_drive=driven[0]), Axle(is_drive=driven[1])]

    assert group_axles(axles, "")[0].is_drive is expected


# What axles tell about the vehicle.


@pytest.mark.parametrize(
    ("driven", "expected"),
    [([False, True, True], 2), ([False, True, None], None), ([False, False, False], None), ([None] * 3, None)],
)
def test_drive_axles_are_counted_only_when_all_axles_are_known(driven: list[bool | None], expected: int | None) -> None:
    assert count_drive_axles([Axle(is_drive=is_drive) for is_drive in driven]) == expected


@pytest.mark.parametrize(
    ("axles", "codes", "expected"),
    [
        ([Axle(is_drive=False), Axle(tires=DUAL, is_drive=True)], "", True),
        ([Axle(is_drive=False), Axle(tires=WIDE, is_drive=True)], "", False),
        ([Axle(), Axle(is_drive=True)], "12", True),
        ([Axle(), Axle(is_drive=True)], "", None),
        ([], "157", True),
        ([], "115", True),
        ([], "14", True),
        ([], "136", False),
        ([], "11", False),
        ([], "", None),
    ],
)
def test_dual_tires_of_drive_axles(axles: list[Axle], codes: str, expected: bool | None) -> None:
    assert find_dual_drive_tires(axles, codes) is expected


@pytest.mark.parametrize(
    ("groups", "is_combination", "expected"),
    [
        ([group(1, None, "single", False)], False, None),
        ([AxleGroup(2, 2, 1_300, "single", False, None)], False, True),
        ([AxleGroup(2, 2, 1_300, "single", True, None)], False, None),
        ([AxleGroup(2, 2, 1_300, "single", None, None)], False, None),
        ([AxleGroup(2, 2, 1_300, "dual", False, None)], False, None),
        # The second steering axle of a truck.
        ([AxleGroup(2, 1, None, "single", False, None)], True, None),
        # A trailer's axle.
        ([AxleGroup(2, 1, None, "dual", True, None), AxleGroup(3, 1, None, "single", False, None)], True, True),
        ([AxleGroup(2, 1, None, "dual", True, None), AxleGroup(3, 1, None, "single", False, None)], False, None),
    ],
)
def test_single_tires_that_count(groups: list[AxleGroup], is_combination: bool, expected: bool | None) -> None:
    assert find_single_tires(groups, is_combination=is_combination) is expected


def test_axles_add_what_the_record_left_open() -> None:
    axles = [
        Axle(7_000, 3_300, SINGLE, False),
        Axle(9_000, 1_350, DUAL, True),
        Axle(9_000, 6_000, DUAL, True),
        Axle(8_000, 1_310, SINGLE, False),
        Axle(8_000, 1_310, SINGLE, False),
        Axle(8_000, None, SINGLE, False),
    ]
    facts = VehicleFacts(VehicleClass.ARTICULATED, has_air_suspension=True)

    assert with_axles(facts, axles, group_axles(axles, "")) == VehicleFacts(
        VehicleClass.ARTICULATED, 6, "", 2, True, True, "1+2+3", True, 1_310
    )


def test_what_the_record_says_stands_against_its_axles() -> None:
    axles = [Axle(spacing_mm=3_000, is_drive=False), Axle(spacing_mm=1_300, is_drive=True), Axle(is_drive=True)]
    facts = VehicleFacts(VehicleClass.RIGID_TRUCK, 3, "15", 1, False, False)

    assert with_axles(facts, axles, group_axles(axles, "15")) == facts
