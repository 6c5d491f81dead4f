"""Moves the bytes of evidence between files and a platform: what breaks off is taken up where it stood."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import grpc

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.rpc_client import service_error
from zhichao.video.v1 import evidence_pb2
from zhichao.video.v1 import service_pb2 as pb

if TYPE_CHECKING:
    from zhichao.video.v1.service_pb2_grpc import VideoServiceStub

CHUNK_BYTES: Final = 256 * 1024
"""A quarter of what a message may hold: hardly slower, with a quarter of the memory (docs/benchmarks.md)."""

ATTEMPTS_MAX: Final = 8
"""Attempts in a row that bring nothing on; with the pauses between them they last a minute and a half."""

PAUSE_SECONDS_FIRST: Final = 0.5
PAUSE_SECONDS_MAX: Final = 30.0

CALL_SECONDS_MAX: Final = 30.0

AGAIN_REASONS: Final = frozenset({Reason.OFFSET_MISMATCH, Reason.UPLOAD_BUSY, Reason.UPLOAD_INCOMPLETE})
"""Answers to an upload after which another call goes on where the platform says."""

Progress = Callable[[int], None]
"""progress(bytes done)."""

Chunks = Callable[[int], Iterator[bytes]]
"""chunks(offset): the bytes from there on, in pieces of at most CHUNK_BYTES."""


class BrokenOffError(Exception):
    """The transfer has not come further for a while; what was moved is kept, and the same command goes on with it."""


class ChangedError(Exception):
    """The bytes are not those of the manifest; nothing is kept."""


@contextmanager
def shown_bytes(what: str, total: int) -> Iterator[Progress]:
    """Show a person how far a transfer is; nothing where nobody looks."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    from cli.terminal import Console

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(what, total=total)
        yield lambda done: bars.update(task, completed=done)


def digest_of(path: Path, progress: Progress = lambda done: None) -> tuple[bytes, int]:
    """Return the SHA-256 and the size of a file, which is read piece by piece. Raises OSError."""
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            progress(done)
    return digest.digest(), done


class Retries:
    """Counts attempts that brought nothing on, and waits between them."""

    def __init__(self, pause: Callable[[float], None] = time.sleep) -> None:
        self._pause = pause
        self._failures = 0
        self._seconds = PAUSE_SECONDS_FIRST

    def came_further(self) -> None:
        """Begin to count anew."""
        self._failures, self._seconds = 0, PAUSE_SECONDS_FIRST

    def wait(self, error: ServiceError) -> None:
        """Wait as long as the service asks for, or a growing while. Raises BrokenOffError when it was tried often."""
        self._failures += 1
        if self._failures >= ATTEMPTS_MAX:
            raise BrokenOffError(f"{error.message} ({error.reason}) {error.message_zh}".rstrip()) from error
        self._pause(max(self._seconds, error.retry_after_seconds or 0.0))
        self._seconds = min(self._seconds * 2, PAUSE_SECONDS_MAX)


def chunks_of(path: Path) -> Chunks:
    """Return how the bytes of a file are read. Reading raises OSError."""

    def chunks(offset: int) -> Iterator[bytes]:
        with path.open("rb") as file:
            file.seek(offset)
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    return chunks


def upload(
    stub: "VideoServiceStub",
    draft: pb.EvidenceDraft,
    chunks: Chunks,
    progress: Progress = lambda done: None,
    retries: Retries | None = None,
) -> pb.UploadEvidenceResponse:
    """Upload bytes, from where an earlier call broke off. Raises grpc.RpcError if refused, BrokenOffError."""
    retries = retries or Retries()
    furthest = -1
    while True:
        try:
            offset, sealed = _received(stub, draft)
            if sealed is not None:
                return pb.UploadEvidenceResponse(held_evidence=sealed, is_duplicate=True)
            if offset > furthest:
                furthest = offset
                retries.came_further()
            return stub.UploadEvidence(upload_messages(draft, chunks, offset, progress))
        except grpc.RpcError as error:
            wait_again(error, retries)


def wait_again(error: grpc.RpcError, retries: Retries) -> None:
    """Wait until an upload may be gone on with. Raises the error if it was refused, BrokenOffError as Retries."""
    refused = service_error(error)
    if not (refused.is_retryable or refused.reason in AGAIN_REASONS):
        raise error
    retries.wait(refused)


