"""What a platform wants from below: by its policy, because somebody asks, because its own store has lost it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from services.common.database import create_engine, raw_connection
from services.common.instants import timestamp
from services.video.store import wanted as wanted_store
from services.video.store import weighings
from services.video.wanted import FRESH_SECONDS
from tests.registry.harness import TIMEOUT_SECONDS
from tests.running_service import carry_down, carry_up
from tests.video.harness import CITY, COUNTY, PROVINCE, UNIT, RunningVideo
from tests.video.media_files import pdf
from tests.video.transfer.carrying import (
    BACKFILL,
    FRESH,
    REQUESTED,
    Levels,
    ask,
    custody,
    listed,
    name_of,
    send_up,
    state_of,
    wait_for_state,
    wait_listed,
    wanted,
    watching,
)
from tests.waiting import wait_until
from zhichao.video.v1 import evidence_pb2, transfer_pb2
from zhichao.video.v1 import service_pb2 as pb


def document(county: RunningVideo, *, pages: int = 1, **fields: Any) -> pb.HeldEvidence:
    """Seal what no policy wants."""
    values: dict[str, Any] = {"content_type": "application/pdf", "view": None, "camera_id": None} | fields
    return county.sealed(pdf(pages), kind=evidence_pb2.EVIDENCE_KIND_DOCUMENT, **values)


def test_photos_are_wanted_and_documents_are_not(county: RunningVideo, city: RunningVideo) -> None:
    taken, written = county.sealed(), document(county)
    carry_up(county, city)

    wait_listed(city, COUNTY, (taken, FRESH))
    assert (state_of(city, taken), state_of(city, written)) == ("WANTED", "BELOW")
    answer = wanted(city, COUNTY)
    assert (answer.object_count, answer.missing_bytes) == (1, taken.evidence.size_bytes)
    # Nothing is wanted of whoever has sealed nothing.
    assert wanted(city, "141026") == transfer_pb2.WatchWantedResponse()


def test_what_is_fresh_goes_before_what_is_due_from_before(county: RunningVideo, city: RunningVideo) -> None:
    old = county.sealed()
    county.clock.advance(seconds=FRESH_SECONDS)
    fresh = [county.sealed(), county.sealed()]
    carry_up(county, city)
    wait_for_state(city, old, "WANTED")
    wait_for_state(city, fresh[1], "WANTED")

    found = listed(city, COUNTY)
    assert found[2] == (old.evidence.digest, BACKFILL)
    assert sorted(found[:2]) == sorted((one.evidence.digest, FRESH) for one in fresh)


def test_what_is_asked_for_goes_first(county: RunningVideo, city: RunningVideo) -> None:
    first, second = county.sealed(), county.sealed()
    asked = document(county)
    carry_up(county, city)
    wait_for_state(city, second, "WANTED")
    assert ask(city, asked)

    wait_until(lambda: len(listed(city, COUNTY)) == 3, "all three are wanted")
    found = listed(city, COUNTY)
    assert found[0] == (asked.evidence.digest, REQUESTED)
    assert {digest for digest, _ in found[1:]} == {first.evidence.digest, second.evidence.digest}


def test_what_the_province_asks_for_the_city_wants_from_the_county(levels: Levels) -> None:
    held = document(levels.county)
    levels.carry_all()
    assert state_of(levels.province, held) == "BELOW"

    assert ask(levels.province, held)
    wait_listed(levels.province, CITY, (held, REQUESTED))
    assert state_of(levels.city, held) == "BELOW"
    carry_down(levels.province, levels.city)
    wait_listed(levels.city, COUNTY, (held, REQUESTED))
    send_up(levels.county, levels.city, held.evidence.digest)
    send_up(levels.city, levels.province, held.evidence.digest)

    assert [state_of(one, held) for one in levels] == ["HELD"] * 3
    levels.carry_all()
    assert sorted(custody(levels.province, held)) == [
        (PROVINCE, "RECEIVED"),
        (PROVINCE, "REQUESTED"),
        (CITY, "RECEIVED"),
    ]
    assert [listed(levels.province, CITY), listed(levels.city, COUNTY)] == [[], []]


def test_what_the_city_asks_for_the_province_does_not_want(levels: Levels) -> None:
    held = document(levels.county)
    levels.carry_all()
    assert ask(levels.city, held)
    levels.carry_all()
    marker = levels.county.sealed()
    levels.carry_all()

    wait_for_state(levels.province, marker, "WANTED")
    assert (state_of(levels.city, held), state_of(levels.province, held)) == ("WANTED", "BELOW")


def test_a_request_ends_at_its_deadline(county: RunningVideo, city: RunningVideo) -> None:
    held = document(county)
    carry_up(county, city)
    ask_for_a_minute(city, held)
    wait_listed(city, COUNTY, (held, REQUESTED))

    city.clock.advance(seconds=61)
    assert listed(city, COUNTY) == []
    wait_for_state(city, held, "BELOW")


def test_a_request_for_what_is_due_anyway_hurries_it_and_ends_alone(county: RunningVideo, city: RunningVideo) -> None:
    held = county.sealed()
    carry_up(county, city)
    wait_listed(city, COUNTY, (held, FRESH))
    ask_for_a_minute(city, held)
    wait_listed(city, COUNTY, (held, REQUESTED))
    city.clock.advance(seconds=61)
    wait_listed(city, COUNTY, (held, FRESH))


def ask_for_a_minute(city: RunningVideo, held: pb.HeldEvidence) -> None:
    """Ask for the bytes of evidence, until a minute from now."""
    request = pb.FetchEvidenceRequest(name=name_of(held), purpose="case 12")
    request.deadline_time.CopyFrom(timestamp(city.clock.now() + timedelta(seconds=60)))
    city.call("FetchEvidence", request)


@pytest.mark.parametrize(("eager", "state"), [("nothing", "BELOW"), ("all", "WANTED")])
def test_another_policy_decides_anew_what_is_held_below(
    county: RunningVideo, city: RunningVideo, eager: str, state: str
) -> None:
    taken, written = county.sealed(), document(county)
    carry_up(county, city)
    wait_for_state(city, taken, "WANTED")
    assert state_of(city, written) == "BELOW"

    city.stop()
    city.environment["ZHICHAO_VIDEO_EAGER"] = eager
    city.start()
    for held in (taken, written):
        wait_for_state(city, held, state)


def test_clips_of_suspected_overloads_are_wanted_whichever_comes_first(
    county: RunningVideo, city: RunningVideo
) -> None:
    """What the follower of the weighing journals writes is written here by hand, in the same transaction shape."""
    before, after = (
        document(county, pages=pages, subjects=[evidence_pb2.Subject(record_id=record)])
        for pages, record in enumerate(("r-1", "r-2"), 1)
    )
    suspect(city, "r-1")
    carry_up(county, city)
    wait_for_state(city, before, "WANTED")
    assert state_of(city, after) == "BELOW"

    suspect(city, "r-2")
    wait_for_state(city, after, "WANTED")


def test_bytes_that_are_sealed_once_more_for_a_suspected_overload_are_wanted(
    county: RunningVideo, city: RunningVideo
) -> None:
    """A manifest is never changed: who has forgotten what it proves seals the same bytes again."""
    forgotten = document(county)
    carry_up(county, city)
    wait_until(lambda: city.query("SELECT 1 FROM objects WHERE is_considered"), "it is decided")
    assert state_of(city, forgotten) == "BELOW"
    suspect(city, "r-1")

    named = document(county, subjects=[evidence_pb2.Subject(record_id="r-1")])
    assert named.evidence.digest == forgotten.evidence.digest
    carry_up(county, city)
    wait_listed(city, COUNTY, (named, FRESH))


def suspect(city: RunningVideo, record_id: str) -> None:
    """Let the city learn that a weighing of the county is a suspected overload."""
    engine = create_engine(city.database_url, pool_size=1, application_name="test")
    try:
        with engine.begin() as pooled:
            connection = raw_connection(pooled)
            log = weighings.read_logs(connection).get(COUNTY, weighings.UNREAD)
            now = city.clock.now()
            row = weighings.SuspectedRow(UNIT, record_id, log.position + 1, now, now)
            weighings.keep_batch(connection, COUNTY, log, log._replace(position=log.position + 1), [row])
    finally:
        engine.dispose()


def test_a_request_that_comes_while_it_is_decided_is_not_overlooked(county: RunningVideo, city: RunningVideo) -> None:
    """Whoever decides has read the requests already; whoever writes one has not committed."""
    digest = document(county).evidence.digest
    carry_up(county, city)
    city.stop()
    now = city.clock.now()
    city.query("UPDATE objects SET is_considered = false")
    engine = create_engine(city.database_url, pool_size=3, application_name="test")
    try:
        with ThreadPoolExecutor(1) as executor, engine.begin() as asking:
            with engine.begin() as deciding:
                locked = wanted_store.lock_undecided(raw_connection(deciding), now, 10)
                assert [one.digest for one in locked] == [digest]
                deciding_again = executor.submit(wanted_store.decide_again, raw_connection(asking), [digest])
                wait_until(
                    lambda: (
                        deciding_again.done()
                        or city.query("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
                    ),
                    "it waits for who decides",
                )
                wanted_store.put_decided(raw_connection(deciding), [], [digest], now)
            deciding_again.result(TIMEOUT_SECONDS)
        with engine.begin() as next_one:
            undecided = wanted_store.lock_undecided(raw_connection(next_one), now, 10)
    finally:
        engine.dispose()
    assert [one.digest for one in undecided] == [digest]


def test_a_follower_is_told_of_each_change(county: RunningVideo, city: RunningVideo) -> None:
    with watching(city, COUNTY) as answers:
        assert not next(answers).wanted
        held = county.sealed()
        carry_up(county, city)
        seen = next(answer for answer in answers if answer.wanted)
        assert [one.object.digest for one in seen.wanted] == [held.evidence.digest]
        send_up(county, city, held.evidence.digest)
        assert not next(answer for answer in answers if not answer.wanted).wanted
