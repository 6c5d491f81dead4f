"""Bytes that come from a platform below: resumed, compared, stored once, written down once."""

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from services.common.reasons import Reason
from services.common.rpc_client import service_error
from services.video.object_store import object_key
from services.video.wanted import RETRY_SECONDS_MIN
from tests.registry.harness import TIMEOUT_SECONDS
from tests.running_service import carry_up
from tests.video.bytes_read import replace
from tests.video.harness import CITY, COUNTY, RunningVideo
from tests.video.media_files import large_photo, photo
from tests.video.transfer.carrying import (
    PIECE_BYTES,
    custody,
    give,
    name_of,
    pieces,
    refusal_of,
    state_of,
    wait_for_state,
    wanted,
)
from tests.waiting import wait_until
from zhichao.video.v1 import service_pb2 as pb
from zhichao.video.v1 import transfer_pb2


@pytest.fixture
def content() -> bytes:
    return large_photo(5 * PIECE_BYTES)


@pytest.fixture
def due(county: RunningVideo, city: RunningVideo, content: bytes) -> pb.HeldEvidence:
    """Seal a photo at the county, which the city wants by its policy."""
    held = county.sealed(content)
    carry_up(county, city)
    wait_for_state(city, held, "WANTED")
    return held


def test_what_is_complete_is_stored_and_written_down_once(
    city: RunningVideo, due: pb.HeldEvidence, content: bytes
) -> None:
    digest = due.evidence.digest
    answers = [give(city, pieces(content, COUNTY, digest)) for _ in range(3)]

    assert answers == [transfer_pb2.ReceiveObjectResponse(received_bytes=len(content), is_complete=True)] * 3
    assert state_of(city, due) == "HELD"
    with city.objects.read(object_key(digest)) as stored:
        assert b"".join(stored) == content
    assert custody(city, due) == [(CITY, "RECEIVED")]
    assert (list(wanted(city, COUNTY).wanted), city.spooled()) == ([], [])


def test_wrong_bytes_that_lie_under_the_digest_are_not_taken_for_those_that_come(
    city: RunningVideo, due: pb.HeldEvidence, content: bytes
) -> None:
    replace(city, due, bytes(len(content)))

    assert give(city, pieces(content, COUNTY, due.evidence.digest)).is_complete

    with city.objects.read(object_key(due.evidence.digest)) as stored:
        assert b"".join(stored) == content
    assert (state_of(city, due), custody(city, due)) == ("HELD", [(CITY, "RECEIVED")])


def test_it_is_gone_on_with_where_it_broke_off(city: RunningVideo, due: pb.HeldEvidence, content: bytes) -> None:
    digest, broken_at = due.evidence.digest, 2 * PIECE_BYTES + 7
    partial = give(city, pieces(content, COUNTY, digest, end=broken_at))
    assert partial == transfer_pb2.ReceiveObjectResponse(received_bytes=broken_at)
    shown = city.call("GetEvidence", pb.GetEvidenceRequest(name=name_of(due))).held_evidence
    assert (shown.bytes_state, shown.received_bytes) == (pb.BYTES_STATE_WANTED, broken_at)

    city.stop()
    city.start()
    (listed,) = wanted(city, COUNTY).wanted
    assert listed.received_bytes == broken_at
    assert give(city, pieces(content, COUNTY, digest, offset=broken_at)).is_complete
    assert custody(city, due) == [(CITY, "RECEIVED")]


def test_what_is_here_already_is_passed_over(city: RunningVideo, due: pb.HeldEvidence, content: bytes) -> None:
    digest = due.evidence.digest
    give(city, pieces(content, COUNTY, digest, end=3 * PIECE_BYTES))

    assert give(city, pieces(content, COUNTY, digest, offset=PIECE_BYTES + 3)).is_complete
    with city.objects.read(object_key(digest)) as stored:
        assert hashlib.sha256(b"".join(stored)).digest() == digest


def test_a_gap_is_refused_with_where_it_stands(city: RunningVideo, due: pb.HeldEvidence, content: bytes) -> None:
    digest = due.evidence.digest
    give(city, pieces(content, COUNTY, digest, end=PIECE_BYTES))

    refused = refusal_of(city, pieces(content, COUNTY, digest, offset=PIECE_BYTES + 1))
    assert (refused.reason, refused.metadata["expected_offset"]) == (Reason.OFFSET_MISMATCH, str(PIECE_BYTES))


