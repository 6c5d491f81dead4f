"""The threads of a server, and turns at its work: how many calls are worked on at once, first come, first served.

A call takes its turn once its message has come. Until then it holds a thread and nothing else, so that callers on slow
lines, or who send nothing at all, hold up nobody.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from services.common.rpc_call import do_what_was_left


class _Held(threading.local):
    """Whose turn the thread holds."""

    turns: "Turns | None" = None


_held = _Held()


class Turns:
    """So many turns; whoever finds none free waits for its own. A thread holds one at a time."""

    def __init__(self, count: int) -> None:
        self._free_count = count
        self._guard = threading.Lock()
        # One lock for each that waits, released when it is its turn.
        self._waiting: deque[threading.Lock] = deque()

    def take(self) -> bool:
        """Take a turn for this thread, until `give_back_turn`; return whether that took waiting."""
        has_waited = self._take()
        _held.turns = self
        return has_waited

    def _take(self) -> bool:
        with self._guard:
            if self._free_count:
                self._free_count -= 1
                return False
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        mine.acquire()
        return True

    def pass_on(self) -> None:
        """Give a turn to whoever has waited longest, or keep it for the next."""
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free_count += 1


def give_back_turn() -> None:
    """Give back the turn that this thread holds; without effect when it holds none."""
    turns = _held.turns
    if turns is not None:
        _held.turns = None
        turns.pass_on()


class CallExecutor(ThreadPoolExecutor):
    """Threads that count what they were given and have not finished, waiting calls included.

    What a call left to `after_answer` is done in its thread, before it counts as finished.
    """

    def __init__(self, threads: int, name: str) -> None:
        super().__init__(max_workers=threads, thread_name_prefix=name)
        self._changed = threading.Condition()
        self.call_count = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Take one call; counted until it has finished."""
        with self._changed:
            self.call_count += 1
        try:
            future = super().submit(_through, fn, *args, **kwargs)
        except BaseException:
            self._finished(None)
            raise
        future.add_done_callback(self._finished)
        return future

    def wait_until_idle(self, seconds: float) -> bool:
        """Wait until no call is left; False when the time is over."""
        with self._changed:
            return self._changed.wait_for(lambda: self.call_count == 0, seconds)

    def _finished(self, _future: Future[Any] | None) -> None:
        with self._changed:
            self.call_count -= 1
            if self.call_count == 0:
                self._changed.notify_all()


class CountedCall(ThreadPoolExecutor):
    """Stands before the threads for one call and counts it, one more and one less.

    From when gRPC takes the call, which it may still refuse after it was admitted, until its caller has taken the
    answer, which the server holds so long; also when its handler was never called, because its caller has gone without
    having sent anything. An executor by kind only: gRPC takes nothing else.
    """

    def __init__(self, executor: ThreadPoolExecutor, count: Callable[[int], None]) -> None:
        # Not made as an executor: it has no threads of its own.
        self._executor = executor
        self._count = count
        self._has_begun = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Pass the call on."""
        self._count(1)
        try:
            future = self._executor.submit(fn, *args, **kwargs)
        except BaseException:
            self._count(-1)
            raise
        future.add_done_callback(self._done)
        return future

    def begin(self, context: Any) -> None:
        """Count the call until its end: its handler is called now."""
        self._has_begun = True
        if not context.add_callback(self._ended):
            self._ended()

    def _done(self, _future: Future[Any]) -> None:
        if not self._has_begun:
            self._ended()

    def _ended(self) -> None:
        self._count(-1)


def _through(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Serve a call, do what it has left, and let the next one work."""
    try:
        return fn(*args, **kwargs)
    finally:
        try:
            do_what_was_left()
        finally:
            give_back_turn()
