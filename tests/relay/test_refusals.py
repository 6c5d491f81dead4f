"""What must not go up does not, loudly, and everything else goes on."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from services.relay.limits import PROTOCOL_VERSIONS
from tests.relay.conftest import CITY, COUNTY
from tests.relay.fakes import FakeUpstream
from tests.relay.platforms import FAST, Platform, assert_same_log, eventually
from zhichao.journal.v1 import journal_pb2
from zhichao.relay.v1 import relay_pb2

Make = Callable[..., Platform]


@pytest.fixture
def linked(platform: Make) -> tuple[Platform, Platform]:
    """Link a county to a city, to which it has pushed 500 weighings."""
    city = platform(CITY)
    city.start()
    county = platform(COUNTY, upstream=city.address)
    county.start()
    county["weighing"].write_many(500)
    assert_same_log(city["weighing"], county["weighing"], COUNTY)
    return city, county


def refusal(county: Platform, stream: str = "weighing") -> str:
    """Return why a log of the county does not advance."""
    progress = county.progress(stream, COUNTY)
    return progress.refusal_reason if progress else ""


def refusal_message(county: Platform) -> str:
    """Return the same as a sentence."""
    progress = county.progress("weighing", COUNTY)
    return progress.refusal_message if progress else ""


def test_a_second_history_of_one_log_stops_that_log_only(linked: tuple[Platform, Platform]) -> None:
    city, county = linked
    held = city["weighing"].position(COUNTY)
    weighing = county["weighing"]
    weighing.stop()
    weighing.move_to(weighing.make_new())
    weighing.start()
    eventually(lambda: "restore the backup once more" in refusal_message(county), "the refusal of the shorter history")
    assert refusal(county) == "HISTORY_MISMATCH"
    weighing.write_many(500)
    eventually(lambda: "different roots" in refusal_message(county), "the reason as seen from here")
    weighing.write_many(10)
    eventually(lambda: "or before" in refusal_message(county), "the reason as told by the city")
    assert (refusal(county), county.state()) == ("HISTORY_MISMATCH", "REFUSED")

    county["registry"].write_many(50)
    assert_same_log(city["registry"], county["registry"], COUNTY)
    assert city["weighing"].position(COUNTY) == held
    assert refusal(county, "registry") == ""


def test_an_upstream_that_lost_entries_gets_them_again(linked: tuple[Platform, Platform]) -> None:
    city, county = linked
    weighing = city["weighing"]
    weighing.stop()
    old = weighing.back_up()
    weighing.start()
    county["weighing"].write_many(100)
    assert_same_log(weighing, county["weighing"], COUNTY)
    weighing.stop()
    weighing.move_to(old)
    weighing.start()
    # Nothing new is written below: the renewed handshake alone finds it out.
    assert_same_log(weighing, county["weighing"], COUNTY)


def test_a_platform_that_dials_itself_is_refused(platform: Make) -> None:
    county = platform(COUNTY, streams=["weighing"])
    county.start()
    county.stop_relay()
    county.upstream = county.address
    county.start_relay()
    county.wait_for_state("REFUSED")
    assert "itself" in county.status().last_error


def test_an_upstream_without_a_shared_version_is_incompatible(platform: Make, upstream: FakeUpstream) -> None:
    upstream.answer.protocol_version = 99
    county = platform(COUNTY, streams=["weighing"], upstream=upstream.address)
    county.start()
    county.wait_for_state("INCOMPATIBLE")
    assert "version 99" in county.status().last_error
    # It is tried again, slowly: the upstream may be upgraded.
    upstream.answer.protocol_version = 1
    county.wait_for_state("CURRENT")
    assert county.status().last_error == ""


def test_a_stream_that_the_upstream_does_not_take_is_told(platform: Make) -> None:
    city = platform(CITY, streams=["registry"])
    city.start()
    county = platform(COUNTY, upstream=city.address)
    county.start()
    eventually(lambda: refusal(county) == "NOT_CONFIGURED", "the refusal")
    assert_same_log(city["registry"], county["registry"], COUNTY)


def test_the_upstreams_own_log_is_not_pushed_back_to_it(platform: Make, upstream: FakeUpstream) -> None:
    upstream.answer.positions.append(journal_pb2.Position(origin=COUNTY, stream="weighing", size=10, is_own=True))
    county = platform(COUNTY, streams=["weighing"], upstream=upstream.address)
    county.start()
    eventually(lambda: refusal(county) == "ORIGIN_NOT_ALLOWED", "the refusal")
    assert upstream.pushed == []


def test_an_upstream_that_never_answers_stalls_the_link(platform: Make, upstream: FakeUpstream) -> None:
    upstream.may_answer.clear()
    county = platform(COUNTY, streams=["weighing"], upstream=upstream.address)
    county.start()
    county["weighing"].write_many(10)
    county.wait_for_state("STALLED")
    progress = county.progress("weighing", COUNTY)
    assert progress is not None
    assert (progress.local_size, progress.upstream_size, progress.lag_records) == (11, 0, 11)
    assert progress.lag_bytes > 0
    assert progress.lag_milliseconds > 0
    upstream.may_answer.set()
    county.wait_for_state("CURRENT")
    progress = county.progress("weighing", COUNTY)
    assert progress is not None
    assert (progress.upstream_size, progress.lag_records, progress.lag_bytes, progress.lag_milliseconds) == (
        11,
        0,
        0,
        0,
    )


def test_a_push_that_is_never_answered_is_tried_again(platform: Make, upstream: FakeUpstream) -> None:
    upstream.may_answer.clear()
    times = replace(FAST, answer_seconds=0.05)
    county = platform(COUNTY, streams=["weighing"], upstream=upstream.address, times=times)
    county.start()
    eventually(lambda: len(upstream.pushed) >= 2, "a second try")
    assert {push.batch.first_sequence for push in upstream.pushed} == {1}
    assert "has not answered" in county.status().last_error
    upstream.may_answer.set()
    county.wait_for_state("CURRENT")


def test_the_skew_of_the_clocks_is_measured(platform: Make, upstream: FakeUpstream) -> None:
    upstream.skew_seconds = 3_600
    county = platform(COUNTY, streams=["weighing"], upstream=upstream.address)
    county.start()
    county.wait_for_state("CURRENT")
    status = county.status()
    assert abs(status.clock_skew_milliseconds - 3_600_000) < 1_500
    assert status.upstream_platform == CITY
    assert upstream.handshakes[0].platform == COUNTY
    assert list(upstream.handshakes[0].protocol_versions) == list(PROTOCOL_VERSIONS)
    assert upstream.handshakes[0].verifier_key.startswith(f"zhichao/{COUNTY}+")


def test_the_smaller_of_both_limits_holds(platform: Make, upstream: FakeUpstream) -> None:
    upstream.answer.batch_records_max = 16
    upstream.answer.window_batches_max = 2
    upstream.may_answer.clear()
    county = platform(COUNTY, streams=["weighing"], upstream=upstream.address)
    county.start_services()
    county["weighing"].write_many(200)
    county.start_relay()
    county.wait_for_state("STALLED")
    # The first is being held by the upstream and one more waits there; a third would be over the window.
    assert len(upstream.pushed) == 1
    upstream.may_answer.set()
    county.wait_for_state("CURRENT")
    assert sum(len(push.batch.entries) for push in upstream.pushed) == 201
    assert max(len(push.batch.entries) for push in upstream.pushed) <= 16
    assert {push.stream for push in upstream.pushed} == {"weighing"}
    assert isinstance(upstream.pushed[0], relay_pb2.PushEntriesRequest)
