"""WeighingService over gRPC: message in, one call, message out."""

from collections.abc import Callable, Iterator
from typing import Final

import grpc

from services.common.errors import FieldViolation, invalid
from services.journal.group_commit import Sequel
from services.weighing import answers
from services.weighing.handlers import WeighingHandlers
from services.weighing.streaming import AnswerStream
from zhichao.weighing.v1 import service_pb2 as pb
from zhichao.weighing.v1 import service_pb2_grpc

SERIALIZED_METHODS: Final = ("RecordWeighings", "StreamWeighings")
"""Methods whose messages stay bytes (`with_raw_messages`): reading them here and making messages of the answers would
take a tenth of the time of a backlog."""


class WeighingServicer(service_pb2_grpc.WeighingServiceServicer):
    """Serves weighings."""

    def __init__(self, handlers: WeighingHandlers) -> None:
        self._handlers = handlers
        self._writer = answers.RecordedWriter(handlers.origin)

    def RecordWeighing(
        self, request: pb.RecordWeighingRequest, context: grpc.ServicerContext
    ) -> pb.RecordWeighingResponse:
        recorded = self._handlers.record(request.record)
        return pb.RecordWeighingResponse(recorded=self._writer.recorded(recorded))

    def RecordWeighings(  # type: ignore[override]  # one of SERIALIZED_METHODS
        self, request: bytes, context: grpc.ServicerContext
    ) -> bytes:
        prepared, committed = self._handlers.begin_recording(request)
        return self._writer.results_bytes(prepared, committed.result())

    def StreamWeighings(  # type: ignore[override]  # one of SERIALIZED_METHODS
        self, request_iterator: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        sequel = Sequel()

        def begin(request: bytes) -> Callable[[], bytes]:
            prepared, committed = self._handlers.begin_recording(request, sequel)
            return lambda: self._writer.results_bytes(prepared, committed.result())

        return AnswerStream(begin).run(request_iterator)

    def GetWeighing(self, request: pb.GetWeighingRequest, context: grpc.ServicerContext) -> pb.GetWeighingResponse:
        match request.WhichOneof("name"):
            case "receipt":
                answers.check_name({"receipt.origin": request.receipt.origin})
                held = self._handlers.get_by_place(request.receipt.origin, request.receipt.sequence)
            case "record_name":
                name = request.record_name
                answers.check_name(
                    {"record_name.source_unit_id": name.source_unit_id, "record_name.record_id": name.record_id}
                )
                held = self._handlers.get_by_name(name.source_unit_id, name.record_id)
            case _:
                raise invalid([FieldViolation("name", "is not set; give a receipt or a record_name")])
        return pb.GetWeighingResponse(held_weighing=answers.held_weighing(held))

    def ListWeighings(
        self, request: pb.ListWeighingsRequest, context: grpc.ServicerContext
    ) -> pb.ListWeighingsResponse:
        rows, token = self._handlers.list_weighings(
            answers.read_filter(request.filter), request.page_size, request.page_token
        )
        return pb.ListWeighingsResponse(
            held_weighings=[answers.held_weighing(row) for row in rows], next_page_token=token
        )

    def WatchWeighings(
        self, request: pb.WatchWeighingsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchWeighingsResponse]:
        verdicts = answers.read_watch(request)
        for rows, next_sequence in self._handlers.watch(
            request.origin, request.first_sequence, request.source_unit_id, verdicts
        ):
            yield pb.WatchWeighingsResponse(
                held_weighings=[answers.held_weighing(row) for row in rows], next_sequence=next_sequence
            )

    def ListDayTotals(
        self, request: pb.ListDayTotalsRequest, context: grpc.ServicerContext
    ) -> pb.ListDayTotalsResponse:
        first_day, last_day = answers.read_days(request)
        rows, token = self._handlers.list_day_totals(
            request.source_unit_id, request.origin, first_day, last_day, request.page_size, request.page_token
        )
        return pb.ListDayTotalsResponse(day_totals=[answers.day_total(row) for row in rows], next_page_token=token)

    def ListWeighingConflicts(
        self, request: pb.ListWeighingConflictsRequest, context: grpc.ServicerContext
    ) -> pb.ListWeighingConflictsResponse:
        answers.check_conflicts_request(request)
        rows, token = self._handlers.list_conflicts(
            request.source_unit_id, request.record_id, request.page_size, request.page_token
        )
        return pb.ListWeighingConflictsResponse(
            held_conflicts=[answers.held_conflict(row) for row in rows], next_page_token=token
        )
