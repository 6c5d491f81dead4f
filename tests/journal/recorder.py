"""A database of numbers behind a group commit: what is committed with what, on which thread, and what fails."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.journal.group_commit import GroupCommit
from tests.journal.journals import WAIT_SECONDS

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
CommitterOf = Callable[[Recorder], Committer]


def closed(recorder: Recorder, committer: Committer) -> "Future[list[str]]":
    """Submit one item and wait until its commit stands before the closed gate."""
    recorder.gate.clear()
    first = committer.submit([0])
    assert recorder.is_committing.wait(WAIT_SECONDS)
    return first
