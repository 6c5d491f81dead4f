"""The verdict on one weighing: limit, tolerance, excess, overload rate, severity and the reasons.

A verdict is a clue until an officer confirms it. Pure: the same values give the same judgement, whoever asks and when.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from services.weighing.axles import Axle, AxleExcess, AxleLimits, group_axles
from services.weighing.limits import (
    Limits,
    VehicleFacts,
    find_limits,
    with_axle_limits,
    with_axles,
    with_permit,
    with_registered_mass,
)
from services.weighing.rules import RuleSet, SeverityBands

# Kinds of vehicles whose thresholds are kept in memory. Lawful ones are some hundreds; a site that sends every
# combination of facts must not fill the memory.
VEHICLE_KINDS_CACHED_MAX: Final = 4_096

# Limits whose thresholds are kept in memory: besides those of the kinds of vehicles, those by a registered mass, a
# permit or a sum of axle limits, of which there are some hundreds in practice.
LIMITS_CACHED_MAX: Final = 8_192

# Reasons that come from the verdict, not from the limit.
TARE: Final = "tare"
EVENT_UNKNOWN: Final = "event-unknown"
WITHIN_TOLERANCE: Final = "within-tolerance"


class WeighingEvent(IntEnum):
    """Step of a visit, numbered as in `zhichao.weighing.v1.WeighingEvent`."""

    UNSPECIFIED = 0
    TARE = 1
    GROSS = 2
    REWEIGH = 3


class Verdict(IntEnum):
    """Automatic outcome, numbered as in `zhichao.weighing.v1.Verdict`."""

    UNSPECIFIED = 0
    COMPLIANT = 1
    UNDETERMINED = 2
    SUSPECTED = 3
    NOT_JUDGED = 4


class Severity(IntEnum):
    """Band of a suspected overload, numbered as in `zhichao.weighing.v1.Severity`."""

    UNSPECIFIED = 0
    WARNING = 1
    ORDINARY = 2
    SERIOUS = 3
    EXTREME = 4


class Judgement(NamedTuple):
    """A verdict with what it was made from, as in `zhichao.weighing.v1.Judgement`.

    Rule set and certificate are the caller's to add. Weighings without an excess of one kind of vehicle share one
    object as long as the vehicle stays in memory, so a caller may keep what it makes of it by identity, within a bound.
    """

    verdict: Verdict
    conservative_limit_kg: int | None = None
    lenient_limit_kg: int | None = None
    tolerance_kg: int | None = None
    excess_kg: int | None = None
    overload_rate_permille: int | None = None
    severity: Severity = Severity.UNSPECIFIED
    reasons: tuple[str, ...] = ()
    axle_excesses: tuple[AxleExcess, ...] = ()


class Thresholds(NamedTuple):
    """Limits of one kind of vehicle on one kind of scale, ready to be compared with; judgements without an excess."""

    limits: Limits
    # Up to this weight the judgement is `clear`; absent when it is so for every weight.
    clear_max_kg: int | None
    clear: Judgement
    within_tolerance: Judgement
    undetermined: Judgement
    compliant_max_kg: int
    suspected_above_kg: int
    # A registered mass below this changes the limits; absent when any does.
    registered_mass_matters_below_kg: int | None


_JUDGED_EVENTS: Final[frozenset[int]] = frozenset({WeighingEvent.GROSS, WeighingEvent.REWEIGH})
_TARE: Final = Judgement(Verdict.NOT_JUDGED, reasons=(TARE,))
_EVENT_UNKNOWN: Final = Judgement(Verdict.NOT_JUDGED, reasons=(EVENT_UNKNOWN,))


class CompiledRules:
    """A rule set made ready to judge, with the thresholds of the vehicles seen kept in memory. Threads may share it."""

    def __init__(self, rule_set: RuleSet) -> None:
        self.rule_set = rule_set
        self.axle_limits = AxleLimits(rule_set.axle_group_limits)
        self.severity_bands = rule_set.severity_bands
        self.tolerance_permille = {row.scale_kind: row.permille for row in rule_set.scale_tolerances}
        self.thresholds_by_vehicle: dict[tuple[VehicleFacts, int], Thresholds] = {}
        self._thresholds_by_limits: dict[tuple[Limits, int], Thresholds] = {}

    def thresholds(self, vehicle: VehicleFacts, scale_kind: int) -> Thresholds:
        """Get the thresholds of a kind of vehicle on a kind of scale, found once and then kept."""
        known = self.thresholds_by_vehicle.get((vehicle, scale_kind))
        if known is not None:
            return known
        found = self.thresholds_of(find_limits(self.rule_set, vehicle), scale_kind)
        if len(self.thresholds_by_vehicle) >= VEHICLE_KINDS_CACHED_MAX:
            self.thresholds_by_vehicle.clear()
        self.thresholds_by_vehicle[vehicle, scale_kind] = found
        return found

    def thresholds_of(self, limits: Limits, scale_kind: int) -> Thresholds:
        """Get the thresholds for limits on a kind of scale; a kind that the rule set does not name has no tolerance."""
        known = self._thresholds_by_limits.get((limits, scale_kind))
        if known is not None:
            return known
        found = _thresholds(limits, self.tolerance_permille.get(scale_kind, 0))
        if len(self._thresholds_by_limits) >= LIMITS_CACHED_MAX:
            self._thresholds_by_limits.clear()
        self._thresholds_by_limits[limits, scale_kind] = found
        return found


def _thresholds(limits: Limits, permille: int) -> Thresholds:
    conservative_kg, lenient_kg, reasons = limits[:3]
    matters_below_kg = limits.registered_mass_matters_below_kg
    if lenient_kg is None:
        not_judged = Judgement(Verdict.NOT_JUDGED, reasons=reasons)
        return Thresholds(limits, None, not_judged, not_judged, not_judged, 0, 0, matters_below_kg)
    tolerance_kg = lenient_kg * permille // 1000
    compliant = Judgement(Verdict.COMPLIANT, conservative_kg, lenient_kg, tolerance_kg, 0, 0, reasons=reasons)
    undetermined = compliant._replace(verdict=Verdict.UNDETERMINED)
    if conservative_kg is None:
        # No weight is surely compliant: the strict limit is not known.
        conservative_kg = compliant_max_kg = -1
    else:
        compliant_max_kg = conservative_kg + conservative_kg * permille // 1000
    return Thresholds(
        limits,
        conservative_kg,
        compliant,
        compliant._replace(reasons=(*reasons, WITHIN_TOLERANCE)),
        undetermined,
        compliant_max_kg,
        lenient_kg + tolerance_kg,
        matters_below_kg,
    )


def judge(
    rules: CompiledRules,
    vehicle: VehicleFacts,
    gross_weight_kg: int,
    scale_kind: int,
    event: int,
    registered_mass_kg: int | None = None,
    permitted_mass_kg: int | None = None,
    axles: Sequence[Axle] = (),
) -> Judgement:
    """Judge one weighing.

    `scale_kind` and `event` are numbers of ScaleKind and WeighingEvent; `permitted_mass_kg` is that of a transport
    permit. Suspected is what is above the lenient limit with its tolerance, compliant what is not above the
    conservative limit with its own; between them the verdict is undetermined. Empty weighings, and vehicles of which
    nothing is known that a limit could be taken from, are not judged. Never raises for values that `validate_record`
    accepts.
    """
    if event not in _JUDGED_EVENTS:
        return _TARE if event == WeighingEvent.TARE else _EVENT_UNKNOWN
    if permitted_mass_kg is not None and rules.rule_set.modifiers.is_replaced_by_permit:
        thresholds = rules.thresholds_of(with_permit(permitted_mass_kg), scale_kind)
        if axles:
            return _judge_axles(rules, vehicle, gross_weight_kg, scale_kind, thresholds, None, axles)
        return _outcome(thresholds, gross_weight_kg, rules.severity_bands)
    if axles:
        return _judge_axles(rules, vehicle, gross_weight_kg, scale_kind, None, registered_mass_kg, axles)
    # Looked up here and not by rules.thresholds(): nearly every record ends in the next lines.
    known = rules.thresholds_by_vehicle.get((vehicle, scale_kind))
    thresholds = rules.thresholds(vehicle, scale_kind) if known is None else known
    if registered_mass_kg is not None:
        thresholds = _lowered(rules, thresholds, registered_mass_kg, scale_kind)
    if thresholds.clear_max_kg is None or gross_weight_kg <= thresholds.clear_max_kg:
        return thresholds.clear
    return _outcome(thresholds, gross_weight_kg, rules.severity_bands)


def _lowered(rules: CompiledRules, thresholds: Thresholds, registered_mass_kg: int, scale_kind: int) -> Thresholds:
    matters_below_kg = thresholds.registered_mass_matters_below_kg
    if matters_below_kg is not None and registered_mass_kg >= matters_below_kg:
        return thresholds
    return rules.thresholds_of(with_registered_mass(thresholds.limits, registered_mass_kg), scale_kind)


def _judge_axles(
    rules: CompiledRules,
    vehicle: VehicleFacts,
    gross_weight_kg: int,
    scale_kind: int,
    permit: Thresholds | None,
    registered_mass_kg: int | None,
    axles: Sequence[Axle],
) -> Judgement:
    """Judge a vehicle whose axles are known. Axles above their limits are named but decide nothing by themselves.

    Since Order 62 a truck is over the limit by its gross weight; axle loads enter by the sum of their limits.
    """
    groups = group_axles(axles, vehicle.axle_group_codes)
    check = rules.axle_limits.check(groups, has_air_suspension=vehicle.has_air_suspension is True)
    if permit is not None:
        thresholds = permit
    else:
        thresholds = rules.thresholds(with_axles(vehicle, axles, groups), scale_kind)
        if registered_mass_kg is not None:
            thresholds = _lowered(rules, thresholds, registered_mass_kg, scale_kind)
        if check.limit_sum_kg is not None and rules.rule_set.modifiers.is_capped_by_axle_limits:
            limits = with_axle_limits(thresholds.limits, check.limit_sum_kg)
            if limits is not thresholds.limits:
                thresholds = rules.thresholds_of(limits, scale_kind)
    judgement = _outcome(thresholds, gross_weight_kg, rules.severity_bands)
    if not check.excesses:
        return judgement
    return judgement._replace(reasons=judgement.reasons + check.reasons, axle_excesses=check.excesses)


def _outcome(thresholds: Thresholds, gross_weight_kg: int, bands: SeverityBands) -> Judgement:
    """Compare a weight with the thresholds."""
    clear = thresholds.clear
    lenient_kg = clear.lenient_limit_kg
    if thresholds.clear_max_kg is None or lenient_kg is None or gross_weight_kg <= thresholds.clear_max_kg:
        return clear
    is_compliant = gross_weight_kg <= thresholds.compliant_max_kg
    if gross_weight_kg <= lenient_kg:
        return thresholds.within_tolerance if is_compliant else thresholds.undetermined
    excess_kg = gross_weight_kg - lenient_kg
    rate_permille = excess_kg * 1000 // lenient_kg
    is_suspected = gross_weight_kg > thresholds.suspected_above_kg
    return Judgement(
        Verdict.SUSPECTED if is_suspected else Verdict.COMPLIANT if is_compliant else Verdict.UNDETERMINED,
        clear.conservative_limit_kg,
        lenient_kg,
        clear.tolerance_kg,
        excess_kg,
        rate_permille,
        severity_of(bands, gross_weight_kg, excess_kg, rate_permille) if is_suspected else Severity.UNSPECIFIED,
        clear.reasons if is_suspected else thresholds.within_tolerance.reasons,
    )


def severity_of(bands: SeverityBands, gross_weight_kg: int, excess_kg: int, rate_permille: int) -> Severity:
    """Find the band of a suspected overload.

    A gross weight that is extreme is so by itself. An excess that earns a warning does so whatever the rate: that
    happens only below a limit of 2 t, where one tonne is half of it.
    """
    if 0 < bands.extreme_gross_min_kg <= gross_weight_kg:
        return Severity.EXTREME
    if excess_kg <= bands.warning_excess_max_kg:
        return Severity.WARNING
    if 0 < bands.serious_rate_min_permille <= rate_permille:
        return Severity.SERIOUS
    return Severity.ORDINARY
