"""Evidence over a real link: the most urgent first, resumed where the upstream stands, never at the cost of entries."""

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.relay import evidence_link
from services.relay.limits import EVIDENCE_PUSHES_MAX
from tests.faults.proxy import FaultProxy
from tests.metrics import shown_by
from tests.relay.conftest import CITY, COUNTY, PROVINCE
from tests.relay.evidence import BACKFILL, CHUNK_BYTES, FRESH, REQUESTED, FakeVideo, Gate, digest_of
from tests.relay.fakes import FakeUpstream
from tests.relay.platforms import Platform, eventually
from zhichao.relay.v1 import relay_pb2
from zhichao.video.v1 import transfer_pb2 as pb

Make = Callable[..., Platform]
MakeProxy = Callable[..., FaultProxy]

BIG_BYTES = 40 * CHUNK_BYTES


def content(size: int = 1_000) -> bytes:
    return secrets.token_bytes(size)


@pytest.fixture
def upper(socket_directory: Path) -> FakeVideo:
    return FakeVideo(socket_directory, CITY)


@pytest.fixture
def lower(socket_directory: Path) -> FakeVideo:
    return FakeVideo(socket_directory, COUNTY)


@pytest.fixture
def city(platform: Make, upper: FakeVideo) -> Platform:
    made = platform(CITY, streams=["weighing"], fakes=[upper])
    made.start()
    return made


@pytest.fixture
def county(platform: Make, lower: FakeVideo, city: Platform) -> Platform:
    made = platform(COUNTY, streams=["weighing"], fakes=[lower], upstream=city.address)
    made.start()
    return made


def progress(platform: Platform) -> relay_pb2.EvidenceProgress:
    return platform.status().evidence_progress


def wait_complete(upper: FakeVideo, *contents: bytes) -> None:
    for one in contents:
        eventually(lambda one=one: upper.content(digest_of(one)) == one, "an object is complete")  # type: ignore[misc]  # a lambda with a default is a callable without arguments


def test_what_is_wanted_goes_up(county: Platform, city: Platform, upper: FakeVideo, lower: FakeVideo) -> None:
    objects = [content(), content(BIG_BYTES), content(1)]
    for one in objects:
        lower.hold(one)
        upper.want(one)

    wait_complete(upper, *objects)
    assert sorted(upper.completed) == sorted(map(digest_of, objects))
    eventually(lambda: progress(county).pushed_objects == 3, "three objects in the status")
    seen = progress(county)
    assert (seen.state, seen.waiting_objects, seen.waiting_bytes) == (relay_pb2.FOLLOW_STATE_FOLLOWING, 0, 0)
    assert (seen.pushed_bytes, seen.last_error) == (sum(map(len, objects)), "")
    assert seen.HasField("last_object_time")
    (below,) = city.status().downstream_links
    assert (below.received_objects, below.HasField("last_object_time")) == (3, True)
    assert not city.status().HasField("evidence_progress")


def test_what_waits_is_shown(county: Platform, upper: FakeVideo, lower: FakeVideo) -> None:
    gate = upper.before_taking = Gate()
    held, missing = content(BIG_BYTES), content()
    gate.close_for(digest_of(held))
    lower.hold(held)
    for one in (held, missing):
        upper.want(one)

    eventually(lambda: progress(county).declined_objects == 1, "one is not held")
    eventually(lambda: gate.waits(digest_of(held)), "one is on its way")
    seen = progress(county)
    assert (seen.waiting_objects, seen.waiting_bytes) == (2, BIG_BYTES + 1_000)
    assert seen.open_push_count == 1
    shown = shown_by(county.app.metrics)
    figures = {
        name: shown.value(f"zhichao_relay_evidence_{name}")
        for name in ("following", "waiting_objects", "waiting_bytes", "declined_objects", "bandwidth_waiting")
    }
    assert figures == {
        "following": 1,
        "waiting_objects": 2,
        "waiting_bytes": BIG_BYTES + 1_000,
        "declined_objects": 1,
        "bandwidth_waiting": 0,
    }
    gate.open()
    wait_complete(upper, held)


