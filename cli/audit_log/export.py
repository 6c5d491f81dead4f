"""Writes a platform's access records to a file, in flat memory, and takes up again what broke off."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import quote

import grpc

from cli.audit_log.formats import Format
from cli.audit_log.manifest import LogExport, Manifest, manifest_path
from cli.audit_log.progress import Progress
from cli.audit_log.record import AuditRecord, Filter, UnreadableRecordError
from services.common.errors import ServiceError
from services.common.rpc_client import service_error
from zhichao.journal.v1 import access_record_pb2 as pb
from zhichao.journal.v1.access_record_pb2_grpc import AccessRecordServiceStub

PARTIAL_SUFFIX: Final = ".partial"
STATE_SUFFIX: Final = ".partial.json"

SAVE_RECORDS: Final = 10_000
"""Where an export stands is saved so often: a second's work is done again after a kill."""

RETRIES_MAX: Final = 6
RETRY_SECONDS: Final = 1.0
"""Pauses of 1, 2, 4 … 32 s while nothing comes: a service that is restarted is there again within a minute."""

READ_BYTES: Final = 1024 * 1024


class ExportStoppedError(Exception):
    """The export could not go on; the text says why. What is written can be taken up again."""


class ExportFileError(Exception):
    """A file is in the way, or is not there; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is wanted."""

    # The window and the platforms as the caller named them; what is below follows from these words and from today.
    words: Mapping[str, Any]
    # By service, the platforms whose records it is asked for.
    logs: Mapping[str, Sequence[str]]
    start: datetime
    end: datetime
    zone: tzinfo
    zone_name: str
    narrowing: Filter
    software: str
    purpose: str = ""

    @property
    def metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """What the calls carry: why somebody asks."""
        return (("x-purpose", quote(self.purpose)),) if self.purpose else ()

    def document(self) -> dict[str, Any]:
        """Return what has to be the same when an export is taken up again.

        Window and logs are not in it: they stay those of the first attempt, since meanwhile it may be another day, and
        another platform may have come.
        """
        return {
            **self.words,
            "services": list(self.logs),
            "time_zone": self.zone_name,
            "filters": self.narrowing.document(),
        }

    def text_of(self, moment: datetime) -> str:
        """Return a moment as manifests have it."""
        return moment.astimezone(self.zone).isoformat()


@dataclass(slots=True)
class _State:
    """Where an export stands; kept beside the partial file."""

    # Window and logs of the first attempt.
    start: str
    end: str
    logs: dict[str, list[str]]
    offset: int = 0
    done: list[dict[str, Any]] | None = None
    current: dict[str, Any] | None = None
    position: int = 0
    received: int = 0
    row_count: int = 0

    def places(self) -> list[tuple[str, str]]:
        """Return service and platform of every log, in the order of the file."""
        return [(service, origin) for service, origins in self.logs.items() for origin in origins]


