"""Enforcement services as they run in production, each on a socket and a database of its own, with a clock that tests
set, and the way of journals between them, step by step.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import psycopg
from google.protobuf.message import Message

from services.common.access.permissions import Role
from services.common.database import create_engine, raw_connection, upgrade
from services.common.rpc_client import connect, service_error
from services.common.settings import PlatformSettings, load
from services.enforcement.app import MIGRATIONS, STREAM, build
from services.enforcement.config import EnforcementConfig
from services.journal.entries import EntryBuilder, parse
from services.journal.log_writer import LogWriter
from services.journal.notes import new_private_key_pem
from services.journal.signing import load_signer
from tests.access import Access, service_token_file
from tests.conftest import Databases
from tests.registry.harness import START, TIMEOUT_SECONDS, Refused, refused_by
from zhichao.enforcement.v1 import service_pb2 as pb
from zhichao.enforcement.v1.service_pb2_grpc import EnforcementServiceStub
from zhichao.journal.v1 import entry_pb2
from zhichao.journal.v1 import journal_pb2 as journal
from zhichao.journal.v1.journal_pb2_grpc import JournalServiceStub

SCHEMA = "enforcement"
"""Name under which databases with the enforcement service's schema are borrowed."""

PROVINCE, CITY, COUNTY, NEIGHBOUR = "140000", "141000", "141025", "141024"
"""Two counties of one city."""
OTHER_CITY, OTHER_COUNTY = "141100", "141121"

ACCESS_RECORD_KIND = "zhichao.journal.v1.AccessRecord"
"""Kind of the entries that say who has read personal data."""


def migrate(database_url: str) -> None:
    """Make the enforcement service's schema in an empty database."""
    upgrade(database_url, MIGRATIONS)


class SharedClock:
    """One time of day for several platforms that goes on only when a test says so."""

    def __init__(self) -> None:
        self.moment = START

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return time.monotonic()

    def advance(self, **duration: float) -> datetime:
        """Let time pass."""
        self.moment += timedelta(**duration)
        return self.moment


