"""The cap on what is pushed: its text, its hours, and how the logs of a link share what it leaves."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.china_time import CHINA_TIME
from services.common.settings import SettingsError, load
from services.relay.bandwidth import BYTES_PER_SECOND_MIN, UNLIMITED, parse_schedule
from services.relay.config import RelaySettings
from services.relay.pacing import ASK_SECONDS_MAX, ASKER_SECONDS_MAX, LogPace, Pacer, batch_records
from services.relay.standing import LogKey
from services.relay.window import Limits, PushWindow
from tests.relay.clocks import NOON, StandingClock
from tests.relay.conftest import CITY, COUNTY
from tests.relay.platforms import WAIT_SECONDS, Platform, assert_same_log, eventually
from zhichao.journal.v1 import journal_pb2
from zhichao.relay.v1 import relay_pb2

KIB = 1024
DAY_AND_NIGHT = "08:00-20:00=256KiB/s,20:00-08:00=unlimited"
BIG = LogKey("weighing", "141025")
OTHER = LogKey("weighing", "141026")
SMALL = LogKey("registry", "141025")


def at(hour: int, minute: int = 0, *, day: int = 23) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=CHINA_TIME)


# What a person writes


@pytest.mark.parametrize(
    ("text", "caps"),
    [
        (DAY_AND_NIGHT, {(7, 59): None, (8, 0): 256 * KIB, (19, 59): 256 * KIB, (20, 0): None, (0, 0): None}),
        ("1MiB/s", {(0, 0): KIB**2, (23, 59): KIB**2}),
        ("unlimited", {(12, 0): None}),
        ("22:30-06:15=paused", {(22, 29): None, (22, 30): 0, (0, 0): 0, (6, 14): 0, (6, 15): None}),
        ("00:00-24:00=2Mbit/s", {(0, 0): 250_000, (23, 59): 250_000}),
        ("20:00-00:00=1.5KiB/s", {(19, 59): None, (20, 0): 1_536, (23, 59): 1_536, (0, 0): None}),
        (" 08:00 - 09:00 = 64 KiB/s , 09:00-10:00=16kbit/s", {(8, 0): 65_536, (9, 0): 2_000}),
    ],
)
def test_a_schedule_has_one_cap_for_each_minute(text: str, caps: dict[tuple[int, int], int | None]) -> None:
    schedule = parse_schedule(text)
    assert {moment: schedule.bytes_per_second(at(*moment)) for moment in caps} == caps


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no rate"),
        ("fast", "'fast' is no rate: write for example 256KiB/s"),
        ("256", "'256' is no rate"),
        ("256KB/s", "'256KB/s' has no known unit: it must be one of B/s, KiB/s"),
        ("-5KiB/s", "'-5KiB/s' is no rate"),
        ("0KiB/s", "'0KiB/s' is less than 1024 B/s; to send nothing write paused"),
        ("1023B/s", "less than 1024 B/s"),
        ("999999999GiB/s", "for no bound write unlimited"),
        ("08:00=1KiB/s", "'08:00=1KiB/s' must be HH:MM-HH:MM=rate"),
        ("08:00-20:00", "no rate"),
        ("08:00-20:00=1KiB/s,1KiB/s", "'1KiB/s' must be HH:MM-HH:MM=rate"),
        ("8:00-20:00=1KiB/s", "'8:00' is no time of day"),
        ("08:00-24:01=1KiB/s", "'24:01' is no time of day"),
        ("24:00-08:00=1KiB/s", "'24:00' is no time of day"),
        ("08:60-09:00=1KiB/s", "'08:60' is no time of day"),
        ("08:00-08:00=1KiB/s", "begins and ends at the same time; for the whole day write the rate alone"),
        ("08:00-12:00=1KiB/s,11:30-13:00=2KiB/s", "two spans hold 11:30: 08:00-12:00 and 11:30-13:00"),
        ("22:00-06:00=1KiB/s,05:00-07:00=2KiB/s", "two spans hold 05:00: 00:00-06:00 and 05:00-07:00"),
        (",".join(f"{hour % 24:02}:00-{hour % 24:02}:30=1KiB/s" for hour in range(25)), "at most 24 spans, not 25"),
        ("x" * 1_001, "at most 1000 characters"),
    ],
)
def test_a_bad_schedule_is_refused_with_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        parse_schedule(text)
    assert message in str(refused.value)


def test_the_setting_says_what_is_wrong_with_it() -> None:
    with pytest.raises(SettingsError, match="ZHICHAO_RELAY_BANDWIDTH: '8:00' is no time of day"):
        load(RelaySettings, {"ZHICHAO_RELAY_BANDWIDTH": "8:00-20:00=1MiB/s"})
    assert load(RelaySettings, {}).bandwidth_schedule() == UNLIMITED
    assert load(RelaySettings, {"ZHICHAO_RELAY_BANDWIDTH": DAY_AND_NIGHT}).bandwidth_schedule() == parse_schedule(
        DAY_AND_NIGHT
    )


@given(st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)))  # noqa: DTZ001 - made aware below
def test_the_cap_stays_the_same_until_its_next_change(moment: datetime) -> None:
    schedule = parse_schedule("06:00-08:00=1MiB/s,08:00-20:00=256KiB/s,20:00-02:00=1MiB/s")
    now = moment.replace(tzinfo=UTC)
    change = schedule.change_time(now)
    assert change is not None
    assert now < change <= now + timedelta(days=1)
    cap = schedule.bytes_per_second(now)
    assert schedule.bytes_per_second(change) != cap
    assert schedule.bytes_per_second(change - timedelta(minutes=1)) == cap or change - now < timedelta(minutes=1)


@pytest.mark.parametrize("text", ["256KiB/s", "unlimited", "00:00-12:00=1KiB/s,12:00-24:00=1KiB/s"])
def test_a_cap_that_is_always_the_same_never_changes(text: str) -> None:
    assert parse_schedule(text).change_time(NOON) is None


# How the logs share it


def pacer(text: str = "100KiB/s", clock: StandingClock | None = None) -> tuple[Pacer, StandingClock]:
    clock = clock or StandingClock()
    return Pacer(parse_schedule(text), clock), clock


def run(paced: Pacer, clock: StandingClock, logs: dict[LogKey, Callable[[], int]], seconds: float) -> dict[LogKey, int]:
    """Let logs that always have something to send ask as often as they are told; return what each sent."""
    sent = dict.fromkeys(logs, 0)
    due = dict.fromkeys(logs, clock.monotonic())
    waiting = {key: size() for key, size in logs.items()}
    ends_at = clock.monotonic() + seconds
    while due[key := min(due, key=lambda one: due[one])] < ends_at:
        clock.advance(max(due[key] - clock.monotonic(), 0.0))
        pause = paced.ask(key, waiting[key])
        assert pause <= ASK_SECONDS_MAX
        due[key] = clock.monotonic() + pause
        if not pause:
            sent[key] += waiting[key]
            waiting[key] = logs[key]()
    return sent


def test_a_link_keeps_to_its_cap() -> None:
    paced, clock = pacer()
    sent = run(paced, clock, {BIG: lambda: 30 * KIB}, 60)
    # Within the burst and one batch.
    assert abs(sent[BIG] - 60 * 100 * KIB) <= 130 * KIB
    assert paced.pushed_bytes == sent[BIG]


def test_a_batch_larger_than_the_budget_goes_and_is_paid_for_after() -> None:
    paced, clock = pacer()
    assert paced.ask(BIG, 10) > 0
    clock.advance(1)
    assert paced.ask(BIG, 1_000 * KIB) == 0
    clock.advance(8.9)
    assert paced.ask(BIG, 1) > 0
    clock.advance(0.2)
    assert paced.ask(BIG, 1) == 0


def test_logs_share_evenly_whatever_the_size_of_their_batches() -> None:
    paced, clock = pacer()
    sent = run(paced, clock, {BIG: lambda: 200 * KIB, OTHER: lambda: 7 * KIB}, 600)
    assert abs(sent[BIG] - sent[OTHER]) <= 2 * 200 * KIB


def test_a_small_entry_goes_before_the_next_batch_of_a_backlog() -> None:
    paced, clock = pacer()
    run(paced, clock, {BIG: lambda: 100 * KIB, OTHER: lambda: 100 * KIB}, 30)
    assert paced.ask(BIG, 100 * KIB) > 0
    assert paced.ask(OTHER, 100 * KIB) > 0
    assert paced.ask(SMALL, 400) > 0
    clock.advance(ASK_SECONDS_MAX)
    assert paced.ask(BIG, 100 * KIB) > 0
    assert paced.ask(OTHER, 100 * KIB) > 0
    assert paced.ask(SMALL, 400) == 0


def test_a_log_that_asks_no_more_holds_nobody_up() -> None:
    paced, clock = pacer()
    assert paced.ask(BIG, KIB) > 0
    assert paced.ask(OTHER, KIB) > 0
    clock.advance(ASKER_SECONDS_MAX)
    assert paced.ask(OTHER, KIB) > 0
    clock.advance(0.1)
    assert paced.ask(OTHER, KIB) == 0
    assert paced.ask(BIG, KIB) == 0
    assert paced.ask(BIG, KIB) == 0
    paced.ask(BIG, 200 * KIB)
    assert paced.ask(BIG, KIB) > 0
    assert paced.ask(OTHER, KIB) > 0
    paced.withdraw(BIG)
    clock.advance(3)
    assert paced.ask(OTHER, KIB) == 0


def test_the_cap_follows_the_hour() -> None:
    clock = StandingClock(at(7, 59).astimezone(UTC))
    paced, _ = pacer(DAY_AND_NIGHT, clock)
    assert paced.ask(BIG, 10**9) == 0
    clock.advance(60)
    assert paced.ask(BIG, 1) == 0  # the budget of the quiet second
    assert paced.ask(BIG, 10**9) == 0
    assert paced.ask(BIG, 1) > 0
    status = paced.status()
    assert status is not None
    assert (status.bytes_per_second, status.change_time, status.is_waiting) == (256 * KIB, at(20), True)
    clock.advance(12 * 3600)
    assert paced.ask(BIG, 10**9) == 0
    assert paced.batch_bytes_max is None


def test_nothing_goes_while_it_is_paused() -> None:
    paced, clock = pacer("00:00-18:00=paused")
    for _ in range(6 * 60):
        assert paced.ask(SMALL, 1) == ASK_SECONDS_MAX
        clock.advance(60)
    assert paced.ask(SMALL, 1) == 0


def test_without_a_schedule_everything_goes() -> None:
    paced = Pacer(UNLIMITED, StandingClock())
    assert [paced.ask(BIG, 10**9) for _ in range(3)] == [0, 0, 0]
    assert (paced.status(), paced.batch_bytes_max, paced.pushed_bytes) == (None, None, 3 * 10**9)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=2, max_size=6))
def test_nobody_starves(kib: list[int]) -> None:
    paced, clock = pacer()
    logs = {LogKey("weighing", f"{140000 + number}"): (lambda size=size: size * KIB) for number, size in enumerate(kib)}
    sent = run(paced, clock, logs, 60)  # type: ignore[arg-type]  # lambdas with a default are callables without arguments
    assert max(sent.values()) - min(sent.values()) <= 2 * 50 * KIB
    assert sum(sent.values()) <= (60 + 1) * 100 * KIB + 50 * KIB


def test_batches_are_read_smaller_where_they_can_be() -> None:
    assert batch_records(None, 400, 1_024) == 1_024
    assert batch_records(256 * KIB, 400, 1_024) == 655
    assert batch_records(16 * KIB, 400, 1_024) == 40
    assert batch_records(16 * KIB, 10**6, 1_024) == 1
    assert batch_records(16 * KIB, 0, 1_024) == 1_024
    assert pacer(f"{BYTES_PER_SECOND_MIN}B/s")[0].batch_bytes_max == 16 * KIB


# In a push


def batch(first: int, size: int) -> journal_pb2.EntryBatch:
    return journal_pb2.EntryBatch(origin=BIG.origin, first_sequence=first, entries=[b"." * size], checkpoint="…")


def paced_window(paced: Pacer, clock: StandingClock) -> PushWindow:
    return PushWindow(
        Limits(1_024, 4 * KIB**2, 8),
        clock,
        linger_seconds=60.0,
        turn_seconds=60.0,
        is_wanted_elsewhere=lambda: False,
        pace=LogPace(paced, BIG),
    )


def test_a_window_waits_for_the_cap_and_grows_meanwhile() -> None:
    paced, clock = pacer()
    window = paced_window(paced, clock)
    window.offer(batch(1, 1_000))
    with ThreadPoolExecutor(1) as executor:
        taking = executor.submit(window.take)
        eventually(lambda: window.is_paced, "waiting for the cap")
        window.offer(batch(2, 1_000))
        assert not taking.done()
        clock.advance(1)
        window.nudge()
        taken = taking.result(WAIT_SECONDS)
    assert taken is not None
    assert len(taken.entries) == 2
    assert not window.is_paced
    assert window.in_flight_count == 1


def test_a_window_that_waits_for_the_cap_can_be_finished() -> None:
    paced, clock = pacer()
    window = paced_window(paced, clock)
    window.offer(batch(1, 1_000))
    with ThreadPoolExecutor(1) as executor:
        taking = executor.submit(window.take)
        eventually(lambda: window.is_paced, "waiting for the cap")
        window.finish()
        assert taking.result(WAIT_SECONDS) is None
    assert not window.is_paced
    status = paced.status()
    assert status is not None
    assert not status.is_waiting


# On a link


def test_a_backlog_arrives_under_a_cap(platform: Callable[..., Platform]) -> None:
    city = platform(CITY)
    city.start()
    county = platform(COUNTY, upstream=city.address, bandwidth="1MiB/s")
    county.start_services()
    county["weighing"].write_many(3_000, size=300)
    county["registry"].write(b"one entry")
    county.start_relay()
    assert_same_log(city["registry"], county["registry"], COUNTY)
    assert_same_log(city["weighing"], county["weighing"], COUNTY)
    status = county.status()
    assert status.bandwidth.bytes_per_second_max == KIB**2
    assert status.pushed_bytes >= 3_000 * 300


def test_what_waits_for_the_cap_is_no_stall(platform: Callable[..., Platform]) -> None:
    city = platform(CITY, streams=["weighing"])
    city.start()
    clock = StandingClock()
    county = platform(COUNTY, streams=["weighing"], upstream=city.address, bandwidth="paused", clock=clock)
    county.start()
    size = county["weighing"].write_many(10)
    eventually(lambda: county.status().bandwidth.is_waiting, "waiting for the cap")
    eventually(lambda: (one := county.progress("weighing", COUNTY)) and one.local_size == size, "the entries")
    eventually(lambda: county.status().follows[0].state == relay_pb2.FOLLOW_STATE_FOLLOWING, "the follow")
    clock.advance(2.0)
    status = county.status()
    assert (county.state(), status.bandwidth.bytes_per_second_max, list(status.alarms)) == ("CATCHING_UP", 0, [])
    assert status.progress[0].upstream_size == 0
