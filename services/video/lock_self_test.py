"""Whether the store really enforces its locks, found out by trying to break one.

Stores differ: some take a lock and delete all the same. Nothing is concluded from what a store says about itself.
"""

import secrets
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Final

from minio.commonconfig import COMPLIANCE
from minio.error import S3Error
from minio.retention import Retention

from services.video.object_store import LOCK_TEST_PREFIX, LockState, LockTest, StoreError
from services.video.s3_bucket import S3Bucket
from services.video.s3_errors import LOCKED_CODES, MISSING_CODES, NO_LOCK_CODES, NOT_FOUND, code_of, status_of

LOCK_MINUTES: Final = 20
"""Longer than the clocks of store and service may be apart, which is 15 minutes (AWS Signature Version 4)."""

MAY_NOT_ASK: Final = (
    "the key may not ask whether the bucket has Object Lock (s3:GetBucketObjectLockConfiguration) "
    "密钥无权查询存储桶的对象锁定设置"
)

# What a test writes: it only has to be there.
_CONTENT: Final = b"A version that is locked for some minutes, to see whether the store lets it be deleted.\n"


def run(bucket: S3Bucket) -> LockTest:
    """Write, lock, try to delete and to shorten, and clean up after former tests. Raises nothing."""
    begin = datetime.now(UTC)
    try:
        state, detail = _try(bucket, begin)
    except StoreError as error:
        state, detail = LockState.UNKNOWN, f"the test could not be made: {error}"
    return LockTest(state, detail, begin)


def _try(bucket: S3Bucket, now: datetime) -> tuple[LockState, str]:
    # Asked anew: it may have been made again by hand, or the key was given the right to ask.
    bucket.forget()
    bucket.check()
    has_object_lock = bucket.has_object_lock
    if has_object_lock is None:
        return LockState.UNKNOWN, MAY_NOT_ASK
    if not has_object_lock:
        return (
            LockState.UNSUPPORTED,
            "no Object Lock here: the service and the rights of its key protect evidence 存储桶不支持对象锁定",
        )
    _remove_left_overs(bucket)
    with bucket.errors():
        return _locked(bucket, now) or _held(bucket) or _enforced()


def _enforced() -> tuple[LockState, str]:
    return (
        LockState.ENFORCED,
        "the store refused to delete a locked version, to shorten its lock, and to break a hold 对象锁定有效",
    )


def _locked(bucket: S3Bucket, now: datetime) -> tuple[LockState, str] | None:
    """Try to break a COMPLIANCE lock; None if it holds."""
    client, key = bucket.client, f"{LOCK_TEST_PREFIX}{secrets.token_hex(16)}"
    until = now + timedelta(minutes=LOCK_MINUTES)
    version_id = _write(bucket, key)
    try:
        client.set_object_retention(bucket.name, key, Retention(COMPLIANCE, until), version_id=version_id)
    except S3Error as error:
        if code_of(error) not in NO_LOCK_CODES:
            raise
        return LockState.UNSUPPORTED, f"the store does not take locks ({code_of(error)}) 证据库不接受锁定"
    if _is_deleted(bucket, key, version_id):
        return LockState.NOT_ENFORCED, "the store took a lock and deleted the version all the same 锁定后仍可删除"
    try:
        client.set_object_retention(
            bucket.name, key, Retention(COMPLIANCE, now + timedelta(seconds=1)), version_id=version_id
        )
    except S3Error as error:
        if code_of(error) not in LOCKED_CODES:
            raise
    found = bucket.retention(key, version_id)
    # Stores keep whole seconds, or fewer digits than we have.
    if found is None or found.retain_until_date < until - timedelta(seconds=1):
        return LockState.NOT_ENFORCED, "the store let a lock be shortened 锁定期限可被缩短"
    return None


def _held(bucket: S3Bucket) -> tuple[LockState, str] | None:
    """Try to break a legal hold; None if it holds."""
    client, key = bucket.client, f"{LOCK_TEST_PREFIX}{secrets.token_hex(16)}"
    version_id = _write(bucket, key)
    client.enable_object_legal_hold(bucket.name, key, version_id=version_id)
    if _is_deleted(bucket, key, version_id):
        return LockState.NOT_ENFORCED, "the store deleted a version under legal hold 保全的版本仍可删除"
    client.disable_object_legal_hold(bucket.name, key, version_id=version_id)
    client.remove_object(bucket.name, key, version_id=version_id)
    return None


def _write(bucket: S3Bucket, key: str) -> str:
    written = bucket.client.put_object(bucket.name, key, BytesIO(_CONTENT), len(_CONTENT))
    return written.version_id or ""


def _is_deleted(bucket: S3Bucket, key: str, version_id: str) -> bool:
    """Try to delete a version; what counts is whether it can still be read. A store that cannot say so now has not
    deleted it: its error is raised.
    """
    try:
        bucket.client.remove_object(bucket.name, key, version_id=version_id)
    except S3Error as error:
        if code_of(error) not in LOCKED_CODES:
            raise
    try:
        response = bucket.client.get_object(bucket.name, key, version_id=version_id)
    except S3Error as error:
        if code_of(error) in MISSING_CODES or status_of(error) == NOT_FOUND:
            return True
        raise
    try:
        return response.read() != _CONTENT
    finally:
        response.close()
        response.release_conn()


def _remove_left_overs(bucket: S3Bucket) -> None:
    with bucket.errors():
        keys = {
            found.object_name or ""
            for found in bucket.client.list_objects(bucket.name, LOCK_TEST_PREFIX, recursive=True, include_version=True)
        }
    for key in keys:
        if bucket.delete(key).kept_count:
            # A test that was killed leaves a hold, too, which never ends by itself.
            bucket.set_hold(key, is_held=False)
            bucket.delete(key)
