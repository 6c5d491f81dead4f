"""A stream of another service of the platform that is followed on and on, in a thread of its own. Knows nothing of what
comes.
"""

import threading
from collections.abc import Callable
from typing import Final

import grpc
import structlog

from services.common.errors import ServiceError
from services.common.rpc_client import service_error

RECONNECT_SECONDS_MIN: Final = 0.1
"""First pause after a stream ended, and after one that brought something: a service that restarts is back at once."""

RECONNECT_SECONDS_MAX: Final = 5.0
"""Longest pause between tries to reach the service: what it holds meanwhile is read then, so nothing is lost by it."""

_log = structlog.get_logger()


class FollowLoop:
    """Runs `follow` until it is stopped, with growing pauses as long as nothing comes. No fault ends it.

    `progress` says how far it got: something else than before means that something came.
    """

    def __init__(self, name: str, follow: Callable[[], None], progress: Callable[[], object]) -> None:
        self._name = name
        self._follow = follow
        self._progress = progress
        self._hurry = threading.Event()
        self.stopping = threading.Event()
        self.call: grpc.Call | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Stop following. May be called when it was never started."""
        self.stopping.set()
        self._hurry.set()
        if self.call is not None:
            self.call.cancel()
        if self._thread.ident is not None:
            self._thread.join(RECONNECT_SECONDS_MAX)

    def hurry(self) -> None:
        """End a pause: the service is there."""
        self._hurry.set()

    def hold(self, call: grpc.Call) -> None:
        """Take the call that is followed, so that a stop ends it."""
        self.call = call
        if self.stopping.is_set():
            # stop() may have looked for a call before this one was there.
            call.cancel()

    def _run(self) -> None:
        pause = RECONNECT_SECONDS_MIN
        while not self.stopping.is_set():
            before = self._progress()
            try:
                self._follow()
            except grpc.RpcError as error:
                if not self.stopping.is_set():
                    _log.warning("follow_interrupted", follower=self._name, reason=service_error(error).reason.value)
            except ServiceError as error:
                _log.warning("follow_interrupted", follower=self._name, reason=error.reason.value)
            except Exception:  # noqa: BLE001 - logged with its traceback
                # The thread outlives any fault: without it what is new would stay unknown until the next start.
                _log.exception("follow_failed", follower=self._name, position=before)
            has_moved = self._progress() != before
            pause = RECONNECT_SECONDS_MIN if has_moved else min(pause * 2, RECONNECT_SECONDS_MAX)
            self._hurry.wait(pause)
            self._hurry.clear()
