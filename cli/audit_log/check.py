"""Checks an exported file by what stands in its manifest, without the platform: that it is the file that was written,
that every row says what its entry says, and that the chain of records has no gap between the ends that the log proves.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from itertools import islice
from pathlib import Path
from typing import Final

from cli.audit_log.formats import FORMATS, Format, Row, UnreadableFileError
from cli.audit_log.manifest import LogExport, Manifest
from cli.audit_log.record import AuditRecord, UnreadableRecordError
from cli.importer.conversion import find_zone
from cli.verifier.check import read_log_start
from cli.verifier.notes import Note, PublicKey, UnreadableNoteError
from cli.verifier.tree import Hashes, root_of_path
from zhichao.journal.v1 import access_record_pb2 as pb

FINDINGS_MAX: Final = 20
"""The first says where to look; more than a screenful says nothing new."""

READ_BYTES: Final = 1024 * 1024


@dataclass(slots=True)
class LogCheck:
    """What became of one log."""

    service: str
    platform: str
    record_count: int
    row_count: int
    size: int = 0
    verifier_key: str = ""
    cosigners: dict[str, bool | None] = field(default_factory=dict)
    # When the record behind the last one was written: it is proven, so that none is missing at the end. None without.
    closed_at: datetime | None = None
    findings: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name of the log for a person."""
        return f"{self.service} {self.platform}"


