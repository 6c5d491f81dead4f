"""Group commit: takes all work that waits, up to a bound, into one transaction. No timers.

Throughput comes from what arrives while the last commit runs; a lone request is committed at once. Two threads: one
plans the next transaction while the other runs the last one. Whoever waits anyway may do both for a small batch.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence, Sized
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import structlog

from services.common.errors import ServiceError
from services.common.reasons import Reason

Batch = TypeVar("Batch", bound=Sized)
Plan = TypeVar("Plan")
Result = TypeVar("Result")

COMMIT_RECORDS_MAX: Final = 2_048
"""Records in one transaction: beyond this throughput gains nothing (docs/benchmarks.md), and a lone request waits
longer."""

INLINE_RECORDS_MAX: Final = 16
"""Records that one thread plans and commits when nothing else is under way: waking another thread would cost a lone
request more than it gains; with more records planning ahead is worth it."""

WAITING_RECORDS_MAX: Final = 16_384
"""Records that may wait: eight full transactions, some 20 MB. Submitters wait beyond it, which slows their clients."""

SUBMIT_SECONDS_MAX: Final = 30.0
"""Longest wait for room in the queue before the caller is told to come back."""

RETRY_AFTER_SECONDS: Final = 2.0
"""What a caller is told to wait when the queue stays full or the server stops."""

_log = structlog.get_logger()


class Sequel:
    """Batches of which each comes after the one before: when one fails, none of those behind it is committed."""

    def __init__(self) -> None:
        self.is_broken = False


@dataclass(slots=True)
class _Job(Generic[Batch, Result]):
    batch: Batch
    future: "Future[Result]"
    sequel: Sequel | None = None

    def fail(self, error: Exception) -> None:
        # First the flag: whoever sees the failure may look for what came behind.
        if self.sequel is not None:
            self.sequel.is_broken = True
        self.future.set_exception(error)

    @property
    def is_void(self) -> bool:
        return self.sequel is not None and self.sequel.is_broken


@dataclass(slots=True)
class _Group(Generic[Batch, Plan, Result]):
    jobs: "list[_Job[Batch, Result]]"
    plan: Plan | None
    # Why there is no plan. Settled in the order of the groups, like everything else.
    error: Exception | None = None


class GroupCommit(Generic[Batch, Plan, Result]):
    """Runs `plan(batches)` and then `commit(plan)`: one result per batch, in order, durable on return.

    A batch has a length, its number of records, and is never split. Plans are made one after another, each while the
    transaction of the last may still run; `commit` must notice a plan that was overtaken and make it anew. A
    ServiceError that is retryable fails every submitter of the group: the database is away. Any other failure is tried
    again batch by batch, so that one bad batch harms nobody else.
    """

    def __init__(
        self,
        name: str,
        plan: Callable[[Sequence[Batch]], Plan],
        commit: Callable[[Plan], Sequence[Result]],
    ) -> None:
        self._name = name
        self._plan = plan
        self._commit = commit
        self._jobs: deque[_Job[Batch, Result]] = deque()
        self._waiting_records = 0
        # Groups that are planned and not yet settled.
        self._under_way = 0
        # Whether a submitter commits by itself; the planning thread then waits, so that plans follow one another.
        self._is_led = False
        self._is_stopping = False
        self._changed = threading.Condition()
        # One plan ahead: more would only grow older.
        self._planned: queue.Queue[_Group[Batch, Plan, Result] | None] = queue.Queue(1)
        self._threads = [
            threading.Thread(target=self._run_plans, name=f"{name}-plan", daemon=True),
            threading.Thread(target=self._run_commits, name=f"{name}-commit", daemon=True),
        ]

    @property
    def waiting_records(self) -> int:
        """Records that wait for a transaction now."""
        return self._waiting_records

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """Commit what waits, then end. New work is refused."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout_seconds)

    def submit(self, batch: Batch, sequel: Sequel | None = None) -> "Future[Result]":
        """Queue a batch of at least one record; the future gives its result. Waits while the queue is full.

        A future that is cancelled before its transaction is planned is left out of it. Raises
        ServiceError(TOO_MANY_REQUESTS) when no room comes up in time, SHUTTING_DOWN when stopping, and also,
        from here or from the future, when an earlier batch of the sequel has failed.
        """
        job: _Job[Batch, Result] = _Job(batch, Future(), sequel)
        if job.is_void:
            raise _earlier_failed()
        with self._changed:
            self._queue(job)
        return job.future

    def run(self, batch: Batch) -> Result:
        """Commit a batch of at least one record and return its result, or raise what became of it.

        A small batch is committed in the caller's own thread when nothing else is under way: a lone request is spared
        two changes of thread. Otherwise it is queued like any other. Raises like `submit`.
        """
        job: _Job[Batch, Result] = _Job(batch, Future())
        with self._changed:
            is_leader = (
                len(batch) <= INLINE_RECORDS_MAX
                and not self._jobs
                and not self._under_way
                and not self._is_led
                and not self._is_stopping
            )
            if is_leader:
                self._is_led = True
            else:
                self._queue(job)
        if is_leader:
            try:
                return _complete(self._commit(self._plan([batch])), [job])[0]
            finally:
                with self._changed:
                    self._is_led = False
                    self._changed.notify_all()
        return job.future.result()

    def _queue(self, job: "_Job[Batch, Result]") -> None:
        """Queue a job; the caller holds the condition."""
        has_room = self._changed.wait_for(
            lambda: self._is_stopping or self._waiting_records < WAITING_RECORDS_MAX, SUBMIT_SECONDS_MAX
        )
        if self._is_stopping:
            raise ServiceError(Reason.SHUTTING_DOWN, "the server is stopping", retry_after_seconds=RETRY_AFTER_SECONDS)
        if not has_room:
            raise ServiceError(
                Reason.TOO_MANY_REQUESTS,
                f"more than {WAITING_RECORDS_MAX} records wait to be committed",
                metadata={"limit": str(WAITING_RECORDS_MAX)},
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        self._jobs.append(job)
        self._waiting_records += len(job.batch)
        if len(self._jobs) == 1:
            self._changed.notify_all()

    def _take(self) -> "list[_Job[Batch, Result]]":
        """Return all jobs that wait, up to the bound; an empty list means stop."""
        taken: list[_Job[Batch, Result]] = []
        with self._changed:
            while not taken:
                self._changed.wait_for(lambda: (self._jobs or self._is_stopping) and not self._is_led)
                if not self._jobs:
                    break
                count = 0
                while self._jobs and (not taken or count + len(self._jobs[0].batch) <= COMMIT_RECORDS_MAX):
                    job = self._jobs.popleft()
                    self._waiting_records -= len(job.batch)
                    # From here on the future cannot be cancelled: setting its result never fails.
                    if not job.future.set_running_or_notify_cancel():
                        continue
                    if job.is_void:
                        job.fail(_earlier_failed())
                        continue
                    taken.append(job)
                    count += len(job.batch)
                if taken:
                    self._under_way += 1
                self._changed.notify_all()
        return taken

    def _run_plans(self) -> None:
        while jobs := self._take():
            group: _Group[Batch, Plan, Result]
            try:
                group = _Group(jobs, self._plan([job.batch for job in jobs]))
            except Exception as error:  # noqa: BLE001 - the thread must outlive any fault of one group
                group = _Group(jobs, None, error)
            with self._changed:
                is_lone = self._under_way == 1 and sum(len(job.batch) for job in jobs) <= INLINE_RECORDS_MAX
            if is_lone:
                self._run_group(group)
            else:
                self._planned.put(group)
        self._planned.put(None)

    def _run_commits(self) -> None:
        while (group := self._planned.get()) is not None:
            self._run_group(group)

    def _run_group(self, group: "_Group[Batch, Plan, Result]") -> None:
        try:
            if group.plan is None or any(job.is_void for job in group.jobs):
                # Nothing may be committed of a plan for batches behind one that failed meanwhile.
                self._settle_failure(group.jobs, group.error)
                return
            try:
                results = _complete(self._commit(group.plan), group.jobs)
            except Exception as error:  # noqa: BLE001 - the thread must outlive any fault of one group
                self._settle_failure(group.jobs, error)
                return
            for job, result in zip(group.jobs, results, strict=True):
                job.future.set_result(result)
        finally:
            self._end_group()

    def _end_group(self) -> None:
        with self._changed:
            self._under_way -= 1

    def _settle_failure(self, jobs: "list[_Job[Batch, Result]]", error: Exception | None) -> None:
        """Tell the submitters, or try one by one when the fault may be one submitter's, or was none of the group's."""
        if error is not None and (len(jobs) == 1 or (isinstance(error, ServiceError) and error.is_retryable)):
            for job in jobs:
                job.fail(error)
            return
        if error is not None:
            _log.warning("commit_split", committer=self._name, jobs=len(jobs), error=type(error).__name__)
        for job in jobs:
            if job.is_void:
                job.fail(_earlier_failed())
                continue
            try:
                (result,) = _complete(self._commit(self._plan([job.batch])), [job])
            except Exception as single_error:  # noqa: BLE001 - told to the one who submitted it
                job.fail(single_error)
            else:
                job.future.set_result(result)


def _earlier_failed() -> ServiceError:
    return ServiceError(
        Reason.SHUTTING_DOWN,
        "an earlier batch of this stream was not recorded, so this one was not either: send both again, in order",
        message_zh="本数据流中较早的批次未能记录，本批次也未记录，请按顺序重新发送",
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )


def _complete(results: Sequence[Result], jobs: "list[_Job[Batch, Result]]") -> Sequence[Result]:
    """Refuse results that are not one per batch: settled in order, all that follow would go to the wrong submitters."""
    if len(results) != len(jobs):
        raise AssertionError(f"a commit of {len(jobs)} batches gave {len(results)} results")
    return results
