"""The scrubber: reads stored objects again and again against their digests, the one first whose last check is the
oldest, at a rate that leaves the disk to others. Whatever is interrupted begins anew with the same object.
"""

from datetime import datetime, timedelta
from typing import Final

import structlog

from services.common.clock import Clock
from services.common.database import Engine, raw_connection, reading, translate_errors
from services.video.checking import RIGHT_AGAIN, Checker, Finding, StoppedError
from services.video.keeping_log import KeepingLog
from services.video.store import keeping as store
from services.video.store.keeping import StoredRow

AGAIN_AFTER: Final = timedelta(days=1)
"""No object is read twice within a day: a small store is not worn out by a rate that suits a large one."""

IDLE_SECONDS: Final = 60.0
"""Pause when all objects have been read within the last day."""

DAMAGED_SECONDS: Final = 900.0
"""How often damaged objects are looked at again: somebody may have put them right in the store."""

DAMAGED_PAGE: Final = 100
"""Damaged objects that are read from the database at once."""

RATE_WITHOUT: Final = 8 << 20
"""Bytes per second for damaged objects where scrubbing is switched off: the default of the setting."""

_log = structlog.get_logger()


class Scrubber:
    """One step reads one object. Steps come from one thread."""

    def __init__(
        self, engine: Engine, checker: Checker, log: KeepingLog, clock: Clock, *, is_scrubbing: bool = True
    ) -> None:
        self._engine = engine
        self._checker = checker
        self._log = log
        self._clock = clock
        self._is_scrubbing = is_scrubbing
        self._damaged_at: float | None = None

    def step(self) -> float:
        """Read the next object and return the seconds until the one after it. Raises StoreError, ServiceError."""
        try:
            self._look_at_damaged()
            return self._scrub() if self._is_scrubbing else IDLE_SECONDS
        except StoppedError:
            return 0.0

    def _scrub(self) -> float:
        now = self._clock.now()
        with translate_errors(), reading(self._engine) as pooled:
            connection = raw_connection(pooled)
            began = store.read_scrub_state(connection).scrub_begin_time
            found = store.oldest_checked(connection, now - AGAIN_AFTER)
        if found is None or _is_over(began, found[1]):
            if began is not None:
                with translate_errors(), self._engine.begin() as pooled:
                    store.complete_round(raw_connection(pooled), now)
                _log.info("scrub_completed", seconds=round((now - began).total_seconds()))
            return IDLE_SECONDS if found is None else 0.0
        if began is None:
            with translate_errors(), self._engine.begin() as pooled:
                store.begin_round(raw_connection(pooled), now)
        self._check(found[0])
        return 0.0

    def _check(self, row: StoredRow) -> None:
        if self._checker.check(row.digest, row.size_bytes) is Finding.RIGHT:
            with translate_errors(), self._engine.begin() as pooled:
                store.mark_checked(raw_connection(pooled), row.digest, self._clock.now())

    def _look_at_damaged(self) -> None:
        """Look at what is damaged from time to time: what somebody has put right in the store is held again."""
        now = self._clock.monotonic()
        if self._damaged_at is not None and now - self._damaged_at < DAMAGED_SECONDS:
            return
        after = b""
        while True:
            with translate_errors(), reading(self._engine) as pooled:
                rows = store.read_damaged(raw_connection(pooled), after, DAMAGED_PAGE)
            if not rows:
                break
            for row in rows:
                after = row.digest
                finding = self._checker.look(row.digest, row.size_bytes)
                if finding is Finding.RIGHT:
                    self._log.restored(row.digest, RIGHT_AGAIN)
                else:
                    self._checker.heal(row.digest, row.size_bytes, finding)
        self._damaged_at = now


def _is_over(began: datetime | None, oldest_check: datetime | None) -> bool:
    """Tell whether a round has come to its end: the oldest check of all is from this round."""
    return began is not None and oldest_check is not None and oldest_check >= began
