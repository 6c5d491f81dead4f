"""Who has been shown personal data or permissions: masked for those who may not see, written down for those who may."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from services.common.rpc_client import service_error
from tests.conftest import Databases
from tests.registry import access_examples, examples
from tests.registry.calls import create
from tests.registry.harness import TIMEOUT_SECONDS, RunningRegistry
from zhichao.access.v1 import service_pb2 as access
from zhichao.journal.v1 import access_record_pb2 as pb
from zhichao.journal.v1.access_record_pb2_grpc import AccessRecordServiceStub
from zhichao.registry.v1 import resources_pb2, service_pb2
from zhichao.registry.v1.service_pb2_grpc import RegistryServiceStub

PERSON = resources_pb2.ResponsiblePerson(
    duty=resources_pb2.RESPONSIBLE_DUTY_SUPERVISOR, name="示例甲乙", phone_number="13800001234"
)
GET_UNIT = "zhichao.registry.v1.RegistryService/GetSourceUnit"


@pytest.fixture
def auditor(registry: RunningRegistry) -> AccessRecordServiceStub:
    token = registry._issue(registry.access, "auditor", "AUDITOR")
    return AccessRecordServiceStub(registry.channel(token))


@pytest.fixture
def viewer(registry: RunningRegistry) -> RegistryServiceStub:
    return RegistryServiceStub(registry.channel(registry._issue(registry.access, "viewer", "VIEWER")))


def listed(auditor: AccessRecordServiceStub, **narrow: Any) -> list[pb.HeldAccessRecord]:
    """List the records but for those of the credentials that the tests have issued to begin with."""
    return [one for one in listed_whole(auditor, **narrow) if not one.record.method.endswith("/CreateCredential")]


def listed_whole(auditor: AccessRecordServiceStub, **narrow: Any) -> list[pb.HeldAccessRecord]:
    found: list[pb.HeldAccessRecord] = []
    token = ""
    while True:
        request = pb.ListAccessRecordsRequest(page_token=token, **narrow)
        answer = auditor.ListAccessRecords(request, timeout=TIMEOUT_SECONDS)
        found += answer.access_records
        token = answer.next_page_token
        if not token:
            return found


def get_unit(stub: RegistryServiceStub, **metadata: str) -> resources_pb2.SourceUnit:
    request = service_pb2.GetSourceUnitRequest(source_unit_id="141025-001")
    headers: Any = [(key.replace("_", "-"), value) for key, value in metadata.items()]
    return stub.GetSourceUnit(request, timeout=TIMEOUT_SECONDS, metadata=headers).source_unit


@pytest.fixture
def unit(registry: RunningRegistry) -> None:
    create(registry, examples.source_unit(source_unit_id="141025-001", responsible_persons=[PERSON]))


@pytest.mark.usefixtures("unit")
def test_who_may_not_see_gets_masks_and_leaves_no_record(
    registry: RunningRegistry, viewer: RegistryServiceStub, auditor: AccessRecordServiceStub
) -> None:
    size = registry.size()
    (person,) = get_unit(viewer).responsible_persons
    assert (person.duty, person.name, person.phone_number) == (PERSON.duty, "示***", "138******34")
    assert registry.size() == size
    assert listed(auditor, principal="person/viewer") == []


@pytest.mark.usefixtures("unit")
def test_a_terminal_does_not_see_who_answers_for_its_unit(registry: RunningRegistry) -> None:
    """It sees the drivers that it has sent; these persons somebody else has entered, and nobody writes it down."""
    request = access.CreateCredentialRequest(
        credential=access_examples.terminal("141025-001", credential_id="terminal-141025-001")
    )
    token = registry.access.CreateCredential(request, timeout=TIMEOUT_SECONDS).token
    stub = RegistryServiceStub(registry.channel(token))
    (person,) = get_unit(stub).responsible_persons
    (listed_unit,) = stub.ListSourceUnits(service_pb2.ListSourceUnitsRequest(), timeout=TIMEOUT_SECONDS).source_units

    assert (person.duty, person.name, person.phone_number) == (PERSON.duty, "示***", "138******34")
    assert list(listed_unit.responsible_persons) == [person]


@pytest.mark.usefixtures("unit")
def test_who_may_see_is_written_down_before_the_answer(
    registry: RunningRegistry, auditor: AccessRecordServiceStub
) -> None:
    size = registry.size()
    assert list(get_unit(registry.stub, x_purpose="inspection 7").responsible_persons) == [PERSON]
    assert registry.size() == size + 1
    (held,) = listed(auditor, principal="person/operator")[:1]
    assert (held.origin, held.sequence) == (registry.platform, size + 1)
    assert (held.record.method, list(held.record.subjects)) == (GET_UNIT, ["source_unit_id=141025-001"])
    assert (held.record.purpose, held.record.personal_data_count) == ("inspection 7", 2)
    entry = registry.entries(size + 1)[0]
    assert PERSON.name.encode() not in entry
    assert PERSON.phone_number.encode() not in entry


def test_what_holds_no_personal_data_is_not_written_down(
    registry: RunningRegistry, auditor: AccessRecordServiceStub
) -> None:
    create(registry, examples.source_unit(source_unit_id="141025-001", responsible_persons=[]))
    size = registry.size()
    get_unit(registry.stub)
    assert registry.size() == size
    assert [one for one in listed(auditor) if one.record.method == GET_UNIT] == []


def test_looking_at_credentials_is_written_down(registry: RunningRegistry, auditor: AccessRecordServiceStub) -> None:
    registry.access.ListCredentials(access.ListCredentialsRequest(), timeout=TIMEOUT_SECONDS)
    registry.access.GetCredential(access.GetCredentialRequest(credential_id="operator"), timeout=TIMEOUT_SECONDS)
    found = [(one.record.method.rpartition("/")[2], list(one.record.subjects)) for one in listed(auditor)]
    assert found == [("GetCredential", ["credential_id=operator"]), ("ListCredentials", [])]


def test_a_refused_call_is_not_written_down(registry: RunningRegistry, auditor: AccessRecordServiceStub) -> None:
    with pytest.raises(grpc.RpcError):
        registry.access.GetCredential(access.GetCredentialRequest(credential_id="nobody"), timeout=TIMEOUT_SECONDS)
    assert listed(auditor) == []


def test_lists_are_narrowed_and_paged(registry: RunningRegistry, auditor: AccessRecordServiceStub) -> None:
    for _ in range(5):
        registry.access.ListCredentials(access.ListCredentialsRequest(), timeout=TIMEOUT_SECONDS)
    everything = listed_whole(auditor)
    times = [one.record.access_time.ToDatetime(UTC) for one in everything]
    assert times == sorted(times, reverse=True)
    assert len(listed(auditor)) == 5
    assert listed_whole(auditor, page_size=2) == everything
    assert listed(auditor, principal="person/nobody") == []
    assert listed(auditor, origin="141026") == []
    narrowed = pb.ListAccessRecordsRequest()
    narrowed.start_time.FromDatetime(times[3])
    narrowed.end_time.FromDatetime(times[1])
    answer = auditor.ListAccessRecords(narrowed, timeout=TIMEOUT_SECONDS)
    assert list(answer.access_records) == everything[2:4]


def bad_requests() -> Iterator[tuple[pb.ListAccessRecordsRequest, str]]:
    yield pb.ListAccessRecordsRequest(origin="14"), "origin"
    yield pb.ListAccessRecordsRequest(principal="\x00"), "principal"
    yield pb.ListAccessRecordsRequest(page_size=-1), "page_size"
    backwards = pb.ListAccessRecordsRequest()
    backwards.start_time.FromDatetime(datetime(2026, 1, 2, tzinfo=UTC))
    backwards.end_time.FromDatetime(datetime(2026, 1, 2, tzinfo=UTC) - timedelta(days=1))
    yield backwards, "end_time"
    beyond = pb.ListAccessRecordsRequest()
    beyond.start_time.seconds = 2**50
    yield beyond, "start_time"


@pytest.mark.parametrize(("request_", "field"), list(bad_requests()))
def test_a_bad_list_is_refused(
    auditor: AccessRecordServiceStub, request_: pb.ListAccessRecordsRequest, field: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        auditor.ListAccessRecords(request_, timeout=TIMEOUT_SECONDS)
    assert [one.field for one in service_error(caught.value).field_violations] == [field]


@pytest.mark.usefixtures("unit")
def test_only_auditors_list(registry: RunningRegistry) -> None:
    stub = AccessRecordServiceStub(registry.channel(registry.operator_token))
    with pytest.raises(grpc.RpcError) as caught:
        stub.ListAccessRecords(pb.ListAccessRecordsRequest(), timeout=TIMEOUT_SECONDS)
    assert service_error(caught.value).reason == "PERMISSION_MISSING"


def test_an_upper_platform_holds_the_records_of_lower_ones(
    databases: Databases, registry: RunningRegistry, city: RunningRegistry
) -> None:
    registry.access.ListCredentials(access.ListCredentialsRequest(), timeout=TIMEOUT_SECONDS)
    city.receive(registry.batches())
    auditor = AccessRecordServiceStub(city.channel(city._issue(city.access, "auditor", "AUDITOR")))
    (held,) = listed(auditor, origin=registry.platform)
    assert (held.origin, held.record.principal) == (registry.platform, "person/admin")
