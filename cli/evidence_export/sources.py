"""The services of one platform, as an export asks them: an officer for evidence and records, an auditor for proofs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, cast
from urllib.parse import quote

import grpc
from google.protobuf.message import Message

from cli.evidence_bundle.packing import EntryKey, LogKey, ProvenBytes
from cli.evidence_options import PAGE_SIZE
from cli.evidence_transfer import Retries
from cli.listing import every, first
from services.common.reasons import Reason
from services.common.rpc_client import service_error
from zhichao.journal.v1 import journal_pb2, journal_pb2_grpc
from zhichao.registry.v1 import service_pb2_grpc as registry_grpc
from zhichao.video.v1 import evidence_pb2
from zhichao.video.v1 import service_pb2 as pb
from zhichao.video.v1 import service_pb2_grpc as video_grpc
from zhichao.weighing.v1 import service_pb2_grpc as weighing_grpc

CALL_SECONDS_MAX: Final = 30.0
"""Each call of an export takes milliseconds."""

CUSTODY_PAGE_SIZE: Final = 1_000
"""The most that the contract takes: what was looked at for years has many events, of some 300 bytes each."""

Connect = Callable[[str], grpc.Channel]
"""Opens a channel to a service by its name."""


class ExportError(Exception):
    """The weighing cannot be exported; the text says why and what to do."""


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

    def evidence(self, origin: str, source_unit_id: str, evidence_id: str) -> pb.HeldEvidence:
        """Return one piece of evidence. Raises grpc.RpcError, BrokenOffError."""
        name = evidence_pb2.EvidenceName(origin=origin, source_unit_id=source_unit_id, evidence_id=evidence_id)
        answer = _retried(self.video.GetEvidence)(pb.GetEvidenceRequest(name=name), timeout=CALL_SECONDS_MAX)
        return cast("pb.HeldEvidence", answer.held_evidence)

    def all_evidence(self, narrow: pb.EvidenceFilter, limit: int) -> tuple[list[pb.HeldEvidence], bool]:
        """Return evidence, at most `limit`, and whether there is more. Raises grpc.RpcError, BrokenOffError."""
        request = pb.ListEvidenceRequest(filter=narrow, page_size=PAGE_SIZE)
        return first(_retried(self.video.ListEvidence), request, "held_evidence", limit, CALL_SECONDS_MAX)

    def custody(self, name: evidence_pb2.EvidenceName) -> Iterator[pb.HeldCustodyEvent]:
        """Yield all that was done with a piece of evidence. Raises grpc.RpcError, BrokenOffError."""
        request = pb.ListCustodyRequest(name=name, page_size=CUSTODY_PAGE_SIZE)
        yield from every(_retried(self.video.ListCustody), request, "held_events", CALL_SECONDS_MAX)

    def own_log(self, stream: str) -> journal_pb2.Position | None:
        """Return where the platform's own log of a service stands. Raises grpc.RpcError."""
        answer = self._journals[stream].ListPositions(journal_pb2.ListPositionsRequest(), timeout=CALL_SECONDS_MAX)
        return next((position for position in answer.positions if position.is_own), None)

    def checkpoint(self, log: LogKey, size_min: int = 0, *, is_cosigned: bool = False) -> tuple[str, str] | None:
        """Return a checkpoint of at least a size, and the owner's key; None if there is none.

        Raises grpc.RpcError, BrokenOffError.
        """
        stream, origin = log
        request = journal_pb2.GetCheckpointRequest(
            origin=origin, size=size_min if is_cosigned else 0, is_cosigned=is_cosigned
        )
        try:
            answer = _retried(self._journals[stream].GetCheckpoint)(request, timeout=CALL_SECONDS_MAX)
        except grpc.RpcError as error:
            if service_error(error).reason is not Reason.BEYOND_LOG:
                raise
            return None
        return answer.checkpoint, answer.verifier_key

    def prove(self, key: EntryKey, size: int) -> ProvenBytes:
        """Return an entry with its proof at a size. Raises grpc.RpcError, BrokenOffError."""
        stream, origin, sequence = key
        request = journal_pb2.GetInclusionProofRequest(origin=origin, sequence=sequence, size=size)
        prove = partial(self._journals[stream].GetInclusionProof, metadata=self._metadata)
        answer = _retried(prove)(request, timeout=CALL_SECONDS_MAX)
        return ProvenBytes(answer.entry, tuple(answer.path))


def _retried(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return the method with the waits that its service asks for.

    A person may make some fifty calls a second, and what was looked at often has more custody than that.
    """

    def call(request: Message, timeout: float) -> Any:
        retries = Retries()
        while True:
            try:
                return method(request, timeout=timeout)
            except grpc.RpcError as error:
                refused = service_error(error)
                if not refused.is_retryable:
                    raise
                retries.wait(refused)

    return call
