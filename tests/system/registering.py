"""Brings a made-up site into a county: registers it, and weighs one truck on every scale."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from cli.simulate.registration import register_site
from cli.simulate.site import Site, Station
from tests.system.history import History
from tests.system.journals import CALL_SECONDS, calling
from tests.system.waiting import wait_until
from zhichao.common.v1 import refusal_pb2
from zhichao.registry.v1 import service_pb2_grpc as registry_grpc
from zhichao.weighing.v1 import record_pb2, service_pb2, service_pb2_grpc

REGISTERED_SECONDS_MAX: Final = 30.0

_NOT_KNOWN_YET: Final = frozenset(
    {
        refusal_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
        refusal_pb2.ERROR_REASON_UNKNOWN_SOURCE_UNIT,
        refusal_pb2.ERROR_REASON_UNKNOWN_WEIGHING_POINT,
        refusal_pb2.ERROR_REASON_UNKNOWN_SCALE,
        refusal_pb2.ERROR_REASON_NO_RULE_SET,
    }
)


def register_and_weigh(site: Site, history: History, addresses: Mapping[str, str]) -> None:
    """Return when the weighing service has taken a record of every scale; what it learned of is noted. Repeatable."""
    now = datetime.now(UTC)
    with calling(addresses["registry"]) as channel:
        stub = registry_grpc.RegistryServiceStub(channel)
        register_site(stub, site, today=now.date(), timeout_seconds=REGISTERED_SECONDS_MAX)
    trucks = [_first_truck(station, now) for station in site.stations]
    with calling(addresses["weighing"]) as channel:
        weighing = service_pb2_grpc.WeighingServiceStub(channel)
        wait_until(
            lambda: _are_taken(weighing, trucks, history),
            REGISTERED_SECONDS_MAX,
            "the weighing service does not know the site",
        )


def _are_taken(
    stub: service_pb2_grpc.WeighingServiceStub, trucks: list[record_pb2.WeighingRecord], history: History
) -> bool:
    for truck in trucks:
        history.sending(truck)
    answer = stub.RecordWeighings(service_pb2.RecordWeighingsRequest(records=trucks), timeout=CALL_SECONDS)
    for truck, result in zip(trucks, answer.results, strict=True):
        if result.HasField("recorded"):
            history.acknowledged(truck, result.recorded)
        elif result.refusal.reason not in _NOT_KNOWN_YET:
            raise AssertionError(f"the first truck was refused: {result.refusal}")
    return all(result.HasField("recorded") for result in answer.results)


def _first_truck(station: Station, now: datetime) -> record_pb2.WeighingRecord:
    scale = station.scale
    record = record_pb2.WeighingRecord(
        record_id=f"first-truck-{scale.scale_id}-{now.timestamp():.3f}",
        source_unit_id=scale.source_unit_id,
        weighing_point_id=scale.weighing_point_id,
        scale_id=scale.scale_id,
        event=record_pb2.WEIGHING_EVENT_GROSS,
        gross_weight_kg=18_000,
    )
    record.weigh_time.FromDatetime(now)
    return record
