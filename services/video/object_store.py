"""What the video service asks of an evidence store: the interface, what becomes of a call, and how it fails. What a
store says of itself and of what is in it stands in `store_contents`.

Bytes are named by keys: `object_key` for sealed bytes, `rendition_key` for previews, `staging_key` for uploads that go
straight to the store. No error of a store is a refusal of a call; `translate_store_errors` makes it one at the edge of
a use case. `services.video.s3_store` is the implementation.
"""

import re
import secrets
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.video import refusals_reading
from services.video.growing_file import GrowingFile
from services.video.store_contents import BucketFacts, ObjectFacts, ObjectVersion, StoreAddress, StoredPart

CHUNK_BYTES_MAX: Final = 1024 * 1024
"""A reader gives at most so many bytes at once: the most that one message of ReadEvidence holds."""

OBJECT_PREFIX: Final = "sha256/"
RENDITION_PREFIX: Final = "renditions/"
STAGING_PREFIX: Final = "uploads/"
LOCK_TEST_PREFIX: Final = "lock-tests/"

_OBJECT_KEY: Final = re.compile(r"sha256/([0-9a-f]{2})/(\1[0-9a-f]{62})")

# How long callers wait before they send again: a store that is away may be back in a moment, what a person has to put
# right takes longer.
RETRY_SECONDS: Final = 5.0
REPAIR_RETRY_SECONDS: Final = 60.0


def object_key(digest: bytes) -> str:
    """Return the key of sealed bytes: `sha256/<first two hex digits>/<hex>`. ValueError unless it has 32 bytes."""
    if len(digest) != 32:
        raise ValueError(f"a SHA-256 digest has 32 bytes, not {len(digest)}")
    text = digest.hex()
    return f"{OBJECT_PREFIX}{text[:2]}/{text}"


def digest_of(key: str) -> bytes | None:
    """Return the digest that an object's key names, None for every other key."""
    found = _OBJECT_KEY.fullmatch(key)
    return bytes.fromhex(found[2]) if found else None


def rendition_key(digest: bytes, name: str) -> str:
    """Return the key of a preview (`poster`, `thumbnail`) of the bytes with this digest."""
    return f"{RENDITION_PREFIX}{object_key(digest).removeprefix(OBJECT_PREFIX)}/{name}"


def staging_key() -> str:
    """Make a key under which bytes wait that nobody has checked yet; no two calls return the same."""
    return f"{STAGING_PREFIX}{secrets.token_hex(16)}"


# What became of a call


@dataclass(frozen=True, slots=True)
class PutResult:
    """What became of bytes that were to be stored; `was_there` when the store had them and nothing was sent."""

    key: str
    was_there: bool


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """How many versions were deleted, and how many the store keeps because of a lock or hold."""

    deleted_count: int
    kept_count: int


class LockState(Enum):
    """What a self-test found about the locks of the store; values as in `zhichao.video.v1.LockState`."""

    ENFORCED = 1
    NOT_ENFORCED = 2
    UNSUPPORTED = 3
    UNKNOWN = 4


@dataclass(frozen=True, slots=True)
class LockTest:
    """The outcome of one self-test, with a sentence about it for a person, in English and Chinese."""

    state: LockState
    detail: str
    test_time: datetime


# How the store fails


class StoreError(Exception):
    """The store did not do what it was asked. The text is for operators: status, logs, `zhichao doctor`.

    It names endpoint and bucket, never a secret, and is never sent to callers (see `translate_store_errors`).
    """

    retry_seconds: float = REPAIR_RETRY_SECONDS
    """How long a caller should wait before the same call again."""


class StoreUnavailableError(StoreError):
    """The store does not answer, or answers that it cannot now; it was asked as often as the settings say."""

    retry_seconds = RETRY_SECONDS


class StoreFullError(StoreError):
    """The store has no room: its disk is full or the bucket's quota is used up."""


class BucketMissingError(StoreError):
    """The store answers and has no bucket of this name."""


class WrongCredentialsError(StoreError):
    """The store refuses the key, its secret, or what the key wants to do; or the clocks are too far apart."""


class StoreRefusedError(StoreError):
    """The store answers something that no other error stands for; the text has its code."""


