"""RelayService over gRPC: message in, one call, message out. One half of it serves the platforms below, on a port of
their own; the other serves this platform. What a half does not serve is UNIMPLEMENTED there.
"""

from collections.abc import Iterator
from typing import Any

import grpc

from services.common.request import request_context
from services.relay import convert
from services.relay.handlers import RelayHandlers
from zhichao.relay.v1 import relay_pb2 as pb
from zhichao.relay.v1 import relay_pb2_grpc


def _refuse(_self: Any, _request: Any, context: Any) -> Any:
    context.abort(
        grpc.StatusCode.UNIMPLEMENTED,
        "platforms below are served on the peer port of this relay, everybody else on its ordinary port",
    )


# As any method of the service.
_on_the_other_port: Any = _refuse


class PeerServicer(relay_pb2_grpc.RelayServiceServicer):
    """Serves the relays of platforms below. Who calls is said by the certificate, never by the message."""

    def __init__(self, handlers: RelayHandlers) -> None:
        self._handlers = handlers

    def Handshake(self, request: pb.HandshakeRequest, context: grpc.ServicerContext) -> pb.HandshakeResponse:
        agreement = self._handlers.shake_hands(convert.offer(request), _calling_platform())
        return convert.handshake_response(self._handlers.identity, agreement)

    def PushEntries(
        self, request_iterator: Iterator[pb.PushEntriesRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.PushEntriesResponse]:
        return self._handlers.push(request_iterator, _calling_platform())

    def FollowAddressed(
        self, request: pb.FollowAddressedRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.FollowAddressedResponse]:
        return self._handlers.follow_addressed(request, _calling_platform())

    def FollowCosignatures(
        self, request: pb.FollowCosignaturesRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.FollowCosignaturesResponse]:
        return self._handlers.follow_cosignatures(_calling_platform())

    def ReadOwnEntries(
        self, request: pb.ReadOwnEntriesRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ReadOwnEntriesResponse]:
        return self._handlers.read_own(request, _calling_platform())

    def FollowWanted(
        self, request: pb.FollowWantedRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.FollowWantedResponse]:
        return self._handlers.follow_wanted(_calling_platform())

    def PushObject(
        self, request_iterator: Iterator[pb.PushObjectRequest], context: grpc.ServicerContext
    ) -> pb.PushObjectResponse:
        return self._handlers.push_object(request_iterator, _calling_platform())

    def DeclineObject(
        self, request: pb.DeclineObjectRequest, context: grpc.ServicerContext
    ) -> pb.DeclineObjectResponse:
        self._handlers.decline_object(request.digest, _calling_platform(), is_gone=request.is_gone)
        return pb.DeclineObjectResponse()

    GetRelayStatus = _on_the_other_port


class RelayServicer(relay_pb2_grpc.RelayServiceServicer):
    """Serves people who look at the links of this platform."""

    def __init__(self, handlers: RelayHandlers) -> None:
        self._handlers = handlers

    def GetRelayStatus(
        self, request: pb.GetRelayStatusRequest, context: grpc.ServicerContext
    ) -> pb.GetRelayStatusResponse:
        return convert.status_response(self._handlers.status())

    Handshake = PushEntries = FollowAddressed = FollowCosignatures = ReadOwnEntries = _on_the_other_port
    FollowWanted = PushObject = DeclineObject = _on_the_other_port


def _calling_platform() -> str:
    # Only platforms hold the permissions of these methods, and a platform is known by its certificate only.
    return request_context().principal.id
