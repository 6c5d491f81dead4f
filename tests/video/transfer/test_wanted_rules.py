"""Which bytes are wanted, decided without anything around."""

import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from services.common.access.divisions import Divisions
from services.video.domain import BytesState, EvidenceKind
from services.video.wanted import (
    FRESH_SECONDS,
    RETRY_SECONDS_MAX,
    UPSTREAM_SECONDS,
    Manifest,
    Request,
    UpstreamWish,
    Urgency,
    WantedPolicy,
    another_origin,
    find_wish,
    is_sampled,
    next_upstream_wish,
    origins_within,
    retry_time,
    urgency_at,
)

COUNTY, OTHER_COUNTY, CITY, PROVINCE = "141025", "141026", "141000", "140000"
NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
DIVISIONS = Divisions()
DIGEST = hashlib.sha256(b"a clip").digest()


def manifest(
    origin: str = COUNTY, kind: EvidenceKind = EvidenceKind.DOCUMENT, *, is_suspected: bool = False
) -> Manifest:
    return Manifest(origin, kind, NOW, is_suspected)


def policy(*words: str, permille: int = 0, platform: str = CITY) -> WantedPolicy:
    return WantedPolicy(platform, frozenset(words), permille)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ((), []),
        (("photos",), ["photo"]),
        (("suspected",), ["suspected"]),
        (("sampled",), ["clip"]),
        (("photos", "suspected", "sampled"), ["photo", "clip", "suspected"]),
        (("all",), ["photo", "clip", "document", "suspected"]),
    ],
)
def test_each_word_of_the_policy_wants_its_own(words: tuple[str, ...], wanted: list[str]) -> None:
    manifests = {
        "photo": manifest(kind=EvidenceKind.PHOTO),
        "clip": manifest(kind=EvidenceKind.CLIP),
        "document": manifest(),
        "suspected": manifest(is_suspected=True),
    }
    chosen = policy(*words, permille=1_000)
    assert [name for name, one in manifests.items() if chosen.is_due(DIGEST, one)] == wanted


def test_a_sample_is_as_large_as_it_should_be_and_another_one_on_each_platform() -> None:
    digests = [hashlib.sha256(str(number).encode()).digest() for number in range(10_000)]
    city = {one for one in digests if is_sampled(one, CITY, 50)}
    province = {one for one in digests if is_sampled(one, PROVINCE, 50)}
    assert 400 < len(city) < 600
    assert 400 < len(province) < 600
    assert len(city & province) < 60
    assert {one for one in digests if is_sampled(one, CITY, 20)} < city
    assert not any(is_sampled(one, CITY, 0) for one in digests)
    assert all(is_sampled(one, CITY, 1_000) for one in digests)


def wish(
    state: BytesState,
    *requests: Request,
    words: tuple[str, ...] = (),
    origin: str = COUNTY,
    above: Urgency | None = None,
) -> Urgency | None:
    upstream = UpstreamWish(above, NOW + timedelta(hours=6)) if above is not None else None
    found = find_wish(DIGEST, state, [manifest(origin)], requests, upstream, policy(*words), DIVISIONS)
    return found.urgency if found is not None else None


def asked_by(platform: str) -> Request:
    return Request(platform, NOW + timedelta(days=7))


@pytest.mark.parametrize(
    ("requester", "urgency"),
    [
        (CITY, Urgency.REQUESTED),
        (PROVINCE, Urgency.REQUESTED),
        # It asks for itself; its own platform looks after that.
        (COUNTY, None),
        (OTHER_COUNTY, None),
    ],
)
def test_a_request_counts_that_is_our_own_or_comes_from_above(requester: str, urgency: Urgency | None) -> None:
    assert wish(BytesState.BELOW, asked_by(requester)) is urgency


@pytest.mark.parametrize(
    ("state", "by_policy", "by_request"),
    [
        (BytesState.BELOW, Urgency.FRESH, Urgency.REQUESTED),
        (BytesState.WANTED, Urgency.FRESH, Urgency.REQUESTED),
        (BytesState.DAMAGED, Urgency.FRESH, Urgency.REQUESTED),
        (BytesState.DELETED, None, Urgency.REQUESTED),
        (BytesState.GONE, None, Urgency.REQUESTED),
    ],
)
def test_what_is_deleted_or_gone_is_wanted_only_if_somebody_asks(
    state: BytesState, by_policy: Urgency | None, by_request: Urgency
) -> None:
    assert (wish(state, words=("all",)), wish(state, asked_by(CITY), words=("all",))) == (by_policy, by_request)


def test_what_is_damaged_is_wanted_whatever_the_policy() -> None:
    assert wish(BytesState.DAMAGED) is Urgency.FRESH


@pytest.mark.parametrize("state", [one for one in BytesState if one is not BytesState.HELD])
@pytest.mark.parametrize("above", [Urgency.REQUESTED, Urgency.FRESH])
def test_what_the_platform_above_wants_is_wanted_whatever_became_of_it_here(state: BytesState, above: Urgency) -> None:
    assert wish(state, above=above) is above
    # Somebody who waits here is not kept waiting by it.
    assert wish(state, asked_by(CITY), words=("all",), above=above) is Urgency.REQUESTED


