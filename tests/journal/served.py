"""A journal served over a real gRPC server on a unix socket."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc

from services.common.errors import ServiceError
from services.common.rpc_client import connect, service_error
from services.common.rpc_server import RpcServer
from services.journal.receiver import IncomingBatch
from tests.access import Access
from tests.journal.journals import WAIT_SECONDS, Journal
from zhichao.journal.v1 import journal_pb2 as pb
from zhichao.journal.v1 import journal_pb2_grpc


class ServedJournal:
    """A journal with its tail and its server."""

    def __init__(self, journal: Journal, directory: Path) -> None:
        self.journal = journal
        journal.parts.start()
        access = Access(journal.platform)
        address = f"unix:{directory}/{journal.platform}.sock"
        self.access = access
        self.server = RpcServer(
            "journal",
            address,
            access.control,
            threads=4,
            streams_max=8,
        )
        journal.parts.register(self.server)
        self.server.start()
        self._channel = connect(self.server.address, credentials=access.credentials(access.service_token))
        self.stub = journal_pb2_grpc.JournalServiceStub(self._channel)

    def close(self) -> None:
        self._channel.close()
        self.server.stop(WAIT_SECONDS)
        self.journal.parts.stop()

    def read(self, **fields: Any) -> Any:
        """Open a stream of batches."""
        return self.stub.ReadEntries(pb.ReadEntriesRequest(**fields), timeout=WAIT_SECONDS)

    def append(self, *batches: IncomingBatch) -> list[pb.AppendEntriesResponse]:
        """Push batches as one stream."""
        return list(self.stub.AppendEntries(map(request_of, batches), timeout=WAIT_SECONDS))


def request_of(batch: IncomingBatch) -> pb.AppendEntriesRequest:
    return pb.AppendEntriesRequest(
        batch=pb.EntryBatch(
            origin=batch.origin,
            first_sequence=batch.first_sequence,
            entries=batch.entries,
            checkpoint=batch.checkpoint,
        )
    )


def batch_of(response: pb.ReadEntriesResponse) -> IncomingBatch:
    batch = response.batch
    return IncomingBatch(batch.origin, batch.first_sequence, list(batch.entries), batch.checkpoint)


def refusal(call: Any) -> ServiceError:
    """Make a call, or read a stream, that must fail; return why it did."""
    try:
        answer = call()
        if isinstance(answer, Iterator):
            list(answer)
    except grpc.RpcError as error:
        return service_error(error)
    raise AssertionError("the call was answered")


class Feed(Iterator[pb.AppendEntriesRequest]):
    """A request stream that a test feeds and ends."""

    def __init__(self) -> None:
        self._waiting: list[pb.AppendEntriesRequest] = []
        self._is_over = False
        self._changed = threading.Condition()

    def send(self, *batches: IncomingBatch) -> None:
        with self._changed:
            self._waiting += map(request_of, batches)
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def __next__(self) -> pb.AppendEntriesRequest:
        with self._changed:
            assert self._changed.wait_for(lambda: self._waiting or self._is_over, 2 * WAIT_SECONDS)
            if self._waiting:
                return self._waiting.pop(0)
            raise StopIteration
