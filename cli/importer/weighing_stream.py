"""StreamWeighings from the client's side: batches go out within a window, and each comes back with its results."""

import queue
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Generic, Protocol, TypeVar

import grpc

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.rpc_client import service_error
from zhichao.weighing.v1 import record_pb2, service_pb2, service_pb2_grpc

# The contract: 1 to 1,000 records in a message, at most 8 messages taken ahead of their answers. Half of that keeps the
# server busy while the next batch is made.
BATCH_RECORDS_MAX = 1_000
WINDOW_BATCHES = 4
# A county appends a batch of 1,000 within a second; a stream without an answer for a minute is dead.
STALL_SECONDS = 60.0


class Carrier(Protocol):
    """Anything that carries a record to be sent."""

    @property
    def record(self) -> record_pb2.WeighingRecord:
        """The record."""
        ...


CarrierT = TypeVar("CarrierT", bound=Carrier)


class StreamBrokenError(Exception, Generic[CarrierT]):
    """The stream ended early; everything in `unanswered` has to be sent again, in this order."""

    def __init__(self, error: ServiceError, unanswered: list[list[CarrierT]]) -> None:
        super().__init__(str(error))
        self.error = error
        self.unanswered = unanswered


def stream_weighings(
    stub: service_pb2_grpc.WeighingServiceStub,
    batches: Iterator[list[CarrierT]],
    *,
    window_batches: int = WINDOW_BATCHES,
    stall_seconds: float = STALL_SECONDS,
) -> Iterator[tuple[list[CarrierT], Sequence[service_pb2.RecordResult]]]:
    """Send the batches over one stream and yield each with its results, in order.

    `batches` is advanced in the caller's thread and never further ahead than the window; what is not yet taken is left
    in it. Raises StreamBrokenError when the stream ends early or stays silent for `stall_seconds`.
    """
    outgoing: queue.SimpleQueue[service_pb2.StreamWeighingsRequest | None] = queue.SimpleQueue()
    call = stub.StreamWeighings(iter(outgoing.get, None))
    unanswered: deque[list[CarrierT]] = deque()
    has_more = True
    try:
        while True:
            while has_more and len(unanswered) < window_batches:
                batch = next(batches, None)
                if batch is None:
                    has_more = False
                    outgoing.put(None)
                else:
                    unanswered.append(batch)
                    request = service_pb2.StreamWeighingsRequest(records=[item.record for item in batch])
                    outgoing.put(request)
            if not unanswered:
                return
            response = _next_response(call, stall_seconds)
            if response is None or len(response.results) != len(unanswered[0]):
                found = "the stream ended" if response is None else f"{len(response.results)} results"
                error = ServiceError(
                    Reason.SERVICE_UNAVAILABLE, f"{found} where {len(unanswered[0])} results were expected"
                )
                raise StreamBrokenError(error, list(unanswered))
            yield unanswered.popleft(), response.results
    except grpc.RpcError as error:
        raise StreamBrokenError(service_error(error), list(unanswered)) from error
    finally:
        # Ends gRPC's sending thread, which waits on the queue, and the call, if it is still open.
        outgoing.put(None)
        call.cancel()


def _next_response(
    call: Iterator[service_pb2.StreamWeighingsResponse], stall_seconds: float
) -> service_pb2.StreamWeighingsResponse | None:
    # A call without a deadline cannot be read with one, so a timer cancels it.
    timer = threading.Timer(stall_seconds, call.cancel)  # type: ignore[attr-defined]  # a call can be cancelled; the stub's type does not say so
    timer.daemon = True
    timer.start()
    try:
        return next(call, None)
    finally:
        timer.cancel()
