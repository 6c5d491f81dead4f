"""Everything that keeps evidence, with evidence sealed as uploads seal it, and ways to do harm behind its back."""

import hashlib
import io
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import psycopg
from minio.commonconfig import COMPLIANCE
from minio.retention import Retention

from services.common.database import create_engine, raw_connection, reading
from services.common.instants import timestamp
from services.journal.entry_writer import EntryWriter
from services.journal.mounting import JournalParts
from services.journal.notes import Signer, new_private_key_pem, signer_name
from services.video import kinds
from services.video.config import VideoSettings
from services.video.custody import CustodyAction
from services.video.custody_writer import CustodyWriter
from services.video.domain import Name
from services.video.keeping_parts import KeepingParts
from services.video.object_store import ObjectStore, StoreUnavailableError, object_key
from services.video.projection import VideoProjection
from services.video.s3_store import S3ObjectStore
from services.video.store import custody as custody_store
from services.video.store import objects as objects_store
from services.video.store.custody import Named
from services.video.store_troubles import StoreWrites
from tests.video.harness import COUNTY, UNIT
from tests.video.stores.servers import Server, harmful_client, rot, store
from zhichao.video.v1 import custody_pb2, evidence_pb2


@dataclass
class MovedClock:
    """The machine's clock, set forward or back by a test."""

    moved: timedelta = field(default_factory=timedelta)

    def now(self) -> datetime:
        """Return the moved time."""
        return datetime.now(UTC) + self.moved

    def monotonic(self) -> float:
        """Return seconds of the moved time."""
        return self.now().timestamp()


