"""Puts the video service together: the only place where its parts meet."""

from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Final

from services.common.access.mounting import AppAccess, ServiceAccess, registry_opener, service_opener, service_tokens
from services.common.access.store import AccessStore
from services.common.clock import Clock, SystemClock
from services.common.database import check, create_engine, translate_errors, upgrade
from services.common.metrics import Metrics
from services.common.metrics_server import MetricsServer
from services.common.rpc_limits import NO_READ_AHEAD_OPTIONS
from services.common.rpc_raw import with_raw_messages
from services.common.rpc_server import RpcServer
from services.common.settings import SettingsError
from services.journal.entry_writer import EntryWriter
from services.journal.mounting import JournalParts
from services.journal.signing import load_signer
from services.video import kinds
from services.video.background import BackgroundWork, OnlyOne
from services.video.completeness_metrics import CompletenessMetrics
from services.video.config import VideoConfig
from services.video.custody_writer import CustodyWriter
from services.video.handlers_cameras import CameraHandlers
from services.video.handlers_completeness import CompletenessHandlers
from services.video.handlers_custody import CustodyHandlers
from services.video.handlers_preparing import PreparingHandlers
from services.video.handlers_reading import ReadingHandlers
from services.video.handlers_status import StatusHandlers
from services.video.handlers_transfer import TransferHandlers
from services.video.handlers_uploading import UploadingHandlers
from services.video.inspecting_process import InspectingProcesses
from services.video.keeping_parts import KeepingParts
from services.video.lock_following import FOLLOW_LOCK_KEY, LockFollower
from services.video.metrics import VideoMetrics
from services.video.outgoing_bytes import OutgoingBytes
from services.video.previews import PreviewMaker
from services.video.projection import VideoProjection
from services.video.receiving import ObjectReceiver
from services.video.refusals_reading import not_taken
from services.video.retention import RetentionTable
from services.video.s3_connection import S3Settings
from services.video.s3_store import S3ObjectStore
from services.video.sealing import Sealing
from services.video.servicer import PARSERS, SERIALIZED_ANSWERS, VideoServicer
from services.video.servicer_transfer import TransferServicer
from services.video.silence import (
    PUSH_BYTES_MIN,
    PUSH_SECONDS_MAX,
    READ_SECONDS_MAX,
    UPLOAD_BYTES_MIN,
    UPLOAD_SECONDS_MAX,
    ProgressWatch,
)
from services.video.source_units import SourceUnits
from services.video.spool import Spool
from services.video.staging import Staging
from services.video.store_troubles import StoreWrites
from services.video.storing_ahead import StoringAhead
from services.video.wanted import WantedPolicy
from services.video.wanting import WANTING_LOCK_KEY, ObjectNews, Wanting
from services.video.weighing_follower import WeighingFollower
from zhichao.video.v1 import service_pb2, service_pb2_grpc, transfer_pb2, transfer_pb2_grpc

STREAM = "video"
MIGRATIONS = "services.video.migrations"

SHIPPED_RETENTION: Final = Path(__file__).with_name("retention_classes.json")

STOP_SECONDS: Final = 5.0
"""How long work in the background may take to end its step."""


