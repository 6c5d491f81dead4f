"""Group commit: order, bounds, isolation of bad items, and the end."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack

import pytest

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.journal import group_commit
from services.journal.group_commit import COMMIT_RECORDS_MAX, WAITING_RECORDS_MAX, GroupCommit, Sequel
from tests.journal.journals import WAIT_SECONDS, eventually

Committed = list[tuple[int, ...]]


class Recorder:
    """A database of numbers. Commits wait while the gate is closed; some numbers make them fail."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.is_committing = threading.Event()
        self.commits: Committed = []
        self.plans: Committed = []
        self.threads: list[str] = []
        self.error: Exception | None = None
        self.after_error: Callable[[], None] = lambda: None

    def plan(self, batches: Sequence[Sequence[int]]) -> Sequence[Sequence[int]]:
        items = _items(batches)
        self.plans.append(items)
        if -1 in items:
            raise ValueError("a number that cannot be planned")
        return batches

    def commit(self, batches: Sequence[Sequence[int]]) -> list[list[str]]:
        plan = _items(batches)
        self.is_committing.set()
        assert self.gate.wait(WAIT_SECONDS)
        if self.error is not None:
            error = self.error
            self.after_error()
            raise error
        if -2 in plan:
            raise ValueError("a number that cannot be committed")
        if -3 in plan:
            raise ServiceError(Reason.ENTRY_TOO_LARGE, "a number that is too large")
        if -4 in plan:
            return [["one too few"]] * (len(batches) - 1)
        self.commits.append(plan)
        self.threads.append(threading.current_thread().name)
        return [[str(item) for item in batch] for batch in batches]


def _items(batches: Sequence[Sequence[int]]) -> tuple[int, ...]:
    return tuple(item for batch in batches for item in batch)


Committer = GroupCommit[Sequence[int], Sequence[Sequence[int]], list[str]]
Make = Callable[[Recorder], Committer]


