"""The use cases of the relay of this platform: what is wanted from below, bytes that come, bytes that go up."""

from collections.abc import Iterator

from services.common.clock import Clock
from services.common.database import Engine
from services.video.custody_writer import CustodyWriter
from services.video.object_store import ObjectStore
from services.video.spool import Spool
from zhichao.video.v1 import transfer_pb2 as pb


class TransferHandlers:
    """The way of bytes between platforms."""

    def __init__(
        self, engine: Engine, own: str, custody: CustodyWriter, objects: ObjectStore, spool: Spool, clock: Clock
    ) -> None:
        self._engine = engine
        self._own = own
        self._custody = custody
        self._objects = objects
        self._spool = spool
        self._clock = clock

    def watch_wanted(self, request: pb.WatchWantedRequest) -> Iterator[pb.WatchWantedResponse]:
        raise NotImplementedError

    def receive_object(self, requests: Iterator[pb.ReceiveObjectRequest]) -> pb.ReceiveObjectResponse:
        raise NotImplementedError

    def decline_object(self, request: pb.DeclineObjectRequest) -> pb.DeclineObjectResponse:
        raise NotImplementedError

    def send_object(self, request: pb.SendObjectRequest) -> Iterator[pb.SendObjectResponse]:
        raise NotImplementedError

    def watch_held(self) -> Iterator[pb.WatchHeldResponse]:
        raise NotImplementedError
