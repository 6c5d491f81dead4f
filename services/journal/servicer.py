"""JournalService over gRPC: message in, one call, message out."""

from collections.abc import Iterator

import grpc

from services.journal import addressed_convert, convert
from services.journal.addressed_handlers import AddressedHandlers
from services.journal.handlers import JournalHandlers
from zhichao.journal.v1 import journal_pb2 as pb
from zhichao.journal.v1 import journal_pb2_grpc


class JournalServicer(journal_pb2_grpc.JournalServiceServicer):
    """Serves the logs held by one service of a platform."""

    def __init__(self, handlers: JournalHandlers, addressed: AddressedHandlers) -> None:
        self._handlers = handlers
        self._addressed = addressed

    def ListPositions(
        self, request: pb.ListPositionsRequest, context: grpc.ServicerContext
    ) -> pb.ListPositionsResponse:
        return pb.ListPositionsResponse(positions=self._handlers.positions(request.origin or None))

    def WatchPositions(
        self, request: pb.WatchPositionsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchPositionsResponse]:
        for positions in self._handlers.watch_positions():
            yield pb.WatchPositionsResponse(positions=positions)

    def ReadEntries(
        self, request: pb.ReadEntriesRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ReadEntriesResponse]:
        batches = self._handlers.read(
            request.origin, request.first_sequence, request.batch_records_max, follow=request.follow
        )
        for batch in batches:
            yield convert.read_response(batch, request.include_leaf_digests)

    def AppendEntries(
        self, request_iterator: Iterator[pb.AppendEntriesRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.AppendEntriesResponse]:
        incoming = (convert.incoming(request.batch) for request in request_iterator)
        for received in self._handlers.receive(incoming):
            yield convert.append_response(received, self._handlers.stream)

    def GetCheckpoint(
        self, request: pb.GetCheckpointRequest, context: grpc.ServicerContext
    ) -> pb.GetCheckpointResponse:
        note, verifier_key = self._handlers.checkpoint(request.origin, request.size, is_cosigned=request.is_cosigned)
        return pb.GetCheckpointResponse(checkpoint=note, verifier_key=verifier_key)

    def AddCosignatures(
        self, request: pb.AddCosignaturesRequest, context: grpc.ServicerContext
    ) -> pb.AddCosignaturesResponse:
        return pb.AddCosignaturesResponse(added_count=self._handlers.add_cosignatures(request.checkpoint))

    def GetInclusionProof(
        self, request: pb.GetInclusionProofRequest, context: grpc.ServicerContext
    ) -> pb.GetInclusionProofResponse:
        return convert.inclusion_response(
            self._handlers.inclusion_proof(request.origin, request.sequence, request.size)
        )

    def GetConsistencyProof(
        self, request: pb.GetConsistencyProofRequest, context: grpc.ServicerContext
    ) -> pb.GetConsistencyProofResponse:
        return convert.consistency_response(
            self._handlers.consistency_proof(request.origin, request.first_size, request.second_size)
        )

    def ListParkedEntries(
        self, request: pb.ListParkedEntriesRequest, context: grpc.ServicerContext
    ) -> pb.ListParkedEntriesResponse:
        rows, token = self._handlers.list_parked(request.origin or None, request.page_size, request.page_token)
        return pb.ListParkedEntriesResponse(
            parked_entries=[convert.parked_entry(row) for row in rows], next_page_token=token
        )

    def ReplayParkedEntries(
        self, request: pb.ReplayParkedEntriesRequest, context: grpc.ServicerContext
    ) -> pb.ReplayParkedEntriesResponse:
        projected, parked = self._handlers.replay_parked(request.origin or None)
        return pb.ReplayParkedEntriesResponse(projected_count=projected, parked_count=parked)

    def RestoreEntries(
        self, request: pb.RestoreEntriesRequest, context: grpc.ServicerContext
    ) -> pb.RestoreEntriesResponse:
        restored = self._handlers.restore(convert.incoming(request.batch))
        return convert.restore_response(restored, self._handlers.stream)

    def ConfirmOwnLog(
        self, request: pb.ConfirmOwnLogRequest, context: grpc.ServicerContext
    ) -> pb.ConfirmOwnLogResponse:
        head = self._handlers.confirm_own_log(request.size, request.root)
        return pb.ConfirmOwnLogResponse(position=convert.position(head, self._handlers.stream, 0))

    def ReadAddressedEntries(
        self, request: pb.ReadAddressedEntriesRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ReadAddressedEntriesResponse]:
        positions = addressed_convert.positions_from(request.positions)
        return self._addressed.read(request.platform, positions, follow=request.follow)

    def AppendAddressedEntries(
        self, request: pb.AppendAddressedEntriesRequest, context: grpc.ServicerContext
    ) -> pb.AppendAddressedEntriesResponse:
        received = self._addressed.receive(addressed_convert.batch_from(request.batch))
        return addressed_convert.append_response(received, self._addressed.stream)

    def ListAddressedPositions(
        self, request: pb.ListAddressedPositionsRequest, context: grpc.ServicerContext
    ) -> pb.ListAddressedPositionsResponse:
        held = self._addressed.positions(request.origin or None)
        return pb.ListAddressedPositionsResponse(
            positions=[addressed_convert.held_message(one, self._addressed.stream) for one in held]
        )

    def ListAddressedReceipts(
        self, request: pb.ListAddressedReceiptsRequest, context: grpc.ServicerContext
    ) -> pb.ListAddressedReceiptsResponse:
        rows, token = self._addressed.list_receipts(
            request.origin,
            request.first_sequence,
            request.last_sequence,
            request.platform or None,
            request.page_size,
            request.page_token,
        )
        return pb.ListAddressedReceiptsResponse(
            receipts=[addressed_convert.receipt_message(row) for row in rows], next_page_token=token
        )