def test_other_bytes_are_forgotten_and_asked_for_again_after_a_while(
    city: RunningVideo, due: pb.HeldEvidence, content: bytes
) -> None:
    digest = due.evidence.digest
    changed = content[:-1] + bytes([content[-1] ^ 1])

    assert refusal_of(city, pieces(changed, COUNTY, digest)).reason is Reason.DIGEST_MISMATCH
    assert (state_of(city, due), city.spooled()) == ("WANTED", [])
    assert list(wanted(city, COUNTY).wanted) == []
    city.clock.advance(seconds=RETRY_SECONDS_MIN)
    (listed,) = wanted(city, COUNTY).wanted
    assert (listed.object.digest, listed.received_bytes) == (digest, 0)
    assert give(city, pieces(content, COUNTY, digest)).is_complete


def test_more_bytes_than_there_are_is_refused(city: RunningVideo, due: pb.HeldEvidence, content: bytes) -> None:
    refused = refusal_of(city, pieces(content + b"more", COUNTY, due.evidence.digest, size=len(content)))
    assert refused.reason is Reason.DIGEST_MISMATCH
    assert state_of(city, due) == "WANTED"


def test_what_is_not_wanted_of_that_platform_is_refused(city: RunningVideo, due: pb.HeldEvidence) -> None:
    stranger = photo()
    digest = hashlib.sha256(stranger).digest()
    refusals = {
        "nobody has named it": refusal_of(city, pieces(stranger, COUNTY, digest)),
        "sealed by another county": refusal_of(city, pieces(stranger, "141026", due.evidence.digest)),
        "this platform itself": refusal_of(city, pieces(stranger, CITY, due.evidence.digest)),
        "another size": refusal_of(
            city, pieces(stranger, COUNTY, due.evidence.digest, size=due.evidence.size_bytes + 1)
        ),
    }
    assert {what: one.reason for what, one in refusals.items()} == dict.fromkeys(refusals, Reason.BYTES_NOT_WANTED)
    assert city.spooled() == []


def test_what_is_malformed_is_refused(city: RunningVideo, due: pb.HeldEvidence) -> None:
    named = transfer_pb2.TransferObject(digest=due.evidence.digest, size_bytes=due.evidence.size_bytes)
    for first in (
        transfer_pb2.ReceiveObjectRequest(platform=COUNTY, chunk=b"bytes of nothing"),
        transfer_pb2.ReceiveObjectRequest(object=named, platform="county"),
        transfer_pb2.ReceiveObjectRequest(object=named, platform=COUNTY, offset=-1),
        transfer_pb2.ReceiveObjectRequest(object=named, platform=COUNTY, chunk=bytes((1 << 20) + 1)),
    ):
        assert refusal_of(city, [first]).reason is Reason.INVALID_ARGUMENT
    assert refusal_of(city, []).reason is Reason.INVALID_ARGUMENT


def test_a_store_that_is_away_loses_nothing(city: RunningVideo, due: pb.HeldEvidence, content: bytes) -> None:
    digest = due.evidence.digest
    city.stop()
    city.environment["ZHICHAO_VIDEO_S3_ENDPOINT"] = "http://127.0.0.1:9"
    city.start()
    refused = refusal_of(city, pieces(content, COUNTY, digest))
    assert refused.reason is Reason.OBJECT_STORE_UNAVAILABLE
    assert (state_of(city, due), custody(city, due)) == ("WANTED", [])

    city.stop()
    city.environment["ZHICHAO_VIDEO_S3_ENDPOINT"] = city.store_server.url
    city.start()
    (listed,) = wanted(city, COUNTY).wanted
    assert listed.received_bytes == len(content)
    # All is here: nothing needs to be sent once more.
    assert give(city, pieces(content, COUNTY, digest, offset=len(content))).is_complete
    assert custody(city, due) == [(CITY, "RECEIVED")]


def test_what_was_stored_and_not_written_down_is_written_down(
    city: RunningVideo, due: pb.HeldEvidence, content: bytes
) -> None:
    """Killed between the store and the journal."""
    digest = due.evidence.digest
    city.objects.put(digest, content, len(content))

    assert give(city, pieces(content, COUNTY, digest)).is_complete
    assert (state_of(city, due), custody(city, due)) == ("HELD", [(CITY, "RECEIVED")])


