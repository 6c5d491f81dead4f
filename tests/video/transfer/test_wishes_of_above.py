"""What the platform above wants and this one does not: got from below for it, without anybody asking, for some hours;
and what nobody below has does not stand in the way of anything else.
"""

import hashlib
import secrets

import grpc
import pytest

from services.common.instants import timestamp
from services.common.reasons import Reason
from services.common.rpc_client import service_error
from services.video import handlers_transfer
from services.video.wanted import FRESH_SECONDS, RETRY_SECONDS_MAX, UPSTREAM_SECONDS, is_sampled
from tests.running_service import carry_up
from tests.video.conftest import MakeVideo
from tests.video.harness import CITY, COUNTY, PROVINCE, RunningVideo
from tests.video.media_files import clip
from tests.video.transfer.carrying import (
    BACKFILL,
    FRESH,
    REQUESTED,
    Levels,
    ask,
    custody,
    decline,
    listed,
    send_up,
    state_of,
    wait_for_state,
    wait_listed,
    want_above,
)
from tests.waiting import wait_until
from zhichao.video.v1 import evidence_pb2, transfer_pb2
from zhichao.video.v1 import service_pb2 as pb

HALF = "500"
"""Of a thousand clips: so that it is soon found which one is in one sample and not in another."""


@pytest.fixture
def levels(video_of: MakeVideo, county: RunningVideo) -> Levels:
    """Run a county, a city that wants nothing, and a province that wants everything."""
    city = video_of(CITY, settings={"ZHICHAO_VIDEO_EAGER": "nothing"})
    return Levels(county, city, video_of(PROVINCE, settings={"ZHICHAO_VIDEO_EAGER": "all"}))


@pytest.fixture
def sampling(video_of: MakeVideo, county: RunningVideo) -> Levels:
    """Run a county, and a city and a province that want nothing but samples."""
    settings = {"ZHICHAO_VIDEO_EAGER": "sampled", "ZHICHAO_VIDEO_SAMPLE_PERMILLE": HALF}
    return Levels(county, video_of(CITY, settings=settings), video_of(PROVINCE, settings=settings))


def bring_up(levels: Levels, held: pb.HeldEvidence) -> None:
    """Do what relays do until the province has what the city does not want."""
    digest = held.evidence.digest
    wait_listed(levels.province, CITY, (held, FRESH))
    want_above(levels.city, digest, FRESH)
    decline(levels.province, CITY, digest)
    wait_listed(levels.city, COUNTY, (held, FRESH))
    send_up(levels.county, levels.city, digest)
    # It is offered, and need not be asked for again.
    send_up(levels.city, levels.province, digest)


def test_the_policy_of_the_province_reaches_the_county(levels: Levels) -> None:
    held = levels.county.sealed()
    levels.carry_all()
    wait_for_state(levels.province, held, "WANTED")
    assert state_of(levels.city, held) == "BELOW"

    bring_up(levels, held)

    assert [state_of(one, held) for one in levels] == ["HELD"] * 3
    levels.carry_all()
    # Nobody has asked, and nothing says so.
    assert sorted(custody(levels.province, held)) == [(PROVINCE, "RECEIVED"), (CITY, "RECEIVED")]
    assert [listed(levels.province, CITY), listed(levels.city, COUNTY)] == [[], []]


def test_the_sample_of_the_province_is_another_one_and_comes(sampling: Levels) -> None:
    content = clip_in_sample(PROVINCE, CITY)
    held = sampling.county.sealed(
        content,
        kind=evidence_pb2.EVIDENCE_KIND_CLIP,
        content_type="video/mp4",
        capture_end_time=timestamp(sampling.county.clock.now()),
    )
    sampling.carry_all()

    bring_up(sampling, held)

    assert [state_of(one, held) for one in sampling] == ["HELD"] * 3


def clip_in_sample(platform: str, other: str) -> bytes:
    """Make a clip that is in the sample of one platform and not in that of another."""
    film = clip(160, 120, seconds=1)
    while True:
        # A box that players pass over.
        content = film + (24).to_bytes(4, "big") + b"free" + secrets.token_bytes(16)
        digest = hashlib.sha256(content).digest()
        if is_sampled(digest, platform, int(HALF)) and not is_sampled(digest, other, int(HALF)):
            return content


