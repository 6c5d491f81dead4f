"""A connection that its owner keeps, for statements so short that the way through the pool would cost as much."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from services.common.database.engine import is_alive
from services.common.database.raw import Engine, RawConnection, driver_connection


class KeptConnection:
    """One autocommit connection beside the pool, made when it is first used and replaced when it has died.

    On an idle machine taking a connection from the pool and giving it back takes 0.14 ms, as long as a round trip to
    the database (docs/benchmarks.md, one weighing). Threads may share it: one uses it at a time, the others wait.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._guard = threading.Lock()
        self._connection: RawConnection | None = None
        self._is_closed = False

    @contextmanager
    def use(self) -> Iterator[RawConnection]:
        """Give the connection; each statement commits by itself. Raises what psycopg and SQLAlchemy raise."""
        with self._guard:
            connection = self._connection
            if connection is None or not is_alive(connection):
                connection = self._connect()
            is_sound = False
            try:
                yield connection
                is_sound = True
            finally:
                # After a failure its state is not worth finding out.
                if not is_sound:
                    self._drop()
        if self._is_closed:
            # Looked at once the guard is free: whoever closes sees the guard taken, or we see that it is closed.
            self.close()

    def close(self) -> None:
        """Close it, or have it closed by the one who uses it now, who may wait for a database that hangs."""
        self._is_closed = True
        if self._guard.acquire(blocking=False):
            self._drop()
            self._guard.release()

    def _connect(self) -> RawConnection:
        self._drop()
        pooled = self._engine.raw_connection()
        connection = driver_connection(pooled)
        # Not the pool's any more: only we close it, and it takes no place there.
        pooled.detach()
        connection.autocommit = True
        self._connection = connection
        return connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
