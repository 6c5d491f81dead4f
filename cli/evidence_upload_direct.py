"""Uploads straight into the evidence store: the platform gives an address for each part, and seals what was put."""

import http.client
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import click
import grpc

from cli.evidence_transfer import CHUNK_BYTES, Progress, Retries, wait_again
from services.common.errors import ServiceError
from services.common.reasons import Reason
from zhichao.video.v1 import evidence_pb2
from zhichao.video.v1 import service_pb2 as pb

if TYPE_CHECKING:
    from zhichao.video.v1.service_pb2_grpc import VideoServiceStub

CALL_SECONDS_MAX: Final = 600.0
"""What was put is read back once before it is sealed: four gigabytes from a slow store."""

PUT_SECONDS_MAX: Final = 60.0
"""Longest silence of the store."""

_OK: Final = 200


def upload_direct(
    stub: "VideoServiceStub",
    draft: pb.EvidenceDraft,
    path: Path,
    ca_file: Path | None,
    progress: Progress,
    retries: Retries | None = None,
) -> tuple[pb.HeldEvidence, bool]:
    """Put what is missing and have it sealed; return the evidence and whether it was sealed before.

    Raises grpc.RpcError for a refusal, BrokenOffError, OSError for the file, click.ClickException for the store's TLS.
    """
    retries = retries or Retries()
    context = _tls(ca_file)
    name = evidence_pb2.EvidenceName(source_unit_id=draft.source_unit_id, evidence_id=draft.evidence_id)
    is_first, furthest = True, -1
    while True:
        try:
            prepared = stub.PrepareUpload(pb.PrepareUploadRequest(draft=draft), timeout=CALL_SECONDS_MAX)
            if prepared.HasField("sealed"):
                return prepared.sealed, is_first
            is_first = False
            done = draft.size_bytes - sum(part.size_bytes for part in prepared.parts)
            if done > furthest:
                furthest = done
                retries.came_further()
            if problem := _put_all(prepared.parts, path, context, done, progress):
                retries.wait(_not_taken(problem))
                continue
            answer = stub.CompleteUpload(pb.CompleteUploadRequest(name=name), timeout=CALL_SECONDS_MAX)
        except grpc.RpcError as error:
            wait_again(error, retries)
        else:
            return answer.held_evidence, False


def _put_all(parts: Sequence[pb.UploadPart], path: Path, context: ssl.SSLContext, done: int, progress: Progress) -> str:
    """Put parts one after the other; return what went wrong, empty for nothing."""
    for part in parts:
        before = done
        if problem := _put(part, path, context, lambda count, before=before: progress(before + count)):  # type: ignore[misc]  # mypy infers no type for a lambda with defaults
            return problem
        done += part.size_bytes
    return ""


def _not_taken(problem: str) -> ServiceError:
    return ServiceError(
        Reason.OBJECT_STORE_UNAVAILABLE,
        f"the evidence store does not take it: {problem}",
        message_zh="对象存储未接受",
    )


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(ca_file) if ca_file is not None else None)
    except (ssl.SSLError, OSError) as error:
        raise click.ClickException(f"--store-ca {ca_file}: holds no certificates 不是 CA 证书") from error


def _put(part: pb.UploadPart, path: Path, context: ssl.SSLContext, progress: Progress) -> str:
    """Put one part; return what went wrong, empty for nothing."""
    address = urlsplit(part.url)
    if address.scheme not in ("http", "https") or not address.hostname:
        return "the platform gave no address of a store"
    connection: http.client.HTTPConnection = (
        http.client.HTTPSConnection(address.hostname, address.port, timeout=PUT_SECONDS_MAX, context=context)
        if address.scheme == "https"
        else http.client.HTTPConnection(address.hostname, address.port, timeout=PUT_SECONDS_MAX)
    )
    try:
        connection.request(
            "PUT",
            f"{address.path}?{address.query}",
            body=_piece(path, part, progress),
            headers={"Content-Length": str(part.size_bytes)},
        )
        answer = connection.getresponse()
        answer.read()
        return "" if answer.status == _OK else f"HTTP {answer.status} {answer.reason}"
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()


def _piece(path: Path, part: pb.UploadPart, progress: Progress) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(part.offset)
        left = part.size_bytes
        while left and (chunk := file.read(min(left, CHUNK_BYTES))):
            yield chunk
            left -= len(chunk)
            progress(part.size_bytes - left)
