"""VideoService over gRPC: message in, one call, message out."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import grpc

from services.common.rpc_threads import give_back_turn
from services.video.handlers_cameras import CameraHandlers
from services.video.handlers_completeness import CompletenessHandlers
from services.video.handlers_custody import CustodyHandlers
from services.video.handlers_preparing import PreparingHandlers
from services.video.handlers_reading import ReadingHandlers
from services.video.handlers_status import StatusHandlers
from services.video.handlers_uploading import UploadingHandlers
from services.video.incoming_bytes import UploadMessage, parse_upload
from services.video.silence import ProgressWatch
from zhichao.video.v1 import service_pb2 as pb
from zhichao.video.v1 import service_pb2_grpc

_Context = grpc.ServicerContext

SERIALIZED_ANSWERS: Final = ("ReadEvidence",)
"""Methods whose answers are bytes already (`with_raw_messages`): a message of 1 MiB costs ten times what it takes to
copy it."""

PARSERS: Final[Mapping[str, Callable[[bytes], Any]]] = MappingProxyType({"UploadEvidence": parse_upload})
"""Methods whose requests are not message objects, for the same reason."""


class VideoServicer(service_pb2_grpc.VideoServiceServicer):
    """Serves evidence."""

    def __init__(
        self,
        uploading: UploadingHandlers,
        preparing: PreparingHandlers,
        reading: ReadingHandlers,
        custody: CustodyHandlers,
        cameras: CameraHandlers,
        completeness: CompletenessHandlers,
        status: StatusHandlers,
        progress: ProgressWatch,
        taking: ProgressWatch,
    ) -> None:
        self._uploading = uploading
        self._preparing = preparing
        self._reading = reading
        self._custody = custody
        self._cameras = cameras
        self._completeness = completeness
        self._status = status
        self._progress = progress
        self._taking = taking

    # Uploads

    def UploadEvidence(  # type: ignore[override]  # one of PARSERS
        self, request_iterator: Iterator[UploadMessage], context: _Context
    ) -> pb.UploadEvidenceResponse:
        return self._uploading.upload_evidence(self._progress.watched(request_iterator))

    def GetUpload(self, request: pb.GetUploadRequest, context: _Context) -> pb.GetUploadResponse:
        return self._uploading.get_upload(request)

    def PrepareUpload(self, request: pb.PrepareUploadRequest, context: _Context) -> pb.PrepareUploadResponse:
        return self._preparing.prepare_upload(request)

    def CompleteUpload(self, request: pb.CompleteUploadRequest, context: _Context) -> pb.CompleteUploadResponse:
        # Gigabytes are read back, or others are waited for that do so: what is asked meanwhile is answered.
        give_back_turn()
        return self._preparing.complete_upload(request)

    # Reading

    def GetEvidence(self, request: pb.GetEvidenceRequest, context: _Context) -> pb.GetEvidenceResponse:
        return self._reading.get_evidence(request)

    def ListEvidence(self, request: pb.ListEvidenceRequest, context: _Context) -> pb.ListEvidenceResponse:
        return self._reading.list_evidence(request)

    def ReadEvidence(  # type: ignore[override]  # one of SERIALIZED_ANSWERS
        self, request: pb.ReadEvidenceRequest, context: _Context
    ) -> Iterator[bytes]:
        return self._taking.taken(self._reading.read_evidence(request))

    def GetPlaybackUrl(self, request: pb.GetPlaybackUrlRequest, context: _Context) -> pb.GetPlaybackUrlResponse:
        return self._reading.get_playback_url(request)

    # Custody

    def RecordExport(self, request: pb.RecordExportRequest, context: _Context) -> pb.RecordExportResponse:
        return self._custody.record_export(request)

    def PlaceLegalHold(self, request: pb.PlaceLegalHoldRequest, context: _Context) -> pb.PlaceLegalHoldResponse:
        return self._custody.place_legal_hold(request)

    def ReleaseLegalHold(self, request: pb.ReleaseLegalHoldRequest, context: _Context) -> pb.ReleaseLegalHoldResponse:
        return self._custody.release_legal_hold(request)

    def ExtendRetention(self, request: pb.ExtendRetentionRequest, context: _Context) -> pb.ExtendRetentionResponse:
        return self._custody.extend_retention(request)

    def ListCustody(self, request: pb.ListCustodyRequest, context: _Context) -> pb.ListCustodyResponse:
        return self._custody.list_custody(request)

    def FetchEvidence(self, request: pb.FetchEvidenceRequest, context: _Context) -> pb.FetchEvidenceResponse:
        return self._custody.fetch_evidence(request)

    # Cameras and completeness

    def ReportCameras(self, request: pb.ReportCamerasRequest, context: _Context) -> pb.ReportCamerasResponse:
        return self._cameras.report_cameras(request)

    def ListCameras(self, request: pb.ListCamerasRequest, context: _Context) -> pb.ListCamerasResponse:
        return self._cameras.list_cameras(request)

    def ListCompleteness(self, request: pb.ListCompletenessRequest, context: _Context) -> pb.ListCompletenessResponse:
        return self._completeness.list_completeness(request)

    def ListMissingEvidence(
        self, request: pb.ListMissingEvidenceRequest, context: _Context
    ) -> pb.ListMissingEvidenceResponse:
        return self._completeness.list_missing_evidence(request)

    # The store

    def GetStoreStatus(self, request: pb.GetStoreStatusRequest, context: _Context) -> pb.GetStoreStatusResponse:
        return self._status.get_store_status(request)