@pytest.mark.parametrize("origin", [CITY, PROVINCE, "140100"])
def test_nothing_is_wanted_that_nobody_below_has(origin: str) -> None:
    above = Urgency.REQUESTED
    assert wish(BytesState.DAMAGED, asked_by(CITY), words=("all",), origin=origin, above=above) is None


def until(*requests: Request, upstream: UpstreamWish | None = None, words: tuple[str, ...] = ()) -> datetime | None:
    found = find_wish(DIGEST, BytesState.BELOW, [manifest()], requests, upstream, policy(*words), DIVISIONS)
    assert found is not None
    return found.until_time


def test_a_wish_lasts_as_long_as_the_last_request() -> None:
    requests = [Request(PROVINCE, NOW + timedelta(hours=1)), Request(CITY, NOW + timedelta(hours=2))]
    later = NOW + timedelta(hours=6)
    assert until(*requests) == NOW + timedelta(hours=2)
    assert until(*requests, upstream=UpstreamWish(Urgency.REQUESTED, later)) == later
    assert until(upstream=UpstreamWish(Urgency.FRESH, later)) == later
    # What is due here anyway does not end with what somebody else wants.
    assert until(upstream=UpstreamWish(Urgency.FRESH, later), words=("all",)) is None


def test_what_is_repeated_from_above_is_renewed_when_half_of_its_time_is_over() -> None:
    first = next_upstream_wish(None, Urgency.BACKFILL, NOW)
    assert first == UpstreamWish(Urgency.FRESH, NOW + timedelta(seconds=UPSTREAM_SECONDS))
    half = NOW + timedelta(seconds=UPSTREAM_SECONDS / 2)
    assert next_upstream_wish(first, Urgency.FRESH, half - timedelta(seconds=1)) is None
    assert next_upstream_wish(first, Urgency.FRESH, half) == UpstreamWish(
        Urgency.FRESH, half + timedelta(seconds=UPSTREAM_SECONDS)
    )
    # It is told at once that somebody waits for it, or does so no more.
    asked = next_upstream_wish(first, Urgency.REQUESTED, NOW)
    assert asked == UpstreamWish(Urgency.REQUESTED, NOW + timedelta(seconds=UPSTREAM_SECONDS))
    assert next_upstream_wish(asked, Urgency.FRESH, NOW) == first


def test_evidence_is_fresh_for_an_hour_and_a_request_stays_one() -> None:
    at = {
        seconds: urgency_at(Urgency.FRESH, NOW - timedelta(seconds=seconds), NOW)
        for seconds in (0, FRESH_SECONDS - 1, FRESH_SECONDS)
    }
    assert at == {0: Urgency.FRESH, FRESH_SECONDS - 1: Urgency.FRESH, FRESH_SECONDS: Urgency.BACKFILL}
    assert urgency_at(Urgency.REQUESTED, NOW - timedelta(days=9), NOW) is Urgency.REQUESTED


def test_pauses_grow_to_ten_minutes() -> None:
    pauses = [(retry_time(count, NOW) - NOW).total_seconds() for count in (1, 2, 3, 7, 8, 1_000)]
    assert pauses == [5.0, 10.0, 20.0, 320.0, RETRY_SECONDS_MAX, RETRY_SECONDS_MAX]


def test_a_platform_below_is_asked_for_its_own_subtree() -> None:
    origins = [COUNTY, OTHER_COUNTY, CITY, "140121"]
    assert origins_within(CITY, origins, PROVINCE, DIVISIONS) == [CITY, COUNTY, OTHER_COUNTY]
    assert origins_within(COUNTY, origins, PROVINCE, DIVISIONS) == [COUNTY]
    assert origins_within(PROVINCE, origins, PROVINCE, DIVISIONS) == []
    assert origins_within(PROVINCE, origins, CITY, DIVISIONS) == []


def test_what_one_has_lost_another_may_have() -> None:
    both = [manifest(), manifest(OTHER_COUNTY), manifest(CITY)]
    holders = {OTHER_COUNTY, CITY}
    found = another_origin(COUNTY, both, holders, CITY, DIVISIONS)
    assert found is not None
    assert found.origin == OTHER_COUNTY
    assert another_origin(CITY, both, holders, PROVINCE, DIVISIONS) is None


def test_whoever_has_said_that_he_has_it_not_is_not_asked() -> None:
    both = [manifest(), manifest(OTHER_COUNTY)]
    assert another_origin(COUNTY, both, {CITY}, CITY, DIVISIONS) is None
    # One in between has it of one that has it no more.
    found = another_origin("140600", both, {CITY}, PROVINCE, DIVISIONS)
    assert found is not None
    assert found.origin == COUNTY


def test_a_policy_is_told_from_another_one() -> None:
    texts = {
        policy().text,
        policy("photos").text,
        policy("photos", "sampled", permille=50).text,
        policy("photos", "sampled", permille=51).text,
    }
    assert len(texts) == 4
    # Of what is not sampled, the size of samples says nothing.
    assert policy("photos", permille=50).text == policy("photos", permille=51).text
