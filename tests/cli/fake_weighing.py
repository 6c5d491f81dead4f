"""A platform in miniature for tests of what talks to one: it remembers, recognises repeats, and fails when told to.

It stands for the remote world only; the real services have tests of their own.
"""

import hashlib
import itertools
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from google.rpc import code_pb2

from services.common.access.tokens import AUTHORIZATION_METADATA, format_token, metadata_value, new_secret
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.rpc_status import to_grpc_status
from zhichao.access.v1 import service_pb2 as access_messages
from zhichao.access.v1 import service_pb2_grpc as access_grpc
from zhichao.common.v1 import refusal_pb2
from zhichao.registry.v1 import service_pb2 as registry_messages
from zhichao.registry.v1 import service_pb2_grpc as registry_grpc
from zhichao.weighing.v1 import record_pb2, service_pb2, service_pb2_grpc, weighing_pb2

# Order 62 by class and axles, as far as the simulated traffic goes.
LIMITS_KG = {
    (record_pb2.VEHICLE_CLASS_RIGID_TRUCK, 2): 18_000,
    (record_pb2.VEHICLE_CLASS_RIGID_TRUCK, 3): 25_000,
    (record_pb2.VEHICLE_CLASS_RIGID_TRUCK, 4): 31_000,
    (record_pb2.VEHICLE_CLASS_ARTICULATED, 3): 27_000,
    (record_pb2.VEHICLE_CLASS_ARTICULATED, 4): 36_000,
    (record_pb2.VEHICLE_CLASS_ARTICULATED, 5): 43_000,
}


if TYPE_CHECKING:
    # The generated base classes are abstract to type checkers but complete at run time: the rest is UNIMPLEMENTED.
    class WeighingBase: ...

    class RegistryBase: ...

    class AccessBase: ...
else:
    WeighingBase = service_pb2_grpc.WeighingServiceServicer
    RegistryBase = registry_grpc.RegistryServiceServicer
    AccessBase = access_grpc.AccessServiceServicer