class Kept:
    """The keeping of one county."""

    def __init__(self, url: str, server: Server, tmp_path: Path, **settings: Any) -> None:
        self.url = url
        self.server = server
        self.bucket = f"evidence-{secrets.token_hex(6)}"
        self.clock = MovedClock()
        self.engine = create_engine(url, pool_size=4, application_name="test")
        key_file = tmp_path / "signing.pem"
        key_file.write_bytes(new_private_key_pem())
        projection = VideoProjection()
        self.journal = JournalParts.build(
            self.engine, COUNTY, "video", Signer.from_pem_file(signer_name(COUNTY), key_file), "sha256", projection,
            self.clock,
        )  # fmt: skip
        self.journal.start()
        self.entries = EntryWriter(
            self.engine, self.journal.writer, self.journal.tail.announce, projection, kinds.SCHEMA, lambda _: None
        )
        self.custody = CustodyWriter(self.entries, COUNTY, self.clock)
        self.settings = VideoSettings(
            database_url=url,
            s3_endpoint=server.url,
            s3_bucket=self.bucket,
            s3_access_key_file=server.access_key_file,
            s3_secret_key_file=server.secret_key_file,
            spool_directory=tmp_path / "spool",
            # As fast as it can: a pace is tested by itself.
            scrub_bytes_per_second=1 << 40,
            **settings,
        )
        self.objects: ObjectStore = self.store()
        self.parts = self.build()
        self.parts.watch.step()
        # It has been at work all the time, and may delete.
        self.execute("INSERT INTO scrub_state (id, present_time, delete_after_time) VALUES (1, now(), now())")

    def build(self, objects: ObjectStore | None = None) -> KeepingParts:
        """Make the parts anew, as after a restart."""
        return KeepingParts(
            self.engine,
            self.settings,
            objects or self.objects,
            self.custody,
            COUNTY,
            self.clock,
            StoreWrites(self.clock),
        )

    def cannot_read(self, *digests: bytes) -> "CannotRead":
        """Let the parts work with a store that cannot read the current version of some objects."""
        made = CannotRead(self.objects, *digests)
        self.parts = self.build(cast("ObjectStore", made))
        return made

    def store(self, **changes: Any) -> S3ObjectStore:
        """Open the bucket; short waits, because it is here or not at all. `changes` are laid over the settings."""
        values: dict[str, Any] = {"bucket": self.bucket, "connect_timeout_seconds": 0.5, "retries": 0}
        return store(self.server, **(values | changes))

    def close(self) -> None:
        """End everything."""
        self.journal.stop()
        self.engine.dispose()

    # Evidence

    def seal(
        self,
        content: bytes,
        evidence_id: str = "",
        *,
        days: float = 365.0,
        origin: str = COUNTY,
        is_stored: bool = True,
        locks: bool = False,
    ) -> Named:
        """Seal evidence as an upload does: bytes first, entry second. `days` may be over already."""
        digest = hashlib.sha256(content).digest()
        name = Name(origin, UNIT, evidence_id or f"e-{digest.hex()[:12]}")
        now = self.clock.now()
        until = now + timedelta(days=days)
        if is_stored:
            self.objects.put(digest, content, len(content), retain_until=until if locks else None)
        manifest = evidence_pb2.Evidence(
            source_unit_id=UNIT,
            evidence_id=name.evidence_id,
            kind=evidence_pb2.EVIDENCE_KIND_DOCUMENT,
            division_code=COUNTY,
            digest=digest,
            size_bytes=len(content),
            content_type="application/pdf",
            retain_until_time=timestamp(until),
            seal_time=timestamp(now),
        )
        with self.entries.writing() as connection:
            self.entries.write(connection, kinds.EVIDENCE_KIND, manifest.SerializeToString(), now)
            if is_stored:
                objects_store.put_held(connection, digest, len(content), now, has_preview=False)
        return Named(name, digest)

    def write(
        self,
        evidence: Named,
        action: CustodyAction,
        *,
        reference_id: str = "",
        until: datetime | None = None,
    ) -> None:
        """Write a custody event as somebody's call does."""
        with self.custody.writing() as connection:
            self.custody.write(
                connection, evidence, action, "a test", self.clock.now(), reference_id=reference_id, until_time=until,
                actor="officer/1",
            )  # fmt: skip

    # What came of it

    def actions(self, evidence: Named) -> list[str]:
        """Return what was done with evidence, in order."""
        with reading(self.engine) as pooled:
            rows = custody_store.list_events(raw_connection(pooled), evidence.name, None, 1_000)
        names = [
            custody_pb2.CustodyAction.Name(custody_pb2.CustodyEvent.FromString(row.content).action) for row in rows
        ]
        return [name.removeprefix("CUSTODY_ACTION_") for name in names]

    def state(self, digest: bytes) -> int:
        """Return where bytes are said to be."""
        return int(self.value("SELECT state FROM objects WHERE digest = %s", digest))

    def value(self, statement: str, *values: Any) -> Any:
        """Ask the database for one value."""
        with psycopg.connect(self.url) as connection:
            row = connection.execute(statement.encode(), values).fetchone()
        return row[0] if row else None

    def execute(self, statement: str, *values: Any) -> None:
        """Change the database behind everybody's back."""
        with psycopg.connect(self.url) as connection:
            connection.execute(statement.encode(), values)

    def is_stored(self, digest: bytes) -> bool:
        """Tell whether the store has bytes now."""
        return bool([one for one in self.objects.versions(object_key(digest)) if not one.is_delete_marker])

    # Harm

    def overwrite(self, digest: bytes, content: bytes) -> None:
        """Put other bytes where sealed ones are."""
        harmful_client(self.server).put_object(self.bucket, object_key(digest), io.BytesIO(content), len(content))

    def hide(self, digest: bytes) -> None:
        """Delete an object as a client does that knows no versions."""
        harmful_client(self.server).remove_object(self.bucket, object_key(digest))

    def destroy(self, digest: bytes) -> None:
        """Delete an object with all its versions."""
        self.objects.delete(object_key(digest))

    def rot(self, content: bytes) -> None:
        """Turn some bits of stored bytes on the store's disk."""
        assert self.server.data is not None, "it is on this machine"
        rot(self.server.data, content)

    def lock(self, digest: bytes) -> None:
        """Lock what is the current version now, whatever it is."""
        harmful_client(self.server).set_object_retention(
            self.bucket, object_key(digest), Retention(COMPLIANCE, datetime.now(UTC) + timedelta(days=1))
        )

    def content(self, digest: bytes) -> bytes:
        """Return what the store gives."""
        return b"".join(self.objects.read(object_key(digest)))

    def scrub(self) -> int:
        """Scrub until there is nothing to do, as a day later, and return how many steps that took."""
        self.clock.moved += timedelta(days=1, hours=1)
        return self.work()

    def work(self) -> int:
        """Let the scrubber do what there is to do now, and return how many steps that took."""
        steps = 0
        while self.parts.scrubber.step() == 0.0:
            steps += 1
            assert steps < 1_000
        return steps

    def reconcile(self) -> None:
        """Compare store and tables."""
        self.parts.reconciler.run(timedelta(days=1))


class CannotRead:
    """A store that cannot read some objects, and answers as stores do whose disk has rotted there.

    A real one takes a quarter of a minute for each such answer: that is tried with one look (`Kept.rot`).
    """

    def __init__(self, objects: ObjectStore, *digests: bytes) -> None:
        self._objects = objects
        self._versions = {objects.versions(object_key(one))[0].version_id for one in digests}
        self.keys = {object_key(one) for one in digests}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objects, name)

    def read(self, key: str, offset: int = 0, length: int | None = None, *, version_id: str | None = None) -> Any:
        """Read, if it is not one of the versions that were current when this was made."""
        if key in self.keys and (version_id or self._objects.versions(key)[0].version_id) in self._versions:
            raise StoreUnavailableError("a disk of the store")
        return self._objects.read(key, offset, length, version_id=version_id)


class KilledError(Exception):
    """The process was killed here."""


class KilledAt:
    """A store that kills the process at the first call of one method, before or after it is done."""

    def __init__(self, objects: ObjectStore, method: str, *, is_done: bool) -> None:
        self._objects = objects
        self._method = method
        self._is_done = is_done

    def __getattr__(self, name: str) -> Any:
        found: Callable[..., Any] = getattr(self._objects, name)
        if name != self._method:
            return found

        def be_killed(*arguments: Any, **options: Any) -> Any:
            if self._is_done:
                found(*arguments, **options)
            raise KilledError(re.sub(r"\W", " ", name))

        return be_killed
