"""Puts the weighing service together: the only place where its parts meet."""

from collections.abc import Sequence
from contextlib import ExitStack

from services.common.access.divisions import Divisions
from services.common.access.mounting import AppAccess, ServiceAccess, registry_opener, service_tokens
from services.common.access.store import AccessStore
from services.common.clock import Clock, SystemClock
from services.common.database import check, create_engine, translate_errors, upgrade
from services.common.metrics import Metrics
from services.common.metrics_server import MetricsServer
from services.common.rpc_raw import with_raw_messages
from services.common.rpc_server import RpcServer
from services.journal.group_commit import GroupCommit
from services.journal.mounting import JournalParts
from services.journal.signing import load_signer
from services.weighing.batches import BatchPreparer
from services.weighing.config import WeighingConfig
from services.weighing.directory import Directory
from services.weighing.directory_follower import DirectoryFollower
from services.weighing.directory_metrics import add_directory_metrics
from services.weighing.handlers import WeighingHandlers
from services.weighing.metrics import WeighingMetrics
from services.weighing.preparing import PreparedBatch, RecordPreparer
from services.weighing.preparing_process import PreparingProcess
from services.weighing.projection import WeighingProjection
from services.weighing.recording import Outcome, RecordCommitter, RecordPlan
from services.weighing.servicer import SERIALIZED_METHODS, WeighingServicer
from zhichao.weighing.v1 import service_pb2, service_pb2_grpc

STREAM = "weighing"
MIGRATIONS = "services.weighing.migrations"

COMMIT_STOP_SECONDS = 2.0
"""How long each of the two committing threads may take to end at a stop. By then the calls have their answers or were
cut: what still waits, as on a database that hangs, is nobody's any more and is sent again."""


class WeighingApp:
    """One weighing service, not started yet. `server.address` tells where it listens once it is."""

    name = STREAM

    def __init__(self, config: WeighingConfig, clock: Clock, access: AppAccess | None) -> None:
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
        self._journal = JournalParts.build(
            self._engine,
            platform.platform,
            STREAM,
            load_signer(platform),
            platform.journal_digest,
            WeighingProjection(),
            clock,
            self.metrics,
            divisions=self._access.control.knowledge.known_divisions,
            is_recovering=platform.recovering,
        )
        self._directory = directory = Directory(settings.rule_set_id, platform.platform)
        self._follower = follower = DirectoryFollower(self._engine, directory, platform.platform, open_registry)
        add_directory_metrics(self.metrics, directory.rule_set_counts, lambda: follower.addressed.refused_count)
        writer = self._journal.writer
        self._processes = [
            PreparingProcess(directory, writer.digester.algorithm) for _ in range(settings.preparing_processes)
        ]
        preparer = BatchPreparer(
            RecordPreparer(writer.digester, directory, self._follower.look_again), self._processes, clock
        )
        self._recorder = RecordCommitter(self._engine, writer)
        figures = WeighingMetrics(self.metrics, self._journal.metrics)
        self._committer: GroupCommit[PreparedBatch, RecordPlan, Sequence[Outcome]] = GroupCommit(
            STREAM, self._recorder.plan, figures.metered(self._recorder.commit)
        )
        self._journal.metrics.watch_queue(lambda: self._committer.waiting_records)
        self._knowledge = knowledge = self._access.control.knowledge
        self._divisions: Divisions | None = None
        knowledge.on_change(self._take_divisions)
        self.handlers = WeighingHandlers(
            self._engine,
            platform.platform,
            preparer,
            self._committer,
            self._journal.tail,
            lambda: knowledge.divisions,
        )
        self.server = RpcServer.for_service(
            STREAM, platform, settings, self._access.control, self._journal.access_recorder, metrics=self.metrics
        )
        servicer = WeighingServicer(self.handlers)
        self.server.add(
            lambda server: service_pb2_grpc.add_WeighingServiceServicer_to_server(
                servicer, with_raw_messages(server, SERIALIZED_METHODS)
            ),
            service_pb2.DESCRIPTOR.services_by_name["WeighingService"].full_name,
        )
        self._journal.register(self.server)
        self._started = ExitStack()

    def start(self) -> None:
        """Bring the schema up to date or check it, begin the log, load the directory, then serve.

        Raises SchemaError, LogIdentityError, ServiceError(DATABASE_UNAVAILABLE), ListenError; nothing is left running
        then.
        """
        with ExitStack() as starting:
            starting.callback(self._engine.dispose)
            self.metrics_server.start()
            starting.callback(self.metrics_server.stop)
            starting.callback(self._recorder.close)
            migrate = upgrade if self._config.platform.auto_migrate else check
            with translate_errors():
                migrate(self._config.service.database_url, MIGRATIONS)
            self._journal.start()
            starting.callback(self._journal.stop)
            self._take_divisions()
            self._access.start()
            starting.callback(self._access.stop)
            self._follower.start()
            starting.callback(self._follower.stop)
            for process in self._processes:
                starting.callback(process.stop)
            self._committer.start()
            starting.callback(self._committer.stop, COMMIT_STOP_SECONDS)
            self.server.start()
            self._started = starting.pop_all()

    def _take_divisions(self) -> None:
        """Let the directory know which division lies below which: of rule sets from above the nearest judges."""
        if (divisions := self._knowledge.divisions) is not self._divisions:
            self._divisions = divisions
            self._directory.put(divisions)

    def stop(self, grace_seconds: float) -> None:
        """Stop in reverse: let running calls finish, commit what waits, then the follower, the journal, the
        connections.
        """
        with self._started:
            self.server.stop(grace_seconds)


def build(config: WeighingConfig, clock: Clock | None = None, access: AppAccess | None = None) -> WeighingApp:
    """Build a weighing service from its settings; nothing is started and the database is not touched.

    `access` takes the place of what the registry says. Raises SettingsError for settings that cannot work, such as a
    key file that is none.
    """
    return WeighingApp(config, clock or SystemClock(), access)
