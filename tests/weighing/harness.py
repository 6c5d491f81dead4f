"""A weighing service as it runs in production, on a socket of its own, beside a real registry, with a clock that tests
set.
"""

import json
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import grpc
import psycopg
from google.protobuf.message import Message

from services.common.access.tokens import ServiceTokens
from services.common.database import upgrade
from services.common.errors import ServiceError
from services.common.paging import filter_digest
from services.common.rpc_client import connect, service_error
from services.journal.entries import parse
from services.journal.notes import new_private_key_pem
from services.weighing.app import MIGRATIONS, STREAM, build
from services.weighing.config import WeighingConfig
from tests.access import Access, service_token_file
from tests.conftest import Databases
from tests.journal.raw_entries import append_raw
from tests.registry import examples
from tests.registry.calls import create
from tests.registry.harness import TIMEOUT_SECONDS, ManualClock, Refused, RunningRegistry
from zhichao.common.v1.refusal_pb2 import ErrorReason
from zhichao.journal.v1 import journal_pb2 as journal
from zhichao.journal.v1.journal_pb2_grpc import JournalServiceStub
from zhichao.weighing.v1 import service_pb2 as pb
from zhichao.weighing.v1 import weighing_pb2
from zhichao.weighing.v1.record_pb2 import WeighingRecord
from zhichao.weighing.v1.service_pb2_grpc import WeighingServiceStub

SCHEMA = "weighing"
"""Name under which databases with the weighing service's schema are borrowed."""

PLATFORM = "141025"

_POLL_SECONDS = 0.01


def migrate(database_url: str) -> None:
    """Make the weighing service's schema in an empty database."""
    upgrade(database_url, MIGRATIONS)


def register_site(registry: RunningRegistry, unit: str = "141025-001", **unit_fields: Any) -> None:
    """Register a source unit with one point, one scale and a certificate."""
    create(registry, examples.source_unit(source_unit_id=unit, **unit_fields))
    create(registry, examples.weighing_point(source_unit_id=unit))
    create(registry, examples.scale(source_unit_id=unit))
    create(registry, examples.verification_certificate(source_unit_id=unit))


@contextmanager
def registry_of_one_site(databases: Databases) -> Iterator[RunningRegistry]:
    """Run a registry of county 141025 with one site."""
    with tempfile.TemporaryDirectory(prefix="zc-") as directory:
        running = RunningRegistry(databases, Path(directory), PLATFORM)
        register_site(running)
        yield running
        running.close()


