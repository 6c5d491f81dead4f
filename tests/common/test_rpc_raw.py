"""Methods whose messages stay bytes, of services that others have defined."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.common.rpc_client import connect
from services.common.rpc_raw import with_raw_messages
from tests.common.served import WAIT_SECONDS

Start = Callable[[Callable[[grpc.Server], None]], grpc.Channel]

ASKED = health_pb2.HealthCheckRequest(service="asked")
SERVING = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


class Health(health_pb2_grpc.HealthServicer):
    """Answers with the bytes of a message, or with the message, as it was asked."""

    def Check(self, request: Any, context: Any) -> Any:
        assert request in (ASKED, ASKED.SerializeToString())
        return SERVING if request == ASKED else SERVING.SerializeToString()

    def Watch(self, request: Any, context: Any) -> Iterator[Any]:
        yield self.Check(request, context)


class Echo(reflection_pb2_grpc.ServerReflectionServicer):
    """Gives back what it gets, if that is bytes."""

    def ServerReflectionInfo(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        for request in requests:
            assert isinstance(request, bytes)
            yield request


@pytest.fixture
def start(socket_directory: Path) -> Iterator[Start]:
    server = grpc.server(ThreadPoolExecutor(2))
    address = f"unix:{socket_directory / 'raw.sock'}"
    with connect(address) as channel:

        def started(register: Callable[[grpc.Server], None]) -> grpc.Channel:
            register(server)
            server.add_insecure_port(address)
            server.start()
            return channel

        yield started
        server.stop(0).wait(WAIT_SECONDS)


@pytest.mark.parametrize("methods", [(), ("Check",), ("Watch",), ("Check", "Watch")])
def test_callers_notice_nothing(start: Start, methods: tuple[str, ...]) -> None:
    channel = start(
        lambda server: health_pb2_grpc.add_HealthServicer_to_server(Health(), with_raw_messages(server, methods))
    )
    stub: Any = health_pb2_grpc.HealthStub(channel)
    assert stub.Check(ASKED, timeout=WAIT_SECONDS) == SERVING
    assert list(stub.Watch(ASKED, timeout=WAIT_SECONDS)) == [SERVING]


class Answers(health_pb2_grpc.HealthServicer):
    """Gets messages and gives bytes."""

    def Check(self, request: Any, context: Any) -> Any:
        assert request == ASKED
        return SERVING.SerializeToString()

    def Watch(self, request: Any, context: Any) -> Iterator[Any]:
        yield self.Check(request, context)


def test_only_answers_may_stay_bytes(start: Start) -> None:
    channel = start(
        lambda server: health_pb2_grpc.add_HealthServicer_to_server(
            Answers(), with_raw_messages(server, (), answers=("Check", "Watch"))
        )
    )
    stub: Any = health_pb2_grpc.HealthStub(channel)
    assert stub.Check(ASKED, timeout=WAIT_SECONDS) == SERVING
    assert list(stub.Watch(ASKED, timeout=WAIT_SECONDS)) == [SERVING]


def test_streams_both_ways(start: Start) -> None:
    channel = start(
        lambda server: reflection_pb2_grpc.add_ServerReflectionServicer_to_server(  # type: ignore[no-untyped-call]  # generated without types
            Echo(), with_raw_messages(server, ["ServerReflectionInfo"])
        )
    )
    call = channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
    )
    sent = [reflection_pb2.ServerReflectionRequest(host=host) for host in ("one", "two")]
    assert list(call(iter(sent), timeout=WAIT_SECONDS)) == sent


@pytest.mark.parametrize("named", [{"methods": ["Chek"]}, {"methods": (), "answers": ["Chek"]}])
def test_a_method_that_is_not_there_is_told_at_start(start: Start, named: Any) -> None:
    with pytest.raises(LookupError, match="Health has no method Chek"):
        start(lambda server: health_pb2_grpc.add_HealthServicer_to_server(Health(), with_raw_messages(server, **named)))
