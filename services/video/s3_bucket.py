"""One bucket on S3: what it is, what lies in it, its versions and locks. Moves no bytes."""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta

from minio.commonconfig import COMPLIANCE
from minio.error import S3Error
from minio.retention import Retention
from minio.versioningconfig import VersioningConfig

from services.video import s3_owner
from services.video.custody import EXTENSION_DAYS_MAX
from services.video.object_store import (
    BucketMissingError,
    DeleteResult,
    ObjectMissingError,
    StoreRefusedError,
    WrongCredentialsError,
)
from services.video.s3_connection import S3Connection
from services.video.s3_errors import (
    LOCKED_CODES,
    NO_HOLD_CODES,
    NO_LOCK_CODES,
    NOT_FOUND,
    code_of,
    status_of,
    store_errors,
)
from services.video.s3_owner import OWNER_KEY
from services.video.store_contents import BucketFacts, ObjectFacts, ObjectVersion, StoreAddress

# What S3 calls the version of an object that was stored in a bucket without versions, also once it has them.
NULL_VERSION = "null"
# A lock that ends sooner has ended before it is made: a request takes its time, and clocks differ a little.
LOCK_MIN = timedelta(seconds=5)
# A lock cannot be taken back by anybody: no wrong year, of whatever platform, makes one of centuries. Thirty years, the
# most that retention may be moved ahead; what is kept for longer is locked for longer as time goes on (lock_sweeping).
LOCK_MAX = timedelta(days=EXTENSION_DAYS_MAX)
# Stores keep whole seconds: a lock that is shorter by less is not set again with every look.
LOCK_EXACT = timedelta(seconds=1)
# How much later a lock may end for the store than for this service: by more their clocks are not apart, or nothing is
# answered at all (AWS Signature Version 4).
LOCK_END_MARGIN = timedelta(minutes=15)
# Answers to who makes a bucket that another made in the same moment.
_EXISTS_CODES = frozenset({"BucketAlreadyExists", "BucketAlreadyOwnedByYou"})
# How long a bucket is believed what it said about locks: it has them from its making or not, but it may be made anew by
# hand, and every replica asks for itself. One small request in ten minutes.
LOCKS_KNOWN_SECONDS = 600.0


