"""Reading credentials: filters, pages, copies of other platforms, and when they were used last."""

from datetime import UTC, datetime, timedelta

import pytest

from services.common.reasons import Reason
from tests.registry import access_examples, examples
from tests.registry.access_calls import Access
from tests.registry.calls import create
from tests.registry.harness import TIMEOUT_SECONDS, RunningRegistry, refused_by
from zhichao.access.v1 import credential_pb2 as pb
from zhichao.access.v1 import service_pb2
from zhichao.access.v1.service_pb2_grpc import AccessServiceStub


@pytest.fixture
def access(registry: RunningRegistry) -> Access:
    """Issue six credentials besides those of the security administrator and the operator."""
    access = Access.of(registry)
    for number in (1, 2):
        create(registry, examples.source_unit(source_unit_id=f"u-{number}"))
    access.create(access_examples.terminal("u-1", credential_id="t-1"))
    access.create(access_examples.terminal("u-2", credential_id="t-2"))
    access.create(access_examples.integrator("u-1", "u-2", credential_id="i-1"))
    access.create(access_examples.person("141025", "VIEWER", "OFFICER", credential_id="p-1"))
    access.create(access_examples.person("141025", "VIEWER", credential_id="p-2"))
    access.create(access_examples.terminal("u-1", credential_id="t-3"))
    access.revoke("t-3")
    return access


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ({}, ["admin", "i-1", "operator", "p-1", "p-2", "t-1", "t-2"]),
        ({"kind": pb.PRINCIPAL_KIND_TERMINAL}, ["t-1", "t-2"]),
        ({"source_unit_id": "u-1"}, ["i-1", "t-1"]),
        ({"source_unit_id": "u-1", "include_ended": True}, ["i-1", "t-1", "t-3"]),
        ({"role": pb.ROLE_OFFICER}, ["p-1"]),
        ({"role": pb.ROLE_VIEWER, "kind": pb.PRINCIPAL_KIND_PERSON}, ["p-1", "p-2"]),
        ({"origin": "141025", "role": pb.ROLE_SECURITY_ADMINISTRATOR}, ["admin"]),
        ({"origin": "141026"}, []),
        ({"kind": 77}, []),
    ],
)
def test_lists_are_filtered_and_ordered(access: Access, filters: dict[str, object], ids: list[str]) -> None:
    assert access.ids(**filters) == ids


@pytest.mark.parametrize("page_size", [1, 2, 3, 7, 8])
def test_pages_hold_each_one_once(access: Access, page_size: int) -> None:
    assert access.ids(page_size=page_size, include_ended=True) == access.ids(include_ended=True)


def test_one_that_has_ended_is_left_out(registry: RunningRegistry, access: Access) -> None:
    soon = pb.Credential(credential_id="t-1")
    soon.expire_time.FromDatetime(registry.clock.moment + timedelta(days=1))
    access.update(soon, "expire_time")
    registry.clock.moment += timedelta(days=2)
    assert "t-1" not in access.ids()
    assert "t-1" in access.ids(include_ended=True)


def test_bad_filters_and_tokens_are_refused(access: Access) -> None:
    def refused(**fields: object) -> tuple[Reason, list[str]]:
        request = service_pb2.ListCredentialsRequest(**fields)  # type: ignore[arg-type]  # fields by name
        answer = refused_by(access.stub, "ListCredentials", request)
        return answer.reason, answer.fields

    assert refused(source_unit_id="u 1", origin="x") == (Reason.INVALID_ARGUMENT, ["source_unit_id", "origin"])
    assert refused(page_size=-1) == (Reason.INVALID_ARGUMENT, ["page_size"])
    token = access.stub.ListCredentials(service_pb2.ListCredentialsRequest(page_size=1)).next_page_token
    assert refused(page_token=token, role=1)[0] is Reason.INVALID_PAGE_TOKEN
    assert access.refused_get("A", "x").fields == ["credential_id", "origin"]
    assert access.refused_get("nobody").reason is Reason.NOT_FOUND


