"""Batches given to a receiver as one run, or one by one, and what is stored then."""

import threading
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from services.common.database import RawConnection
from services.journal import receiver
from services.journal.incoming import PreparedBatch
from services.journal.receiver import IncomingBatch, Received
from tests.journal.invariants import KnownLog
from tests.journal.journals import WAIT_SECONDS, Journal, eventually
from tests.journal.paper_log import STREAM, PaperLog


def prepared(city: Journal, *batches: IncomingBatch) -> list[PreparedBatch]:
    """Prepare batches as those of one stream."""
    run: list[PreparedBatch] = []
    expected = None
    for batch in batches:
        run.append(city.receiver._preparer.prepare(batch, expected))
        expected = run[-1].expected_head
    return run


def receive_together(city: Journal, *batches: IncomingBatch) -> list[Received]:
    """Receive batches as one run; fails unless they are planned as one."""
    run = prepared(city, *batches)
    assert all(receiver._is_continued(one, following) for one, following in pairwise(run))
    return list(city.receiver.commit(run))


def receive_singly(city: Journal, *batches: IncomingBatch) -> list[Received]:
    """Receive each batch in a stream of its own."""
    return [received for batch in batches for received in city.receive(batch)]


def answers(received: list[Received]) -> list[tuple[Any, ...]]:
    return [(one.head, one.duplicate_count, one.parked_count, one.checkpoint) for one in received]


def stored(city: Journal) -> dict[str, Any]:
    """Return everything that is stored but for the moments at which entries were parked."""
    return {**city.content(), "journal_parked": city.parked()}


def paper_known(paper: PaperLog) -> KnownLog:
    return KnownLog(paper.origin, STREAM, paper.signer.verifier_key, paper.entries)


class Held:
    """Lets the first batch of a stream wait in its projection until all the others are prepared, or one is refused."""

    def __init__(self, city: Journal) -> None:
        self._city = city
        self._is_in_projection = threading.Event()
        city.projection.before_project = self._hold

    def receive(self, *batches: IncomingBatch) -> Iterator[Received]:
        return self._city.receiver.receive_all(self._source(batches))

    def _source(self, batches: Sequence[IncomingBatch]) -> Iterator[IncomingBatch]:
        yield batches[0]
        assert self._is_in_projection.wait(WAIT_SECONDS)
        yield from batches[1:]

    def _hold(self, connection: RawConnection) -> None:
        if not self._is_in_projection.is_set():
            self._is_in_projection.set()
            names = {"weighing-receive"}
            eventually(
                lambda: names.isdisjoint(thread.name for thread in threading.enumerate()), "the others are prepared"
            )
