"""The services of this platform as the relay sees them: a channel, a JournalService and positions each."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import grpc
import structlog
from google.protobuf.message import Message

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.request import request_context
from services.common.rpc_client import service_error
from services.relay.limits import ADDRESSED_POSITIONS_SECONDS, BACKOFF_SECONDS_MIN, LOCAL_CALL_SECONDS_MAX
from services.relay.standing import backoff_seconds, is_link_failure
from zhichao.journal.v1 import addressed_pb2, journal_pb2, journal_pb2_grpc
from zhichao.video.v1 import transfer_pb2_grpc

_log = structlog.get_logger()

WATCH_BACKOFF_SECONDS_MAX: Final = 2.0
"""Longest pause before a service of this platform is asked again: it is on the same site and back within seconds."""

CHANNEL_OPTIONS: Final = (
    # gRPC's own pause between two tries, which must not be longer than ours.
    ("grpc.initial_reconnect_backoff_ms", int(BACKOFF_SECONDS_MIN * 1000)),
    ("grpc.min_reconnect_backoff_ms", int(BACKOFF_SECONDS_MIN * 1000)),
    ("grpc.max_reconnect_backoff_ms", int(WATCH_BACKOFF_SECONDS_MAX * 1000)),
    # Where an address stands for several replicas, logs are pushed to all of them and not to the first one alone.
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
)

Connect = Callable[[str, str], grpc.Channel]
"""Opens a channel to the service of a stream at an address, with CHANNEL_OPTIONS."""

Told = Callable[[str, Sequence[journal_pb2.Position], bool], None]
"""Called with the stream, positions, and whether these are all logs of the stream."""

Lost = Callable[[str, ServiceError], None]
"""Called with the stream when its service cannot be watched."""


class LocalService:
    """One service of this platform."""

    def __init__(self, stream: str, address: str, connect_to: Connect) -> None:
        self.stream = stream
        self.address = address
        # What it said of addressed entries last, and when: replaced whole, never changed.
        self._addressed: tuple[float, list[addressed_pb2.AddressedPosition]] = (-math.inf, [])
        self._channel = connect_to(stream, address)
        self.journal = journal_pb2_grpc.JournalServiceStub(self._channel)
        # Only the service of evidence has it.
        self.transfer = transfer_pb2_grpc.TransferServiceStub(self._channel)

    def ask_positions(self, origin: str = "") -> Callable[[], list[journal_pb2.Position]]:
        """Ask where its logs stand, all or one. What is returned waits for the answer.

        That raises ServiceError; a service that cannot be reached is named.
        """
        request = journal_pb2.ListPositionsRequest(origin=origin)
        asked = self.journal.ListPositions.future(request, timeout=LOCAL_CALL_SECONDS_MAX)

        def answer() -> list[journal_pb2.Position]:
            try:
                return list(asked.result().positions)
            except grpc.RpcError as error:
                raise self.failure_told_below(error) from error

        return answer

    def ask_addressed_positions(self) -> Callable[[], list[addressed_pb2.AddressedPosition]]:
        """Ask how far it holds addressed entries, without saying for whom. What is returned waits, as
        `ask_positions`.
        """
        asked_at, known = self._addressed
        if time.monotonic() - asked_at < ADDRESSED_POSITIONS_SECONDS:
            return lambda: known
        request = journal_pb2.ListAddressedPositionsRequest()
        asked = self.journal.ListAddressedPositions.future(request, timeout=LOCAL_CALL_SECONDS_MAX)

        def answer() -> list[addressed_pb2.AddressedPosition]:
            try:
                held = list(asked.result().positions)
            except grpc.RpcError as error:
                raise self.failure_told_below(error) from error
            for position in held:
                # A province addresses hundreds of divisions: no business of every platform below, at every handshake.
                position.ClearField("audiences")
            self._addressed = (time.monotonic(), held)
            return held

        return answer

    def stream_down(self, method: Callable[[Any], Any], request: Message) -> Iterator[Any]:
        """Yield what it answers to a call that is made on behalf of the one being served, and ends with that.

        Raises ServiceError as `failure_told_below`, unless the served call is over.
        """
        served = request_context()
        call = method(request)

        def cancel() -> None:
            call.cancel()

        served.on_end(cancel)
        try:
            yield from call
        except grpc.RpcError as error:
            if served.is_active():
                raise self.failure_told_below(error) from error
        finally:
            cancel()

    def failure(self, error: grpc.RpcError) -> ServiceError:
        """Read what a call to it ended with, for this platform's own people. Its refusals stay as they are; a silent
        failure names the service.
        """
        refusal = service_error(error)
        if refusal.status == "UNAUTHENTICATED":
            return self._unavailable(refusal, f"does not know its relay: {refusal.message}")
        return (
            self._unavailable(refusal, f"does not answer: {refusal.message}") if is_link_failure(refusal) else refusal
        )

    def failure_told_below(self, error: grpc.RpcError) -> ServiceError:
        """Read it for a platform below, which learns that the service is away and not where it should have been."""
        refusal = service_error(error)
        # That own services do not know each other is nothing that the platform below could do anything about.
        if refusal.status == "UNAUTHENTICATED" or is_link_failure(refusal):
            return self._unavailable(refusal, "does not answer")
        return refusal

    def _unavailable(self, refusal: ServiceError, what: str) -> ServiceError:
        return ServiceError(
            refusal.reason if is_link_failure(refusal) else Reason.SERVICE_UNAVAILABLE,
            f"the {self.stream} service of this platform {what}",
            metadata={**refusal.metadata, "stream": self.stream},
            retry_after_seconds=refusal.retry_after_seconds or WATCH_BACKOFF_SECONDS_MAX,
        )

    def close(self) -> None:
        """Close the channel; running calls end."""
        self._channel.close()


class PositionWatch:
    """Follows the positions of one service for as long as the relay runs, whenever that service is there."""

    def __init__(self, service: LocalService, told: Told, lost: Lost, jitter: Callable[[], float]) -> None:
        self._service = service
        self._told = told
        self._lost = lost
        self._jitter = jitter
        self._stopping = threading.Event()
        self._guard = threading.Lock()
        self._call: grpc.Call | None = None
        self._thread = threading.Thread(target=self._run, name=f"relay-watch-{service.stream}", daemon=True)

    def start(self) -> None:
        """Start following."""
        self._thread.start()

    def stop(self) -> None:
        """Stop following."""
        with self._guard:
            self._stopping.set()
            if self._call is not None:
                self._call.cancel()
        self._thread.join(LOCAL_CALL_SECONDS_MAX)

    def _run(self) -> None:
        failure_count = 0
        while not self._stopping.is_set():
            try:
                if self._follow():
                    failure_count = 0
            except Exception as fault:  # noqa: BLE001 - the watch outlives any fault of one call
                if self._stopping.is_set():
                    return
                error = fault if isinstance(fault, ServiceError) else ServiceError(Reason.INTERNAL, repr(fault))
                if failure_count == 0:
                    _log.warning("local_service_lost", stream=self._service.stream, reason=error.reason.value)
                self._lost(self._service.stream, error)
            failure_count += 1
            pause = backoff_seconds(failure_count, self._jitter(), BACKOFF_SECONDS_MIN, WATCH_BACKOFF_SECONDS_MAX)
            self._stopping.wait(pause)

    def _follow(self) -> bool:
        """Follow until the service ends it; return whether it told anything."""
        has_told = False
        with self._guard:
            if self._stopping.is_set():
                return False
            call = self._service.journal.WatchPositions(journal_pb2.WatchPositionsRequest())
            self._call = call
        try:
            for response in call:
                if not has_told:
                    _log.info("local_service_followed", stream=self._service.stream, logs=len(response.positions))
                self._told(self._service.stream, response.positions, not has_told)
                has_told = True
        except grpc.RpcError as error:
            if not has_told:
                raise self._service.failure(error) from error
            # It was there a moment ago and may be back at once: a restart is no failure yet.
        finally:
            call.cancel()
        return has_told


class LocalServices:
    """All services of this platform whose journals are relayed, by stream."""

    def __init__(self, addresses: Mapping[str, str], connect_to: Connect) -> None:
        self._services = {
            stream: LocalService(stream, address, connect_to) for stream, address in sorted(addresses.items())
        }

    @property
    def streams(self) -> list[str]:
        """The streams in order."""
        return list(self._services)

    def __iter__(self) -> Iterator[LocalService]:
        return iter(self._services.values())

    def find(self, stream: str) -> LocalService | None:
        """Return the service of a stream, or None when that stream is not relayed here."""
        return self._services.get(stream)

    def close(self) -> None:
        """Close all channels."""
        for service in self._services.values():
            service.close()
