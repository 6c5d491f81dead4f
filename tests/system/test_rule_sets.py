"""A rule set that a province publishes for a city judges the trucks of its county, two hops below: through an outage,
after a kill, until the county has one of its own; and nowhere else.
"""

import json
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import services.registry
from cli.certificates import make_certificates
from cli.main import main
from cli.simulate.registration import register_below
from cli.simulate.site import CITY, COUNTY, PROVINCE
from tests.system.checker import Checker
from tests.system.conftest import MakeLevels
from tests.system.journals import CALL_SECONDS, calling
from tests.system.levels import Level, Levels, logged_faults
from tests.system.reaching import OPERATOR
from tests.system.waiting import wait_until
from zhichao.common.v1 import refusal_pb2
from zhichao.registry.v1 import service_pb2 as registry_pb2
from zhichao.registry.v1 import service_pb2_grpc as registry_grpc
from zhichao.relay.v1 import relay_pb2
from zhichao.weighing.v1 import record_pb2, weighing_pb2
from zhichao.weighing.v1 import service_pb2 as weighing_pb
from zhichao.weighing.v1 import service_pb2_grpc as weighing_grpc

pytestmark = pytest.mark.system

SECONDS_MAX = 90.0
NEIGHBOUR = "141100"
RULE_SET = "example-of-the-province"

Refusal = refusal_pb2.ErrorReason


def rule_set_file(directory: Path, rule_set_id: str, limit_kg: int) -> str:
    """Write a rule set by which a rigid truck with three axles may have a weight, and return the file's name."""
    shipped = json.loads((files(services.registry) / "rule_sets" / "order-62-2016.json").read_text(encoding="utf-8"))
    for row in shipped["grossLimits"]:
        if row["code"] == "rigid-3":
            row["limitKg"] = limit_kg
    shipped["modifiers"].pop("airSuspensionLimits")
    path = directory / f"{rule_set_id}-{limit_kg}.json"
    path.write_text(json.dumps(shipped | {"ruleSetId": rule_set_id}, ensure_ascii=False), encoding="utf-8")
    return str(path)


