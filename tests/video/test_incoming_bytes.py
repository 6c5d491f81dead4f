"""Messages of an upload are read without a copy, and say the same as message objects."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from services.video.incoming_bytes import parse_upload
from zhichao.video.v1 import service_pb2 as pb


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 1 << 20])
def test_a_chunk_alone_is_a_view_of_the_message(size: int) -> None:
    content = pb.UploadEvidenceRequest(chunk=bytes(size)).SerializeToString()

    message = parse_upload(content)

    assert (message.draft, message.offset, bytes(message.chunk)) == (None, 0, bytes(size))
    assert isinstance(message.chunk, memoryview) == bool(size)


@given(st.binary(max_size=300), st.integers(0, 2**62), st.booleans())
def test_a_message_says_what_a_message_object_says(chunk: bytes, offset: int, has_draft: bool) -> None:
    draft = pb.EvidenceDraft(evidence_id="e") if has_draft else None
    content = pb.UploadEvidenceRequest(draft=draft, offset=offset, chunk=chunk).SerializeToString()

    message = parse_upload(content)

    assert (message.draft, message.offset, bytes(message.chunk)) == (draft, offset, chunk)


@given(st.binary(max_size=40))
def test_whatever_comes_is_read_as_protobuf_reads_it(content: bytes) -> None:
    try:
        expected = pb.UploadEvidenceRequest.FromString(content)
    except DecodeError:
        with pytest.raises(DecodeError):
            parse_upload(content)
        return
    message = parse_upload(content)

    assert (message.offset, bytes(message.chunk)) == (expected.offset, expected.chunk)
