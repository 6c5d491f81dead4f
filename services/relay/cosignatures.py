"""Hands the upstream's cosignatures to the services that own the logs: the newest of each log, beside the push."""

import threading
from collections.abc import Callable

import grpc
import structlog

from services.common.rpc_client import service_error
from services.relay.limits import COSIGNATURE_INTERVAL_SECONDS, COSIGNATURE_LOGS_MAX, LOCAL_CALL_SECONDS_MAX
from services.relay.local_services import LocalService
from services.relay.standing import LogKey
from zhichao.journal.v1 import journal_pb2

_log = structlog.get_logger()


class Cosignatures:
    """Checkpoints that came back cosigned and wait to be handed over.

    While a service is away its newest note waits. What a killed relay had not handed over is no harm: the next
    acknowledgement brings a newer one.
    """

    def __init__(self, find: Callable[[str], LocalService | None]) -> None:
        self._find = find
        self._notes: dict[LogKey, str] = {}
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
        """Keep the newest note of a log; never waits."""
        if not note:
            return
        with self._guard:
            if key in self._notes or len(self._notes) < COSIGNATURE_LOGS_MAX:
                self._notes[key] = note
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
        for key, note in notes.items():
            service = self._find(key.stream)
            if service is None:
                continue
            try:
                request = journal_pb2.AddCosignaturesRequest(checkpoint=note)
                service.journal.AddCosignatures(request, timeout=LOCAL_CALL_SECONDS_MAX)
            except grpc.RpcError as error:
                failure = service_error(error)
                if failure.is_retryable and not self._stopping.is_set():
                    # The service restarts: a log that grows no more would never get another note.
                    self._put_back(key, note)
                    continue
                reason = failure.reason.value
                _log.warning("cosignature_lost", stream=key.stream, origin=key.origin, reason=reason)

    def _put_back(self, key: LogKey, note: str) -> None:
        """Keep a note for the next time, unless a newer one has come."""
        with self._guard:
            self._notes.setdefault(key, note)
        self._added.set()
