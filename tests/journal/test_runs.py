"""Batches that wait together are committed together, with the outcome that they have one by one."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.journal.limits import (
    RUN_BATCHES_MAX,
)
from services.journal.notes import SignedCheckpoint
from services.journal.receiver import IncomingBatch
from services.journal.store import checkpoints
from tests.journal.conftest import MakeJournal
from tests.journal.invariants import KnownLog, check_kept_checkpoints, check_reading
from tests.journal.journals import Journal
from tests.journal.paper_log import CITY, COUNTY, STREAM, PaperLog, entry_of, signer_of
from tests.journal.runs import Held, answers, paper_known, prepared, receive_singly, receive_together, stored

COSIGNER = signer_of(CITY).verifier_key

# As one by one


def test_what_waits_while_a_batch_commits_is_one_transaction(city: Journal) -> None:
    paper = PaperLog().add_many(999)
    received = list(Held(city).receive(*paper.batches(100, 350, 600)))
    assert [one.head.size for one in received] == [100, 350, 600, 1_000]
    assert city.projection.calls == [list(range(2, 101)), list(range(101, 1_001))]
    check_kept_checkpoints(city, paper_known(paper))
    check_reading(city, paper_known(paper), 1)


PAYLOADS = st.sampled_from([b"x", b"y" * 40, b"unprojectable", b"a fault in prepare", b"a fault in project"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    payloads=st.lists(PAYLOADS, min_size=1, max_size=80),
    held=st.integers(0, 80),
    ends=st.sets(st.integers(1, 80), max_size=12),
    reach=st.integers(3, 90),
)
def test_a_run_gives_what_its_batches_give_one_by_one(
    city: Journal, journal: MakeJournal, payloads: list[bytes], held: int, ends: set[int], reach: int
) -> None:
    paper = PaperLog().add(*payloads)
    held = min(held, paper.size - 1)
    batches = [
        paper.batch(first + 1, last)
        for first, last in zip(
            sorted({held, *(end for end in ends if held < end < paper.size)}),
            sorted({*(end for end in ends if held < end < paper.size), paper.size}),
            strict=True,
        )
    ]
    outcomes = []
    for receive in (receive_together, receive_singly):
        city.empty()
        # A reach of few entries, so that thinning has something to drop.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoints, "BATCH_RECORDS_MAX", reach)
            if held:
                city.receive(paper.batch(1, held))
            outcomes.append((answers(receive(city, *batches)), stored(city)))
    assert outcomes[0] == outcomes[1]


def test_thinning_many_at_once_is_thinning_one_by_one(city: Journal) -> None:
    paper = PaperLog().add_many(2_500)
    ends = (*range(10, 600, 10), 1_000, 1_400, 1_401, 2_400)
    edges = paper.batches(*ends)
    city.empty()
    for start in range(0, len(edges), RUN_BATCHES_MAX):
        receive_together(city, *edges[start : start + RUN_BATCHES_MAX])
    together = city.content()
    check_kept_checkpoints(city, paper_known(paper))
    city.empty()
    receive_singly(city, *edges)
    assert city.content() == together


def test_parked_entries_are_told_batch_by_batch(city: Journal) -> None:
    paper = PaperLog().add(b"one", b"unprojectable", b"three").add_raw(b"\xff").add(b"five")
    received = receive_together(city, *paper.batches(2, 3, 5))
    assert [one.parked_count for one in received] == [0, 1, 1, 0]
    assert [row[:1] + row[2:3] for row in city.parked()] == [(3, "malformed"), (5, "malformed")]
    assert city.projection.calls == [[2, 4, 6]]


def test_a_row_that_is_refused_makes_the_run_go_batch_by_batch(city: Journal) -> None:
    paper = PaperLog().add(b"one", b"two", b"refused by the database", b"four", b"five")
    received = receive_together(city, *paper.batches(2, 4))
    assert [(one.head.size, one.parked_count) for one in received] == [(2, 0), (4, 1), (6, 0)]
    # Together, then each as a whole, and only the bad one entry by entry.
    assert city.projection.calls == [[2, 3, 4, 5, 6], [2], [3, 4], [3], [4], [5, 6]]
    assert (list(city.notes(COUNTY)), [row[0] for row in city.parked()]) == ([2, 3, 5, 6], [4])


def test_cosignatures_of_a_run_never_go_back_in_time(city: Journal) -> None:
    paper = PaperLog().add_many(9)
    (first,) = city.receive(paper.batch(1, 2))
    city.clock.time -= timedelta(days=1)
    received = receive_together(city, paper.batch(3, 4), paper.batch(5, 7), paper.batch(8))
    seconds = [SignedCheckpoint.parse(one.checkpoint).cosigned_at(COSIGNER) for one in [first, *received]]
    assert len(set(seconds)) == 1


def test_a_log_is_begun_by_a_run(city: Journal) -> None:
    paper = PaperLog(algorithm="sm3").add_many(300)
    received = receive_together(city, *paper.batches(1, 2, 280))
    assert [one.head.size for one in received] == [1, 2, 280, 301]
    assert received[-1].head.root == paper.root()
    assert received[-1].head == city.head(COUNTY)


def test_runs_of_several_logs_in_one_stream_stay_apart(city: Journal) -> None:
    one, other = PaperLog("141025").add_many(8), PaperLog("141026").add_many(8)
    batches = (one.batch(1, 2), one.batch(3, 5), one.batch(6), other.batch(1, 4), other.batch(5))
    received = list(Held(city).receive(*batches))
    assert [(each.head.origin, each.head.size) for each in received] == [
        ("141025", 2),
        ("141025", 5),
        ("141025", 9),
        ("141026", 4),
        ("141026", 9),
    ]
    assert city.projection.calls == [[2], list(range(3, 10)), list(range(2, 10))]


# Something is wrong with one


def lies() -> dict[str, Callable[[PaperLog], IncomingBatch]]:
    """Return ways in which the batch 5 to 6 of a log may be bad."""
    return {
        "gap": lambda paper: paper.batch(6, 6),
        "root": lambda paper: paper.batch(5, 6, root=bytes(32)),
        "signature": lambda paper: paper.batch(5, 6, signer=signer_of(COUNTY, seed=1)),
        "size": lambda paper: paper.batch(5, 6, signed_size=7),
        "history": lambda paper: IncomingBatch(
            COUNTY, 4, [entry_of(b"else"), *paper.entries[4:6]], paper.checkpoint(6)
        ),
        "beginning": lambda paper: PaperLog(algorithm="sm3").add_many(5).batch(1, 6),
    }


REASONS = {
    "gap": Reason.SEQUENCE_GAP,
    "root": Reason.HISTORY_MISMATCH,
    "signature": Reason.UNKNOWN_SIGNER,
    "size": Reason.INVALID_CHECKPOINT,
    "history": Reason.HISTORY_MISMATCH,
    "beginning": Reason.HISTORY_MISMATCH,
}


@pytest.mark.parametrize("lie", REASONS)
def test_what_comes_before_a_bad_batch_is_committed_and_told(city: Journal, lie: str) -> None:
    paper = PaperLog().add_many(9)
    received = Held(city).receive(
        paper.batch(1, 2), paper.batch(3, 3), paper.batch(4, 4), lies()[lie](paper), paper.batch(7)
    )
    assert [next(received).head.size for _ in range(3)] == [2, 3, 4]
    with pytest.raises(ServiceError) as refusal:
        next(received)
    assert refusal.value.reason is REASONS[lie]
    assert city.entries(COUNTY) == paper.entries[:4]
    check_kept_checkpoints(city, KnownLog(COUNTY, STREAM, paper.signer.verifier_key, paper.entries[:4]))


def test_an_overlap_within_a_stream_is_recognised(city: Journal) -> None:
    paper = PaperLog().add_many(19)
    batches = [paper.batch(1, 4), paper.batch(3, 8), paper.batch(2, 5), paper.batch(9, 12), paper.batch(13)]
    received = list(Held(city).receive(*batches))
    assert [(one.head.size, one.duplicate_count) for one in received] == [(4, 0), (8, 2), (8, 4), (12, 0), (20, 0)]
    assert city.entries(COUNTY) == paper.entries
    # What follows an overlap is planned on what it leaves.
    assert city.projection.calls[-1] == list(range(9, 21))


@pytest.mark.parametrize("by", [2, 5, 7])
def test_a_run_that_was_overtaken_is_recognised(city: Journal, journal: MakeJournal, by: int) -> None:
    paper = PaperLog().add_many(9)
    city.receive(paper.batch(1, 2))
    run = prepared(city, paper.batch(3, 4), paper.batch(5, 7), paper.batch(8))
    replica = journal(CITY, city.url)
    replica.receive(paper.batch(1, by))
    replica.receive(paper.batch(by + 1, by + 1))
    received = list(city.receiver.commit(run))
    held = by + 1
    assert [one.duplicate_count for one in received] == [
        max(0, min(held, last) - first + 1) for first, last in ((3, 4), (5, 7), (8, 10))
    ]
    assert city.entries(COUNTY) == paper.entries
    check_kept_checkpoints(city, paper_known(paper))


def test_another_history_under_a_run_is_refused(city: Journal, journal: MakeJournal) -> None:
    paper, other = PaperLog().add_many(9), PaperLog().add(b"else").add_many(8)
    city.receive(paper.batch(1, 1))
    run = prepared(city, paper.batch(2, 4), paper.batch(5))
    journal(CITY, city.url).receive(other.batch(2, 4))
    before = city.content()
    with pytest.raises(ServiceError) as refusal:
        list(city.receiver.commit(run))
    assert (refusal.value.reason, refusal.value.metadata["sequence"]) == (Reason.HISTORY_MISMATCH, "2")
    assert city.content() == before


def test_a_restart_in_mid_run_goes_on_where_it_stood(city: Journal, journal: MakeJournal) -> None:
    paper = PaperLog().add_many(900)
    batches = paper.batches(*range(50, 900, 50))
    receive_together(city, *batches[:5])
    prepared(city, *batches[5:9])
    restarted = journal(CITY, city.url).begin()
    # The sender sends again what it got no answer for, or begins where the receiver stands.
    received = restarted.receive(*batches[3:])
    assert [one.duplicate_count for one in received[:3]] == [50, 50, 0]
    assert restarted.entries(COUNTY) == paper.entries
    check_kept_checkpoints(restarted, paper_known(paper))