def test_a_request_overtakes_a_back_fill(county: Platform, upper: FakeVideo, lower: FakeVideo) -> None:
    gate = upper.before_taking = Gate()
    old = [content(BIG_BYTES) for _ in range(EVIDENCE_PUSHES_MAX + 1)]
    asked = content()
    gate.close_for(*map(digest_of, old))
    for one in old:
        lower.hold(one)
        upper.want(one, BACKFILL)
    eventually(lambda: progress(county).open_push_count == EVIDENCE_PUSHES_MAX, "as many as may are on their way")

    lower.hold(asked)
    upper.want(asked, REQUESTED)
    # The one that gives way ends when its receiver looks: that is let go, a little.
    gate.open()
    wait_complete(upper, asked, *old)
    assert upper.completed.index(digest_of(asked)) < len(old) - 1
    # What gave way was gone on with where it stood: no byte came twice.
    assert {upper.taken_bytes[digest_of(one)] for one in old} == {BIG_BYTES}


def test_fresh_evidence_goes_before_a_back_fill(county: Platform, upper: FakeVideo, lower: FakeVideo) -> None:
    county.stop_relay()
    objects = {content(): urgency for urgency in (BACKFILL, BACKFILL, FRESH, FRESH, BACKFILL, REQUESTED)}
    for one, urgency in objects.items():
        lower.hold(one)
        upper.want(one, urgency)
    county.start_relay()

    wait_complete(upper, *objects)
    first = [digest for digest, _ in lower.sent_from[:EVIDENCE_PUSHES_MAX]]
    assert sorted(first) == sorted(digest_of(one) for one, urgency in objects.items() if urgency != BACKFILL)


def test_it_goes_on_where_the_upstream_stands_after_a_break(
    platform: Make, proxy: MakeProxy, city: Platform, upper: FakeVideo, lower: FakeVideo
) -> None:
    between = proxy(city.address)
    county = platform(COUNTY, streams=["weighing"], fakes=[lower], upstream=between.address)
    county.start()
    gate = upper.before_taking = Gate()
    one = content(BIG_BYTES)
    digest = lower.hold(one)
    upper.want(one)
    for part in (4, 12, 25):
        eventually(lambda part=part: upper.received_bytes(digest) >= part * CHUNK_BYTES, "a part has come")  # type: ignore[misc]  # as above
        gate.close_for(digest)
        between.cut()
        gate.open()

    wait_complete(upper, one)
    assert upper.completed == [digest]


def test_either_relay_may_be_restarted_on_the_way(
    county: Platform, city: Platform, upper: FakeVideo, lower: FakeVideo
) -> None:
    gate = upper.before_taking = Gate()
    one = content(BIG_BYTES)
    digest = lower.hold(one)
    gate.close_for(digest)
    upper.want(one)
    for restarted in (county, city):
        eventually(lambda: gate.waits(digest), "it is on its way")
        restarted.stop_relay()
        restarted.start_relay()
    gate.open()
    wait_complete(upper, one)
    assert upper.completed == [digest]


# What is not held


def test_what_is_not_held_is_declined_and_pushed_when_it_comes(
    county: Platform, upper: FakeVideo, lower: FakeVideo
) -> None:
    one = content()
    digest = upper.want(one)
    eventually(lambda: upper.declined == [(COUNTY, digest, False)], "it is declined")

    lower.hold(one)
    wait_complete(upper, one)
    assert upper.declined == [(COUNTY, digest, False)]
    eventually(lambda: progress(county).declined_objects == 0, "it is waited for no more")


@pytest.mark.parametrize("reason", [Reason.BYTES_EXPIRED, Reason.EVIDENCE_MISSING, Reason.EVIDENCE_CHANGED])
def test_what_is_gone_is_declined_for_good(
    county: Platform, upper: FakeVideo, lower: FakeVideo, reason: Reason
) -> None:
    one = content()
    lower.unreadable[digest_of(one)] = ServiceError(reason, "gone", metadata={"digest": "", "delete_time": ""})
    digest = upper.want(one)
    eventually(lambda: upper.declined == [(COUNTY, digest, True)], "it is declined for good")
    assert progress(county).declined_objects == 0


@pytest.fixture
def top(socket_directory: Path) -> FakeVideo:
    return FakeVideo(socket_directory, PROVINCE)


