"""Gross limits: every row of both rule sets, every modifier, and what happens when facts are missing."""

import json
from pathlib import Path

import pytest

from services.weighing.limits import (
    Limits,
    VehicleClass,
    VehicleFacts,
    find_limits,
    with_axle_limits,
    with_permit,
    with_registered_mass,
)
from services.weighing.rules import GrossLimit, LimitModifiers, RuleSet, rules_from_mapping

RULE_SETS = Path(__file__).resolve().parents[2] / "services" / "registry" / "rule_sets"


def load(rule_set_id: str) -> RuleSet:
    return rules_from_mapping(json.loads((RULE_SETS / f"{rule_set_id}.json").read_text(encoding="utf-8")))


ORDER_62 = load("order-62-2016")
CHART = load("chart-2016")
BOTH = pytest.mark.parametrize("rule_set", [ORDER_62, CHART], ids=["order-62", "chart"])

UNKNOWN = VehicleClass.UNSPECIFIED
RIGID = VehicleClass.RIGID_TRUCK
ARTICULATED = VehicleClass.ARTICULATED
FULL = VehicleClass.FULL_TRAILER
CENTER = VehicleClass.CENTER_AXLE_TRAILER
COMBINATION = VehicleClass.COMBINATION
LOW_SPEED = VehicleClass.LOW_SPEED


def interval(rule_set: RuleSet, facts: VehicleFacts) -> tuple[int | None, int | None]:
    return find_limits(rule_set, facts)[:2]


def reasons(rule_set: RuleSet, facts: VehicleFacts) -> tuple[str, ...]:
    return find_limits(rule_set, facts).reasons


# The table of Order 62, and the rows that the chart has in common with it.


@BOTH
@pytest.mark.parametrize(
    ("axle_count", "limit_kg", "code"), [(2, 18_000, "rigid-2"), (3, 25_000, "rigid-3"), (4, 31_000, "rigid-4")]
)
def test_rigid_trucks(rule_set: RuleSet, axle_count: int, limit_kg: int, code: str) -> None:
    found = find_limits(rule_set, VehicleFacts(RIGID, axle_count))

    assert found[:3] == (limit_kg, limit_kg, (code,))


@pytest.mark.parametrize("vehicle_class", [ARTICULATED, FULL, CENTER, COMBINATION])
@pytest.mark.parametrize(("axle_count", "limit_kg"), [(3, 27_000), (4, 36_000), (5, 43_000)])
def test_combinations_of_order_62(vehicle_class: int, axle_count: int, limit_kg: int) -> None:
    assert interval(ORDER_62, VehicleFacts(vehicle_class, axle_count)) == (limit_kg, limit_kg)


@BOTH
@pytest.mark.parametrize("axle_count", [6, 7, 8, 9, 20])
@pytest.mark.parametrize("vehicle_class", [ARTICULATED, FULL, CENTER, COMBINATION, UNKNOWN])
@pytest.mark.parametrize(
    ("drive_axle_count", "expected"),
    [(1, (46_000, 46_000)), (2, (49_000, 49_000)), (3, (49_000, 49_000)), (None, (46_000, 49_000))],
)
def test_six_axles_and_more(
    rule_set: RuleSet,
    axle_count: int,
    vehicle_class: int,
    drive_axle_count: int | None,
    expected: tuple[int, int],
) -> None:
    assert interval(rule_set, VehicleFacts(vehicle_class, axle_count, "", drive_axle_count)) == expected


@BOTH
def test_unknown_drive_axles_are_named_as_the_reason(rule_set: RuleSet) -> None:
    expected = ("combination-6-single-drive", "combination-6", "drive-axles-unknown")

    assert reasons(rule_set, VehicleFacts(ARTICULATED, 6, "157")) == expected


# The rows of the chart that differ by layout.


