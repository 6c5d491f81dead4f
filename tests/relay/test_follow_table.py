"""How far each stream and log has come down, what is due again, what stalls: the tables alone, with made-up time."""

from datetime import UTC, datetime, timedelta

from services.common.reasons import Reason
from services.relay.follows import FollowState, FollowTable, StreamFollow
from services.relay.limits import FOLLOWED_LOGS_MAX, LinkTimes
from services.relay.stalls import STALLED_LOGS_MAX, Direction, Stall, StallAlarms, StallCause
from services.relay.standing import LogKey, Refusal

TIMES = LinkTimes(refused_seconds=30.0, stalled_seconds=60.0, answer_seconds=90.0)
NOON = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
KEY = LogKey("registry", "141000")
OTHER = LogKey("weighing", "141000")
MISMATCH = Refusal(Reason.HISTORY_MISMATCH, "two histories")
BEYOND = Refusal(Reason.BEYOND_LOG, "restored above")


def table(*, streams: tuple[str, ...] = ("registry",)) -> FollowTable:
    """Make a table whose streams are followed, with nothing held yet."""
    made = FollowTable(["registry", "weighing"], TIMES)
    made.offer(streams, {}, 0.0)
    for stream in streams:
        made.begin(stream, {}, 0.0)
    return made


def behind(one: FollowTable) -> bool:
    """Tell anew: to a type checker a property stays what it was."""
    return one.is_behind


def refused(one: FollowTable) -> bool:
    return one.is_refused


def test_streams_are_followed_as_the_upstream_offers_them() -> None:
    one = FollowTable(["registry", "weighing"], TIMES)
    assert {follow.state for follow in one.follows()} == {FollowState.NOT_FOLLOWED}
    one.offer(["registry"], {}, 0.0)
    assert behind(one)
    one.begin("registry", {"141000": 7}, 1.0)
    assert one.follows() == [
        StreamFollow("registry", FollowState.FOLLOWING, ""),
        StreamFollow("weighing", FollowState.NOT_FOLLOWED, ""),
    ]
    assert not behind(one)
    one.wait("registry", StallCause.OWN_SERVICE, "away")
    assert one.follows()[0] == StreamFollow("registry", FollowState.WAITING, "away")
    one.withdraw()
    assert {follow.state for follow in one.follows()} == {FollowState.NOT_FOLLOWED}
    # What fails after the link is down is no news.
    one.wait("registry", StallCause.OWN_SERVICE, "away")
    assert one.follows()[0].state is FollowState.NOT_FOLLOWED


def test_a_log_is_behind_until_everything_was_taken() -> None:
    one = table()
    one.end(KEY, 9, 1.0)
    assert behind(one)
    one.advance(KEY, 5, NOON, 2.0)
    assert behind(one)
    one.advance(KEY, 9, NOON, 3.0)
    assert not behind(one)
    (progress,) = one.progress()
    assert (progress.key, progress.through_sequence, progress.upstream_sequence) == (KEY, 9, 9)
    assert progress.last_batch_time == NOON


def test_what_the_handshake_announces_counts_too() -> None:
    one = table()
    one.begin("registry", {"141000": 5}, 0.0)
    one.offer(["registry"], {KEY: 8}, 10.0)
    assert behind(one)
    # Another upstream does not hold it at all.
    one.offer(["registry"], {}, 20.0)
    assert not behind(one)


def test_a_follow_that_falls_silent_is_begun_anew() -> None:
    one = table()
    one.begin("registry", {"141000": 5}, 0.0)
    one.offer(["registry"], {KEY: 8}, 10.0)
    assert one.due(99.0) == set()
    assert one.due(100.0) == {"registry"}
    assert one.due(101.0) == set()
    assert one.due(190.0) == {"registry"}


def test_a_refused_log_is_looked_at_again_after_a_while() -> None:
    one = table()
    assert one.refuse(KEY, MISMATCH, 0.0)
    assert not one.refuse(KEY, MISMATCH, 1.0)
    assert one.refuse(KEY, BEYOND, 2.0)
    assert refused(one)
    assert one.due(31.0) == set()
    assert one.due(32.0) == {"registry"}
    assert one.due(33.0) == set()


