"""Works ahead of whoever takes the results, in a thread of its own, so that two steps overlap."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def _is_empty(waiting: Sequence[object]) -> bool:
    return not waiting


class Lookahead(Generic[Item, Result]):
    """Gives `make(item)` for each item of a source, in order, and then what ended the source.

    The source may be silent for ever, as a peer that waits for an answer is. So nobody waits for the thread: it ends
    when the source gives its next item or ends, which a request stream does with its call. `has_room` says of the
    results that wait whether one more may be made; without it one at most waits.
    """

    def __init__(
        self,
        name: str,
        source: Iterator[Item],
        make: Callable[[Item], Result],
        has_room: Callable[[Sequence[Result]], bool] = _is_empty,
    ) -> None:
        self._source = source
        self._make = make
        self._has_room_beside = has_room
        self._changed = threading.Condition()
        self._waiting: deque[Result] = deque()
        self._error: Exception | None = None
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin with the first item."""
        self._thread.start()

    def stop(self) -> None:
        """Give no more results and begin no more items; from any thread, never waits."""
        with self._changed:
            self._is_over = True
            self._waiting.clear()
            self._error = None
            self._changed.notify_all()

    def take(self) -> Result | None:
        """Return the next result, or None after the last and after `stop`. Raises what the source or `make` raised."""
        taken = self.take_run(lambda result, following: False)
        return taken[0] if taken else None

    def take_run(self, is_continued: Callable[[Result, Result], bool]) -> list[Result]:
        """Return the next result, and of those that wait behind it the ones that each continue the one before.

        Waits for the first only. Nothing after the last and after `stop`; raises as `take`.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_over)
            if not self._waiting:
                if self._error is not None:
                    raise self._error
                return []
            taken = [self._waiting.popleft()]
            while self._waiting and is_continued(taken[-1], self._waiting[0]):
                taken.append(self._waiting.popleft())
            self._changed.notify_all()
            return taken

    def _has_room(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or self._has_room_beside(self._waiting))
            return not self._is_over

    def _run(self) -> None:
        error: Exception | None = None
        try:
            while self._has_room():
                try:
                    item = next(self._source)
                except StopIteration:
                    break
                result = self._make(item)
                with self._changed:
                    if self._is_over:
                        return
                    self._waiting.append(result)
                    self._changed.notify_all()
        except Exception as failure:  # noqa: BLE001 - raised again in the thread that takes the results
            error = failure
        with self._changed:
            if not self._is_over:
                self._error = error
                self._is_over = True
                self._changed.notify_all()