class RunningWeighing:
    """One weighing service with its database, key and stubs; `close` stops it. A replica shares database and key."""

    def __init__(
        self,
        databases: Databases | None,
        directory: Path,
        registry_address: str,
        platform: str = PLATFORM,
        *,
        name: str = "weighing",
        database_url: str | None = None,
        settings: dict[str, str] | None = None,
    ) -> None:
        self.platform = platform
        self.clock = ManualClock()
        self._databases = databases
        self._borrowed = database_url is None
        if database_url is None:
            assert databases is not None, "either a database or a maker of them"
            database_url = databases.borrow(SCHEMA, migrate)
        self.database_url = database_url
        key_file = directory / f"{platform}-weighing.pem"
        if not key_file.exists():
            key_file.write_bytes(new_private_key_pem())
        self.directory = directory
        self.registry_address = registry_address
        self.address = f"unix:{directory}/{platform}-{name}.sock"
        # A registry of the tests keeps it beside its socket; where there is none, any does.
        token_file = Path(registry_address.removeprefix("unix:")).with_suffix(".service")
        if not token_file.exists():
            token_file = service_token_file(directory)
        self.access = Access(platform, clock=self.clock, tokens=ServiceTokens(token_file))
        self.environment = {
            "ZHICHAO_PLATFORM": platform,
            "ZHICHAO_SIGNING_KEY_FILE": str(key_file),
            "ZHICHAO_WEIGHING_DATABASE_URL": self.database_url,
            "ZHICHAO_WEIGHING_LISTEN": self.address,
            "ZHICHAO_WEIGHING_REGISTRY_ADDRESS": registry_address,
            "ZHICHAO_PLAINTEXT_LOOPBACK": "true",
            "ZHICHAO_SERVICE_TOKEN_FILE": str(token_file),
            **(settings or {}),
        }
        self._running = ExitStack()
        self.start()

    def start(self) -> None:
        """Start it on its database."""
        with ExitStack() as starting:
            self.app = build(WeighingConfig.load(self.environment), self.clock, self.access)
            self.app.start()
            starting.callback(self.app.stop, 2.0)
            self.stub = WeighingServiceStub(starting.enter_context(self.connect()))
            self.journal = JournalServiceStub(starting.enter_context(self.connect(self.access.service_token)))
            self._running = starting.pop_all()

    def connect(self, token: str | None = None) -> grpc.Channel:
        """Open a channel with somebody's token, by default the tester's. Whoever opens it closes it."""
        return connect(self.app.server.address, credentials=self.access.credentials(token))

    def stop(self) -> None:
        """Stop it; the database stays."""
        self._running.close()

    def close(self) -> None:
        """Stop it and give its database back."""
        self.stop()
        if self._borrowed and self._databases is not None:
            self._databases.give_back(SCHEMA, self.database_url)

    def replica(self, name: str = "replica") -> "RunningWeighing":
        """Run another service on the same database."""
        return RunningWeighing(
            None, self.directory, self.registry_address, self.platform, name=name, database_url=self.database_url
        )

    def connection(self) -> psycopg.Connection[Any]:
        """Open a connection of the test's own to the service's database."""
        return psycopg.connect(self.database_url, autocommit=True)

    def query(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run one statement on the service's database."""
        with self.connection() as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    # Calls

    def call(self, method: str, request: Message, timeout: float = TIMEOUT_SECONDS) -> Any:
        """Call a method; a refusal is raised as ServiceError."""
        try:
            return getattr(self.stub, method)(request, timeout=timeout)
        except grpc.RpcError as error:
            raise service_error(error) from None

    def refusal(self, method: str, request: Message) -> Refused:
        """Call a method that must refuse and return the refusal."""
        try:
            answer = getattr(self.stub, method)(request, timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            return refused(error)
        raise AssertionError(f"{method} was not refused: {answer}")

    def record(self, message: WeighingRecord) -> pb.Recorded:
        """Record one weighing."""
        answer: pb.RecordWeighingResponse = self.call("RecordWeighing", pb.RecordWeighingRequest(record=message))
        return answer.recorded

    def refused_record(self, message: WeighingRecord) -> Refused:
        """Send a record that must be refused."""
        return self.refusal("RecordWeighing", pb.RecordWeighingRequest(record=message))

    def record_all(self, batch: Iterable[WeighingRecord]) -> list[pb.RecordResult]:
        """Record a batch."""
        answer: pb.RecordWeighingsResponse = self.call("RecordWeighings", pb.RecordWeighingsRequest(records=batch))
        return list(answer.results)

    def stream(self, requests: Iterable[Sequence[WeighingRecord]]) -> Any:
        """Open a stream of batches."""
        messages = (pb.StreamWeighingsRequest(records=batch) for batch in requests)
        return self.stub.StreamWeighings(messages, timeout=TIMEOUT_SECONDS)

    def list_all(self, page_size: int = 0, **narrow: Any) -> list[pb.HeldWeighing]:
        """Read all pages of a list."""
        found: list[pb.HeldWeighing] = []
        token = ""
        while True:
            answer = self.call(
                "ListWeighings",
                pb.ListWeighingsRequest(filter=pb.WeighingFilter(**narrow), page_size=page_size, page_token=token),
            )
            found += answer.held_weighings
            token = answer.next_page_token
            if not token:
                return found

    def day_totals(self, page_size: int = 0, **narrow: Any) -> list[pb.DayTotal]:
        """Read all pages of the day totals."""
        found: list[pb.DayTotal] = []
        token = ""
        while True:
            request = pb.ListDayTotalsRequest(page_size=page_size, page_token=token, **narrow)
            answer = self.call("ListDayTotals", request)
            found += answer.day_totals
            token = answer.next_page_token
            if not token:
                return found

    def conflicts(self, page_size: int = 0, **narrow: Any) -> list[pb.HeldWeighingConflict]:
        """Read all pages of the conflicting submissions."""
        found: list[pb.HeldWeighingConflict] = []
        token = ""
        while True:
            request = pb.ListWeighingConflictsRequest(page_size=page_size, page_token=token, **narrow)
            answer = self.call("ListWeighingConflicts", request)
            found += answer.held_conflicts
            token = answer.next_page_token
            if not token:
                return found

    # The journal

    def position(self, origin: str = "") -> journal.Position:
        """Return where a log stands, by default the own one."""
        request = journal.ListPositionsRequest(origin=origin or self.platform)
        (position,) = self.journal.ListPositions(request, timeout=TIMEOUT_SECONDS).positions
        return position

    def batches(self, first_sequence: int = 1, records_max: int = 0) -> list[journal.EntryBatch]:
        """Read the own log."""
        request = journal.ReadEntriesRequest(
            origin=self.platform, first_sequence=first_sequence, batch_records_max=records_max
        )
        return [answer.batch for answer in self.journal.ReadEntries(request, timeout=TIMEOUT_SECONDS)]

    def entries(self, first_sequence: int = 1) -> list[bytes]:
        """Read the entries of the own log."""
        return [entry for batch in self.batches(first_sequence) for entry in batch.entries]

    def receive(self, batches: list[journal.EntryBatch]) -> list[journal.AppendEntriesResponse]:
        """Push batches of another platform's log into this service, as the relay does."""
        requests = [journal.AppendEntriesRequest(batch=batch) for batch in batches]
        return list(self.journal.AppendEntries(iter(requests), timeout=TIMEOUT_SECONDS))

    def parked(self) -> list[journal.ParkedEntry]:
        """Return the entries that could not be projected."""
        answer = self.journal.ListParkedEntries(journal.ListParkedEntriesRequest(), timeout=TIMEOUT_SECONDS)
        return list(answer.parked_entries)

    def append_raw(self, kind: str, payloads: Iterable[bytes], schema: int = 1) -> None:
        """Write any entries into the own log and not into the tables, as a faulty or a newer release would."""
        append_raw(self.environment, self.database_url, STREAM, self.clock.now(), kind, payloads, schema=schema)

    def weighings_in_journal(self) -> dict[int, weighing_pb2.Weighing]:
        """Return the weighings of the own log by their sequence."""
        return {
            sequence: weighing_pb2.Weighing.FromString(entry.payload)
            for sequence, entry in self.own_entries()
            if entry.kind == weighing_pb2.Weighing.DESCRIPTOR.full_name
        }

    def conflicts_in_journal(self) -> dict[int, weighing_pb2.WeighingConflict]:
        """Return the conflicting submissions of the own log by their sequence."""
        return {
            sequence: weighing_pb2.WeighingConflict.FromString(entry.payload)
            for sequence, entry in self.own_entries()
            if entry.kind == weighing_pb2.WeighingConflict.DESCRIPTOR.full_name
        }

    def own_entries(self) -> Iterator[tuple[int, Any]]:
        """Yield the entries of the own log with their sequences."""
        for sequence, content in enumerate(self.entries(), 1):
            entry = parse(content)
            assert entry is not None
            yield sequence, entry


def refused(error: grpc.RpcError) -> Refused:
    """Return what a call was refused with."""
    return Refused(cast("Any", error).code().name, service_error(error))


def reason_of(result: pb.RecordResult) -> str:
    """Return why an item of a batch was refused, or `recorded`, or `duplicate`."""
    if result.HasField("refusal"):
        return ErrorReason.Name(result.refusal.reason).removeprefix("ERROR_REASON_")
    return "duplicate" if result.recorded.is_duplicate else "recorded"


@contextmanager
def locked_head(weighing: RunningWeighing) -> Iterator[None]:
    """Hold the row of the own log, so that no transaction of the service can write."""
    with psycopg.connect(weighing.database_url) as connection:
        connection.execute("SELECT 1 FROM journal_logs WHERE is_own FOR UPDATE")
        yield
        connection.rollback()


def retry_delay(error: ServiceError) -> float:
    """Return the wait that a refusal asks for; it must ask for one."""
    assert error.retry_after_seconds is not None
    return error.retry_after_seconds


def forged(method: str, key_: list[Any], *values: Any) -> str:
    """Return a page token as the list would make it, with a key of the test's own."""
    content = json.dumps([1, filter_digest(method, *values), key_])
    return urlsafe_b64encode(content.encode()).decode().rstrip("=")
