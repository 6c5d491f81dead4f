"""Cosignatures on their way further down: what a platform below is told when it begins to follow, and what comes from
above meanwhile.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import grpc

from services.common.errors import ServiceError
from services.common.request import RequestContext, request_context
from services.relay.limits import (
    COSIGNATURE_INTERVAL_SECONDS,
    COSIGNATURE_LOGS_MAX,
    COSIGNED_CHECKPOINTS_MAX,
    LOCAL_CALL_SECONDS_MAX,
)
from services.relay.local_services import LocalService, LocalServices
from services.relay.standing import LogKey
from zhichao.journal.v1 import journal_pb2
from zhichao.relay.v1 import relay_pb2

AWAY_SECONDS: Final = 5.0
"""Pause before a service that was away is asked again for its checkpoints: a restart takes some seconds."""

RELIST_SECONDS: Final = 600.0
"""After this long the services are asked again: another relay of this platform may have handed them what we did not
see.
"""

Covers = Callable[[str], bool]
"""Tells whether an origin is the follower or lies below it."""


class CosignatureFeed:
    """The newest cosigned checkpoint of each log that came from above since the start. Thread-safe.

    Those that came before are with the services. Bounded by the logs that a journal holds.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        # In the order in which they came, with a number each, so that a follower is told what came after its last one.
        self._notes: dict[LogKey, tuple[int, str]] = {}
        self._count = 0

    def add(self, key: LogKey, note: str) -> None:
        """Take over what came from above; a newer note of the same log replaces it."""
        with self._changed:
            known = self._notes.pop(key, None)
            if known is None and len(self._notes) >= COSIGNATURE_LOGS_MAX:
                return
            if known is not None and known[1] == note:
                self._notes[key] = known
                return
            self._count += 1
            self._notes[key] = (self._count, note)
            self._changed.notify_all()

    def after(self, number: int) -> tuple[int, dict[LogKey, str]]:
        """Return what came after the number that was returned last, and the number now."""
        with self._changed:
            return self._count, {key: note for key, (count, note) in self._notes.items() if count > number}

    def wait(self, number: int, is_wanted: Callable[[], bool], seconds: float) -> None:
        """Wait until something came after a number, nobody wants it any more, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._count > number or not is_wanted(), seconds)

    def wake(self) -> None:
        """Let waiting followers look whether they are still wanted."""
        with self._changed:
            self._changed.notify_all()


class CosignatureFollow:
    """One follower below. Used once."""

    def __init__(self, feed: CosignatureFeed, services: LocalServices, covers: Covers) -> None:
        self._feed = feed
        self._covers = covers
        self._services = list(services)
        self._unasked = list(services)

    def answers(self) -> Iterator[relay_pb2.FollowCosignaturesResponse]:
        """Yield the newest checkpoint of every log that the follower covers, and then what comes, until the call
        ends.
        """
        request = request_context()
        request.on_end(self._feed.wake)
        number = 0
        asked_at = time.monotonic()
        while request.is_active():
            if time.monotonic() - asked_at >= RELIST_SECONDS:
                self._unasked, asked_at = list(self._services), time.monotonic()
            yield from self._ask_services(request)
            number, notes = self._feed.after(number)
            yield from _messages([(key, note) for key, note in notes.items() if self._covers(key.origin)])
            # Many logs are cosigned at once, and a busy log again and again: the newest of all go together.
            request.stopping.wait(COSIGNATURE_INTERVAL_SECONDS)
            self._feed.wait(number, request.is_active, AWAY_SECONDS if self._unasked else LOCAL_CALL_SECONDS_MAX)

    def _ask_services(self, request: RequestContext) -> Iterator[relay_pb2.FollowCosignaturesResponse]:
        """Yield what the services hold; those that are away are asked again later."""
        unasked, self._unasked = self._unasked, []
        for service in unasked:
            try:
                notes = self._checkpoints(service, request)
            except ServiceError:
                self._unasked.append(service)
                continue
            yield from _messages(notes)

    def _checkpoints(self, service: LocalService, request: RequestContext) -> list[tuple[LogKey, str]]:
        notes = []
        for position in service.ask_positions()():
            if not request.is_active():
                break
            if position.is_own or not position.size or not self._covers(position.origin):
                continue
            try:
                answer = service.journal.GetCheckpoint(
                    journal_pb2.GetCheckpointRequest(origin=position.origin), timeout=LOCAL_CALL_SECONDS_MAX
                )
            except grpc.RpcError as error:
                raise service.failure_told_below(error) from error
            notes.append((LogKey(service.stream, position.origin), answer.checkpoint))
        return notes


def _messages(notes: Sequence[tuple[LogKey, str]]) -> Iterator[relay_pb2.FollowCosignaturesResponse]:
    for first in range(0, len(notes), COSIGNED_CHECKPOINTS_MAX):
        yield relay_pb2.FollowCosignaturesResponse(
            checkpoints=[
                relay_pb2.CosignedCheckpoint(stream=key.stream, origin=key.origin, checkpoint=note)
                for key, note in notes[first : first + COSIGNED_CHECKPOINTS_MAX]
            ]
        )
