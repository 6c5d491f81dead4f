"""Video services as they run in production, each on a socket, a database, a spool and a bucket of its own, with a clock
that tests set, and evidence to upload.
"""

import hashlib
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import psycopg
from google.protobuf.message import Message

from services.common.access.permissions import Role
from services.common.database import create_engine, raw_connection, upgrade
from services.common.instants import timestamp
from services.common.rpc_client import connect, service_error
from services.common.settings import PlatformSettings, load
from services.journal.entries import EntryBuilder, parse
from services.journal.log_writer import LogWriter
from services.journal.notes import new_private_key_pem
from services.journal.signing import load_signer
from services.video.app import MIGRATIONS, STREAM, build
from services.video.config import VideoConfig
from services.video.object_store import OBJECT_PREFIX
from services.video.s3_connection import S3Settings
from services.video.s3_store import S3ObjectStore
from tests.access import Access, service_token_file
from tests.conftest import Databases
from tests.registry.harness import TIMEOUT_SECONDS, Refused, refused_by
from tests.video.media_files import jpeg
from tests.video.stores.servers import Server
from tests.waiting import wait_until
from zhichao.journal.v1 import entry_pb2
from zhichao.journal.v1 import journal_pb2 as journal
from zhichao.journal.v1.journal_pb2_grpc import JournalServiceStub
from zhichao.video.v1 import evidence_pb2
from zhichao.video.v1 import service_pb2 as pb
from zhichao.video.v1.service_pb2_grpc import VideoServiceStub
from zhichao.video.v1.transfer_pb2_grpc import TransferServiceStub

SCHEMA: Final = "video"
"""Name under which databases with the video service's schema are borrowed."""

PROVINCE, CITY, COUNTY = "140000", "141000", "141025"
UNIT, OTHER_UNIT = "141025-9001", "141025-9002"

CHUNK_BYTES: Final = 1 << 20

ACCESS_RECORD_KIND = "zhichao.journal.v1.AccessRecord"
"""Kind of the entries that say who has read personal data."""


def migrate(database_url: str) -> None:
    """Make the video service's schema in an empty database."""
    upgrade(database_url, MIGRATIONS)


class RealDay:
    """A clock that begins now, because stores keep locks by their own clocks, and goes on only when a test says so."""

    def __init__(self) -> None:
        self.moment = datetime.now(UTC).replace(microsecond=0)

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return time.monotonic()

    def advance(self, **duration: float) -> datetime:
        """Let time pass."""
        self.moment += timedelta(**duration)
        return self.moment