def run(level: Level, *arguments: str) -> Any:
    """Run a command of the machine's operator at one level and return its JSON."""
    words = ["rule-set", *arguments, "--data", str(level.directory), "--json"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


def owners(level: Level, rule_set_id: str) -> list[str]:
    """Return whose rule sets with an id a level holds."""
    return sorted(one["info"]["origin"] for one in run(level, "list", "--id", rule_set_id)["rule_sets"])


class Scale:
    """One scale of the county, with a truck of 24 t and three axles on it."""

    def __init__(self, levels: Levels) -> None:
        self._levels = levels
        self._station = levels.site.stations[0]

    def name_rule_set(self) -> None:
        """Let the county's registry say which rule set judges the scale's unit."""
        registry = self._levels.county.places["registry"]
        unit_id = self._station.unit.source_unit_id
        with calling(registry, OPERATOR) as channel:
            stub = registry_grpc.RegistryServiceStub(channel)
            unit = stub.GetSourceUnit(
                registry_pb2.GetSourceUnitRequest(source_unit_id=unit_id), timeout=CALL_SECONDS
            ).source_unit
            unit.rule_set_id = RULE_SET
            request = registry_pb2.UpdateSourceUnitRequest(source_unit=unit)
            request.update_mask.paths.append("rule_set_id")
            changed = stub.UpdateSourceUnit(request, timeout=CALL_SECONDS).source_unit
        assert "rule_set_id" in [warning.field for warning in changed.info.warnings]

    def record(self, record_id: str) -> record_pb2.WeighingRecord:
        scale = self._station.scale
        made = record_pb2.WeighingRecord(
            record_id=record_id,
            source_unit_id=scale.source_unit_id,
            weighing_point_id=scale.weighing_point_id,
            scale_id=scale.scale_id,
            event=record_pb2.WEIGHING_EVENT_GROSS,
            gross_weight_kg=24_000,
            vehicle=record_pb2.Vehicle(vehicle_class=record_pb2.VEHICLE_CLASS_RIGID_TRUCK, axle_count=3),
        )
        made.weigh_time.FromDatetime(datetime.now(UTC))
        return made

    def sent(self, record: record_pb2.WeighingRecord) -> weighing_pb.RecordResult:
        """Send a record once and note what it was answered."""
        history = self._levels.history
        history.sending(record)
        gate = self._levels.gate
        with gate.connect() as channel:
            (result,) = (
                gate.firm(channel)
                .RecordWeighings(weighing_pb.RecordWeighingsRequest(records=[record]), timeout=CALL_SECONDS)
                .results
            )
        if result.HasField("recorded"):
            history.acknowledged(record, result.recorded)
        return result

    def refused(self) -> record_pb2.WeighingRecord | None:
        """Send another record and return it if it is refused for want of a rule set."""
        record = self.record(f"waits-{datetime.now(UTC).timestamp():.3f}")
        refused = self.sent(record).refusal.reason == Refusal.ERROR_REASON_NO_RULE_SET
        return record if refused else None

    def judged(self, record: record_pb2.WeighingRecord) -> weighing_pb2.Judgement:
        """Send a record until it is recorded, and return how it was judged."""
        wait_until(lambda: self.sent(record).HasField("recorded"), SECONDS_MAX, lambda: str(self.sent(record)))
        return self.sent(record).recorded.judgement


def judgement_at(level: Level, record: record_pb2.WeighingRecord) -> weighing_pb2.Judgement | None:
    """Return how a record was judged, as a level says; None as long as it does not hold it."""
    narrow = weighing_pb.WeighingFilter(source_unit_id=record.source_unit_id, origin=COUNTY)
    with calling(level.places["weighing"], OPERATOR) as channel:
        stub = weighing_grpc.WeighingServiceStub(channel)
        answer = stub.ListWeighings(weighing_pb.ListWeighingsRequest(filter=narrow), timeout=CALL_SECONDS)
    found = [one.weighing for one in answer.held_weighings if one.weighing.record.record_id == record.record_id]
    return found[0].judgement if found else None


def test_the_province_s_judges_at_the_county_and_nowhere_else(
    make_levels: MakeLevels, directory: Path, database_template: Path
) -> None:
    levels = make_levels().start()
    province = levels.province
    certificates = make_certificates(directory / "0" / "pki", [NEIGHBOUR])
    neighbour = Level(
        NEIGHBOUR,
        directory / NEIGHBOUR,
        province,
        tls_directory=certificates[NEIGHBOUR],
        is_split=False,
        template=database_template,
    )
    try:
        with calling(province.places["registry"], OPERATOR) as channel:
            stub = registry_grpc.RegistryServiceStub(channel)
            register_below(stub, COUNTY, CITY)
            register_below(stub, NEIGHBOUR, PROVINCE)
        neighbour.launch()
        neighbour.process.wait_until_serving()
        levels.register()
        levels.wait_current()
        neighbour.wait_state(relay_pb2.LINK_STATE_CURRENT)
        _judge(levels, neighbour, directory)
    finally:
        neighbour.close()


def _judge(levels: Levels, neighbour: Level, directory: Path) -> None:
    county, city, province = levels.all
    scale = Scale(levels)

    # Both links are cut while the province publishes and the county names what has not come yet.
    city.relay_proxy.refuse()
    province.relay_proxy.refuse()
    run(province, "publish", rule_set_file(directory, RULE_SET, 20_000), "--to", CITY)
    run(province, "publish", rule_set_file(directory, "for-all", 20_000))
    scale.name_rule_set()
    first = wait_until(scale.refused, SECONDS_MAX, "no record is refused though its rule set is not there")
    assert first is not None
    province.relay_proxy.refuse(is_refusing=False)
    wait_until(lambda: owners(city, RULE_SET) == [PROVINCE], SECONDS_MAX, lambda: f"not at the city: {city.seen()}")
    assert scale.sent(first).refusal.reason == Refusal.ERROR_REASON_NO_RULE_SET
    city.relay_proxy.refuse(is_refusing=False)

    # The same record under the same id, which was refused, is judged now.
    judgement = scale.judged(first)
    assert (judgement.rule_set_origin, judgement.rule_set_id, judgement.rule_set_version) == (PROVINCE, RULE_SET, 1)
    assert (judgement.verdict, judgement.lenient_limit_kg) == (weighing_pb2.VERDICT_SUSPECTED, 20_000)

    # What everybody gets has come to the neighbour; what is for another city has not.
    wait_until(lambda: owners(neighbour, "for-all") == [PROVINCE], SECONDS_MAX, lambda: f"{neighbour.seen()}")
    assert owners(neighbour, RULE_SET) == []

    # Cut off and killed, the county judges on by what it holds.
    city.relay_proxy.refuse()
    county.process.kill_everything()
    county.process.start()
    again = scale.judged(scale.record("after-the-kill"))
    assert (again.rule_set_origin, again.verdict) == (PROVINCE, weighing_pb2.VERDICT_SUSPECTED)

    # Its own comes before the province's.
    run(county, "publish", rule_set_file(directory, RULE_SET, 30_000))
    assert owners(county, RULE_SET) == [PROVINCE, COUNTY]

    def is_own() -> bool:
        record = scale.record(f"own-{datetime.now(UTC).timestamp():.3f}")
        found = scale.judged(record)
        return (found.rule_set_origin, found.verdict) == ("", weighing_pb2.VERDICT_COMPLIANT)

    wait_until(is_own, SECONDS_MAX, "the county's own rule set does not judge")

    city.relay_proxy.refuse(is_refusing=False)
    levels.wait_current()
    # The province holds the neighbour's logs too; the checker knows one line of platforms.
    findings = Checker([county.held, city.held], levels.history).check()
    findings += [fault for level in (*levels.all, neighbour) for fault in logged_faults(level)]
    assert findings == []
    # Above, everybody reads by whose figures it was judged.
    assert judgement_at(province, first) == judgement
    assert judgement_at(city, first) == judgement
