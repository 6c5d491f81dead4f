"""Follows one stream of the upstream for as long as the link is up: asks the own service where it stands, opens the
follow there, hands over batch by batch, and begins again there after anything that breaks.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import grpc
import structlog

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.refusals import reason_name
from services.common.rpc_client import service_error
from services.journal.entries import is_platform_code
from services.relay.limits import (
    APPEND_ADDRESSED_SECONDS_MAX,
    BACKOFF_SECONDS_MIN,
    LOCAL_CALL_SECONDS_MAX,
    REFUSED_LOGS_MAX,
)
from services.relay.local_services import WATCH_BACKOFF_SECONDS_MAX, LocalService
from services.relay.stalls import StallCause
from services.relay.standing import LogKey, Reaction, Refusal, backoff_seconds, react
from services.relay.upstream import FollowCall, Upstream
from zhichao.common.v1 import refusal_pb2
from zhichao.journal.v1 import addressed_pb2, journal_pb2
from zhichao.relay.v1 import relay_pb2

_log = structlog.get_logger()


class FollowEvents(Protocol):
    """What a follower tells. Called from its thread."""

    def began(self, stream: str, positions: Sequence[addressed_pb2.AddressedPosition]) -> None:
        """Take note that the stream is followed from these positions."""
        ...

    def advanced(self, key: LogKey, position: addressed_pb2.AddressedPosition, end_sequence: int) -> None:
        """Take note that the own service has taken a batch; the upstream's holds the log up to `end_sequence`."""
        ...

    def refused(self, key: LogKey, refusal: Refusal, *, is_own: bool) -> None:
        """Take note that the own service (`is_own`) or the upstream's refuses a log."""
        ...

    def sent_all(self, stream: str, ends: Sequence[addressed_pb2.AddressedEnd]) -> None:
        """Take note that everything was sent, and how far the logs go."""
        ...

    def waiting(self, stream: str, cause: StallCause, error: ServiceError) -> None:
        """Take note that the stream cannot be followed now."""
        ...


class _Moved(Exception):  # noqa: N818 - reads as the fact it is
    """The own service stands elsewhere than the follow: ask it again."""


class _OwnFailure(Exception):  # noqa: N818 - as above
    """The own service failed; the cause is the ServiceError."""

    def __init__(self, error: ServiceError) -> None:
        super().__init__(error.message)
        self.error = error