@pytest.mark.parametrize(
    ("vehicle_class", "codes", "limit_kg"),
    [
        (RIGID, "12", 18_000),
        (RIGID, "15", 25_000),
        (ARTICULATED, "122", 27_000),
        (CENTER, "122", 27_000),
        (RIGID, "115", 31_000),  # twin steer
        (ARTICULATED, "125", 36_000),  # 1+1+2
        (FULL, "1222", 36_000),  # 1+1+1+1
        (CENTER, "125", 36_000),  # 1+1+2
        (CENTER, "152", 35_000),  # 1+2+1
        (ARTICULATED, "152", 36_000),  # 1+2+1 is stricter for centre-axle trailers only
        (ARTICULATED, "155", 43_000),  # 1+2+2
        (ARTICULATED, "127", 42_000),  # 1+1+3
        (CENTER, "127", 43_000),  # 1+1+3 is stricter for articulated vehicles only
        (CENTER, "155", 43_000),
        (FULL, "1522", 43_000),
        (COMBINATION, "155", 43_000),
    ],
)
def test_layouts_of_the_chart(vehicle_class: int, codes: str, limit_kg: int) -> None:
    axle_count = sum({"1": 1, "2": 1, "5": 2, "7": 3}[code] for code in codes)

    assert interval(CHART, VehicleFacts(vehicle_class, axle_count, codes)) == (limit_kg, limit_kg)


def test_the_chart_names_its_special_rows() -> None:
    assert reasons(CHART, VehicleFacts(CENTER, 4, "152")) == ("center-axle-4-121",)
    assert reasons(CHART, VehicleFacts(ARTICULATED, 5, "127")) == ("articulated-5-113",)


@pytest.mark.parametrize(
    ("facts", "expected", "expected_reasons"),
    [
        (VehicleFacts(CENTER, 4), (35_000, 36_000), ("center-axle-4-121", "combination-4", "axle-layout-unknown")),
        (VehicleFacts(ARTICULATED, 5), (42_000, 43_000), ("articulated-5-113", "combination-5", "axle-layout-unknown")),
        (VehicleFacts(FULL, 5), (43_000, 43_000), ("combination-5",)),
        (VehicleFacts(COMBINATION, 4, "125"), (36_000, 36_000), ("articulated-4",)),
        (
            VehicleFacts(COMBINATION, 5, "127"),
            (42_000, 43_000),
            ("articulated-5-113", "combination-5", "combination-kind-unknown"),
        ),
        (
            VehicleFacts(COMBINATION, 4),
            (35_000, 36_000),
            ("center-axle-4-121", "articulated-4", "combination-kind-unknown", "axle-layout-unknown"),
        ),
    ],
)
def test_unknown_layout_or_kind_where_a_row_of_the_chart_depends_on_it(
    facts: VehicleFacts, expected: tuple[int, int], expected_reasons: tuple[str, ...]
) -> None:
    assert (interval(CHART, facts), reasons(CHART, facts)) == (expected, expected_reasons)


# Facts that are missing.


@BOTH
@pytest.mark.parametrize(
    ("axle_count", "expected", "reason"),
    [(2, (18_000, 18_000), None), (3, (25_000, 27_000), "class-unknown"), (4, (31_000, 36_000), "class-unknown")],
)
def test_unknown_class_takes_every_class_that_has_so_many_axles(
    rule_set: RuleSet, axle_count: int, expected: tuple[int, int], reason: str | None
) -> None:
    facts = VehicleFacts(UNKNOWN, axle_count)

    assert interval(rule_set, facts) == expected
    assert ("class-unknown" in reasons(rule_set, facts)) is (reason is not None)


@BOTH
@pytest.mark.parametrize(("codes", "limit_kg"), [("12", 18_000), ("15", 25_000), ("17", 31_000)])
def test_two_groups_show_a_rigid_truck(rule_set: RuleSet, codes: str, limit_kg: int) -> None:
    assert interval(rule_set, VehicleFacts(UNKNOWN, None, codes)) == (limit_kg, limit_kg)