class VideoApp:
    """One video service, not started yet. `server.address` tells where it listens once it is."""

    name = STREAM

    def __init__(self, config: VideoConfig, clock: Clock, access: AppAccess | None) -> None:
        platform, settings = config.platform, config.service
        own = platform.platform
        self._config = config
        self._engine = engine = create_engine(
            settings.database_url, pool_size=settings.database_pool_size, application_name=f"zhichao-{STREAM}"
        )
        self.metrics = Metrics(STREAM, own)
        self.metrics_server = MetricsServer(self.metrics, settings.metrics_listen)
        figures = VideoMetrics(self.metrics, engine)

        # Other services of the platform
        open_registry = registry_opener(platform, settings.registry_address, STREAM)
        open_weighing = service_opener(platform, settings.weighing_address, STREAM, "weighing")
        self._access = access or ServiceAccess.build(
            platform, service_tokens(platform), open_registry, clock, AccessStore(engine)
        )
        control = self._access.control
        self._units = SourceUnits(engine, own, open_registry, clock)
        self._weighings = WeighingFollower(engine, open_weighing)

        # The journal
        projection = VideoProjection()
        self._journal = JournalParts.build(
            engine,
            own,
            STREAM,
            load_signer(platform),
            platform.journal_digest,
            projection,
            clock,
            self.metrics,
            divisions=control.knowledge.known_divisions,
            is_recovering=platform.recovering,
        )
        writer = self._journal.writer
        entries = EntryWriter(engine, writer, self._journal.tail.announce, projection, kinds.SCHEMA, writer.lock)
        custody = CustodyWriter(entries, own, clock)

        # The bytes
        try:
            self._store = S3ObjectStore(S3Settings.of(settings, own))
        except ValueError as error:
            raise SettingsError(f"ZHICHAO_VIDEO_S3_CA_FILE: {error}") from error
        writes = StoreWrites(clock)
        objects = figures.counted(self._store, writes)
        self._spool = spool = Spool(
            settings.spool_directory, settings.spool_bytes_max, timedelta(hours=settings.upload_keep_hours), clock
        )
        self._ahead = StoringAhead(objects, clock)
        self._inspecting = inspecting = InspectingProcesses()
        # Of their own, so that an upload never waits for a picture.
        self._drawing = drawing = InspectingProcesses(1)
        self._keeping = keeping = KeepingParts(engine, settings, objects, custody, own, clock, writes)
        self.store_watch = watch = keeping.watch
        figures.watch(spool, settings.spool_bytes_max, watch)
        CompletenessMetrics(
            engine,
            own,
            timedelta(minutes=settings.clip_in_time_minutes),
            timedelta(days=settings.recording_days),
            clock.now,
        ).add_to(self.metrics, self._weighings)
        policy = WantedPolicy(own, settings.eager_words(), settings.sample_permille)
        news = ObjectNews()
        wanting = Wanting(engine, policy, control.knowledge.known_divisions, clock, news)
        only_one = OnlyOne(settings.database_url, WANTING_LOCK_KEY, "wanting")
        locks = BackgroundWork(
            "locks",
            LockFollower(engine, objects, custody, clock).step,
            OnlyOne(settings.database_url, FOLLOW_LOCK_KEY, "locks"),
        )
        self._background = [
            locks,
            BackgroundWork("wanting", wanting.step, only_one),
            BackgroundWork("spool", spool.step),
            BackgroundWork("previews", PreviewMaker(engine, objects, drawing, clock).step),
        ]

        sealing = Sealing(
            engine,
            entries,
            own,
            control,
            self._units,
            load_retention(settings.retention_file),
            objects,
            clock,
            requires_locks=settings.object_lock == "require",
            put_checked=keeping.put_checked,
        )
        keep = timedelta(hours=settings.upload_keep_hours)
        staging = Staging(engine, own, sealing, objects, inspecting, keep, clock, figures.sealed)
        self._background.append(BackgroundWork("staged-uploads", staging.sweep))
        uploads = ProgressWatch(clock, UPLOAD_SECONDS_MAX, UPLOAD_BYTES_MIN)
        pushes = ProgressWatch(clock, PUSH_SECONDS_MAX, PUSH_BYTES_MIN)
        reads = ProgressWatch(clock, READ_SECONDS_MAX, 1, not_taken)
        self._background += [
            BackgroundWork("silent-uploads", uploads.step),
            BackgroundWork("silent-pushes", pushes.step),
            BackgroundWork("silent-reads", reads.step),
        ]
        servicer = VideoServicer(
            UploadingHandlers(engine, own, sealing, spool, objects, self._ahead, inspecting, figures.sealed),
            PreparingHandlers(own, sealing, staging, objects, clock),
            ReadingHandlers(engine, own, OutgoingBytes(engine, own, custody, objects, clock)),
            CustodyHandlers(engine, own, custody, control, clock, locks.hurry, news.tell),
            CameraHandlers(engine, own, entries, self._units, control, clock),
            CompletenessHandlers(engine, own, settings, clock),
            StatusHandlers(engine, objects, spool, watch),
            uploads,
            reads,
        )
        divisions = control.knowledge.known_divisions
        receiver = ObjectReceiver(engine, own, divisions, custody, objects, spool, clock, news, keeping.make_room)
        transfer = TransferServicer(
            TransferHandlers(engine, own, divisions, custody, objects, spool, receiver, clock, news), pushes
        )
        self.server = RpcServer.for_service(
            STREAM,
            platform,
            settings,
            control,
            self._journal.access_recorder,
            metrics=self.metrics,
            options=NO_READ_AHEAD_OPTIONS,
        )
        self.server.add(
            lambda server: service_pb2_grpc.add_VideoServiceServicer_to_server(
                servicer, with_raw_messages(server, (), answers=SERIALIZED_ANSWERS, parsers=PARSERS)
            ),
            service_pb2.DESCRIPTOR.services_by_name["VideoService"].full_name,
        )
        self.server.add(
            lambda server: transfer_pb2_grpc.add_TransferServiceServicer_to_server(transfer, server),
            transfer_pb2.DESCRIPTOR.services_by_name["TransferService"].full_name,
        )
        self._journal.register(self.server)
        self._started = ExitStack()

    def start(self) -> None:
        """Bring the schema up to date or check it, take the spool, begin the log, follow other services, then serve.

        Neither the evidence store nor another service need be there. Raises SettingsError for a spool that cannot be
        used, SchemaError, LogIdentityError, ServiceError(DATABASE_UNAVAILABLE), ListenError; nothing is left running
        then.
        """
        with ExitStack() as starting:
            # 1. What everything else stands on: pool, figures, schema, spool.
            starting.callback(self._engine.dispose)
            self.metrics_server.start()
            starting.callback(self.metrics_server.stop)
            migrate = upgrade if self._config.platform.auto_migrate else check
            with translate_errors():
                migrate(self._config.service.database_url, MIGRATIONS)
            self._spool.start()
            starting.callback(self._spool.stop)
            starting.callback(self._store.close)
            starting.callback(self._ahead.stop)
            starting.callback(self._inspecting.stop)
            starting.callback(self._drawing.stop)
            # 2. The journal, and who may do what.
            self._journal.start()
            starting.callback(self._journal.stop)
            self._access.start()
            starting.callback(self._access.stop)
            # 3. Other services, which may be away.
            self._units.start()
            starting.callback(self._units.stop)
            self._weighings.start()
            starting.callback(self._weighings.stop)
            # 4. What goes on by itself.
            for work in self._background:
                work.start()
                starting.callback(work.stop, STOP_SECONDS)
            self._keeping.start()
            starting.callback(self._keeping.stop, STOP_SECONDS)
            # 5. Callers.
            self.server.start()
            self._started = starting.pop_all()

    def stop(self, grace_seconds: float) -> None:
        """Stop in reverse: let running calls finish, then the work in the background, the followers, the journal."""
        with self._started:
            self.server.stop(grace_seconds)


def load_retention(file: Path | None) -> RetentionTable:
    """Read the retention classes, those that are shipped unless a file is named. Raises SettingsError."""
    try:
        return RetentionTable.parse((file or SHIPPED_RETENTION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else str(error)
        raise SettingsError(f"ZHICHAO_VIDEO_RETENTION_FILE: {file or SHIPPED_RETENTION.name} {what}") from error


def build(config: VideoConfig, clock: Clock | None = None, access: AppAccess | None = None) -> VideoApp:
    """Build a video service from its settings; nothing is started, neither the database nor the store is touched.

    `access` takes the place of what the registry says of it. Raises SettingsError for settings that cannot work, such
    as a key file that is none.
    """
    return VideoApp(config, clock or SystemClock(), access)
