"""Writes own entries and the rows that follow from them, in one transaction, one writer after another."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from services.common.database import Engine, RawConnection, raw_connection, translate_errors
from services.common.request import request_context
from services.enforcement import kinds, store
from services.enforcement.projection import EnforcementProjection
from services.journal.entries import EntryBuilder
from services.journal.log_writer import LogWriter


class EntryWriter:
    """The own log and the tables together.

    Writers take the inbox's lock and then that of the own log: what one has read in its transaction stays as it is
    until the commit.
    """

    def __init__(self, engine: Engine, writer: LogWriter, announce: Callable[[str], None]) -> None:
        self._engine = engine
        self._writer = writer
        self._announce = announce
        self._projection = EnforcementProjection()

    @contextmanager
    def writing(self) -> Iterator[RawConnection]:
        """Open a transaction that holds the inbox, and tell readers once it is committed."""
        with translate_errors(), self._engine.begin() as pooled:
            connection = raw_connection(pooled)
            store.lock_inbox(connection)
            yield connection
        self._announce(self._writer.origin)

    def write(
        self, connection: RawConnection, kind: str, payload: bytes, now: datetime, audiences: Sequence[str] = ("",)
    ) -> None:
        """Append one entry for each audience, or one that only goes up, and write the rows."""
        head = self._writer.lock(connection)
        request = request_context()
        added = [
            EntryBuilder(kind, kinds.SCHEMA, now, request.principal.name, request.request_id, one).build(
                payload, self._writer.digester
            )
            for one in audiences
        ]
        places = self._writer.append(connection, head, added, now)
        # The same way as received entries, so that tables and journal cannot disagree.
        prepared = [
            (place.sequence, self._projection.prepare(place.origin, kind, payload, place.leaf)) for place in places
        ]
        self._projection.project(connection, self._writer.origin, prepared)
