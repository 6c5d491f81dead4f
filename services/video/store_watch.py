"""Whether the evidence store is there, asked regularly and before anybody needs it: for status, figures and the log.

A bucket is made only where nothing was ever stored: one that has vanished, or is misspelt, must not be replaced by an
empty one without a word.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from services.common.clock import Clock
from services.common.database import Engine, raw_connection, reading, translate_errors
from services.video.object_store import BucketMissingError, ObjectStore, StoreError
from services.video.store import keeping as store
from services.video.store_troubles import StoreTrouble, StoreWrites, Trouble, trouble_of

CHECK_SECONDS: Final = 15.0
"""How often the store is asked: one small request, and an outage is on the screen before somebody calls."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class StoreStanding:
    """What was found last."""

    is_reachable: bool
    check_time: datetime | None = None
    trouble: Trouble | None = None
    """Why it is not reachable; None before the first time, too."""


class StoreWatch:
    """One step asks once. Every replica asks for itself: each has its own way to the store."""

    def __init__(self, engine: Engine, objects: ObjectStore, clock: Clock, writes: StoreWrites) -> None:
        self._engine = engine
        self._objects = objects
        self._clock = clock
        self._writes = writes
        # Replaced whole: read from other threads.
        self.standing = StoreStanding(is_reachable=False)

    @property
    def trouble(self) -> Trouble | None:
        """What keeps the store from doing its work: it does not answer as it should, or takes no bytes."""
        return self.standing.trouble or self._writes.trouble

    def step(self) -> float:
        """Ask the store, make its bucket if it is new, and return the seconds until the next time."""
        before = self.standing
        try:
            self._check()
        except StoreError as error:
            now = self._clock.now()
            trouble = Trouble(trouble_of(error) or StoreTrouble.REFUSED, str(error), now)
            self.standing = StoreStanding(False, now, trouble)
            if before.trouble is None or before.trouble.kind is not trouble.kind:
                _log.error("store_away", error=type(error).__name__, detail=str(error), **self._address())
        else:
            if not before.is_reachable:
                self._writes.is_back()
            self.standing = StoreStanding(True, self._clock.now())
            if not before.is_reachable:
                _log.info("store_reached", **self._address())
        return CHECK_SECONDS

    def _check(self) -> None:
        try:
            self._objects.check()
        except BucketMissingError:
            with translate_errors(), reading(self._engine) as pooled:
                if store.has_objects(raw_connection(pooled)):
                    raise
            facts = self._objects.ensure_bucket()
            _log.info("bucket_made", versions=facts.is_versioned, object_lock=facts.has_object_lock, **self._address())

    def _address(self) -> dict[str, str]:
        address = self._objects.address
        return {"endpoint": address.endpoint, "bucket": address.bucket}
