"""Sends bytes to the store while they still come, so that an upload takes little longer than the store does. Whatever
goes wrong on the way, nothing is stored by it, and the bytes are put once more from the spool as if it had not been.
"""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import structlog

from services.common.clock import Clock
from services.video.growing_file import AbandonedError, GrowingFile
from services.video.object_store import ObjectStore, PutResult, StoreError
from services.video.retention import RetentionClass

AHEADS_MAX: Final = 8
"""Uploads that are sent on while they come, at once: each has a thread and one of the 32 connections to the store that
are kept (S3Connection), of which three quarters are left to all else."""

AHEAD_BYTES_MIN: Final = 2 << 20
"""Below, all bytes come with one or two messages, and there is nothing to gain."""

AHEAD_BYTES_MAX: Final = 64 << 20
"""Above, bytes go to the store in parts, each for itself (S3Writer), and the last of them come soon after."""

AHEAD_SECONDS_MAX: Final = 1.0
"""Begun when the rest is likely to come within this time: nobody gains when the terminal is what takes the time, and
its slow line would hold a request to the store for minutes."""

LOCK_MARGIN: Final = timedelta(minutes=1)
"""The store is told to keep the bytes so much longer than the manifest will say: its time is later by what the rest of
the upload takes, some seconds at most."""

_log = structlog.get_logger()


class StoringAhead:
    """Has the threads that send. Thread safe."""

    def __init__(self, objects: ObjectStore, clock: Clock) -> None:
        self.objects = objects
        self.clock = clock
        self._free = threading.BoundedSemaphore(AHEADS_MAX)
        self._threads = ThreadPoolExecutor(AHEADS_MAX, thread_name_prefix="video-ahead")

    def of(
        self, digest: bytes, path: Path, size_bytes: int, content_type: str, retention_class: RetentionClass
    ) -> "AheadUpload":
        """Return what follows one upload; nothing is sent yet. A context manager, whose end gives up what is left."""
        return AheadUpload(self, digest, GrowingFile(path, size_bytes), content_type, retention_class)

    def stop(self) -> None:
        """Take no more. What is under way ends with the calls that it belongs to."""
        self._threads.shutdown(wait=False)

    def begin(
        self, digest: bytes, file: GrowingFile, content_type: str, retain_until: datetime
    ) -> "Future[PutResult | None] | None":
        """Begin to send; None while there are as many as may be. For AheadUpload."""
        if not self._free.acquire(blocking=False):
            return None
        try:
            return self._threads.submit(self._put, digest, file, content_type, retain_until)
        except RuntimeError:
            # Stopped meanwhile.
            self._free.release()
            return None

    def _put(self, digest: bytes, file: GrowingFile, content_type: str, retain_until: datetime) -> PutResult | None:
        try:
            return self.objects.put(digest, file, file.size_bytes, content_type=content_type, retain_until=retain_until)
        except (AbandonedError, StoreError) as error:
            # It is put again if the upload comes to its end, and if that fails, too, the caller hears of it.
            _log.debug("storing_ahead_given_up", error=type(error).__name__)
            return None
        except Exception:  # noqa: BLE001 - nobody's upload fails because of what was only to make it faster
            _log.exception("storing_ahead_failed")
            return None
        finally:
            self._free.release()


class AheadUpload:
    """One upload that is sent on. Used by the thread of its call."""

    def __init__(
        self,
        owner: StoringAhead,
        digest: bytes,
        file: GrowingFile,
        content_type: str,
        retention_class: RetentionClass,
    ) -> None:
        self._owner = owner
        self._digest = digest
        self._file = file
        self._content_type = content_type
        self._retention_class = retention_class
        self._retain_until: datetime | None = None
        self._future: Future[PutResult | None] | None = None
        self._first: tuple[float, int] | None = None

    def came(self, received_bytes: int) -> None:
        """Tell that so many bytes are in the file; sending begins once the rest is near."""
        if self._future is not None:
            self._file.came(received_bytes)
        elif AHEAD_BYTES_MIN <= self._file.size_bytes <= AHEAD_BYTES_MAX and self._is_near(received_bytes):
            self._retain_until = self._retention_class.retain_until(self._owner.clock.now()) + LOCK_MARGIN
            self._file.came(received_bytes)
            self._future = self._owner.begin(self._digest, self._file, self._content_type, self._retain_until)

    def finish(self, retain_until: datetime) -> PutResult | None:
        """Let the last bytes go, and return what was stored; None where the bytes have to be put from the spool.

        Only once: whoever asks again wants them looked at again. So does who finds that they were there: what was there
        when the upload began may have been removed meanwhile, because it was wrong.
        """
        future, self._future = self._future, None
        if future is None or self._retain_until is None or self._retain_until < retain_until:
            self._file.abandon()
            return None
        self._file.approve()
        result = future.result()
        return None if result is None or result.was_there else result

    def _is_near(self, received_bytes: int) -> bool:
        now = time.monotonic()
        if self._first is None:
            # What was here before the call says nothing about how fast the rest comes.
            self._first = (now, received_bytes)
            return False
        began, before = self._first
        left = self._file.size_bytes - received_bytes
        return received_bytes > before and left * (now - began) <= AHEAD_SECONDS_MAX * (received_bytes - before)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give up what was not finished: the store gets less than it was promised, and keeps nothing of it."""
        self._file.abandon()