@BOTH
@pytest.mark.parametrize("vehicle_class", [ARTICULATED, COMBINATION])
def test_a_combination_on_two_groups_may_be_a_rigid_truck(rule_set: RuleSet, vehicle_class: int) -> None:
    found = find_limits(rule_set, VehicleFacts(vehicle_class, 3, "15"))

    assert found[:3] == (25_000, 27_000, ("rigid-3", "combination-3", "class-contradicts-layout"))


@BOTH
def test_three_groups_may_be_either_class(rule_set: RuleSet) -> None:
    assert interval(rule_set, VehicleFacts(UNKNOWN, 4, "115")) == (31_000, 36_000)


@BOTH
def test_group_codes_give_the_axle_count(rule_set: RuleSet) -> None:
    assert interval(rule_set, VehicleFacts(ARTICULATED, None, "157", 2)) == (49_000, 49_000)


@BOTH
@pytest.mark.parametrize("vehicle_class", list(VehicleClass))
def test_without_an_axle_count_there_is_no_limit(rule_set: RuleSet, vehicle_class: VehicleClass) -> None:
    found = find_limits(rule_set, VehicleFacts(vehicle_class))

    assert found[:2] == (None, None)
    assert found.reasons[0] == "axle-count-unknown"


@pytest.mark.parametrize(
    ("rule_set", "facts", "expected"),
    [
        (ORDER_62, VehicleFacts(RIGID, 5), (31_000, 43_000)),
        (CHART, VehicleFacts(RIGID, 5), (31_000, 43_000)),
        (ORDER_62, VehicleFacts(RIGID, 6), (31_000, 49_000)),
        (ORDER_62, VehicleFacts(RIGID, 6, "", 1), (31_000, 46_000)),
        (ORDER_62, VehicleFacts(RIGID, 9), (31_000, 49_000)),
        (ORDER_62, VehicleFacts(ARTICULATED, 2), (18_000, 18_000)),
        (CHART, VehicleFacts(COMBINATION, 2), (18_000, 18_000)),
    ],
)
def test_a_class_without_a_row_for_so_many_axles_is_left_open(
    rule_set: RuleSet, facts: VehicleFacts, expected: tuple[int, int]
) -> None:
    assert interval(rule_set, facts) == expected
    assert "no-row-for-class" in reasons(rule_set, facts)


def test_a_rule_set_without_rows_gives_no_limit() -> None:
    assert find_limits(RuleSet("x", 1), VehicleFacts(RIGID, 2)) == Limits(None, None, ("no-row",))


@BOTH
def test_a_class_of_a_newer_release_is_unknown(rule_set: RuleSet) -> None:
    assert find_limits(rule_set, VehicleFacts(99, 3)) == find_limits(rule_set, VehicleFacts(UNKNOWN, 3))


# Single tyres.


@BOTH
@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (VehicleFacts(RIGID, 3), (25_000, 25_000)),
        (VehicleFacts(RIGID, 3, has_single_tires=False), (25_000, 25_000)),
        (VehicleFacts(RIGID, 3, has_single_tires=True), (22_000, 22_000)),
        (VehicleFacts(RIGID, 4, has_single_tires=True), (28_000, 28_000)),
        (VehicleFacts(ARTICULATED, 3, has_single_tires=True), (24_000, 24_000)),
        (VehicleFacts(ARTICULATED, 6, "157", 2, has_single_tires=True), (46_000, 46_000)),
        (VehicleFacts(UNKNOWN, 3, has_single_tires=True), (22_000, 24_000)),
        # A steering and a drive axle: neither counts.
        (VehicleFacts(RIGID, 2, has_single_tires=True), (18_000, 18_000)),
        # Codes show single tyres, but not whether they are wide.
        (VehicleFacts(ARTICULATED, 6, "156", 2), (46_000, 49_000)),
        (VehicleFacts(ARTICULATED, 5, "153", 2), (40_000, 43_000)),
        (VehicleFacts(ARTICULATED, 6, "156", 2, has_single_tires=False), (49_000, 49_000)),
        (VehicleFacts(ARTICULATED, 6, "156", 2, has_single_tires=True), (46_000, 46_000)),
        # The front group steers.
        (VehicleFacts(FULL, 5, "352"), (43_000, 43_000)),
    ],
)
def test_single_tires(rule_set: RuleSet, facts: VehicleFacts, expected: tuple[int, int]) -> None:
    assert interval(rule_set, facts) == expected


