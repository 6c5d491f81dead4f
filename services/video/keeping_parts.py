"""Puts together what is done for stored evidence, and starts and stops it: three threads that no call waits for."""

import threading
from datetime import timedelta
from typing import Final

from services.common.clock import Clock
from services.common.database import Engine
from services.video.background import BackgroundWork, OnlyOne
from services.video.checking import Checker
from services.video.config import VideoSettings
from services.video.custody_writer import CustodyWriter
from services.video.expiring import Expirer
from services.video.keeping import KEEPING_LOCK_KEY, SCRUB_LOCK_KEY, Keeping
from services.video.keeping_log import KeepingLog
from services.video.object_store import ObjectStore
from services.video.reconciling import Reconciler
from services.video.scrubber import RATE_WITHOUT, Scrubber
from services.video.store_watch import StoreWatch

THREADS: Final = 3
"""Watch, keeping, scrubbing: a stop shares its grace among them."""


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
    ) -> None:
        self._stopping = threading.Event()
        upload_keep = timedelta(hours=settings.upload_keep_hours)
        rate = settings.scrub_bytes_per_second or RATE_WITHOUT
        self.log = KeepingLog(custody, own, clock)
        self.watch = StoreWatch(engine, objects, clock)
        # A pace each: what reconciliation reads is little, and does not wait for the scrubber.
        scrubbing = Checker(objects, self.log, clock, self._stopping, rate)
        comparing = Checker(objects, self.log, clock, self._stopping, rate)
        self.scrubber = Scrubber(engine, scrubbing, self.log, clock, is_scrubbing=settings.scrub_bytes_per_second > 0)
        self.expirer = Expirer(engine, objects, self.log, clock, self._stopping)
        self.reconciler = Reconciler(engine, objects, comparing, self.log, own, clock, self._stopping)
        self.keeping = Keeping(engine, objects, self.expirer, self.reconciler, clock, upload_keep)
        url = settings.database_url
        self._works = (
            BackgroundWork("store-watch", self.watch.step),
            BackgroundWork("keeping", self.keeping.step, OnlyOne(url, KEEPING_LOCK_KEY, "keeping")),
            BackgroundWork("scrubber", self.scrubber.step, OnlyOne(url, SCRUB_LOCK_KEY, "scrubber")),
        )

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
