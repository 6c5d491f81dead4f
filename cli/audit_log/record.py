"""One access record as people read it: what its entry says, in columns. The entry itself goes along, so that everything
beside it can be checked.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from zhichao.common.v1 import refusal_pb2
from zhichao.journal.v1 import access_record_pb2, entry_pb2

KIND: Final = "zhichao.journal.v1.AccessRecord"

ANSWERED: Final = "answered"
"""The outcome of a call that was not refused."""

COLUMNS: Final[Mapping[str, str]] = {
    "time": "时间",
    "platform": "平台",
    "service": "服务",
    "number": "编号",
    "sequence": "日志序号",
    "actor": "主体",
    "action": "操作",
    "outcome": "结果",
    "subjects": "对象",
    "purpose": "访问目的",
    "personal_data_count": "个人信息项数",
    "peer_address": "来源地址",
    "attempt_count": "尝试次数",
    "first_attempt_time": "首次尝试时间",
    "request_id": "请求编号",
    "entry": "日志条目",
}
"""Names of the columns in their order, with their Chinese titles."""


class UnreadableRecordError(ValueError):
    """Bytes that are no entry with an access record."""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One access record, and where it stands."""

    service: str
    platform: str
    sequence: int
    entry: bytes
    record: access_record_pb2.AccessRecord
    request_id: str

    @classmethod
    def read(cls, service: str, platform: str, sequence: int, entry: bytes) -> "AuditRecord":
        """Read the bytes of an entry. Raises UnreadableRecordError."""
        try:
            parsed = entry_pb2.Entry.FromString(entry)
            record = access_record_pb2.AccessRecord.FromString(parsed.payload)
        except DecodeError as error:
            raise UnreadableRecordError("the bytes are no entry 这些字节不是条目") from error
        if parsed.kind != KIND:
            raise UnreadableRecordError(f"the entry is a {parsed.kind or 'nothing'} 条目种类不符")
        return cls(service, platform, sequence, entry, record, parsed.request_id)

    @property
    def time(self) -> datetime | None:
        """When it was; None for what is no time."""
        return _instant(self.record.access_time)

    def fields(self, zone: tzinfo) -> dict[str, Any]:
        """Return the columns; times in a zone, absent ones empty."""
        record = self.record
        has_first = record.HasField("first_attempt_time")
        return {
            "time": _text(self.time, zone),
            "platform": self.platform,
            "service": self.service,
            "number": record.number,
            "sequence": self.sequence,
            "actor": record.principal,
            "action": record.method,
            "outcome": outcome_of(record),
            "subjects": list(record.subjects),
            "purpose": record.purpose,
            "personal_data_count": record.personal_data_count,
            "peer_address": record.peer_address,
            "attempt_count": record.attempt_count,
            "first_attempt_time": _text(_instant(record.first_attempt_time), zone) if has_first else "",
            "request_id": self.request_id,
            "entry": base64.b64encode(self.entry).decode("ascii"),
        }


@dataclass(frozen=True, slots=True)
class Filter:
    """Which records are wanted; nothing narrows nothing. All that is named has to fit."""

    actors: Sequence[str] = ()
    actions: Sequence[str] = ()
    subjects: Sequence[str] = ()
    units: Sequence[str] = ()

    @property
    def is_empty(self) -> bool:
        """Whether every record is wanted."""
        return not (self.actors or self.actions or self.subjects or self.units)

    def wants(self, record: access_record_pb2.AccessRecord) -> bool:
        """Tell whether a record fits.

        An action is a method, whole or by its last part; a subject `field=value`, or the value alone.
        """
        subjects = set(record.subjects)
        values = {one.partition("=")[2] for one in subjects}
        units = {
            one.partition("=")[2] for one in subjects if one.partition("=")[0].rpartition(".")[2] == "source_unit_id"
        }
        action = {record.method, record.method.rpartition("/")[2]}
        return (
            (not self.actors or record.principal in self.actors)
            and (not self.actions or bool(action.intersection(self.actions)))
            and (not self.subjects or bool((subjects | values).intersection(self.subjects)))
            and (not self.units or bool(units.intersection(self.units)))
        )

    def document(self) -> dict[str, list[str]]:
        """Return what narrows, for a manifest."""
        named = {"actor": self.actors, "action": self.actions, "subject": self.subjects, "unit": self.units}
        return {name: list(values) for name, values in named.items() if values}


def outcome_of(record: access_record_pb2.AccessRecord) -> str:
    """Return whether a call was answered, or the reason of its refusal."""
    reason = record.refusal_reason
    if not reason:
        return ANSWERED
    if reason not in refusal_pb2.ErrorReason.values():
        return str(int(reason))
    return refusal_pb2.ErrorReason.Name(reason).removeprefix("ERROR_REASON_")


def _instant(value: Timestamp) -> datetime | None:
    try:
        return value.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _text(moment: datetime | None, zone: tzinfo) -> str:
    return "" if moment is None else moment.astimezone(zone).isoformat(timespec="milliseconds")
