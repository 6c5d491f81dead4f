"""Runs whose connection is killed, and runs of one log on two streams at once."""

import threading
from typing import Any

import psycopg
import pytest

from services.common.database import RawConnection
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.journal import receiver, store
from services.journal.receiver import IncomingBatch, Received
from services.journal.store import checkpoints
from tests.journal.invariants import check_kept_checkpoints
from tests.journal.journals import WAIT_SECONDS, Journal
from tests.journal.paper_log import COUNTY, PaperLog
from tests.journal.runs import paper_known, receive_together

# Connections that are killed


STEPS: list[tuple[Any, str]] = [
    (store, "lock_head"),
    (checkpoints, "newest_kept"),
    (store, "copy_entries"),
    (store, "insert_parked"),
    (receiver, "store_run"),
]


@pytest.mark.parametrize("step", [*STEPS, None], ids=lambda step: step[1] if step else "project")
@pytest.mark.parametrize("is_before", [True, False], ids=["before", "after"])
def test_a_connection_killed_at_any_step_of_a_run_leaves_nothing(
    city: Journal, monkeypatch: pytest.MonkeyPatch, step: tuple[Any, str] | None, is_before: bool
) -> None:
    paper = PaperLog().add_many(300).add_raw(b"\xff").add_many(30)
    city.receive(paper.batch(1, 250))
    before = city.content()
    is_done = threading.Event()

    def kill(connection: RawConnection) -> None:
        if not is_done.is_set():
            is_done.set()
            with psycopg.connect(city.url, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))

    if step is None:
        city.projection.before_project = kill
    else:
        module, name = step
        true_step = getattr(module, name)

        def killed_step(connection: RawConnection, *values: Any) -> Any:
            if is_before:
                kill(connection)
            result = true_step(connection, *values)
            kill(connection)
            return result

        monkeypatch.setattr(module, name, killed_step)
    batches = (paper.batch(251, 270), paper.batch(271, 310), paper.batch(311))
    with pytest.raises(ServiceError) as refusal:
        receive_together(city, *batches)
    assert refusal.value.reason is Reason.DATABASE_UNAVAILABLE
    assert city.content() == before
    # And the next try goes through, on a new connection.
    received = receive_together(city, *batches)
    assert (received[-1].head.root, [one.parked_count for one in received]) == (paper.root(), [0, 1, 0])
    check_kept_checkpoints(city, paper_known(paper))


# Streams side by side


def test_two_streams_that_push_the_same_log_at_once(city: Journal) -> None:
    paper = PaperLog().add_many(2_000)
    batches = [paper.batches(*range(step, 2_000, step)) for step in (23, 40, 97)]
    results: list[list[Received]] = []

    def push(own: list[IncomingBatch]) -> None:
        results.append(city.receive(*own))

    threads = [threading.Thread(target=push, args=(own,)) for own in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * WAIT_SECONDS)
        assert not thread.is_alive()
    assert sorted(len(received) for received in results) == sorted(map(len, batches))
    assert city.entries(COUNTY) == paper.entries
    assert list(city.notes(COUNTY)) == list(range(2, 2_002))
    head = city.head(COUNTY)
    assert head is not None
    assert head.root == paper.root()
    check_kept_checkpoints(city, paper_known(paper))
