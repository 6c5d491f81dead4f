"""Brings a made-up site into a county: registers it, issues its tokens, and weighs one truck on every scale."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import grpc

from cli.simulate.credentials import issue_terminals
from cli.simulate.registration import register_site
from cli.simulate.site import Site, Station
from services.common.reasons import Reason
from services.common.rpc_client import service_error
from tests.system.history import History
from tests.system.journals import CALL_SECONDS, calling
from tests.system.reaching import OPERATOR, SECURITY, Gate, Place
from tests.system.waiting import wait_until
from zhichao.access.v1 import credential_pb2
from zhichao.access.v1 import service_pb2 as access_pb2
from zhichao.access.v1 import service_pb2_grpc as access_grpc
from zhichao.common.v1 import refusal_pb2
from zhichao.registry.v1 import service_pb2_grpc as registry_grpc
from zhichao.weighing.v1 import record_pb2, service_pb2, service_pb2_grpc

REGISTERED_SECONDS_MAX: Final = 30.0

FIRM: Final = "test-firm"
# What clients of the tests send together at most; no test is about the limits of one of them.
RECORDS_PER_SECOND: Final = 1_000.0
# Who still sends with a former secret goes on for as long as any test takes.
OVERLAP: Final = timedelta(hours=1)

_NOT_KNOWN_YET: Final = frozenset(
    {
        refusal_pb2.ERROR_REASON_SERVICE_UNAVAILABLE,
        refusal_pb2.ERROR_REASON_UNKNOWN_SOURCE_UNIT,
        refusal_pb2.ERROR_REASON_UNKNOWN_WEIGHING_POINT,
        refusal_pb2.ERROR_REASON_UNKNOWN_SCALE,
        refusal_pb2.ERROR_REASON_NO_RULE_SET,
    }
)


def register_and_weigh(site: Site, history: History, places: Mapping[str, Place]) -> Gate:
    """Return where the site sends, when the weighing service has taken a record of every scale. Repeatable.

    What the records were answered is noted.
    """
    now = datetime.now(UTC)
    with calling(places["registry"], OPERATOR) as channel:
        stub = registry_grpc.RegistryServiceStub(channel)
        register_site(stub, site, today=now.date(), timeout_seconds=REGISTERED_SECONDS_MAX)
    with calling(places["registry"], SECURITY) as channel:
        access = access_grpc.AccessServiceStub(channel)
        gate = Gate(
            places["weighing"].address, issue_terminals(access, site, RECORDS_PER_SECOND), _issue_firm(access, site)
        )
    trucks = [_first_truck(station, now) for station in site.stations]
    with gate.connect() as channel:
        firm = gate.firm(channel)
        wait_until(
            lambda: _are_taken(firm, trucks, history),
            REGISTERED_SECONDS_MAX,
            "the weighing service does not know the site",
        )
    return gate


def _issue_firm(stub: access_grpc.AccessServiceStub, site: Site) -> str:
    """Return a token for all units of the site; a new secret of the same credential the next time."""
    credential = credential_pb2.Credential(
        credential_id=FIRM,
        kind=credential_pb2.PRINCIPAL_KIND_INTEGRATOR,
        display_name="示例集成商",
        source_unit_ids=[unit.source_unit_id for unit in site.units],
    )
    request: Any = access_pb2.CreateCredentialRequest(credential=credential)
    try:
        return str(stub.CreateCredential(request, timeout=CALL_SECONDS).token)
    except grpc.RpcError as error:
        if service_error(error).reason is not Reason.RESOURCE_EXISTS:
            raise
    rotation = access_pb2.RotateCredentialRequest(credential_id=FIRM)
    rotation.overlap.FromTimedelta(OVERLAP)
    return str(stub.RotateCredential(rotation, timeout=CALL_SECONDS).token)


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