@BOTH
def test_single_tires_are_named(rule_set: RuleSet) -> None:
    assert reasons(rule_set, VehicleFacts(RIGID, 3, has_single_tires=True)) == ("rigid-3", "single-tires")
    assert reasons(rule_set, VehicleFacts(ARTICULATED, 6, "156", 2)) == ("combination-6", "single-tires-width-unknown")


# Air suspension.


@BOTH
@pytest.mark.parametrize(
    ("facts", "expected", "reason"),
    [
        (VehicleFacts(RIGID, 3, "15", None, True), (26_000, 26_000), "air-suspension"),
        (VehicleFacts(RIGID, 4, "115", None, True), (32_000, 32_000), "air-suspension"),
        (VehicleFacts(RIGID, 4, "115", None, False), (31_000, 31_000), None),
        (VehicleFacts(RIGID, 4, "115"), (31_000, 31_000), None),
        # Single tyres on the drive axles: no allowance.
        (VehicleFacts(RIGID, 3, "13", None, True, False), (25_000, 25_000), None),
        (VehicleFacts(RIGID, 3, "", None, True, has_dual_drive_tires=False), (25_000, 25_000), None),
        # Nobody says how the drive axles are tyred.
        (VehicleFacts(RIGID, 3, "", None, True), (25_000, 26_000), "air-suspension-incomplete"),
        (VehicleFacts(RIGID, 3, "", None, True, has_dual_drive_tires=True), (26_000, 26_000), "air-suspension"),
        # The allowance for articulated vehicles of four axles depends on the spacing of the trailer's axles.
        (VehicleFacts(ARTICULATED, 4, "125", None, True), (36_000, 37_000), "air-suspension-incomplete"),
        (VehicleFacts(ARTICULATED, 4, "125", None, True, trailer_spacing_mm=1_799), (36_000, 36_000), None),
        (VehicleFacts(ARTICULATED, 4, "125", None, True, trailer_spacing_mm=1_800), (37_000, 37_000), "air-suspension"),
        (VehicleFacts(FULL, 4, "1222", None, True, trailer_spacing_mm=1_800), (36_000, 36_000), None),
        # No allowance for other rows.
        (VehicleFacts(RIGID, 2, "12", None, True), (18_000, 18_000), None),
        (VehicleFacts(ARTICULATED, 6, "157", 2, True), (49_000, 49_000), None),
        # Both modifiers.
        (VehicleFacts(RIGID, 3, "15", None, True, True), (23_000, 23_000), "air-suspension"),
    ],
)
def test_air_suspension(rule_set: RuleSet, facts: VehicleFacts, expected: tuple[int, int], reason: str | None) -> None:
    assert interval(rule_set, facts) == expected
    assert [code for code in reasons(rule_set, facts) if code.startswith("air-")] == ([reason] if reason else [])


# Registered mass.


@BOTH
@pytest.mark.parametrize(
    ("facts", "registered_mass_kg", "expected"),
    [
        (VehicleFacts(RIGID, 2), 17_999, (17_999, 17_999)),
        (VehicleFacts(RIGID, 2), 18_000, (18_000, 18_000)),
        (VehicleFacts(RIGID, 2), 30_000, (18_000, 18_000)),
        (VehicleFacts(UNKNOWN, 2), 4_495, (4_495, 4_495)),
        # Only the row of two axles is capped.
        (VehicleFacts(RIGID, 3), 20_000, (25_000, 25_000)),
        (VehicleFacts(ARTICULATED, 6, "", 2), 40_000, (49_000, 49_000)),
    ],
)
def test_registered_mass(
    rule_set: RuleSet, facts: VehicleFacts, registered_mass_kg: int, expected: tuple[int, int]
) -> None:
    found = with_registered_mass(find_limits(rule_set, facts), registered_mass_kg)

    assert found[:2] == expected
    assert ("registered-mass" in found.reasons) is (expected[0] == registered_mass_kg < 18_000)


