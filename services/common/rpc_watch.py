"""Looks every few seconds at what time alone changes: rights that end while a stream is open, delays that are over,
callers that send nothing.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from services.common.rpc_interceptor import RequestInterceptor

WATCH_SECONDS: Final = 2.0
"""How often. With the registry's word a revocation ends streams at once; this is for the end of a credential, and for a
service that hears nothing. Five times as often as the 10 seconds in which a revocation is promised to be in force."""

_log = structlog.get_logger()


class StandingWatch:
    """A thread beside one server."""

    def __init__(self, name: str, interceptor: RequestInterceptor, looks: Sequence[Callable[[], None]] = ()) -> None:
        """Make it; `looks` are called each time as well."""
        self._interceptor = interceptor
        self._looks = tuple(looks)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{name}-standing", daemon=True)

    def start(self) -> None:
        """Start looking."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking; without effect when it was never started."""
        self._is_over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def look(self) -> None:
        """Look once."""
        self._interceptor.end_refused()
        self._interceptor.gate.control.failed_attempts.sweep()
        for look in self._looks:
            look()

    def _run(self) -> None:
        while not self._is_over.wait(WATCH_SECONDS):
            try:
                self.look()
            except Exception:  # noqa: BLE001 - logged with its traceback
                # The thread outlives any fault: without it streams would go on beyond the end of their callers' rights.
                _log.exception("standing_watch_failed")
