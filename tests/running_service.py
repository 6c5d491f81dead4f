"""What tests do with any running service that has a journal: call it, look at its log and its tables, and carry entries
between platforms as relays do.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import Any, ClassVar

import grpc
import psycopg
from google.protobuf.message import Message

from services.common.rpc_client import connect, service_error
from services.journal.access_records import KIND as ACCESS_RECORD_KIND
from services.journal.entries import parse
from tests.access import Access
from tests.journal.raw_entries import append_raw
from tests.registry.harness import TIMEOUT_SECONDS, Refused, refused_by
from zhichao.journal.v1 import entry_pb2, journal_pb2
from zhichao.journal.v1.journal_pb2_grpc import JournalServiceStub


class SharedClock:
    """One time of day for several platforms that goes on only when a test says so."""

    def __init__(self, start: datetime) -> None:
        self.moment = start

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return time.monotonic()

    def advance(self, **duration: float) -> datetime:
        """Let time pass."""
        self.moment += timedelta(**duration)
        return self.moment


class RunningService:
    """One service on a socket and a database. Who makes it says how it starts and what it is made of."""

    stream: ClassVar[str]
    projected_tables: ClassVar[tuple[str, ...]]

    platform: str
    clock: SharedClock
    environment: dict[str, str]
    database_url: str
    address: str
    access: Access
    stub: Any
    journal: JournalServiceStub
    _running: ExitStack

    def channel(self, token: str) -> grpc.Channel:
        """Open a channel whose calls carry a token; it is closed at the stop."""
        return self._running.enter_context(connect(self.address, credentials=self.access.credentials(token)))

    def stop(self) -> None:
        """Stop it; what it keeps stays."""
        self._running.close()

    # Calls

    def call(self, method: str, request: Message, stub: Any = None) -> Any:
        """Call a method; a refusal is raised as ServiceError."""
        try:
            return getattr(stub or self.stub, method)(request, timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            raise service_error(error) from None

    def refusal(self, method: str, request: Any, stub: Any = None) -> Refused:
        """Call a method that must refuse and return the refusal."""
        return refused_by(stub or self.stub, method, request)

    # The journal

    def own_entries(self) -> list[entry_pb2.Entry]:
        """Return the entries of the own log but the first, which only names it, and who has read what."""
        return [entry for _, entry in self.numbered_entries() if entry.kind != ACCESS_RECORD_KIND][1:]

    def numbered_entries(self) -> list[tuple[int, entry_pb2.Entry]]:
        """Return all entries of the own log with their sequences."""
        request = journal_pb2.ReadEntriesRequest(origin=self.platform, first_sequence=1)
        entries = [
            content
            for answer in self.journal.ReadEntries(request, timeout=TIMEOUT_SECONDS)
            for content in answer.batch.entries
        ]
        parsed = [parse(content) for content in entries]
        return [(sequence, entry) for sequence, entry in enumerate(parsed, 1) if entry is not None]

    def append_raw(self, kind: str, payload: bytes, audience: str = "", schema: int = 1) -> None:
        """Write any entry into the own log and not into the tables, as a faulty or a newer release would."""
        now = self.clock.now()
        append_raw(
            self.environment, self.database_url, self.stream, now, kind, [payload], audience=audience, schema=schema
        )

    def parked(self) -> list[journal_pb2.ParkedEntry]:
        """Return what could not be projected."""
        answer = self.journal.ListParkedEntries(journal_pb2.ListParkedEntriesRequest(), timeout=TIMEOUT_SECONDS)
        return list(answer.parked_entries)

    def positions(self) -> Sequence[journal_pb2.Position]:
        """Return where all logs held here stand."""
        return self.journal.ListPositions(journal_pb2.ListPositionsRequest(), timeout=TIMEOUT_SECONDS).positions

    # The tables

    def query(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run one statement on the service's database."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return every row of every projected table, ordered."""
        return {
            table: self.query(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4")  # noqa: S608 - our own names
            for table in self.projected_tables
        }


def carry_up(lower: RunningService, upper: RunningService) -> None:
    """Push everything that the lower platform holds and the upper one does not, as relays do."""
    held = {position.origin: position.size for position in upper.positions()}
    for position in lower.positions():
        request = journal_pb2.ReadEntriesRequest(
            origin=position.origin, first_sequence=held.get(position.origin, 0) + 1
        )
        batches = [answer.batch for answer in lower.journal.ReadEntries(request, timeout=TIMEOUT_SECONDS)]
        requests: Iterable[Any] = [journal_pb2.AppendEntriesRequest(batch=batch) for batch in batches]
        list(upper.journal.AppendEntries(iter(requests), timeout=TIMEOUT_SECONDS))


def carry_down(upper: RunningService, lower: RunningService) -> int:
    """Follow what is addressed to the lower platform, as relays do; return how many batches came."""
    positions = lower.journal.ListAddressedPositions(
        journal_pb2.ListAddressedPositionsRequest(), timeout=TIMEOUT_SECONDS
    ).positions
    request = journal_pb2.ReadAddressedEntriesRequest(
        platform=lower.platform, positions=[one for one in positions if not one.is_own]
    )
    count = 0
    for answer in upper.journal.ReadAddressedEntries(request, timeout=TIMEOUT_SECONDS):
        assert not answer.HasField("refusal"), answer.refusal
        if answer.HasField("batch"):
            lower.journal.AppendAddressedEntries(
                journal_pb2.AppendAddressedEntriesRequest(batch=answer.batch), timeout=TIMEOUT_SECONDS
            )
            count += 1
    return count
