"""Whose a bucket is: the object in it that names the platform, and how the first one writes it."""

from typing import Final

from minio.error import S3Error

from services.video.s3_connection import S3Connection
from services.video.s3_errors import CONFLICT, EXISTS, MISSING_CODES, NO_CONDITIONS, code_of

OWNER_KEY: Final = "zhichao-owner"

# A platform code and the end of the line; what is longer is somebody else's.
_OWNER_BYTES_MAX: Final = 64


def claim(client: S3Connection, bucket: str, owner: str) -> str:
    """Return whose the bucket is, after writing down that it is this platform's if it was nobody's. Raises the client's
    errors.
    """
    found = read(client, bucket)
    if found is None:
        # Of two that come at once the first one has it.
        if not _write(client, bucket, owner, {"If-None-Match": "*"}):
            # Where the store knows no conditions the last one has it: each reads what is there then.
            _write(client, bucket, owner, {})
        found = read(client, bucket)
    return found or ""


def read(client: S3Connection, bucket: str) -> str | None:
    """Return what stands in the bucket, None when nothing does. Raises the client's errors."""
    try:
        response = client.get_object(bucket, OWNER_KEY, length=_OWNER_BYTES_MAX)
    except S3Error as error:
        if code_of(error) in MISSING_CODES:
            return None
        raise
    try:
        return response.read().decode("ascii", "replace").strip()
    finally:
        response.close()
        response.release_conn()


def _write(client: S3Connection, bucket: str, owner: str, condition: dict[str, str | list[str] | tuple[str]]) -> bool:
    """Write it unless another one has; False when the store does not know the condition."""
    headers: dict[str, str | list[str] | tuple[str]] = {"Content-Type": "text/plain", **condition}
    try:
        client._execute("PUT", bucket, OWNER_KEY, body=f"{owner}\n".encode("ascii"), headers=headers)
    except S3Error as error:
        if condition and code_of(error) == NO_CONDITIONS:
            return False
        if code_of(error) not in (EXISTS, CONFLICT):
            raise
    return True