def _received(stub: "VideoServiceStub", draft: pb.EvidenceDraft) -> tuple[int, pb.HeldEvidence | None]:
    """Return how far an upload has come, and the evidence if it is sealed with the same bytes."""
    name = evidence_pb2.EvidenceName(source_unit_id=draft.source_unit_id, evidence_id=draft.evidence_id)
    try:
        answer = stub.GetUpload(pb.GetUploadRequest(name=name), timeout=CALL_SECONDS_MAX)
    except grpc.RpcError as error:
        if service_error(error).reason is not Reason.NOT_FOUND:
            raise
        return 0, None
    if not answer.HasField("sealed"):
        return min(answer.received_bytes, draft.size_bytes), None
    # What is sealed under another content is refused by the upload itself, which says how.
    return (0, answer.sealed) if answer.sealed.evidence.digest == draft.digest else (0, None)


def upload_messages(
    draft: pb.EvidenceDraft, chunks: Chunks, offset: int = 0, progress: Progress = lambda done: None
) -> Iterator[pb.UploadEvidenceRequest]:
    """Yield the messages of one call that uploads bytes from an offset."""
    yield pb.UploadEvidenceRequest(draft=draft, offset=offset)
    for chunk in chunks(offset):
        yield pb.UploadEvidenceRequest(chunk=chunk)
        offset += len(chunk)
        progress(offset)


def download_file(
    stub: "VideoServiceStub",
    held: pb.HeldEvidence,
    path: Path,
    purpose: str,
    *,
    is_download: bool = True,
    progress: Progress = lambda done: None,
    retries: Retries | None = None,
) -> None:
    """Write the bytes of evidence to a file, going on with what an earlier call left beside it (`.partial`).

    The file is there when it is whole and its digest is right. Raises grpc.RpcError for a refusal, ChangedError,
    BrokenOffError, OSError.
    """
    retries = retries or Retries()
    evidence = held.evidence
    partial = path.with_name(path.name + ".partial")
    digest = hashlib.sha256()
    # Evidence is for whom it was given to.
    with os.fdopen(os.open(partial, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
        if file.tell() > evidence.size_bytes:
            file.seek(0)
            file.truncate()
            digest = hashlib.sha256()
        while file.tell() < evidence.size_bytes:
            try:
                for chunk in read_bytes(stub, held, purpose, offset=file.tell(), is_download=is_download):
                    file.write(chunk)
                    digest.update(chunk)
                    retries.came_further()
                    progress(file.tell())
            except grpc.RpcError as error:
                refused = service_error(error)
                if not refused.is_retryable:
                    raise
                retries.wait(refused)
        file.flush()
        os.fsync(file.fileno())
    if digest.digest() != evidence.digest:
        partial.unlink()
        raise ChangedError(
            f"{path}: what came has the SHA-256 {digest.hexdigest()}, not that of the manifest; nothing is kept,"
            " run again 收到的内容与封存摘要不符, 已丢弃, 请重试"
        )
    partial.replace(path)


def read_bytes(
    stub: "VideoServiceStub",
    held: pb.HeldEvidence,
    purpose: str,
    *,
    offset: int = 0,
    is_download: bool = False,
    rendition: "pb.EvidenceRendition.ValueType" = pb.EVIDENCE_RENDITION_ORIGINAL,
) -> Iterator[bytes]:
    """Yield bytes of evidence as they come. Raises grpc.RpcError."""
    request = pb.ReadEvidenceRequest(
        name=name_of(held), rendition=rendition, offset=offset, purpose=purpose, is_download=is_download
    )
    call = stub.ReadEvidence(request)
    try:
        for answer in call:
            yield answer.chunk
    finally:
        call.cancel()


def name_of(held: pb.HeldEvidence) -> evidence_pb2.EvidenceName:
    """Return the name of evidence that is held."""
    return evidence_pb2.EvidenceName(
        origin=held.origin, source_unit_id=held.evidence.source_unit_id, evidence_id=held.evidence.evidence_id
    )


EXIT_BROKEN_OFF: Final = 3
EXIT_INTERRUPTED: Final = 130


@contextmanager
def ended_well(command: str) -> Iterator[None]:
    """Turn what may end a transfer into messages and exit statuses: 3 broke off, 130 stopped, 1 refused."""
    try:
        yield
    except BrokenOffError as error:
        click.echo(f"zhichao evidence {command}: {error}: run it again to go on 中断, 重新执行即可续传", err=True)
        raise click.exceptions.Exit(EXIT_BROKEN_OFF) from error
    except KeyboardInterrupt:
        click.echo(f"zhichao evidence {command}: stopped: run it again to go on 已停止, 重新执行即可续传", err=True)
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from None
    except ChangedError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror} 无法读写") from error
