"""A video service as far as the relay knows it: objects that it holds, objects that it wants, and what it was told."""

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

import grpc

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.request import request_context
from services.common.rpc_server import RpcServer
from tests.relay.fakes import FakeJournal
from tests.relay.platforms import POLL_SECONDS, WAIT_SECONDS
from zhichao.journal.v1 import journal_pb2, journal_pb2_grpc
from zhichao.video.v1 import transfer_pb2 as pb
from zhichao.video.v1 import transfer_pb2_grpc

REQUESTED: Final = pb.TRANSFER_URGENCY_REQUESTED
FRESH: Final = pb.TRANSFER_URGENCY_FRESH
BACKFILL: Final = pb.TRANSFER_URGENCY_BACKFILL

CHUNK_BYTES: Final = 64 * 1024


def digest_of(content: bytes) -> bytes:
    """Return what names an object."""
    return hashlib.sha256(content).digest()


class FakeVideo(FakeJournal, transfer_pb2_grpc.TransferServiceServicer):
    """Keeps objects in memory and follows the contract of TransferService; its journal is empty."""

    def __init__(self, directory: Path, platform: str) -> None:
        super().__init__(directory, "video", platform=platform)
        self.address = f"unix:{directory}/{platform}-video.sock"
        self._changed = threading.Condition()
        self._held: dict[bytes, bytes] = {}
        self._arrived: list[bytes] = []
        self._partial: dict[bytes, bytes] = {}
        self._wanted: dict[bytes, pb.WantedObject] = {}
        # Of what has a manifest here and is below.
        self._sizes: dict[bytes, int] = {}
        self._running = ExitStack()
        # What it was asked and told, in order.
        self.completed: list[bytes] = []
        self.declined: list[tuple[str, bytes, bool]] = []
        self.wanted_above: list[tuple[bytes, int]] = []
        self.sent_from: list[tuple[bytes, int]] = []
        self.taken_bytes: Counter[bytes] = Counter()
        # Refusals of bytes, each given once; and of objects that are read.
        self.refuse_next: list[ServiceError] = []
        self.unreadable: dict[bytes, ServiceError] = {}
        # The answer to whatever the platform above wants.
        self.refuse_wish: ServiceError | None = None
        # Called with the digest before each message of bytes is taken.
        self.before_taking: Callable[[bytes], None] = lambda _digest: None

    def start(self) -> None:
        server = RpcServer(self.stream, self.address, self._access.control)
        server.add(
            lambda one: journal_pb2_grpc.add_JournalServiceServicer_to_server(self, one),
            journal_pb2.DESCRIPTOR.services_by_name["JournalService"].full_name,
        )
        server.add(
            lambda one: transfer_pb2_grpc.add_TransferServiceServicer_to_server(self, one),
            pb.DESCRIPTOR.services_by_name["TransferService"].full_name,
        )
        server.start()
        self._running.callback(server.stop, 0.5)

    # What a test does

    def hold(self, content: bytes) -> bytes:
        """Come to hold an object; return its digest."""
        digest = digest_of(content)
        with self._changed:
            self._held[digest] = content
            self._arrived.append(digest)
            self._changed.notify_all()
        return digest

    def want(self, content: bytes, urgency: pb.TransferUrgency.ValueType = FRESH) -> bytes:
        """Want an object from below; return its digest."""
        digest = digest_of(content)
        with self._changed:
            self._wanted[digest] = pb.WantedObject(
                object=pb.TransferObject(digest=digest, size_bytes=len(content)), urgency=urgency
            )
            self._changed.notify_all()
        return digest

    def know(self, content: bytes) -> None:
        """Know of an object by its manifest: it is below, and not wanted without being asked for."""
        with self._changed:
            self._sizes[digest_of(content)] = len(content)

    def forget(self, digest: bytes) -> None:
        """Want an object no more."""
        with self._changed:
            del self._wanted[digest]
            self._changed.notify_all()

    def content(self, digest: bytes) -> bytes | None:
        """Return what is held under a digest."""
        with self._changed:
            return self._held.get(digest)

    def received_bytes(self, digest: bytes) -> int:
        """Return how much of an object has come."""
        with self._changed:
            return len(self._held.get(digest) or self._partial.get(digest, b""))

    # What the relay asks

    def ReadAddressedEntries(
        self, request: object, context: object
    ) -> Iterator[journal_pb2.ReadAddressedEntriesResponse]:
        self._end_of_call().wait(WAIT_SECONDS)
        yield from ()

    def WatchWanted(
        self, request: pb.WatchWantedRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchWantedResponse]:
        ended = self._end_of_call()
        before: object = None
        while not ended.is_set():
            with self._changed:
                answer = self._wanted_now()
                if answer == before:
                    self._changed.wait(WAIT_SECONDS)
                    continue
            before = answer
            yield answer

    def _wanted_now(self) -> pb.WatchWantedResponse:
        declined = {digest for _, digest, _ in self.declined}
        rows = [one for digest, one in self._wanted.items() if digest not in declined]
        for row in rows:
            row.received_bytes = len(self._partial.get(row.object.digest, b""))
        return pb.WatchWantedResponse(
            wanted=sorted(rows, key=lambda row: row.urgency),
            object_count=len(self._wanted),
            missing_bytes=sum(one.object.size_bytes for one in self._wanted.values()),
        )

    def WatchHeld(self, request: pb.WatchHeldRequest, context: grpc.ServicerContext) -> Iterator[pb.WatchHeldResponse]:
        ended = self._end_of_call()
        with self._changed:
            seen = len(self._arrived)
        yield pb.WatchHeldResponse()
        while not ended.is_set():
            with self._changed:
                if len(self._arrived) == seen:
                    self._changed.wait(WAIT_SECONDS)
                fresh, seen = self._arrived[seen:], len(self._arrived)
            if fresh:
                yield pb.WatchHeldResponse(digests=fresh)

    def SendObject(
        self, request: pb.SendObjectRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.SendObjectResponse]:
        with self._changed:
            self.sent_from.append((request.digest, request.offset))
            content = self._held.get(request.digest)
        if request.digest in self.unreadable:
            raise self.unreadable[request.digest]
        if content is None:
            raise ServiceError(Reason.BYTES_NOT_HERE, "not here", metadata={"origin": ""})
        for start in range(request.offset, len(content), CHUNK_BYTES):
            yield pb.SendObjectResponse(chunk=content[start : start + CHUNK_BYTES])

    def ReceiveObject(
        self, request_iterator: Iterator[pb.ReceiveObjectRequest], context: grpc.ServicerContext
    ) -> pb.ReceiveObjectResponse:
        first = next(request_iterator)
        digest, size = first.object.digest, first.object.size_bytes
        with self._changed:
            if self.refuse_next:
                raise self.refuse_next.pop(0)
            if digest in self._held:
                return pb.ReceiveObjectResponse(received_bytes=size, is_complete=True)
            if digest not in self._wanted:
                raise ServiceError(Reason.BYTES_NOT_WANTED, "not wanted", metadata={"digest": digest.hex()})
            held = len(self._partial.get(digest, b""))
            if first.offset > held:
                raise ServiceError(Reason.OFFSET_MISMATCH, "another place", metadata={"expected_offset": str(held)})
            self._partial[digest] = self._partial.get(digest, b"")[: first.offset]
        with suppress(ServiceError, grpc.RpcError):
            for request in request_iterator:
                self.before_taking(digest)
                with self._changed:
                    self.taken_bytes[digest] += len(request.chunk)
                    self._partial[digest] += request.chunk
                    if len(self._partial[digest]) >= size:
                        break
        with self._changed:
            content = self._partial[digest]
            if len(content) < size:
                return pb.ReceiveObjectResponse(received_bytes=len(content))
            del self._partial[digest]
            if digest_of(content) != digest:
                raise ServiceError(Reason.DIGEST_MISMATCH, "other bytes", metadata={"expected": "", "actual": ""})
            self._wanted.pop(digest, None)
            self._held[digest] = content
            self._arrived.append(digest)
            self.completed.append(digest)
            self._changed.notify_all()
        return pb.ReceiveObjectResponse(received_bytes=size, is_complete=True)

    def DeclineObject(
        self, request: pb.DeclineObjectRequest, context: grpc.ServicerContext
    ) -> pb.DeclineObjectResponse:
        with self._changed:
            self.declined.append((request.platform, request.digest, request.is_gone))
            self._changed.notify_all()
        return pb.DeclineObjectResponse()

    def WantForUpstream(
        self, request: pb.WantForUpstreamRequest, context: grpc.ServicerContext
    ) -> pb.WantForUpstreamResponse:
        if self.refuse_wish is not None:
            raise self.refuse_wish
        with self._changed:
            self.wanted_above.append((request.digest, request.urgency))
            size = self._sizes.get(request.digest)
            if size is not None and request.digest not in self._held:
                named = pb.TransferObject(digest=request.digest, size_bytes=size)
                self._wanted[request.digest] = pb.WantedObject(object=named, urgency=request.urgency)
                self._changed.notify_all()
        return pb.WantForUpstreamResponse()

    def _end_of_call(self) -> threading.Event:
        ended = threading.Event()

        def end() -> None:
            ended.set()
            with self._changed:
                self._changed.notify_all()

        request_context().on_end(end)
        return ended


class Gate:
    """Holds up the bytes of some objects until it is opened; all others pass."""

    def __init__(self) -> None:
        self._held_up: set[bytes] = set()
        self._arrived: set[bytes] = set()
        self._changed = threading.Condition()

    def close_for(self, *digests: bytes) -> None:
        """Hold up these from now on."""
        with self._changed:
            self._held_up.update(digests)

    def open(self) -> None:
        """Let all pass."""
        with self._changed:
            self._held_up.clear()
            self._changed.notify_all()

    def waits(self, *digests: bytes) -> bool:
        """Tell whether bytes of all of these are held up."""
        with self._changed:
            return self._arrived >= set(digests)

    def __call__(self, digest: bytes) -> None:
        """Pass, when it may."""
        with self._changed:
            self._arrived.add(digest)
            while digest in self._held_up and not request_context().stopping.is_set():
                self._changed.wait(POLL_SECONDS)
