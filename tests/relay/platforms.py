"""Whole platforms in one process: services that are nothing but a journal on PostgreSQL, and the real relay. Platforms
speak to each other by mutual TLS, their own services by the service token in plain text.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import grpc
import psycopg

from cli.pki.authority import Authority
from services.common.access.divisions import Divisions
from services.common.access.mounting import ServiceAccess
from services.common.access.tokens import ServiceTokens
from services.common.clock import Clock, SystemClock
from services.common.database import create_engine, raw_connection
from services.common.errors import ServiceError
from services.common.rpc_client import connect, service_error
from services.common.rpc_server import RpcServer
from services.common.settings import PlatformSettings, load
from services.journal.entries import EntryBuilder
from services.journal.mounting import JournalParts
from services.journal.notes import new_private_key_pem
from services.journal.signing import load_signer
from services.journal.store.addressed import ADDRESSED
from services.relay.app import RelayApp
from services.relay.config import RelayConfig
from services.relay.limits import LinkTimes
from tests.access import Access
from tests.certificates import new_authority, platform_files, platform_tls, tls_environment
from tests.conftest import Databases
from tests.journal.journals import NoteProjection, make_tables
from tests.journal.paper_log import KIND
from tests.relay.registry import FakeRegistry
from zhichao.journal.v1 import journal_pb2, journal_pb2_grpc
from zhichao.relay.v1 import relay_pb2, relay_pb2_grpc

WAIT_SECONDS = 30.0
"""Deadline of every wait; what is waited for takes milliseconds to a second."""

POLL_SECONDS = 0.005
"""How often a condition is looked at."""

TABLES = "relay-notes"
"""Name of the schema of these services among the test databases."""

FAST = LinkTimes(
    linger_seconds=0.3,
    turn_seconds=0.2,
    refused_seconds=0.3,
    stalled_seconds=0.4,
    answer_seconds=5.0,
    renewal_seconds=0.4,
    handshake_seconds=1.0,
    settled_seconds=0.5,
    backoff_seconds_min=0.02,
    backoff_seconds_max=0.2,
)
"""The times of a link, some fifty times shorter than real ones."""


@cache
def authority() -> Authority:
    """Return the authority of all platforms of this session."""
    return new_authority()


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """Wait until the condition is true and return what it returned; fail with `what` after the deadline."""
    ends_at = time.monotonic() + WAIT_SECONDS
    pause = threading.Event()
    while not (value := condition()):
        assert time.monotonic() < ends_at, f"{what} did not happen within {WAIT_SECONDS} s"
        pause.wait(POLL_SECONDS)
    return value


def refusal(call: Callable[[], Any]) -> tuple[str, ServiceError]:
    """Make a call that must be refused; return status and refusal."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code().name, service_error(error)
    raise AssertionError("the call was answered")


