"""One step ahead: order, bounds, errors, and a source that is silent for ever."""

import threading
from collections.abc import Iterator

import pytest

from services.journal.lookahead import Lookahead
from tests.journal.journals import WAIT_SECONDS, eventually


def take_all(ahead: Lookahead[int, int]) -> list[int]:
    taken = []
    while (result := ahead.take()) is not None:
        taken.append(result)
    return taken


def test_results_come_in_order() -> None:
    ahead = Lookahead("ahead", iter(range(1, 100)), lambda number: number * 2)
    ahead.start()
    assert take_all(ahead) == [number * 2 for number in range(1, 100)]
    assert ahead.take() is None


def test_an_error_comes_after_the_results_before_it() -> None:
    ahead = Lookahead("ahead", iter([1, 2, 0, 3]), lambda number: 6 // number)
    ahead.start()
    assert [ahead.take(), ahead.take()] == [6, 3]
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            ahead.take()


def test_an_error_of_the_source_is_told() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise ConnectionError("the peer is gone")

    ahead = Lookahead("ahead", source(), int)
    ahead.start()
    assert ahead.take() == 1
    with pytest.raises(ConnectionError):
        ahead.take()


def test_it_is_one_result_ahead_and_no_more() -> None:
    drawn: list[int] = []

    def source() -> Iterator[int]:
        for number in range(1, 10):
            drawn.append(number)
            yield number

    ahead = Lookahead("ahead", source(), int)
    ahead.start()
    eventually(lambda: ahead._waiting, "the first result waits")
    assert drawn == [1]
    assert ahead.take() == 1
    eventually(lambda: ahead._waiting, "the second result waits")
    assert drawn == [1, 2]
    ahead.stop()
    ahead._thread.join(WAIT_SECONDS)
    assert not ahead._thread.is_alive()
    assert drawn == [1, 2]


def test_a_run_ends_where_the_next_result_does_not_continue_it() -> None:
    ahead = Lookahead("ahead", iter([1, 2, 3, 7, 8, 1]), int, lambda waiting: True)
    ahead.start()
    ahead._thread.join(WAIT_SECONDS)
    runs = []
    while run := ahead.take_run(lambda number, following: following == number + 1):
        runs.append(run)
    assert runs == [[1, 2, 3], [7, 8], [1]]


def test_a_run_does_not_wait_for_more_than_its_first_result() -> None:
    source = Silent()
    ahead = Lookahead("ahead", source, int, lambda waiting: True)
    ahead.start()
    assert source.is_waited_for.wait(WAIT_SECONDS)
    assert ahead.take_run(lambda number, following: True) == [1]
    source.release.set()
    assert ahead.take_run(lambda number, following: True) == []


def test_an_error_comes_after_the_run_before_it() -> None:
    ahead = Lookahead("ahead", iter([1, 2, 0, 3]), lambda number: 6 // number, lambda waiting: True)
    ahead.start()
    ahead._thread.join(WAIT_SECONDS)
    assert ahead.take_run(lambda number, following: True) == [6, 3]
    with pytest.raises(ZeroDivisionError):
        ahead.take_run(lambda number, following: True)


def test_no_more_is_made_than_there_is_room_for() -> None:
    drawn: list[int] = []

    def source() -> Iterator[int]:
        for number in range(1, 10):
            drawn.append(number)
            yield number

    ahead = Lookahead("ahead", source(), int, lambda waiting: sum(waiting) < 5)
    ahead.start()
    eventually(lambda: len(ahead._waiting) == 3, "three results wait")
    assert drawn == [1, 2, 3]
    assert ahead.take() == 1
    assert ahead.take_run(lambda number, following: True)[:2] == [2, 3]
    assert take_all(ahead)[-1] == 9


class Silent(Iterator[int]):
    """A source that gives one item and then nothing until it is released."""

    def __init__(self) -> None:
        self.is_waited_for = threading.Event()
        self.release = threading.Event()
        self._given = False

    def __next__(self) -> int:
        if not self._given:
            self._given = True
            return 1
        self.is_waited_for.set()
        assert self.release.wait(WAIT_SECONDS)
        raise StopIteration


def test_stopping_does_not_wait_for_a_silent_source() -> None:
    source = Silent()
    ahead = Lookahead("ahead", source, int)
    ahead.start()
    assert ahead.take() == 1
    assert source.is_waited_for.wait(WAIT_SECONDS)
    taken: list[int | None] = []
    taker = threading.Thread(target=lambda: taken.append(ahead.take()))
    taker.start()
    ahead.stop()
    taker.join(WAIT_SECONDS)
    assert taken == [None]
    # The thread ends with its source.
    source.release.set()
    ahead._thread.join(WAIT_SECONDS)
    assert not ahead._thread.is_alive()


def test_nothing_is_begun_after_a_stop() -> None:
    ahead = Lookahead("ahead", iter([1]), int)
    ahead.stop()
    ahead.start()
    assert ahead.take() is None
