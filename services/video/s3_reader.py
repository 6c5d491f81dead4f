"""Reading one version of an object from S3 as it comes, across connections that break."""

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final, Self

import urllib3.exceptions
from minio.error import S3Error
from urllib3 import BaseHTTPResponse

from services.video.object_store import CHUNK_BYTES_MAX, ObjectReader, StoreUnavailableError
from services.video.s3_bucket import S3Bucket
from services.video.s3_errors import NOT_FOUND, code_of, of_transport, status_of

# What the client raises when an answer breaks off or ends early.
_BROKEN: Final = (urllib3.exceptions.HTTPError, OSError)


class S3Reader(ObjectReader):
    """Bytes of one object. The first request is made at once, so that what cannot be read is known before anything."""

    def __init__(
        self,
        bucket: S3Bucket,
        key: str,
        *,
        offset: int,
        length: int | None,
        version_id: str | None,
        retries: int,
    ) -> None:
        self._bucket = bucket
        self._key = key
        self._position = offset
        self._version_id = version_id
        self._etag: str | None = None
        self._size_bytes = 0
        self._end = 0
        self._attempts_left = retries
        self._response: BaseHTTPResponse | None = None
        with bucket.errors(key):
            self._open_first(length)

    @property
    def size_bytes(self) -> int:
        """Size of the whole object."""
        return self._size_bytes

    def __iter__(self) -> Iterator[bytes]:
        """Return the reader."""
        return self

    def __next__(self) -> bytes:
        """Return the next bytes. Raises StoreError when they cannot be had."""
        while self._position < self._end:
            wanted = min(CHUNK_BYTES_MAX, self._end - self._position)
            try:
                if self._response is None:
                    self._open_again()
                assert self._response is not None, "opened"  # noqa: S101 - narrows the type
                chunk = self._response.read(wanted, decode_content=False)
                if chunk:
                    self._position += len(chunk)
                    return chunk
                broken: Exception = urllib3.exceptions.ProtocolError("the answer ended early")
            except _BROKEN as error:
                broken = error
            self._drop()
            if self._attempts_left == 0:
                raise of_transport(broken, self._bucket.address) from broken
            self._attempts_left -= 1
        self.close()
        raise StopIteration

    def close(self) -> None:
        """Give up the rest."""
        self._end = min(self._end, self._position)
        response, self._response = self._response, None
        if response is None:
            return
        # One that was read to its end goes back to the others; what is left of any other is not worth waiting for.
        if not getattr(response, "length_remaining", 1):
            response.release_conn()
        else:
            response.close()

    def __enter__(self) -> Self:
        """Return the reader."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _open_first(self, length: int | None) -> None:
        begin = self._position
        if length == 0:
            self._size_bytes = self._stat_size()
            return
        try:
            response = self._request(begin, None if length is None else begin + length - 1)
        except S3Error as error:
            if status_of(error) == NOT_FOUND and code_of(error) not in ("NoSuchKey", "NoSuchBucket", "NoSuchVersion"):
                raise self._bucket.missing(self._key) from error
            if code_of(error) != "InvalidRange":
                raise
            # Begins at or beyond the end: there is nothing to read.
            self._size_bytes = self._stat_size()
            return
        self._response = response
        headers = response.headers
        total = headers.get("content-range", "").rpartition("/")[2]
        self._size_bytes = int(total) if total.isdecimal() else int(headers["content-length"])
        self._end = self._size_bytes if length is None else min(self._size_bytes, begin + length)
        # What follows a broken connection has to be the same version.
        self._version_id = self._version_id or headers.get("x-amz-version-id") or None
        self._etag = headers.get("etag")

    def _open_again(self) -> None:
        with self._bucket.errors(self._key):
            try:
                self._response = self._request(self._position, self._end - 1)
            except S3Error as error:
                if code_of(error) != "PreconditionFailed":
                    raise
                raise StoreUnavailableError(
                    f"{self._key} was replaced in {self._bucket.address.endpoint} while it was read 读取期间文件被替换"
                ) from error

    def _request(self, begin: int, last: int | None) -> BaseHTTPResponse:
        headers: dict[str, Any] = {}
        if begin or last is not None:
            headers["Range"] = f"bytes={begin}-{'' if last is None else last}"
        if self._etag:
            headers["If-Match"] = self._etag
        # Not `get_object`, which is the same with fewer words for the headers.
        return self._bucket.client._execute(
            "GET",
            self._bucket.name,
            self._key,
            headers=headers,
            query_params={"versionId": self._version_id} if self._version_id else None,
            preload_content=False,
        )

    def _stat_size(self) -> int:
        found = self._bucket.client.stat_object(self._bucket.name, self._key, version_id=self._version_id)
        return found.size or 0

    def _drop(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None