class RunningEnforcement:
    """One enforcement service with its database, key and stubs; `close` stops it. A replica shares database and key."""

    def __init__(
        self,
        databases: Databases | None,
        directory: Path,
        platform: str,
        clock: SharedClock,
        registry_address: str,
        *,
        name: str = "enforcement",
        database_url: str | None = None,
        access: Access | None = None,
    ) -> None:
        self.platform = platform
        self.clock = clock
        self.directory = directory
        self.registry_address = registry_address
        self._databases = databases
        self._borrowed = database_url is None
        if database_url is None:
            assert databases is not None, "either a database or a maker of them"
            database_url = databases.borrow(SCHEMA, migrate)
        self.database_url = database_url
        key_file = directory / f"{platform}-enforcement.pem"
        if not key_file.exists():
            key_file.write_bytes(new_private_key_pem())
        self.access = access or Access(platform, clock=clock)
        token_file = Path(registry_address.removeprefix("unix:")).with_suffix(".service")
        self.environment = {
            "ZHICHAO_PLATFORM": platform,
            "ZHICHAO_SIGNING_KEY_FILE": str(key_file),
            "ZHICHAO_ENFORCEMENT_DATABASE_URL": self.database_url,
            "ZHICHAO_ENFORCEMENT_LISTEN": f"unix:{directory}/{platform}-{name}.sock",
            "ZHICHAO_ENFORCEMENT_REGISTRY_ADDRESS": registry_address,
            "ZHICHAO_PLAINTEXT_LOOPBACK": "true",
            "ZHICHAO_SERVICE_TOKEN_FILE": str(token_file if token_file.exists() else service_token_file(directory)),
        }
        self._running = ExitStack()
        self.start()

    def start(self) -> None:
        """Start it on its database."""
        with ExitStack() as starting:
            app = build(EnforcementConfig.load(self.environment), self.clock, self.access)
            app.start()
            starting.callback(app.stop, 2.0)
            self.address = app.server.address
            self._channels = starting
            # Who may do everything; a test that is about permissions takes somebody else.
            self.stub = self.stub_of(self.access.token)
            self.journal = JournalServiceStub(self.channel(self.access.token))
            self._running = starting.pop_all()

    def channel(self, token: str) -> grpc.Channel:
        """Open a channel whose calls carry a token; it is closed at the stop."""
        return self._channels.enter_context(connect(self.address, credentials=self.access.credentials(token)))

    def stub_of(self, token: str) -> EnforcementServiceStub:
        """Return a stub whose calls carry a token."""
        return EnforcementServiceStub(self.channel(token))

    def person(self, *roles: Role, name: str = "person-1", division: str = "") -> EnforcementServiceStub:
        """Return the stub of a person with roles, for the whole platform or a division."""
        return EnforcementServiceStub(
            self._running.enter_context(
                connect(
                    self.address,
                    credentials=self.access.credentials(self.access.person(*roles, name=name, division=division)),
                )
            )
        )

    def stop(self) -> None:
        """Stop it; the database stays."""
        self._running.close()

    def close(self) -> None:
        """Stop it and give its database back."""
        self.stop()
        if self._borrowed and self._databases is not None:
            self._databases.give_back(SCHEMA, self.database_url)

    def replica(self) -> "RunningEnforcement":
        """Run another service on the same database, with the same credentials."""
        return RunningEnforcement(
            None,
            self.directory,
            self.platform,
            self.clock,
            self.registry_address,
            name="replica",
            database_url=self.database_url,
            access=self.access,
        )

    # Calls

    def call(self, method: str, request: Message, stub: EnforcementServiceStub | None = None) -> Any:
        """Call a method; a refusal is raised as ServiceError."""
        try:
            return getattr(stub or self.stub, method)(request, timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            raise service_error(error) from None

    def refusal(self, method: str, request: Message, stub: EnforcementServiceStub | None = None) -> Refused:
        """Call a method that must refuse and return the refusal."""
        return refused_by(stub or self.stub, method, request)

    # The journal

    def own_entries(self) -> list[entry_pb2.Entry]:
        """Return the entries of the own log but the first, which only names it, and who has read what."""
        return [entry for _, entry in self.numbered_entries() if entry.kind != ACCESS_RECORD_KIND][1:]

    def numbered_entries(self) -> list[tuple[int, entry_pb2.Entry]]:
        """Return all entries of the own log with their sequences."""
        request = journal.ReadEntriesRequest(origin=self.platform, first_sequence=1)
        entries = [
            content
            for answer in self.journal.ReadEntries(request, timeout=TIMEOUT_SECONDS)
            for content in answer.batch.entries
        ]
        parsed = [parse(content) for content in entries]
        return [(sequence, entry) for sequence, entry in enumerate(parsed, 1) if entry is not None]

    def append_raw(self, kind: str, payload: bytes, audience: str = "", schema: int = 1) -> None:
        """Write any entry into the own log and not into the tables, as a faulty or a newer release would."""
        settings = load(PlatformSettings, self.environment)
        writer = LogWriter(self.platform, STREAM, load_signer(settings), settings.journal_digest)
        engine = create_engine(self.database_url, pool_size=2, application_name="test")
        try:
            with engine.begin() as pooled:
                connection = raw_connection(pooled)
                now = self.clock.now()
                entry = EntryBuilder(kind, schema, now, audience=audience).build(payload, writer.digester)
                writer.append(connection, writer.lock(connection), [entry], now)
        finally:
            engine.dispose()

    def parked(self) -> list[journal.ParkedEntry]:
        """Return what could not be projected."""
        answer = self.journal.ListParkedEntries(journal.ListParkedEntriesRequest(), timeout=TIMEOUT_SECONDS)
        return list(answer.parked_entries)

    def query(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run one statement on the service's database."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return every row of every projected table, ordered."""
        tables = ("directives", "directive_recipients", "directive_withdrawals", "directive_responses")
        return {table: self.query(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4") for table in tables}  # noqa: S608 - our own names

    def positions(self) -> Sequence[journal.Position]:
        """Return where all logs held here stand."""
        return self.journal.ListPositions(journal.ListPositionsRequest(), timeout=TIMEOUT_SECONDS).positions


def carry_up(lower: RunningEnforcement, upper: RunningEnforcement) -> None:
    """Push everything that the lower platform holds and the upper one does not, as relays do."""
    held = {position.origin: position.size for position in upper.positions()}
    for position in lower.positions():
        request = journal.ReadEntriesRequest(origin=position.origin, first_sequence=held.get(position.origin, 0) + 1)
        batches = [answer.batch for answer in lower.journal.ReadEntries(request, timeout=TIMEOUT_SECONDS)]
        requests = [journal.AppendEntriesRequest(batch=batch) for batch in batches]
        list(upper.journal.AppendEntries(iter(requests), timeout=TIMEOUT_SECONDS))


def carry_down(upper: RunningEnforcement, lower: RunningEnforcement) -> int:
    """Follow what is addressed to the lower platform, as relays do; return how many batches came."""
    positions = lower.journal.ListAddressedPositions(
        journal.ListAddressedPositionsRequest(), timeout=TIMEOUT_SECONDS
    ).positions
    request = journal.ReadAddressedEntriesRequest(
        platform=lower.platform, positions=[one for one in positions if not one.is_own]
    )
    count = 0
    for answer in upper.journal.ReadAddressedEntries(request, timeout=TIMEOUT_SECONDS):
        assert not answer.HasField("refusal"), answer.refusal
        if answer.HasField("batch"):
            lower.journal.AppendAddressedEntries(
                journal.AppendAddressedEntriesRequest(batch=answer.batch), timeout=TIMEOUT_SECONDS
            )
            count += 1
    return count


@contextmanager
def watching(
    service: RunningEnforcement, request: pb.WatchInboxRequest, stub: EnforcementServiceStub | None = None
) -> Iterator[Iterator[pb.WatchInboxResponse]]:
    """Watch the inbox; the watch ends with the block."""
    call = (stub or service.stub).WatchInbox(request, timeout=TIMEOUT_SECONDS)
    try:
        yield call
    finally:
        call.cancel()
