"""TransferService over gRPC: message in, one call, message out."""

from collections.abc import Iterator

import grpc

from services.video.handlers_transfer import TransferHandlers
from services.video.silence import ProgressWatch
from zhichao.video.v1 import transfer_pb2 as pb
from zhichao.video.v1 import transfer_pb2_grpc

_Context = grpc.ServicerContext


class TransferServicer(transfer_pb2_grpc.TransferServiceServicer):
    """Serves the relay of this platform."""

    def __init__(self, transfer: TransferHandlers, progress: ProgressWatch) -> None:
        self._transfer = transfer
        self._progress = progress

    def WatchWanted(self, request: pb.WatchWantedRequest, context: _Context) -> Iterator[pb.WatchWantedResponse]:
        return self._transfer.watch_wanted(request)

    def ReceiveObject(
        self, request_iterator: Iterator[pb.ReceiveObjectRequest], context: _Context
    ) -> pb.ReceiveObjectResponse:
        return self._transfer.receive_object(self._progress.watched(request_iterator))

    def DeclineObject(self, request: pb.DeclineObjectRequest, context: _Context) -> pb.DeclineObjectResponse:
        return self._transfer.decline_object(request)

    def WantForUpstream(self, request: pb.WantForUpstreamRequest, context: _Context) -> pb.WantForUpstreamResponse:
        return self._transfer.want_for_upstream(request)

    def SendObject(self, request: pb.SendObjectRequest, context: _Context) -> Iterator[pb.SendObjectResponse]:
        return self._transfer.send_object(request)

    def WatchHeld(self, request: pb.WatchHeldRequest, context: _Context) -> Iterator[pb.WatchHeldResponse]:
        return self._transfer.watch_held()
