"""The window of one push: order, bounds, merging, lingering and handing back, without a wire."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.clock import SystemClock
from services.relay.limits import WAITING_BATCHES_MAX
from services.relay.window import Limits, PushWindow
from tests.relay.platforms import WAIT_SECONDS
from zhichao.journal.v1 import entry_pb2, journal_pb2

LIMITS = Limits(batch_records_max=8, batch_bytes_max=10_000, window_batches_max=3)


def batch(first: int, count: int, *, size: int = 10) -> journal_pb2.EntryBatch:
    entries = [f"{sequence}".encode().ljust(size, b".") for sequence in range(first, first + count)]
    return journal_pb2.EntryBatch(
        origin="141025", first_sequence=first, entries=entries, checkpoint=f"checkpoint at {first + count - 1}"
    )


def window(
    *,
    limits: Limits = LIMITS,
    linger_seconds: float = 60.0,
    turn_seconds: float = 60.0,
    is_wanted: Callable[[], bool] = lambda: False,
) -> PushWindow:
    return PushWindow(
        limits,
        SystemClock(),
        linger_seconds=linger_seconds,
        turn_seconds=turn_seconds,
        is_wanted_elsewhere=is_wanted,
    )


def test_batches_leave_in_order_while_the_window_has_room() -> None:
    one = window()
    assert one.offer(batch(1, 8))
    assert one.offer(batch(9, 8))
    taken = [one.take(), one.take()]
    assert [each.first_sequence for each in taken if each] == [1, 9]
    assert one.in_flight_count == 2


def test_small_batches_that_wait_travel_as_one_under_the_last_checkpoint() -> None:
    one = window()
    for first in range(1, 7):
        one.offer(batch(first, 1))
    taken = one.take()
    assert taken is not None
    assert (taken.first_sequence, len(taken.entries), taken.checkpoint) == (1, 6, "checkpoint at 6")


def test_a_batch_over_the_byte_limit_is_not_merged() -> None:
    one = window(limits=Limits(1_000, 0, 3))
    one.offer(batch(1, 1, size=20_000))
    one.offer(batch(2, 1, size=20_000))
    taken = one.take()
    assert taken is not None
    assert len(taken.entries) == 1


def test_a_full_window_holds_the_sender_and_full_waiting_room_the_reader() -> None:
    one = window()
    with ThreadPoolExecutor(2) as executor:
        for number in range(LIMITS.window_batches_max):
            assert one.offer(batch(1 + 8 * number, 8))
            assert one.take() is not None
        for number in range(LIMITS.window_batches_max, LIMITS.window_batches_max + WAITING_BATCHES_MAX):
            assert one.offer(batch(1 + 8 * number, 8))
        offering = executor.submit(one.offer, batch(41, 8))
        taking = executor.submit(one.take)
        assert not taking.done()
        assert not offering.done()
        one.acknowledge()
        taken = taking.result(WAIT_SECONDS)
        assert taken is not None
        assert taken.first_sequence == 25
        assert offering.result(WAIT_SECONDS)
        one.close()


def test_an_idle_push_ends_after_the_linger() -> None:
    one = window(linger_seconds=0.01)
    assert one.take() is None
    assert one.has_finished
    assert not one.is_closed
    assert not one.offer(batch(1, 1))


def test_a_push_does_not_end_while_an_answer_is_missing() -> None:
    one = window(linger_seconds=0.01)
    one.offer(batch(1, 1))
    one.take()
    with ThreadPoolExecutor(1) as executor:
        taking = executor.submit(one.take)
        with pytest.raises(TimeoutError):
            taking.result(0.1)
        one.acknowledge()
        assert taking.result(WAIT_SECONDS) is None


def test_a_lingering_push_ends_at_once_when_another_log_waits() -> None:
    wanted = threading.Event()
    one = window(is_wanted=wanted.is_set)
    one.offer(batch(1, 1))
    one.take()
    one.acknowledge()
    with ThreadPoolExecutor(1) as executor:
        taking = executor.submit(one.take)
        wanted.set()
        one.nudge()
        assert taking.result(WAIT_SECONDS) is None


def test_a_long_push_hands_back_after_its_turn_only_when_another_log_waits() -> None:
    wanted = threading.Event()
    one = window(turn_seconds=0.0, is_wanted=wanted.is_set)
    one.offer(batch(1, 8))
    one.offer(batch(9, 8))
    assert one.take() is not None
    assert one.take() is not None
    one.offer(batch(17, 8))
    wanted.set()
    assert one.take() is None


def test_every_turn_sends_at_least_one_batch() -> None:
    one = window(turn_seconds=0.0, is_wanted=lambda: True)
    one.offer(batch(1, 8))
    assert one.take() is not None


def test_whoever_waits_is_let_go_at_the_close() -> None:
    one = window()
    with ThreadPoolExecutor(2) as executor:
        taking = executor.submit(one.take)
        one.close()
        assert taking.result(WAIT_SECONDS) is None
        assert not executor.submit(one.offer, batch(1, 1)).result(WAIT_SECONDS)


def test_the_age_of_the_oldest_entry_is_known() -> None:
    written = datetime(2025, 3, 1, 4, 0, tzinfo=UTC)
    entry = entry_pb2.Entry(kind="k")
    entry.write_time.FromDatetime(written)
    one = window()
    one.offer(journal_pb2.EntryBatch(first_sequence=1, entries=[entry.SerializeToString()]))
    assert one.oldest_write_time() == written
    one.take()
    assert one.oldest_write_time() == written
    assert one.acknowledge() is None


@given(st.lists(st.integers(1, 8), min_size=1, max_size=40), st.integers(1, 8), st.integers(1, 4))
@settings(max_examples=50, deadline=None)
def test_nothing_is_lost_doubled_or_reordered(sizes: list[int], records_max: int, window_max: int) -> None:
    limits = Limits(records_max, 10_000, window_max)
    one = window(limits=limits)
    offered = []
    first = 1
    for size in sizes:
        offered.append(batch(first, min(size, records_max)))
        first += min(size, records_max)

    def read() -> None:
        for each in offered:
            assert one.offer(each)

    expected = [entry for each in offered for entry in each.entries]
    taken: list[journal_pb2.EntryBatch] = []
    with ThreadPoolExecutor(1) as executor:
        # The reader changes what it has offered: the check is against copies.
        reading = executor.submit(read)
        while sum(len(each.entries) for each in taken) < len(expected):
            each = one.take()
            assert each is not None
            assert one.in_flight_count <= window_max
            taken.append(each)
            one.acknowledge()
        reading.result(WAIT_SECONDS)
        one.close()
    assert [entry for each in taken for entry in each.entries] == expected
    assert all(len(each.entries) <= records_max for each in taken)
    assert all(each.checkpoint == f"checkpoint at {each.first_sequence + len(each.entries) - 1}" for each in taken)