class AuditLogExport:
    """One file. `run` may be called again, in another process, after it stopped."""

    def __init__(
        self,
        path: Path,
        form: Format,
        order: Order,
        exporters: Mapping[str, AccessRecordServiceStub],
        progress: Progress = lambda log, received, count: None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._path = path
        self._form = form
        self._order = order
        self._exporters = exporters
        self._progress = progress
        self._pause = pause
        self._partial = path.with_name(path.name + PARTIAL_SUFFIX)
        self._state_path = path.with_name(path.name + STATE_SUFFIX)
        self._digest = hashlib.sha256()

    def run(self, *, resumes: bool) -> Manifest:
        """Write file and manifest.

        Raises ExportFileError, ExportStoppedError, and ServiceError for what repeating cannot mend.
        """
        # One that broke off at its last step has its manifest already.
        for path in (self._path,) if resumes else (self._path, manifest_path(self._path)):
            if path.exists():
                raise ExportFileError(f"{path} is there already: name another file 文件已存在, 请换用其他文件名")
        state = self._begin(resumes=resumes)
        try:
            with self._partial.open("r+b" if resumes else "xb") as file:
                os.fchmod(file.fileno(), 0o600)
                self._take_up(file, state)
                logs = self._write_logs(file, state)
                self._sync(file)
                byte_count = file.tell()
        except OSError as error:
            raise ExportFileError(f"{self._partial}: {error.strerror or type(error).__name__} 无法写入") from error
        manifest = Manifest(
            self._path.name,
            self._form.name,
            self._digest.hexdigest(),
            byte_count,
            sum(log.row_count for log in logs),
            state.start,
            state.end,
            self._order.zone_name,
            self._order.narrowing.document(),
            self._order.software,
            logs,
        )
        _write_whole(manifest_path(self._path), manifest.to_json())
        try:
            self._partial.rename(self._path)
            self._state_path.unlink(missing_ok=True)
        except OSError as error:
            raise ExportFileError(f"{self._path}: {error.strerror or type(error).__name__} 无法写入") from error
        return manifest

    # Begin, and begin again

    def _begin(self, *, resumes: bool) -> _State:
        if not resumes:
            if self._partial.exists():
                raise ExportFileError(
                    f"{self._partial} is what an export left that broke off: go on with --resume, or delete it "
                    "存在未完成的导出, 请用 --resume 继续或删除该文件"
                )
            order = self._order
            logs = {service: list(origins) for service, origins in order.logs.items()}
            return _State(order.text_of(order.start), order.text_of(order.end), logs)
        try:
            document = json.loads(self._state_path.read_text("utf-8"))
            if document.pop("order") != self._order.document() or document.pop("format") != self._form.name:
                raise ExportFileError(
                    f"{self._state_path}: the export that broke off was of other logs, another time or another form: "
                    "give the same options 与未完成导出的选项不一致"
                )
            return _State(**document)
        except FileNotFoundError:
            raise ExportFileError(
                f"{self._state_path} is not there: there is nothing to go on with, leave --resume out 没有可继续的导出"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ExportFileError(f"{self._state_path} cannot be read: delete it and begin anew 无法读取") from error

    def _take_up(self, file: BinaryIO, state: _State) -> None:
        """Go to where the export stands; what was written behind it is written again."""
        if not state.offset:
            file.truncate(0)
            self._put(file, self._form.header())
            self._save(file, state)
            return
        left = state.offset
        while left:
            content = file.read(min(left, READ_BYTES))
            if not content:
                raise ExportFileError(f"{self._partial} is shorter than it was: delete it and begin anew 文件不完整")
            self._digest.update(content)
            left -= len(content)
        file.truncate(state.offset)
        file.seek(state.offset)

    # On the way

    def _write_logs(self, file: BinaryIO, state: _State) -> list[LogExport]:
        done = [LogExport.read(one) for one in state.done or []]
        for service, origin in state.places()[len(done) :]:
            head = LogExport.read(state.current).head if state.current is not None else None
            done.append(self._write_log(file, state, service, origin, head))
            state.done = [one.document() for one in done]
            state.current, state.position, state.received, state.row_count = None, 0, 0, 0
            self._save(file, state)
        return done

    def _write_log(
        self, file: BinaryIO, state: _State, service: str, origin: str, head: pb.AccessRecordExport | None
    ) -> LogExport:
        saved = state.received
        failures = 0
        while head is None or state.received < head.record_count:
            try:
                for part in self._call(service, origin, state, head):
                    failures = 0
                    if isinstance(part, pb.AccessRecordExport):
                        head = part
                        state.current = LogExport(head, 0).document()
                    else:
                        self._write_entries(file, state, service, origin, part)
                    self._progress(f"{service} {origin}", state.received, head.record_count if head else 0)
                    if state.received - saved >= SAVE_RECORDS:
                        self._save(file, state)
                        saved = state.received
                if head is not None and state.received < head.record_count:
                    raise ExportStoppedError(
                        f"{service} {origin}: {state.received:,} of {head.record_count:,} records came: run again with "
                        "--resume 记录不完整"
                    )
            except grpc.RpcError as rpc_error:
                error = service_error(rpc_error)
                failures += 1
                self._save(file, state)
                self._wait_or_stop(error, failures, f"{service} {origin}")
        return LogExport(head, state.row_count)

    def _call(
        self, service: str, origin: str, state: _State, head: pb.AccessRecordExport | None
    ) -> Iterator[pb.AccessRecordExport | pb.AccessRecordEntries]:
        request = pb.ExportAccessRecordsRequest(origin=origin)
        request.start_time.FromDatetime(datetime.fromisoformat(state.start).astimezone(UTC))
        request.end_time.FromDatetime(datetime.fromisoformat(state.end).astimezone(UTC))
        if head is not None:
            request.size, request.after_sequence = checkpoint_size(head.checkpoint), state.position
        call = self._exporters[service].ExportAccessRecords(request, metadata=self._order.metadata)
        try:
            for answer in call:
                yield answer.export if answer.HasField("export") else answer.entries
        finally:
            call.cancel()

    def _write_entries(
        self, file: BinaryIO, state: _State, service: str, origin: str, entries: pb.AccessRecordEntries
    ) -> None:
        for one in entries.entries:
            try:
                record = AuditRecord.read(service, origin, one.sequence, one.entry)
            except UnreadableRecordError as error:
                raise ExportStoppedError(f"{service} {origin}: entry {one.sequence:,}: {error}") from error
            state.received += 1
            state.position = one.sequence
            if self._order.narrowing.wants(record.record):
                self._put(file, self._form.line(self._form.row(record.fields(self._order.zone))))
                state.row_count += 1

    def _wait_or_stop(self, error: ServiceError, failures: int, log: str) -> None:
        if not error.is_retryable:
            raise error
        if failures > RETRIES_MAX:
            raise ExportStoppedError(
                f"{log}: {error.message} ({error.reason}): run again with --resume when it works 可用 --resume 继续"
            ) from error
        self._pause(RETRY_SECONDS * 2 ** (failures - 1))

    # Files

    def _put(self, file: BinaryIO, content: bytes) -> None:
        file.write(content)
        self._digest.update(content)

    def _sync(self, file: BinaryIO) -> None:
        file.flush()
        os.fsync(file.fileno())

    def _save(self, file: BinaryIO, state: _State) -> None:
        """Keep where the export stands, once what lies before it is on disk."""
        self._sync(file)
        state.offset = file.tell()
        document = {
            "order": self._order.document(),
            "format": self._form.name,
            **asdict(state),
        }
        _write_whole(self._state_path, json.dumps(document, ensure_ascii=False))


def checkpoint_size(note: str) -> int:
    """Return the size that a checkpoint is for; 0 for what is none."""
    lines = note.split("\n", 2)
    return int(lines[1]) if len(lines) > 1 and lines[1].isascii() and lines[1].isdecimal() else 0


def _write_whole(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise ExportFileError(f"{path}: {error.strerror or type(error).__name__} 无法写入") from error