class StreamFollower:
    """The following of one stream, in a thread of its own: a service that is away holds up nothing but its stream."""

    def __init__(self, service: LocalService, events: FollowEvents, jitter: Callable[[], float]) -> None:
        self._service = service
        self._events = events
        self._jitter = jitter
        self._changed = threading.Condition()
        self._is_stopping = False
        self._upstream: Upstream | None = None
        self._call: FollowCall[relay_pb2.FollowAddressedResponse] | None = None
        self._is_anew = False
        self._thread = threading.Thread(target=self._run, name=f"relay-follow-{service.stream}", daemon=True)

    @property
    def stream(self) -> str:
        """The stream that is followed."""
        return self._service.stream

    def start(self) -> None:
        """Start; nothing is followed before `use`."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more batches. Does not wait: see `join`."""
        with self._changed:
            self._is_stopping = True
            self._cancel()
            self._changed.notify_all()

    def join(self, timeout_seconds: float) -> None:
        """Wait for the hand-over under way."""
        self._thread.join(timeout_seconds)

    def use(self, upstream: Upstream | None) -> None:
        """Follow over this connection from now on, or over none."""
        with self._changed:
            if upstream is not self._upstream:
                self._upstream = upstream
                self._cancel()
                self._changed.notify_all()

    def follow_anew(self) -> None:
        """Ask the own service again where it stands, and go on from there."""
        with self._changed:
            self._is_anew = True
            self._cancel()

    def _cancel(self) -> None:
        if self._call is not None:
            self._call.cancel()

    def _run(self) -> None:
        failure_count = 0
        while (upstream := self._wait_for_upstream()) is not None:
            try:
                if self._follow(upstream):
                    failure_count = 0
            except _Moved:
                pass
            except _OwnFailure as failure:
                self._failed(upstream, StallCause.OWN_SERVICE, failure.error)
            except ServiceError as error:
                self._failed(upstream, StallCause.UPSTREAM_SERVICE, error)
            except Exception as fault:  # noqa: BLE001 - a follower outlives any fault of one call
                _log.exception("follow_failed", stream=self.stream)
                self._failed(upstream, StallCause.UNKNOWN, ServiceError(Reason.INTERNAL, type(fault).__name__))
            failure_count += 1
            pause = backoff_seconds(failure_count, self._jitter(), BACKOFF_SECONDS_MIN, WATCH_BACKOFF_SECONDS_MAX)
            with self._changed:
                self._changed.wait_for(lambda: self._is_stopping or self._upstream is not upstream, pause)

    def _wait_for_upstream(self) -> Upstream | None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopping or self._upstream is not None)
            return None if self._is_stopping else self._upstream

    def _failed(self, upstream: Upstream, cause: StallCause, error: ServiceError) -> None:
        with self._changed:
            is_ours = self._is_stopping or self._upstream is not upstream or self._is_anew
            self._is_anew = False
        if is_ours:
            # The call was ended by us: that is no failure of anybody.
            return
        _log.info("follow_ended", stream=self.stream, reason=error.reason.value, cause=cause.value)
        self._events.waiting(self.stream, cause, error)

    def _follow(self, upstream: Upstream) -> bool:
        """Follow until the call ends; return whether anything came. Raises ServiceError, _OwnFailure or _Moved."""
        positions = self._positions()
        with self._changed:
            if self._is_stopping or self._upstream is not upstream:
                return False
            self._is_anew = False
            call = self._call = upstream.follow_addressed(self.stream, positions)
        refused: set[str] = set()
        has_come = False
        try:
            for response in call:
                if not has_come:
                    # Only now it is known that the upstream's service is there.
                    self._events.began(self.stream, positions)
                    has_come = True
                self._take(response.result, refused)
        except grpc.RpcError as error:
            failure = service_error(error)
            raise failure from error
        finally:
            call.cancel()
            with self._changed:
                self._call = None
        raise ServiceError(Reason.SHUTTING_DOWN, f"the upstream ended the follow of {self.stream}")

    def _positions(self) -> list[addressed_pb2.AddressedPosition]:
        """Ask the own service where it stands in the logs of platforms above."""
        request = journal_pb2.ListAddressedPositionsRequest()
        try:
            answer = self._service.journal.ListAddressedPositions(request, timeout=LOCAL_CALL_SECONDS_MAX)
        except grpc.RpcError as error:
            raise _OwnFailure(self._service.failure(error)) from error
        return [position for position in answer.positions if not position.is_own]

    def _take(self, result: journal_pb2.ReadAddressedEntriesResponse, refused: set[str]) -> None:
        match result.WhichOneof("content"):
            case "batch":
                # What follows a refused batch in the same log is refused too: it would leave a gap.
                if result.batch.origin not in refused and not self._hand_over(result.batch):
                    refused.add(result.batch.origin)
                    if len(refused) > REFUSED_LOGS_MAX:
                        raise ServiceError(
                            Reason.INVALID_ARGUMENT,
                            f"the upstream sends more than {REFUSED_LOGS_MAX} logs refused here",
                        )
            case "refusal" if is_platform_code(result.refusal.origin):
                key = LogKey(self.stream, result.refusal.origin)
                self._events.refused(key, _refusal(result.refusal.refusal), is_own=False)
            case "ends":
                self._events.sent_all(self.stream, [end for end in result.ends.ends if is_platform_code(end.origin)])
            case _:
                # A newer upstream says something that this release does not know, and may do without.
                pass

    def _hand_over(self, batch: addressed_pb2.AddressedBatch) -> bool:
        """Give a batch to the own service; return False when that refuses it."""
        key = LogKey(self.stream, batch.origin)
        request = journal_pb2.AppendAddressedEntriesRequest(batch=batch)
        try:
            answer = self._service.journal.AppendAddressedEntries(request, timeout=APPEND_ADDRESSED_SECONDS_MAX)
        except grpc.RpcError as error:
            failure = self._service.failure(error)
            if failure.reason is Reason.SEQUENCE_GAP:
                raise _Moved from failure
            if react(failure) is not Reaction.REFUSE:
                raise _OwnFailure(failure) from error
            self._events.refused(key, Refusal.of(failure), is_own=True)
            return False
        self._events.advanced(key, answer.position, batch.end_sequence)
        return True


def _refusal(message: refusal_pb2.Refusal) -> Refusal:
    """Read a refusal that travels in a message; a reason of a newer release counts as the nearest known."""
    name = reason_name(message.reason)
    reason = Reason(name) if name in Reason.__members__ else Reason.HISTORY_MISMATCH
    return Refusal.of(ServiceError(reason, message.message))
