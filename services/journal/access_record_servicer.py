"""AccessRecordService over gRPC: message in, one call, message out."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import cast

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from services.common.errors import FieldViolation, invalid
from services.common.request import request_context
from services.common.rpc_call import Call
from services.journal.access_attempts import AttemptHandlers
from services.journal.access_export import AccessRecordExporter, ExportHead, ExportOrder
from services.journal.access_records import AccessRecordHandlers
from services.journal.store.access_exports import RecordEntry
from zhichao.journal.v1 import access_record_pb2 as pb
from zhichao.journal.v1 import access_record_pb2_grpc


class AccessRecordServicer(access_record_pb2_grpc.AccessRecordServiceServicer):
    """Shows who has been shown or has changed what, and who was refused."""

    def __init__(
        self, handlers: AccessRecordHandlers, exporter: AccessRecordExporter, attempts: AttemptHandlers
    ) -> None:
        self._handlers = handlers
        self._exporter = exporter
        self._attempts = attempts

    def ListAccessRecords(
        self, request: pb.ListAccessRecordsRequest, context: grpc.ServicerContext
    ) -> pb.ListAccessRecordsResponse:
        rows, token = self._handlers.list_page(
            request.origin,
            request.principal,
            _time("start_time", request.start_time) if request.HasField("start_time") else None,
            _time("end_time", request.end_time) if request.HasField("end_time") else None,
            request.page_size,
            request.page_token,
        )
        records = [
            pb.HeldAccessRecord(origin=row.origin, sequence=row.sequence, record=pb.AccessRecord.FromString(row.record))
            for row in rows
        ]
        return pb.ListAccessRecordsResponse(access_records=records, next_page_token=token)

    def ExportAccessRecords(
        self, request: pb.ExportAccessRecordsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ExportAccessRecordsResponse]:
        order = ExportOrder(
            request.origin,
            _time("start_time", request.start_time) if request.HasField("start_time") else None,
            _time("end_time", request.end_time) if request.HasField("end_time") else None,
            request.size,
            request.after_sequence,
        )
        for part in self._exporter.export(order, cast("Call", request_context()), request):
            if isinstance(part, ExportHead):
                yield pb.ExportAccessRecordsResponse(export=_head(part))
            else:
                entries = pb.AccessRecordEntries(entries=[_entry(one) for one in part])
                yield pb.ExportAccessRecordsResponse(entries=entries)

    def ReportRefusedAttempts(
        self, request: pb.ReportRefusedAttemptsRequest, context: grpc.ServicerContext
    ) -> pb.ReportRefusedAttemptsResponse:
        self._attempts.report(request.refused_attempts)
        return pb.ReportRefusedAttemptsResponse()


def _head(head: ExportHead) -> pb.AccessRecordExport:
    return pb.AccessRecordExport(
        origin=head.origin,
        stream=head.stream,
        checkpoint=head.checkpoint,
        log_start=head.log_start,
        log_start_path=head.log_start_path,
        record_count=head.record_count,
        before=None if head.before is None else _entry(head.before),
        after=None if head.after is None else _entry(head.after),
        proven_sequence=head.proven_sequence,
        proven_path=head.proven_path,
    )


def _entry(one: RecordEntry) -> pb.AccessRecordEntry:
    return pb.AccessRecordEntry(sequence=one.sequence, entry=one.entry)


def _time(field: str, value: Timestamp) -> datetime:
    try:
        return value.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise invalid([FieldViolation(field, "is not a time between the years 1 and 9999")]) from None
