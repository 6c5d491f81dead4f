"""The use cases of big files: an upload straight to the evidence store, prepared before and checked after."""

from services.common.clock import Clock
from services.common.database import Engine
from services.video.inspecting_process import InspectingProcesses
from services.video.object_store import ObjectStore
from services.video.sealing import Sealing
from zhichao.video.v1 import service_pb2 as pb


class PreparingHandlers:
    """Uploads straight to the store."""

    def __init__(
        self, engine: Engine, sealing: Sealing, objects: ObjectStore, inspecting: InspectingProcesses, clock: Clock
    ) -> None:
        self._engine = engine
        self._sealing = sealing
        self._objects = objects
        self._inspecting = inspecting
        self._clock = clock

    def prepare_upload(self, request: pb.PrepareUploadRequest) -> pb.PrepareUploadResponse:
        raise NotImplementedError

    def complete_upload(self, request: pb.CompleteUploadRequest) -> pb.CompleteUploadResponse:
        raise NotImplementedError
