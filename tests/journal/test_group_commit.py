"""Group commit by its two threads: order, bounds, isolation of bad items, and the end."""

import threading
from concurrent.futures import CancelledError, Future

import pytest

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.journal import group_commit
from services.journal.group_commit import COMMIT_RECORDS_MAX, WAITING_RECORDS_MAX, GroupCommit, Sequel
from tests.journal.journals import WAIT_SECONDS, eventually
from tests.journal.recorder import Committer, CommitterOf, Recorder, closed


@pytest.fixture(autouse=True)
def _two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no group to the planning thread, however small, so that tests see both threads at work."""
    monkeypatch.setattr(group_commit, "INLINE_RECORDS_MAX", 0)


def test_a_lone_submission_is_committed_at_once(committer_of: CommitterOf) -> None:
    recorder = Recorder()
    assert committer_of(recorder).submit([1, 2, 3]).result(WAIT_SECONDS) == ["1", "2", "3"]
    assert recorder.commits == [(1, 2, 3)]


def test_what_comes_while_a_commit_runs_goes_together_and_in_order(committer_of: CommitterOf) -> None:
    recorder = Recorder()
    committer = committer_of(recorder)
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


def test_no_transaction_is_larger_than_the_bound_unless_one_submission_is(committer_of: CommitterOf) -> None:
    recorder = Recorder()
    committer = committer_of(recorder)
    closed(recorder, committer)
    sizes = [COMMIT_RECORDS_MAX - 1, 1, 1, COMMIT_RECORDS_MAX, COMMIT_RECORDS_MAX + 5, 2]
    futures = [committer.submit([1] * size) for size in sizes]
    recorder.gate.set()
    assert [len(future.result(WAIT_SECONDS)) for future in futures] == sizes
    assert (
        max(len(commit) for commit in recorder.commits if len(commit) != COMMIT_RECORDS_MAX + 5) <= COMMIT_RECORDS_MAX
    )
    assert sum(map(len, recorder.commits)) == sum(sizes) + 1


def test_a_full_queue_makes_submitters_wait(committer_of: CommitterOf) -> None:
    recorder = Recorder()
    committer = committer_of(recorder)
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


def test_a_queue_that_stays_full_refuses(committer_of: CommitterOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "SUBMIT_SECONDS_MAX", 0.01)
    recorder = Recorder()
    committer = committer_of(recorder)
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
def test_a_bad_item_fails_its_own_submitter_only(
    committer_of: CommitterOf, poison: int, error: type[Exception]
) -> None:
    recorder = Recorder()
    committer = committer_of(recorder)
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


def test_a_database_that_is_away_is_told_to_all_and_tried_once(committer_of: CommitterOf) -> None:
    recorder = Recorder()
    committer = committer_of(recorder)
    first = closed(recorder, committer)
    futures = [committer.submit([number]) for number in range(1, 6)]
    recorder.error = ServiceError(Reason.DATABASE_UNAVAILABLE, "away")
    recorder.gate.set()
    assert {future.exception(WAIT_SECONDS) for future in [first, *futures]} == {recorder.error}
    assert len(recorder.plans) <= 4
    recorder.error = None
    assert committer.submit([7]).result(WAIT_SECONDS) == ["7"]


def test_a_submission_that_is_given_up_is_left_out_and_harms_nobody(committer_of: CommitterOf) -> None:
    recorder = Recorder()
    committer = committer_of(recorder)
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


def test_what_comes_behind_a_failure_in_a_sequel_is_not_committed(committer_of: CommitterOf) -> None:
    """The client sends both again, in order; recorded alone the second would count as the first of its kind."""
    recorder = Recorder()
    committer = committer_of(recorder)
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


def test_a_group_that_cannot_be_planned_is_settled_in_its_turn(committer_of: CommitterOf) -> None:
    recorder = Recorder()
    committer = committer_of(recorder)
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


def test_what_is_under_way_cannot_be_given_up(committer_of: CommitterOf) -> None:
    recorder = Recorder()
    committer = committer_of(recorder)
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