def test_copies_are_kept_for_the_audit_and_open_nothing(
    city: RunningRegistry, registry: RunningRegistry, access: Access
) -> None:
    token = access.create(access_examples.person("141025", "SYSTEM_ADMINISTRATOR", credential_id="p-3")).token
    city.receive(registry.batches())
    above = Access.of(city)

    assert above.ids() == ["admin", "operator"]
    assert above.ids(origin="141025", include_ended=True) == access.ids(include_ended=True)
    copy = above.get("p-3", "141025")
    assert (copy.origin, copy.etag) == ("141025", access.get("p-3").etag)
    assert above.refused_get("p-3").reason is Reason.NOT_FOUND
    assert above.refused_revoke("p-3").reason is Reason.NOT_FOUND
    assert Access.of(city, token).refused_identity().reason is Reason.INVALID_CREDENTIALS
    # A copy with the id of one's own is another credential.
    assert Access.of(city, registry.admin_token).refused_identity().reason is Reason.INVALID_CREDENTIALS
    assert above.get("admin").origin == "141000"


def test_the_id_of_a_copy_is_free_here(city: RunningRegistry, registry: RunningRegistry, access: Access) -> None:
    city.receive(registry.batches())
    issued = Access.of(city).create(access_examples.person("141025", "VIEWER", credential_id="p-1"))
    assert issued.credential.origin == "141000"


# Last use


def report(registry: RunningRegistry, *uses: tuple[str, datetime]) -> None:
    stub = AccessServiceStub(registry.channel(registry.service_token))
    request = service_pb2.ReportUseRequest()
    for credential_id, used in uses:
        request.uses.add(credential_id=credential_id).last_use_time.FromDatetime(used)
    stub.ReportUse(request, timeout=TIMEOUT_SECONDS)


def last_use(access: Access, credential_id: str) -> datetime | None:
    credential = access.get(credential_id)
    return credential.last_use_time.ToDatetime(tzinfo=UTC) if credential.HasField("last_use_time") else None


def test_the_later_use_stays_to_the_minute_and_is_no_entry(registry: RunningRegistry, access: Access) -> None:
    now = registry.clock.moment
    minute = now.replace(second=0, microsecond=0)
    size = registry.size()

    report(registry, ("t-1", now - timedelta(hours=1)), ("t-2", now), ("nobody", now), ("a\0b", now), ("", now))
    report(registry, ("t-1", now), ("t-2", now - timedelta(hours=1)))
    assert registry.size() == size

    assert (last_use(access, "t-1"), last_use(access, "t-2"), last_use(access, "p-2")) == (minute, minute, None)
    assert [one.last_use_time.seconds for one in access.list_all(kind=pb.PRINCIPAL_KIND_TERMINAL)] == [
        int(minute.timestamp())
    ] * 2


def test_a_service_whose_clock_is_ahead_makes_no_future(registry: RunningRegistry, access: Access) -> None:
    report(registry, ("t-1", registry.clock.moment + timedelta(days=400)))
    used = last_use(access, "t-1")
    assert used is not None
    assert used <= registry.clock.moment


def test_too_many_uses_and_strange_times(registry: RunningRegistry, access: Access) -> None:
    stub = AccessServiceStub(registry.channel(registry.service_token))
    crowd = service_pb2.ReportUseRequest(uses=[service_pb2.CredentialUse(credential_id="t-1")] * 10_001)
    assert refused_by(stub, "ReportUse", crowd).reason is Reason.BATCH_TOO_LARGE
    odd = service_pb2.ReportUseRequest(uses=[service_pb2.CredentialUse(credential_id="t-1")] * 10_000)
    odd.uses[0].last_use_time.seconds = 2**62
    stub.ReportUse(odd, timeout=TIMEOUT_SECONDS)
    assert last_use(access, "t-1") is None


def test_only_services_report(access: Access) -> None:
    refused = refused_by(access.stub, "ReportUse", service_pb2.ReportUseRequest())
    assert refused.reason is Reason.PERMISSION_MISSING


def test_uses_of_the_registry_itself_are_kept(registry: RunningRegistry) -> None:
    assert last_use(Access.of(registry), "operator") is None
    Access.of(registry, registry.operator_token).identity()
    registry.stop()
    registry.start()
    assert last_use(Access.of(registry), "operator") is not None
