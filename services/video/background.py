"""Work that nobody waits for: a thread that does a step, waits, and does the next one, on one replica at a time.

No fault ends it, and it takes no connection from those who answer calls.
"""

import threading
from collections.abc import Callable
from typing import Final

import structlog

from services.common.errors import ServiceError
from services.video.object_store import StoreError
from services.video.store.only_one import OnlyOne

__all__ = ["TRIED_AGAIN", "BackgroundWork", "OnlyOne"]

RETRY_SECONDS_MIN: Final = 5.0
"""First pause after a step that failed: a store or a database that restarts is back in seconds."""

RETRY_SECONDS_MAX: Final = 60.0
"""Longest pause: an outage of hours costs some lines in the log, and what was left off is done within a minute of its
end."""

NOT_OURS_SECONDS: Final = 15.0
"""How often a replica looks whether the one that does the work has gone."""

TRIED_AGAIN: Final = (StoreError, ServiceError)
"""What passes by itself or by somebody's doing, and is told elsewhere: the store or the database is away, the log is
not written to because it was restored."""

_log = structlog.get_logger()


class BackgroundWork:
    """Runs a step again and again until it is stopped. `step` returns the seconds until the next one.

    With `only_one` a step is done by the replica that has the lock.
    """

    def __init__(self, name: str, step: Callable[[], float], only_one: OnlyOne | None = None) -> None:
        self._name = name
        self._step = step
        self._only_one = only_one
        self._hurry = threading.Event()
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"video-{name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, grace_seconds: float) -> None:
        """Stop, waiting so long for the step that is under way; one that hangs in the store ends with the process.

        Whatever is not done is taken up again at the next start.
        """
        self.stopping.set()
        self._hurry.set()
        if self._thread.ident is not None:
            self._thread.join(grace_seconds)

    def hurry(self) -> None:
        """Do the next step now."""
        self._hurry.set()

    def _run(self) -> None:
        failures = 0
        try:
            while not self.stopping.is_set():
                try:
                    is_ours = self._only_one is None or self._only_one.is_held()
                    pause = self._step() if is_ours else NOT_OURS_SECONDS
                    failures = 0
                except Exception as error:  # noqa: BLE001 - the thread outlives any fault; what is unexpected is logged
                    pause = min(RETRY_SECONDS_MIN * 2**failures, RETRY_SECONDS_MAX)
                    failures = min(failures + 1, 16)
                    self._tell(error)
                self._hurry.wait(pause)
                self._hurry.clear()
        finally:
            if self._only_one is not None:
                self._only_one.release()

    def _tell(self, error: Exception) -> None:
        if self.stopping.is_set():
            return
        if isinstance(error, TRIED_AGAIN):
            _log.warning("background_work_waits", work=self._name, error=type(error).__name__)
        else:
            _log.exception("background_work_failed", work=self._name, exc_info=error)
