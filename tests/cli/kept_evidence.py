"""A platform that keeps evidence in a store of its own, for tests of its backup: real PostgreSQL, real S3 server."""

import hashlib
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from cli.backup import evidence
from cli.object_server import ObjectServer
from cli.platform_layout import PlatformFiles, free_port
from cli.postgres import EmbeddedPostgres
from services.common.database import upgrade
from services.video.s3_connection import S3Settings
from services.video.s3_store import S3ObjectStore
from tests.cli.kept_platform import KeptPlatform
from tests.cli.verified_journals import COUNTY

CONTENTS = [f"evidence {number}".encode() * (number + 1) for number in range(6)]
RETAINED = timedelta(days=30)
HELD, RELEASED = (hashlib.sha256(content).digest() for content in CONTENTS[1:3])


class Home(KeptPlatform):
    """A platform with a store of its own."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        with EmbeddedPostgres(self.files.postgres, databases=["video"]) as server:
            upgrade(server.url("video"), "services.video.migrations")
            with self.store(self.files.object_server) as store:
                store.ensure_bucket()
                for content in CONTENTS:
                    seal(server.url("video"), store, content)
            with psycopg.connect(server.url("video")) as connection:
                connection.execute(
                    "INSERT INTO legal_holds (evidence_origin, source_unit_id, evidence_id, platform, hold_id,"
                    " place_sequence, release_sequence) SELECT origin, source_unit_id, evidence_id, origin, 'case-1',"
                    " 2, CASE WHEN digest = %s THEN 1 ELSE 3 END FROM evidence WHERE digest = ANY(%s)",
                    (HELD, [HELD, RELEASED]),
                )

    def server(self, directory: Path) -> ObjectServer:
        """Make the S3 server on a directory."""
        return ObjectServer(
            directory,
            port=free_port(),
            access_key_file=self.files.object_access_key,
            secret_key_file=self.files.object_secret_key,
        )

    def store(self, directory: Path) -> "Opened":
        """Open the store of a directory."""
        return Opened(self.server(directory), self.files)

    def run(self, stack: ExitStack) -> tuple[str, S3ObjectStore]:
        """Run both servers as a platform does; return the URL of the database, and the store."""
        self.lock(stack)
        database = stack.enter_context(EmbeddedPostgres(self.files.postgres))
        opened = self.store(self.files.object_server)
        store = stack.enter_context(opened)
        return self.serve(stack, database, "video", object_endpoint=opened.server.endpoint), store


class Opened:
    """A running S3 server and its store."""

    def __init__(self, server: ObjectServer, files: PlatformFiles) -> None:
        self.server = server
        self._files = files
        self._stack = ExitStack()

    def __enter__(self) -> S3ObjectStore:
        self._stack.enter_context(self.server)
        settings = S3Settings(
            self.server.endpoint, evidence.BUCKET, self._files.object_access_key, self._files.object_secret_key
        )
        store = S3ObjectStore(settings)
        self._stack.callback(store.close)
        return store

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def seal(url: str, store: S3ObjectStore, content: bytes) -> bytes:
    """Store bytes, and write the rows that name them."""
    digest = hashlib.sha256(content).digest()
    now = datetime.now(UTC)
    store.put(digest, content, len(content))
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO objects (digest, size_bytes, state, stored_time) VALUES (%s, %s, 1, %s)",
            (digest, len(content), now),
        )
        connection.execute(
            "INSERT INTO evidence (origin, source_unit_id, evidence_id, sequence, leaf, kind, digest, size_bytes,"
            " camera_id, list_time, seal_time, retain_until_time, content)"
            " VALUES (%s, 'u', %s, 1, '', 3, %s, %s, '', %s, %s, %s, '')",
            (COUNTY, digest.hex(), digest, len(content), now, now, now + RETAINED),
        )
    return digest


def forget(url: str, *sealed: bytes) -> None:
    """Remove the rows of objects, for the tests that come after."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DELETE FROM objects WHERE digest = ANY(%s)", (list(sealed),))
        connection.execute("DELETE FROM evidence WHERE digest = ANY(%s)", (list(sealed),))


def use_store(monkeypatch: pytest.MonkeyPatch, home: Home, store: S3ObjectStore) -> None:
    """Let the settings of the video service name a store."""
    for name, value in {
        "S3_ENDPOINT": store.address.endpoint,
        "S3_BUCKET": store.address.bucket,
        "S3_ACCESS_KEY_FILE": home.files.object_access_key,
        "S3_SECRET_KEY_FILE": home.files.object_secret_key,
    }.items():
        monkeypatch.setenv(f"ZHICHAO_VIDEO_{name}", str(value))


def opened(home: Home, endpoint: str) -> S3ObjectStore:
    """Open the store at an address, to be tried once only."""
    keys = (home.files.object_access_key, home.files.object_secret_key)
    return S3ObjectStore(S3Settings(endpoint, evidence.BUCKET, *keys, connect_timeout_seconds=0.5, retries=0))


def digests(contents: list[bytes]) -> list[str]:
    return sorted(hashlib.sha256(content).hexdigest() for content in contents)
