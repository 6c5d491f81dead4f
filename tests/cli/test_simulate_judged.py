"""Made-up traffic before the real judge: every record is valid, and the generator knows the truth about its trucks."""

import itertools
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.simulate.options import TrafficOptions
from cli.simulate.site import make_site
from cli.simulate.traffic import Emission, Traffic
from services.weighing.convert import read_vehicle
from services.weighing.rules import rules_from_mapping
from services.weighing.validation import validate_record
from services.weighing.verdict import CompiledRules, Verdict, judge
from zhichao.weighing.v1 import record_pb2

START = datetime(2026, 11, 1, 0, 0, tzinfo=UTC)
SITE = make_site(seed=11, units=12)
RULE_SETS = Path(__file__).resolve().parents[2] / "services" / "registry" / "rule_sets"
TRAFFIC = Traffic(
    SITE, seed=11, start_time=START, records_per_second=50, options=TrafficOptions(overload_rate=0.05, tare_rate=0.3)
)
EMISSIONS = list(itertools.islice(TRAFFIC.emissions(), 20_000))


def verdict_of(rules: CompiledRules, emission: Emission) -> Verdict:
    record = emission.record
    reading = read_vehicle(record.vehicle, record.vehicle.SerializeToString())
    scale_kind = SITE.stations[emission.terminal].scale.kind
    judgement = judge(
        rules,
        reading.facts,
        record.gross_weight_kg,
        scale_kind,
        record.event,
        reading.registered_mass_kg,
        None,
        reading.axles,
    )
    return judgement.verdict


def test_every_record_is_valid() -> None:
    now_seconds = START.timestamp() + 3_600

    refused = [(one.record, validate_record(one.record, now_seconds)) for one in EMISSIONS]

    assert [(record, violations) for record, violations in refused if violations] == []


@pytest.mark.parametrize("rule_set", sorted(path.stem for path in RULE_SETS.glob("*.json")))
def test_true_overloads_are_suspected_and_no_other_truck_is(rule_set: str) -> None:
    text = (RULE_SETS / f"{rule_set}.json").read_text(encoding="utf-8")
    rules = CompiledRules(rules_from_mapping(json.loads(text)))
    verdicts = Counter[tuple[str, Verdict]]()
    for one in EMISSIONS:
        vehicle = one.record.vehicle
        if one.is_overload:
            kind = "overload"
        elif one.record.event == record_pb2.WEIGHING_EVENT_TARE:
            kind = "tare"
        else:
            kind = "known" if vehicle.vehicle_class and vehicle.axle_count else "unknown"
        verdicts[kind, verdict_of(rules, one)] += 1

    assert {verdict for kind, verdict in verdicts if kind == "overload"} == {Verdict.SUSPECTED}
    assert {verdict for kind, verdict in verdicts if kind == "tare"} == {Verdict.NOT_JUDGED}
    others = {verdict for kind, verdict in verdicts if kind == "known"}
    # The chart of 2016 limits some layouts otherwise, and not every terminal sends the layout.
    assert others - {Verdict.UNDETERMINED} == {Verdict.COMPLIANT}
    assert others == {Verdict.COMPLIANT} or rule_set == "chart-2016"
    assert not verdicts["unknown", Verdict.SUSPECTED]
    # Otherwise nothing tests what happens to them.
    assert verdicts["unknown", Verdict.UNDETERMINED] > 50
