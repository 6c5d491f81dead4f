"""Puts the registry together: the only place where its parts meet."""

from contextlib import ExitStack

import structlog

from services.common.access.knowledge import AccessKnowledge
from services.common.clock import Clock, SystemClock
from services.common.database import check, create_engine, translate_errors, upgrade
from services.common.errors import ServiceError
from services.common.metrics import Metrics
from services.common.metrics_server import MetricsServer
from services.common.reasons import Reason
from services.common.request import RequestContext, use_request_context
from services.common.rpc_server import RpcServer
from services.journal.mounting import JournalParts
from services.journal.signing import load_signer
from services.registry import kinds, shipped
from services.registry.access_statement import AccessFeed
from services.registry.bootstrap import Bootstrap
from services.registry.config import RegistryConfig
from services.registry.handlers import RegistryHandlers
from services.registry.handlers_access import AccessHandlers
from services.registry.handlers_credentials import CredentialHandlers
from services.registry.metrics import add_access_metrics
from services.registry.own_access import OwnAccess
from services.registry.projection import RegistryProjection
from services.registry.servicer import AccessServicer, RegistryServicer
from zhichao.access.v1 import service_pb2 as access_pb2
from zhichao.access.v1 import service_pb2_grpc as access_pb2_grpc
from zhichao.registry.v1 import service_pb2, service_pb2_grpc

STREAM = "registry"
MIGRATIONS = "services.registry.migrations"

_log = structlog.get_logger()


class RegistryApp:
    """One registry, not started yet. `server.address` tells where it listens once it is."""

    name = STREAM

    def __init__(self, config: RegistryConfig, clock: Clock) -> None:
        platform, settings = config.platform, config.service
        self._config = config
        self._engine = create_engine(
            settings.database_url, pool_size=settings.database_pool_size, application_name=f"zhichao-{STREAM}"
        )
        self.metrics = Metrics(STREAM, platform.platform)
        self.metrics_server = MetricsServer(self.metrics, settings.metrics_listen)
        knowledge = AccessKnowledge(clock.monotonic)
        self._journal = JournalParts.build(
            self._engine,
            platform.platform,
            STREAM,
            load_signer(platform),
            platform.journal_digest,
            RegistryProjection(),
            clock,
            self.metrics,
            divisions=knowledge.known_divisions,
            is_recovering=platform.recovering,
        )
        tail, writer = self._journal.tail, self._journal.writer
        access = AccessHandlers(self._engine, platform.platform, clock)
        bootstrap = Bootstrap(platform.platform, settings.bootstrap_token_file)
        add_access_metrics(self.metrics, bootstrap)
        self._own_access = OwnAccess(
            self._engine,
            platform.platform,
            tail,
            clock,
            knowledge,
            bootstrap,
            access.report_use,
        )
        self.handlers = RegistryHandlers(self._engine, writer, clock, tail.announce)
        self.server = RpcServer.for_service(
            STREAM,
            platform,
            settings,
            self._own_access.control(platform),
            self._journal.access_recorder,
            metrics=self.metrics,
        )
        servicer = RegistryServicer(self.handlers)
        self.server.add(
            lambda server: service_pb2_grpc.add_RegistryServiceServicer_to_server(servicer, server),
            service_pb2.DESCRIPTOR.services_by_name["RegistryService"].full_name,
        )
        access_servicer = AccessServicer(
            CredentialHandlers(self._engine, writer, clock, self._own_access.announce, platform.trust_domain),
            access,
            AccessFeed(self._engine, platform.platform, tail, clock),
        )
        self.server.add(
            lambda server: access_pb2_grpc.add_AccessServiceServicer_to_server(access_servicer, server),
            access_pb2.DESCRIPTOR.services_by_name["AccessService"].full_name,
        )
        self._journal.register(self.server)
        self._started = ExitStack()

    def start(self) -> None:
        """Bring the schema up to date or check it, begin the log, publish the shipped rule sets, then serve.

        Raises SchemaError, LogIdentityError, ServiceError(DATABASE_UNAVAILABLE), ListenError; nothing runs then.
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
            self._publish_shipped()
            # Before anybody can call: a registry that does not know who may do what refuses everybody.
            self._own_access.start()
            starting.callback(self._own_access.stop)
            self.server.start()
            self._started = starting.pop_all()

    def stop(self, grace_seconds: float) -> None:
        """Stop in reverse: let running calls finish, then the journal, then the connections."""
        with self._started:
            # Readers that follow the log wait on the tail; the server ends their calls and wakes them.
            self.server.stop(grace_seconds)

    def _publish_shipped(self) -> None:
        """Publish the rule sets of this release that are not published yet; what is published never changes."""
        # The platform itself asks: no person, no request.
        with use_request_context(RequestContext()):
            for rule_set in shipped.rule_sets():
                try:
                    # Platforms below ship them too.
                    self.handlers.create(kinds.RULE_SET, rule_set, is_addressed=False)
                except ServiceError as error:
                    if error.reason is Reason.RECOVERING:
                        # They are among what comes back; what is new in this release is published at the next start.
                        _log.warning("shipped_rule_sets_wait", detail=error.message)
                        return
                    if error.reason is not Reason.RESOURCE_EXISTS:
                        raise
                    # Somebody published other content under this name first; theirs has judged weighings.
                    _log.warning("shipped_rule_set_differs", rule_set_id=rule_set.rule_set_id, version=rule_set.version)


def build(config: RegistryConfig, clock: Clock | None = None) -> RegistryApp:
    """Build a registry from its settings; nothing is started and the database is not touched.

    Raises SettingsError for settings that cannot work, such as a key file that is none.
    """
    return RegistryApp(config, clock or SystemClock())
