"""How much is prepared ahead and committed at once."""

from collections.abc import Iterator
from typing import Any

import pytest

from services.journal import receiver
from services.journal.incoming import PreparedBatch
from services.journal.limits import (
    BATCH_BYTES_MAX,
    BATCH_RECORDS_MAX,
    RUN_BATCHES_MAX,
    RUN_BYTES_MAX,
    RUN_RECORDS_MAX,
)
from services.journal.notes import SignedCheckpoint
from services.journal.receiver import IncomingBatch, Received
from tests.journal.journals import Journal
from tests.journal.paper_log import COUNTY, PaperLog


def waiting(*sizes: tuple[int, int]) -> list[PreparedBatch]:
    signed = SignedCheckpoint.parse(PaperLog().checkpoint())
    incoming = IncomingBatch(COUNTY, 1, [], "")
    return [
        PreparedBatch(incoming, "sha256", [b""] * records, [], [], signed, None, byte_count, None, None)
        for records, byte_count in sizes
    ]


def test_no_more_is_prepared_ahead_than_a_run_may_hold() -> None:
    assert receiver._has_room([])
    full = BATCH_RECORDS_MAX, 400_000
    assert receiver._has_room(waiting(full, full, full))
    assert not receiver._has_room(waiting(full, full, full, (1, 1)))
    assert receiver._has_room(waiting((64, BATCH_BYTES_MAX)))
    assert not receiver._has_room(waiting((64, BATCH_BYTES_MAX), (1, 1)))
    assert receiver._has_room(waiting(*[(1, 1)] * (RUN_BATCHES_MAX - 1)))
    assert not receiver._has_room(waiting(*[(1, 1)] * RUN_BATCHES_MAX))


def test_a_run_stays_within_its_bounds(city: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[list[PreparedBatch]] = []
    true_commit = city.receiver.commit

    def commit(run: Any) -> Iterator[Received]:
        runs.append(list(run))
        return true_commit(run)

    monkeypatch.setattr(city.receiver, "commit", commit)
    paper = PaperLog().add_many(3_000).add(*[bytes(60_000)] * 200).add_many(500)
    edges = [*range(500, 3_000, 500), *range(3_000, 3_200, 60), *range(3_210, 3_700, 4)]
    city.receive(*paper.batches(*edges))
    assert city.size(COUNTY) == paper.size
    for run in runs:
        assert len(run) <= RUN_BATCHES_MAX
        assert sum(len(batch.leaves) for batch in run) <= RUN_RECORDS_MAX
        assert sum(batch.byte_count for batch in run) <= RUN_BYTES_MAX
