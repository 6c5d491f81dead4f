"""A registry as it runs in production, on a socket of its own, with a clock that tests set."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import grpc
import psycopg
from google.protobuf.message import Message

from services.common.access import tokens
from services.common.database import upgrade
from services.common.errors import ServiceError
from services.common.rpc_client import connect, service_error
from services.journal.access_records import KIND as ACCESS_RECORD_KIND
from services.journal.notes import new_private_key_pem
from services.registry.app import MIGRATIONS, STREAM, build
from services.registry.config import RegistryConfig
from services.registry.kinds import KINDS
from tests.conftest import Databases
from tests.journal.raw_entries import append_raw
from tests.registry import access_examples
from zhichao.access.v1 import service_pb2 as access_pb2
from zhichao.access.v1.service_pb2_grpc import AccessServiceStub
from zhichao.journal.v1 import journal_pb2 as journal
from zhichao.journal.v1.entry_pb2 import Entry
from zhichao.journal.v1.journal_pb2_grpc import JournalServiceStub
from zhichao.registry.v1.service_pb2_grpc import RegistryServiceStub

TIMEOUT_SECONDS = 20.0
"""Deadline of calls in tests; a call takes milliseconds."""

STOP_SECONDS = 5.0
"""For calls that run at a stop, such as a watch whose caller has just gone: on a busy machine more than moments."""

START = datetime(2025, 3, 1, 4, 0, tzinfo=UTC)
"""Where the clocks of tests begin: noon in China on 2025-03-01."""


SCHEMA = "registry"
"""Name under which databases with the registry's schema are borrowed."""


def migrate(database_url: str) -> None:
    """Make the registry's schema in an empty database."""
    upgrade(database_url, MIGRATIONS)


class ManualClock:
    """A clock that goes on by a second whenever it is read, so that no two changes have the same time.

    Its seconds since the start go on by a tenth with each reading, whatever is done to the time of day.
    """

    def __init__(self, start: datetime = START) -> None:
        self.moment = start
        self._seconds = 0.0

    def now(self) -> datetime:
        self.moment += timedelta(seconds=1)
        return self.moment

    def monotonic(self) -> float:
        self._seconds += 0.1
        return self._seconds


OPERATOR_ROLES = ("REGISTRAR", "STANDARDS_OFFICER", "SYSTEM_ADMINISTRATOR")
"""Roles of the person who calls in most tests: everything that the registry lets anybody do but issue credentials."""


def write_secret(path: Path) -> str:
    """Write a new secret into a file and return it."""
    secret = tokens.new_secret()
    path.write_text(f"{secret}\n")
    return secret


