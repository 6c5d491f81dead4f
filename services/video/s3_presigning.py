"""Addresses for one part of an upload that take exactly its bytes (AWS Signature Version 4, query parameters).

The client signs the host only, with which whoever has an address may put as much as the store takes for a part, 5 GiB.
"""

import hashlib
from typing import Final
from urllib.parse import quote, urlunsplit

from minio import signer
from minio import time as s3_time

from services.video.s3_connection import S3Connection

SECONDS_MAX: Final = 7 * 24 * 3600
"""The longest that the signature allows."""

_SERVICE: Final = "s3"
_SIGNED_HEADERS: Final = "content-length;host"


def presign_part(
    client: S3Connection, bucket: str, key: str, upload_id: str, part_number: int, size_bytes: int, seconds: int
) -> str:
    """Make the address. ValueError unless it is good for 1 second to a week."""
    if not 1 <= seconds <= SECONDS_MAX:
        raise ValueError(f"an address is good for 1 to {SECONDS_MAX} seconds, not for {seconds}")
    if client._provider is None:
        raise RuntimeError("nobody's addresses need no signature, and evidence is not put by nobody")
    credentials, region, now = client._provider.retrieve(), client._get_region(bucket), s3_time.utcnow()
    scope = signer._get_scope(now, region, _SERVICE)
    url = client._base_url.build(
        method="PUT",
        region=region,
        bucket_name=bucket,
        object_name=key,
        query_params={
            "uploadId": upload_id,
            "partNumber": str(part_number),
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{credentials.access_key}/{scope}",
            "X-Amz-Date": s3_time.to_amz_date(now),
            "X-Amz-Expires": str(seconds),
            "X-Amz-SignedHeaders": _SIGNED_HEADERS,
        },
    )
    query = "&".join(sorted(url.query.split("&")))
    headers = f"content-length:{size_bytes}\nhost:{url.netloc}\n"
    request = "\n".join(("PUT", url.path, query, headers, _SIGNED_HEADERS, "UNSIGNED-PAYLOAD"))
    digest = hashlib.sha256(request.encode()).hexdigest()
    signing_key = signer._get_signing_key(credentials.secret_key, now, region, _SERVICE)
    signature = signer._get_signature(signing_key, signer._get_string_to_sign(now, scope, digest))
    return urlunsplit(url._replace(query=f"{query}&X-Amz-Signature={quote(signature)}"))
