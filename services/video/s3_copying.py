"""Copying inside an S3 store, in slices: each is answered once it is copied, and that within a read time-out."""

from contextlib import suppress
from typing import Final

from minio.commonconfig import REPLACE, CopySource
from minio.datatypes import Part
from minio.error import S3Error

from services.video.object_store import StoreError, UploadGoneError
from services.video.s3_bucket import S3Bucket
from services.video.s3_errors import code_of
from services.video.store_contents import ObjectFacts

SLICE_BYTES: Final = 64 * 1024 * 1024
"""Copied with one request: within the 30 s that an answer may take (S3_READ_TIMEOUT_SECONDS) by a disk that reads and
writes 2 MiB a second. 4 GiB, the largest evidence, are 64 of them; S3 takes slices of 5 MiB and more."""


def copy(bucket: S3Bucket, source: ObjectFacts, target: str, content_type: str) -> None:
    """Copy one version of an object to another key, without its locks. Raises StoreError, and the client's errors."""
    # The version that was looked at: what the caller has checked is not replaced meanwhile.
    version = CopySource(bucket.name, source.key, version_id=source.version_id or None)
    if source.size_bytes <= SLICE_BYTES:
        bucket.client.copy_object(
            bucket.name, target, version, metadata={"Content-Type": content_type}, metadata_directive=REPLACE
        )
        return
    client = bucket.client
    upload_id = client._create_multipart_upload(bucket.name, target, {"Content-Type": content_type})
    try:
        parts = []
        for number, begin in enumerate(range(0, source.size_bytes, SLICE_BYTES), start=1):
            end = min(begin + SLICE_BYTES, source.size_bytes) - 1
            headers: dict[str, str | list[str] | tuple[str]] = {**version.gen_copy_headers()}
            headers["x-amz-copy-source-range"] = f"bytes={begin}-{end}"
            etag, _ = client._upload_part_copy(bucket.name, target, upload_id, number, headers)
            parts.append(Part(number, etag))
        try:
            client._complete_multipart_upload(bucket.name, target, upload_id, parts)
        except S3Error as error:
            # A second attempt after an answer that was lost finds it done.
            if code_of(error) != "NoSuchUpload":
                raise
    except BaseException:
        with suppress(StoreError), bucket.errors(target):
            client._abort_multipart_upload(bucket.name, target, upload_id)
        raise
    made = bucket.find(target)
    if made is None or made.size_bytes != source.size_bytes:
        raise UploadGoneError(f"the slices of {target} were copied and did not become an object 分片复制未完成")
