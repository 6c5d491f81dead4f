"""WeighingService over gRPC: message in, one call, message out."""

from collections.abc import Callable, Iterator

import grpc

from services.common.errors import FieldViolation, invalid
from services.weighing import answers
from services.weighing.handlers import WeighingHandlers
from services.weighing.streaming import AnswerStream
from zhichao.weighing.v1 import service_pb2 as pb
from zhichao.weighing.v1 import service_pb2_grpc


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

    def RecordWeighings(
        self, request: pb.RecordWeighingsRequest, context: grpc.ServicerContext
    ) -> pb.RecordWeighingsResponse:
        outcomes = self._handlers.begin_recording(request.records).result()
        return pb.RecordWeighingsResponse.FromString(
            self._writer.results_bytes([record.record_id for record in request.records], outcomes)
        )

    def StreamWeighings(
        self, request_iterator: Iterator[pb.StreamWeighingsRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.StreamWeighingsResponse]:
        def begin(request: pb.StreamWeighingsRequest) -> Callable[[], pb.StreamWeighingsResponse]:
            record_ids = [record.record_id for record in request.records]
            outcomes = self._handlers.begin_recording(request.records)
            return lambda: pb.StreamWeighingsResponse.FromString(
                self._writer.results_bytes(record_ids, outcomes.result())
            )

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
