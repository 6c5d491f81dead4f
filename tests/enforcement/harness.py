"""Enforcement services as they run in production, each on a socket and a database of its own, with a clock that tests
set.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from services.common.access.permissions import Role
from services.common.database import upgrade
from services.enforcement.app import MIGRATIONS, STREAM, build
from services.enforcement.config import EnforcementConfig
from services.journal.notes import new_private_key_pem
from tests.access import Access, service_token_file
from tests.conftest import Databases
from tests.registry.harness import TIMEOUT_SECONDS
from tests.running_service import RunningService, SharedClock
from zhichao.enforcement.v1 import service_pb2 as pb
from zhichao.enforcement.v1.service_pb2_grpc import EnforcementServiceStub
from zhichao.journal.v1.journal_pb2_grpc import JournalServiceStub

SCHEMA = "enforcement"
"""Name under which databases with the enforcement service's schema are borrowed."""

PROVINCE, CITY, COUNTY, NEIGHBOUR = "140000", "141000", "141025", "141024"
"""Two counties of one city."""
OTHER_CITY, OTHER_COUNTY = "141100", "141121"


def migrate(database_url: str) -> None:
    """Make the enforcement service's schema in an empty database."""
    upgrade(database_url, MIGRATIONS)


class RunningEnforcement(RunningService):
    """One enforcement service with its database, key and stubs; `close` stops it. A replica shares database and key."""

    stream = STREAM
    projected_tables = ("directives", "directive_recipients", "directive_withdrawals", "directive_responses")
    stub: EnforcementServiceStub

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
            # Channels that are opened now or later are closed before the service is.
            self._running = starting
            # Who may do everything; a test that is about permissions takes somebody else.
            self.stub = self.stub_of(self.access.token)
            self.journal = JournalServiceStub(self.channel(self.access.token))
            self._running = starting.pop_all()

    def stub_of(self, token: str) -> EnforcementServiceStub:
        """Return a stub whose calls carry a token."""
        return EnforcementServiceStub(self.channel(token))

    def person(self, *roles: Role, name: str = "person-1", division: str = "") -> EnforcementServiceStub:
        """Return the stub of a person with roles, for the whole platform or a division."""
        return self.stub_of(self.access.person(*roles, name=name, division=division))

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
