"""Lists and replays parked entries through the JournalService of each service."""

from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from google.protobuf.json_format import MessageToDict

from cli.status_targets import Target
from zhichao.journal.v1 import journal_pb2, journal_pb2_grpc

PAGE_SIZE = 1_000
LIST_SECONDS_MAX = 30.0
# Each entry is a transaction of a few milliseconds; a hundred thousand take some minutes.
REPLAY_SECONDS_MAX = 3_600.0


class JournalServices:
    """The journals of a platform's services by name; a context manager that closes the connections."""

    def __init__(self, target: Target) -> None:
        self._stack = ExitStack()
        self._stubs = {
            name: journal_pb2_grpc.JournalServiceStub(self._stack.enter_context(target.connect(name, "operator")))
            for name in target.addresses
            if name != "relay"
        }

    def parked(self, origin: str, limit: int) -> Iterator[dict[str, Any]]:
        """Yield parked entries, service by service, `limit` at most. Raises grpc.RpcError."""
        left = limit
        for name, stub in self._stubs.items():
            token = ""
            while left > 0:
                request = journal_pb2.ListParkedEntriesRequest(
                    origin=origin, page_size=min(left, PAGE_SIZE), page_token=token
                )
                answer = stub.ListParkedEntries(request, timeout=LIST_SECONDS_MAX)
                for entry in answer.parked_entries:
                    document = MessageToDict(entry, preserving_proto_field_name=True)
                    yield {"stream": name, **document, "sequence": entry.sequence}
                left -= len(answer.parked_entries)
                token = answer.next_page_token
                if not token:
                    break

    def replay(self, origin: str) -> Iterator[tuple[str, dict[str, int]]]:
        """Replay service by service; yield what became of the entries. Raises grpc.RpcError."""
        for name, stub in self._stubs.items():
            request = journal_pb2.ReplayParkedEntriesRequest(origin=origin)
            answer = stub.ReplayParkedEntries(request, timeout=REPLAY_SECONDS_MAX)
            yield name, {"projected": answer.projected_count, "parked": answer.parked_count}

    def __enter__(self) -> Self:
        """Return the services."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self._stack.close()
