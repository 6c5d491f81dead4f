"""What a simulated site says of its cameras: that they record, and how far back. Said of each once, when it has shown
something.
"""

import threading
from datetime import UTC, timedelta
from typing import Final

import grpc

from zhichao.video.v1 import camera_pb2
from zhichao.video.v1 import service_pb2 as pb
from zhichao.video.v1.service_pb2_grpc import VideoServiceStub

RECORDING_DAYS: Final = 30
"""Days that the recorder of a simulated site holds: the least that is asked for in practice."""

CALL_SECONDS_MAX: Final = 10.0


class CameraReports:
    """Tells of cameras. Thread safe."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._told: set[tuple[str, str]] = set()

    def tell(self, stub: VideoServiceStub, shown: pb.EvidenceDraft) -> None:
        """Say that the camera of a piece of evidence records, unless that was said; if it cannot be said now, the next
        piece says it.
        """
        camera = (shown.source_unit_id, shown.camera_id)
        with self._guard:
            if camera in self._told:
                return
            self._told.add(camera)
        oldest = shown.capture_start_time.ToDatetime(tzinfo=UTC) - timedelta(days=RECORDING_DAYS)
        report = camera_pb2.CameraReport(
            source_unit_id=shown.source_unit_id,
            camera_id=shown.camera_id,
            view=shown.view,
            state=camera_pb2.RECORDING_STATE_RECORDING,
        )
        report.state_time.FromDatetime(oldest)
        report.oldest_recording_time.FromDatetime(oldest)
        try:
            stub.ReportCameras(pb.ReportCamerasRequest(reports=[report]), timeout=CALL_SECONDS_MAX)
        except grpc.RpcError:
            with self._guard:
                self._told.discard(camera)
