"""A link that is connected and does not advance raises an alarm that says what is known, and ends it."""

from collections.abc import Callable

from structlog.testing import capture_logs

from tests.relay.clocks import StandingClock
from tests.relay.conftest import CITY, COUNTY
from tests.relay.fakes import FakeUpstream
from tests.relay.platforms import Platform, eventually
from zhichao.relay.v1 import relay_pb2

Make = Callable[..., Platform]


def alarm(platform: Platform, *, is_downward: bool = False) -> relay_pb2.StallAlarm | None:
    found = [one for one in platform.status().alarms if one.is_downward == is_downward]
    return found[0] if found else None


def cause(platform: Platform, *, is_downward: bool = False) -> str:
    one = alarm(platform, is_downward=is_downward)
    return relay_pb2.StallCause.Name(one.logs[0].cause).removeprefix("STALL_CAUSE_") if one else ""


def test_an_upstream_that_does_not_answer_raises_one_alarm_until_it_does(
    platform: Make, upstream: FakeUpstream
) -> None:
    county = platform(COUNTY, streams=["weighing"], upstream=upstream.address)
    county.start()
    county.wait_for_state("CURRENT")
    with capture_logs() as lines:
        upstream.may_answer.clear()
        county["weighing"].write_many(10)
        eventually(lambda: cause(county) == "NO_ANSWER", "the alarm")
        county.wait_for_state("STALLED")
        raised = alarm(county)
        assert raised is not None
        assert [(log.stream, log.origin) for log in raised.logs] == [("weighing", COUNTY)]
        assert raised.log_count == 1
        assert raised.logs[0].start_time.ToDatetime() <= raised.start_time.ToDatetime()
        upstream.may_answer.set()
        county.wait_for_state("CURRENT")
        assert alarm(county) is None
    events = [line for line in lines if line["event"].startswith("stall_alarm")]
    assert [(line["event"], line["log_level"], line["direction"]) for line in events] == [
        ("stall_alarm_raised", "warning", "upward"),
        ("stall_alarm_ended", "warning", "upward"),
    ]
    assert (events[0]["logs"], events[0]["cause"]) == ([f"weighing/{COUNTY}"], "NO_ANSWER")


def test_an_upper_service_that_is_away_is_the_cause(platform: Make) -> None:
    city = platform(CITY)
    city.start()
    county = platform(COUNTY, upstream=city.address)
    county.start()
    county.wait_for_state("CURRENT")
    city["weighing"].stop()
    county["weighing"].write_many(10)
    eventually(lambda: cause(county) == "UPSTREAM_SERVICE", "the alarm upwards")
    eventually(lambda: cause(county, is_downward=True) == "UPSTREAM_SERVICE", "the alarm downwards")
    down = alarm(county, is_downward=True)
    assert down is not None
    assert [(log.stream, log.origin) for log in down.logs] == [("weighing", "")]
    assert "weighing service" in down.logs[0].detail
    city["weighing"].start()
    county.wait_for_state("CURRENT")
    assert list(county.status().alarms) == []


def test_an_own_service_that_never_came_is_the_cause(platform: Make) -> None:
    city = platform(CITY, streams=["registry", "weighing"])
    city.start()
    county = platform(COUNTY, upstream=city.address)
    county["registry"].start()
    county.start_relay()
    eventually(lambda: cause(county) == "OWN_SERVICE", "the alarm")
    county["weighing"].start()
    county.wait_for_state("CURRENT")
    assert list(county.status().alarms) == []


def test_a_refused_log_does_not_hide_that_another_is_stalled(platform: Make, upstream: FakeUpstream) -> None:
    clock = StandingClock()
    county = platform(COUNTY, upstream=upstream.address, clock=clock)
    upstream.answer.positions.add(origin=COUNTY, stream="registry", size=1, root=bytes(32))
    county.start()
    eventually(lambda: county.state() == "REFUSED", "the refusal")
    upstream.may_answer.clear()
    county["weighing"].write_many(10)
    eventually(lambda: upstream.pushed, "the push")

    def has_raised_later() -> bool:
        clock.advance(0.5)
        return cause(county) != ""

    eventually(has_raised_later, "the alarm")
    assert county.state() == "REFUSED"
    raised = alarm(county)
    assert raised is not None
    assert {log.stream for log in raised.logs} == {"weighing"}
    upstream.may_answer.set()


def test_a_link_that_is_away_raises_no_alarm(platform: Make) -> None:
    clock = StandingClock()
    # Nobody listens on port 1.
    county = platform(COUNTY, streams=["weighing"], upstream="127.0.0.1:1", clock=clock)
    county.start()
    county["weighing"].write_many(10)
    county.wait_for_state("CONNECTING")
    clock.advance(1_000.0)
    assert (county.state(), list(county.status().alarms)) == ("CONNECTING", [])