class FakeWeighing(WeighingBase):
    """Records in memory; first content under a record id wins."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.held: dict[tuple[str, str], tuple[record_pb2.WeighingRecord, service_pb2.Recorded]] = {}
        self.conflicts: list[record_pb2.WeighingRecord] = []
        self.arrivals: list[record_pb2.WeighingRecord] = []
        self.streams = 0
        # What was shown with single records, by source unit.
        self.shown: dict[str, set[str]] = defaultdict(set)
        # Called with every record before it is looked at; raises what the platform should answer.
        self.refuse: Callable[[record_pb2.WeighingRecord], None] = lambda record: None
        # Called before each call and stream message; raises what the platform should answer.
        self.fail: Callable[[], None] = lambda: None
        # Called after a record or message is held and before it is answered.
        self.lose_answer: Callable[[], None] = lambda: None

    def RecordWeighing(
        self, request: service_pb2.RecordWeighingRequest, context: grpc.ServicerContext
    ) -> service_pb2.RecordWeighingResponse:
        authorization = metadata_value(context.invocation_metadata(), AUTHORIZATION_METADATA)
        self.shown[request.record.source_unit_id].add(authorization)
        with ending(context):
            self.fail()
            recorded = self._record(request.record)
            self.lose_answer()
            return service_pb2.RecordWeighingResponse(recorded=recorded)

    def StreamWeighings(
        self, request_iterator: Iterator[service_pb2.StreamWeighingsRequest], context: grpc.ServicerContext
    ) -> Iterator[service_pb2.StreamWeighingsResponse]:
        self.streams += 1
        with ending(context):
            for request in request_iterator:
                assert 1 <= len(request.records) <= 1000
                self.fail()
                results = [self._result(record) for record in request.records]
                self.lose_answer()
                yield service_pb2.StreamWeighingsResponse(results=results)

    def _result(self, record: record_pb2.WeighingRecord) -> service_pb2.RecordResult:
        try:
            return service_pb2.RecordResult(record_id=record.record_id, recorded=self._record(record))
        except ServiceError as error:
            refusal = refusal_pb2.Refusal(
                code=code_pb2.Code.Value(error.status),
                reason=refusal_pb2.ErrorReason.Value(f"ERROR_REASON_{error.reason}"),
                message=error.message,
                message_zh=error.message_zh,
                field_violations=[
                    refusal_pb2.FieldViolation(field=violation.field, description=violation.description)
                    for violation in error.field_violations
                ],
            )
            return service_pb2.RecordResult(record_id=record.record_id, refusal=refusal)

    def _record(self, sent: record_pb2.WeighingRecord) -> service_pb2.Recorded:
        record = record_pb2.WeighingRecord()
        record.CopyFrom(sent)
        record.ClearField("is_backfill")
        with self._lock:
            self.arrivals.append(sent)
            self.refuse(record)
            key = (record.source_unit_id, record.record_id)
            if key in self.held:
                first, answer = self.held[key]
                if first != record:
                    self.conflicts.append(record)
                    raise ServiceError(Reason.RECORD_CONFLICT, f"record {record.record_id} is held with other content")
                repeated = service_pb2.Recorded()
                repeated.CopyFrom(answer)
                repeated.is_duplicate = True
                return repeated
            answer = service_pb2.Recorded(
                receipt=weighing_pb2.Receipt(
                    origin="141025",
                    sequence=len(self.held) + 2,
                    leaf_digest=hashlib.sha256(record.SerializeToString(deterministic=True)).digest(),
                ),
                judgement=weighing_pb2.Judgement(verdict=judge(record)),
            )
            self.held[key] = (record, answer)
            return answer


def judge(record: record_pb2.WeighingRecord) -> weighing_pb2.Verdict.ValueType:
    """Judge by class and axles alone."""
    vehicle = record.vehicle
    if record.event == record_pb2.WEIGHING_EVENT_TARE:
        return weighing_pb2.VERDICT_NOT_JUDGED
    if not vehicle.vehicle_class or not vehicle.axle_count:
        return weighing_pb2.VERDICT_UNDETERMINED
    limit_kg = LIMITS_KG.get((vehicle.vehicle_class, vehicle.axle_count), 49_000)
    if record.gross_weight_kg > limit_kg * 1.05:
        return weighing_pb2.VERDICT_SUSPECTED
    return weighing_pb2.VERDICT_COMPLIANT


class FakeRegistry(RegistryBase):
    """Creates idempotently by id; every other method is missing."""

    def __init__(self) -> None:
        self.held: dict[str, Any] = {}
        self.fail: Callable[[], None] = lambda: None

    def create(self, request: Any, context: grpc.ServicerContext, response_type: type[Any]) -> Any:
        with ending(context):
            self.fail()
            ((field, resource),) = request.ListFields()
            ids = [
                getattr(resource, name.name)
                for name in resource.DESCRIPTOR.fields
                if name.name.endswith(("_id", "_number", "_code")) and name.name not in NOT_IDS
            ]
            key = "/".join((field.name, *ids))
            if self.held.setdefault(key, resource) != resource:
                raise ServiceError(Reason.RESOURCE_EXISTS, f"{key} exists")
            return response_type(**{field.name: resource})

    def CreateDivision(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self.create(request, context, registry_messages.CreateDivisionResponse)

    def CreatePlatform(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self.create(request, context, registry_messages.CreatePlatformResponse)

    def CreateSourceUnit(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self.create(request, context, registry_messages.CreateSourceUnitResponse)

    def CreateWeighingPoint(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self.create(request, context, registry_messages.CreateWeighingPointResponse)

    def CreateScale(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self.create(request, context, registry_messages.CreateScaleResponse)

    def CreateVerificationCertificate(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self.create(request, context, registry_messages.CreateVerificationCertificateResponse)


class FakeAccess(AccessBase):
    """Issues tokens to terminals; one that has its credential already gets another secret for it."""

    def __init__(self) -> None:
        # By credential, its source units and its newest token.
        self.issued: dict[str, tuple[tuple[str, ...], str]] = {}

    def CreateCredential(
        self, request: access_messages.CreateCredentialRequest, context: grpc.ServicerContext
    ) -> access_messages.CreateCredentialResponse:
        credential = request.credential
        with ending(context):
            if credential.credential_id in self.issued:
                raise ServiceError(Reason.RESOURCE_EXISTS, f"{credential.credential_id} exists")
            token = self._issue(credential.credential_id, tuple(credential.source_unit_ids))
            return access_messages.CreateCredentialResponse(credential=credential, token=token)

    def RotateCredential(
        self, request: access_messages.RotateCredentialRequest, context: grpc.ServicerContext
    ) -> access_messages.RotateCredentialResponse:
        with ending(context):
            units, _ = self.issued[request.credential_id]
            return access_messages.RotateCredentialResponse(token=self._issue(request.credential_id, units))

    def _issue(self, credential_id: str, units: tuple[str, ...]) -> str:
        token = format_token(credential_id, new_secret())
        self.issued[credential_id] = (units, token)
        return token


NOT_IDS = frozenset(
    {"serial_number", "rule_set_id", "credit_code", "parent_code"}
    | {"successor_code", "upstream_code", "data_home_code", "enforcement_code"}
)


@contextmanager
def ending(context: grpc.ServicerContext) -> Iterator[None]:
    """End the call with the refusal that is raised within."""
    try:
        yield
    except ServiceError as error:
        context.abort_with_status(to_grpc_status(error))


@contextmanager
def serving(
    directory: Path,
    *,
    weighing: FakeWeighing,
    registry: FakeRegistry | None = None,
    access: FakeAccess | None = None,
    address: str = "",
) -> Iterator[str]:
    """Serve on a unix socket in the directory; yields the address."""
    # The path of a unix socket holds at most 107 bytes.
    address = address or f"unix:{directory}/{next(_NUMBERS)}.sock"
    with futures.ThreadPoolExecutor(max_workers=32) as pool:
        server = grpc.server(pool)
        service_pb2_grpc.add_WeighingServiceServicer_to_server(weighing, server)  # type: ignore[arg-type]  # wrong or untyped on purpose
        if registry is not None:
            registry_grpc.add_RegistryServiceServicer_to_server(registry, server)  # type: ignore[arg-type]  # wrong or untyped on purpose
        if access is not None:
            access_grpc.add_AccessServiceServicer_to_server(access, server)  # type: ignore[arg-type]  # wrong or untyped on purpose
        assert server.add_insecure_port(address)
        server.start()
        try:
            yield address
        finally:
            server.stop(grace=None).wait()


_NUMBERS = itertools.count()