class S3Bucket:
    """The bucket, asked through a client. With an `owner`, a platform, nothing is put where another one puts."""

    def __init__(self, client: S3Connection, address: StoreAddress, *, uses_object_lock: bool, owner: str = "") -> None:
        self.client = client
        self.address = address
        self.name = address.bucket
        self._uses_object_lock = uses_object_lock
        self._owner = owner
        # Replaced whole: what it said about locks, and by when it is asked again.
        self._locks_known: tuple[bool, float] | None = None
        self._is_claimed = False

    def errors(self, key: str = "", *, is_write: bool = False) -> AbstractContextManager[None]:
        """Return what turns the client's errors into StoreError; `is_write` while bytes of an object are sent."""
        return store_errors(self.address, key, is_write=is_write)

    # The bucket

    def ensure(self) -> BucketFacts:
        """Make it unless it is there, and say what it is."""
        with self.errors():
            is_new = not self.client.bucket_exists(self.name) and self._make()
            is_versioned = self._is_versioned()
        self.forget()
        return BucketFacts(is_new, is_versioned, self.has_object_lock is True)

    def forget(self) -> None:
        """Forget what is known of it: it may be another one, made by hand under the same name."""
        self._locks_known = None
        self._is_claimed = False

    def check(self) -> None:
        """Ask whether it is there, the key may list it, and no other platform puts there. Raises StoreError."""
        with self.errors():
            if not self.client.bucket_exists(self.name):
                raise self._missing()
            # Servers answer the question for a bucket without looking at their disks or at the rights of the key.
            self.client._execute("GET", self.name, query_params={"list-type": "2", "max-keys": "1"})
        self._is_claimed = False
        self.claim()

    def claim(self) -> None:
        """See that the bucket is this platform's, which is asked once and then with each check. Raises StoreError.

        Two platforms in one bucket would take each other's objects for orphans, and remove what is not locked.
        """
        if self._is_claimed or not self._owner:
            return
        with self.errors(OWNER_KEY):
            found = s3_owner.claim(self.client, self.name, self._owner)
        if found != self._owner:
            raise StoreRefusedError(
                f"the bucket {self.name} at {self.address.endpoint} is of platform {found or 'nobody'}, not of "
                f"{self._owner} (object {OWNER_KEY}): give each platform a bucket of its own 存储桶属于其他平台"
            )
        self._is_claimed = True

    def is_versioned(self) -> bool:
        """Tell whether it keeps versions. Raises StoreError."""
        with self.errors():
            return self._is_versioned()

    @property
    def locks(self) -> bool:
        """Whether objects are to be locked: the bucket can, and the settings want it. May ask the store.

        Not while it is not known whether it can: bytes are stored all the same, and locked once it is (lock_sweeping).
        """
        return self._uses_object_lock and self.has_object_lock is True

    def lock_end(self, retain_until: datetime) -> datetime | None:
        """Return until when an object is locked that is kept until then; None where it is not. May ask the store.

        Stores refuse a time that has passed.
        """
        now = datetime.now(UTC)
        return min(retain_until, now + LOCK_MAX) if retain_until > now + LOCK_MIN and self.locks else None

    @property
    def has_object_lock(self) -> bool | None:
        """Whether the bucket was made with Object Lock; None when the key may not ask. May ask the store."""
        known = self._locks_known
        if known is not None and time.monotonic() < known[1]:
            return known[0]
        found = self._asks_for_locks()
        # A right that is granted counts at once.
        self._locks_known = None if found is None else (found, time.monotonic() + LOCKS_KNOWN_SECONDS)
        return found

    def _make(self) -> bool:
        try:
            self.client.make_bucket(self.name, object_lock=True)
        except S3Error as error:
            if code_of(error) in _EXISTS_CODES:
                return False
            if code_of(error) not in NO_LOCK_CODES:
                raise
            # It knows no locks; what it knows is used.
            self.client.make_bucket(self.name)
            self._try_versions()
        return True

    def _try_versions(self) -> None:
        try:
            self.client.set_bucket_versioning(self.name, VersioningConfig("Enabled"))
        except S3Error as error:
            if code_of(error) not in NO_LOCK_CODES:
                raise

    def _is_versioned(self) -> bool:
        try:
            return self.client.get_bucket_versioning(self.name).status == "Enabled"
        except S3Error as error:
            # A key with least rights may not ask; a store without versions does not know the question.
            if code_of(error) in NO_LOCK_CODES | {"AccessDenied"}:
                return False
            raise

    def _asks_for_locks(self) -> bool | None:
        with self.errors():
            try:
                self.client.get_object_lock_config(self.name)
            except S3Error as error:
                if code_of(error) == "AccessDenied":
                    return None
                if code_of(error) in NO_LOCK_CODES or (
                    status_of(error) == NOT_FOUND and code_of(error) != "NoSuchBucket"
                ):
                    return False
                raise
        return True

    # Objects

    def find(self, key: str) -> ObjectFacts | None:
        """Return what is known of the current version, None if there is none – or no bucket, which is not asked."""
        with self.errors(key):
            try:
                found = self.client.stat_object(self.name, key)
            except S3Error as error:
                if status_of(error) == NOT_FOUND:
                    return None
                raise
        return ObjectFacts(key, found.size or 0, found.last_modified or datetime.now(UTC), _named(found.version_id))

    def stat(self, key: str) -> ObjectFacts:
        """Return what is known of the current version. Raises ObjectMissingError."""
        if (found := self.find(key)) is None:
            raise self.missing(key)
        return found

    def missing(self, key: str) -> ObjectMissingError | BucketMissingError:
        """Say what is missing: an answer without a body does not tell an object from its whole bucket."""
        with self.errors():
            is_there = self.client.bucket_exists(self.name)
        return ObjectMissingError(key) if is_there else self._missing()

    def _missing(self) -> BucketMissingError:
        self.forget()
        return BucketMissingError(f"{self.address.endpoint} has no bucket {self.name} 证据库中没有该存储桶")

    def list(self, prefix: str, start_after: str) -> Iterator[ObjectFacts]:
        """List current versions by key."""
        with self.errors():
            for found in self.client.list_objects(self.name, prefix, recursive=True, start_after=start_after or None):
                yield ObjectFacts(
                    found.object_name or "", found.size or 0, found.last_modified or datetime.now(UTC), ""
                )

    def versions(self, key: str) -> Sequence[ObjectVersion]:
        """Return all versions and delete markers of a key, newest first."""
        with self.errors(key):
            listed = [
                one
                for one in self.client.list_objects(self.name, key, recursive=True, include_version=True)
                if one.object_name == key
            ]
        # Among other versions, what was stored before the bucket was given them has a name, too.
        nameless = NULL_VERSION if any(one.is_delete_marker or _named(one.version_id) for one in listed) else ""
        found = [
            ObjectVersion(
                version_id=_named(one.version_id) or nameless,
                is_latest=str(one.is_latest).lower() == "true",
                is_delete_marker=bool(one.is_delete_marker),
                size_bytes=one.size or 0,
                modified_time=one.last_modified or datetime.now(UTC),
            )
            for one in listed
        ]
        # Servers list markers and versions as two runs or mixed, and some tell times by the second: the latest one is
        # first either way.
        return sorted(found, key=lambda one: (one.is_latest, one.modified_time), reverse=True)

    def restore(self, key: str) -> bool:
        """Remove delete markers: all, because some servers tell times by the second and so not which come last."""
        versions = self.versions(key)
        if all(one.is_delete_marker for one in versions):
            return False
        for one in versions:
            if one.is_delete_marker:
                self._remove(key, one.version_id)
        return True

    def hide(self, key: str) -> bool:
        """Put a delete marker over an object; False where that would be a deletion."""
        if not any(one.version_id for one in self.versions(key)):
            return False
        self._remove(key, "")
        return True

    def delete(self, key: str) -> DeleteResult:
        """Delete all versions that may go, and all delete markers, so that nothing that is kept is hidden."""
        versions = self.versions(key)
        deleted = kept = 0
        for one in versions:
            if not one.is_delete_marker:
                if self.remove_version(key, one.version_id):
                    deleted += 1
                else:
                    kept += 1
        for one in versions:
            if one.is_delete_marker:
                self._remove(key, one.version_id)
        return DeleteResult(deleted, kept)

    def _remove(self, key: str, version_id: str) -> None:
        with self.errors(key):
            self.client.remove_object(self.name, key, version_id=version_id or None)

    def remove_version(self, key: str, version_id: str) -> bool:
        """Delete one version; False if the store keeps it because of a lock or hold."""
        # Without a name a bucket that was given versions since would only hide it.
        version_id = version_id or NULL_VERSION
        with self.errors(key):
            try:
                self.client.remove_object(self.name, key, version_id=version_id)
            except S3Error as error:
                if code_of(error) not in LOCKED_CODES or not self._is_locked(key, version_id):
                    raise
                return False
        return True

    # Locks

    def _is_locked(self, key: str, version_id: str) -> bool:
        retention = self.retention(key, version_id)
        # It may have ended since the store refused, or not yet by the store's clock.
        if retention is not None and retention.retain_until_date > datetime.now(UTC) - LOCK_END_MARGIN:
            return True
        try:
            return self._is_held(key, version_id)
        except S3Error:
            return False

    def retention(self, key: str, version_id: str = "") -> Retention | None:
        """Return the lock of a version, None if it has none. Raises the client's errors."""
        try:
            return self.client.get_object_retention(self.name, key, version_id=version_id or None)
        except S3Error as error:
            if code_of(error) in NO_LOCK_CODES:
                return None
            raise

    def extend_retention(self, key: str, retain_until: datetime) -> bool:
        """Lock the current version until then unless it is locked for longer; False where nothing is locked."""
        if (end := self.lock_end(retain_until)) is None:
            return False
        with self.errors(key):
            try:
                found = self.retention(key)
                if found is None or found.retain_until_date + LOCK_EXACT <= end:
                    self.client.set_object_retention(self.name, key, Retention(COMPLIANCE, end))
            except S3Error as error:
                if status_of(error) == NOT_FOUND:
                    raise self.missing(key) from error
                raise
        return True

    def set_hold(self, key: str, *, is_held: bool) -> bool:
        """Put the current version under legal hold, or release all versions; False where nothing is locked."""
        if is_held and not self._uses_object_lock:
            return False
        can_lock = self.has_object_lock
        if can_lock is None:
            raise WrongCredentialsError(
                f"the key may not ask whether {self.name} at {self.address.endpoint} has Object Lock "
                "(s3:GetBucketObjectLockConfiguration) 密钥无权查询对象锁定"
            )
        if can_lock:
            self._hold(key) if is_held else self._release(key)
        return can_lock

    def _hold(self, key: str) -> None:
        # Asked first: SeaweedFS answers a hold on nothing with an internal error.
        version_id = self.stat(key).version_id
        with self.errors(key):
            if not self._is_held(key, version_id):
                self.client.enable_object_legal_hold(self.name, key)

    def _release(self, key: str) -> None:
        versions = [one.version_id for one in self.versions(key) if not one.is_delete_marker]
        if not versions:
            raise self.missing(key)
        with self.errors(key):
            for version_id in versions:
                if self._is_held(key, version_id):
                    self.client.disable_object_legal_hold(self.name, key, version_id=version_id or None)

    def _is_held(self, key: str, version_id: str) -> bool:
        try:
            return self.client.is_object_legal_hold_enabled(self.name, key, version_id=version_id or None)
        except S3Error as error:
            if code_of(error) in NO_HOLD_CODES:
                return False
            raise


def _named(version_id: str | None) -> str:
    return "" if version_id in (None, NULL_VERSION) else str(version_id)
