"""The journal of one service on a real database, without servers: what most tests of the journal work on."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Any

import psycopg
import sqlalchemy as sa

from services.common.database import RawConnection, create_engine, raw_connection
from services.common.errors import ServiceError
from services.journal import store, tables
from services.journal.entries import EntryBuilder
from services.journal.log_writer import LogWriter
from services.journal.mounting import JournalParts
from services.journal.notes import Signer
from services.journal.projection import Unprojectable
from services.journal.reader import Batch
from services.journal.receiver import IncomingBatch, Received
from tests.journal.paper_log import KIND, NOW, STREAM, signer_of

WAIT_SECONDS = 20.0
"""Deadline of every wait; what is waited for takes milliseconds."""

TABLES = (
    "journal_logs",
    "journal_entries",
    "journal_nodes",
    "journal_checkpoints",
    "journal_parked",
    "journal_addressed",
    "journal_addressed_steps",
    "journal_addressed_logs",
    "journal_addressed_receipts",
    "journal_access_records",
    "notes",
)


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """Wait until the condition is true and return what it returned; fail with `what` after the deadline."""
    ends_at = time.monotonic() + WAIT_SECONDS
    pause = threading.Event()
    while not (value := condition()):
        assert time.monotonic() < ends_at, f"{what} did not happen within {WAIT_SECONDS} s"
        pause.wait(0.005)
    return value


def make_tables(url: str) -> None:
    """Make what a service's migrations would make."""
    metadata = sa.MetaData()
    tables.define(metadata)
    sa.Table(
        "notes",
        metadata,
        sa.Column("origin", sa.Text, primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.CheckConstraint("payload <> 'refused by the database'", name="notes_payload_check"),
    )
    engine = create_engine(url, pool_size=1, application_name="test")
    metadata.create_all(engine)
    engine.dispose()


class FixedClock:
    """A clock that is set by hand."""

    def __init__(self, now: datetime = NOW) -> None:
        self.time = now

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return time.monotonic()


class NoteProjection:
    """Keeps every payload under its place. Some payloads fail in the ways that an entry can fail."""

    def __init__(self, kinds: Mapping[str, int] = MappingProxyType({KIND: 1})) -> None:
        self.kinds = kinds
        self.calls: list[list[int]] = []
        self.before_project: Callable[[RawConnection], None] = lambda connection: None

    def prepare(self, origin: str, kind: str, payload: bytes, leaf: bytes) -> Any:
        if payload.startswith(b"unprojectable"):
            raise Unprojectable(payload.decode(errors="surrogateescape"))
        if payload == b"a fault in prepare":
            raise KeyError("plate of somebody")
        return payload

    def project(self, connection: RawConnection, origin: str, prepared: Sequence[tuple[int, Any]]) -> None:
        self.calls.append([sequence for sequence, _ in prepared])
        self.before_project(connection)
        if any(payload == b"a fault in project" for _, payload in prepared):
            raise KeyError("plate of somebody")
        if any(payload == b"too large for the database" for _, payload in prepared):
            # An index row over a third of a page: an OperationalError in psycopg's classes, yet the row's fault.
            connection.execute("CREATE TEMPORARY TABLE IF NOT EXISTS narrow (content text PRIMARY KEY)")
            connection.execute(
                "INSERT INTO narrow SELECT string_agg(md5(number::text), '') FROM generate_series(1, 1000) AS number"
            )
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO notes (origin, sequence, payload) VALUES (%s, %s, %s)",
                [(origin, sequence, payload) for sequence, payload in prepared],
            )


