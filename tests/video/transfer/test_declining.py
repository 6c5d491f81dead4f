"""What a platform below does not hold now, or never will again: asked for again, given up, got from somebody else."""

import pytest

from services.video.wanted import RETRY_SECONDS_MIN
from tests.running_service import carry_up
from tests.video.bytes_read import remove
from tests.video.conftest import MakeVideo
from tests.video.harness import COUNTY, UNIT, RunningVideo, draft_of
from tests.video.media_files import photo
from tests.video.transfer.carrying import (
    FRESH,
    REQUESTED,
    ask,
    custody,
    decline,
    listed,
    read,
    refusal_reason,
    send_up,
    state_of,
    wait_for_state,
    wait_listed,
    write_deleted,
)
from zhichao.video.v1 import service_pb2 as pb


def test_what_is_declined_is_asked_for_again_after_growing_pauses(county: RunningVideo, city: RunningVideo) -> None:
    held = county.sealed()
    carry_up(county, city)
    wait_listed(city, COUNTY, (held, FRESH))

    for pause in (RETRY_SECONDS_MIN, 2 * RETRY_SECONDS_MIN, 4 * RETRY_SECONDS_MIN):
        decline(city, COUNTY, held.evidence.digest)
        assert (listed(city, COUNTY), state_of(city, held)) == ([], "WANTED")
        city.clock.advance(seconds=pause - 1)
        assert listed(city, COUNTY) == []
        city.clock.advance(seconds=1)
        assert listed(city, COUNTY) == [(held.evidence.digest, FRESH)]
    decline(city, COUNTY, held.evidence.digest)
    # Whoever comes to hold it need not wait to be asked.
    send_up(county, city, held.evidence.digest)
    assert state_of(city, held) == "HELD"


def test_what_is_gone_is_shown_and_asked_for_only_anew(county: RunningVideo, city: RunningVideo) -> None:
    held = county.sealed()
    carry_up(county, city)
    wait_listed(city, COUNTY, (held, FRESH))

    decline(city, COUNTY, held.evidence.digest, is_gone=True)
    assert (listed(city, COUNTY), state_of(city, held)) == ([], "GONE")
    assert ask(city, held)
    wait_listed(city, COUNTY, (held, REQUESTED))


def test_what_was_gone_and_is_there_again_is_wanted_again(county: RunningVideo, city: RunningVideo) -> None:
    content = photo()
    draft = draft_of(content, county.clock.now())
    held = county.upload(content, draft).held_evidence
    carry_up(county, city)
    wait_listed(city, COUNTY, (held, FRESH))
    remove(county, held)
    assert refusal_reason(lambda: read(county, held.evidence.digest)) == "EVIDENCE_MISSING"
    decline(city, COUNTY, held.evidence.digest, is_gone=True)
    assert state_of(city, held) == "GONE"

    restored = draft_of(content, county.clock.now())
    county.upload(content, restored)
    assert custody(county, held)[-1] == (COUNTY, "RESTORED")
    carry_up(county, city)
    wait_listed(city, COUNTY, (held, FRESH))
    send_up(county, city, held.evidence.digest)
    assert state_of(city, held) == "HELD"


@pytest.mark.parametrize("is_gone", [False, True])
def test_whoever_has_nothing_to_do_with_it_declines_nothing(
    county: RunningVideo, city: RunningVideo, is_gone: bool
) -> None:
    held = county.sealed()
    carry_up(county, city)
    wait_listed(city, COUNTY, (held, FRESH))
    decline(city, "141026", held.evidence.digest, is_gone=is_gone)
    assert listed(city, COUNTY) == [(held.evidence.digest, FRESH)]


def sealed_by_both(county: RunningVideo, video_of: MakeVideo) -> tuple[RunningVideo, pb.HeldEvidence, pb.HeldEvidence]:
    """Seal the same photo at two counties; return the second one, and what the first and what it has sealed."""
    content = photo()
    other = other_county(video_of)
    held = county.sealed(content)
    county.clock.advance(seconds=1)
    return other, held, other.sealed(content)


def test_two_counties_have_the_same_bytes_and_one_has_lost_them(
    county: RunningVideo, city: RunningVideo, video_of: MakeVideo
) -> None:
    other, held, theirs = sealed_by_both(county, video_of)
    carry_up(county, city)
    carry_up(other, city)
    wait_listed(city, COUNTY, (held, FRESH))

    decline(city, COUNTY, held.evidence.digest, is_gone=True)
    assert (listed(city, COUNTY), listed(city, other.platform)) == ([], [(held.evidence.digest, FRESH)])
    send_up(other, city, held.evidence.digest)
    assert [state_of(city, one) for one in (held, theirs)] == ["HELD"] * 2


def test_bytes_that_both_counties_have_lost_are_gone(
    county: RunningVideo, city: RunningVideo, video_of: MakeVideo
) -> None:
    """Else each would be asked as soon as the other one has declined, for ever."""
    other, held, theirs = sealed_by_both(county, video_of)
    for lower, one in ((county, held), (other, theirs)):
        carry_up(county, city)
        carry_up(other, city)
        wait_listed(city, lower.platform, (held, FRESH))
        write_deleted(lower, one)
        carry_up(lower, city)
        decline(city, lower.platform, held.evidence.digest, is_gone=True)

    assert [state_of(city, one) for one in (held, theirs)] == ["GONE"] * 2
    assert (listed(city, COUNTY), listed(city, other.platform)) == ([], [])


def test_what_was_gone_and_is_sealed_by_somebody_else_is_wanted_again(
    county: RunningVideo, city: RunningVideo, video_of: MakeVideo
) -> None:
    content = photo()
    held = county.sealed(content)
    carry_up(county, city)
    wait_listed(city, COUNTY, (held, FRESH))
    write_deleted(county, held)
    carry_up(county, city)
    decline(city, COUNTY, held.evidence.digest, is_gone=True)
    assert state_of(city, held) == "GONE"

    other = other_county(video_of)
    theirs = other.sealed(content)
    carry_up(other, city)
    wait_for_state(city, theirs, "WANTED")


def other_county(video_of: MakeVideo) -> RunningVideo:
    """Run the service of another county, whose source unit it knows already."""
    made = video_of("141026")
    made.query(
        "INSERT INTO source_units (source_unit_id, division_code, read_time) VALUES (%s, %s, now())", UNIT, "141026"
    )
    made.stop()
    made.start()
    return made