@dataclass(slots=True)
class FileCheck:
    """What became of one file."""

    logs: list[LogCheck] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    @property
    def is_right(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings and not any(log.findings for log in self.logs)


def check_file(
    path: Path, manifest: Manifest, keys: Sequence[PublicKey] = (), advance: Callable[[int], None] = lambda count: None
) -> FileCheck:
    """Check a file. `keys` are those whose cosignatures can be checked. Raises OSError."""
    result = FileCheck()
    form = FORMATS.get(manifest.format)
    if form is None:
        result.findings.append(f"the manifest names the form {manifest.format!r}, which is not known 未知的文件格式")
        return result
    _check_digest(path, manifest, result)
    try:
        zone = find_zone(manifest.time_zone)
        rows = _Rows(path, form, zone, result, advance)
        for exported in manifest.logs:
            result.logs.append(_check_log(exported, rows, manifest, keys))
        rows.finish()
    except (UnreadableFileError, ValueError) as error:
        result.findings.append(str(error))
    counted = sum(log.row_count for log in result.logs)
    if counted != manifest.record_count:
        result.findings.append(
            f"the manifest names {manifest.record_count:,} records, and {counted:,} for its logs 清单记录数不一致"
        )
    return result


def _check_digest(path: Path, manifest: Manifest, result: FileCheck) -> None:
    digest = hashlib.sha256()
    count = 0
    with path.open("rb") as file:
        while content := file.read(READ_BYTES):
            digest.update(content)
            count += len(content)
    if count != manifest.byte_count:
        result.findings.append(
            f"the file has {count:,} bytes, the manifest says {manifest.byte_count:,} 文件长度与清单不符"
        )
    if digest.hexdigest() != manifest.sha256:
        result.findings.append("the file's SHA-256 is another one than in the manifest 文件摘要与清单不符")


class _Rows:
    """The rows of the file as records; every row is compared with what its entry says."""

    def __init__(
        self, path: Path, form: Format, zone: tzinfo, result: FileCheck, advance: Callable[[int], None]
    ) -> None:
        self._rows = enumerate(form.read(path), 1)
        self._form = form
        self.zone = zone
        self._result = result
        self._advance = advance

    def take(self, log: LogCheck, count: int) -> Iterator[AuditRecord]:
        """Yield the next records, which are of one log; fewer when the file ends."""
        taken = 0
        for number, row in islice(self._rows, count):
            taken += 1
            self._advance(1)
            record = self._read(log, number, row)
            if record is not None:
                yield record
        if taken < count:
            _note(log.findings, f"the file ends after {taken:,} of {count:,} rows of this log 文件行数不足")

    def finish(self) -> None:
        """Note what stands behind the last row."""
        if (surplus := sum(1 for _ in self._rows)) > 0:
            self._result.findings.append(
                f"{surplus:,} rows stand behind those that the manifest names 文件末尾有多余的行"
            )

    def _read(self, log: LogCheck, number: int, row: Row) -> AuditRecord | None:
        try:
            entry = base64.b64decode(str(row["entry"]), validate=True)
            record = AuditRecord.read(log.service, log.platform, int(row["sequence"]), entry)
        except (KeyError, TypeError, ValueError, binascii.Error, UnreadableRecordError) as error:
            _note(log.findings, f"record {number:,} holds no entry: {error} 该行不含日志条目")
            return None
        expected = self._form.row(record.fields(self.zone))
        if row != expected:
            wrong = ", ".join(name for name in expected if row.get(name) != expected[name]) or "further columns"
            _note(log.findings, f"record {number:,} says something else than its entry: {wrong} 该行内容与日志条目不符")
        return record


def _check_log(exported: LogExport, rows: _Rows, manifest: Manifest, keys: Sequence[PublicKey]) -> LogCheck:
    head = exported.head
    log = LogCheck(head.stream, head.origin, head.record_count, exported.row_count)
    hashes, root = _check_checkpoint(log, head, keys)
    chain = _Chain(log, hashes, manifest.is_narrowed)
    before = _edge(log, head.before) if head.HasField("before") else None
    after = _edge(log, head.after) if head.HasField("after") else None
    chain.begin(before)
    if before is not None:
        _check_edge_time(log, "before", before, manifest.start, is_earlier=True)
    for record in rows.take(log, exported.row_count):
        chain.take(record)
    if after is not None:
        chain.end(after)
        if after.sequence < log.size:
            # At the end of the log stands the record of the export itself: nothing was written after it.
            _check_edge_time(log, "after", after, manifest.end, is_earlier=False)
    if not manifest.is_narrowed and exported.row_count != head.record_count:
        _note(
            log.findings,
            f"the log gave {head.record_count:,} records, the file holds {exported.row_count:,} 行数与日志不符",
        )
    proven = after or chain.newest
    log.closed_at = after.time.astimezone(rows.zone) if after is not None and after.time is not None else None
    if proven is None:
        # Of a narrowed export the chain is not there: without a row, and nothing around it, there is nothing to prove.
        if head.record_count and not manifest.is_narrowed:
            _note(log.findings, "no record is proven by the checkpoint 检查点未能证明任何记录")
    elif not manifest.is_narrowed or after is not None:
        _check_proof(log, hashes, root, head, proven)
    return log


def _check_checkpoint(log: LogCheck, head: pb.AccessRecordExport, keys: Sequence[PublicKey]) -> tuple[Hashes, bytes]:
    """Check the checkpoint and that entry 1, which names its key, lies in it; return what the rest is held against."""
    start = read_log_start(head.log_start)
    if start is None:
        _note(log.findings, "entry 1 does not name a log, its digest and its key 首条不是日志起始条目")
        return Hashes("sha256"), b""
    try:
        hashes = Hashes(start.digest_algorithm)
        owner = PublicKey.read(start.verifier_key)
        note = Note.read(head.checkpoint)
    except (ValueError, UnreadableNoteError) as error:
        _note(log.findings, f"checkpoint and entry 1 cannot be read: {error} 检查点或首条无法读取")
        return Hashes("sha256"), b""
    log.verifier_key, log.size = start.verifier_key, note.size
    if (start.origin, start.stream) != (head.origin, head.stream):
        _note(log.findings, f"entry 1 begins the {start.stream} log of {start.origin} 首条属于另一日志")
    if note.log_name != f"zhichao/{head.origin}/{head.stream}":
        _note(log.findings, f"the checkpoint is for {note.log_name} 检查点属于另一日志")
    if note.is_signed_by(owner) is not True:
        _note(
            log.findings, f"the checkpoint is not signed with the key of entry 1, {start.verifier_key} 检查点签名无效"
        )
    log.cosigners = dict(note.cosigners([*keys, owner], owner))
    for name, is_valid in log.cosigners.items():
        if is_valid is False:
            _note(log.findings, f"the cosignature of {name} is not valid 联署无效")
    if root_of_path(hashes, hashes.leaf(head.log_start), 0, note.size, head.log_start_path) != note.root:
        _note(log.findings, "entry 1 does not lie in the log that the checkpoint is for 首条不在该日志中")
    return hashes, note.root


def _check_proof(log: LogCheck, hashes: Hashes, root: bytes, head: pb.AccessRecordExport, proven: AuditRecord) -> None:
    if proven.sequence != head.proven_sequence:
        _note(
            log.findings,
            f"proven is entry {head.proven_sequence:,}, the newest record is {proven.sequence:,} 证明与末条记录不符",
        )
        return
    leaf = hashes.leaf(proven.entry)
    if root_of_path(hashes, leaf, proven.sequence - 1, log.size, head.proven_path) != root or not root:
        _note(
            log.findings, f"entry {proven.sequence:,}, the newest record, does not lie in the log 末条记录不在该日志中"
        )


class _Chain:
    """The chain of records of one log: each names the one before it."""

    def __init__(self, log: LogCheck, hashes: Hashes, is_narrowed: bool) -> None:
        self._log = log
        self._hashes = hashes
        self._is_narrowed = is_narrowed
        self.newest: AuditRecord | None = None

    def begin(self, before: AuditRecord | None) -> None:
        """Begin behind a record; without one at number 1."""
        self.newest = before

    def take(self, record: AuditRecord) -> None:
        """Add the next record."""
        newest = self.newest
        if self._is_narrowed:
            if newest is not None and record.sequence <= newest.sequence:
                _note(self._log.findings, f"record {record.record.number:,} stands out of order 记录顺序错误")
        else:
            self._link(newest, record)
        self.newest = record

    def end(self, after: AuditRecord) -> None:
        """Add the record behind the last one."""
        if not self._is_narrowed:
            self._link(self.newest, after)

    def _link(self, newest: AuditRecord | None, record: AuditRecord) -> None:
        number = record.record.number
        expected = 1 if newest is None else newest.record.number + 1
        if number != expected:
            _note(self._log.findings, f"record {expected:,} is missing: record {number:,} stands in its place 记录缺失")
        elif record.record.previous_leaf_digest != (b"" if newest is None else self._hashes.leaf(newest.entry)):
            _note(self._log.findings, f"record {number - 1:,} is not the one that record {number:,} follows 记录被更换")
        if newest is not None and record.sequence <= newest.sequence:
            _note(self._log.findings, f"record {number:,} stands out of order 记录顺序错误")


def _edge(log: LogCheck, entry: pb.AccessRecordEntry) -> AuditRecord | None:
    try:
        return AuditRecord.read(log.service, log.platform, entry.sequence, entry.entry)
    except UnreadableRecordError as error:
        _note(log.findings, f"the record before or after the file's cannot be read: {error} 首尾相邻记录无法读取")
        return None


def _check_edge_time(log: LogCheck, which: str, edge: AuditRecord, limit: str, *, is_earlier: bool) -> None:
    """Check that the records around the file's lie outside of its time; otherwise some of it would be missing."""
    if edge.time is None:
        return
    moment = datetime.fromisoformat(limit)
    if (edge.time >= moment) if is_earlier else (edge.time < moment):
        at = edge.time.isoformat()
        _note(log.findings, f"the record {which} the file's lies within its time: {at} 时间范围内另有记录")


def _note(findings: list[str], text: str) -> None:
    if len(findings) < FINDINGS_MAX:
        findings.append(text)