class RunningVideo:
    """One video service with its database, key, spool, bucket and stubs; `close` stops it. A replica shares the
    database, the key and the bucket.
    """

    def __init__(
        self,
        databases: Databases | None,
        directory: Path,
        platform: str,
        clock: RealDay,
        registry_address: str,
        store_server: Server,
        *,
        name: str = "video",
        database_url: str | None = None,
        bucket: str = "",
        access: Access | None = None,
        settings: dict[str, str] | None = None,
    ) -> None:
        self.platform = platform
        self.clock = clock
        self.directory = directory
        self.registry_address = registry_address
        self.store_server = store_server
        self.spool = directory / f"{platform}-{name}-spool"
        self.bucket = bucket or f"test-{secrets.token_hex(6)}"
        self._databases = databases
        self._borrowed = database_url is None
        if database_url is None:
            assert databases is not None, "either a database or a maker of them"
            database_url = databases.borrow(SCHEMA, migrate)
        self.database_url = database_url
        key_file = directory / f"{platform}-video.pem"
        if not key_file.exists():
            key_file.write_bytes(new_private_key_pem())
        self.access = access or Access(platform, clock=clock)
        token_file = Path(registry_address.removeprefix("unix:")).with_suffix(".service")
        self.environment = {
            "ZHICHAO_PLATFORM": platform,
            "ZHICHAO_SIGNING_KEY_FILE": str(key_file),
            "ZHICHAO_VIDEO_DATABASE_URL": self.database_url,
            "ZHICHAO_VIDEO_LISTEN": f"unix:{directory}/{platform}-{name}.sock",
            "ZHICHAO_VIDEO_REGISTRY_ADDRESS": registry_address,
            "ZHICHAO_VIDEO_WEIGHING_ADDRESS": f"unix:{directory}/no-weighing.sock",
            "ZHICHAO_VIDEO_S3_ENDPOINT": store_server.url,
            "ZHICHAO_VIDEO_S3_PUBLIC_ENDPOINT": store_server.url,
            "ZHICHAO_VIDEO_S3_BUCKET": self.bucket,
            "ZHICHAO_VIDEO_S3_ACCESS_KEY_FILE": str(store_server.access_key_file),
            "ZHICHAO_VIDEO_S3_SECRET_KEY_FILE": str(store_server.secret_key_file),
            "ZHICHAO_VIDEO_S3_CONNECT_TIMEOUT_SECONDS": "2",
            "ZHICHAO_VIDEO_S3_READ_TIMEOUT_SECONDS": "10",
            "ZHICHAO_VIDEO_S3_RETRIES": "1",
            "ZHICHAO_VIDEO_SPOOL_DIRECTORY": str(self.spool),
            "ZHICHAO_PLAINTEXT_LOOPBACK": "true",
            "ZHICHAO_SERVICE_TOKEN_FILE": str(token_file if token_file.exists() else service_token_file(directory)),
            **(settings or {}),
        }
        self.config = VideoConfig.load(self.environment)
        self.objects = S3ObjectStore(S3Settings.of(self.config.service))
        self._running = ExitStack()
        self.start()

    def start(self) -> None:
        """Start it on its database."""
        with ExitStack() as starting:
            self.config = VideoConfig.load(self.environment)
            app = build(self.config, self.clock, self.access)
            app.start()
            starting.callback(app.stop, 2.0)
            self.app = app
            self.address = app.server.address
            self._channels = starting
            # Who may do everything; a test that is about permissions takes somebody else.
            self.stub = self.stub_of(self.access.token)
            self.journal = JournalServiceStub(self.channel(self.access.token))
            self.transfer = TransferServiceStub(self.channel(self.access.service_token))
            self._running = starting.pop_all()
        self.wait_for_store()

    def wait_for_store(self) -> None:
        """Wait until the service has looked at its store, which makes the bucket."""
        wait_until(lambda: self.app.store_watch.standing.check_time is not None, "the store is looked at")

    def channel(self, token: str) -> grpc.Channel:
        """Open a channel whose calls carry a token; it is closed at the stop."""
        return self._channels.enter_context(connect(self.address, credentials=self.access.credentials(token)))

    def stub_of(self, token: str) -> VideoServiceStub:
        """Return a stub whose calls carry a token."""
        return VideoServiceStub(self.channel(token))

    def terminal(self, *units: str, name: str = "terminal-1") -> VideoServiceStub:
        """Return the stub of a terminal, or with more units of an integrator."""
        return self._late(self.access.terminal(*units, name=name))

    def person(self, *roles: Role, name: str = "person-1", division: str = "") -> VideoServiceStub:
        """Return the stub of a person with roles, for the whole platform or a division."""
        return self._late(self.access.person(*roles, name=name, division=division))

    def _late(self, token: str) -> VideoServiceStub:
        channel = connect(self.address, credentials=self.access.credentials(token))
        return VideoServiceStub(self._running.enter_context(channel))

    def stop(self) -> None:
        """Stop it; database, spool and bucket stay."""
        self._running.close()

    def close(self) -> None:
        """Stop it and give its database back."""
        self.stop()
        self.objects.close()
        if self._borrowed and self._databases is not None:
            self._databases.give_back(SCHEMA, self.database_url)

    def replica(self) -> "RunningVideo":
        """Run another service on the same database and bucket, with the same credentials and a spool of its own."""
        return RunningVideo(
            None,
            self.directory,
            self.platform,
            self.clock,
            self.registry_address,
            self.store_server,
            name="replica",
            database_url=self.database_url,
            bucket=self.bucket,
            access=self.access,
        )

    # Calls

    def call(self, method: str, request: Message, stub: VideoServiceStub | None = None) -> Any:
        """Call a method; a refusal is raised as ServiceError."""
        try:
            return getattr(stub or self.stub, method)(request, timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            raise service_error(error) from None

    def refusal(self, method: str, request: Any, stub: VideoServiceStub | None = None) -> Refused:
        """Call a method that must refuse and return the refusal."""
        return refused_by(stub or self.stub, method, request)

    def upload(
        self,
        content: bytes,
        draft: pb.EvidenceDraft,
        *,
        offset: int = 0,
        stub: VideoServiceStub | None = None,
    ) -> pb.UploadEvidenceResponse:
        """Upload evidence from an offset; a refusal is raised as ServiceError."""
        try:
            return (stub or self.stub).UploadEvidence(messages(content, draft, offset), timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            raise service_error(error) from None

    def upload_refusal(
        self, content: bytes, draft: pb.EvidenceDraft, *, offset: int = 0, stub: VideoServiceStub | None = None
    ) -> Refused:
        """Upload evidence that must be refused and return the refusal."""
        return self.refusal("UploadEvidence", messages(content, draft, offset), stub)

    def sealed(self, content: bytes | None = None, **fields: Any) -> pb.HeldEvidence:
        """Upload a photo, or what is given, and return it as held."""
        content = photo() if content is None else content
        return self.upload(content, draft_of(content, self.clock.now(), **fields)).held_evidence

    def object_count(self) -> int:
        """Count the objects of evidence in the store."""
        return len(list(self.objects.list(OBJECT_PREFIX)))

    # The journal

    def own_entries(self) -> list[entry_pb2.Entry]:
        """Return the entries of the own log but the first, which only names it, and who has read what."""
        request = journal.ReadEntriesRequest(origin=self.platform, first_sequence=1)
        entries = [
            content
            for answer in self.journal.ReadEntries(request, timeout=TIMEOUT_SECONDS)
            for content in answer.batch.entries
        ]
        parsed = [entry for entry in map(parse, entries) if entry is not None]
        return [entry for entry in parsed if entry.kind != ACCESS_RECORD_KIND][1:]

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
        tables = ("evidence", "evidence_subjects", "custody_events", "legal_holds", "retention_extensions", "cameras")
        return {table: self.query(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4") for table in tables}  # noqa: S608 - our own names

    def positions(self) -> Sequence[journal.Position]:
        """Return where all logs held here stand."""
        return self.journal.ListPositions(journal.ListPositionsRequest(), timeout=TIMEOUT_SECONDS).positions

    # The spool

    def spooled(self) -> list[Path]:
        """Return the files of uploads under way."""
        return sorted(self.spool.glob("*.part"))


# Evidence to upload


_PHOTO: Final = jpeg(1920, 1080)


def photo() -> bytes:
    """Make a photo of two million pixels that is like no other."""
    return unlike(_PHOTO)


def unlike(content: bytes) -> bytes:
    """Return a JPEG with a comment that makes it another one."""
    comment = secrets.token_hex(16).encode()
    return content[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + content[2:]


def large_photo(size_bytes_min: int) -> bytes:
    """Make a photo of a little more than so many bytes that is like no other."""
    content, half = photo(), 32 * 1024
    comment = b"\xff\xfe" + half.to_bytes(2, "big")
    comments = (comment + secrets.token_bytes(half - 2) for _ in range(-(-size_bytes_min // half)))
    return b"".join((content[:2], *comments, content[2:]))


def draft_of(content: bytes, now: datetime, **fields: Any) -> pb.EvidenceDraft:
    """Describe a photo taken a minute ago; `fields` are laid over that. None leaves a field out."""
    values: dict[str, Any] = {
        "source_unit_id": UNIT,
        "evidence_id": f"photo-{secrets.token_hex(8)}",
        "kind": evidence_pb2.EVIDENCE_KIND_PHOTO,
        "digest": hashlib.sha256(content).digest(),
        "size_bytes": len(content),
        "content_type": "image/jpeg",
        "view": evidence_pb2.CAMERA_VIEW_FRONT,
        "camera_id": "34020000001320000001",
        "capture_start_time": timestamp(now - timedelta(minutes=1)),
    }
    values.update(fields)
    return pb.EvidenceDraft(**{name: value for name, value in values.items() if value is not None})


def messages(
    content: bytes, draft: pb.EvidenceDraft, offset: int = 0, chunk_bytes: int = CHUNK_BYTES
) -> Iterator[pb.UploadEvidenceRequest]:
    """Yield the messages of an upload from an offset on."""
    yield pb.UploadEvidenceRequest(draft=draft, offset=offset, chunk=content[offset : offset + chunk_bytes])
    for start in range(offset + chunk_bytes, len(content), chunk_bytes):
        yield pb.UploadEvidenceRequest(chunk=content[start : start + chunk_bytes])


def carry_up(lower: RunningVideo, upper: RunningVideo) -> None:
    """Push everything that the lower platform holds and the upper one does not, as relays do."""
    held = {position.origin: position.size for position in upper.positions()}
    for position in lower.positions():
        request = journal.ReadEntriesRequest(origin=position.origin, first_sequence=held.get(position.origin, 0) + 1)
        batches = [answer.batch for answer in lower.journal.ReadEntries(request, timeout=TIMEOUT_SECONDS)]
        requests: Iterable[Any] = [journal.AppendEntriesRequest(batch=batch) for batch in batches]
        list(upper.journal.AppendEntries(iter(requests), timeout=TIMEOUT_SECONDS))


def carry_down(upper: RunningVideo, lower: RunningVideo) -> int:
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