class RunningRegistry:
    """One registry with its database, key and stubs; `close` stops it.

    Its operator and its security administrator are issued credentials as on a new platform: by the bootstrap token.
    """

    def __init__(self, databases: Databases, directory: Path, platform: str, start: datetime = START) -> None:
        self.platform = platform
        self.clock = ManualClock(start)
        self.bootstrap_token = tokens.format_token("bootstrap", write_secret(directory / f"{platform}.bootstrap"))
        self.service_token = tokens.format_service_token(write_secret(directory / f"{platform}.service"))
        self.admin_token = self.operator_token = ""
        self._databases = databases
        self.database_url = databases.borrow(SCHEMA, migrate)
        key_file = directory / f"{platform}.pem"
        key_file.write_bytes(new_private_key_pem())
        self.environment = {
            "ZHICHAO_PLATFORM": platform,
            "ZHICHAO_SIGNING_KEY_FILE": str(key_file),
            "ZHICHAO_REGISTRY_DATABASE_URL": self.database_url,
            "ZHICHAO_REGISTRY_LISTEN": f"unix:{directory}/{platform}.sock",
            "ZHICHAO_PLAINTEXT_LOOPBACK": "true",
            "ZHICHAO_SERVICE_TOKEN_FILE": str(directory / f"{platform}.service"),
            "ZHICHAO_REGISTRY_BOOTSTRAP_TOKEN_FILE": str(directory / f"{platform}.bootstrap"),
        }
        self._running = ExitStack()
        self.start()

    def start(self) -> None:
        """Start it on its database."""
        with ExitStack() as starting:
            app = build(RegistryConfig.load(self.environment), self.clock)
            app.start()
            starting.callback(app.stop, STOP_SECONDS)
            self.address = app.server.address
            self._channels = starting
            if not self.admin_token:
                self._issue_first()
            operator = self.channel(self.operator_token)
            self.stub = RegistryServiceStub(operator)
            self.operator_journal = JournalServiceStub(operator)
            self.access = AccessServiceStub(self.channel(self.admin_token))
            self.journal = JournalServiceStub(self.channel(self.service_token))
            self._running = starting.pop_all()

    def _issue_first(self) -> None:
        """Appoint the security administrator, who appoints the operator; each comes from a file of the operator's."""
        first = AccessServiceStub(self.channel(self.bootstrap_token))
        self.admin_token = self._issue(first, "admin", "SECURITY_ADMINISTRATOR")
        admin = AccessServiceStub(self.channel(self.admin_token))
        self.operator_token = self._issue(admin, "operator", *OPERATOR_ROLES)

    def _issue(self, access: AccessServiceStub, credential_id: str, *roles: str) -> str:
        credential = access_examples.person(self.platform, *roles, credential_id=credential_id)
        request = access_pb2.CreateCredentialRequest(credential=credential)
        return str(access.CreateCredential(request, timeout=TIMEOUT_SECONDS).token)

    def channel(self, token: str) -> grpc.Channel:
        """Open a channel whose calls carry a token; none for an empty one. It is closed at the stop."""
        credentials = (lambda: tokens.bearer(token)) if token else None
        return self._channels.enter_context(connect(self.address, credentials=credentials))

    def stop(self) -> None:
        """Stop it; the database stays."""
        self._running.close()

    def close(self) -> None:
        """Stop it and give its database back."""
        self.stop()
        self._databases.give_back(SCHEMA, self.database_url)

    # Calls

    def call(self, method: str, request: Message, **metadata: str) -> Any:
        """Call a method; a refusal is raised as ServiceError."""
        headers = [(key.replace("_", "-"), value) for key, value in metadata.items()]
        try:
            return getattr(self.stub, method)(request, timeout=TIMEOUT_SECONDS, metadata=headers)
        except grpc.RpcError as error:
            raise service_error(error) from None

    def refusal(self, method: str, request: Message) -> "Refused":
        """Call a method that must refuse and return the refusal."""
        return refused_by(self.stub, method, request)

    # The journal

    def size(self) -> int:
        """Return the size of the own log."""
        answer = self.journal.ListPositions(journal.ListPositionsRequest(origin=self.platform), timeout=TIMEOUT_SECONDS)
        (position,) = answer.positions
        return int(position.size)

    def batches(self, first_sequence: int = 1, records_max: int = 0) -> list[journal.EntryBatch]:
        """Read the own log."""
        request = journal.ReadEntriesRequest(
            origin=self.platform, first_sequence=first_sequence, batch_records_max=records_max
        )
        return [answer.batch for answer in self.journal.ReadEntries(request, timeout=TIMEOUT_SECONDS)]

    def entries(self, first_sequence: int = 1) -> list[bytes]:
        """Read the entries of the own log."""
        return [entry for batch in self.batches(first_sequence) for entry in batch.entries]

    def changes(self) -> list[bytes]:
        """Read the entries of the own log but its access records: what has changed something."""
        return [entry for _, entry in self._changes()]

    def last_change(self) -> int:
        """Return the sequence of the newest entry that is no access record."""
        return self._changes()[-1][0]

    def _changes(self) -> list[tuple[int, bytes]]:
        kept = enumerate(self.entries(), 1)
        return [one for one in kept if Entry.FromString(one[1]).kind != ACCESS_RECORD_KIND]

    def receive(self, batches: list[journal.EntryBatch]) -> list[journal.AppendEntriesResponse]:
        """Push batches of another platform's log into this registry, as the relay does."""
        requests = [journal.AppendEntriesRequest(batch=batch) for batch in batches]
        return list(self.journal.AppendEntries(iter(requests), timeout=TIMEOUT_SECONDS))

    def append_raw(self, kind: str, payload: bytes, schema: int = 1) -> None:
        """Write any entry into the own log and not into the tables, as a faulty or a newer release would."""
        append_raw(self.environment, self.database_url, STREAM, self.clock.now(), kind, [payload], schema=schema)

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return every row of every table of resources, ordered."""
        return table_rows(self.database_url)


class Refused:
    """What a refused call ended with: the gRPC status as sent, and the refusal."""

    def __init__(self, status: str, error: ServiceError) -> None:
        self.status = status
        self.reason = error.reason
        self.message = error.message
        self.metadata = dict(error.metadata)
        self.fields = [violation.field for violation in error.field_violations]
        self.descriptions = {violation.field: violation.description for violation in error.field_violations}


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {TIMEOUT_SECONDS:g} s: {what}")
        threading.Event().wait(0.02)


def refused_by(stub: Any, method: str, request: Message) -> Refused:
    """Call a unary method that must refuse and return the refusal."""
    try:
        answer = getattr(stub, method)(request, timeout=TIMEOUT_SECONDS)
    except grpc.RpcError as error:
        return Refused(cast("Any", error).code().name, service_error(error))
    raise AssertionError(f"{method} was not refused: {answer}")


def table_rows(database_url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table of resources in a database, ordered."""
    with psycopg.connect(database_url) as connection:
        return {
            kind.table: connection.execute(
                f"SELECT * FROM {kind.table} ORDER BY origin, {', '.join(kind.key)}".encode()  # noqa: S608 - our own names
            ).fetchall()
            for kind in KINDS
        }
