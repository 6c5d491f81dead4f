"""Video services as they run in production, each on a socket, a database, a spool and a bucket of its own, with a clock
that tests set, and evidence to upload.
"""

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import grpc

from services.common.access.permissions import Role
from services.common.database import upgrade
from services.common.instants import timestamp
from services.common.rpc_client import service_error
from services.journal.notes import new_private_key_pem
from services.video.app import MIGRATIONS, STREAM, build
from services.video.config import VideoConfig
from services.video.object_store import OBJECT_PREFIX
from services.video.s3_connection import S3Settings
from services.video.s3_store import S3ObjectStore
from tests.access import Access, service_token_file
from tests.conftest import Databases
from tests.registry.harness import TIMEOUT_SECONDS, Refused
from tests.running_service import RunningService, SharedClock
from tests.video.media_files import photo
from tests.video.stores.servers import Server
from tests.waiting import wait_until
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


def migrate(database_url: str) -> None:
    """Make the video service's schema in an empty database."""
    upgrade(database_url, MIGRATIONS)


def since_now() -> SharedClock:
    """Return a clock that begins now, because stores keep locks by their own clocks."""
    return SharedClock(datetime.now(UTC).replace(microsecond=0))


class RunningVideo(RunningService):
    """One video service with its database, key, spool, bucket and stubs; `close` stops it. A replica shares the
    database, the key and the bucket.
    """

    stream = STREAM
    projected_tables = (
        "evidence",
        "evidence_subjects",
        "custody_events",
        "legal_holds",
        "retention_extensions",
        "cameras",
    )
    stub: VideoServiceStub

    def __init__(
        self,
        databases: Databases | None,
        directory: Path,
        platform: str,
        clock: SharedClock,
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
            # Channels that are opened now or later are closed before the service is.
            self._running = starting
            # Who may do everything; a test that is about permissions takes somebody else.
            self.stub = self.stub_of(self.access.token)
            self.journal = JournalServiceStub(self.channel(self.access.token))
            self.transfer = TransferServiceStub(self.channel(self.access.service_token))
            self._running = starting.pop_all()
        self.wait_for_store()

    def wait_for_store(self) -> None:
        """Wait until the service has looked at its store, which makes the bucket."""
        wait_until(lambda: self.app.store_watch.standing.check_time is not None, "the store is looked at")

    def stub_of(self, token: str) -> VideoServiceStub:
        """Return a stub whose calls carry a token."""
        return VideoServiceStub(self.channel(token))

    def terminal(self, *units: str, name: str = "terminal-1") -> VideoServiceStub:
        """Return the stub of a terminal, or with more units of an integrator."""
        return self.stub_of(self.access.terminal(*units, name=name))

    def person(self, *roles: Role, name: str = "person-1", division: str = "") -> VideoServiceStub:
        """Return the stub of a person with roles, for the whole platform or a division."""
        return self.stub_of(self.access.person(*roles, name=name, division=division))

    def close(self) -> None:
        """Stop it and give its database back."""
        self.stop()
        self.objects.close()
        if self._borrowed and self._databases is not None:
            self._borrowed = False
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

    # The spool

    def spooled(self) -> list[Path]:
        """Return the files of uploads under way."""
        return sorted(self.spool.glob("*.part"))


# Evidence to upload


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
