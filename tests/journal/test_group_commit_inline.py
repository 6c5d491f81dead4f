"""Group commit where whoever waits anyway does the work: the outcome is that of the two threads."""

import threading

import pytest

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.journal import group_commit
from tests.journal.journals import WAIT_SECONDS, eventually
from tests.journal.recorder import CommitterOf, Recorder


def test_small_groups_committed_inline_keep_their_order_and_their_errors(committer_of: CommitterOf) -> None:
    recorder = Recorder()
    committer = committer_of(recorder)
    futures = [committer.submit([number]) for number in range(100)]
    assert [future.result(WAIT_SECONDS) for future in futures] == [[str(number)] for number in range(100)]
    bad = committer.submit([-2])
    with pytest.raises(ValueError, match="cannot be committed"):
        bad.result(WAIT_SECONDS)
    large = committer.submit(list(range(200, 300)))
    small = committer.submit([300])
    assert (len(large.result(WAIT_SECONDS)), small.result(WAIT_SECONDS)) == (100, ["300"])
    assert [item for commit in recorder.commits for item in commit] == [*range(100), *range(200, 301)]


def test_who_waits_anyway_commits_a_lone_small_batch_inline(committer_of: CommitterOf) -> None:
    recorder = Recorder()
    committer = committer_of(recorder)
    assert committer.run([1, 2]) == ["1", "2"]
    assert recorder.threads == [threading.current_thread().name]
    for poison, error in ((-1, ValueError), (-2, ValueError), (-3, ServiceError), (-4, AssertionError)):
        with pytest.raises(error):
            committer.run([poison])
    assert committer.run([0] * (group_commit.INLINE_RECORDS_MAX + 1))[0] == "0"
    assert recorder.threads[1] != threading.current_thread().name
    eventually(lambda: committer.run([3]) == ["3"] and recorder.threads[-1] == recorder.threads[0], "inline again")


def test_what_comes_while_one_commits_inline_waits_and_goes_together(committer_of: CommitterOf) -> None:
    recorder = Recorder()
    committer = committer_of(recorder)
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


def test_stopping_lets_an_inline_commit_end(committer_of: CommitterOf) -> None:
    recorder = Recorder()
    committer = committer_of(recorder)
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


def test_many_submitters_get_their_own_answers_inline_or_not(committer_of: CommitterOf) -> None:
    recorder = Recorder()
    committer = committer_of(recorder)
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
