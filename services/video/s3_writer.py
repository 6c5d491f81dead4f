"""Writing objects to S3: the same bytes once, streamed from disk, in one request or in parts."""

import base64
import hashlib
import io
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from minio.commonconfig import COMPLIANCE
from minio.datatypes import Part
from minio.error import S3Error
from minio.retention import Retention
from minio.time import to_iso8601utc
from urllib3 import BaseHTTPResponse

from services.video import s3_copying
from services.video.growing_file import AbandonedError, GrowingFile
from services.video.object_store import (
    BytesDifferError,
    PutResult,
    StoreError,
    UploadGoneError,
    object_key,
)
from services.video.s3_bucket import S3Bucket
from services.video.s3_connection import UNSIGNED, GrowingBody, HashedBody
from services.video.s3_errors import CONFLICT, EXISTS, NO_CONDITIONS, NOT_FOUND, code_of, status_of
from services.video.s3_surplus import remove_surplus
from services.video.store_contents import ObjectFacts

SINGLE_PUT_BYTES_MAX: Final = 64 * 1024 * 1024
"""Larger files go in parts: what is sent again after a broken connection stays small. S3 takes 5 GiB in one request."""

PART_BYTES: Final = 16 * 1024 * 1024
"""4 GiB, the largest evidence, in 256 parts; S3 takes 10,000 parts of 5 MiB and more."""

# How often a put begins anew because the same bytes are being put from elsewhere: each time it finds what was made.
CONFLICTS_MAX: Final = 3

_CHECKSUM: Final = "x-amz-checksum-sha256"
_HASH_BLOCK_BYTES: Final = 1024 * 1024


