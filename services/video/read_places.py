"""Places for reads that hold memory: so many at once, and of these so many for one caller."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from services.common.request import request_context
from services.video import refusals_reading as refusals

READS_MAX: Final = 32
"""Reads of more than one message at once. Each holds up to four chunks of 1 MiB: one that lies ready, one that is sent,
its message, and what gRPC has of it; so all together stay near 128 MiB when every reader is slow."""

READS_EACH_MAX: Final = 8
"""Of these, of one caller: a browser opens six connections to one place, and one person who pauses all they look at
leaves three quarters to the others."""

SMALL_BYTES_MAX: Final = 128 * 1024
"""What has no more bytes than this is not counted among them: previews, and most photos are a message or less."""


class ReadPlaces:
    """Counts reads. Thread safe."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._taken: Counter[str] = Counter()

    @contextmanager
    def one(self, wanted_bytes: int) -> Iterator[None]:
        """Take a place for the caller of this thread, unless it reads little. Raises ServiceError TOO_MANY_REQUESTS."""
        if wanted_bytes <= SMALL_BYTES_MAX:
            yield
            return
        caller = request_context().principal.name
        with self._guard:
            if self._taken.total() >= READS_MAX:
                raise refusals.too_many_reads(READS_MAX)
            if self._taken[caller] >= READS_EACH_MAX:
                raise refusals.too_many_own_reads(READS_EACH_MAX)
            self._taken[caller] += 1
        try:
            yield
        finally:
            with self._guard:
                self._taken[caller] -= 1
                if not self._taken[caller]:
                    del self._taken[caller]
