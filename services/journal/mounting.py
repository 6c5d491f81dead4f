"""Puts the journal's parts together for one service. The service's `app` calls this and nothing else of the wiring."""

from dataclasses import dataclass
from typing import Self

from services.common.access.divisions import Divisions
from services.common.clock import Clock
from services.common.database import Engine, raw_connection, translate_errors
from services.common.metrics import Metrics
from services.common.rpc_server import RpcServer
from services.journal.access_attempts import AttemptHandlers
from services.journal.access_export import AccessRecordExporter
from services.journal.access_record_servicer import AccessRecordServicer
from services.journal.access_records import AccessRecorder, AccessRecordHandlers, AccessRecordKind
from services.journal.addressed_handlers import AddressedHandlers, CurrentDivisions
from services.journal.addressed_reader import AddressedReader
from services.journal.addressed_receiver import AddressedReceiver
from services.journal.handlers import JournalHandlers
from services.journal.journal_kinds import WholeProjection
from services.journal.log_writer import LogWriter
from services.journal.metrics import JournalMetrics
from services.journal.notes import Signer
from services.journal.projection import Projection
from services.journal.reader import Reader
from services.journal.receipts import ReceiptKind
from services.journal.receiver import Receiver
from services.journal.restoring import OwnLogRestorer
from services.journal.servicer import JournalServicer
from services.journal.store.tail import Tail
from zhichao.journal.v1 import access_record_pb2, access_record_pb2_grpc, journal_pb2, journal_pb2_grpc

_BY_CODE = Divisions()


def divisions_by_code() -> Divisions:
    """Return which division lies below which by the codes of GB/T 2260, for services that know nothing better."""
    return _BY_CODE


@dataclass(frozen=True)
class JournalParts:
    """The journal of one service: its own log's writer, the reader and receiver of all logs, and the tail."""

    writer: LogWriter
    reader: Reader
    receiver: Receiver
    tail: Tail
    handlers: JournalHandlers
    addressed: AddressedHandlers
    access_recorder: AccessRecorder
    metrics: JournalMetrics
    _engine: Engine
    _clock: Clock
    _is_recovering: bool

    @classmethod
    def build(
        cls,
        engine: Engine,
        origin: str,
        stream: str,
        signer: Signer,
        digest_algorithm: str,
        projection: Projection,
        clock: Clock,
        metrics: Metrics | None = None,
        divisions: CurrentDivisions = divisions_by_code,
        *,
        is_recovering: bool = False,
    ) -> Self:
        """Build the parts; nothing is started and the database is not touched.

        `projection` is the service's own; the journal adds the kinds that belong to itself. `divisions` tells whom
        below an addressed entry is meant for. `metrics` are those of the service; without them the journal's figures
        are counted and shown nowhere. With `is_recovering` the database was restored from a backup (`LogWriter.begin`).
        """
        figures = JournalMetrics(metrics or Metrics(stream, origin), stream, engine)
        tail = Tail(engine)
        writer = LogWriter(origin, stream, signer, digest_algorithm)
        reader = Reader(engine, stream, signer)
        whole = WholeProjection(projection, [ReceiptKind(), AccessRecordKind()])
        receiver = Receiver(engine, origin, stream, signer, whole, clock, tail.announce, figures)
        restorer = OwnLogRestorer(engine, writer, whole, clock, tail.announce)
        handlers = JournalHandlers(engine, stream, reader, receiver, restorer, tail)
        addressed = AddressedHandlers(
            engine,
            AddressedReader(engine, origin, stream, signer),
            AddressedReceiver(engine, writer, whole, clock, tail.announce),
            tail,
            divisions,
        )
        recorder = AccessRecorder(engine, writer, clock, tail.announce)
        return cls(writer, reader, receiver, tail, handlers, addressed, recorder, figures, engine, clock, is_recovering)

    def start(self) -> None:
        """Begin the own log if it is new, and listen for growth. Raises LogIdentityError, ServiceError."""
        with translate_errors(), self._engine.begin() as pooled:
            self.writer.begin(raw_connection(pooled), self._clock.now(), is_recovering=self._is_recovering)
        self.tail.start()
        self.access_recorder.start()

    def stop(self) -> None:
        """Write down what was refused last, stop listening and wake waiting readers."""
        self.access_recorder.stop()
        self.tail.stop()

    def register(self, server: RpcServer) -> None:
        """Serve JournalService and AccessRecordService on the service's server."""
        servicer = JournalServicer(self.handlers, self.addressed)
        server.add(
            lambda grpc_server: journal_pb2_grpc.add_JournalServiceServicer_to_server(servicer, grpc_server),
            journal_pb2.DESCRIPTOR.services_by_name["JournalService"].full_name,
        )
        records = AccessRecordServicer(
            AccessRecordHandlers(self._engine),
            AccessRecordExporter(self._engine, self.writer, self.reader, self.access_recorder),
            AttemptHandlers(self.access_recorder),
        )
        server.add(
            lambda grpc_server: access_record_pb2_grpc.add_AccessRecordServiceServicer_to_server(records, grpc_server),
            access_record_pb2.DESCRIPTOR.services_by_name["AccessRecordService"].full_name,
        )
