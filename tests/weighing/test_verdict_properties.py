"""What holds for every vehicle and weight: of the limits, of the order of verdicts, and of learning a fact."""

import json
from pathlib import Path

from hypothesis import assume, given
from hypothesis import strategies as st

from services.weighing.axles import Axle, TireArrangement
from services.weighing.limits import VehicleClass, VehicleFacts, find_limits, with_registered_mass
from services.weighing.rules import rules_from_mapping
from services.weighing.verdict import CompiledRules, Severity, Verdict, WeighingEvent, judge

RULE_SETS = Path(__file__).resolve().parents[2] / "services" / "registry" / "rule_sets"
RULES = [
    CompiledRules(rules_from_mapping(json.loads(path.read_text(encoding="utf-8"))))
    for path in sorted(RULE_SETS.glob("*.json"))
]

# From the mildest on; not judged depends on the vehicle alone, never on its weight.
MILDNESS = [Verdict.NOT_JUDGED, Verdict.COMPLIANT, Verdict.UNDETERMINED, Verdict.SUSPECTED]

rules_used = st.sampled_from(RULES)
weights_kg = st.integers(500, 200_000)
masses_kg = st.none() | st.integers(500, 60_000)
scale_kinds = st.integers(0, 4)
codes = st.just("") | st.text("1234567", min_size=1, max_size=8)


@st.composite
def vehicles(draw: st.DrawFn) -> VehicleFacts:
    group_codes = draw(codes)
    return VehicleFacts(
        draw(st.sampled_from(VehicleClass)),
        draw(st.none() | st.integers(2, 20)),
        group_codes,
        draw(st.none() | st.integers(1, 4)),
        draw(st.none() | st.booleans()),
        draw(st.none() | st.booleans()),
    )


@st.composite
def axles(draw: st.DrawFn) -> list[Axle]:
    one = st.builds(
        Axle,
        st.none() | st.integers(0, 20_000),
        st.none() | st.integers(300, 9_000),
        st.sampled_from(TireArrangement),
        st.none() | st.booleans(),
    )
    return draw(st.lists(one, max_size=9))


@given(rules_used, vehicles(), weights_kg, scale_kinds, masses_kg, st.none() | weights_kg, axles())
def test_a_judgement_adds_up(
    rules: CompiledRules,
    vehicle: VehicleFacts,
    gross_weight_kg: int,
    scale_kind: int,
    registered_mass_kg: int | None,
    permitted_mass_kg: int | None,
    weighed: list[Axle],
) -> None:
    found = judge(
        rules,
        vehicle,
        gross_weight_kg,
        scale_kind,
        WeighingEvent.GROSS,
        registered_mass_kg,
        permitted_mass_kg,
        weighed,
    )

    assert found.reasons
    assert (found.severity != Severity.UNSPECIFIED) == (found.verdict == Verdict.SUSPECTED)
    if found.verdict == Verdict.NOT_JUDGED:
        assert found[1:6] == (None,) * 5
        return
    lenient_kg = found.lenient_limit_kg
    assert lenient_kg is not None
    assert lenient_kg > 0
    assert (found.conservative_limit_kg or 0) <= lenient_kg
    assert found.excess_kg == max(gross_weight_kg - lenient_kg, 0)
    assert found.overload_rate_permille == found.excess_kg * 1000 // lenient_kg
    assert (found.verdict == Verdict.SUSPECTED) == (gross_weight_kg > lenient_kg + (found.tolerance_kg or 0))


@given(rules_used, vehicles(), weights_kg, weights_kg, scale_kinds, masses_kg, axles())
def test_more_weight_never_gives_a_milder_verdict(
    rules: CompiledRules,
    vehicle: VehicleFacts,
    one_kg: int,
    other_kg: int,
    scale_kind: int,
    registered_mass_kg: int | None,
    weighed: list[Axle],
) -> None:
    lighter, heavier = (
        judge(rules, vehicle, kg, scale_kind, WeighingEvent.GROSS, registered_mass_kg, None, weighed)
        for kg in sorted([one_kg, other_kg])
    )

    assert MILDNESS.index(lighter.verdict) <= MILDNESS.index(heavier.verdict)
    assert (lighter.excess_kg or 0) <= (heavier.excess_kg or 0)
    assert lighter.severity <= heavier.severity


