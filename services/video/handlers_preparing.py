"""The use cases of big files: an upload straight to the evidence store, prepared before and checked after."""

from datetime import timedelta
from typing import Final

from services.common.clock import Clock
from services.common.instants import timestamp
from services.video import answers
from services.video.handlers_uploading import own_name
from services.video.object_store import ObjectStore
from services.video.sealing import Sealing
from services.video.staging import Staging
from zhichao.video.v1 import service_pb2 as pb

ADDRESS_SECONDS: Final = 3600
"""How long an address is good: whoever has it can put that part, and 4 GiB take an hour at 10 Mbit/s."""


class PreparingHandlers:
    """Uploads straight to the store."""

    def __init__(self, own: str, sealing: Sealing, staging: Staging, objects: ObjectStore, clock: Clock) -> None:
        self._own = own
        self._sealing = sealing
        self._staging = staging
        self._objects = objects
        self._clock = clock

    def prepare_upload(self, request: pb.PrepareUploadRequest) -> pb.PrepareUploadResponse:
        """Name the parts that are missing, and where to put them. Raises ServiceError as the contract says."""
        draft = self._sealing.read_draft(request.draft)
        if (sealed := self._sealing.find_sealed(draft)) is not None:
            return pb.PrepareUploadResponse(sealed=answers.held_evidence(sealed.held))
        prepared = self._staging.prepare(draft, request.draft)
        expire_time = self._clock.now() + timedelta(seconds=ADDRESS_SECONDS)
        return pb.PrepareUploadResponse(
            parts=[
                pb.UploadPart(
                    part_number=part.part_number,
                    offset=part.offset,
                    size_bytes=part.size_bytes,
                    url=self._objects.presign_put_part(
                        prepared.staging_key, prepared.multipart_id, part.part_number, part.size_bytes, ADDRESS_SECONDS
                    ),
                )
                for part in prepared.missing
            ],
            expire_time=timestamp(expire_time),
        )

    def complete_upload(self, request: pb.CompleteUploadRequest) -> pb.CompleteUploadResponse:
        """Check what was put and seal it. Raises ServiceError as the contract says."""
        name = own_name(request.name, self._own)
        self._sealing.check_name(name)
        held = self._staging.complete(name)
        return pb.CompleteUploadResponse(held_evidence=answers.held_evidence(held))
