"""Hands the upstream's cosignatures to the services that hold the logs, and on to the platforms below: the newest of
each log, beside the push.
"""

import threading
from collections.abc import Callable

import grpc
import structlog

from services.common.rpc_client import service_error
from services.relay.cosignature_feed import CosignatureFeed
from services.relay.limits import (
    COSIGNATURE_INTERVAL_SECONDS,
    COSIGNATURE_LOGS_MAX,
    COSIGNATURE_NOTES_MAX,
    LOCAL_CALL_SECONDS_MAX,
)
from services.relay.local_services import LocalService
from services.relay.standing import LogKey
from zhichao.journal.v1 import journal_pb2

_log = structlog.get_logger()


class Cosignatures:
    """Checkpoints that came back cosigned and wait to be handed over.

    While a service is away its newest notes wait. What a killed relay had not handed over is no harm: the next
    acknowledgement, or the next follow, brings it or a newer one.
    """

    def __init__(self, find: Callable[[str], LocalService | None], feed: CosignatureFeed) -> None:
        self._find = find
        self._feed = feed
        self._notes: dict[LogKey, tuple[str, ...]] = {}
        self._guard = threading.Lock()
        self._added = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="relay-cosignatures", daemon=True)

    def start(self) -> None:
        """Start handing over."""
        self._thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """Hand over what waits, then end."""
        self._stopping.set()
        self._added.set()
        self._thread.join(timeout_seconds)

    def add(self, key: LogKey, note: str) -> None:
        """Keep the newest notes of a log; never waits."""
        if not note:
            return
        self._feed.add(key, note)
        with self._guard:
            if key in self._notes or len(self._notes) < COSIGNATURE_LOGS_MAX:
                self._notes[key] = _newest(self._notes.get(key, ()), (note,))
        self._added.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._added.wait()
            self._added.clear()
            self._hand_over()
            self._stopping.wait(COSIGNATURE_INTERVAL_SECONDS)
        self._hand_over()

    def _hand_over(self) -> None:
        with self._guard:
            notes, self._notes = self._notes, {}
        for key, of_log in notes.items():
            service = self._find(key.stream)
            if service is not None:
                for note in of_log:
                    self._give(service, key, note)

    def _give(self, service: LocalService, key: LogKey, note: str) -> None:
        try:
            request = journal_pb2.AddCosignaturesRequest(checkpoint=note)
            service.journal.AddCosignatures(request, timeout=LOCAL_CALL_SECONDS_MAX)
        except grpc.RpcError as error:
            failure = service_error(error)
            if failure.is_retryable and not self._stopping.is_set():
                # The service restarts: a log that grows no more would never get another note.
                self._put_back(key, note)
                return
            reason = failure.reason.value
            _log.warning("cosignature_lost", stream=key.stream, origin=key.origin, reason=reason)

    def _put_back(self, key: LogKey, note: str) -> None:
        """Keep a note for the next time, before those that have come meanwhile."""
        with self._guard:
            self._notes[key] = _newest((note,), self._notes.get(key, ()))
        self._added.set()


def _newest(older: tuple[str, ...], newer: tuple[str, ...]) -> tuple[str, ...]:
    """Return the newest notes of a log, each once: an upstream and those above it may have cosigned different sizes."""
    return tuple(dict.fromkeys((*older, *newer)))[-COSIGNATURE_NOTES_MAX:]