@pytest.mark.parametrize("urgency", [REQUESTED, FRESH])
def test_it_ends_when_the_platform_above_says_it_no_more(
    levels: Levels, urgency: transfer_pb2.TransferUrgency.ValueType
) -> None:
    city = levels.city
    held = levels.county.sealed()
    levels.carry_all()
    want_above(city, held.evidence.digest, urgency)
    wait_listed(city, COUNTY, (held, urgency))

    city.clock.advance(seconds=UPSTREAM_SECONDS - RETRY_SECONDS_MAX)
    want_above(city, held.evidence.digest, urgency)
    kept = urgency if urgency == REQUESTED else BACKFILL
    # It was renewed: until then it would have ended.
    wait_until(lambda: until_hours(city) > RETRY_SECONDS_MAX / 3600, "it is decided anew")
    city.clock.advance(seconds=RETRY_SECONDS_MAX)
    wait_listed(city, COUNTY, (held, kept))

    city.clock.advance(seconds=UPSTREAM_SECONDS - RETRY_SECONDS_MAX)
    wait_listed(city, COUNTY)
    wait_for_state(city, held, "BELOW")


def until_hours(video: RunningVideo) -> float:
    """Return how long the only object is wanted from now on."""
    ((until_time,),) = video.query("SELECT wanted_until_time FROM objects")
    return float((until_time - video.clock.now()).total_seconds()) / 3600


def test_what_is_gone_below_is_asked_for_again_while_it_may_be_there(levels: Levels) -> None:
    city, digest = levels.city, (held := levels.county.sealed()).evidence.digest
    levels.carry_all()
    want_above(city, digest, FRESH)
    wait_listed(city, COUNTY, (held, FRESH))
    decline(city, COUNTY, digest, is_gone=True)
    assert state_of(city, held) == "GONE"

    # Nothing in the county's log says that it has lost it.
    want_above(city, digest, FRESH)
    wait_listed(city, COUNTY, (held, FRESH))


def test_nothing_is_wanted_that_is_here_or_that_nobody_knows(levels: Levels) -> None:
    county, city = levels.county, levels.city
    held = county.sealed()
    for digest in (held.evidence.digest, b"x" * 32):
        county.transfer.WantForUpstream(transfer_pb2.WantForUpstreamRequest(digest=digest, urgency=REQUESTED))
    want_above(city, held.evidence.digest, FRESH)

    assert county.query("SELECT state, upstream_urgency FROM objects") == [(1, None)]
    assert city.query("SELECT * FROM objects") == []


def test_a_bad_digest_is_named(county: RunningVideo) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        county.transfer.WantForUpstream(transfer_pb2.WantForUpstreamRequest(digest=b"x" * 31))
    assert service_error(refused.value).reason is Reason.INVALID_ARGUMENT


# Fair order


@pytest.fixture
def short_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """List five objects at most, of which one each may have been declined before."""
    monkeypatch.setattr(handlers_transfer, "LISTED_MAX", 5)
    monkeypatch.setattr(handlers_transfer, "DECLINED_LISTED_MAX", 1)


@pytest.mark.usefixtures("short_lists")
def test_what_nobody_has_does_not_crowd_out_the_rest(county: RunningVideo, city: RunningVideo) -> None:
    stuck = [county.sealed() for _ in range(5)]
    asked = [county.sealed() for _ in range(2)]
    county.clock.advance(seconds=FRESH_SECONDS)
    rest = [county.sealed() for _ in range(4)]
    carry_up(county, city)
    for held in (*stuck, *asked, *rest):
        wait_for_state(city, held, "WANTED")
    for held in asked:
        assert ask(city, held)
    wait_until(lambda: [urgency for _, urgency in listed(city, COUNTY)[:2]] == [REQUESTED] * 2, "two are asked for")
    for held in (*stuck, *asked):
        decline(city, COUNTY, held.evidence.digest)
        city.clock.advance(seconds=1)

    fresh = sorted(one.evidence.digest for one in rest)
    city.clock.advance(seconds=RETRY_SECONDS_MAX)
    # Of what was declined the one of each kind that has waited longest; all others have the rest.
    expected = [
        (asked[0].evidence.digest, REQUESTED),
        *[(digest, FRESH) for digest in fresh[:3]],
        (stuck[0].evidence.digest, BACKFILL),
    ]
    assert listed(city, COUNTY) == expected
    for held in (asked[0], stuck[0]):
        decline(city, COUNTY, held.evidence.digest)
    found = [digest for digest, _ in listed(city, COUNTY)]
    assert (found[0], found[-1]) == (asked[1].evidence.digest, stuck[1].evidence.digest)
