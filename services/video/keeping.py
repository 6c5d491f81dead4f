"""What is done for stored evidence day and night: the lock self-test, the comparison of store and tables, deleting what
has expired, counting. One replica does it; none of it is needed for a call.
"""

from datetime import datetime, timedelta
from typing import Final

import structlog

from services.common.clock import Clock
from services.common.database import Engine, raw_connection, reading, translate_errors
from services.journal.store import read_own_head
from services.video.background import TRIED_AGAIN
from services.video.checking import StoppedError
from services.video.expiring import Expirer
from services.video.object_store import BucketMissingError, LockState, ObjectStore
from services.video.reconciling import Reconciler
from services.video.store import keeping as store
from services.video.store.keeping import LockTestRow

KEEPING_LOCK_KEY: Final = 0x7A766B70  # "zvkp"
"""Advisory lock of the replica that keeps."""

SCRUB_LOCK_KEY: Final = 0x7A767363  # "zvsc"
"""Advisory lock of the replica that scrubs."""

DAILY: Final = timedelta(days=1)
"""How often the locks are tested and store and tables compared (docs/operate/evidence.md)."""

NOT_ENFORCED_AGAIN: Final = timedelta(hours=1)
"""When the locks are tested again after they did not hold: so grave a word is not said for a day because of a fault
that has passed."""

UNKNOWN_AGAIN_MIN: Final = timedelta(minutes=1)
UNKNOWN_AGAIN_MAX: Final = timedelta(hours=1)
"""When a test that could not be made is tried again, doubled each time: each leaves a row, and up to two objects."""

COUNT_EVERY: Final = timedelta(minutes=10)
"""How often all objects are counted: figures for a screen, and millions of rows to read."""

COUNT_SECONDS_MAX: Final = 120.0
"""Longest count; tens of millions of rows take some tens of seconds."""

LOCK_TESTS_KEPT: Final = timedelta(days=400)
"""How long outcomes of self-tests are kept: a year, and some weeks in which somebody asks for it."""

STEP_SECONDS: Final = 60.0
"""Pause when there is nothing to do: retention ends on a day, not at a minute."""

RECOVERING_SECONDS: Final = 5.0
"""Pause while the own log was restored and is not written to yet: that ends within minutes."""

_log = structlog.get_logger()


class Keeping:
    """One step does what is due. From one thread. Raises StoreError, ServiceError; what was not done is due still."""

    def __init__(
        self,
        engine: Engine,
        objects: ObjectStore,
        expirer: Expirer,
        reconciler: Reconciler,
        clock: Clock,
        upload_keep: timedelta,
    ) -> None:
        self._engine = engine
        self._objects = objects
        self._expirer = expirer
        self._reconciler = reconciler
        self._clock = clock
        self._upload_keep = upload_keep
        self._is_tested = False
        self._test_again = UNKNOWN_AGAIN_MIN
        # At the start, too: it may be another database than before, or another store.
        self._compares_next = True

    def step(self) -> float:
        """Do what is due and return the seconds until the next step."""
        # Before the store is asked: a store that is away keeps no hold from coming down.
        self._expirer.note_presence()
        try:
            self._objects.check()
        except BucketMissingError:
            # Whatever bucket there will be, it is compared at once.
            self._compares_next = True
            raise
        pauses = []
        failures: list[Exception] = []
        # Apart from each other: what one of them cannot do now keeps none of the others.
        for part in (self.test_locks, self._count, self._expire, self._compare):
            try:
                pauses.append(part())
            except StoppedError:
                return 0.0
            except Exception as error:  # noqa: BLE001 - what is unexpected is raised below, and keeps none of them either
                failures.append(error)
        if failures:
            raise next((one for one in failures if not isinstance(one, TRIED_AGAIN)), failures[0])
        return min(pauses)

    def _expire(self) -> float:
        return 0.0 if self._expirer.step() else STEP_SECONDS

    def _compare(self) -> float:
        with translate_errors(), reading(self._engine) as pooled:
            connection = raw_connection(pooled)
            state = store.read_scrub_state(connection)
            head = read_own_head(connection)
        if head is None or head.is_recovering:
            # Own manifests are on their way back from above; what they name is looked for once all are here.
            self._compares_next = True
            return RECOVERING_SECONDS
        if self._compares_next or self._is_due(state.reconcile_time, DAILY):
            self._reconciler.run(self._upload_keep)
            self._compares_next = False
        return STEP_SECONDS

    def test_locks(self) -> float:
        """Test the store's locks if that is due: at the start, then daily, sooner when they were not found enforced."""
        with translate_errors(), reading(self._engine) as pooled:
            newest = store.newest_lock_test(raw_connection(pooled))
        if self._is_tested and newest is not None and not self._is_due(newest.test_time, self._tested_every(newest)):
            return STEP_SECONDS
        test = self._objects.lock_self_test()
        with translate_errors(), self._engine.begin() as pooled:
            store.put_lock_test(
                raw_connection(pooled),
                LockTestRow(test.test_time, test.state.value, test.detail),
                self._clock.now() - LOCK_TESTS_KEPT,
            )
        self._test_again = (
            min(2 * self._test_again, UNKNOWN_AGAIN_MAX)
            if self._is_tested and test.state is LockState.UNKNOWN
            else UNKNOWN_AGAIN_MIN
        )
        self._is_tested = True
        if newest is None or newest.lock_state != test.state.value:
            _log.info("store_locks_tested", state=test.state.name, detail=test.detail)
        return STEP_SECONDS

    def _tested_every(self, newest: LockTestRow) -> timedelta:
        if newest.lock_state == LockState.UNKNOWN.value:
            return self._test_again
        return NOT_ENFORCED_AGAIN if newest.lock_state == LockState.NOT_ENFORCED.value else DAILY

    def _count(self) -> float:
        with translate_errors(), reading(self._engine, timeout_seconds=COUNT_SECONDS_MAX) as pooled:
            connection = raw_connection(pooled)
            if not self._is_due(store.read_scrub_state(connection).count_time, COUNT_EVERY):
                return STEP_SECONDS
            totals = store.count_objects(connection)
        with translate_errors(), self._engine.begin() as pooled:
            store.keep_totals(raw_connection(pooled), totals, self._clock.now())
        return STEP_SECONDS

    def _is_due(self, last: datetime | None, every: timedelta) -> bool:
        # What was done by a clock that was ahead is done again by the right one, and not once that time has come.
        return last is None or abs(self._clock.now() - last) >= every
