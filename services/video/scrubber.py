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
from services.video.keeping_rules import UNREAD_RETRY
from services.video.store import checks
from services.video.store import keeping as store

AGAIN_AFTER: Final = timedelta(days=1)
"""No object is read twice within a day: a small store is not worn out by a rate that suits a large one."""

IDLE_SECONDS: Final = 60.0
"""Pause when all objects have been read within the last day."""

DAMAGED_SECONDS: Final = 900.0
"""How often damaged objects are looked at again: somebody may have put them right in the store."""

DAMAGED_PAGE: Final = 20
"""Damaged objects that are looked at in one step: where a whole store is lost there are millions, and what is not is
scrubbed in between."""

RATE_WITHOUT: Final = 8 << 20
"""Bytes per second where scrubbing is switched off, for what is damaged or could not be read: the default of the
setting."""

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
        self._damaged_after = b""

    def step(self) -> float:
        """Read the next object and return the seconds until the one after it. Raises StoreError, ServiceError."""
        try:
            is_more_damaged = self._look_at_damaged()
            if self._look_at_unread():
                return 0.0
            pause = self._scrub() if self._is_scrubbing else IDLE_SECONDS
            return 0.0 if is_more_damaged else pause
        except StoppedError:
            return 0.0

    def _scrub(self) -> float:
        now = self._clock.now()
        with translate_errors(), reading(self._engine) as pooled:
            connection = raw_connection(pooled)
            began = store.read_scrub_state(connection).scrub_begin_time
            found = checks.oldest_checked(connection, now - AGAIN_AFTER, now + AGAIN_AFTER)
        if began is not None and began > now:
            # By a clock that was ahead: no check would ever be later.
            began = None
        if found is None or _is_over(began, found[1]):
            if began is not None:
                with translate_errors(), self._engine.begin() as pooled:
                    store.complete_round(raw_connection(pooled), now)
                _log.info("scrub_completed", seconds=round((now - began).total_seconds()))
            return IDLE_SECONDS if found is None else 0.0
        if began is None:
            with translate_errors(), self._engine.begin() as pooled:
                store.begin_round(raw_connection(pooled), now)
        self._checker.check(found[0].digest, found[0].size_bytes)
        return 0.0

    def _look_at_unread(self) -> bool:
        """Read what could not be read before, one whose turn it is: False when there is none."""
        with translate_errors(), reading(self._engine) as pooled:
            now = self._clock.now()
            unread = checks.due_unread(raw_connection(pooled), now, now + 2 * UNREAD_RETRY)
        if unread is not None:
            self._checker.check(unread.digest, unread.size_bytes)
        return unread is not None

    def _look_at_damaged(self) -> bool:
        """Look at some of what is damaged, from time to time: what somebody has put right in the store is held again.

        True when there are more to look at now.
        """
        if self._damaged_at is not None and self._clock.monotonic() - self._damaged_at < DAMAGED_SECONDS:
            return False
        with translate_errors(), reading(self._engine) as pooled:
            rows = checks.read_damaged(raw_connection(pooled), self._damaged_after, DAMAGED_PAGE)
        for row in rows:
            # Before the look: one of which the store refuses what would heal it keeps none of the others.
            self._damaged_after = row.digest
            finding = self._checker.look(row.digest, row.size_bytes)
            if finding is Finding.RIGHT:
                self._log.restored(row.digest, RIGHT_AGAIN)
            else:
                self._checker.heal(row.digest, row.size_bytes, finding)
        if len(rows) == DAMAGED_PAGE:
            return True
        # From the end on: looking may take longer than the pause.
        self._damaged_after, self._damaged_at = b"", self._clock.monotonic()
        return False


def _is_over(began: datetime | None, oldest_check: datetime | None) -> bool:
    """Tell whether a round has come to its end: the oldest check of all is from this round."""
    return began is not None and oldest_check is not None and oldest_check >= began
