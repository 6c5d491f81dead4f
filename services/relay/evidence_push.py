"""Pushes one object of evidence, from where the upstream stands, over one call: to its end, until it has to give way,
or until it fails.

Two threads share the work: the caller of `run` waits for the answer, and gRPC's thread draws from `_requests`, reading
from the own service as fast as the upstream and the bandwidth cap let it.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, Protocol

import grpc

from services.common.clock import Clock
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.rpc_client import service_error
from services.relay.evidence_queue import Wanted
from services.relay.limits import EVIDENCE_WAIT_SECONDS_MAX
from services.relay.local_services import LocalService
from services.relay.upstream import ObjectCall, Upstream
from zhichao.relay.v1 import relay_pb2
from zhichao.video.v1 import transfer_pb2


class Outcome(Enum):
    """How a push ended."""

    # The upstream has all of it, checked and stored.
    COMPLETE = auto()
    # In good order, before the end: it gave way, or the upstream ended it, or stands elsewhere.
    PARTIAL = auto()
    # The own service does not hold it now.
    NOT_HELD = auto()
    # The own service never will hold it again.
    GONE = auto()
    # The upstream does not want it any more.
    UNWANTED = auto()
    # The own service failed.
    OWN_FAILURE = auto()
    # The upstream failed, or refused.
    UPSTREAM_FAILURE = auto()


@dataclass(frozen=True, slots=True)
class PushEnd:
    """How a push ended, where the upstream stands as far as it said, and what went wrong."""

    outcome: Outcome
    received_bytes: int | None = None
    error: ServiceError | None = None


_GONE: Final = frozenset({Reason.BYTES_EXPIRED, Reason.EVIDENCE_MISSING, Reason.EVIDENCE_CHANGED})


class Pace(Protocol):
    """What the push of one object asks."""

    def ask(self, byte_count: int) -> float:
        """Return 0 if a piece of so many bytes may go, and count it; else the seconds to wait before asking again."""
        ...

    def withdraw(self) -> None:
        """Ask no more."""
        ...

    @property
    def piece_bytes_max(self) -> int:
        """Bytes to which pieces should be kept now."""
        ...


class ObjectPush:
    """One push of one object. `must_give_way` is asked before each piece; `count` is told the bytes of each."""

    def __init__(
        self,
        wanted: Wanted,
        service: LocalService,
        upstream: Upstream,
        pace: Pace,
        clock: Clock,
        must_give_way: Callable[[], bool],
        count: Callable[[int], None],
    ) -> None:
        self.wanted = wanted
        self._service = service
        self._upstream = upstream
        self._pace = pace
        self._clock = clock
        self._must_give_way = must_give_way
        self._count = count
        self._changed = threading.Condition()
        self._is_over = False
        self._is_finishing = False
        self._nudge_count = 0
        # Whether it ended early of its own will.
        self.has_given_way = False
        self._cancel_error: ServiceError | None = None
        self._own_error: ServiceError | None = None
        self._read: Any = None
        self._call: ObjectCall | None = None
        # Since when nothing has moved though nothing of ours holds it.
        self._moved_at = clock.monotonic()

    def run(self) -> PushEnd:
        """Push and tell how it ended. May be called once."""
        try:
            pieces = self._open()
        except grpc.RpcError as error:
            return self._own_end(self._service.failure(error))
        except grpc.FutureCancelledError:
            return PushEnd(Outcome.OWN_FAILURE, error=self._cancelled())
        try:
            return self._push(pieces)
        finally:
            self._end()
            self._pace.withdraw()

    def finish(self) -> None:
        """Send nothing more, and take the answer. From any thread."""
        with self._changed:
            self._is_finishing = True
            self._changed.notify_all()

    def cancel(self, error: ServiceError) -> None:
        """End now, as if it had failed with `error`. From any thread."""
        with self._changed:
            self._cancel_error = error
            call = self._call
        self._end()
        if call is not None:
            call.cancel()

    def nudge(self) -> None:
        """Look again whether it has to give way."""
        with self._changed:
            self._nudge_count += 1
            self._changed.notify_all()

    def seconds_without_progress(self) -> float:
        """Return how long nothing has moved, waits for the bandwidth cap left out."""
        with self._changed:
            return self._clock.monotonic() - self._moved_at

    def _open(self) -> Iterator[bytes]:
        """Begin to read, so that what is not held is found before anything is said upstream. Raises grpc.RpcError."""
        wanted = self.wanted
        if wanted.received_bytes >= wanted.size_bytes:
            # It has the bytes, and not stored them yet.
            return iter(())
        with self._changed:
            if self._is_over:
                raise grpc.FutureCancelledError
            read = self._service.transfer.SendObject(
                transfer_pb2.SendObjectRequest(digest=wanted.digest, offset=wanted.received_bytes)
            )
            self._read = read
        first = next(read, None)

        def pieces() -> Iterator[bytes]:
            response = first
            while response is not None:
                yield response.chunk
                response = next(read, None)

        return pieces()

    def _push(self, pieces: Iterator[bytes]) -> PushEnd:
        with self._changed:
            if self._is_over:
                return PushEnd(Outcome.UPSTREAM_FAILURE, error=self._cancelled())
            call = self._call = self._upstream.push_object(self._requests(pieces))
        try:
            result = call.result().result
        except grpc.RpcError as error:
            return self._upstream_end(service_error(error))
        except grpc.FutureCancelledError:
            return PushEnd(Outcome.UPSTREAM_FAILURE, error=self._cancelled())
        if result.is_complete:
            return PushEnd(Outcome.COMPLETE)
        if self._own_error is not None:
            return self._own_end(self._own_error, result.received_bytes)
        return PushEnd(Outcome.PARTIAL, received_bytes=result.received_bytes)

    def _requests(self, pieces: Iterator[bytes]) -> Iterator[relay_pb2.PushObjectRequest]:
        wanted = self.wanted
        yield relay_pb2.PushObjectRequest(
            object=transfer_pb2.TransferObject(digest=wanted.digest, size_bytes=wanted.size_bytes),
            offset=wanted.received_bytes,
        )
        try:
            for chunk in pieces:
                start = 0
                while start < len(chunk):
                    piece = chunk[start : start + self._pace.piece_bytes_max]
                    if not self._may_go(len(piece)):
                        return
                    yield relay_pb2.PushObjectRequest(chunk=piece)
                    self._count(len(piece))
                    start += len(piece)
        except grpc.RpcError as error:
            self._own_error = self._service.failure(error)

    def _may_go(self, byte_count: int) -> bool:
        """Wait for the bandwidth cap; False when this push is to end here."""
        began_at = self._clock.monotonic()
        while True:
            with self._changed:
                if self._is_over:
                    return False
                now = self._moved_at = self._clock.monotonic()
                is_finishing, nudge_count = self._is_finishing, self._nudge_count
            has_waited = now - began_at > EVIDENCE_WAIT_SECONDS_MAX
            # Without the lock: those who are asked have locks of their own, and nudge while they hold them.
            if is_finishing or has_waited or self._must_give_way():
                self.has_given_way = True
                return False
            pause = self._pace.ask(byte_count)
            if not pause:
                return True
            with self._changed:
                self._changed.wait_for(
                    lambda: self._is_over or self._is_finishing or self._nudge_count != nudge_count,  # noqa: B023 - waited for within the turn of the loop
                    pause,
                )

    def _own_end(self, error: ServiceError, received_bytes: int | None = None) -> PushEnd:
        if error.reason is Reason.BYTES_NOT_HERE:
            return PushEnd(Outcome.NOT_HELD, received_bytes)
        if error.reason in _GONE:
            return PushEnd(Outcome.GONE, received_bytes, error)
        return PushEnd(Outcome.OWN_FAILURE, received_bytes, self._cancel_error or error)

    def _upstream_end(self, error: ServiceError) -> PushEnd:
        if self._cancel_error is not None:
            return PushEnd(Outcome.UPSTREAM_FAILURE, error=self._cancel_error)
        expected = error.metadata.get("expected_offset", "")
        if error.reason is Reason.OFFSET_MISMATCH and expected.isascii() and expected.isdecimal():
            return PushEnd(Outcome.PARTIAL, min(int(expected[:18]), self.wanted.size_bytes), error)
        if error.reason is Reason.BYTES_NOT_WANTED:
            return PushEnd(Outcome.UNWANTED)
        # Of other bytes nothing is kept there.
        received_bytes = 0 if error.reason is Reason.DIGEST_MISMATCH else None
        return PushEnd(Outcome.UPSTREAM_FAILURE, received_bytes, error)

    def _cancelled(self) -> ServiceError:
        return self._cancel_error or ServiceError(Reason.SHUTTING_DOWN, "the push was given up")

    def _end(self) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
            read = self._read
        if read is not None:
            read.cancel()