class S3Writer:
    """Puts objects into a bucket."""

    def __init__(self, bucket: S3Bucket) -> None:
        self._bucket = bucket
        # Until the store says that it does not know conditions.
        self._has_conditions = True
        # Whether the last object put was compared with its checksum.
        self._has_checksums = False

    def put(
        self,
        digest: bytes,
        source: Path | bytes | GrowingFile,
        size_bytes: int,
        content_type: str,
        retain_until: datetime | None,
    ) -> PutResult:
        """Store bytes under the key of their digest unless they are there (see ObjectStore.put)."""
        self._bucket.claim()
        with ExitStack() as stack:
            if isinstance(source, GrowingFile):
                grown = stack.enter_context(source.path.open("rb"))
                if (put := self._put_once(digest, grown, size_bytes, content_type, retain_until, source)) is None:
                    raise AbandonedError("the same bytes are put from elsewhere")
                return put
            file = stack.enter_context(source.open("rb")) if isinstance(source, Path) else io.BytesIO(source)
            if (found := file.seek(0, io.SEEK_END)) != size_bytes:
                raise BytesDifferError(f"the file has {found} bytes and not {size_bytes} 文件大小不符")
            for _ in range(CONFLICTS_MAX):
                result = self._put_once(digest, file, size_bytes, content_type, retain_until)
                if result is not None:
                    return result
        raise BytesDifferError(f"{object_key(digest)} is written by somebody else all the time 文件被反复写入")

    def put_content(self, key: str, content: bytes, content_type: str) -> None:
        """Store bytes under any key; what was there is replaced."""
        body = HashedBody(io.BytesIO(content), 0, len(content), hashlib.sha256(content).hexdigest())
        with self._bucket.errors(key, is_write=True):
            self._send(key, body, {"Content-Type": content_type})

    def raise_version(self, key: str, version_id: str) -> None:
        """Copy one version of an object over all others."""
        with self._bucket.errors(key, is_write=True):
            try:
                found = self._bucket.client.stat_object(self._bucket.name, key, version_id=version_id)
                modified_time = found.last_modified or datetime.now(UTC)
                version = ObjectFacts(key, found.size or 0, modified_time, version_id)
                s3_copying.copy(self._bucket, version, key, found.content_type or "application/octet-stream")
            except S3Error as error:
                if status_of(error) == NOT_FOUND and code_of(error) != "NoSuchUpload":
                    raise self._bucket.missing(key) from error
                raise

    def copy(
        self, key: str, digest: bytes, size_bytes: int, content_type: str, retain_until: datetime | None
    ) -> PutResult:
        """Copy a staging object to the key of its digest, inside the store."""
        self._bucket.claim()
        target = object_key(digest)
        found = self._bucket.find(target)
        if found is not None and found.size_bytes == size_bytes:
            return self._was_there(target, retain_until)
        staged = self._bucket.stat(key)
        if staged.size_bytes != size_bytes:
            raise BytesDifferError(f"{key} has {staged.size_bytes} bytes and not {size_bytes} 文件大小不符")
        with self._bucket.errors(key):
            try:
                s3_copying.copy(self._bucket, staged, target, content_type)
            except S3Error as error:
                if status_of(error) == NOT_FOUND and code_of(error) != "NoSuchUpload":
                    raise self._bucket.missing(key) from error
                raise
        remove_surplus(self._bucket, target, size_bytes)
        if retain_until is not None:
            # Not with the copy: SeaweedFS copies and forgets the lock.
            self._bucket.extend_retention(target, retain_until)
        return PutResult(target, was_there=False)

    def _put_once(
        self,
        digest: bytes,
        file: IO[bytes] | io.BytesIO,
        size_bytes: int,
        content_type: str,
        until: datetime | None,
        growing: GrowingFile | None = None,
    ) -> PutResult | None:
        """Put unless it is there; None when somebody else put something in the same moment."""
        key = object_key(digest)
        found = self._bucket.find(key)
        if found is not None and found.size_bytes == size_bytes:
            return self._was_there(key, until)
        headers: dict[str, Any] = {"Content-Type": content_type}
        if found is None and self._has_conditions:
            # What has another size is not what it should be, and gets a version over it.
            headers["If-None-Match"] = "*"
        with self._bucket.errors(key, is_write=True):
            try:
                if size_bytes <= SINGLE_PUT_BYTES_MAX:
                    self._put_single(key, digest, file, size_bytes, headers, until, growing)
                else:
                    self._put_parts(key, file, size_bytes, content_type, until)
            except S3Error as error:
                if code_of(error) in (EXISTS, CONFLICT):
                    return None
                if code_of(error) == NO_CONDITIONS and self._has_conditions:
                    self._has_conditions = False
                    return None
                raise
        return PutResult(key, was_there=False)

    def _was_there(self, key: str, retain_until: datetime | None) -> PutResult:
        if retain_until is not None:
            self._bucket.extend_retention(key, retain_until)
        return PutResult(key, was_there=True)

    def _retention(self, retain_until: datetime | None) -> Retention | None:
        end = None if retain_until is None else self._bucket.lock_end(retain_until)
        return None if end is None else Retention(COMPLIANCE, end)

    def _put_single(
        self,
        key: str,
        digest: bytes,
        file: IO[bytes] | io.BytesIO,
        size_bytes: int,
        headers: dict[str, Any],
        until: datetime | None,
        growing: GrowingFile | None,
    ) -> None:
        # Stores compare the digest of the signature, or this one, or both: SeaweedFS this one only. Hashing twice costs
        # them a sixth of the time, so where this one is compared, the other is left out. With a lock S3 wants this one.
        headers[_CHECKSUM] = base64.b64encode(digest).decode("ascii")
        if (retention := self._retention(until)) is not None:
            headers["x-amz-object-lock-mode"] = retention.mode
            headers["x-amz-object-lock-retain-until-date"] = to_iso8601utc(retention.retain_until_date)
        signed = UNSIGNED if self._has_checksums else digest.hex()
        body = HashedBody(file, 0, size_bytes, signed) if growing is None else GrowingBody(file, growing, signed)
        response = self._send(key, body, headers)
        # A store that compares it says so in its answer.
        self._has_checksums = response.headers.get(_CHECKSUM) == headers[_CHECKSUM]

    def _put_parts(
        self, key: str, file: IO[bytes] | io.BytesIO, size_bytes: int, content_type: str, until: datetime | None
    ) -> None:
        client, bucket = self._bucket.client, self._bucket.name
        upload_id = client._create_multipart_upload(bucket, key, {"Content-Type": content_type})
        try:
            parts = []
            for number, begin in enumerate(range(0, size_bytes, PART_BYTES), start=1):
                size = min(PART_BYTES, size_bytes - begin)
                body = HashedBody(file, begin, size, _sha256_hex(file, begin, size))
                query = {"partNumber": str(number), "uploadId": upload_id}
                parts.append(Part(number, _etag(self._send(key, body, {}, query))))
            try:
                client._complete_multipart_upload(bucket, key, upload_id, parts)
            except S3Error as error:
                # A second attempt after an answer that was lost finds it done.
                if code_of(error) != "NoSuchUpload":
                    raise
        except BaseException:
            with suppress(StoreError), self._bucket.errors(key):
                client._abort_multipart_upload(bucket, key, upload_id)
            raise
        made = self._bucket.find(key)
        if made is None or made.size_bytes != size_bytes:
            raise UploadGoneError(f"the parts of {key} were put and did not become an object 分片上传未完成")
        remove_surplus(self._bucket, key, size_bytes)
        if until is not None:
            # After it is made: not every store takes a lock with the parts.
            self._bucket.extend_retention(key, until)

    def _send(
        self, key: str, body: HashedBody, headers: dict[str, Any], query: dict[str, Any] | None = None
    ) -> BaseHTTPResponse:
        return self._bucket.client._execute(
            "PUT",
            self._bucket.name,
            key,
            body=body,  # type: ignore[arg-type] # our own client takes it
            headers=headers,
            query_params=query,
            no_body_trace=True,
        )


def _etag(response: BaseHTTPResponse) -> str:
    return str(response.headers.get("etag", "")).replace('"', "")


def _sha256_hex(file: IO[bytes] | io.BytesIO, begin: int, size_bytes: int) -> str:
    hashed = hashlib.sha256()
    body = HashedBody(file, begin, size_bytes, "")
    while block := body.read(_HASH_BLOCK_BYTES):
        hashed.update(block)
    return hashed.hexdigest()
