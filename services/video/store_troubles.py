"""What keeps the evidence store from doing its work, told apart for people: as the watch sees that asks it, and whoever
has something to store. A store that is full, or lets a key only read, answers every question as if all were well.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

import structlog

from services.common.clock import Clock
from services.video.object_store import (
    BucketMissingError,
    StoreError,
    StoreFullError,
    StoreRefusedError,
    StoreUnavailableError,
    WrongCredentialsError,
)


class StoreTrouble(Enum):
    """What it is; values as in `zhichao.video.v1.StoreTrouble`."""

    UNAVAILABLE = 1
    FULL = 2
    BUCKET_MISSING = 3
    WRONG_CREDENTIALS = 4
    REFUSED = 5


@dataclass(frozen=True, slots=True)
class Trouble:
    """A trouble, when it was seen last, and a sentence about it for operators, without secrets."""

    kind: StoreTrouble
    detail: str
    seen_time: datetime


_KINDS: Final[Mapping[type[StoreError], StoreTrouble]] = {
    StoreUnavailableError: StoreTrouble.UNAVAILABLE,
    StoreFullError: StoreTrouble.FULL,
    BucketMissingError: StoreTrouble.BUCKET_MISSING,
    WrongCredentialsError: StoreTrouble.WRONG_CREDENTIALS,
    StoreRefusedError: StoreTrouble.REFUSED,
}

_log = structlog.get_logger()


def trouble_of(error: StoreError) -> StoreTrouble | None:
    """Return what trouble an error tells of; None for one that is about a single object or upload."""
    return next((kind for type_, kind in _KINDS.items() if isinstance(error, type_)), None)


class StoreWrites:
    """Whether the store took the bytes that were to be stored last. Thread safe; of one replica."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._trouble: Trouble | None = None

    @property
    def trouble(self) -> Trouble | None:
        """Why the last bytes were not taken; None when they were, and before the first."""
        return self._trouble

    def refused(self, error: StoreError) -> None:
        """Note that bytes were not taken."""
        if (kind := trouble_of(error)) is None:
            return
        with self._lock:
            before, self._trouble = self._trouble, Trouble(kind, str(error), self._clock.now())
        # Once, and not for each of the uploads that are refused meanwhile.
        if before is None or before.kind is not kind:
            _log.error("store_write_refused", error=type(error).__name__, detail=str(error))

    def taken(self) -> None:
        """Note that bytes were taken."""
        with self._lock:
            before, self._trouble = self._trouble, None
        if before is not None:
            _log.info("store_write_taken", after=before.kind.name)

    def is_back(self) -> None:
        """Note that the store answers again: what it did not take while it was away says nothing any more.

        A full one may be full still, however well it answers.
        """
        with self._lock:
            if self._trouble is not None and self._trouble.kind is not StoreTrouble.FULL:
                self._trouble = None
