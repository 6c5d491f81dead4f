"""Writes own entries and the rows that follow from them, in one transaction, one writer after another."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from services.common.database import Engine, RawConnection, raw_connection, translate_errors
from services.common.request import request_context
from services.journal.entries import EntryBuilder, Place
from services.journal.log_writer import LogWriter
from services.journal.projection import Projection


class EntryWriter:
    """The own log and the tables together.

    `lock` is taken at the beginning of each transaction, before that of the own log: what a writer has read after it
    stays as it is until the commit, as far as all writers take it. `schema` is the version of the meaning of payloads.
    """

    def __init__(
        self,
        engine: Engine,
        writer: LogWriter,
        announce: Callable[[str], None],
        projection: Projection,
        schema: int,
        lock: Callable[[RawConnection], object],
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._announce = announce
        self._projection = projection
        self._schema = schema
        self._lock = lock

    @contextmanager
    def writing(self, before: Callable[[RawConnection], object] | None = None) -> Iterator[RawConnection]:
        """Open a transaction that holds the lock, and tell readers once it is committed.

        `before` is called first in it, for what takes longer than other writers should wait.
        """
        with translate_errors(), self._engine.begin() as pooled:
            connection = raw_connection(pooled)
            if before is not None:
                before(connection)
            self._lock(connection)
            yield connection
        self._announce(self._writer.origin)

    def write(
        self,
        connection: RawConnection,
        kind: str,
        payload: bytes,
        now: datetime,
        audiences: Sequence[str] = ("",),
        *,
        actor: str | None = None,
    ) -> list[Place]:
        """Append one entry for each audience, or one that only goes up, write the rows, and return the places.

        `actor` names who did it where that is not the caller. Raises ServiceError RECOVERING, ENTRY_TOO_LARGE.
        """
        head = self._writer.lock(connection)
        request = request_context()
        who = request.principal.name if actor is None else actor
        added = [
            EntryBuilder(kind, self._schema, now, who, request.request_id, one).build(payload, self._writer.digester)
            for one in audiences
        ]
        places = self._writer.append(connection, head, added, now)
        # The same way as received entries, so that tables and journal cannot disagree.
        prepared = [
            (place.sequence, self._projection.prepare(place.origin, kind, payload, place.leaf)) for place in places
        ]
        self._projection.project(connection, self._writer.origin, prepared)
        return places