@given(rules_used, vehicles(), st.data())
def test_learning_a_fact_never_leaves_the_interval(
    rules: CompiledRules, vehicle: VehicleFacts, data: st.DataObject
) -> None:
    """The limits of a vehicle better known lie within those of the vehicle less known.

    Air suspension and single tyres are not facts in this sense: what nobody states does not apply, so stating them
    moves the limits (docs/rules.md). A class that contradicts the number or layout of the axles is none either.
    """
    vehicle = vehicle._replace(has_air_suspension=None, has_single_tires=False)
    known = find_limits(rules.rule_set, vehicle)
    assume(not {"no-row-for-class", "class-contradicts-layout"}.intersection(known.reasons))
    assume(known.lenient_kg is not None)
    forgotten = data.draw(st.sampled_from(["vehicle_class", "axle_group_codes", "drive_axle_count"]))
    if forgotten == "axle_group_codes":
        assume(vehicle.axle_count is not None)
    less = find_limits(rules.rule_set, vehicle._replace(**{forgotten: VehicleFacts._field_defaults[forgotten]}))

    assert less.lenient_kg is not None
    assert known.lenient_kg is not None
    assert known.lenient_kg <= less.lenient_kg
    if known.conservative_kg is not None:
        assert less.conservative_kg is not None
        assert less.conservative_kg <= known.conservative_kg


@given(rules_used, vehicles(), st.sampled_from(VehicleClass))
def test_learning_the_kind_of_a_combination_never_leaves_the_interval(
    rules: CompiledRules, vehicle: VehicleFacts, vehicle_class: VehicleClass
) -> None:
    assume(vehicle_class in {VehicleClass.ARTICULATED, VehicleClass.FULL_TRAILER, VehicleClass.CENTER_AXLE_TRAILER})
    vehicle = vehicle._replace(has_air_suspension=None)
    known = find_limits(rules.rule_set, vehicle._replace(vehicle_class=vehicle_class))
    less = find_limits(rules.rule_set, vehicle._replace(vehicle_class=VehicleClass.COMBINATION))

    assert (less.conservative_kg or 0) <= (known.conservative_kg or 0)
    assert (known.lenient_kg or 0) <= (less.lenient_kg or 0)


@given(rules_used, vehicles(), st.integers(500, 60_000))
def test_a_registered_mass_never_raises_a_limit_and_never_widens_the_interval_of_a_known_row(
    rules: CompiledRules, vehicle: VehicleFacts, registered_mass_kg: int
) -> None:
    without = find_limits(rules.rule_set, vehicle)
    assume(without.lenient_kg is not None)
    lowered = with_registered_mass(without, registered_mass_kg)

    assert lowered.lenient_kg is not None
    assert without.lenient_kg is not None
    assert lowered.lenient_kg <= without.lenient_kg
    if without.conservative_kg == without.lenient_kg:
        assert lowered.conservative_kg == lowered.lenient_kg


@given(rules_used, vehicles(), weights_kg, scale_kinds, axles())
def test_single_tires_never_give_a_milder_verdict(
    rules: CompiledRules, vehicle: VehicleFacts, gross_weight_kg: int, scale_kind: int, weighed: list[Axle]
) -> None:
    with_dual, with_single = (
        judge(
            rules,
            vehicle._replace(has_single_tires=has_single_tires),
            gross_weight_kg,
            scale_kind,
            WeighingEvent.GROSS,
            axles=weighed,
        )
        for has_single_tires in (False, True)
    )

    assert MILDNESS.index(with_dual.verdict) <= MILDNESS.index(with_single.verdict)


@given(rules_used, vehicles(), weights_kg, scale_kinds, masses_kg, axles())
def test_the_same_values_give_the_same_judgement(
    rules: CompiledRules,
    vehicle: VehicleFacts,
    gross_weight_kg: int,
    scale_kind: int,
    registered_mass_kg: int | None,
    weighed: list[Axle],
) -> None:
    fresh = CompiledRules(rules.rule_set)
    first, second = (
        judge(used, vehicle, gross_weight_kg, scale_kind, WeighingEvent.GROSS, registered_mass_kg, None, weighed)
        for used in (rules, fresh)
    )

    assert first == second
