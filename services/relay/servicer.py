"""RelayService over gRPC: message in, one call, message out."""

from collections.abc import Iterator

import grpc

from services.relay import convert
from services.relay.handlers import RelayHandlers
from zhichao.relay.v1 import relay_pb2 as pb
from zhichao.relay.v1 import relay_pb2_grpc


class RelayServicer(relay_pb2_grpc.RelayServiceServicer):
    """Serves the neighbours of this platform, and people who look at its links."""

    def __init__(self, handlers: RelayHandlers) -> None:
        self._handlers = handlers

    def Handshake(self, request: pb.HandshakeRequest, context: grpc.ServicerContext) -> pb.HandshakeResponse:
        agreement = self._handlers.shake_hands(convert.offer(request))
        return convert.handshake_response(self._handlers.identity, agreement)

    def PushEntries(
        self, request_iterator: Iterator[pb.PushEntriesRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.PushEntriesResponse]:
        return self._handlers.push(request_iterator, convert.pushing_platform(context.invocation_metadata()))

    def GetRelayStatus(
        self, request: pb.GetRelayStatusRequest, context: grpc.ServicerContext
    ) -> pb.GetRelayStatusResponse:
        return convert.status_response(self._handlers.status())
