"""What answers and failures of an S3 server mean, told apart for people who have to put them right."""

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import urllib3.exceptions
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from services.video.object_store import (
    BucketMissingError,
    BytesDifferError,
    ObjectMissingError,
    PartsRefusedError,
    StoreError,
    StoreFullError,
    StoreRefusedError,
    StoreUnavailableError,
    UploadGoneError,
    WrongCredentialsError,
)
from services.video.store_contents import StoreAddress

# Codes of the S3 API reference and those that MinIO, SeaweedFS and Ceph add.
FULL_CODES: Final = frozenset(
    {
        "XMinioStorageFull",
        "XMinioAdminBucketQuotaExceeded",
        "XMinioBackendDown",
        "QuotaExceeded",
        "InsufficientStorage",
        "InsufficientCapacity",
    }
)
CREDENTIAL_CODES: Final = frozenset(
    {
        "AccessDenied",
        "AllAccessDisabled",
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "Forbidden",
        "InvalidAccessKeyId",
        "InvalidSecurity",
        "InvalidTokenId",
        "SignatureDoesNotMatch",
    }
)
CLOCK_CODES: Final = frozenset({"RequestTimeTooSkewed", "RequestExpired"})
DIFFERENT_CODES: Final = frozenset(
    {
        "BadDigest",
        "IncompleteBody",
        "InvalidDigest",
        "XAmzContentChecksumMismatch",
        "XAmzContentSHA256Mismatch",
    }
)
PARTS_CODES: Final = frozenset({"EntityTooSmall", "InvalidPart", "InvalidPartOrder"})
MISSING_CODES: Final = frozenset({"NoSuchKey", "NoSuchVersion"})
BUSY_CODES: Final = frozenset({"OperationAborted", "RequestTimeout", "ServiceUnavailable", "SlowDown"})
NO_LOCK_CODES: Final = frozenset(
    {
        "InvalidBucketState",
        "InvalidRequest",
        "MethodNotAllowed",
        "NoSuchObjectLockConfiguration",
        "NotImplemented",
        "ObjectLockConfigurationNotFoundError",
    }
)
"""What stores answer about locks in a bucket without them, or when they know none."""

NO_HOLD_CODES: Final = NO_LOCK_CODES | {"NoSuchObjectLegalHold"}
"""What stores answer about the hold of a version that was never held."""

LOCKED_CODES: Final = frozenset({"AccessDenied", "InvalidRequest", "MethodNotAllowed", "ObjectLocked"})
"""What stores answer when a locked version is to be deleted or its lock shortened."""

EXISTS: Final = "PreconditionFailed"
CONFLICT: Final = "ConditionalRequestConflict"
"""What stores answer to what may be written only if there is none: there is one, or one comes in the same moment."""

NO_CONDITIONS: Final = "NotImplemented"
"""What a store answers that does not know such conditions."""

INSUFFICIENT_STORAGE: Final = 507
SERVER_ERROR: Final = 500
# What a full disk answers (errno 28); MinIO passes it on within an InternalError.
_NO_SPACE: Final = "no space left on device"
NOT_FOUND: Final = 404
FORBIDDEN: Final = 403
# Servers, and what stands before them, close a connection with these before they have said anything.
_TRANSPORT_ERRORS: Final = (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)


@contextmanager
def store_errors(address: StoreAddress, key: str = "", *, is_write: bool = False) -> Iterator[None]:
    """Turn what the client raises into a StoreError; `key` names the object, `is_write` says that bytes are sent."""
    try:
        yield
    except StoreError:
        raise
    except MinioException as error:
        if is_write and _is_silent_about_space(error):
            raise StoreFullError(
                f"{address.endpoint} (SeaweedFS) cannot write and does not say why; usually no volume has room left "
                "证据库无法写入, 多为空间已满"
            ) from error
        raise _of_answer(error, address, key) from error
    except _TRANSPORT_ERRORS as error:
        raise of_transport(error, address) from error


