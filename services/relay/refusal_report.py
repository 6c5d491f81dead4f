"""Tells the registry whom the relay has refused, since it has no journal of its own to keep it in."""

from collections.abc import Callable, Sequence
from typing import Final

import grpc
from google.protobuf.message import Message

from services.common.clock import Clock
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.refused_attempts import RefusalBook, RefusalSource, RefusedAttempts
from services.common.rpc_call import Call
from services.common.rpc_client import service_error
from services.journal.access_attempts import record_of
from zhichao.journal.v1 import access_record_pb2, access_record_pb2_grpc

CALL_SECONDS_MAX: Final = 5.0
"""The registry writes one transaction; when it is away the next minute tries again."""


class RefusalReport:
    """What stands for the journal at the relay's servers, between `start` and `stop`."""

    def __init__(self, open_registry: Callable[[], grpc.Channel], clock: Clock) -> None:
        self._open_registry = open_registry
        self._book = RefusalBook(self._report, clock)

    def start(self) -> None:
        """Start to tell."""
        self._book.start()

    def stop(self) -> None:
        """Tell what is left and stop."""
        self._book.stop()

    def note_refusal(self, source: RefusalSource, method: str, claimed: str) -> None:
        """Count one refused attempt, to be told with others."""
        self._book.note(source, method, claimed)

    def record(self, call: Call, request: Message | None, personal_count: int, response: Message | None = None) -> None:
        """Refuse: no method of a relay shows what has to be accounted for. Raises ServiceError NOT_CONFIGURED."""
        del request, personal_count, response
        raise ServiceError(
            Reason.NOT_CONFIGURED,
            f"answers of {call.method} have to be accounted for, and a relay has no journal",
        )

    def _report(self, refusals: Sequence[RefusedAttempts]) -> None:
        request = access_record_pb2.ReportRefusedAttemptsRequest(refused_attempts=[record_of(one) for one in refusals])
        try:
            with self._open_registry() as channel:
                stub = access_record_pb2_grpc.AccessRecordServiceStub(channel)
                stub.ReportRefusedAttempts(request, timeout=CALL_SECONDS_MAX)
        except grpc.RpcError as error:
            raise service_error(error) from error
