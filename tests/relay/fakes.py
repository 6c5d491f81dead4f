"""Services and upstreams that do what a test says, on real gRPC servers."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from services.common.access.knowledge import KnownPlatform
from services.common.access.tokens import ServiceTokens
from services.common.request import request_context
from services.common.rpc_server import RpcServer
from tests.access import Access
from tests.certificates import platform_tls
from tests.relay.platforms import WAIT_SECONDS, authority
from tests.relay.registry import token_file_of
from zhichao.journal.v1 import journal_pb2, journal_pb2_grpc
from zhichao.relay.v1 import relay_pb2, relay_pb2_grpc

Append = Callable[[Iterator[journal_pb2.AppendEntriesRequest]], Iterator[journal_pb2.AppendEntriesResponse]]


def accept_all(requests: Iterator[journal_pb2.AppendEntriesRequest]) -> Iterator[journal_pb2.AppendEntriesResponse]:
    """Answer every batch as if it had been committed."""
    for request in requests:
        yield accepted(request)


def accepted(request: journal_pb2.AppendEntriesRequest) -> journal_pb2.AppendEntriesResponse:
    """Return the answer to one batch."""
    size = request.batch.first_sequence + len(request.batch.entries) - 1
    return journal_pb2.AppendEntriesResponse(
        position=journal_pb2.Position(origin=request.batch.origin, stream="weighing", size=size)
    )


def _unused(self: object, request: object, context: object) -> NoReturn:
    raise AssertionError("the relay has no business with this method")


def _answer_unimplemented(self: object, request: object, context: Any) -> Any:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "a release that moves no evidence")


# As any method of the service.
_not_there: Any = _answer_unimplemented


class FakeJournal(journal_pb2_grpc.JournalServiceServicer):
    """A service that holds nothing and receives as `append` says."""

    def __init__(
        self, directory: Path, stream: str = "weighing", append: Append = accept_all, platform: str = "141000"
    ) -> None:
        self.stream = stream
        self._access = Access(platform, tokens=ServiceTokens(token_file_of(directory, platform)))
        self.address = f"unix:{directory}/fake-{stream}.sock"
        self.append = append
        self.positions: list[journal_pb2.Position] = []
        self._running = ExitStack()

    def start(self) -> None:
        server = RpcServer(self.stream, self.address, self._access.control)
        server.add(
            lambda one: journal_pb2_grpc.add_JournalServiceServicer_to_server(self, one),
            journal_pb2.DESCRIPTOR.services_by_name["JournalService"].full_name,
        )
        server.start()
        self._running.callback(server.stop, 0.5)

    def stop(self) -> None:
        self._running.close()

    close = stop
    ReadEntries = GetCheckpoint = AddCosignatures = GetInclusionProof = GetConsistencyProof = _unused
    ListParkedEntries = ReplayParkedEntries = RestoreEntries = ConfirmOwnLog = _unused
    AppendAddressedEntries = ListAddressedReceipts = _unused
    ReadAddressedEntries: Any = _unused

    def ListPositions(
        self, request: journal_pb2.ListPositionsRequest, context: grpc.ServicerContext
    ) -> journal_pb2.ListPositionsResponse:
        return journal_pb2.ListPositionsResponse(positions=self.positions)

    def ListAddressedPositions(
        self, request: journal_pb2.ListAddressedPositionsRequest, context: grpc.ServicerContext
    ) -> journal_pb2.ListAddressedPositionsResponse:
        return journal_pb2.ListAddressedPositionsResponse()

    def WatchPositions(
        self, request: journal_pb2.WatchPositionsRequest, context: grpc.ServicerContext
    ) -> Iterator[journal_pb2.WatchPositionsResponse]:
        yield journal_pb2.WatchPositionsResponse(positions=self.positions)
        ended = threading.Event()
        request_context().on_end(ended.set)
        ended.wait(WAIT_SECONDS)

    def AppendEntries(
        self, request_iterator: Iterator[journal_pb2.AppendEntriesRequest], context: grpc.ServicerContext
    ) -> Iterator[journal_pb2.AppendEntriesResponse]:
        return self.append(request_iterator)


class FakeUpstream(relay_pb2_grpc.RelayServiceServicer):
    """An upper relay that answers handshakes as told."""

    def __init__(self, directory: Path) -> None:
        self.answer = relay_pb2.HandshakeResponse(
            platform="141000",
            protocol_version=1,
            batch_records_max=1_024,
            batch_bytes_max=4 * 1024 * 1024,
            window_batches_max=4,
            streams=["registry", "weighing"],
        )
        self.handshakes: list[relay_pb2.HandshakeRequest] = []
        self.pushed: list[relay_pb2.PushEntriesRequest] = []
        # How far the clock of this platform is ahead.
        self.skew_seconds = 0
        # Let go to answer pushes.
        self.may_answer = threading.Event()
        self.may_answer.set()
        access = Access("141000")
        access.say(platforms=[KnownPlatform("141025", "141000")])
        self.server = RpcServer(
            "relay",
            "127.0.0.1:0",
            access.control,
            tls=platform_tls(directory / "upstream-tls", authority(), "141000"),
            require_client_certificate=True,
        )
        self.server.add(
            lambda one: relay_pb2_grpc.add_RelayServiceServicer_to_server(self, one),
            relay_pb2.DESCRIPTOR.services_by_name["RelayService"].full_name,
        )
        self.server.start()
        self.address = self.server.address

    FollowWanted = PushObject = DeclineObject = _not_there
    GetRelayStatus = FollowAddressed = FollowCosignatures = ReadOwnEntries = _unused

    def close(self) -> None:
        self.may_answer.set()
        self.server.stop(0.5)

    def Handshake(
        self, request: relay_pb2.HandshakeRequest, context: grpc.ServicerContext
    ) -> relay_pb2.HandshakeResponse:
        self.handshakes.append(request)
        now = Timestamp()
        now.GetCurrentTime()
        now.seconds += self.skew_seconds
        answer = relay_pb2.HandshakeResponse()
        answer.CopyFrom(self.answer)
        answer.server_time.CopyFrom(now)
        return answer

    def PushEntries(
        self, request_iterator: Iterator[relay_pb2.PushEntriesRequest], context: grpc.ServicerContext
    ) -> Iterator[relay_pb2.PushEntriesResponse]:
        for request in request_iterator:
            self.pushed.append(request)
            self.may_answer.wait(WAIT_SECONDS)
            yield relay_pb2.PushEntriesResponse(result=accepted(journal_pb2.AppendEntriesRequest(batch=request.batch)))