class JournalHost:
    """One service of a platform as far as the relay knows it."""

    def __init__(self, databases: Databases, directory: Path, settings: PlatformSettings, stream: str) -> None:
        self.stream = stream
        self.platform = settings.platform
        assert settings.service_token_file is not None
        # The tester may do everything; the relay comes with the service token.
        self.access = Access(settings.platform, tokens=ServiceTokens(settings.service_token_file))
        self._databases = databases
        self._signer = load_signer(settings)
        self.verifier_key = self._signer.verifier_key
        self.address = f"unix:{directory}/{settings.platform}-{stream}.sock"
        self._borrowed: list[str] = []
        self.database_url = self.make_new()
        # Which division lies below which, where the codes do not say it.
        self._parents: dict[str, str] = {}
        self._divisions = Divisions()
        # Whether it is told at its next start that its database was restored.
        self.is_recovering = False
        self._running = ExitStack()

    def start(self) -> None:
        """Start it on its database."""
        with ExitStack() as starting:
            self.engine = create_engine(self.database_url, pool_size=10, application_name=f"test-{self.stream}")
            starting.callback(self.engine.dispose)
            self._journal = JournalParts.build(
                self.engine,
                self.platform,
                self.stream,
                self._signer,
                "sha256",
                NoteProjection(),
                SystemClock(),
                divisions=lambda: self._divisions,
                is_recovering=self.is_recovering,
            )
            self._journal.start()
            starting.callback(self._journal.stop)
            self.server = RpcServer(self.stream, self.address, self.access.control)
            self._journal.register(self.server)
            self.server.start()
            starting.callback(self.server.stop, 1.0)
            # As a service: this one keeps no account of what persons read.
            credentials = self.access.credentials(self.access.service_token)
            channel = starting.enter_context(connect(self.address, credentials=credentials))
            self.stub = journal_pb2_grpc.JournalServiceStub(channel)
            self._running = starting.pop_all()

    def place(self, division: str, parent: str) -> None:
        """Learn that a division lies below another one than its code says."""
        self._parents[division] = parent
        self._divisions = Divisions(self._parents)

    def stop(self) -> None:
        """Stop it; the database stays. May be called again."""
        self._running.close()

    def restart(self) -> None:
        """Stop it and start it again."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop it and give its databases back."""
        self.stop()
        for url in self._borrowed:
            self._databases.give_back(TABLES, url)

    def back_up(self) -> str:
        """Copy the database of the stopped service; return the copy's URL."""
        name = psycopg.conninfo.conninfo_to_dict(self.database_url)["dbname"]
        self._borrowed.append(self._databases.create(str(name)))
        return self._borrowed[-1]

    def make_new(self) -> str:
        """Make an empty database, as after the loss of a disk."""
        self._borrowed.append(self._databases.borrow(TABLES, make_tables))
        return self._borrowed[-1]

    def move_to(self, database_url: str) -> str:
        """Go on with another database while the service is stopped; return the URL of the one before."""
        before, self.database_url = self.database_url, database_url
        return before

    def write(self, *payloads: bytes, audience: str = "") -> int:
        """Write entries of its own in one transaction, addressed to a division or nobody; return the new size."""
        writer = self._journal.writer
        now = datetime.now(UTC)
        with self.engine.begin() as pooled:
            connection = raw_connection(pooled)
            head = writer.lock(connection)
            entries = EntryBuilder(KIND, 1, now, audience=audience).build_all(list(payloads), writer.digester)
            writer.append(connection, head, entries, now)
        self._journal.tail.announce(self.platform)
        if audience:
            self._journal.tail.announce(ADDRESSED)
        return head.size + len(payloads)

    def write_many(self, count: int, *, per_batch: int = 1_000, size: int = 100) -> int:
        """Write numbered entries; return the new size."""
        written = 0
        for first in range(0, count, per_batch):
            numbers = range(first, min(first + per_batch, count))
            written = self.write(*[f"{self.platform}/{number}/".encode().ljust(size, b".") for number in numbers])
        return written

    def position(self, origin: str) -> journal_pb2.Position | None:
        """Return where a log stands here, or None."""
        answer = self.stub.ListPositions(journal_pb2.ListPositionsRequest(origin=origin), timeout=WAIT_SECONDS)
        return answer.positions[0] if answer.positions else None

    def size(self, origin: str) -> int:
        """Return how many entries of a log are held here."""
        held = self.position(origin)
        return held.size if held else 0

    def entries(self, origin: str) -> list[bytes]:
        """Return all entries of a log as they are held here."""
        request = journal_pb2.ReadEntriesRequest(origin=origin, first_sequence=1)
        answers = self.stub.ReadEntries(request, timeout=WAIT_SECONDS)
        return [entry for answer in answers for entry in answer.batch.entries]

    def notes(self, origin: str) -> list[tuple[int, bytes]]:
        """Return what was projected of a log, ordered."""
        with psycopg.connect(self.database_url) as connection:
            rows = connection.execute(
                "SELECT sequence, payload FROM notes WHERE origin = %s ORDER BY sequence", (origin,)
            ).fetchall()
        return [(sequence, bytes(payload)) for sequence, payload in rows]

    def checkpoint(self, origin: str) -> str:
        """Return the newest checkpoint of a log with all signatures known here."""
        request = journal_pb2.GetCheckpointRequest(origin=origin)
        return self.stub.GetCheckpoint(request, timeout=WAIT_SECONDS).checkpoint


class Host(Protocol):
    """What a platform needs of a service, real or not."""

    stream: str
    address: str

    def start(self) -> None: ...

    def close(self) -> None: ...


