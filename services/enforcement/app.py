"""Puts the enforcement service together: the only place where its parts meet."""

from contextlib import ExitStack

from services.common.access.mounting import AppAccess, ServiceAccess, registry_opener, service_tokens
from services.common.access.store import AccessStore
from services.common.clock import Clock, SystemClock
from services.common.database import check, create_engine, translate_errors, upgrade
from services.common.metrics import Metrics
from services.common.metrics_server import MetricsServer
from services.common.rpc_server import RpcServer
from services.enforcement import kinds, store
from services.enforcement.config import EnforcementConfig
from services.enforcement.handlers_issuing import IssuingHandlers
from services.enforcement.handlers_reading import ReadingHandlers
from services.enforcement.handlers_responding import RespondingHandlers
from services.enforcement.holding import Holding
from services.enforcement.platforms import PlatformRegister
from services.enforcement.projection import EnforcementProjection
from services.enforcement.servicer import EnforcementServicer
from services.journal.entry_writer import EntryWriter
from services.journal.mounting import JournalParts
from services.journal.signing import load_signer
from zhichao.enforcement.v1 import service_pb2, service_pb2_grpc

STREAM = "enforcement"
MIGRATIONS = "services.enforcement.migrations"


class EnforcementApp:
    """One enforcement service, not started yet. `server.address` tells where it listens once it is."""

    name = STREAM

    def __init__(self, config: EnforcementConfig, clock: Clock, access: AppAccess | None) -> None:
        platform, settings = config.platform, config.service
        self._config = config
        self._engine = create_engine(
            settings.database_url, pool_size=settings.database_pool_size, application_name=f"zhichao-{STREAM}"
        )
        self.metrics = Metrics(STREAM, platform.platform)
        self.metrics_server = MetricsServer(self.metrics, settings.metrics_listen)
        open_registry = registry_opener(platform, settings.registry_address, STREAM)
        self._access = access or ServiceAccess.build(
            platform, service_tokens(platform), open_registry, clock, AccessStore(self._engine)
        )
        control = self._access.control
        holding = Holding(platform.platform, control.knowledge)
        projection = EnforcementProjection()
        self._journal = JournalParts.build(
            self._engine,
            platform.platform,
            STREAM,
            load_signer(platform),
            platform.journal_digest,
            projection,
            clock,
            self.metrics,
            divisions=holding.divisions,
            is_recovering=platform.recovering,
        )
        entries = EntryWriter(
            self._engine,
            self._journal.writer,
            self._journal.tail.announce,
            projection,
            kinds.SCHEMA,
            store.lock_inbox,
        )
        servicer = EnforcementServicer(
            IssuingHandlers(self._engine, entries, holding, control, PlatformRegister(open_registry).read, clock),
            RespondingHandlers(entries, holding, clock),
            ReadingHandlers(self._engine, holding, self._journal.tail, clock),
            clock,
        )
        self.server = RpcServer.for_service(
            STREAM, platform, settings, control, self._journal.access_recorder, metrics=self.metrics
        )
        self.server.add(
            lambda server: service_pb2_grpc.add_EnforcementServiceServicer_to_server(servicer, server),
            service_pb2.DESCRIPTOR.services_by_name["EnforcementService"].full_name,
        )
        self._journal.register(self.server)
        self._started = ExitStack()

    def start(self) -> None:
        """Bring the schema up to date or check it, begin the log, follow the registry's access, then serve.

        Raises SchemaError, LogIdentityError, ServiceError(DATABASE_UNAVAILABLE), ListenError; nothing is left running
        then.
        """
        with ExitStack() as starting:
            starting.callback(self._engine.dispose)
            self.metrics_server.start()
            starting.callback(self.metrics_server.stop)
            migrate = upgrade if self._config.platform.auto_migrate else check
            with translate_errors():
                migrate(self._config.service.database_url, MIGRATIONS)
            self._journal.start()
            starting.callback(self._journal.stop)
            self._access.start()
            starting.callback(self._access.stop)
            self.server.start()
            self._started = starting.pop_all()

    def stop(self, grace_seconds: float) -> None:
        """Stop in reverse: let running calls finish, then the follower, the journal, the connections."""
        with self._started:
            # Screens that follow the inbox wait on the tail; the server ends their calls and wakes them.
            self.server.stop(grace_seconds)


def build(config: EnforcementConfig, clock: Clock | None = None, access: AppAccess | None = None) -> EnforcementApp:
    """Build an enforcement service from its settings; nothing is started and the database is not touched.

    `access` takes the place of what the registry says of it. Raises SettingsError for settings that cannot work, such
    as a key file that is none.
    """
    return EnforcementApp(config, clock or SystemClock(), access)
