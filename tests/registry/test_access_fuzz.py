"""Random and mutated messages to AccessService: each is answered or refused for a reason, and never with INTERNAL."""

from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.reasons import Reason
from services.common.rpc_client import service_error
from tests.registry import access_examples, examples
from tests.registry.access_calls import Access
from tests.registry.calls import create
from tests.registry.harness import TIMEOUT_SECONDS, RunningRegistry
from zhichao.access.v1 import service_pb2
from zhichao.access.v1.service_pb2_grpc import AccessServiceStub

UNARY = [
    method for method in service_pb2.DESCRIPTOR.services_by_name["AccessService"].methods if not method.server_streaming
]
EXAMPLES = 60
"""Messages for each method: some seconds in all, and another selection of them in every run."""

# What finds its way into ids: real ones, so that calls get past the first check, and what databases dislike.
TEXTS = (
    st.sampled_from(["t-1", "p-1", "admin", "141025", "141025-001", "", "a\0b", "A", "\u202e", "x" * 70]) | st.text()
)
INTEGERS = st.sampled_from([0, 1, 2, 7, -1, 2**31 - 1, -(2**31)]) | st.integers(-(2**31), 2**31 - 1)
SECONDS = st.sampled_from([0, 1, -1, 1_740_800_000, 2**62, -(2**62)]) | st.integers(-(2**63), 2**63 - 1)


def values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    """Return values of one field, far outside what the contract takes."""
    one: st.SearchStrategy[Any]
    if field.message_type is not None:
        one = messages(field.message_type, depth + 1)
    elif field.cpp_type == field.CPPTYPE_STRING:
        one = st.binary(max_size=40) if field.type == field.TYPE_BYTES else TEXTS
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
def caller(shared: RunningRegistry) -> str:
    """Return the token of a security administrator whom no message names; there are a terminal and a person too."""
    create(shared, examples.source_unit())
    access = Access.of(shared)
    caller = access.create(access_examples.person("141025", "SECURITY_ADMINISTRATOR", credential_id="caller"))
    access.create(access_examples.terminal(credential_id="t-1"))
    access.create(access_examples.person("141025", "VIEWER", credential_id="p-1"))
    return caller.token


def outcome(call: Any, request: bytes) -> Reason | None:
    try:
        call(request, timeout=TIMEOUT_SECONDS)
    except grpc.RpcError as error:
        return service_error(error).reason
    return None


@pytest.mark.parametrize("method", UNARY, ids=lambda method: str(method.name))
def test_no_message_is_a_fault(shared: RunningRegistry, caller: str, method: Any) -> None:
    kind = getattr(service_pb2, method.input_type.name)
    token = shared.service_token if method.name == "ReportUse" else caller
    channel = shared.channel(token)
    call: Any = channel.unary_unary(f"/{method.containing_service.full_name}/{method.name}")
    size = shared.size()

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(messages(method.input_type), st.data())
    def send(fields: dict[str, Any], data: st.DataObject) -> None:
        content = kind(**fields).SerializeToString()
        assert outcome(call, content) is not Reason.INTERNAL
        # The same with a byte changed and a piece cut off.
        mutated = bytearray(content[: data.draw(st.integers(0, len(content)))])
        if mutated:
            mutated[data.draw(st.integers(0, len(mutated) - 1))] ^= data.draw(st.integers(1, 255))
        assert outcome(call, bytes(mutated)) is not Reason.INTERNAL

    send()
    written = shared.size() - size
    assert written <= 3 * EXAMPLES
    assert AccessServiceStub(channel).GetIdentity(service_pb2.GetIdentityRequest(), timeout=TIMEOUT_SECONDS).principal