def test_registered_mass_matters_only_below_the_highest_capped_limit() -> None:
    assert find_limits(ORDER_62, VehicleFacts(RIGID, 2)).registered_mass_matters_below_kg == 18_000
    assert find_limits(ORDER_62, VehicleFacts(RIGID, 3)).registered_mass_matters_below_kg == 0


def test_a_registered_mass_caps_only_the_possibilities_whose_row_says_so() -> None:
    rows = (
        GrossLimit("rigid", is_rigid=True, axle_count_min=3, limit_kg=20_000, is_capped_by_registered_mass=True),
        GrossLimit("combination", axle_count_min=3, limit_kg=27_000),
    )
    limits = find_limits(RuleSet("x", 1, gross_limits=rows), VehicleFacts(UNKNOWN, 3))

    assert with_registered_mass(limits, 12_000)[:2] == (12_000, 27_000)


# Low-speed vehicles.


@BOTH
@pytest.mark.parametrize(
    ("axle_count", "registered_mass_kg", "limit_kg"),
    [
        (2, 4_500, 4_500),
        (None, 4_500, 4_500),
        # A registered mass above what any truck of two axles may weigh is not believed.
        (2, 60_000, 18_000),
    ],
)
def test_the_registered_mass_is_the_limit_of_low_speed_vehicles(
    rule_set: RuleSet, axle_count: int | None, registered_mass_kg: int, limit_kg: int
) -> None:
    found = with_registered_mass(find_limits(rule_set, VehicleFacts(LOW_SPEED, axle_count)), registered_mass_kg)

    assert found == Limits(limit_kg, limit_kg, ("low-speed-registered-mass",))


@BOTH
def test_a_low_speed_vehicle_without_registered_mass_has_only_an_upper_bound(rule_set: RuleSet) -> None:
    found = find_limits(rule_set, VehicleFacts(LOW_SPEED, 2))

    assert found[:3] == (None, 18_000, ("rigid-2", "registered-mass-unknown"))


def test_low_speed_vehicles_are_of_unknown_class_where_the_rule_set_has_no_rule_for_them() -> None:
    rule_set = RuleSet("x", 1, gross_limits=ORDER_62.gross_limits, modifiers=LimitModifiers())

    assert find_limits(rule_set, VehicleFacts(LOW_SPEED, 3)) == find_limits(rule_set, VehicleFacts(UNKNOWN, 3))


# Sum of axle limits, permit.


@pytest.mark.parametrize(
    ("limits", "limit_sum_kg", "expected"),
    [
        (Limits(25_000, 27_000, ("a",)), 27_000, Limits(25_000, 27_000, ("a",))),
        (Limits(25_000, 27_000, ("a",)), 26_000, Limits(25_000, 26_000, ("a", "axle-limits"))),
        (Limits(25_000, 27_000, ("a",)), 23_000, Limits(23_000, 23_000, ("a", "axle-limits"))),
        (Limits(None, 18_000, ("a",)), 17_000, Limits(None, 17_000, ("a", "axle-limits"))),
        (Limits(None, None, ("a",)), 17_000, Limits(None, None, ("a",))),
    ],
)
def test_no_limit_is_above_the_sum_of_the_axle_limits(limits: Limits, limit_sum_kg: int, expected: Limits) -> None:
    assert with_axle_limits(limits, limit_sum_kg) == expected


def test_a_permit_gives_the_limit() -> None:
    assert with_permit(120_000) == Limits(120_000, 120_000, ("permit",))
