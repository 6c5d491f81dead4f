"""Random and mutated messages: every call is answered or refused for a reason, and whatever a platform below writes
into its log is shown or parked. Nothing is a fault.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.reasons import Reason
from services.common.rpc_client import service_error
from services.enforcement import kinds
from tests.conftest import Databases
from tests.enforcement.examples import duty_check, issue_duty_check, issue_notice, notice
from tests.enforcement.harness import CITY, COUNTY, NEIGHBOUR, RunningEnforcement, SharedClock, carry_up
from tests.registry.harness import TIMEOUT_SECONDS, RunningRegistry
from zhichao.enforcement.v1 import notice_pb2, service_pb2

SERVICE = service_pb2.DESCRIPTOR.services_by_name["EnforcementService"]
EXAMPLES = 60
"""Messages for each method: some seconds in all, and another selection of them in every run."""

# What finds its way into ids: real ones, so that calls get past the first check, and what databases dislike.
TEXTS = (
    st.sampled_from(["n-1", "dc-1", CITY, COUNTY, "140000", "", "a\0b", "\u202e", "示例", "yes", "x" * 70]) | st.text()
)
INTEGERS = st.sampled_from([0, 1, 2, 3, 7, -1, 2**31 - 1, -(2**31)]) | st.integers(-(2**31), 2**31 - 1)
SECONDS = st.sampled_from([0, 1, -1, 1_740_800_000, 2**62, -(2**62)]) | st.integers(-(2**63), 2**63 - 1)

PAYLOADS = {
    kind: message
    for one in kinds.KINDS
    for kind, message in ((one.directive_kind, one.message), (one.response_kind, one.response))
} | {kinds.WITHDRAWAL_KIND: notice_pb2.NoticeWithdrawal}


def values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    """Return values of one field, far outside what the contract takes."""
    one: st.SearchStrategy[Any]
    if field.message_type is not None:
        one = messages(field.message_type, depth + 1)
    elif field.cpp_type == field.CPPTYPE_STRING:
        one = TEXTS
    elif field.cpp_type == field.CPPTYPE_BOOL:
        one = st.booleans()
    else:
        one = SECONDS if field.cpp_type == field.CPPTYPE_INT64 else INTEGERS
    return st.lists(one, max_size=3) if field.is_repeated else one


def messages(descriptor: Descriptor, depth: int = 0) -> st.SearchStrategy[dict[str, Any]]:
    """Return messages of a type as dictionaries."""
    fields = {} if depth > 3 else {field.name: values(field, depth) for field in descriptor.fields}
    return st.fixed_dictionaries({}, optional=fields)


@pytest.fixture(scope="module")
def shared(databases: Databases, registries: dict[str, RunningRegistry]) -> Iterator[RunningEnforcement]:
    """Run a city's service with a notice and a duty check that the tests share."""
    with tempfile.TemporaryDirectory(prefix="zc-") as directory:
        running = RunningEnforcement(databases, Path(directory), CITY, SharedClock(), registries[CITY].address)
        issue_notice(running, notice("n-1", COUNTY))
        issue_duty_check(running, duty_check("dc-1", COUNTY))
        yield running
        running.close()


@pytest.mark.parametrize("method", list(SERVICE.methods), ids=lambda method: str(method.name))
def test_no_message_is_a_fault(shared: RunningEnforcement, method: Any) -> None:
    kind = getattr(service_pb2, method.input_type.name)
    channel = shared.channel(shared.access.token)
    path = f"/{SERVICE.full_name}/{method.name}"
    call: Any = channel.unary_stream(path) if method.server_streaming else channel.unary_unary(path)

    def outcome(request: bytes) -> Reason | None:
        try:
            answer = call(request, timeout=TIMEOUT_SECONDS)
            if method.server_streaming:
                next(answer)
                answer.cancel()
        except grpc.RpcError as error:
            return service_error(error).reason
        return None

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(messages(method.input_type), st.data())
    def send(fields: dict[str, Any], data: st.DataObject) -> None:
        content = kind(**fields).SerializeToString()
        assert outcome(content) is not Reason.INTERNAL
        # The same with a byte changed and a piece cut off.
        mutated = bytearray(content[: data.draw(st.integers(0, len(content)))])
        if mutated:
            mutated[data.draw(st.integers(0, len(mutated) - 1))] ^= data.draw(st.integers(1, 255))
        assert outcome(bytes(mutated)) is not Reason.INTERNAL

    send()
    assert shared.call("GetNotice", service_pb2.GetNoticeRequest(notice_id="n-1")).held_notice.issuer == CITY


@pytest.mark.parametrize("kind", list(PAYLOADS), ids=lambda kind: str(kind).rpartition(".")[2])
def test_whatever_a_platform_below_writes_is_shown_or_parked(
    shared: RunningEnforcement, databases: Databases, kind: str
) -> None:
    """The city takes the log of a county that writes what it likes, and answers every question as before."""
    message = PAYLOADS[kind]
    with tempfile.TemporaryDirectory(prefix="zc-") as directory:
        county = RunningEnforcement(databases, Path(directory), NEIGHBOUR, shared.clock, "unix:/nonexistent/r.sock")
        city = RunningEnforcement(databases, Path(directory), CITY, shared.clock, shared.registry_address)
        try:

            @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
            @given(messages(message.DESCRIPTOR), st.booleans())
            def write(fields: dict[str, Any], is_named: bool) -> None:
                made = message(**fields)
                if is_named:
                    _name(made)
                county.append_raw(kind, made.SerializeToString())

            write()
            carry_up(county, city)
            shown = city.call("ListNotices", service_pb2.ListNoticesRequest(page_size=200)).held_notices
            checks = city.call("ListDutyChecks", service_pb2.ListDutyChecksRequest(page_size=200)).held_duty_checks
            for one in shown:
                named = {"issuer": one.issuer, "notice_id": one.notice.notice_id}
                city.call("GetNotice", service_pb2.GetNoticeRequest(**named))
                city.call("ListNoticeRecipients", service_pb2.ListNoticeRecipientsRequest(**named))
            for check in checks:
                named = {"issuer": check.issuer, "duty_check_id": check.duty_check.duty_check_id}
                city.call("ListDutyCheckRecipients", service_pb2.ListDutyCheckRecipientsRequest(**named))
            call = city.stub.WatchInbox(service_pb2.WatchInboxRequest(after_position=0), timeout=TIMEOUT_SECONDS)
            next(call)
            call.cancel()
        finally:
            city.close()
            county.close()


def _name(made: Any) -> None:
    """Give a payload what has a column, so that it is not parked at once."""
    for field in made.DESCRIPTOR.fields:
        if field.name in ("notice_id", "duty_check_id"):
            setattr(made, field.name, "n-1")
        elif field.name == "issuer":
            made.issuer = CITY
        elif field.name in ("audiences", "recipients"):
            made.ClearField(field.name)
            getattr(made, field.name).append(NEIGHBOUR)
        elif field.name.endswith("_time"):
            getattr(made, field.name).Clear()
            getattr(made, field.name).seconds = 1_740_800_000
