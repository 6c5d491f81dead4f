"""Which objects are looked at for locks that are missing although nothing has changed here: what a restored or copied
store, a former setting, or a fault of the store has left unlocked.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from services.common.database import RawConnection
from services.video.store import locks as store

ROUND_EVERY: Final = timedelta(days=1)
"""How soon after its beginning a round is followed by the next one; a round over many objects takes longer."""

Read = Callable[[RawConnection, bytes, int], Sequence[bytes]]
"""Returns digests after one, in order."""


@dataclass
class _Run:
    """A way through some digests, in order."""

    read: Read
    after: bytes = b""
    through: bytes | None = None


class LockSweep:
    """Goes round all objects that are held here, those under a hold first. From one thread.

    Each process begins at another object: so all are come to where no process lives for a whole round.
    """

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        self._begin_time: datetime | None = None

    def begin_again(self) -> None:
        """Begin a round now: it may be another store than before."""
        self._begin_time = None

    def next_page(self, connection: RawConnection, now: datetime, count: int) -> Sequence[bytes]:
        """Return the next objects to look at; none until the next round is due."""
        if self._begin_time is None or (not self._runs and now - self._begin_time >= ROUND_EVERY):
            begin = secrets.token_bytes(32)
            self._runs = [
                _Run(store.held_after),
                _Run(store.stored_after, after=begin),
                _Run(store.stored_after, through=begin),
            ]
            self._begin_time = now
        while self._runs:
            run = self._runs[0]
            found = run.read(connection, run.after, count)
            page = [digest for digest in found if run.through is None or digest <= run.through]
            if len(page) < count:
                self._runs.pop(0)
            else:
                run.after = page[-1]
            if page:
                return page
        return ()
