"""Whose turn it is, what is refused, and what state the link is in: the table alone, with made-up time."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.common.reasons import Reason
from services.relay.limits import LinkTimes
from services.relay.progress import LinkState, ProgressTable, Turn
from services.relay.stalls import StallCause
from services.relay.standing import LogKey, Place, Refusal, Standing

TIMES = LinkTimes(refused_seconds=30.0, stalled_seconds=60.0)
STREAMS = ("registry", "weighing")
NOON = datetime(2025, 3, 1, 4, 0, tzinfo=UTC)
KEY = LogKey("weighing", "141025")
MISMATCH = Refusal(Reason.HISTORY_MISMATCH, "two histories")


def root(size: int, history: str = "true") -> bytes:
    return f"{history} {size}".encode()


def standing(size: int, history: str = "true") -> Standing:
    return Standing(size, root(size, history), 100 * size, NOON + timedelta(seconds=size))


def own(size: int, *, is_recovering: bool = False) -> Standing:
    return replace(standing(size), is_own=True, is_recovering=is_recovering)


def table(*, local: int = 0, upstream: int | None = None, now: float = 0.0) -> ProgressTable:
    """Make a connected table with one log."""
    made = ProgressTable(["weighing"], TIMES, now, has_upstream=True)
    made.set_local("weighing", {KEY.origin: own(local)}, now, is_complete=True)
    if upstream is not None:
        made.connect({KEY: standing(upstream)}, STREAMS, now)
    return made


def test_nothing_is_taken_before_the_handshake() -> None:
    one = table(local=5)
    assert one.take(0.0) is None
    one.connect({}, STREAMS, 1.0)
    assert one.take(1.0) == Turn(KEY, Place.BEHIND, 1)


def test_a_log_goes_on_behind_what_the_upstream_holds() -> None:
    assert table(local=5, upstream=3).take(0.0) == Turn(KEY, Place.BEHIND, 4)


def test_a_current_log_has_no_turn() -> None:
    one = table(local=5, upstream=5)
    assert one.take(0.0) is None
    assert one.seconds_until_due(0.0) is None
    assert one.state(0.0) is LinkState.CURRENT


def test_a_log_is_pushed_by_one_sender_at_a_time() -> None:
    one = table(local=5, upstream=3)
    one.take(0.0)
    one.set_local("weighing", {KEY.origin: standing(9)}, 1.0, is_complete=False)
    assert one.take(1.0) is None
    one.give_back(KEY, 2.0)
    assert one.take(2.0) is not None


def test_the_first_gap_is_followed_at_once_and_repeated_ones_with_a_pause() -> None:
    one = table(local=50, upstream=30)
    one.take(0.0)
    one.continue_from(KEY, 11, 0.0, 1.0)
    assert one.take(0.0) == Turn(KEY, Place.BEHIND, 11)
    one.continue_from(KEY, 5, 0.0, 1.0)
    assert one.take(0.0) is None
    assert one.take(TIMES.backoff_seconds_min) == Turn(KEY, Place.BEHIND, 5)


def test_a_gap_beyond_our_own_end_is_looked_into() -> None:
    one = table(local=50, upstream=30)
    one.take(0.0)
    one.continue_from(KEY, 80, 0.0, 1.0)
    assert one.take(0.0) == Turn(KEY, Place.AHEAD, 80)
    # Until that is confirmed nothing is said: what we know of ourselves may be a moment old.
    assert one.state(0.0) is LinkState.CATCHING_UP
    one.refuse_ahead(KEY, 0.0)
    assert one.state(0.0) is LinkState.REFUSED
    assert one.take(TIMES.refused_seconds - 1) is None
    assert one.take(TIMES.refused_seconds) is not None


def test_being_ahead_is_over_once_we_hold_more() -> None:
    one = table(local=50, upstream=80)
    one.take(0.0)
    one.refuse_ahead(KEY, 0.0)
    one.set_local("weighing", {KEY.origin: own(81)}, 1.0, is_complete=False)
    assert one.state(1.0) is LinkState.CATCHING_UP
    assert one.take(1.0) == Turn(KEY, Place.BEHIND, 81)


def test_a_log_from_below_of_which_the_upstream_holds_more_is_waited_for() -> None:
    one = table(local=50)
    one.set_local("weighing", {KEY.origin: standing(50)}, 0.0, is_complete=False)
    one.connect({KEY: standing(80)}, STREAMS, 0.0)
    assert (one.take(0.0), one.state(1_000.0), one.stalls(1_000.0)) == (None, LinkState.CURRENT, [])
    one.set_local("weighing", {KEY.origin: standing(81)}, 1.0, is_complete=False)
    assert one.take(1.0) == Turn(KEY, Place.BEHIND, 81)


def test_a_restored_log_is_confirmed_before_it_is_pushed() -> None:
    one = table(local=50, upstream=30)
    one.set_local("weighing", {KEY.origin: own(50, is_recovering=True)}, 0.0, is_complete=False)
    turn = one.take(0.0)
    assert turn is not None
    assert (turn.place, turn.upstream) == (Place.UNCONFIRMED, standing(30))
    assert one.state(0.0) is LinkState.CATCHING_UP
    one.set_local("weighing", {KEY.origin: own(50)}, 0.0, is_complete=False)
    one.give_back(KEY, 0.0)
    assert one.take(0.0) == Turn(KEY, Place.BEHIND, 31)


def test_a_restored_log_of_a_stream_that_is_not_taken_is_confirmed_too() -> None:
    one = table(local=50)
    one.set_local("weighing", {KEY.origin: own(50, is_recovering=True)}, 0.0, is_complete=False)
    one.connect({}, ["registry"], 0.0)
    turn = one.take(0.0)
    assert turn is not None
    assert (turn.place, turn.upstream.size) == (Place.UNCONFIRMED, 0)


def test_an_older_upstream_may_lack_a_stream_that_came_with_this_release() -> None:
    one = table(local=5)
    one.connect({}, ["registry"], 0.0)
    assert one.state(0.0) is LinkState.REFUSED
    one.connect({}, ["registry"], 0.0, is_older=True)
    assert one.state(0.0) is LinkState.CURRENT
    (progress,) = one.progress(NOON)
    assert progress.refusal is not None
    assert progress.refusal.reason is Reason.NOT_CONFIGURED


def test_a_link_that_breaks_again_and_again_stalls_all_the_same() -> None:
    one = table(local=50, upstream=30)
    for now in range(0, 70, 5):
        one.disconnect(float(now))
        one.connect({KEY: standing(30)}, STREAMS, now + 4.0)
    assert [stall.key for stall in one.stalls(69.0)] == [KEY]
    # Away for long it is another matter: it has had no time since.
    one.disconnect(70.0)
    assert not one.is_down_for_long(100.0)
    assert one.is_down_for_long(130.0)
    one.connect({KEY: standing(30)}, STREAMS, 131.0)
    assert one.stalls(180.0) == []
    assert [stall.since for stall in one.stalls(192.0)] == [131.0]


def test_a_stall_names_what_kept_the_log_last() -> None:
    one = table(local=50, upstream=30)
    one.take(0.0)
    one.retry(KEY, 0.0, 0.5, StallCause.UPSTREAM_SERVICE, "the weighing service is away")
    (stall,) = one.stalls(61.0)
    assert (stall.cause, stall.detail) == (StallCause.UPSTREAM_SERVICE, "the weighing service is away")
    one.excuse(KEY, 61.0)
    assert one.stalls(120.0) == []
    one.acknowledge(KEY, standing(31), None, 130.0)
    (stall,) = one.stalls(200.0)
    assert (stall.cause, stall.detail) == (StallCause.UNKNOWN, "")


def test_a_refused_log_is_no_stall() -> None:
    one = table(local=50, upstream=30)
    one.take(0.0)
    one.refuse(KEY, MISMATCH, 0.0)
    assert (one.state(1_000.0), one.stalls(1_000.0)) == (LinkState.REFUSED, [])


def test_a_refused_log_stays_refused_while_it_is_tried_and_until_it_is_accepted() -> None:
    one = table(local=50, upstream=30)
    one.take(0.0)
    one.refuse(KEY, MISMATCH, 0.0)
    assert one.progress(NOON)[0].refusal == MISMATCH
    assert one.take(TIMES.refused_seconds) is not None
    assert one.state(TIMES.refused_seconds) is LinkState.REFUSED
    one.acknowledge(KEY, standing(40), None, 31.0)
    assert one.state(31.0) is LinkState.CATCHING_UP
    assert one.progress(NOON)[0].refusal is None


def test_equal_sizes_with_other_roots_are_two_histories() -> None:
    one = table(local=50)
    one.connect({KEY: standing(50, "false")}, STREAMS, 0.0)
    refusal = one.progress(NOON)[0].refusal
    assert refusal is not None
    assert refusal.reason is Reason.HISTORY_MISMATCH
    assert one.take(1_000.0) is None
    one.connect({KEY: standing(50)}, STREAMS, 1.0)
    assert one.state(1.0) is LinkState.CURRENT


def test_lag_is_counted_in_records_bytes_and_time() -> None:
    one = table(local=50, upstream=30)
    one.read(KEY, NOON + timedelta(seconds=31), 0.0)
    (lagging,) = one.progress(NOON + timedelta(seconds=40))
    assert (lagging.lag_records, lagging.lag_bytes, lagging.lag_milliseconds) == (20, 2_000, 9_000)
    one.acknowledge(KEY, standing(50), None, 1.0)
    (current,) = one.progress(NOON + timedelta(seconds=90))
    assert (current.lag_records, current.lag_bytes, current.lag_milliseconds) == (0, 0, 0)
    # A clock of the origin that runs ahead makes no negative age.
    one.set_local("weighing", {KEY.origin: standing(51)}, 2.0, is_complete=False)
    assert one.progress(NOON)[0].lag_milliseconds == 0


def test_a_link_stalls_when_nothing_is_accepted_for_long() -> None:
    one = table(local=50, upstream=30)
    assert one.state(TIMES.stalled_seconds) is LinkState.CATCHING_UP
    assert one.state(TIMES.stalled_seconds + 1) is LinkState.STALLED
    one.acknowledge(KEY, standing(40), None, 61.0)
    assert one.state(62.0) is LinkState.CATCHING_UP


def test_a_new_entry_on_a_quiet_link_does_not_count_as_stalled() -> None:
    one = table(local=50, upstream=50)
    one.set_local("weighing", {KEY.origin: standing(51)}, 5_000.0, is_complete=False)
    assert one.state(5_001.0) is LinkState.CATCHING_UP


def test_a_link_is_not_current_before_every_service_has_said_what_it_holds() -> None:
    one = ProgressTable(STREAMS, TIMES, 0.0, has_upstream=True)
    one.set_local("weighing", {}, 0.0, is_complete=True)
    one.connect({}, STREAMS, 0.0)
    assert one.state(1.0) is LinkState.CATCHING_UP
    assert one.state(TIMES.stalled_seconds + 1) is LinkState.STALLED
    one.set_local("registry", {}, 2.0, is_complete=True)
    assert one.state(2.0) is LinkState.CURRENT


def test_a_log_that_is_gone_is_forgotten() -> None:
    one = table(local=5, upstream=3)
    one.set_local("weighing", {"141026": standing(1)}, 1.0, is_complete=True)
    assert [progress.key.origin for progress in one.progress(NOON)] == ["141026"]
    assert one.take(1.0) == Turn(LogKey("weighing", "141026"), Place.BEHIND, 1)


class TurnsMachine(RuleBasedStateMachine):
    """Logs grow, senders come and go, pushes end in any way: turns stay single, fair, and never wrong."""

    ORIGINS = tuple(f"1410{number}" for number in range(21, 27))

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.local = dict.fromkeys(self.ORIGINS, 1)
        self.upstream = dict.fromkeys(self.ORIGINS, 0)
        self.taken: dict[LogKey, int] = {}
        # How often other logs were taken while this one was due.
        self.passed_over = dict.fromkeys(self.ORIGINS, 0)
        self.not_before = dict.fromkeys(self.ORIGINS, 0.0)
        self.table = ProgressTable(["weighing"], TIMES, 0.0, has_upstream=True)
        self.tell()
        self.table.connect({}, STREAMS, self.now)

    def tell(self) -> None:
        standings = {origin: standing(size) for origin, size in self.local.items()}
        self.table.set_local("weighing", standings, self.now, is_complete=True)

    @rule(origin=st.sampled_from(ORIGINS), count=st.integers(1, 5))
    def grow(self, origin: str, count: int) -> None:
        self.local[origin] += count
        self.tell()

    @rule(seconds=st.integers(0, 40))
    def pass_time(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def take(self) -> None:
        turn = self.table.take(self.now)
        due = {
            origin
            for origin in self.ORIGINS
            if LogKey("weighing", origin) not in self.taken
            and self.local[origin] > self.upstream[origin]
            and self.not_before[origin] <= self.now
        }
        assert (turn is None) == (not due)
        if turn is not None:
            assert turn.key not in self.taken
            assert turn.key.origin in due
            assert turn.first_sequence == self.upstream[turn.key.origin] + 1
            self.taken[turn.key] = turn.first_sequence
            self.passed_over[turn.key.origin] = 0
            for origin in due - {turn.key.origin}:
                self.passed_over[origin] += 1

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.taken)))
        if self.upstream[key.origin] < self.local[key.origin]:
            size = data.draw(st.integers(self.upstream[key.origin] + 1, self.local[key.origin]))
            self.upstream[key.origin] = size
            self.table.acknowledge(key, standing(size), None, self.now)

    @precondition(lambda self: self.taken)
    @rule(data=st.data(), how=st.sampled_from(["give back", "retry", "refuse", "gap"]), jitter=st.floats(0.0, 1.0))
    def end_turn(self, data: st.DataObject, how: str, jitter: float) -> None:
        key = data.draw(st.sampled_from(sorted(self.taken)))
        del self.taken[key]
        if how == "give back":
            self.table.give_back(key, self.now)
        elif how == "retry":
            self.table.retry(key, self.now, jitter)
        elif how == "refuse":
            self.table.refuse(key, MISMATCH, self.now)
        else:
            sequence = data.draw(st.integers(1, self.local[key.origin] + 1))
            self.upstream[key.origin] = sequence - 1
            self.table.continue_from(key, sequence, self.now, jitter)
        # The table alone knows the pause; it is read back from when the log is due, never later than allowed.
        row = self.table._rows[key]
        assert row.not_before <= self.now + max(TIMES.refused_seconds, TIMES.backoff_seconds_max)
        self.not_before[key.origin] = row.not_before
        self.passed_over[key.origin] = 0

    @rule()
    def renew(self) -> None:
        self.table.connect(
            {LogKey("weighing", origin): standing(size) for origin, size in self.upstream.items()}, STREAMS, self.now
        )

    @invariant()
    def nobody_is_passed_over_for_long(self) -> None:
        # Each of the others may come once before, and once more for having been given back meanwhile.
        assert all(count <= 2 * len(self.ORIGINS) for count in self.passed_over.values())

    @invariant()
    def what_is_told_is_what_is(self) -> None:
        told = {one.key.origin: (one.local_size, one.upstream_size) for one in self.table.progress(NOON)}
        assert told == {origin: (self.local[origin], self.upstream[origin]) for origin in self.ORIGINS}

    @invariant()
    def the_sets_agree_with_the_rows(self) -> None:
        rows = self.table._rows
        lagging = {key for key, row in rows.items() if row.place is Place.BEHIND}
        assert self.table._lagging == lagging
        assert self.table._waiting == lagging - set(self.taken)
        assert self.table._refused == {one.key for one in self.table.progress(NOON) if one.refusal}


TurnsMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestTurns = TurnsMachine.TestCase
