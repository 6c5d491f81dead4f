"""Follows what the registry says of access."""

import threading
from collections.abc import Callable
from typing import Final

import grpc
import structlog

from services.common.access.convert import access_change
from services.common.access.keeping import StatementKeeper
from services.common.access.knowledge import AccessKnowledge
from services.common.rpc_client import service_error
from zhichao.access.v1 import service_pb2, service_pb2_grpc

SILENCE_SECONDS_MAX: Final = 6.0
"""The registry says something every 2 seconds; after three times that the connection is given up. With the pause after
it a revocation is known within 10 seconds wherever the registry can be reached."""

PAUSE_SECONDS_MIN: Final = 0.1
PAUSE_SECONDS_MAX: Final = 2.0
"""Pauses between tries: a registry that comes back is found before a revocation is overdue."""

STOP_SECONDS_MAX: Final = 5.0
"""How long a stop waits for the thread: its call is cancelled."""

_log = structlog.get_logger()


class AccessFollower:
    """Keeps an AccessKnowledge in step with the registry of this platform, which may be away.

    With a `keeper` everything that is heard is kept, and what was kept is known while the registry is away.
    """

    def __init__(
        self,
        knowledge: AccessKnowledge,
        open_channel: Callable[[], grpc.Channel],
        keeper: StatementKeeper | None = None,
    ) -> None:
        self._knowledge = knowledge
        self._open_channel = open_channel
        self._keeper = keeper
        self._stopping = threading.Event()
        self._guard = threading.Lock()
        self._call: grpc.Call | None = None
        self._thread = threading.Thread(target=self._run, name="access-follower", daemon=True)

    def start(self) -> None:
        """Start to follow. Never fails: a registry that is away is waited for."""
        self._thread.start()

    def stop(self) -> None:
        """Stop following. May be called when it was never started."""
        self._stopping.set()
        with self._guard:
            if self._call is not None:
                self._call.cancel()
        if self._thread.ident is not None:
            self._thread.join(STOP_SECONDS_MAX)

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
            self._remind()
            self._stopping.wait(pause)
            pause = min(pause * 2, PAUSE_SECONDS_MAX)

    def _remind(self) -> None:
        """Let time pass for what is known, without a word of the registry. Raises nothing, as above."""
        try:
            if self._keeper is not None:
                self._keeper.offer(self._knowledge)
            self._knowledge.remind()
        except Exception:  # noqa: BLE001 - logged with its traceback
            _log.exception("access_follow_failed")

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
                if self._keeper is not None:
                    self._keeper.take(message)
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
