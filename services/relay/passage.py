"""One push from below on its way to the service that it is for: batches up, answers back, in order and never held.

What slows the service down slows the pusher down: no more batches are taken than the window lets be unanswered.
"""

import threading
from collections.abc import Iterator

import grpc

from services.common.errors import FieldViolation, ServiceError, invalid
from services.common.reasons import Reason
from services.common.request import request_context
from services.relay.downstream import DownstreamLinks
from services.relay.limits import WINDOW_BATCHES_MAX
from services.relay.local_services import LocalService
from zhichao.journal.v1 import journal_pb2
from zhichao.relay.v1 import relay_pb2


class Passage:
    """One push. Used once."""

    def __init__(
        self,
        service: LocalService,
        first: relay_pb2.PushEntriesRequest,
        following: Iterator[relay_pb2.PushEntriesRequest],
        platform: str,
        links: DownstreamLinks,
    ) -> None:
        self._service = service
        self._first = first
        self._following = following
        self._platform = platform
        self._links = links
        self._context = request_context()
        self._changed = threading.Condition()
        self._unanswered_count = 0
        self._is_draining = False
        self._is_over = False
        self._has_forwarded_all = False
        self._refusal: ServiceError | None = None
        self._call: grpc.Call | None = None

    def answers(self) -> Iterator[relay_pb2.PushEntriesResponse]:
        """Yield the service's answer to each batch. Raises ServiceError as the service refused, reason and all."""
        call = self._service.journal.AppendEntries(self._forward())
        self._call = call
        # Whoever draws from `_forward` waits for the window, not for gRPC: it must be told when the call is over.
        if not call.add_callback(self._end):
            self._end()
        self._context.on_end(self._caller_or_server_ends)
        try:
            for response in call:
                with self._changed:
                    self._unanswered_count -= 1
                    self._changed.notify_all()
                self._links.committed(self._platform)
                yield relay_pb2.PushEntriesResponse(result=response)
                self._cancel_when_drained()
        except grpc.RpcError as error:
            if self._refusal is None and not self._is_draining:
                raise self._service.failure_told_below(error) from error
        finally:
            self._end()
            call.cancel()
            self._links.abandoned(self._platform, self._unanswered_count)
        if self._refusal is not None:
            raise self._refusal
        if not self._has_forwarded_all or self._unanswered_count:
            raise ServiceError(
                Reason.SHUTTING_DOWN,
                f"the {self._service.stream} service of the upper platform stops",
                metadata={"stream": self._service.stream},
                retry_after_seconds=1.0,
            )

    def _forward(self) -> Iterator[journal_pb2.AppendEntriesRequest]:
        request: relay_pb2.PushEntriesRequest | None = self._first
        while request is not None and self._admit():
            self._links.began(self._platform)
            yield journal_pb2.AppendEntriesRequest(batch=request.batch)
            # Wait for room before the next is taken: what is taken is held in memory.
            if not self._has_room():
                return
            request = self._next()

    def _next(self) -> relay_pb2.PushEntriesRequest | None:
        try:
            request = next(self._following, None)
        except (grpc.RpcError, ServiceError):
            # The caller is gone or this server stops; the other thread sees and says so.
            return None
        if request is None:
            self._has_forwarded_all = not self._is_over
        elif (changed := _changed_field(self._first, request)) is not None:
            self._refusal = changed
            return None
        return request

    def _has_room(self) -> bool:
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_over or self._is_draining or self._unanswered_count < WINDOW_BATCHES_MAX
            )
            return not (self._is_over or self._is_draining)

    def _admit(self) -> bool:
        with self._changed:
            if self._is_over or self._is_draining:
                return False
            self._unanswered_count += 1
            return True

    def _caller_or_server_ends(self) -> None:
        if self._context.stopping.is_set():
            # What the service works on may still be answered within the grace of this server.
            with self._changed:
                self._is_draining = True
                self._changed.notify_all()
            self._cancel_when_drained()
            return
        self._end()
        if self._call is not None:
            self._call.cancel()

    def _cancel_when_drained(self) -> None:
        with self._changed:
            is_drained = self._is_draining and not self._unanswered_count
        if is_drained and self._call is not None:
            self._call.cancel()

    def _end(self) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify_all()


def _changed_field(first: relay_pb2.PushEntriesRequest, request: relay_pb2.PushEntriesRequest) -> ServiceError | None:
    violations = [
        FieldViolation(field, f"must stay {before!r} within one call, not become {after!r}")
        for field, before, after in (
            ("stream", first.stream, request.stream[:64]),
            ("batch.origin", first.batch.origin, request.batch.origin[:64]),
        )
        if before != after
    ]
    return invalid(violations) if violations else None