class Platform:
    """A platform: its services and its relay. Nothing runs before `start`."""

    def __init__(
        self,
        databases: Databases,
        directory: Path,
        code: str,
        *,
        upstream: str | None = None,
        streams: Sequence[str] = ("registry", "weighing"),
        fakes: Sequence[Host] = (),
        times: LinkTimes = FAST,
        bandwidth: str = "",
        clock: Clock | None = None,
    ) -> None:
        self.code = code
        self._bandwidth = bandwidth
        self._clock = clock or SystemClock()
        self.upstream = upstream
        self._times = times
        key_file = directory / f"{code}.pem"
        if not key_file.exists():
            key_file.write_bytes(new_private_key_pem())
        self._directory = directory
        self.tls_directory = directory / f"{code}-tls"
        platform_files(self.tls_directory, authority(), code)
        self.registry = FakeRegistry(directory, code)
        self._environment = {
            "ZHICHAO_PLATFORM": code,
            "ZHICHAO_SIGNING_KEY_FILE": str(key_file),
            "ZHICHAO_SERVICE_TOKEN_FILE": str(self.registry.token_file),
            "ZHICHAO_PLAINTEXT_LOOPBACK": "true",
            **tls_environment(self.tls_directory),
        }
        settings = load(PlatformSettings, self._environment)
        self._settings = settings
        self.services = {stream: JournalHost(databases, directory, settings, stream) for stream in streams}
        self._hosts: dict[str, Host] = {**self.services, **{fake.stream: fake for fake in fakes}}
        # Where platforms below connect: a fixed port, so that a relay that restarts is found again.
        self.address = "127.0.0.1:0"
        # Beside what the platform needs, for the next start of the relay.
        self.settings: dict[str, str] = {}
        self._relay: ExitStack | None = None

    def __getitem__(self, stream: str) -> JournalHost:
        return self.services[stream]

    def start(self) -> None:
        """Start services and relay."""
        self.start_services()
        self.start_relay()

    def start_services(self) -> None:
        """Start the services."""
        for host in self._hosts.values():
            host.start()

    def start_relay(self) -> None:
        """Start the relay, on the port that it had before."""
        addresses = {f"ZHICHAO_RELAY_{stream.upper()}_ADDRESS": host.address for stream, host in self._hosts.items()}
        upstream = {"ZHICHAO_RELAY_UPSTREAM": self.upstream} if self.upstream else {}
        environment = self._environment | addresses | upstream
        environment["ZHICHAO_RELAY_LISTEN"] = "127.0.0.1:0"
        environment["ZHICHAO_RELAY_PEER_LISTEN"] = self.address
        environment["ZHICHAO_RELAY_BANDWIDTH"] = self._bandwidth
        environment |= self.settings
        with ExitStack() as starting:
            self.registry.start()
            starting.callback(self.registry.stop)
            access = ServiceAccess.build(self._settings, self.registry.tokens, self.registry.open_channel, self._clock)
            self.app = RelayApp(RelayConfig.load(environment), self._clock, self._times, access)
            self.app.start()
            starting.callback(self.app.stop, 1.0)
            assert self.app.peer_server is not None
            self.address = self.app.peer_server.address
            channel = starting.enter_context(connect(self.app.server.address, credentials=self.registry.viewer()))
            self.stub = relay_pb2_grpc.RelayServiceStub(channel)
            self._relay = starting.pop_all()
        if self.registry.may_say.is_set():
            eventually(lambda: access.control.knowledge.is_known, f"what the registry of {self.code} says")

    def stop_relay(self) -> None:
        """Stop the relay."""
        if self._relay is not None:
            self._relay.close()
            self._relay = None

    def restart_relay(self) -> None:
        """Stop the relay and start it again."""
        self.stop_relay()
        self.start_relay()

    def close(self) -> None:
        """Stop everything and remove the databases."""
        self.stop_relay()
        for host in self._hosts.values():
            host.close()

    def place(self, division: str, parent: str) -> None:
        """Record that a division lies below another one than its code says; a platform directly below is registered."""
        self.registry.place(division, parent)
        self.registry.register(division, upstream=parent)
        for service in self.services.values():
            service.place(division, parent)

    def open_as_peer(self, code: str) -> grpc.Channel:
        """Open a channel to its peer port with the certificate of another platform; the caller closes it."""
        tls = platform_tls(self._directory / f"{code}-peer", authority(), code)
        return connect(self.address, tls=tls)

    def status(self) -> relay_pb2.GetRelayStatusResponse:
        """Return the status of its relay."""
        return self.stub.GetRelayStatus(relay_pb2.GetRelayStatusRequest(), timeout=WAIT_SECONDS)

    def state(self) -> str:
        """Return the state of its link upwards."""
        return relay_pb2.LinkState.Name(self.status().state).removeprefix("LINK_STATE_")

    def progress(self, stream: str, origin: str) -> relay_pb2.LogProgress | None:
        """Return how far one log has come."""
        found = [one for one in self.status().progress if (one.stream, one.origin) == (stream, origin)]
        return found[0] if found else None

    def wait_for_state(self, state: str) -> None:
        """Wait until the link upwards is in a state."""
        eventually(lambda: self.state() == state, f"state {state} of {self.code}")


def assert_same_log(upper: JournalHost, lower: JournalHost, origin: str) -> None:
    """Wait until the upper service holds what the lower one does, and check that it is the same, each entry once."""
    wanted = lower.position(origin)
    assert wanted is not None
    eventually(lambda: upper.size(origin) >= wanted.size, f"{wanted.size} entries of {origin} at {upper.platform}")
    held = upper.position(origin)
    assert held is not None
    assert (held.size, held.root, held.total_bytes) == (wanted.size, wanted.root, wanted.total_bytes)
    assert upper.entries(origin) == lower.entries(origin)
    assert [sequence for sequence, _ in upper.notes(origin)] == list(range(2, wanted.size + 1))
