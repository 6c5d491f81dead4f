"""Reading: batches that end at true checkpoints, checkpoints, roots and proofs, and positions outside the log."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.database import raw_connection
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.journal import store
from services.journal.limits import BATCH_BYTES_MAX
from services.journal.notes import SignedCheckpoint
from tests.journal import naive_merkle
from tests.journal.conftest import MakeJournal
from tests.journal.invariants import KnownLog, check_kept_checkpoints, check_reading, known_log
from tests.journal.journals import Journal
from tests.journal.paper_log import CITY, COUNTY, PaperLog


@pytest.fixture(params=["own", "copy"])
def held(request: pytest.FixtureRequest, county: Journal, city: Journal) -> Journal:
    """Return a journal that holds 1,700 entries of the county: the county's own, and the city's copy."""
    for count in (1, 254, 1, 1, 600, 842):
        county.write_many(count)
        city.pull(county, COUNTY)
    return county if request.param == "own" else city


def read_to_the_end(journal: Journal, first: int) -> None:
    while (batch := journal.reader.read(COUNTY, first)) is not None:
        first = batch.last_sequence + 1


def reason_of(call: object, *values: object) -> Reason:
    with pytest.raises(ServiceError) as refusal:
        call(*values)  # type: ignore[operator]  # called with what the test says
    return refusal.value.reason


def test_batches_from_any_position(held: Journal, county: Journal) -> None:
    known = known_log(county)
    for first in (1, 2, 255, 256, 257, 258, 857, 858, 1_024, 1_025, 1_699, 1_700):
        check_reading(held, known, first)
    assert held.reader.read(COUNTY, 1_701) is None


@pytest.mark.parametrize("first", [1, 300, 1_000])
def test_an_entry_that_somebody_removed_is_named(held: Journal, first: int) -> None:
    with held.engine.begin() as pooled:
        raw_connection(pooled).execute("DELETE FROM journal_entries WHERE sequence = 1000")
    with pytest.raises(ServiceError) as refusal:
        read_to_the_end(held, first)
    assert refusal.value.reason is Reason.HISTORY_MISMATCH
    assert refusal.value.metadata == {"origin": COUNTY, "sequence": "1000"}


@pytest.mark.parametrize("first", [0, -1, -(2**63), 1_702, 2**63 - 1])
def test_positions_outside_the_log(held: Journal, first: int) -> None:
    with pytest.raises(ServiceError) as refusal:
        held.reader.read(COUNTY, first)
    assert (refusal.value.reason, refusal.value.metadata) == (Reason.BEYOND_LOG, {"size": "1700"})


@pytest.mark.parametrize("origin", ["", "141099", "１４１０２５", "141025\x00", "\ud800", "x" * 100_000])
def test_logs_that_are_not_held(held: Journal, origin: str) -> None:
    reader = held.reader
    assert reason_of(reader.read, origin, 1) is Reason.UNKNOWN_LOG
    assert reason_of(reader.checkpoint, origin, 0) is Reason.UNKNOWN_LOG
    assert reason_of(reader.root_at, origin, 1) is Reason.UNKNOWN_LOG
    assert reason_of(reader.inclusion_proof, origin, 1, 1) is Reason.UNKNOWN_LOG
    assert reason_of(reader.consistency_proof, origin, 1, 1) is Reason.UNKNOWN_LOG


@pytest.mark.parametrize("records_max", [1, 7, 255, 256, 257, 1_023])
def test_own_batches_are_no_longer_than_asked_for(county: Journal, records_max: int) -> None:
    county.write_many(1_500)
    known = known_log(county)
    batches = county.batches(COUNTY, 3, records_max)
    assert max(len(batch.entries) for batch in batches) <= records_max
    for batch in batches:
        known.check_batch(batch, batch.first_sequence)


def test_bulk_reads_end_at_tile_edges(county: Journal) -> None:
    county.write_many(3_000)
    ends = [batch.last_sequence for batch in county.batches(COUNTY, 100)]
    assert ends == [1_024, 2_048, 3_001]


def test_own_batches_are_bounded_in_bytes(county: Journal) -> None:
    for _ in range(3):
        county.write(*[bytes(60_000)] * 50)
    known = known_log(county)
    batches = county.batches(COUNTY)
    for batch in batches:
        known.check_batch(batch, batch.first_sequence)
    assert all(sum(map(len, batch.entries)) > BATCH_BYTES_MAX - 65_536 for batch in batches[:-1])


def test_the_database_sends_no_more_bytes_than_a_batch_holds(county: Journal) -> None:
    county.write(*[bytes(60_000)] * 200)
    with county.engine.begin() as pooled:
        connection = raw_connection(pooled)
        entries, leaves = store.read_entries_within(connection, COUNTY, 2, 201, BATCH_BYTES_MAX)
        one, _ = store.read_entries_within(connection, COUNTY, 2, 201, 1)
    assert len(entries) == len(leaves) == BATCH_BYTES_MAX // len(entries[0])
    assert len(one) == 1


def test_checkpoints_of_the_own_log_at_any_size(county: Journal) -> None:
    county.write_many(299)
    known = known_log(county)
    for size in (1, 2, 255, 256, 257, 299, 300):
        signed, key = county.reader.checkpoint(COUNTY, size)
        known.check_note(signed.format(), size)
        assert key == county.signer.verifier_key.format()
    assert county.reader.checkpoint(COUNTY, 0)[0].checkpoint.size == 300


@pytest.mark.parametrize("size", [-1, -5, -(2**63), 301, 2**63 - 1])
def test_checkpoints_at_sizes_that_the_log_does_not_have(county: Journal, city: Journal, size: int) -> None:
    county.write_many(299)
    city.pull(county, COUNTY)
    for held in (county, city):
        assert reason_of(held.reader.checkpoint, COUNTY, size) is Reason.BEYOND_LOG
        assert reason_of(held.reader.root_at, COUNTY, size) is Reason.BEYOND_LOG


def test_checkpoints_of_a_copy_are_those_that_are_kept(city: Journal) -> None:
    paper = PaperLog().add_many(99)
    city.receive(*paper.batches(50))
    signed, key = city.reader.checkpoint(COUNTY, 0)
    assert (signed.checkpoint.size, key) == (100, paper.signer.verifier_key.format())
    assert city.reader.checkpoint(COUNTY, 100)[0] == signed
    assert reason_of(city.reader.checkpoint, COUNTY, 99) is Reason.BEYOND_LOG


def test_roots_at_any_size(held: Journal, county: Journal) -> None:
    known = known_log(county)
    for size in (0, 1, 255, 256, 257, 512, 1_023, 1_699, 1_700):
        assert held.reader.root_at(COUNTY, size) == known.root(size)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 1_700), st.integers(1, 1_700))
def test_proofs_hold_by_another_implementation(held: Journal, county: Journal, one: int, other: int) -> None:
    sequence, size = min(one, other), max(one, other)
    known = known_log(county)
    proof = held.reader.inclusion_proof(COUNTY, sequence, size)
    assert (proof.size, proof.root, proof.entry) == (size, known.root(size), known.entries[sequence - 1])
    assert proof.leaf == naive_merkle.leaf(proof.entry)
    assert naive_merkle.root_from_path(proof.leaf, sequence - 1, size, proof.path) == proof.root
    consistency = held.reader.consistency_proof(COUNTY, sequence, size)
    roots = consistency.first_root, consistency.second_root
    assert (roots, consistency.second_size) == ((known.root(sequence), known.root(size)), size)
    assert naive_merkle.roots_from_proof(sequence, size, roots[0], consistency.path) == roots


def test_proofs_against_the_size_held(held: Journal) -> None:
    assert held.reader.inclusion_proof(COUNTY, 1_700, 0).size == 1_700
    assert held.reader.consistency_proof(COUNTY, 1_700, 0).path == []


@pytest.mark.parametrize(("sequence", "size"), [(0, 5), (-1, 5), (6, 5), (1, 1_701), (1, -1), (2**63 - 1, 0)])
def test_proofs_of_places_outside_the_log(held: Journal, sequence: int, size: int) -> None:
    assert reason_of(held.reader.inclusion_proof, COUNTY, sequence, size) is Reason.BEYOND_LOG
    assert reason_of(held.reader.consistency_proof, COUNTY, sequence, size) is Reason.BEYOND_LOG


def test_heads_are_ordered_by_origin(city: Journal) -> None:
    city.receive(PaperLog("141025").batch(), PaperLog("140999").batch(), PaperLog("141001").batch())
    assert [head.origin for head in city.reader.heads()] == ["140999", "141000", "141001", "141025"]
    assert [(position.origin, position.is_own) for position in city.handlers.positions(CITY)] == [(CITY, True)]


# Checkpoints of copies

GROWTH = st.lists(
    st.tuples(
        # Batches as a peer may cut them, mostly small, now and then as large as they may be.
        st.one_of(st.integers(1, 40), st.integers(300, 1_024)),
        st.sampled_from([10, 10, 10, 4_000, 60_000]),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(growth=GROWTH, starts=st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_thinning_leaves_an_end_for_every_position(
    journal: MakeJournal, city: Journal, growth: list[tuple[int, int]], starts: list[float]
) -> None:
    city.empty()
    paper = PaperLog()
    received = 0
    for count, size in growth:
        fitting = max(1, min(count, BATCH_BYTES_MAX // (size + 200) - 1))
        paper.add(*[bytes([number % 256]) * size for number in range(fitting)])
        city.receive(paper.batch(received + 1) if received else paper.batch(1, 1))
        received = city.size(COUNTY)
        if received < paper.size:
            city.receive(paper.batch(received + 1))
            received = paper.size
    known = KnownLog(COUNTY, "weighing", paper.signer.verifier_key, paper.entries)
    check_kept_checkpoints(city, known)
    for start in starts:
        check_reading(city, known, 1 + int(start * paper.size))


def test_single_entries_for_a_long_time_leave_few_checkpoints(city: Journal) -> None:
    paper = PaperLog().add_many(2_100)
    roots = paper.batches(*range(1, 2_101, 7))
    city.receive(*roots)
    check_kept_checkpoints(city, KnownLog(COUNTY, "weighing", paper.signer.verifier_key, paper.entries))
    assert len(city.kept_sizes(COUNTY)) <= 5


def test_a_copy_may_be_read_in_smaller_batches_than_asked_for_only_down_to_its_checkpoints(city: Journal) -> None:
    paper = PaperLog().add_many(299)
    city.receive(*paper.batches(100, 200))
    assert [batch.last_sequence for batch in city.batches(COUNTY, 1, 10)] == [300]
    signed = SignedCheckpoint.parse(city.batches(COUNTY)[0].checkpoint)
    assert signed.cosigned_at(city.signer.verifier_key) is not None
