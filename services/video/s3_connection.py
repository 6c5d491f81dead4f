"""Requests to one S3 server through the `minio` client: connections, credentials from files, bodies streamed from disk.

Knows HTTP and signatures; what the requests are for is in `services.video.s3_store`. The client's own put wants the
body in memory and hashes it; evidence comes with its digest, so `HashedBody` is sent as it lies on the disk.
"""

import io
import logging
import os
import ssl
import threading
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final, Self, cast
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio import time as s3_time
from minio.credentials.credentials import Credentials
from minio.credentials.providers import Provider
from urllib3.util import Retry, Timeout

from services.video.config import VideoSettings
from services.video.growing_file import GrowingFile
from services.video.object_store import WrongCredentialsError

BLOCK_BYTES: Final = 256 * 1024
"""What is read from the disk and written to the socket at once: measured, larger blocks send no faster."""

# More requests than a service has threads are never under way; connections beyond it are closed after use.
CONNECTIONS_MAX: Final = 32

# 0.2, 0.4, 0.8 … seconds between attempts, so that a store that restarts is not met by all at once.
RETRY_BACKOFF_SECONDS: Final = 0.2
RETRY_BACKOFF_SECONDS_MAX: Final = 5.0
# What servers and what stands before them answer while they start, are overloaded or change over.
RETRIED_STATUSES: Final = (500, 502, 503, 504)

# A key is some dozens of characters; a larger file is some other file.
KEY_FILE_BYTES_MAX: Final = 4096

# A request that is made again is no news: what becomes of it is told by whoever asked.
logging.getLogger("urllib3").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class S3Settings:
    """How one bucket of one server is reached."""

    endpoint: str
    bucket: str
    access_key_file: Path
    secret_key_file: Path
    public_endpoint: str | None = None
    region: str = "us-east-1"
    ca_file: Path | None = None
    is_path_style: bool = True
    connect_timeout_seconds: float = 3.0
    read_timeout_seconds: float = 30.0
    retries: int = 2
    uses_object_lock: bool = True
    owner: str = ""
    """Code of the platform whose bucket it has to be; empty for tools, which do not look."""

    @classmethod
    def of(cls, settings: VideoSettings, owner: str = "") -> Self:
        """Take them from the settings of the service."""
        return cls(
            endpoint=settings.s3_endpoint,
            bucket=settings.s3_bucket,
            access_key_file=settings.s3_access_key_file,
            secret_key_file=settings.s3_secret_key_file,
            public_endpoint=settings.s3_public_endpoint,
            region=settings.s3_region,
            ca_file=settings.s3_ca_file,
            is_path_style=settings.s3_path_style,
            connect_timeout_seconds=settings.s3_connect_timeout_seconds,
            read_timeout_seconds=settings.s3_read_timeout_seconds,
            retries=settings.s3_retries,
            uses_object_lock=settings.object_lock != "off",
            owner=owner,
        )


class KeyFiles(Provider):
    """The access key and its secret from two files, read again when one was replaced: keys change without a restart."""

    def __init__(self, access_key_file: Path, secret_key_file: Path) -> None:
        self._files = (access_key_file, secret_key_file)
        self._guard = threading.Lock()
        self._seen: tuple[object, ...] = ()
        self._credentials: Credentials | None = None

    def retrieve(self) -> Credentials:
        """Return what the files hold now. Raises WrongCredentialsError."""
        try:
            seen = tuple((found.st_mtime_ns, found.st_ino, found.st_size) for found in map(os.stat, self._files))
            with self._guard:
                if self._credentials is None or seen != self._seen:
                    access_key, secret_key = map(_read_key, self._files)
                    self._credentials = Credentials(access_key, secret_key)
                    self._seen = seen
                return self._credentials
        except OSError as error:
            raise WrongCredentialsError(
                f"the key file {error.filename} cannot be read: {error.strerror} 无法读取证据库密钥文件"
            ) from error


def _read_key(path: Path) -> str:
    with path.open("rb") as file:
        key = file.read(KEY_FILE_BYTES_MAX + 1).decode("utf-8", "replace").strip()
    if not key or len(key) > KEY_FILE_BYTES_MAX or not key.isprintable():
        raise WrongCredentialsError(f"the key file {path} holds no key 密钥文件内容无效")
    return key


UNSIGNED: Final = "UNSIGNED-PAYLOAD"
"""Stands for the digest of a body that the signature does not cover (AWS Signature Version 4)."""


