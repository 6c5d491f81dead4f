"""Pushes one log, from one position on, over one call, until nothing is left, its turn is over, or it fails.

Three threads share the work, since each of the three waits for another party: reading from the own service (a thread of
ours), sending (gRPC's thread, which draws from `_requests`), and taking acknowledgements (the caller of `run`).
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import grpc

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.rpc_client import service_error
from services.common.tracing import SpanKind
from services.journal.tracing import BatchTraces
from services.relay.local_services import LocalService
from services.relay.standing import LogKey
from services.relay.upstream import PushCall, Upstream
from services.relay.window import PushWindow
from zhichao.journal.v1 import journal_pb2
from zhichao.relay.v1 import relay_pb2

READER_JOIN_SECONDS = 5.0
"""A reader whose call was cancelled ends at once; a bound, so that a fault never holds a sender for ever."""


@dataclass(frozen=True, slots=True)
class PumpEnd:
    """How a push ended: without an error, with one of the upstream's, or with one of the own service's."""

    error: ServiceError | None = None
    is_local: bool = False


class Observer(Protocol):
    """What a pump tells while it runs. Called from the thread that called `run`."""

    def acknowledged(self, key: LogKey, response: journal_pb2.AppendEntriesResponse, window: PushWindow) -> None:
        """Take over that the upstream has committed one more batch."""
        ...


class Pump:
    """One push of one log."""

    def __init__(
        self,
        key: LogKey,
        first_sequence: int,
        service: LocalService,
        upstream: Upstream,
        window: PushWindow,
        observer: Observer,
        batch_records_max: int,
    ) -> None:
        self._key = key
        self._service = service
        self._upstream = upstream
        self._observer = observer
        self.window = window
        self._traces = BatchTraces("relay", key.stream, "push", SpanKind.PRODUCER)
        self._local_error: ServiceError | None = None
        self._guard = threading.Lock()
        self._is_cancelled = False
        self._cancel_error: ServiceError | None = None
        self._has_sent_all = False
        self._push: PushCall | None = None
        self._read = service.journal.ReadEntries(
            journal_pb2.ReadEntriesRequest(
                origin=key.origin,
                first_sequence=first_sequence,
                follow=True,
                batch_records_max=batch_records_max,
            )
        )

    def run(self) -> PumpEnd:
        """Push until the end and tell how it ended. May be called once."""
        reader = threading.Thread(target=self._read_all, name="relay-reader", daemon=True)
        reader.start()
        try:
            return self._push_all()
        finally:
            self.window.close()
            self._read.cancel()
            reader.join(READER_JOIN_SECONDS)

    def finish(self) -> None:
        """Send nothing more and end when what is in flight is acknowledged. From any thread."""
        self.window.finish()

    def cancel(self, error: ServiceError | None = None) -> None:
        """End now, as if it had failed with `error`, or without any. From any thread."""
        with self._guard:
            self._is_cancelled = True
            self._cancel_error = error
            if self._push is not None:
                self._push.cancel()
        self.window.close()

    def _push_all(self) -> PumpEnd:
        with self._guard:
            if self._is_cancelled:
                return PumpEnd(self._cancel_error)
            call = self._upstream.push_entries(self._requests())
            self._push = call
        # Whoever draws from `_requests` waits for the window, not for gRPC: it must be told when the call is over.
        if not call.add_callback(self.window.close):
            self.window.close()
        try:
            for response in call:
                self._traces.end()
                self._observer.acknowledged(self._key, response.result, self.window)
        except grpc.RpcError as error:
            return self._ended_by(service_error(error))
        finally:
            call.cancel()
        if self._local_error is not None:
            return PumpEnd(self._local_error, is_local=True)
        if self.window.in_flight_count or not self._has_sent_all:
            return self._ended_by(
                ServiceError(Reason.SHUTTING_DOWN, "the upstream ended the push before it had answered every batch")
            )
        return PumpEnd()

    def _ended_by(self, error: ServiceError) -> PumpEnd:
        return PumpEnd(self._cancel_error if self._is_cancelled else error)

    def _requests(self) -> Iterator[relay_pb2.PushEntriesRequest]:
        while (batch := self.window.take()) is not None:
            self._traces.begin(batch)
            yield relay_pb2.PushEntriesRequest(stream=self._key.stream, batch=batch)
        # A call that is over closes the window too; then this was no end of ours.
        self._has_sent_all = not self.window.is_closed

    def _read_all(self) -> None:
        error: ServiceError | None = None
        try:
            for response in self._read:
                if not self.window.offer(response.batch):
                    return
        except grpc.RpcError as failure:
            error = self._service.failure(failure)
        if not self.window.has_finished:
            # A log that is followed has no end: its service stops, or lost its database.
            self._local_error = error or ServiceError(
                Reason.SHUTTING_DOWN,
                f"the {self._key.stream} service of this platform ended the reading of {self._key.origin}",
                metadata={"stream": self._key.stream},
            )
        # What is in flight may still be acknowledged; what waits is read again later.
        self.window.finish()