@pytest.fixture
def three(platform: Make, top: FakeVideo, upper: FakeVideo, lower: FakeVideo) -> list[Platform]:
    """Run three levels; each is there before the one below it looks for it."""
    levels: list[Platform] = []
    for code, video in ((PROVINCE, top), (CITY, upper), (COUNTY, lower)):
        above = levels[-1].address if levels else ""
        levels.append(platform(code, streams=["weighing"], fakes=[video], upstream=above))
        levels[-1].start()
    return levels


@pytest.mark.usefixtures("three")
def test_what_the_city_gets_from_the_county_goes_on_to_the_province(
    top: FakeVideo, upper: FakeVideo, lower: FakeVideo
) -> None:
    one = content(BIG_BYTES)
    lower.hold(one)
    digest = top.want(one)
    eventually(lambda: top.declined == [(CITY, digest, False)], "the city does not hold it")

    upper.want(one)
    wait_complete(top, one)
    assert (upper.completed, top.completed) == ([digest], [digest])


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("urgency", [REQUESTED, FRESH, BACKFILL])
def test_what_only_the_province_wants_the_city_wants_for_it(
    top: FakeVideo, upper: FakeVideo, lower: FakeVideo, urgency: pb.TransferUrgency.ValueType
) -> None:
    one = content()
    lower.hold(one)
    upper.know(one)
    digest = top.want(one, urgency)

    wait_complete(top, one)
    assert (upper.wanted_above, upper.completed, top.declined) == (
        [(digest, urgency)],
        [digest],
        [(CITY, digest, False)],
    )


def test_it_is_declined_also_when_the_own_service_cannot_be_told(
    county: Platform, upper: FakeVideo, lower: FakeVideo
) -> None:
    lower.refuse_wish = ServiceError(Reason.DATABASE_UNAVAILABLE, "the database is away")
    digest = upper.want(content())

    eventually(lambda: upper.declined == [(COUNTY, digest, False)], "it is declined")
    assert progress(county).last_error == "the database is away"


# What goes wrong


def test_what_cannot_be_read_for_a_while_makes_room_for_others(
    county: Platform, upper: FakeVideo, lower: FakeVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence_link, "EVIDENCE_OWN_FAILURES_MAX", 2)
    due, asked = contents = [content(), content()]
    for one in contents:
        lower.unreadable[digest_of(one)] = ServiceError(Reason.OBJECT_STORE_UNAVAILABLE, "the disk does not read it")
    digest = upper.want(due)
    waited_for = upper.want(asked, REQUESTED)

    eventually(lambda: [one for one, _ in lower.sent_from].count(waited_for) > 2, "somebody waits for it")
    eventually(lambda: upper.declined, "one is declined for now")
    assert upper.declined == [(COUNTY, digest, False)]
    assert progress(county).last_error == "the disk does not read it"


def test_a_refusal_is_shown_and_tried_again(county: Platform, upper: FakeVideo, lower: FakeVideo) -> None:
    one = content()
    upper.refuse_next = [
        ServiceError(Reason.OBJECT_STORE_UNAVAILABLE, "the evidence store is away", retry_after_seconds=1.0),
    ]
    lower.hold(one)
    upper.want(one)
    eventually(lambda: "store is away" in progress(county).last_error, "the error is shown")
    assert county.state() in ("CURRENT", "CATCHING_UP")
    wait_complete(upper, one)
    eventually(lambda: not progress(county).last_error, "the error is gone")


def test_where_the_upstream_stands_elsewhere_it_is_gone_on_with_there(
    county: Platform, upper: FakeVideo, lower: FakeVideo
) -> None:
    """Another replica has less of it than the one that was asked what is wanted."""
    one = content(BIG_BYTES)
    upper.refuse_next = [
        ServiceError(Reason.OFFSET_MISMATCH, "another place", metadata={"expected_offset": "0"}),
    ]
    lower.hold(one)
    upper.want(one)
    wait_complete(upper, one)
    assert {offset for _, offset in lower.sent_from} == {0}


