"""Puts together what is done for stored evidence, and starts and stops it: three threads that no call waits for."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from services.common.clock import Clock
from services.common.database import Engine, raw_connection, reading, translate_errors
from services.video.background import BackgroundWork, OnlyOne
from services.video.checking import Checker, Finding
from services.video.config import VideoSettings
from services.video.custody_writer import CustodyWriter
from services.video.domain import BytesState
from services.video.expiring import Expirer
from services.video.keeping import KEEPING_LOCK_KEY, SCRUB_LOCK_KEY, Keeping
from services.video.keeping_log import KeepingLog
from services.video.object_store import ObjectStore, PutResult, StoreRefusedError, object_key
from services.video.reconciling import Reconciler
from services.video.scrubber import RATE_WITHOUT, Scrubber
from services.video.store.objects import read_object
from services.video.store_troubles import StoreWrites
from services.video.store_watch import StoreWatch

THREADS: Final = 3
"""Watch, keeping, scrubbing: a stop shares its grace among them."""

UNPACED_BYTES_PER_SECOND: Final = 1 << 40
"""More than any store reads."""

CHECKED_FOR: Final = timedelta(days=1)
"""How long an object counts as checked that was read: as long as the scrubber does not read it again."""

UPLOADED_AGAIN: Final = "The same bytes were uploaded again 相同文件重新上传"


class KeepingParts:
    """What keeps evidence. `watch` says whether the store is there, `log` writes down what is found, `keeping` and
    `scrubber` do what is due when their steps are called.
    """

    def __init__(
        self,
        engine: Engine,
        settings: VideoSettings,
        objects: ObjectStore,
        custody: CustodyWriter,
        own: str,
        clock: Clock,
        writes: StoreWrites,
    ) -> None:
        self._engine = engine
        self._objects = objects
        self._clock = clock
        self._stopping = threading.Event()
        upload_keep = timedelta(hours=settings.upload_keep_hours)
        rate = settings.scrub_bytes_per_second or RATE_WITHOUT
        grace = timedelta(days=settings.delete_grace_days)
        self.log = KeepingLog(engine, custody, own, clock, grace)
        self.watch = StoreWatch(engine, objects, clock, writes)
        # A pace each: what reconciliation reads is little, and does not wait for the scrubber.
        scrubbing = Checker(objects, self.log, clock, self._stopping, rate)
        comparing = Checker(objects, self.log, clock, self._stopping, rate)
        self.scrubber = Scrubber(engine, scrubbing, self.log, clock, is_scrubbing=settings.scrub_bytes_per_second > 0)
        self.expirer = Expirer(engine, objects, self.log, own, clock, grace, self._stopping)
        self.reconciler = Reconciler(engine, objects, comparing, self.log, own, clock, self._stopping)
        self.keeping = Keeping(engine, objects, self.expirer, self.reconciler, clock, upload_keep)
        url = settings.database_url
        self._works = (
            BackgroundWork("store-watch", self.watch.step),
            BackgroundWork("keeping", self.keeping.step, OnlyOne(url, KEEPING_LOCK_KEY, "keeping")),
            BackgroundWork("scrubber", self.scrubber.step, OnlyOne(url, SCRUB_LOCK_KEY, "scrubber")),
        )

    def put_checked(self, digest: bytes, size_bytes: int, put: Callable[[], PutResult]) -> None:
        """Put bytes, which the caller has compared with their digest, and see that the store has these and no others.

        The store leaves alone what is there with the right size. What was there is read unless it was today; wrong
        bytes, marked or not, are written down, and `put` is called once more. Raises StoreError, ServiceError.
        """
        with translate_errors(), reading(self._engine) as pooled:
            row = read_object(raw_connection(pooled), digest)
        is_marked = row is not None and row.state == BytesState.DAMAGED
        checked = row.check_time if row is not None else None
        was_there = put().was_there
        # A clock may have been ahead when it was.
        is_known = checked is not None and abs(self._clock.now() - checked) < CHECKED_FOR
        if not is_marked and (not was_there or is_known):
            return
        checker = self._unpaced()
        finding = checker.look(digest, size_bytes)
        if finding is not Finding.RIGHT:
            if finding is not Finding.UNREADABLE:
                checker.accuse(digest, size_bytes, finding)
            # What the store has kept comes first: nothing is removed for bytes that it may not take after all.
            if checker.heal(digest, size_bytes, finding) is not Finding.RIGHT:
                self._put_anew(checker, digest, size_bytes, put, is_marked=is_marked)
        self.log.restored(digest, UPLOADED_AGAIN)
        self.log.checked(digest)

    def _put_anew(
        self, checker: Checker, digest: bytes, size_bytes: int, put: Callable[[], PutResult], *, is_marked: bool
    ) -> None:
        checker.clear(digest, size_bytes, is_marked=is_marked)
        put()
        # What is written down is for good: not before it was seen.
        if checker.look(digest, size_bytes) is not Finding.RIGHT:
            raise StoreRefusedError(f"the store does not give {object_key(digest)} as it was put 证据库写入后不符")

    def make_room(self, digest: bytes, size_bytes: int) -> bool:
        """Let right bytes be put where the store has others; False if it has them already. Raises StoreError."""
        return self._unpaced().clear(digest, size_bytes)

    def _unpaced(self) -> Checker:
        # One for each call: a checker is for one thread. Somebody waits for it, so that nothing is spread over time.
        return Checker(self._objects, self.log, self._clock, self._stopping, UNPACED_BYTES_PER_SECOND)

    def start(self) -> None:
        """Start the threads."""
        for work in self._works:
            work.start()

    def stop(self, grace_seconds: float) -> None:
        """Stop them; one that hangs in the store ends with the process, and begins anew at the next start."""
        self._stopping.set()
        for work in self._works:
            work.stopping.set()
        for work in self._works:
            work.stop(grace_seconds / THREADS)