class Journal:
    """One platform's journal of one service. Nothing runs but what a test calls."""

    def __init__(
        self,
        url: str,
        platform: str,
        *,
        stream: str = STREAM,
        signer: Signer | None = None,
        algorithm: str = "sha256",
        pool_size: int = 4,
    ) -> None:
        self.url = url
        self.platform = platform
        self.stream = stream
        self.signer = signer or signer_of(platform)
        self.clock = FixedClock()
        self.projection = NoteProjection()
        self.engine = create_engine(url, pool_size=pool_size, application_name=f"test-{platform}")
        self.parts = JournalParts.build(
            self.engine, platform, stream, self.signer, algorithm, self.projection, self.clock
        )
        self.writer: LogWriter = self.parts.writer
        self.reader = self.parts.reader
        self.receiver = self.parts.receiver
        self.handlers = self.parts.handlers

    def close(self) -> None:
        self.engine.dispose()

    def begin(self, *, is_recovering: bool = False) -> "Journal":
        """Begin the own log; with `is_recovering` as after a restore."""
        with self.engine.begin() as pooled:
            self.writer.begin(raw_connection(pooled), NOW, is_recovering=is_recovering)
        return self

    def write(self, *payloads: bytes, audience: str = "") -> int:
        """Write notes of our own in one transaction; return the new size."""
        with self.engine.begin() as pooled:
            connection = raw_connection(pooled)
            head = self.writer.lock(connection)
            added = EntryBuilder(KIND, 1, NOW, audience=audience).build_all(list(payloads), self.writer.digester)
            self.writer.append(connection, head, added, NOW)
        self.parts.tail.announce(self.platform)
        return head.size + len(payloads)

    def write_many(self, count: int) -> int:
        """Write numbered notes in one transaction."""
        start = self.size(self.platform)
        return self.write(*[f"{self.platform}/{start + number}".encode() for number in range(count)])

    def receive(self, *batches: IncomingBatch) -> list[Received]:
        """Receive batches as one stream."""
        return list(self.receiver.receive_all(batches))

    def refusal(self, batch: IncomingBatch) -> ServiceError:
        """Receive a batch that must be refused and leave nothing behind; return why."""
        before = self.content()
        try:
            self.receive(batch)
        except ServiceError as error:
            assert self.content() == before, "a refused batch left something behind"
            return error
        raise AssertionError("the batch was accepted")

    def batches(self, origin: str, first: int = 1, records_max: int = 1_024) -> list[Batch]:
        """Read a log to its end."""
        read: list[Batch] = []
        while (batch := self.reader.read(origin, first, records_max)) is not None:
            read.append(batch)
            first = batch.last_sequence + 1
        return read

    def pull(self, other: "Journal", origin: str, records_max: int = 1_024) -> None:
        """Receive from another platform what it holds of a log and we do not."""
        self.receive(*map(incoming, other.batches(origin, self.size(origin) + 1, records_max)))

    def head(self, origin: str) -> store.LogHead | None:
        with self.engine.begin() as pooled:
            return store.read_head(raw_connection(pooled), origin)

    def size(self, origin: str) -> int:
        head = self.head(origin)
        return head.size if head else 0

    def entries(self, origin: str) -> list[bytes]:
        """Return the entries as they are stored; fails unless they are dense from 1."""
        rows = self.query("SELECT sequence, entry FROM journal_entries WHERE origin = %s ORDER BY sequence", origin)
        assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
        return [bytes(row[1]) for row in rows]

    def kept_sizes(self, origin: str) -> list[int]:
        """Return the sizes whose checkpoints are kept."""
        return [
            row[0] for row in self.query("SELECT size FROM journal_checkpoints WHERE origin = %s ORDER BY size", origin)
        ]

    def notes(self, origin: str) -> dict[int, bytes]:
        """Return what is projected."""
        rows = self.query("SELECT sequence, payload FROM notes WHERE origin = %s ORDER BY sequence", origin)
        return {row[0]: bytes(row[1]) for row in rows}

    def parked(self) -> list[tuple[int, str, str, str, int]]:
        """Return what is parked: sequence, kind, cause, detail, attempts."""
        return self.query("SELECT sequence, kind, cause, detail, attempt_count FROM journal_parked ORDER BY sequence")

    def query(self, statement: str, *values: Any) -> list[Any]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(statement.encode(), values).fetchall()

    def content(self) -> dict[str, list[Any]]:
        """Return everything that is stored."""
        return {table: self.query(f"SELECT * FROM {table} ORDER BY 1, 2, 3") for table in TABLES}  # noqa: S608 - constants of the test

    def empty(self) -> None:
        """Remove everything, as if the database were new."""
        with psycopg.connect(self.url) as connection:
            connection.execute(f"TRUNCATE {', '.join(TABLES)}".encode())
        self.receiver._heads.clear()

    def kill_connections(self) -> int:
        """Terminate this journal's connections on the server; return how many there were."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            rows = connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s",
                (f"test-{self.platform}",),
            ).fetchall()
        return len(rows)


def incoming(batch: Batch) -> IncomingBatch:
    """Return a batch that was read as one that arrives."""
    return IncomingBatch(batch.origin, batch.first_sequence, batch.entries, batch.checkpoint)


def assert_same_log(upper: Journal, lower: Journal, origin: str) -> None:
    """Check that both hold the same log: bytes, root, place."""
    one, other = upper.head(origin), lower.head(origin)
    assert one is not None
    assert other is not None
    assert (one.frontier, one.root, one.total_bytes) == (other.frontier, other.root, other.total_bytes)
    assert upper.entries(origin) == lower.entries(origin)


def read_nodes_of(journal: Journal, origin: str) -> Callable[[int, int, int], Sequence[bytes]]:
    """Return a reader of stored nodes that opens a transaction for each call."""

    def read(level: int, first_index: int, count: int) -> Sequence[bytes]:
        with journal.engine.begin() as pooled:
            return partial(store.read_nodes, raw_connection(pooled), origin)(level, first_index, count)

    return read