def test_another_replica_begins_anew_and_ends_it_once(city: RunningVideo, due: pb.HeldEvidence, content: bytes) -> None:
    """The spool is a replica's own."""
    digest, broken_at = due.evidence.digest, 3 * PIECE_BYTES
    give(city, pieces(content, COUNTY, digest, end=broken_at))
    other = city.replica()
    try:
        refused = refusal_of(other, pieces(content, COUNTY, digest, offset=broken_at))
        assert (refused.reason, refused.metadata["expected_offset"]) == (Reason.OFFSET_MISMATCH, "0")
        assert give(other, pieces(content, COUNTY, digest)).is_complete
        # Both have it now.
        assert give(city, pieces(content, COUNTY, digest, offset=broken_at)).is_complete
        assert (custody(city, due), city.spooled(), other.spooled()) == ([(CITY, "RECEIVED")], [], [])
    finally:
        other.stop()


def test_two_replicas_that_receive_the_same_at_once_write_it_down_once(
    city: RunningVideo, due: pb.HeldEvidence, content: bytes
) -> None:
    other = city.replica()
    try:
        with ThreadPoolExecutor(2) as executor:
            answers = list(
                executor.map(lambda one: give(one, pieces(content, COUNTY, due.evidence.digest)), (city, other))
            )
        assert [answer.is_complete for answer in answers] == [True, True]
        assert custody(city, due) == [(CITY, "RECEIVED")]
    finally:
        other.stop()


def test_while_one_call_sends_an_object_another_one_is_refused(
    city: RunningVideo, due: pb.HeldEvidence, content: bytes
) -> None:
    digest, may_end = due.evidence.digest, threading.Event()

    def slowly() -> Iterator[transfer_pb2.ReceiveObjectRequest]:
        yield from pieces(content, COUNTY, digest, end=PIECE_BYTES)
        may_end.wait(TIMEOUT_SECONDS)
        yield from list(pieces(content, COUNTY, digest, offset=PIECE_BYTES))[1:]

    with ThreadPoolExecutor(1) as executor:
        first = executor.submit(give, city, slowly())
        wait_until(lambda: wanted(city, COUNTY).wanted[0].received_bytes == PIECE_BYTES, "some of it has come")
        assert refusal_of(city, pieces(content, COUNTY, digest)).reason is Reason.UPLOAD_BUSY
        may_end.set()
        assert first.result().is_complete


def test_bytes_that_two_manifests_name_are_received_for_both(county: RunningVideo, city: RunningVideo) -> None:
    content = large_photo(5 * PIECE_BYTES)
    both = [county.sealed(content) for _ in range(2)]
    carry_up(county, city)
    wait_for_state(city, both[0], "WANTED")

    assert give(city, pieces(content, COUNTY, both[0].evidence.digest)).is_complete
    assert [custody(city, one) for one in both] == [[(CITY, "RECEIVED")]] * 2


def test_bytes_that_are_damaged_here_are_got_again_and_put_right(
    city: RunningVideo, due: pb.HeldEvidence, content: bytes
) -> None:
    digest = due.evidence.digest
    give(city, pieces(content, COUNTY, digest))
    # Behind its back: the object is replaced by one of the same size.
    city.objects.delete(object_key(digest))
    replace(city, due, b"x" * len(content))
    looking = pb.ReadEvidenceRequest(name=name_of(due), purpose="a look")
    with pytest.raises(grpc.RpcError) as changed:
        list(city.stub.ReadEvidence(looking, timeout=TIMEOUT_SECONDS))
    assert service_error(changed.value).reason is Reason.EVIDENCE_CHANGED
    assert state_of(city, due) == "DAMAGED"
    (listed,) = wait_until(lambda: list(wanted(city, COUNTY).wanted), "what is damaged is wanted")
    assert listed.object.digest == digest

    assert give(city, pieces(content, COUNTY, digest)).is_complete
    with city.objects.read(object_key(digest)) as stored:
        assert b"".join(stored) == content
    assert [action for _, action in custody(city, due)][-2:] == ["FOUND_CHANGED", "RESTORED"]