def test_what_is_wanted_no_more_is_left_alone(county: Platform, upper: FakeVideo, lower: FakeVideo) -> None:
    one, other = content(BIG_BYTES), content()
    upper.refuse_next = [ServiceError(Reason.BYTES_NOT_WANTED, "not wanted", metadata={"digest": ""})]
    lower.hold(one)
    upper.want(one)
    eventually(lambda: not upper.refuse_next, "it is refused")
    upper.forget(digest_of(one))
    lower.hold(other)
    upper.want(other)
    wait_complete(upper, other)
    assert (upper.completed, progress(county).last_error) == ([digest_of(other)], "")


@pytest.mark.parametrize("which", ["upper", "lower"])
def test_a_video_service_that_is_away_is_no_error_of_the_link(
    county: Platform, upper: FakeVideo, lower: FakeVideo, which: str
) -> None:
    service = {"upper": upper, "lower": lower}[which]
    eventually(lambda: progress(county).state == relay_pb2.FOLLOW_STATE_FOLLOWING, "evidence is followed")
    service.stop()
    size = county["weighing"].write(b"an entry")
    one = content()
    lower.hold(one)
    upper.want(one)
    eventually(lambda: (at := county.progress("weighing", COUNTY)) and at.upstream_size == size, "the entry is above")
    if which == "lower":
        eventually(lambda: "video" in progress(county).last_error, "its own video service is named")
    else:
        eventually(
            lambda: progress(county).state == relay_pb2.FOLLOW_STATE_WAITING, "the video service above is waited for"
        )
    service.start()
    wait_complete(upper, one)


def test_an_upstream_without_video_is_not_followed(platform: Make, lower: FakeVideo) -> None:
    city = platform(CITY, streams=["weighing"])
    city.start()
    county = platform(COUNTY, streams=["weighing"], fakes=[lower], upstream=city.address)
    county.start()
    size = county["weighing"].write(b"an entry")
    eventually(lambda: (at := county.progress("weighing", COUNTY)) and at.upstream_size == size, "the entry is above")
    seen = progress(county)
    assert (seen.state, seen.detail, seen.last_error) == (relay_pb2.FOLLOW_STATE_NOT_FOLLOWED, "", "")


def test_a_platform_without_video_says_nothing_of_it(platform: Make, city: Platform, upper: FakeVideo) -> None:
    upper.want(content())
    county = platform(COUNTY, streams=["weighing"], upstream=city.address)
    county.start()
    county.wait_for_state("CURRENT")
    assert progress(county).state == relay_pb2.FOLLOW_STATE_NOT_FOLLOWED
    assert upper.declined == []


@pytest.mark.parametrize("version", [1, 2])
def test_an_upstream_of_an_older_release_is_left_alone(
    platform: Make, upstream: FakeUpstream, lower: FakeVideo, version: int
) -> None:
    """Of version 1, or of 2 and without these methods: entries go up, and nothing is said of an error."""
    upstream.answer.protocol_version = version
    upstream.answer.streams[:] = ["weighing", "video"]
    county = platform(COUNTY, streams=["weighing"], fakes=[lower], upstream=upstream.address)
    county.start()
    county["weighing"].write(b"an entry")
    eventually(lambda: upstream.pushed, "entries are pushed")
    eventually(lambda: progress(county).state == relay_pb2.FOLLOW_STATE_NOT_FOLLOWED, "it is not followed")
    assert (progress(county).detail, progress(county).last_error) == ("", "")


def test_entries_and_evidence_share_a_capped_line(
    platform: Make, city: Platform, upper: FakeVideo, lower: FakeVideo
) -> None:
    county = platform(COUNTY, streams=["weighing"], fakes=[lower], upstream=city.address, bandwidth="1MiB/s")
    county.start_services()
    one = content(BIG_BYTES)
    lower.hold(one)
    upper.want(one)
    size = county["weighing"].write_many(3_000, size=300)
    county.start_relay()
    eventually(lambda: progress(county).is_waiting, "evidence waits for the cap")
    eventually(lambda: city["weighing"].size(COUNTY) >= size, "the entries are above")
    # A megabyte of entries is through, and of two and a half of evidence not all.
    assert upper.content(digest_of(one)) is None
    wait_complete(upper, one)
    assert county.status().pushed_bytes < BIG_BYTES
