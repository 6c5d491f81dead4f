"""The messages of an upload, read so that a chunk is not copied: of a message that holds nothing else, it is a view."""

from dataclasses import dataclass
from typing import Final

from zhichao.video.v1 import service_pb2 as pb

_CHUNK_TAG: Final = pb.UploadEvidenceRequest.DESCRIPTOR.fields_by_name["chunk"].number << 3 | 2
"""The first byte of a message that begins with its chunk: length-delimited (protobuf encoding)."""

_LENGTH_BYTES_MAX: Final = 4
"""Bytes of a length below 256 MiB; messages are far shorter."""


@dataclass(frozen=True, slots=True)
class UploadMessage:
    """One message of an upload."""

    draft: pb.EvidenceDraft | None
    offset: int
    chunk: bytes | memoryview


def parse_upload(content: bytes) -> UploadMessage:
    """Read a message of an upload. Raises DecodeError when it is none.

    All but the first hold a chunk and nothing else. A message object would copy it twice, and 16 uploads at once a
    hundred times a second.
    """
    start = _chunk_start(content)
    if start:
        return UploadMessage(None, 0, memoryview(content)[start:])
    message = pb.UploadEvidenceRequest.FromString(content)
    return UploadMessage(message.draft if message.HasField("draft") else None, message.offset, message.chunk)


def _chunk_start(content: bytes) -> int:
    """Return where the chunk begins in a message that ends with it and holds nothing else; 0 for every other one."""
    if len(content) < 2 or content[0] != _CHUNK_TAG:
        return 0
    length = shift = 0
    for place in range(1, min(len(content), 1 + _LENGTH_BYTES_MAX)):
        byte = content[place]
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            return place + 1 if place + 1 + length == len(content) else 0
        shift += 7
    return 0
