"""How stored evidence stands, for status and figures: what is held, what is missing, what the last tests found."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from services.common.database import Engine, raw_connection, reading, translate_errors
from services.common.errors import ServiceError
from services.video.store import keeping as store
from services.video.store.keeping import LockTestRow, ScrubState, Totals, Troubles

COUNT_SECONDS_MAX: Final = 1.0
"""Longest count for somebody who waits: some millions of rows. Beyond it the figure of the last ten minutes is told."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How it stands."""

    totals: Totals
    troubles: Troubles
    scrub: ScrubState
    lock_test: LockTestRow | None
    oldest_check_time: datetime | None
    """When the held object was checked whose last check is the oldest; None where nothing is held."""

    @property
    def reconcile_time(self) -> datetime | None:
        """When the last comparison of store and tables ended."""
        return self.scrub.reconcile_time


def read_standing(engine: Engine, count_seconds_max: float = COUNT_SECONDS_MAX) -> Standing:
    """Return how it stands. Raises ServiceError DATABASE_UNAVAILABLE."""
    with translate_errors(), reading(engine) as pooled:
        connection = raw_connection(pooled)
        scrub = store.read_scrub_state(connection)
        troubles = store.count_troubles(connection)
        lock_test = store.newest_lock_test(connection)
        oldest = store.oldest_check_time(connection)
    return Standing(_totals(engine, scrub, count_seconds_max), troubles, scrub, lock_test, oldest)


def _totals(engine: Engine, scrub: ScrubState, seconds_max: float) -> Totals:
    """Count now, or tell what was counted last where that takes too long."""
    try:
        with translate_errors(), reading(engine, timeout_seconds=seconds_max) as pooled:
            return store.count_objects(raw_connection(pooled))
    except ServiceError:
        if scrub.count_time is None:
            raise
        return scrub.totals
