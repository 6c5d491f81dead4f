"""Tells readers when a log has grown: listens for the notification that every commit sends, from whichever replica."""

import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import psycopg
import sqlalchemy as sa
import structlog

from services.common.database import raw_connection
from services.journal.limits import TAIL_POLL_SECONDS
from services.journal.store import CHANNEL

RECONNECT_SECONDS: Final = 1.0
"""Pause before listening again after the database was lost; readers poll meanwhile."""

_log = structlog.get_logger()


class Tail:
    """Counts the growths of every log. A reader remembers a count, reads, and waits for a later one: nothing is
    missed.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        # Times that listening began anew, which counts as growth of every log, known or not.
        self._beginnings = 0
        self._counts: defaultdict[str, int] = defaultdict(int)
        self._total = 0
        self._grown = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal-tail", daemon=True)

    def start(self) -> None:
        """Start listening."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and wake all readers."""
        self._stopping.set()
        with self._grown:
            self._grown.notify_all()
        # The listener sits in a wait of its own; a notification ends it at once, a lost database after its poll.
        with suppress(psycopg.Error, sa.exc.SQLAlchemyError), self._engine.begin() as pooled:
            pooled.exec_driver_sql(f"NOTIFY {CHANNEL}")
        if self._thread.ident is not None:
            self._thread.join(TAIL_POLL_SECONDS * 2)

    def announce(self, origin: str) -> None:
        """Wake readers in this process without waiting for the notification."""
        with self._grown:
            self._counts[origin] += 1
            self._total += 1
            self._grown.notify_all()

    def count(self, origin: str | None) -> int:
        """Return how often this log, or any log, has grown since the start."""
        with self._grown:
            return self._current(origin)

    def wait(self, origin: str | None, seen: int, is_wanted: Callable[[], bool]) -> int:
        """Return the count once it differs from `seen`, or after TAIL_POLL_SECONDS, or when nobody wants it any more.

        Whoever makes `is_wanted()` false calls `wake`.
        """
        with self._grown:
            self._grown.wait_for(
                lambda: self._stopping.is_set() or not is_wanted() or self._current(origin) != seen, TAIL_POLL_SECONDS
            )
            return self._current(origin)

    def wake(self) -> None:
        """Let all who wait look whether they still want to."""
        with self._grown:
            self._grown.notify_all()

    def _current(self, origin: str | None) -> int:
        # Asking for a log that is not held must not make room for it.
        return self._beginnings + (self._total if origin is None else self._counts.get(origin, 0))

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listen()
            except (psycopg.Error, sa.exc.SQLAlchemyError) as error:
                _log.warning("journal_tail_interrupted", error=type(error).__name__)
                self._stopping.wait(RECONNECT_SECONDS)

    def _listen(self) -> None:
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as pooled:
            connection = raw_connection(pooled)
            try:
                connection.execute(f"LISTEN {CHANNEL}")
                # Growth between the last connection and this one was not announced: let everybody look.
                with self._grown:
                    self._beginnings += 1
                    self._grown.notify_all()
                while not self._stopping.is_set():
                    for notification in connection.notifies(timeout=TAIL_POLL_SECONDS, stop_after=1):
                        self.announce(notification.payload)
                connection.execute("UNLISTEN *")
            except psycopg.Error:
                # Not given back to the pool, which would fail to roll it back and log that as a fault.
                pooled.invalidate()
                raise
