"""Verdicts: limit, tolerance and the kilogram above it, permits, axles, severity and the events that are not judged."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from services.weighing.axles import Axle, AxleExcess, TireArrangement
from services.weighing.limits import VehicleClass, VehicleFacts
from services.weighing.rules import LimitModifiers, RuleSet, ScaleKind, SeverityBands, rules_from_mapping
from services.weighing.verdict import (
    LIMITS_CACHED_MAX,
    VEHICLE_KINDS_CACHED_MAX,
    CompiledRules,
    Judgement,
    Severity,
    Verdict,
    WeighingEvent,
    judge,
    severity_of,
)

RULE_SETS = Path(__file__).resolve().parents[2] / "services" / "registry" / "rule_sets"


def load(rule_set_id: str) -> CompiledRules:
    return CompiledRules(rules_from_mapping(json.loads((RULE_SETS / f"{rule_set_id}.json").read_text("utf-8"))))


ORDER_62 = load("order-62-2016")
CHART = load("chart-2016")

SIX_AXLES = VehicleFacts(VehicleClass.ARTICULATED, 6, "157", 2)
TWO_AXLES = VehicleFacts(VehicleClass.RIGID_TRUCK, 2)
THREE_AXLES_UNKNOWN = VehicleFacts(VehicleClass.UNSPECIFIED, 3)
COMPLIANT, UNDETERMINED, SUSPECTED = Verdict.COMPLIANT, Verdict.UNDETERMINED, Verdict.SUSPECTED


def verdict_of(
    gross_weight_kg: int,
    vehicle: VehicleFacts = SIX_AXLES,
    *,
    rules: CompiledRules = ORDER_62,
    scale_kind: int = ScaleKind.STATIC,
    registered_mass_kg: int | None = None,
    permitted_mass_kg: int | None = None,
    axles: Sequence[Axle] = (),
) -> Judgement:
    return judge(
        rules,
        vehicle,
        gross_weight_kg,
        scale_kind,
        WeighingEvent.GROSS,
        registered_mass_kg,
        permitted_mass_kg,
        axles,
    )


# Boundaries.


@pytest.mark.parametrize(
    ("scale_kind", "tolerance_kg"),
    [(ScaleKind.STATIC, 98), (ScaleKind.DYNAMIC, 2_450), (ScaleKind.LOADING, 490), (ScaleKind.UNSPECIFIED, 0), (99, 0)],
)
def test_tolerance_by_kind_of_scale(scale_kind: int, tolerance_kg: int) -> None:
    within = verdict_of(49_000 + tolerance_kg, scale_kind=scale_kind)
    above = verdict_of(49_001 + tolerance_kg, scale_kind=scale_kind)

    assert (within.verdict, within.tolerance_kg) == (COMPLIANT, tolerance_kg)
    assert (above.verdict, above.tolerance_kg) == (SUSPECTED, tolerance_kg)


@pytest.mark.parametrize(
    ("gross_weight_kg", "expected"),
    [
        (500, Judgement(COMPLIANT, 49_000, 49_000, 98, 0, 0, Severity.UNSPECIFIED, ("combination-6",))),
        (49_000, Judgement(COMPLIANT, 49_000, 49_000, 98, 0, 0, Severity.UNSPECIFIED, ("combination-6",))),
        (
            49_001,
            Judgement(COMPLIANT, 49_000, 49_000, 98, 1, 0, Severity.UNSPECIFIED, ("combination-6", "within-tolerance")),
        ),
        (
            49_098,
            Judgement(
                COMPLIANT, 49_000, 49_000, 98, 98, 2, Severity.UNSPECIFIED, ("combination-6", "within-tolerance")
            ),
        ),
        (49_099, Judgement(SUSPECTED, 49_000, 49_000, 98, 99, 2, Severity.WARNING, ("combination-6",))),
        (53_900, Judgement(SUSPECTED, 49_000, 49_000, 98, 4_900, 100, Severity.ORDINARY, ("combination-6",))),
    ],
)
def test_known_vehicle(gross_weight_kg: int, expected: Judgement) -> None:
    assert verdict_of(gross_weight_kg) == expected


@pytest.mark.parametrize(
    ("gross_weight_kg", "verdict", "excess_kg", "last_reason"),
    [
        (25_000, COMPLIANT, 0, "class-unknown"),
        (25_050, COMPLIANT, 0, "within-tolerance"),  # 2 permille of the conservative 25,000
        (25_051, UNDETERMINED, 0, "class-unknown"),
        (27_000, UNDETERMINED, 0, "class-unknown"),
        (27_054, UNDETERMINED, 54, "within-tolerance"),  # 2 permille of the lenient 27,000
        (27_055, SUSPECTED, 55, "class-unknown"),
    ],
)
def test_unknown_class(gross_weight_kg: int, verdict: Verdict, excess_kg: int, last_reason: str) -> None:
    found = verdict_of(gross_weight_kg, THREE_AXLES_UNKNOWN)

    assert (found.verdict, found.conservative_limit_kg, found.lenient_limit_kg, found.tolerance_kg) == (
        verdict,
        25_000,
        27_000,
        54,
    )
    assert (found.excess_kg, found.reasons[-1]) == (excess_kg, last_reason)


def test_a_wide_tolerance_can_exceed_the_lenient_limit() -> None:
    # 5 % of 46,000 reaches 48,300; of 49,000 it reaches 51,450.
    vehicle = VehicleFacts(VehicleClass.ARTICULATED, 6)

    assert [
        verdict_of(kg, vehicle, scale_kind=ScaleKind.DYNAMIC).verdict for kg in (48_300, 48_301, 51_450, 51_451)
    ] == [
        COMPLIANT,
        UNDETERMINED,
        UNDETERMINED,
        SUSPECTED,
    ]


@pytest.mark.parametrize("axle_count", [7, 8, 9])
def test_more_than_six_axles_are_judged_as_combinations(axle_count: int) -> None:
    vehicle = VehicleFacts(VehicleClass.UNSPECIFIED, axle_count)

    assert [verdict_of(kg, vehicle).verdict for kg in (46_000, 47_000, 49_099)] == [COMPLIANT, UNDETERMINED, SUSPECTED]


def test_a_rigid_truck_of_five_axles_is_never_cleared_by_the_combination_rule() -> None:
    vehicle = VehicleFacts(VehicleClass.RIGID_TRUCK, 5)

    assert [verdict_of(kg, vehicle).verdict for kg in (31_000, 42_000, 43_087)] == [COMPLIANT, UNDETERMINED, SUSPECTED]


def test_the_chart_is_stricter_than_the_order() -> None:
    vehicle = VehicleFacts(VehicleClass.ARTICULATED, 5, "127")

    assert [verdict_of(42_500, vehicle, rules=rules).verdict for rules in (ORDER_62, CHART)] == [COMPLIANT, SUSPECTED]


# Not judged.


@pytest.mark.parametrize(
    ("event", "reason"),
    [(WeighingEvent.TARE, "tare"), (WeighingEvent.UNSPECIFIED, "event-unknown"), (99, "event-unknown")],
)
def test_other_events_are_not_judged(event: int, reason: str) -> None:
    found = judge(ORDER_62, SIX_AXLES, 150_000, ScaleKind.STATIC, event, None, 10_000)

    assert found == Judgement(Verdict.NOT_JUDGED, reasons=(reason,))


def test_a_reweigh_is_judged_like_a_gross_weighing() -> None:
    assert judge(ORDER_62, SIX_AXLES, 60_000, ScaleKind.STATIC, WeighingEvent.REWEIGH) == verdict_of(60_000)


def test_a_vehicle_of_unknown_axles_is_not_judged() -> None:
    found = verdict_of(150_000, VehicleFacts(VehicleClass.ARTICULATED), registered_mass_kg=49_000)

    assert found == Judgement(Verdict.NOT_JUDGED, reasons=("axle-count-unknown",))


def test_an_empty_rule_set_judges_nothing() -> None:
    found = verdict_of(150_000, rules=CompiledRules(RuleSet("x", 1)))

    assert found == Judgement(Verdict.NOT_JUDGED, reasons=("no-row",))


# Registered mass and low-speed vehicles.


@pytest.mark.parametrize(
    ("registered_mass_kg", "gross_weight_kg", "verdict", "limit_kg"),
    [
        (None, 18_036, COMPLIANT, 18_000),
        (30_000, 18_037, SUSPECTED, 18_000),
        (16_000, 16_032, COMPLIANT, 16_000),
        (16_000, 16_033, SUSPECTED, 16_000),
    ],
)
def test_two_axles(registered_mass_kg: int | None, gross_weight_kg: int, verdict: Verdict, limit_kg: int) -> None:
    found = verdict_of(gross_weight_kg, TWO_AXLES, registered_mass_kg=registered_mass_kg)

    assert (found.verdict, found.lenient_limit_kg) == (verdict, limit_kg)
    assert ("registered-mass" in found.reasons) is (limit_kg != 18_000)


@pytest.mark.parametrize(
    ("axle_count", "registered_mass_kg", "gross_weight_kg", "verdict"),
    [
        (2, 4_500, 4_509, COMPLIANT),
        (2, 4_500, 4_510, SUSPECTED),
        (None, 4_500, 4_510, SUSPECTED),
        (2, None, 600, UNDETERMINED),
        (2, None, 18_036, UNDETERMINED),
        (2, None, 18_037, SUSPECTED),
        (None, None, 90_000, Verdict.NOT_JUDGED),
    ],
)
def test_low_speed_vehicles(
    axle_count: int | None, registered_mass_kg: int | None, gross_weight_kg: int, verdict: Verdict
) -> None:
    vehicle = VehicleFacts(VehicleClass.LOW_SPEED, axle_count)

    assert verdict_of(gross_weight_kg, vehicle, registered_mass_kg=registered_mass_kg).verdict == verdict


def test_without_the_registered_mass_the_conservative_limit_of_a_low_speed_vehicle_is_absent() -> None:
    found = verdict_of(5_000, VehicleFacts(VehicleClass.LOW_SPEED, 2))

    assert (found.conservative_limit_kg, found.lenient_limit_kg) == (None, 18_000)


# Permits.


@pytest.mark.parametrize("vehicle", [SIX_AXLES, TWO_AXLES, VehicleFacts(), VehicleFacts(VehicleClass.LOW_SPEED)])
@pytest.mark.parametrize(("gross_weight_kg", "verdict"), [(80_160, COMPLIANT), (80_161, SUSPECTED)])
def test_a_permit_replaces_the_limit_of_every_vehicle(
    vehicle: VehicleFacts, gross_weight_kg: int, verdict: Verdict
) -> None:
    found = verdict_of(gross_weight_kg, vehicle, permitted_mass_kg=80_000, registered_mass_kg=1_000)

    assert (found.verdict, found.conservative_limit_kg, found.lenient_limit_kg) == (verdict, 80_000, 80_000)
    assert found.reasons[0] == "permit"


def test_a_permit_counts_only_where_the_rule_set_says_so() -> None:
    rules = CompiledRules(RuleSet("x", 1, gross_limits=ORDER_62.rule_set.gross_limits, modifiers=LimitModifiers()))

    assert verdict_of(60_000, rules=rules, permitted_mass_kg=80_000).verdict == SUSPECTED


# Axles.

SINGLE, DUAL = TireArrangement.SINGLE, TireArrangement.DUAL


def six_axles(*weights_kg: int, tridem_spacing_mm: int = 1_310) -> list[Axle]:
    return [
        Axle(weights_kg[0], 3_300, SINGLE, False),
        Axle(weights_kg[1], 1_350, DUAL, True),
        Axle(weights_kg[2], 6_000, DUAL, True),
        Axle(weights_kg[3], tridem_spacing_mm, DUAL, False),
        Axle(weights_kg[4], tridem_spacing_mm, DUAL, False),
        Axle(weights_kg[5], None, DUAL, False),
    ]


def test_axles_within_their_limits_change_nothing() -> None:
    axles = six_axles(7_000, 9_000, 9_000, 8_000, 8_000, 8_000)

    assert verdict_of(49_000, axles=axles) == verdict_of(49_000)


def test_the_gross_limit_is_never_above_the_sum_of_the_axle_limits() -> None:
    axles = six_axles(6_000, 8_000, 8_000, 7_000, 7_000, 7_000, tridem_spacing_mm=1_300)
    found = verdict_of(46_093, axles=axles)

    assert (found.verdict, found.lenient_limit_kg) == (SUSPECTED, 46_000)  # 7,000 + 18,000 + 21,000
    assert found.reasons == ("combination-6", "axle-limits")


def test_the_sum_counts_only_where_the_rule_set_says_so() -> None:
    rule_set = ORDER_62.rule_set
    rules = CompiledRules(
        RuleSet("x", 1, gross_limits=rule_set.gross_limits, axle_group_limits=rule_set.axle_group_limits)
    )
    axles = six_axles(6_000, 8_000, 8_000, 7_000, 7_000, 7_000, tridem_spacing_mm=1_300)

    assert verdict_of(46_093, rules=rules, axles=axles).lenient_limit_kg == 49_000


def test_a_heavy_axle_is_named_and_decides_nothing() -> None:
    axles = six_axles(7_500, 9_000, 9_000, 7_000, 7_000, 7_000)
    found = verdict_of(46_500, axles=axles)

    assert found.verdict == COMPLIANT
    assert found.axle_excesses == (AxleExcess(1, 1, 7_500, 7_000),)
    assert found.reasons == ("combination-6", "axle-single-tires")


def test_axles_are_checked_under_a_permit() -> None:
    axles = six_axles(7_500, 9_000, 9_000, 7_000, 7_000, 7_000)
    found = verdict_of(46_500, permitted_mass_kg=80_000, axles=axles)

    assert (found.lenient_limit_kg, found.axle_excesses) == (80_000, (AxleExcess(1, 1, 7_500, 7_000),))


def test_a_registered_mass_caps_a_vehicle_whose_axles_are_known() -> None:
    axles = [Axle(4_000, 4_000), Axle(9_000)]

    assert verdict_of(13_000, TWO_AXLES, registered_mass_kg=12_000, axles=axles).lenient_limit_kg == 12_000


def test_axles_without_weights_or_spacings_still_count() -> None:
    assert verdict_of(150_000, VehicleFacts(), axles=[Axle()] * 9).lenient_limit_kg == 49_000


def test_driven_axles_tell_the_limit_of_six_axles() -> None:
    axles = [axle._replace(is_drive=position == 1) for position, axle in enumerate(six_axles(*[7_000] * 6))]

    assert verdict_of(42_000, VehicleFacts(VehicleClass.ARTICULATED, 6), axles=axles).lenient_limit_kg == 46_000


def test_the_air_suspension_of_four_axles_depends_on_the_measured_spacing() -> None:
    axles = [Axle(spacing_mm=3_300), Axle(spacing_mm=5_000), Axle(spacing_mm=1_800), Axle()]
    vehicle = VehicleFacts(VehicleClass.ARTICULATED, 4, "125", None, True)

    assert verdict_of(30_000, vehicle, axles=axles).conservative_limit_kg == 37_000


# Severity.


@pytest.mark.parametrize(
    ("gross_weight_kg", "severity"),
    [
        (49_098, Severity.UNSPECIFIED),
        (49_099, Severity.WARNING),
        (50_000, Severity.WARNING),
        (50_001, Severity.ORDINARY),
        (73_499, Severity.ORDINARY),
        (73_500, Severity.SERIOUS),
        (99_999, Severity.SERIOUS),
        (100_000, Severity.EXTREME),
        (200_000, Severity.EXTREME),
    ],
)
def test_severity(gross_weight_kg: int, severity: Severity) -> None:
    assert verdict_of(gross_weight_kg).severity == severity


def test_an_excess_of_a_tonne_is_a_warning_whatever_the_rate() -> None:
    # 1,500 kg registered and 2,400 kg weighed: 60 % over, and 900 kg.
    found = verdict_of(2_400, VehicleFacts(VehicleClass.LOW_SPEED, 2), registered_mass_kg=1_500)

    assert (found.overload_rate_permille, found.severity) == (600, Severity.WARNING)


def test_a_hundred_tonnes_within_a_permit_are_no_overload() -> None:
    found = verdict_of(119_000, permitted_mass_kg=120_000)

    assert (found.verdict, found.severity) == (COMPLIANT, Severity.UNSPECIFIED)


def test_a_rule_set_without_bands_calls_every_overload_ordinary() -> None:
    assert severity_of(SeverityBands(), 190_000, 150_000, 3_000) == Severity.ORDINARY


# What is kept in memory.


def test_weighings_without_excess_share_one_judgement() -> None:
    assert verdict_of(20_000) is verdict_of(30_000)
    assert verdict_of(26_000, THREE_AXLES_UNKNOWN) is verdict_of(26_500, THREE_AXLES_UNKNOWN)
    assert verdict_of(9_000, TWO_AXLES, registered_mass_kg=9_500) is verdict_of(
        8_000, TWO_AXLES, registered_mass_kg=9_500
    )
    assert verdict_of(60_000, permitted_mass_kg=90_000) is verdict_of(70_000, permitted_mass_kg=90_000)


def test_kinds_of_vehicles_kept_are_bounded() -> None:
    rules = load("order-62-2016")
    for drive_axle_count in range(VEHICLE_KINDS_CACHED_MAX + 10):
        verdict_of(20_000, VehicleFacts(VehicleClass.ARTICULATED, 3, "", drive_axle_count), rules=rules)

    assert len(rules.thresholds_by_vehicle) == 10


def test_limits_kept_are_bounded() -> None:
    rules = load("order-62-2016")
    for permitted_mass_kg in range(1, LIMITS_CACHED_MAX + 11):
        verdict_of(20_000, rules=rules, permitted_mass_kg=permitted_mass_kg)

    assert len(rules._thresholds_by_limits) == 10
