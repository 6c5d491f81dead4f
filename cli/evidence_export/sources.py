"""The services of one platform, as an export asks them: an officer for evidence and records, an auditor for proofs."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import grpc

from cli.evidence_bundle.packing import EntryKey, LogKey, ProvenBytes
from cli.evidence_transfer import Retries
from services.common.reasons import Reason
from services.common.rpc_client import service_error
from zhichao.journal.v1 import journal_pb2, journal_pb2_grpc
from zhichao.registry.v1 import service_pb2_grpc as registry_grpc
from zhichao.video.v1 import service_pb2_grpc as video_grpc
from zhichao.weighing.v1 import service_pb2_grpc as weighing_grpc

CALL_SECONDS_MAX: Final = 30.0
"""Each call of an export takes milliseconds."""

Connect = Callable[[str], grpc.Channel]
"""Opens a channel to a service by its name."""


class Sources:
    """The channels of an export. A context manager that closes them."""

    def __init__(self, as_officer: Connect, as_auditor: Connect, purpose: str) -> None:
        # What an auditor reads is in the audit log, with why.
        self._metadata = (("x-purpose", quote(purpose)),)
        self._stack = ExitStack()
        try:
            open_ = self._stack.enter_context
            self.video = video_grpc.VideoServiceStub(open_(as_officer("video")))
            self.weighing = weighing_grpc.WeighingServiceStub(open_(as_officer("weighing")))
            self.registry = registry_grpc.RegistryServiceStub(open_(as_officer("registry")))
            self._journals: Mapping[str, Any] = {
                stream: journal_pb2_grpc.JournalServiceStub(open_(as_auditor(stream)))
                for stream in ("video", "weighing", "registry")
            }
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def own_log(self, stream: str) -> journal_pb2.Position | None:
        """Return where the platform's own log of a service stands. Raises grpc.RpcError."""
        answer = self._journals[stream].ListPositions(journal_pb2.ListPositionsRequest(), timeout=CALL_SECONDS_MAX)
        return next((position for position in answer.positions if position.is_own), None)

    def checkpoint(self, log: LogKey, size_min: int = 0, *, is_cosigned: bool = False) -> tuple[str, str] | None:
        """Return a checkpoint of at least a size, and the owner's key; None if there is none. Raises grpc.RpcError."""
        stream, origin = log
        request = journal_pb2.GetCheckpointRequest(
            origin=origin, size=size_min if is_cosigned else 0, is_cosigned=is_cosigned
        )
        try:
            answer = self._journals[stream].GetCheckpoint(request, timeout=CALL_SECONDS_MAX)
        except grpc.RpcError as error:
            if service_error(error).reason is not Reason.BEYOND_LOG:
                raise
            return None
        return answer.checkpoint, answer.verifier_key

    def prove(self, key: EntryKey, size: int) -> ProvenBytes:
        """Return an entry with its proof at a size. Raises grpc.RpcError, BrokenOffError."""
        stream, origin, sequence = key
        request = journal_pb2.GetInclusionProofRequest(origin=origin, sequence=sequence, size=size)
        retries = Retries()
        while True:
            try:
                answer = self._journals[stream].GetInclusionProof(
                    request, timeout=CALL_SECONDS_MAX, metadata=self._metadata
                )
                return ProvenBytes(answer.entry, tuple(answer.path))
            except grpc.RpcError as error:
                refused = service_error(error)
                # A person may make some fifty calls a second, and what was looked at often has more custody than that.
                if not (refused.is_retryable or refused.reason is Reason.RATE_LIMITED):
                    raise
                retries.wait(refused)