class ObjectMissingError(StoreError):
    """The store answers, its bucket is there, and this object is not in it."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the store has no object {key}")
        self.key = key


class BytesDifferError(StoreError):
    """What was to be stored is not what its digest or size says: the file has changed, or was never that."""


class UploadGoneError(StoreError):
    """The store knows the multipart upload no more: it was completed, aborted, or cleaned up."""


class PartsRefusedError(StoreError):
    """The store cannot make an object of these parts: one is missing, too small, or another one."""


def as_service_error(error: StoreError) -> ServiceError:
    """Return what callers are told: EVIDENCE_MISSING for an object that is gone, else OBJECT_STORE_UNAVAILABLE.

    Nothing of the error's text is in it. OBJECT_STORE_UNAVAILABLE says when to come again.
    """
    if isinstance(error, ObjectMissingError) and (digest := digest_of(error.key)) is not None:
        return refusals_reading.missing(digest)
    return ServiceError(
        Reason.OBJECT_STORE_UNAVAILABLE,
        "the evidence store cannot do this now; nothing was sealed or changed, send the call again",
        message_zh="证据库暂不可用，未做任何更改，请稍后重试",
        retry_after_seconds=error.retry_seconds,
    )


@contextmanager
def translate_store_errors() -> Iterator[None]:
    """Turn errors of the store into refusals of the call (see `as_service_error`)."""
    try:
        yield
    except StoreError as error:
        raise as_service_error(error) from error


# The store


class ObjectReader(Iterator[bytes], Protocol):
    """Bytes of one object as they come, in chunks of at most CHUNK_BYTES_MAX; close it unless read to its end.

    A connection that breaks is made again where it broke, as often as the settings say, and only for the same version;
    then iterating raises StoreUnavailableError. The digest is for the reader to check.
    """

    @property
    def size_bytes(self) -> int:
        """Size of the whole object, whatever part is read."""
        ...

    def close(self) -> None:
        """Give up the rest. May be called again."""
        ...

    def __enter__(self) -> Self:
        """Return the reader."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        ...


