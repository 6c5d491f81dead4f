"""The evidence store on S3: one bucket of MinIO, SeaweedFS, Ceph, AWS or another server with this interface.

The modules `services.video.s3_…` are the only ones that know the `minio` client. What servers do differently was tried
(docs/operate/object-stores.md). Digests are ours to check: not every store compares them.
"""

from collections.abc import Iterator, Sequence, Set
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from minio.datatypes import Part
from minio.error import S3Error

from services.video import lock_self_test
from services.video.growing_file import GrowingFile
from services.video.object_store import DeleteResult, LockTest, ObjectStore, PutResult
from services.video.s3_bucket import S3Bucket
from services.video.s3_connection import S3Connection, S3Settings, connect, presigner
from services.video.s3_errors import code_of
from services.video.s3_presigning import presign_part
from services.video.s3_reader import S3Reader
from services.video.s3_writer import S3Writer
from services.video.store_contents import BucketFacts, ObjectFacts, ObjectVersion, StoreAddress, StoredPart

# S3 gives a thousand parts on a page, and takes ten thousand.
PARTS_PAGE: Final = 1000


class S3ObjectStore(ObjectStore):
    """One bucket. Connections are made when they are needed, so that a service starts while the store is away."""

    def __init__(self, settings: S3Settings) -> None:
        """Make it from settings. Raises ValueError for a CA file that cannot be used."""
        self._settings = settings
        self._address = StoreAddress(settings.endpoint, settings.bucket)
        self._client = connect(settings)
        self._presigner = presigner(settings)
        self._bucket = S3Bucket(
            self._client, self._address, uses_object_lock=settings.uses_object_lock, owner=settings.owner
        )
        self._writer = S3Writer(self._bucket)

    @property
    def address(self) -> StoreAddress:
        """Where it is."""
        return self._address

    @property
    def has_public_endpoint(self) -> bool:
        """Whether callers reach the store."""
        return self._presigner is not None

    def ensure_bucket(self) -> BucketFacts:
        """Make the bucket unless it is there."""
        return self._bucket.ensure()

    def is_versioned(self) -> bool:
        """Tell whether the bucket keeps versions; it is not made. Raises StoreError."""
        return self._bucket.is_versioned()

    def check(self) -> None:
        """Ask whether the store answers, knows the key and has the bucket."""
        self._bucket.check()

    def lock_self_test(self) -> LockTest:
        """Write, lock, and try to delete."""
        return lock_self_test.run(self._bucket)

    def put(
        self,
        digest: bytes,
        source: Path | bytes | GrowingFile,
        size_bytes: int,
        *,
        content_type: str = "application/octet-stream",
        retain_until: datetime | None = None,
    ) -> PutResult:
        """Store bytes under the key of their digest unless they are there."""
        return self._writer.put(digest, source, size_bytes, content_type, retain_until)

    def put_rendition(self, key: str, content: bytes, content_type: str) -> None:
        """Store a preview."""
        self._writer.put_content(key, content, content_type)

    def stat(self, key: str) -> ObjectFacts:
        """Return what is known of the current version."""
        return self._bucket.stat(key)

    def read(self, key: str, offset: int = 0, length: int | None = None, *, version_id: str | None = None) -> S3Reader:
        """Open an object from a byte on."""
        if offset < 0 or (length is not None and length < 0):
            raise ValueError("offset and length are not negative")
        return S3Reader(
            self._bucket, key, offset=offset, length=length, version_id=version_id, retries=self._settings.retries
        )

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectFacts]:
        """List current versions by key."""
        return self._bucket.list(prefix, start_after)

    def versions(self, key: str) -> Sequence[ObjectVersion]:
        """Return all versions of one key."""
        return self._bucket.versions(key)

    def restore(self, key: str) -> bool:
        """Remove delete markers that hide an object."""
        return self._bucket.restore(key)

    def remove_version(self, key: str, version_id: str) -> bool:
        """Delete one version unless it is locked."""
        return self._bucket.remove_version(key, version_id)

    def raise_version(self, key: str, version_id: str) -> None:
        """Copy one version over all others."""
        self._writer.raise_version(key, version_id)

    def hide(self, key: str) -> bool:
        """Put a delete marker over an object."""
        return self._bucket.hide(key)

    def delete(self, key: str) -> DeleteResult:
        """Delete all versions that the store lets go."""
        return self._bucket.delete(key)

    def extend_retention(self, key: str, retain_until: datetime) -> bool:
        """Lock the current version until then."""
        return self._bucket.extend_retention(key, retain_until)

    def set_hold(self, key: str, *, is_held: bool) -> bool:
        """Put the current version under legal hold, or release it."""
        return self._bucket.set_hold(key, is_held=is_held)

    # Uploads straight to the store. The client has multipart uploads, but not in its public methods.

    def create_multipart(self, key: str, content_type: str) -> str:
        """Begin a multipart upload."""
        with self._bucket.errors(key):
            return self._client._create_multipart_upload(self._bucket.name, key, {"Content-Type": content_type})

    def list_parts(self, key: str, upload_id: str) -> Sequence[StoredPart]:
        """Return the parts that are there."""
        parts: list[StoredPart] = []
        marker: str | None = None
        with self._bucket.errors(key):
            while True:
                page = self._client._list_parts(
                    self._bucket.name, key, upload_id, max_parts=PARTS_PAGE, part_number_marker=marker
                )
                parts += [StoredPart(part.part_number, part.size or 0, part.etag) for part in page.parts]
                if not page.is_truncated or not page.parts:
                    return parts
                marker = str(page.parts[-1].part_number)

    def complete_multipart(self, key: str, upload_id: str, parts: Sequence[StoredPart]) -> None:
        """Make the object of its parts."""
        named = [Part(part.part_number, part.etag) for part in parts]
        with self._bucket.errors(key):
            self._client._complete_multipart_upload(self._bucket.name, key, upload_id, named)

    def abort_multipart(self, key: str, upload_id: str) -> None:
        """Forget an upload and its parts."""
        with self._bucket.errors(key):
            _abort(self._client, self._bucket.name, key, upload_id)

    def abort_stale_multiparts(self, older_than: datetime, under_way: Set[str] = frozenset()) -> int:
        """Forget every upload begun before then, but those that somebody goes on with."""
        aborted = 0
        key_marker: str | None = None
        upload_marker: str | None = None
        with self._bucket.errors():
            while True:
                page = self._client._list_multipart_uploads(
                    self._bucket.name, key_marker=key_marker, upload_id_marker=upload_marker
                )
                for upload in page.uploads:
                    is_known = upload.upload_id in under_way
                    if not is_known and upload.initiated_time is not None and upload.initiated_time < older_than:
                        _abort(self._client, self._bucket.name, upload.object_name, upload.upload_id or "")
                        aborted += 1
                if not page.is_truncated or not page.uploads:
                    return aborted
                # A store that names no next key lists by upload: with a key SeaweedFS finds nothing behind a page.
                # Not the client's own next marker, which it stores under a name that nobody can ask for.
                key_marker = page.uploads[-1].object_name if page.next_key_marker else None
                upload_marker = page.uploads[-1].upload_id

    def copy_from_staging(
        self,
        key: str,
        digest: bytes,
        size_bytes: int,
        *,
        content_type: str = "application/octet-stream",
        retain_until: datetime | None = None,
    ) -> PutResult:
        """Copy a staging object to the key of its digest."""
        return self._writer.copy(key, digest, size_bytes, content_type, retain_until)

    def presign_get(self, key: str, seconds: int, *, content_type: str, file_name: str = "") -> str:
        """Make a link by which whoever has it reads the object."""
        disposition = f'attachment; filename="{file_name}"' if file_name else "inline"
        with self._bucket.errors(key):
            return self._public.get_presigned_url(
                "GET",
                self._bucket.name,
                key,
                timedelta(seconds=seconds),
                response_headers={
                    "response-content-type": content_type,
                    "response-content-disposition": disposition,
                },
            )

    def presign_put_part(self, key: str, upload_id: str, part_number: int, size_bytes: int, seconds: int) -> str:
        """Make a link by which whoever has it puts one part of this size."""
        with self._bucket.errors(key):
            return presign_part(self._public, self._bucket.name, key, upload_id, part_number, size_bytes, seconds)

    @property
    def _public(self) -> S3Connection:
        if self._presigner is None:
            raise RuntimeError("the store has no public endpoint")
        return self._presigner

    def close(self) -> None:
        """Close connections."""
        self._client.close()


def _abort(client: S3Connection, bucket: str, key: str, upload_id: str) -> None:
    try:
        client._abort_multipart_upload(bucket, key, upload_id)
    except S3Error as error:
        if code_of(error) != "NoSuchUpload":
            raise
