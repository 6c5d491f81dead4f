"""What stands beside an exported file: how much it holds, its digest, and what proves that nothing is left out."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from zhichao.journal.v1 import access_record_pb2 as pb

FORM: Final = "zhichao-audit-log/1"
"""Raised when the meaning of a field changes."""

MANIFEST_SUFFIX: Final = ".manifest.json"

BYTES_MAX: Final = 64 * 1024 * 1024
"""A manifest has some kB for each log, and there are some hundred logs."""


class UnreadableManifestError(Exception):
    """A file that is no manifest of ours; the text says why."""


@dataclass(frozen=True, slots=True)
class LogExport:
    """What was exported of one log."""

    head: pb.AccessRecordExport
    # Rows in the file: fewer than the head's count when something narrowed the export.
    row_count: int

    def document(self) -> dict[str, Any]:
        """Return it as it stands in a manifest."""
        head = self.head
        return {
            "service": head.stream,
            "platform": head.origin,
            "record_count": head.record_count,
            "row_count": self.row_count,
            "checkpoint": head.checkpoint,
            "log_start": _encode(head.log_start),
            "log_start_path": [_encode(one) for one in head.log_start_path],
            "before": _entry_document(head.before) if head.HasField("before") else None,
            "after": _entry_document(head.after) if head.HasField("after") else None,
            "proven_sequence": head.proven_sequence,
            "proven_path": [_encode(one) for one in head.proven_path],
        }

    @classmethod
    def read(cls, document: Any) -> "LogExport":
        """Read what `document` made. Raises KeyError, TypeError, ValueError."""
        head = pb.AccessRecordExport(
            origin=document["platform"],
            stream=document["service"],
            checkpoint=document["checkpoint"],
            log_start=_decode(document["log_start"]),
            log_start_path=[_decode(one) for one in document["log_start_path"]],
            record_count=document["record_count"],
            before=_read_entry(document["before"]),
            after=_read_entry(document["after"]),
            proven_sequence=document["proven_sequence"],
            proven_path=[_decode(one) for one in document["proven_path"]],
        )
        return cls(head, int(document["row_count"]))


@dataclass(frozen=True, slots=True)
class Manifest:
    """What stands beside one file. `start` and `end` are ISO 8601 with zone."""

    file: str
    format: str
    sha256: str
    byte_count: int
    record_count: int
    start: str
    end: str
    time_zone: str
    filters: dict[str, list[str]]
    software: str
    logs: Sequence[LogExport]

    @property
    def is_narrowed(self) -> bool:
        """Whether the file holds some of the records of its time only."""
        return bool(self.filters)

    def to_json(self) -> str:
        """Return the text of the manifest."""
        document = {
            "form": FORM,
            "file": self.file,
            "format": self.format,
            "sha256": self.sha256,
            "byte_count": self.byte_count,
            "record_count": self.record_count,
            "from": self.start,
            "to": self.end,
            "time_zone": self.time_zone,
            "filters": self.filters,
            "software": self.software,
            "logs": [one.document() for one in self.logs],
        }
        return json.dumps(document, ensure_ascii=False, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Read the text of a manifest. Raises UnreadableManifestError."""
        try:
            document = json.loads(text)
            form = document["form"]
            if form != FORM:
                raise UnreadableManifestError(f"it is of the form {form!r}, and {FORM} is known here 格式不同")
            filters = {str(name): [str(one) for one in values] for name, values in document["filters"].items()}
            return cls(
                str(document["file"]),
                str(document["format"]),
                str(document["sha256"]),
                int(document["byte_count"]),
                int(document["record_count"]),
                _time(document["from"]),
                _time(document["to"]),
                str(document["time_zone"]),
                filters,
                str(document["software"]),
                [LogExport.read(one) for one in document["logs"]],
            )
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise UnreadableManifestError(
                f"it is no manifest of an audit log ({type(error).__name__}) 不是审计日志的清单"
            ) from error


def manifest_path(file: Path) -> Path:
    """Return where the manifest of a file stands."""
    return file.with_name(file.name + MANIFEST_SUFFIX)


def read_manifest(path: Path) -> Manifest:
    """Read a manifest. Raises UnreadableManifestError, OSError."""
    with path.open("rb") as file:
        content = file.read(BYTES_MAX + 1)
    if len(content) > BYTES_MAX:
        raise UnreadableManifestError(f"it has more than {BYTES_MAX:,} bytes 文件过大")
    try:
        return Manifest.from_json(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UnreadableManifestError("it is no text in UTF-8 不是 UTF-8 文本") from error


def _time(text: Any) -> str:
    # Without a window, or with one that cannot be compared, nothing could be missing from it.
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("a time without a zone")
    return str(text)


def _entry_document(entry: pb.AccessRecordEntry) -> dict[str, Any]:
    return {"sequence": entry.sequence, "entry": _encode(entry.entry)}


def _read_entry(document: Any) -> pb.AccessRecordEntry | None:
    if document is None:
        return None
    return pb.AccessRecordEntry(sequence=document["sequence"], entry=_decode(document["entry"]))


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _decode(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
