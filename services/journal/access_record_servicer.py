"""AccessRecordService over gRPC: message in, one call, message out."""

from datetime import UTC, datetime

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from services.common.errors import FieldViolation, invalid
from services.journal.access_records import AccessRecordHandlers
from zhichao.journal.v1 import access_record_pb2 as pb
from zhichao.journal.v1 import access_record_pb2_grpc


class AccessRecordServicer(access_record_pb2_grpc.AccessRecordServiceServicer):
    """Shows who has been shown what."""

    def __init__(self, handlers: AccessRecordHandlers) -> None:
        self._handlers = handlers

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


def _time(field: str, value: Timestamp) -> datetime:
    try:
        return value.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise invalid([FieldViolation(field, "is not a time between the years 1 and 9999")]) from None
