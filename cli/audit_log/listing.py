"""The newest access records of all services of a platform, in one list."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any, Final

from cli.audit_log.record import ANSWERED, outcome_of
from zhichao.journal.v1 import access_record_pb2 as pb
from zhichao.journal.v1.access_record_pb2_grpc import AccessRecordServiceStub

if TYPE_CHECKING:
    from rich.table import Table

CALL_SECONDS_MAX: Final = 30.0

Found = Sequence[tuple[str, pb.HeldAccessRecord]]


def newest(
    stubs: Mapping[str, AccessRecordServiceStub], origin: str, actor: str, start: datetime, end: datetime, limit: int
) -> Found:
    """Return the newest records, by service, newest first. Raises grpc.RpcError."""
    request = pb.ListAccessRecordsRequest(origin=origin, principal=actor, page_size=limit)
    request.start_time.FromDatetime(start.astimezone(UTC))
    request.end_time.FromDatetime(end.astimezone(UTC))
    found = [
        (service, one)
        for service, stub in stubs.items()
        for one in stub.ListAccessRecords(request, timeout=CALL_SECONDS_MAX).access_records
    ]
    return sorted(found, key=lambda one: one[1].record.access_time.ToNanoseconds(), reverse=True)[:limit]


def record_document(service: str, held: pb.HeldAccessRecord, zone: tzinfo) -> dict[str, Any]:
    """Return a record as it is printed in JSON."""
    record = held.record
    return {
        "time": _time(record, zone).isoformat(timespec="milliseconds"),
        "platform": held.origin,
        "service": service,
        "sequence": held.sequence,
        "number": record.number,
        "actor": record.principal,
        "action": record.method,
        "outcome": outcome_of(record),
        "subjects": list(record.subjects),
        "purpose": record.purpose,
        "personal_data_count": record.personal_data_count,
        "peer_address": record.peer_address,
        "attempt_count": record.attempt_count,
    }


def record_table(found: Found, zone: tzinfo) -> "Table":
    """Return the records as a table."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    for title in ("Time\n时间", "Actor\n主体", "Action\n操作", "Subjects\n对象", "Outcome\n结果"):
        table.add_column(title, overflow="fold")
    for service, held in found:
        record = held.record
        told = outcome_of(record)
        attempts = f" ×{record.attempt_count:,}" if record.attempt_count > 1 else ""
        table.add_row(
            f"{_time(record, zone):%m-%d %H:%M:%S}",
            Text(record.principal or f"? {record.peer_address}"),
            Text(record.method.rpartition("/")[2] or service),
            Text(", ".join(map(_short, record.subjects))),
            Text(told + attempts, "" if told == ANSWERED else "yellow"),
        )
    return table


def _short(subject: str) -> str:
    """Leave out in which part of the request a subject stood."""
    name, _, value = subject.partition("=")
    return f"{name.rpartition('.')[2]}={value}"


def _time(record: pb.AccessRecord, zone: tzinfo) -> datetime:
    return record.access_time.ToDatetime(UTC).astimezone(zone)
