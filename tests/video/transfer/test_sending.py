"""What a platform sends up: bytes from any offset, why there are none, and the news of what it comes to hold."""

import pytest

from tests.running_service import carry_up
from tests.video.bytes_read import remove
from tests.video.harness import COUNTY, RunningVideo
from tests.video.media_files import photo
from tests.video.transfer.carrying import (
    custody,
    decline,
    read,
    refusal_reason,
    send_up,
    state_of,
    wait_for_state,
    write_deleted,
)
from zhichao.video.v1 import transfer_pb2


def test_an_object_is_read_from_any_offset(county: RunningVideo) -> None:
    content = photo()
    digest = county.sealed(content).evidence.digest
    assert [read(county, digest, offset) for offset in (0, 1, len(content) - 1, len(content))] == [
        content,
        content[1:],
        content[-1:],
        b"",
    ]


def test_what_is_not_here_is_refused_by_what_became_of_it(county: RunningVideo, city: RunningVideo) -> None:
    taken, lost = county.sealed(), county.sealed()
    carry_up(county, city)
    wait_for_state(city, taken, "WANTED")
    digest = taken.evidence.digest
    assert refusal_reason(lambda: read(county, digest, taken.evidence.size_bytes + 1)) == "BEYOND_END"
    assert refusal_reason(lambda: read(county, b"x" * 32)) == "BYTES_NOT_HERE"
    assert refusal_reason(lambda: read(county, b"x" * 31)) == "INVALID_ARGUMENT"
    assert refusal_reason(lambda: read(city, digest)) == "BYTES_NOT_HERE"

    # Behind its back: removed from the store. Nobody below the county has it.
    remove(county, lost)
    assert refusal_reason(lambda: read(county, lost.evidence.digest)) == "EVIDENCE_MISSING"
    assert state_of(county, lost) == "DAMAGED"
    assert [action for _, action in custody(county, lost)] == ["FOUND_MISSING"]
    for one in (taken, lost):
        decline(city, COUNTY, one.evidence.digest, is_gone=True)
    # Nobody has written down yet that it is lost: it is asked for again, until that is known.
    assert refusal_reason(lambda: read(city, lost.evidence.digest)) == "BYTES_NOT_HERE"
    carry_up(county, city)
    assert refusal_reason(lambda: read(city, lost.evidence.digest)) == "EVIDENCE_MISSING"
    assert refusal_reason(lambda: read(city, digest)) == "BYTES_NOT_HERE"


@pytest.mark.parametrize("is_kept_below", [True, False])
def test_what_was_deleted_here_may_still_come_from_below(
    county: RunningVideo, city: RunningVideo, is_kept_below: bool
) -> None:
    held = county.sealed()
    carry_up(county, city)
    wait_for_state(city, held, "WANTED")
    send_up(county, city, held.evidence.digest)
    city.query("UPDATE objects SET state = 5, purge_time = now() WHERE digest = %s", held.evidence.digest)
    if not is_kept_below:
        write_deleted(county, held)
        carry_up(county, city)

    expected = "BYTES_NOT_HERE" if is_kept_below else "BYTES_EXPIRED"
    assert refusal_reason(lambda: read(city, held.evidence.digest)) == expected


def test_what_comes_to_be_held_is_named(county: RunningVideo) -> None:
    before = county.sealed()
    call = county.transfer.WatchHeld(transfer_pb2.WatchHeldRequest(), timeout=20)
    answers = iter(call)
    assert next(answers) == transfer_pb2.WatchHeldResponse()
    after = county.sealed()
    named = next(answers).digests
    call.cancel()

    assert list(named) == [after.evidence.digest]
    assert before.evidence.digest not in named