def test_a_refusal_is_over_when_the_log_advances_or_lacks_nothing() -> None:
    one = table()
    one.refuse(KEY, MISMATCH, 0.0)
    one.advance(KEY, 5, NOON, 1.0)
    assert not refused(one)
    one.refuse(KEY, BEYOND, 2.0)
    one.end(KEY, 6, 3.0)
    one.settle("registry", {"141000"})
    assert refused(one)
    one.end(KEY, 5, 4.0)
    one.settle("weighing", {"141000"})
    assert refused(one)
    one.settle("registry", {"141000"})
    assert not refused(one)


def test_what_does_not_come_down_stalls() -> None:
    one = table(streams=("registry", "weighing"))
    one.end(KEY, 9, 10.0)
    assert one.stalls(69.0, 0.0) == []
    assert one.stalls(71.0, 0.0) == [Stall(KEY, 10.0, StallCause.NO_ANSWER)]
    assert one.stalls(71.0, 30.0) == []
    one.advance(KEY, 8, NOON, 72.0)
    assert one.stalls(100.0, 0.0) == []
    one.wait("weighing", StallCause.UPSTREAM_SERVICE, "away")
    assert one.stalls(100.0, 0.0) == [Stall(LogKey("weighing", ""), 0.0, StallCause.UPSTREAM_SERVICE, "away")]
    # Refused is not stalled: it says itself why it does not come.
    one.refuse(KEY, MISMATCH, 101.0)
    assert [stall.key.stream for stall in one.stalls(1_000.0, 0.0)] == ["weighing"]


# Alarms


def test_an_alarm_is_raised_once_and_ended_once() -> None:
    alarms = StallAlarms()
    stall = Stall(KEY, 100.0, StallCause.NO_ANSWER)
    raised, ended = alarms.look(Direction.DOWNWARD, [stall], NOON, 170.0)
    assert raised is not None
    assert ended is None
    assert (raised.start_time, raised.logs[0].start_time) == (NOON, NOON - timedelta(seconds=70))
    later = NOON + timedelta(seconds=5)
    assert alarms.look(Direction.DOWNWARD, [stall, Stall(OTHER, 90.0, StallCause.UNKNOWN)], later, 175.0) == (
        None,
        None,
    )
    (standing,) = alarms.standing
    assert (standing.start_time, standing.log_count, [one.key for one in standing.logs]) == (NOON, 2, [OTHER, KEY])
    assert alarms.look(Direction.UPWARD, [], later, 175.0) == (None, None)
    assert alarms.look(Direction.DOWNWARD, [], later, 176.0) == (None, standing)
    assert alarms.look(Direction.DOWNWARD, [], later, 177.0) == (None, None)
    assert alarms.standing == []


def test_an_alarm_names_as_many_logs_as_fit_and_counts_them_all() -> None:
    alarms = StallAlarms()
    stalls = [
        Stall(LogKey("weighing", f"{140000 + number}"), 100.0 - number, StallCause.UNKNOWN) for number in range(40)
    ]
    raised, _ = alarms.look(Direction.UPWARD, stalls, NOON, 200.0)
    assert raised is not None
    assert (len(raised.logs), raised.log_count) == (STALLED_LOGS_MAX, 40)
    assert raised.logs[0].key.origin == "140039"


def test_an_upstream_cannot_make_us_remember_any_number_of_logs() -> None:
    one = table()
    for number in range(FOLLOWED_LOGS_MAX + 10):
        one.end(LogKey("registry", f"{number:06}"), 9, 1.0)
        one.refuse(LogKey("registry", f"{number:06}"), MISMATCH, 1.0)

    assert len(one.progress()) == FOLLOWED_LOGS_MAX
    # What is held is noted all the same.
    one.advance(LogKey("registry", "999999"), 3, NOON, 2.0)
    assert LogKey("registry", "999999") in [progress.key for progress in one.progress()]
