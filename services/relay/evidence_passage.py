"""Evidence from below on its way to this platform's video service: what is wanted down, bytes up, never held here.

What slows the service down slows the pusher down: one message is taken at a time.
"""

import threading
from collections.abc import Iterator
from typing import Any

import grpc

from services.common.errors import FieldViolation, ServiceError, invalid
from services.common.reasons import Reason
from services.common.request import request_context
from services.relay.downstream import DownstreamLinks
from services.relay.limits import EVIDENCE_STREAM, LOCAL_CALL_SECONDS_MAX
from services.relay.local_services import LocalService
from zhichao.relay.v1 import relay_pb2
from zhichao.video.v1 import transfer_pb2


def wanted(service: LocalService, platform: str) -> Iterator[relay_pb2.FollowWantedResponse]:
    """Pass what is wanted of a platform below, until the call ends. Raises ServiceError as the service refused."""
    request = transfer_pb2.WatchWantedRequest(platform=platform)
    for response in service.stream_down(service.transfer.WatchWanted, request):
        yield relay_pb2.FollowWantedResponse(result=response)
    if request_context().is_active():
        raise _stopped()


def decline(service: LocalService, platform: str, digest: bytes, *, is_gone: bool) -> None:
    """Pass that a platform below does not hold an object. Raises ServiceError as the service refused."""
    request = transfer_pb2.DeclineObjectRequest(platform=platform, digest=digest, is_gone=is_gone)
    try:
        service.transfer.DeclineObject(request, timeout=LOCAL_CALL_SECONDS_MAX)
    except grpc.RpcError as error:
        raise service.failure_told_below(error) from error


class ObjectPassage:
    """One push of one object. Used once."""

    def __init__(
        self,
        service: LocalService,
        requests: Iterator[relay_pb2.PushObjectRequest],
        platform: str,
        links: DownstreamLinks,
    ) -> None:
        self._service = service
        self._requests = requests
        self._platform = platform
        self._links = links
        self._is_over = threading.Event()

    def answer(self) -> transfer_pb2.ReceiveObjectResponse:
        """Return how far it has come. Raises ServiceError as the service refused, reason and all."""
        first = next(self._requests, None)
        if first is None or not first.HasField("object"):
            raise invalid([FieldViolation("object", "must be set in the first message")])
        context = request_context()
        call = self._service.transfer.ReceiveObject.future(self._forward(first))
        # The pusher's going ends the stream to the service as well, which keeps what has come and answers.
        context.on_end(self._is_over.set)
        try:
            response = self._result(call)
        except grpc.RpcError as error:
            raise self._service.failure_told_below(error) from error
        except grpc.FutureCancelledError as error:
            raise _stopped() from error
        finally:
            self._is_over.set()
            call.cancel()
        if response.is_complete:
            self._links.received_object(self._platform)
        return response

    def _result(self, call: Any) -> transfer_pb2.ReceiveObjectResponse:
        """Wait for the answer; a service that hangs is not waited for when nobody else waits any more."""
        left_count = 0
        while True:
            try:
                response: transfer_pb2.ReceiveObjectResponse = call.result(timeout=LOCAL_CALL_SECONDS_MAX)
            except grpc.FutureTimeoutError:
                left_count += self._is_over.is_set()
                if left_count > 1:
                    # It has had the time of a short call since the pusher went.
                    call.cancel()
            else:
                return response

    def _forward(self, first: relay_pb2.PushObjectRequest) -> Iterator[transfer_pb2.ReceiveObjectRequest]:
        yield transfer_pb2.ReceiveObjectRequest(
            object=first.object, platform=self._platform, offset=first.offset, chunk=first.chunk
        )
        while not self._is_over.is_set():
            try:
                request = next(self._requests, None)
            except (grpc.RpcError, ServiceError):
                # The pusher is gone or this server stops: it is over here, and what came is kept.
                return
            if request is None:
                return
            yield transfer_pb2.ReceiveObjectRequest(chunk=request.chunk)


def _stopped() -> ServiceError:
    return ServiceError(
        Reason.SHUTTING_DOWN,
        f"the {EVIDENCE_STREAM} service of the upper platform stops",
        metadata={"stream": EVIDENCE_STREAM},
        retry_after_seconds=1.0,
    )