class ObjectStore(Protocol):
    """One bucket of one store. Thread safe.

    Methods raise the errors that they name, and besides these StoreUnavailableError, StoreFullError,
    BucketMissingError, WrongCredentialsError and StoreRefusedError.
    """

    @property
    def address(self) -> StoreAddress:
        """Where it is."""
        ...

    @property
    def has_public_endpoint(self) -> bool:
        """Whether callers reach the store: without it nothing can be presigned."""
        ...

    # The bucket

    def ensure_bucket(self) -> BucketFacts:
        """Make the bucket, with versions and Object Lock where the store knows them, unless it is there.

        A bucket that is there is not changed, so that a key without administrative rights is enough for it.
        """
        ...

    def check(self) -> None:
        """Ask whether the store answers, knows the key and has the bucket. One small request."""
        ...

    def lock_self_test(self) -> LockTest:
        """Write, lock, and try to delete the locked version, and remove left-overs of former tests. Raises nothing."""
        ...

    # Objects

    def put(
        self,
        digest: bytes,
        source: Path | bytes | GrowingFile,
        size_bytes: int,
        *,
        content_type: str = "application/octet-stream",
        retain_until: datetime | None = None,
    ) -> PutResult:
        """Store bytes under the key of their digest, unless an object of this size is there already.

        Repeatable, also at the same time from two places: one object results. Bytes are streamed from the file; the
        memory needed does not depend on their size. They are stored or not, never in part. `retain_until` locks the
        version (COMPLIANCE) where the bucket has locks and their use is not switched off, unless that time has passed;
        the lock of an object that was there is extended, never shortened. Raises BytesDifferError if the file has
        another size, or if the store says that it has another digest; not every store does
        (docs/operate/object-stores.md). A file that still grows is sent as it comes, and raises AbandonedError when it
        goes on no more; nothing is stored then.
        """
        ...

    def put_rendition(self, key: str, content: bytes, content_type: str) -> None:
        """Store a preview under its `rendition_key`; the one before is replaced. Never locked."""
        ...

    def stat(self, key: str) -> ObjectFacts:
        """Return what is known of the current version. Raises ObjectMissingError."""
        ...

    def read(
        self, key: str, offset: int = 0, length: int | None = None, *, version_id: str | None = None
    ) -> ObjectReader:
        """Open an object from a byte on, for `length` bytes or to its end; fewer come if it ends before.

        An offset at or beyond the end gives no bytes. The store has been asked when this returns. Raises
        ObjectMissingError.
        """
        ...

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectFacts]:
        """List current versions whose keys begin so, by key, after `start_after`; pages are read as needed."""
        ...

    def versions(self, key: str) -> Sequence[ObjectVersion]:
        """Return all versions and delete markers of one key; empty when there is none.

        The current one is first, then the newest, as far as the store tells times apart: some by the second only.
        """
        ...

    def restore(self, key: str) -> bool:
        """Remove delete markers that hide an object, so that its newest version is the current one again.

        True if there is a current version now, False if the store has none at all. For an object that was removed
        behind our back. The caller checks what is there now.
        """
        ...

    def remove_version(self, key: str, version_id: str) -> bool:
        """Delete one version, so that the one before it is the current one; False if the store keeps it locked.

        For a version that was put over the right one behind our back. The caller has read both.
        """
        ...

    def raise_version(self, key: str, version_id: str) -> None:
        """Copy one version, without its locks, over all others. Raises ObjectMissingError."""
        ...

    def hide(self, key: str) -> bool:
        """Put a delete marker over an object, so that `put` stores bytes anew; False where that would delete them."""
        ...

    def delete(self, key: str) -> DeleteResult:
        """Delete all versions that the store lets go, and delete markers. A key that is not there is no error.

        This asks no question: whether evidence may be deleted is decided before.
        """
        ...

    # Locks

    def extend_retention(self, key: str, retain_until: datetime) -> bool:
        """Lock the current version until then, for some 30 years at most, unless it is locked for longer. False where
        nothing is locked, or when that time has passed.

        Raises ObjectMissingError.
        """
        ...

    def set_hold(self, key: str, *, is_held: bool) -> bool:
        """Put the current version under the store's legal hold, or release it. False where nothing is locked.

        Raises ObjectMissingError.
        """
        ...

    # Uploads straight to the store

    def create_multipart(self, key: str, content_type: str) -> str:
        """Begin a multipart upload under a staging key and return its id."""
        ...

    def list_parts(self, key: str, upload_id: str) -> Sequence[StoredPart]:
        """Return the parts that are there, by number. Raises UploadGoneError."""
        ...

    def complete_multipart(self, key: str, upload_id: str, parts: Sequence[StoredPart]) -> None:
        """Make the object of its parts. Raises UploadGoneError, PartsRefusedError."""
        ...

    def abort_multipart(self, key: str, upload_id: str) -> None:
        """Forget an upload and its parts; one that is gone already is no error."""
        ...

    def abort_stale_multiparts(self, older_than: datetime, under_way: Set[str] = frozenset()) -> int:
        """Forget uploads begun before then, as far as they are listed, but those with these ids; return how many."""
        ...

    def copy_from_staging(
        self,
        key: str,
        digest: bytes,
        size_bytes: int,
        *,
        content_type: str = "application/octet-stream",
        retain_until: datetime | None = None,
    ) -> PutResult:
        """Copy a staging object, inside the store, to the key of its digest, as `put` would store it.

        The caller has read and checked it; the staging object stays. Raises ObjectMissingError for the staging key,
        BytesDifferError if it has another size now.
        """
        ...

    def presign_get(self, key: str, seconds: int, *, content_type: str, file_name: str = "") -> str:
        """Make a link by which whoever has it reads the object for `seconds` (1 to 604,800); asks no store.

        With `file_name` browsers save the bytes under it, else they show them. RuntimeError without a public endpoint.
        """
        ...

    def presign_put_part(self, key: str, upload_id: str, part_number: int, size_bytes: int, seconds: int) -> str:
        """Make a link by which whoever has it puts one part of this size, for `seconds` (1 to 604,800); asks no store.

        RuntimeError without a public endpoint.
        """
        ...

    def close(self) -> None:
        """Close connections. Readers that are open fail."""
        ...
