"""Follows what the registry says of access, and tells it when credentials were used last."""

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Final

import grpc
import structlog

from services.common.access.convert import access_change
from services.common.access.knowledge import AccessKnowledge
from services.common.clock import Clock
from services.common.rpc_client import service_error
from zhichao.access.v1 import service_pb2, service_pb2_grpc

SILENCE_SECONDS_MAX: Final = 6.0
"""The registry says something every 2 seconds; after three times that the connection is given up. With the pause after
it a revocation is known within 10 seconds wherever the registry can be reached."""

PAUSE_SECONDS_MIN: Final = 0.1
PAUSE_SECONDS_MAX: Final = 2.0
"""Pauses between tries: a registry that comes back is found before a revocation is overdue."""

REPORT_SECONDS: Final = 60.0
"""Last uses are kept to the minute, so they are told once a minute."""

USES_MAX: Final = 10_000
"""Credentials whose use waits to be told; more in one minute than a province has terminals at work. Beyond it the use
is told a minute later."""

CALL_SECONDS_MAX: Final = 5.0

_log = structlog.get_logger()


class UseBook:
    """Notes which credentials were used, cheaply, for the next report."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._uses: dict[str, datetime] = {}

    def note(self, credential_id: str) -> None:
        """Note a use now. One that is noted already and not yet told stays as it is: a minute decides nothing."""
        if credential_id not in self._uses and len(self._uses) < USES_MAX:
            self._uses[credential_id] = self._clock.now()

    def take(self) -> dict[str, datetime]:
        """Take what was noted and begin anew."""
        taken, self._uses = self._uses, {}
        return taken


class AccessFollower:
    """Keeps an AccessKnowledge in step with the registry of this platform, which may be away."""

    def __init__(self, knowledge: AccessKnowledge, uses: UseBook, open_channel: Callable[[], grpc.Channel]) -> None:
        self._knowledge = knowledge
        self._uses = uses
        self._open_channel = open_channel
        self._stopping = threading.Event()
        self._guard = threading.Lock()
        self._call: grpc.Call | None = None
        self._follow_thread = threading.Thread(target=self._run, name="access-follower", daemon=True)
        self._report_thread = threading.Thread(target=self._report, name="access-report", daemon=True)

    def start(self) -> None:
        """Start to follow. Never fails: a registry that is away is waited for."""
        self._follow_thread.start()
        self._report_thread.start()

    def stop(self) -> None:
        """Stop following."""
        self._stopping.set()
        with self._guard:
            if self._call is not None:
                self._call.cancel()
        self._follow_thread.join(CALL_SECONDS_MAX)
        self._report_thread.join(CALL_SECONDS_MAX)

    def _run(self) -> None:
        pause = PAUSE_SECONDS_MIN
        was_known = False
        while not self._stopping.is_set():
            try:
                # A channel for each try: a certificate that was renewed meanwhile is read anew.
                with self._open_channel() as channel:
                    if self._follow(channel):
                        pause, was_known = PAUSE_SECONDS_MIN, True
            except grpc.RpcError as error:
                if not self._stopping.is_set() and (was_known or pause >= PAUSE_SECONDS_MAX):
                    _log.warning("access_follow_interrupted", reason=service_error(error).reason.value)
                    was_known = False
            except Exception:  # noqa: BLE001 - logged with its traceback
                # The thread outlives any fault: without it no new credential would be known until the next start.
                _log.exception("access_follow_failed")
            self._knowledge.remind()
            self._stopping.wait(pause)
            pause = min(pause * 2, PAUSE_SECONDS_MAX)

    def _follow(self, channel: grpc.Channel) -> bool:
        """Follow until the stream ends; tell whether the registry has said anything."""
        stub = service_pb2_grpc.AccessServiceStub(channel)
        call = stub.WatchAccess(service_pb2.WatchAccessRequest())
        with self._guard:
            self._call = call
        if self._stopping.is_set():
            call.cancel()
        watchdog = _Watchdog(call.cancel)
        has_heard = False
        try:
            for message in call:
                watchdog.feed()
                self._knowledge.take(access_change(message))
                if not has_heard:
                    has_heard = True
                    _log.info("access_followed", credentials=len(message.credentials), platforms=len(message.platforms))
        except grpc.RpcError:
            if not has_heard:
                raise
        finally:
            watchdog.stop()
            with self._guard:
                self._call = None
        return has_heard

    def _report(self) -> None:
        while not self._stopping.wait(REPORT_SECONDS):
            self.report()

    def report(self) -> None:
        """Tell the registry of the last uses; what cannot be told is forgotten, the next use says the same."""
        uses = self._uses.take()
        if not uses:
            return
        request = service_pb2.ReportUseRequest()
        for credential_id, used in uses.items():
            request.uses.add(credential_id=credential_id).last_use_time.FromDatetime(used)
        try:
            with self._open_channel() as channel:
                service_pb2_grpc.AccessServiceStub(channel).ReportUse(request, timeout=CALL_SECONDS_MAX)
        except grpc.RpcError as error:
            _log.warning("credential_uses_not_told", count=len(uses), reason=service_error(error).reason.value)


class _Watchdog:
    """Ends a call on which nothing has come for too long; TCP alone would notice a dead peer minutes later."""

    def __init__(self, end: Callable[[], object]) -> None:
        self._end = end
        self._fed = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._watch, name="access-watchdog", daemon=True)
        self._thread.start()

    def feed(self) -> None:
        self._fed.set()

    def stop(self) -> None:
        self._is_over = True
        self._fed.set()
        self._thread.join()

    def _watch(self) -> None:
        while self._fed.wait(SILENCE_SECONDS_MAX):
            self._fed.clear()
            if self._is_over:
                return
        self._end()
