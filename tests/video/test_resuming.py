"""Uploads that break off and are taken up again, by the caller, by another process, on another replica."""

from collections.abc import Iterator
from threading import Event

import grpc
import pytest

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.rpc_client import service_error
from tests.registry.harness import TIMEOUT_SECONDS
from tests.video.conftest import MakeVideo
from tests.video.harness import COUNTY, RunningVideo, draft_of, messages
from tests.video.media_files import photo, unlike
from tests.waiting import wait_until
from zhichao.video.v1 import evidence_pb2
from zhichao.video.v1 import service_pb2 as pb


class HeldUpload:
    """An upload whose caller has sent some bytes and goes on only when it is told."""

    def __init__(self, video: RunningVideo, content: bytes, draft: pb.EvidenceDraft, sent_bytes: int) -> None:
        self._goes_on = Event()
        self._content, self._draft, self._sent_bytes = content, draft, sent_bytes
        self.call = video.stub.UploadEvidence.future(self._messages(), timeout=TIMEOUT_SECONDS)
        wait_until(lambda: received(video, draft) == sent_bytes, "the bytes have come")

    def _messages(self) -> Iterator[pb.UploadEvidenceRequest]:
        yield pb.UploadEvidenceRequest(draft=self._draft, chunk=self._content[: self._sent_bytes])
        self._goes_on.wait(TIMEOUT_SECONDS)
        yield pb.UploadEvidenceRequest(chunk=self._content[self._sent_bytes :])

    def go_on(self) -> pb.UploadEvidenceResponse:
        """Send the rest and return the answer."""
        self._goes_on.set()
        return self.call.result()

    def break_off(self) -> None:
        """End the call."""
        self.call.cancel()
        self._goes_on.set()


def name_of(draft: pb.EvidenceDraft) -> evidence_pb2.EvidenceName:
    """Return the name under which a draft is asked for."""
    return evidence_pb2.EvidenceName(source_unit_id=draft.source_unit_id, evidence_id=draft.evidence_id)


def received(video: RunningVideo, draft: pb.EvidenceDraft) -> int:
    """Return how many bytes of an upload are here, 0 for none."""
    try:
        return int(video.call("GetUpload", pb.GetUploadRequest(name=name_of(draft))).received_bytes)
    except ServiceError as error:
        assert error.reason is Reason.NOT_FOUND  # noqa: PT017 - nothing is here
        return 0


def test_a_call_that_breaks_off_is_taken_up_where_it_stood(county: RunningVideo) -> None:
    content = unlike(photo())
    draft = draft_of(content, county.clock.now())
    held = HeldUpload(county, content, draft, 70_000)
    held.break_off()
    wait_until(lambda: received(county, draft) == 70_000 and not _is_busy(county, draft, content), "it has ended")

    answer = county.upload(content, draft, offset=70_000)

    assert (answer.held_evidence.bytes_state, answer.is_duplicate) == (pb.BYTES_STATE_HELD, False)
    assert county.spooled() == []


def _is_busy(video: RunningVideo, draft: pb.EvidenceDraft, content: bytes) -> bool:
    """Tell whether another call has the upload: bytes at a wrong place are refused in another way if not."""
    refused = video.upload_refusal(content, draft, offset=len(content))
    return refused.reason is Reason.UPLOAD_BUSY


def test_bytes_at_another_place_are_refused_with_the_right_one(county: RunningVideo) -> None:
    content = photo()
    draft = draft_of(content, county.clock.now())
    at_first = county.upload_refusal(content, draft, offset=5)
    county.upload_refusal(content[:1000], draft)

    again = county.upload_refusal(content, draft)

    assert (at_first.reason, at_first.metadata) == (Reason.OFFSET_MISMATCH, {"expected_offset": "0"})
    assert (again.reason, again.metadata) == (Reason.OFFSET_MISMATCH, {"expected_offset": "1000"})


def test_only_one_call_at_a_time_uploads_an_evidence(county: RunningVideo) -> None:
    content = photo()
    draft = draft_of(content, county.clock.now())
    first = HeldUpload(county, content, draft, 1000)

    with pytest.raises(grpc.RpcError) as second:
        county.stub.UploadEvidence(messages(content, draft, 1000), timeout=TIMEOUT_SECONDS)

    error = service_error(second.value)
    assert error.reason is Reason.UPLOAD_BUSY
    assert error.retry_after_seconds is not None
    assert first.go_on().held_evidence.bytes_state == pb.BYTES_STATE_HELD


def test_other_bytes_under_the_id_begin_anew(county: RunningVideo) -> None:
    first, second = photo(), photo()
    county.upload_refusal(first[:1000], draft_of(first, county.clock.now(), evidence_id="p-1"))

    answer = county.upload(second, draft_of(second, county.clock.now(), evidence_id="p-1"))

    assert answer.held_evidence.evidence.size_bytes == len(second)
    assert county.spooled() == []


def test_what_came_is_there_after_a_restart(county: RunningVideo) -> None:
    content = photo()
    draft = draft_of(content, county.clock.now())
    county.upload_refusal(content[:1000], draft)
    county.stop()
    county.start()

    assert received(county, draft) == 1000
    assert county.upload(content, draft, offset=1000).held_evidence.bytes_state == pb.BYTES_STATE_HELD


def test_another_replica_begins_anew(county: RunningVideo) -> None:
    content = photo()
    draft = draft_of(content, county.clock.now())
    county.upload_refusal(content[:1000], draft)
    replica = county.replica()
    try:
        assert replica.upload_refusal(content, draft, offset=1000).metadata == {"expected_offset": "0"}
        assert replica.upload(content, draft).held_evidence.bytes_state == pb.BYTES_STATE_HELD
    finally:
        replica.close()


def test_what_came_is_forgotten_after_a_while(video_of: MakeVideo) -> None:
    county = video_of(COUNTY, settings={"ZHICHAO_VIDEO_UPLOAD_KEEP_HOURS": "2"})
    content = photo()
    draft = draft_of(content, county.clock.now())
    county.upload_refusal(content[:1000], draft)
    county.clock.advance(hours=1, minutes=59)
    assert received(county, draft) == 1000

    county.clock.advance(minutes=1)

    assert received(county, draft) == 0


def test_a_server_that_stops_keeps_what_came(county: RunningVideo) -> None:
    content = photo()
    draft = draft_of(content, county.clock.now())
    held = HeldUpload(county, content, draft, 1000)
    county.stop()
    held.break_off()
    county.start()

    assert county.upload(content, draft, offset=1000).held_evidence.bytes_state == pb.BYTES_STATE_HELD


def test_all_bytes_were_there_and_only_the_seal_was_missing(county: RunningVideo) -> None:
    content = photo()
    draft = draft_of(content, county.clock.now())
    store = county.environment["ZHICHAO_VIDEO_S3_ENDPOINT"]
    county.stop()
    county.environment["ZHICHAO_VIDEO_S3_ENDPOINT"] = "http://127.0.0.1:1"
    county.start()

    refused = county.upload_refusal(content, draft)
    assert (refused.status, refused.reason) == ("UNAVAILABLE", Reason.OBJECT_STORE_UNAVAILABLE)
    assert (received(county, draft), county.own_entries()) == (len(content), [])

    county.stop()
    county.environment["ZHICHAO_VIDEO_S3_ENDPOINT"] = store
    county.start()
    answer = county.upload(b"", draft, offset=len(content))
    assert answer.held_evidence.bytes_state == pb.BYTES_STATE_HELD
    assert county.spooled() == []