class HashedBody:
    """A run of bytes of an open file as the body of a request, with its SHA-256 or UNSIGNED for the signature.

    Read through `os.pread`: several requests may send from one file. Less than the whole run is an error of the
    sending, which the length that was announced brings to light.
    """

    def __init__(self, file: IO[bytes] | io.BytesIO, offset: int, size_bytes: int, signed_digest: str) -> None:
        self.signed_digest = signed_digest
        self.size_bytes = size_bytes
        self._file = file
        self._offset = offset
        self._position = 0
        self._number = None if isinstance(file, io.BytesIO) else file.fileno()

    def __len__(self) -> int:
        """Return how many bytes are sent."""
        return self.size_bytes

    def read(self, count: int = -1) -> bytes:
        """Return the next bytes, none at the end."""
        left = self.size_bytes - self._position
        wanted = left if count < 0 else min(count, left)
        begin = self._offset + self._position
        if self._number is None:
            content = cast(io.BytesIO, self._file).getbuffer()[begin : begin + wanted].tobytes()
        else:
            content = os.pread(self._number, wanted, begin)
        self._position += len(content)
        return content

    def tell(self) -> int:
        """Return the position; a request that is made again begins where it was."""
        return self._position

    def seek(self, position: int) -> int:
        """Go to a position."""
        self._position = position
        return position


class GrowingBody(HashedBody):
    """The bytes of a file that still comes: reading waits for them, and raises AbandonedError when they end."""

    def __init__(self, file: IO[bytes], growing: GrowingFile, signed_digest: str) -> None:
        super().__init__(file, 0, growing.size_bytes, signed_digest)
        self._growing = growing

    def read(self, count: int = -1) -> bytes:
        """Return the next bytes as far as they are there, at least one but at the end."""
        left = self.size_bytes - self.tell()
        if not left:
            return b""
        ready = self._growing.wait(self.tell())
        return super().read(ready if count < 0 else min(count, ready))


class S3Connection(Minio):
    """The client, with bodies that are already hashed and stay on the disk."""

    def _build_headers(
        self,
        host: str,
        headers: Any = None,
        body: Any = None,
        creds: Credentials | None = None,
    ) -> tuple[Any, datetime]:
        if not isinstance(body, HashedBody):
            return super()._build_headers(host, headers, body, creds)
        # As the client does for bytes, except that the digest is known, also where TLS guards the way: stores that
        # check it find what went wrong between our disk and theirs.
        date = s3_time.utcnow()
        built = dict(headers or {})
        built["Host"] = host
        built["User-Agent"] = self._user_agent
        built["Content-Length"] = str(len(body))
        built["x-amz-content-sha256"] = body.signed_digest
        if creds is not None and creds.session_token:
            built["X-Amz-Security-Token"] = creds.session_token
        built["x-amz-date"] = s3_time.to_amz_date(date)
        return built, date

    def close(self) -> None:
        """Close connections that nobody uses now."""
        self._http.clear()


def connect(settings: S3Settings) -> S3Connection:
    """Make the client for requests to the store. Asks nobody. ValueError for a CA file that holds no certificates."""
    return _client(settings, settings.endpoint, _pool(settings))


def presigner(settings: S3Settings) -> S3Connection | None:
    """Make the client that signs links for others, None without an address for them. It never asks the store."""
    if settings.public_endpoint is None:
        return None
    return _client(settings, settings.public_endpoint, urllib3.PoolManager())


def _client(settings: S3Settings, endpoint: str, pool: urllib3.PoolManager) -> S3Connection:
    parts = urlsplit(endpoint)
    client = S3Connection(
        parts.netloc,
        credentials=KeyFiles(settings.access_key_file, settings.secret_key_file),
        secure=parts.scheme == "https",
        # Given, so that the client never asks for it.
        region=settings.region,
        http_client=pool,
    )
    client._base_url.virtual_style_flag = not settings.is_path_style
    return client


def _pool(settings: S3Settings) -> urllib3.PoolManager:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.ca_file is not None:
        # Only it: a private authority is named so that no other one can stand in for it.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_verify_locations(settings.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"{settings.ca_file} holds no certificates of an authority 证书文件不可用") from error
    return urllib3.PoolManager(
        maxsize=CONNECTIONS_MAX,
        blocksize=BLOCK_BYTES,
        ssl_context=context,
        timeout=Timeout(connect=settings.connect_timeout_seconds, read=settings.read_timeout_seconds),
        retries=Retry(
            total=settings.retries,
            # A redirect would carry the signature of another address.
            redirect=0,
            # Every request of ours may be made again; what a second attempt answers differently is dealt with there.
            allowed_methods=None,
            status_forcelist=RETRIED_STATUSES,
            backoff_factor=RETRY_BACKOFF_SECONDS,
            backoff_max=RETRY_BACKOFF_SECONDS_MAX,
            # The last answer tells more than that there were too many.
            raise_on_status=False,
            raise_on_redirect=False,
            respect_retry_after_header=False,
        ),
    )
