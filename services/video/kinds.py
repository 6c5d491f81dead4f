"""The kinds of journal entries that the video service writes and knows."""

from typing import Final

from zhichao.video.v1 import camera_pb2, custody_pb2, evidence_pb2

SCHEMA: Final = 1
"""Version of the meaning of all payloads here."""

EVIDENCE_KIND: Final = str(evidence_pb2.Evidence.DESCRIPTOR.full_name)
CUSTODY_KIND: Final = str(custody_pb2.CustodyEvent.DESCRIPTOR.full_name)
CAMERA_KIND: Final = str(camera_pb2.CameraReport.DESCRIPTOR.full_name)