def code_of(error: Exception) -> str:
    """Return the S3 code of an answer, empty for what has none."""
    return (error.code or "") if isinstance(error, S3Error) else ""


def status_of(error: Exception) -> int:
    """Return the HTTP status of an answer, 0 for what has none."""
    if isinstance(error, S3Error):
        return int(error.response.status)
    if isinstance(error, ServerError):
        return int(error.status_code)
    if isinstance(error, InvalidResponseError):
        return int(error._code)  # the client gives no other way to it
    return 0


def _message_of(error: Exception) -> str:
    return (error.message or "") if isinstance(error, S3Error) else ""


def _is_silent_about_space(error: Exception) -> bool:
    """Say whether a write failed in a SeaweedFS, whose answer is the same whatever kept it from writing."""
    return (
        code_of(error) == "InternalError"
        and isinstance(error, S3Error)
        and str(error.response.headers.get("server", "")).startswith("SeaweedFS")
    )


def of_transport(error: Exception, address: StoreAddress) -> StoreError:
    """Say why no answer came."""
    reason: BaseException = error
    while isinstance(reason, urllib3.exceptions.MaxRetryError) and reason.reason is not None:
        reason = reason.reason
    where = address.endpoint
    if isinstance(reason, urllib3.exceptions.SSLError):
        return StoreUnavailableError(
            f"{where} has a certificate that cannot be trusted ({reason}): name its authority in "
            "ZHICHAO_VIDEO_S3_CA_FILE 证据库证书不受信任"
        )
    if isinstance(reason, urllib3.exceptions.NameResolutionError):
        return StoreUnavailableError(f"no address is known for {where} 无法解析证据库地址")
    if isinstance(reason, urllib3.exceptions.ConnectTimeoutError | urllib3.exceptions.NewConnectionError):
        return StoreUnavailableError(f"nothing answers at {where} 无法连接证据库")
    if isinstance(reason, urllib3.exceptions.ReadTimeoutError):
        return StoreUnavailableError(f"{where} takes the request and stays silent 证据库无响应")
    return StoreUnavailableError(f"the connection to {where} broke off 与证据库的连接中断")


def _of_answer(error: MinioException, address: StoreAddress, key: str) -> StoreError:
    code, status = code_of(error), status_of(error)
    said = code or f"HTTP {status}"
    where, bucket = address.endpoint, address.bucket
    if code == "NoSuchBucket":
        return BucketMissingError(f"{where} has no bucket {bucket} 证据库中没有该存储桶")
    if code in MISSING_CODES:
        return ObjectMissingError(key)
    if code == "NoSuchUpload":
        return UploadGoneError(f"{where} no longer knows this upload to {key} 分片上传已失效")
    if code in PARTS_CODES:
        return PartsRefusedError(f"{where} cannot make {key} of these parts ({code}) 分片无法合并")
    if code in DIFFERENT_CODES:
        return BytesDifferError(f"{where} received other bytes than {key} says ({code}) 数据与摘要不符")
    if code in FULL_CODES or status == INSUFFICIENT_STORAGE or _NO_SPACE in _message_of(error):
        return StoreFullError(f"{where} has no room left in {bucket} ({said}) 证据库空间已满")
    if code in CLOCK_CODES:
        return WrongCredentialsError(
            f"{where} and this machine disagree about the time ({code}): set the clocks 时钟不一致"
        )
    if code in CREDENTIAL_CODES or status == FORBIDDEN:
        return WrongCredentialsError(
            f"{where} refuses the access key, its secret, or what it may do in {bucket} ({said}) 证据库拒绝访问密钥"
        )
    if code in BUSY_CODES or status >= SERVER_ERROR:
        return StoreUnavailableError(f"{where} cannot do this now ({said}) 证据库暂时无法处理")
    return StoreRefusedError(f"{where} refuses the request for {bucket} ({said}) 证据库拒绝了请求")