@pytest.fixture(autouse=True)
def _two_threads(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Leave no group to the planning thread, however small, so that tests see both threads at work."""
    if "inline" not in request.function.__name__:
        monkeypatch.setattr(group_commit, "INLINE_RECORDS_MAX", 0)


@pytest.fixture
def make() -> Iterator[Make]:
    with ExitStack() as stack:

        def start(recorder: Recorder) -> Committer:
            committer: Committer = GroupCommit("test", recorder.plan, recorder.commit)
            committer.start()
            stack.callback(committer.stop, WAIT_SECONDS)
            stack.callback(recorder.gate.set)
            return committer

        yield start


def closed(recorder: Recorder, committer: Committer) -> "Future[list[str]]":
    """Submit one item and wait until its commit stands before the closed gate."""
    recorder.gate.clear()
    first = committer.submit([0])
    assert recorder.is_committing.wait(WAIT_SECONDS)
    return first


def test_small_groups_committed_inline_keep_their_order_and_their_errors(make: Make) -> None:
    recorder = Recorder()
    committer = make(recorder)
    futures = [committer.submit([number]) for number in range(100)]
    assert [future.result(WAIT_SECONDS) for future in futures] == [[str(number)] for number in range(100)]
    bad = committer.submit([-2])
    with pytest.raises(ValueError, match="cannot be committed"):
        bad.result(WAIT_SECONDS)
    large = committer.submit(list(range(200, 300)))
    small = committer.submit([300])
    assert (len(large.result(WAIT_SECONDS)), small.result(WAIT_SECONDS)) == (100, ["300"])
    assert [item for commit in recorder.commits for item in commit] == [*range(100), *range(200, 301)]


def test_who_waits_anyway_commits_a_lone_small_batch_inline(make: Make) -> None:
    recorder = Recorder()
    committer = make(recorder)
    assert committer.run([1, 2]) == ["1", "2"]
    assert recorder.threads == [threading.current_thread().name]
    for poison, error in ((-1, ValueError), (-2, ValueError), (-3, ServiceError), (-4, AssertionError)):
        with pytest.raises(error):
            committer.run([poison])
    assert committer.run([0] * (group_commit.INLINE_RECORDS_MAX + 1))[0] == "0"
    assert recorder.threads[1] != threading.current_thread().name
    eventually(lambda: committer.run([3]) == ["3"] and recorder.threads[-1] == recorder.threads[0], "inline again")


def test_what_comes_while_one_commits_inline_waits_and_goes_together(make: Make) -> None:
    recorder = Recorder()
    committer = make(recorder)
    recorder.gate.clear()
    results: list[list[str]] = []
    leader = threading.Thread(target=lambda: results.append(committer.run([1])), name="leader")
    leader.start()
    assert recorder.is_committing.wait(WAIT_SECONDS)
    waiting = [threading.Thread(target=lambda n=n: results.append(committer.run([n]))) for n in range(2, 6)]
    for thread in waiting:
        thread.start()
    eventually(lambda: committer.waiting_records == 4, "all others wait")
    # Nothing is planned beside it: a plan holds only after the one before.
    assert recorder.plans == [(1,)]
    recorder.gate.set()
    for thread in [leader, *waiting]:
        thread.join(WAIT_SECONDS)
    assert sorted(results) == [[str(number)] for number in range(1, 6)]
    assert (recorder.commits[0], len(recorder.commits)) == ((1,), 2)
    assert recorder.threads[0] == "leader"


def test_stopping_lets_an_inline_commit_end(make: Make) -> None:
    recorder = Recorder()
    committer = make(recorder)
    recorder.gate.clear()
    results: list[list[str]] = []
    leader = threading.Thread(target=lambda: results.append(committer.run([1])))
    leader.start()
    assert recorder.is_committing.wait(WAIT_SECONDS)
    stopping = threading.Thread(target=committer.stop, args=(WAIT_SECONDS,))
    stopping.start()
    recorder.gate.set()
    leader.join(WAIT_SECONDS)
    stopping.join(WAIT_SECONDS)
    assert results == [["1"]]
    with pytest.raises(ServiceError) as refusal:
        committer.run([2])
    assert refusal.value.reason is Reason.SHUTTING_DOWN


def test_a_lone_submission_is_committed_at_once(make: Make) -> None:
    recorder = Recorder()
    assert make(recorder).submit([1, 2, 3]).result(WAIT_SECONDS) == ["1", "2", "3"]
    assert recorder.commits == [(1, 2, 3)]


def test_what_comes_while_a_commit_runs_goes_together_and_in_order(make: Make) -> None:
    recorder = Recorder()
    committer = make(recorder)
    first = closed(recorder, committer)
    # One group is planned while the first commits; what comes after that waits for the next plan.
    second = committer.submit([1])
    eventually(lambda: len(recorder.plans) == 2, "the second group is planned")
    third = committer.submit([2])
    eventually(lambda: len(recorder.plans) == 3, "the third group is planned and waits")
    futures = [committer.submit([number, -number - 10]) for number in range(3, 20)]
    recorder.gate.set()
    assert [first.result(WAIT_SECONDS), second.result(WAIT_SECONDS), third.result(WAIT_SECONDS)] == [
        ["0"],
        ["1"],
        ["2"],
    ]
    assert [future.result(WAIT_SECONDS) for future in futures] == [
        [str(number), str(-number - 10)] for number in range(3, 20)
    ]
    assert recorder.commits[3:] == [tuple(item for number in range(3, 20) for item in (number, -number - 10))]


def test_no_transaction_is_larger_than_the_bound_unless_one_submission_is(make: Make) -> None:
    recorder = Recorder()
    committer = make(recorder)
    closed(recorder, committer)
    sizes = [COMMIT_RECORDS_MAX - 1, 1, 1, COMMIT_RECORDS_MAX, COMMIT_RECORDS_MAX + 5, 2]
    futures = [committer.submit([1] * size) for size in sizes]
    recorder.gate.set()
    assert [len(future.result(WAIT_SECONDS)) for future in futures] == sizes
    assert (
        max(len(commit) for commit in recorder.commits if len(commit) != COMMIT_RECORDS_MAX + 5) <= COMMIT_RECORDS_MAX
    )
    assert sum(map(len, recorder.commits)) == sum(sizes) + 1


def test_a_full_queue_makes_submitters_wait(make: Make) -> None:
    recorder = Recorder()
    committer = make(recorder)
    closed(recorder, committer)
    committer.submit([1])
    eventually(lambda: len(recorder.plans) == 2, "one group is planned")
    committer.submit([1])
    eventually(lambda: len(recorder.plans) == 3, "another is planned and waits")
    committer.submit([1] * WAITING_RECORDS_MAX)
    assert committer.waiting_records == WAITING_RECORDS_MAX
    late: list[Future[list[str]]] = []
    waiting = threading.Thread(target=lambda: late.append(committer.submit([7])))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    recorder.gate.set()
    waiting.join(WAIT_SECONDS)
    assert late[0].result(WAIT_SECONDS) == ["7"]
    eventually(lambda: committer.waiting_records == 0, "nothing waits any more")


def test_a_queue_that_stays_full_refuses(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "SUBMIT_SECONDS_MAX", 0.01)
    recorder = Recorder()
    committer = make(recorder)
    closed(recorder, committer)
    for number in range(3):
        eventually(lambda count=number: len(recorder.plans) >= min(count + 1, 3), "a group is planned")  # type: ignore[misc]  # mypy infers no type for a lambda with defaults
        committer.submit([1] * WAITING_RECORDS_MAX)
    with pytest.raises(ServiceError) as refusal:
        committer.submit([1])
    assert refusal.value.reason is Reason.TOO_MANY_REQUESTS
    assert refusal.value.retry_after_seconds == group_commit.RETRY_AFTER_SECONDS


@pytest.mark.parametrize(
    ("poison", "error"), [(-1, ValueError), (-2, ValueError), (-3, ServiceError), (-4, AssertionError)]
)
def test_a_bad_item_fails_its_own_submitter_only(make: Make, poison: int, error: type[Exception]) -> None:
    recorder = Recorder()
    committer = make(recorder)
    closed(recorder, committer)
    committer.submit([1])
    eventually(lambda: len(recorder.plans) == 2, "one group is planned")
    committer.submit([2])
    eventually(lambda: len(recorder.plans) == 3, "another is planned and waits")
    good, bad, other = committer.submit([3]), committer.submit([4, poison]), committer.submit([5])
    recorder.gate.set()
    assert (good.result(WAIT_SECONDS), other.result(WAIT_SECONDS)) == (["3"], ["5"])
    assert isinstance(bad.exception(WAIT_SECONDS), error)
    assert committer.submit([6]).result(WAIT_SECONDS) == ["6"]


def test_a_database_that_is_away_is_told_to_all_and_tried_once(make: Make) -> None:
    recorder = Recorder()
    committer = make(recorder)
    first = closed(recorder, committer)
    futures = [committer.submit([number]) for number in range(1, 6)]
    recorder.error = ServiceError(Reason.DATABASE_UNAVAILABLE, "away")
    recorder.gate.set()
    assert {future.exception(WAIT_SECONDS) for future in [first, *futures]} == {recorder.error}
    assert len(recorder.plans) <= 4
    recorder.error = None
    assert committer.submit([7]).result(WAIT_SECONDS) == ["7"]


def test_a_submission_that_is_given_up_is_left_out_and_harms_nobody(make: Make) -> None:
    recorder = Recorder()
    committer = make(recorder)
    closed(recorder, committer)
    committer.submit([1])
    eventually(lambda: len(recorder.plans) == 2, "one group is planned")
    committer.submit([2])
    eventually(lambda: len(recorder.plans) == 3, "another is planned and waits")
    given_up, other = committer.submit([3]), committer.submit([4])
    assert given_up.cancel()
    recorder.gate.set()
    assert other.result(WAIT_SECONDS) == ["4"]
    with pytest.raises(CancelledError):
        given_up.result(WAIT_SECONDS)
    assert (3,) not in recorder.commits
    assert committer.submit([5]).result(WAIT_SECONDS) == ["5"]


def test_what_comes_behind_a_failure_in_a_sequel_is_not_committed(make: Make) -> None:
    """The client sends both again, in order; recorded alone the second would count as the first of its kind."""
    recorder = Recorder()
    committer = make(recorder)
    sequel, other = Sequel(), Sequel()
    recorder.gate.clear()
    first = committer.submit([1], sequel)
    assert recorder.is_committing.wait(WAIT_SECONDS)
    planned = committer.submit([2], sequel)
    eventually(lambda: len(recorder.plans) == 2, "the second is planned")
    beside = committer.submit([3], other)
    eventually(lambda: len(recorder.plans) == 3, "another is planned and waits")
    queued = committer.submit([4], sequel)
    recorder.error = ServiceError(Reason.DATABASE_UNAVAILABLE, "away")
    recorder.after_error = lambda: setattr(recorder, "error", None)
    recorder.gate.set()
    assert first.exception(WAIT_SECONDS) is not None
    for behind in (planned, queued):
        error = behind.exception(WAIT_SECONDS)
        assert isinstance(error, ServiceError)
        assert error.is_retryable
    assert beside.result(WAIT_SECONDS) == ["3"]
    with pytest.raises(ServiceError):
        committer.submit([5], sequel)
    assert [item for commit in recorder.commits for item in commit] == [3]


def test_a_group_that_cannot_be_planned_is_settled_in_its_turn(make: Make) -> None:
    recorder = Recorder()
    committer = make(recorder)
    first = closed(recorder, committer)
    second = committer.submit([1])
    eventually(lambda: len(recorder.plans) == 2, "the second is planned")
    third = committer.submit([2])
    eventually(lambda: len(recorder.plans) == 3, "the third is planned and waits")
    bad, fourth = committer.submit([3, -1]), committer.submit([4])
    recorder.gate.set()
    assert isinstance(bad.exception(WAIT_SECONDS), ValueError)
    assert [one.result(WAIT_SECONDS) for one in (first, second, third, fourth)] == [["0"], ["1"], ["2"], ["4"]]
    assert recorder.commits == [(0,), (1,), (2,), (4,)]


def test_what_is_under_way_cannot_be_given_up(make: Make) -> None:
    recorder = Recorder()
    committer = make(recorder)
    first = closed(recorder, committer)
    assert not first.cancel()
    recorder.gate.set()
    assert first.result(WAIT_SECONDS) == ["0"]


def test_stopping_commits_what_waits_and_refuses_the_rest() -> None:
    recorder = Recorder()
    committer: Committer = GroupCommit("test", recorder.plan, recorder.commit)
    committer.start()
    closed(recorder, committer)
    futures = [committer.submit([number]) for number in range(1, 50)]
    stopping = threading.Thread(target=committer.stop, args=(WAIT_SECONDS,))
    stopping.start()

    def is_refused() -> bool:
        try:
            futures.append(committer.submit([50 + len(futures)]))
        except ServiceError as error:
            return error.reason is Reason.SHUTTING_DOWN
        return False

    eventually(is_refused, "new work is refused")
    recorder.gate.set()
    stopping.join(WAIT_SECONDS)
    assert not any(thread.is_alive() for thread in committer._threads)
    assert all(future.done() and future.exception() is None for future in futures)


def test_stopping_wakes_those_who_wait_for_room() -> None:
    recorder = Recorder()
    committer: Committer = GroupCommit("test", recorder.plan, recorder.commit)
    committer.start()
    closed(recorder, committer)
    for _ in range(3):
        committer.submit([1] * WAITING_RECORDS_MAX)
    refusals: list[Reason] = []

    def submit() -> None:
        try:
            committer.submit([1])
        except ServiceError as error:
            refusals.append(error.reason)

    waiting = threading.Thread(target=submit)
    waiting.start()
    stopping = threading.Thread(target=committer.stop, args=(WAIT_SECONDS,))
    stopping.start()
    waiting.join(WAIT_SECONDS)
    recorder.gate.set()
    stopping.join(WAIT_SECONDS)
    assert refusals == [Reason.SHUTTING_DOWN]


def test_stopping_what_was_never_started() -> None:
    recorder = Recorder()
    GroupCommit("test", recorder.plan, recorder.commit).stop(WAIT_SECONDS)


def test_many_submitters_get_their_own_answers_inline_or_not(make: Make) -> None:
    recorder = Recorder()
    committer = make(recorder)
    answers: dict[int, list[str]] = {}

    def submit(number: int) -> None:
        for turn in range(50):
            item = number * 1_000 + turn
            batch = [item, -item - 10]
            answers[item] = committer.run(batch) if turn % 3 else committer.submit(batch).result(WAIT_SECONDS)

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert answers == {
        item: [str(item), str(-item - 10)] for number in range(8) for item in range(number * 1_000, number * 1_000 + 50)
    }
    # A plan holds only after the one before: they are committed in the order in which they are made.
    assert recorder.commits == recorder.plans
    # Each submitter's own are in the order in which it submitted them.
    order = [item for commit in recorder.commits for item in commit if item >= 0]
    for number in range(8):
        own = [item for item in order if item // 1_000 == number]
        assert own == sorted(own)
