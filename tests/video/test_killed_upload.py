"""The service is killed while uploads are under way: nothing that it has answered is lost, nothing is half sealed."""

from collections.abc import Iterator
from threading import Event
from typing import Any

import grpc
import pytest

from tests.registry.harness import TIMEOUT_SECONDS, RunningRegistry
from tests.video.harness import RunningVideo, draft_of, messages
from tests.video.media_files import photo
from tests.video.processes import VideoProcess, steward_token
from tests.waiting import wait_until
from zhichao.video.v1 import evidence_pb2
from zhichao.video.v1 import service_pb2 as pb


@pytest.fixture
def process(county: RunningVideo, county_registry: RunningRegistry) -> Iterator[VideoProcess]:
    """Run the county's service as a process."""
    county.stop()
    running = VideoProcess(county, steward_token(county_registry, f"steward-{county.bucket[-6:]}"))
    running.start()
    yield running
    running.stop()


def test_what_was_sealed_and_what_had_come_are_there_after_a_kill(county: RunningVideo, process: VideoProcess) -> None:
    sealed, broken = photo(), photo()
    sealed_draft, broken_draft = (draft_of(one, county.clock.now()) for one in (sealed, broken))
    answer = process.stub.UploadEvidence(messages(sealed, sealed_draft), timeout=TIMEOUT_SECONDS)
    ends = Event()

    def half() -> Iterator[pb.UploadEvidenceRequest]:
        yield pb.UploadEvidenceRequest(draft=broken_draft, chunk=broken[:100_000])
        ends.wait(TIMEOUT_SECONDS)

    call = process.stub.UploadEvidence.future(half(), timeout=TIMEOUT_SECONDS)
    wait_until(lambda: [one.stat().st_size for one in county.spooled()] == [100_000], "half of it is spooled")
    process.kill()
    ends.set()
    assert call.exception() is not None
    process.start()

    again = process.stub.UploadEvidence(iter([pb.UploadEvidenceRequest(draft=sealed_draft)]), timeout=TIMEOUT_SECONDS)
    asked = pb.GetUploadRequest(
        name=evidence_pb2.EvidenceName(source_unit_id=broken_draft.source_unit_id, evidence_id=broken_draft.evidence_id)
    )
    assert (again.is_duplicate, again.held_evidence.sequence) == (True, answer.held_evidence.sequence)
    assert process.stub.GetUpload(asked, timeout=TIMEOUT_SECONDS).received_bytes == 100_000
    rest = process.stub.UploadEvidence(messages(broken, broken_draft, 100_000), timeout=TIMEOUT_SECONDS)
    assert rest.held_evidence.bytes_state == pb.BYTES_STATE_HELD


def test_a_spool_is_of_one_process(county: RunningVideo, process: VideoProcess) -> None:
    del process

    with pytest.raises(Exception, match="another process uses"):
        county.start()


def test_kills_at_any_moment_leave_nothing_half_sealed(county: RunningVideo, process: VideoProcess) -> None:
    content = photo()
    calls: list[Any] = []
    for number in range(4):
        draft = draft_of(content, county.clock.now(), evidence_id=f"killed-{number}")
        calls.append(process.stub.UploadEvidence.future(messages(content, draft), timeout=TIMEOUT_SECONDS))
        # Somewhere between the first byte and the answer: nobody says where.
        wait_until(lambda: calls[-1].done() or county.spooled(), "it has begun")
        process.kill()
        process.start()
    for number in range(4):
        draft = draft_of(content, county.clock.now(), evidence_id=f"killed-{number}")
        name = evidence_pb2.EvidenceName(source_unit_id=draft.source_unit_id, evidence_id=draft.evidence_id)
        try:
            offset = process.stub.GetUpload(pb.GetUploadRequest(name=name), timeout=TIMEOUT_SECONDS).received_bytes
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND  # noqa: PT017 - killed before the first byte
            offset = 0
        process.stub.UploadEvidence(messages(content, draft, offset), timeout=TIMEOUT_SECONDS)

    held = county.query("SELECT evidence_id, digest FROM evidence ORDER BY 1")
    assert [evidence_id for evidence_id, _ in held] == [f"killed-{number}" for number in range(4)]
    assert county.query("SELECT state FROM objects") == [(1,)]
    assert county.spooled() == []
