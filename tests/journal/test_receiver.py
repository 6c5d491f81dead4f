"""What a receiver accepts, what it answers, and why it refuses; a refused batch leaves nothing behind."""

from datetime import timedelta
from typing import Any

import pytest

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.journal.limits import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, ENTRY_BYTES_MAX
from services.journal.notes import SignedCheckpoint
from services.journal.receiver import IncomingBatch, Received
from tests.journal.conftest import MakeJournal
from tests.journal.journals import Journal, assert_same_log
from tests.journal.paper_log import CITY, COUNTY, NOW, PROVINCE, PaperLog, entry_of, signer_of

COSIGNER = signer_of(CITY).verifier_key


def cosigned_seconds(received: Received) -> int | None:
    return SignedCheckpoint.parse(received.checkpoint).cosigned_at(COSIGNER)


def test_a_log_is_received_and_cosigned(city: Journal) -> None:
    paper = PaperLog().add_many(9)
    (received,) = city.receive(paper.batch())
    assert (received.head.size, received.head.root, received.head.is_own) == (10, paper.root(), False)
    assert (received.duplicate_count, received.parked_count) == (0, 0)
    assert received.head.total_bytes == sum(map(len, paper.entries))
    assert received.head.last_write_time == NOW
    signed = SignedCheckpoint.parse(received.checkpoint)
    assert signed.is_signed_by(paper.signer.verifier_key)
    assert signed.cosigned_at(COSIGNER) == int(NOW.timestamp())
    assert city.entries(COUNTY) == paper.entries
    assert list(city.notes(COUNTY)) == list(range(2, 11))


def test_a_log_with_another_digest_is_received(city: Journal) -> None:
    paper = PaperLog(algorithm="sm3").add_many(300)
    received = city.receive(*paper.batches(5, 260))
    assert received[-1].head.root == paper.root()


def test_batches_of_a_new_log_may_be_in_flight_together(city: Journal) -> None:
    # The second is prepared while the first, which begins the log, is not committed yet.
    paper = PaperLog().add_many(99)
    for _ in range(20):
        city.empty()
        received = city.receive(*paper.batches(*range(1, 100)))
        assert [one.head.size for one in received] == list(range(1, 101))


def test_logs_may_share_a_stream(city: Journal) -> None:
    one, other = PaperLog("141025").add_many(3), PaperLog("141026", algorithm="sm3").add_many(3)
    pairs = zip(one.batches(1, 2), other.batches(1, 2), strict=True)
    received = city.receive(*[batch for pair in pairs for batch in pair])
    assert [(each.head.origin, each.head.size) for each in received] == [
        (origin, size) for size in (1, 2, 4) for origin in ("141025", "141026")
    ]


def test_a_batch_sent_again_changes_nothing_and_gets_the_same_answer(city: Journal) -> None:
    paper = PaperLog().add_many(9)
    (first,) = city.receive(paper.batch())
    before = city.content()
    city.clock.time += timedelta(hours=1)
    (again,) = city.receive(paper.batch())
    assert city.content() == before
    assert (again.head, again.duplicate_count, again.checkpoint) == (first.head, 10, first.checkpoint)


def test_an_overlap_is_recognised_and_the_rest_appended(city: Journal) -> None:
    paper = PaperLog().add_many(9)
    city.receive(paper.batch(1, 6))
    (received,) = city.receive(paper.batch(3, 10))
    assert (received.head.size, received.duplicate_count) == (10, 4)
    assert city.entries(COUNTY) == paper.entries
    assert list(city.notes(COUNTY)) == list(range(2, 11))


def test_an_older_batch_with_other_ends_is_a_duplicate(city: Journal) -> None:
    paper = PaperLog().add_many(9)
    city.receive(paper.batch())
    before = city.content()
    (received,) = city.receive(paper.batch(2, 5))
    assert (received.head.size, received.duplicate_count) == (10, 4)
    assert city.content() == before


def test_a_smaller_size_is_never_cosigned_after_a_larger_one(city: Journal) -> None:
    # A cosignature states the largest size seen at its time (C2SP tlog-cosignature).
    paper = PaperLog().add_many(9)
    city.receive(paper.batch())
    (received,) = city.receive(paper.batch(2, 5))
    assert cosigned_seconds(received) is None
    assert SignedCheckpoint.parse(received.checkpoint).is_signed_by(paper.signer.verifier_key)


def test_a_clock_that_is_set_back_does_not_take_cosignatures_back(city: Journal) -> None:
    paper = PaperLog().add_many(2)
    (first,) = city.receive(paper.batch(1, 2))
    city.clock.time -= timedelta(days=1)
    (second,) = city.receive(paper.batch(3, 3))
    assert cosigned_seconds(first) == cosigned_seconds(second) == int(NOW.timestamp())


def test_a_gap_names_the_expected_sequence(city: Journal) -> None:
    paper = PaperLog().add_many(9)
    error = city.refusal(paper.batch(2, 5))
    assert (error.reason, error.metadata) == (Reason.SEQUENCE_GAP, {"origin": COUNTY, "expected_sequence": "1"})
    city.receive(paper.batch(1, 4))
    error = city.refusal(paper.batch(6, 10))
    assert (error.reason, error.metadata) == (Reason.SEQUENCE_GAP, {"origin": COUNTY, "expected_sequence": "5"})


def test_other_bytes_at_a_held_place_are_another_history(city: Journal) -> None:
    paper = PaperLog().add_many(5)
    city.receive(paper.batch())
    other = PaperLog().add_many(4).add(b"something else").add_many(3)
    for batch in (other.batch(), other.batch(6, 6), other.batch(4, 9)):
        error = city.refusal(batch)
        assert (error.reason, error.metadata) == (Reason.HISTORY_MISMATCH, {"origin": COUNTY, "sequence": "6"})


def test_another_history_is_found_without_an_overlap(city: Journal) -> None:
    city.receive(PaperLog().add_many(5).batch())
    other = PaperLog().add_many(4).add(b"something else").add_many(3)
    assert city.refusal(other.batch(7, 9)).reason is Reason.HISTORY_MISMATCH


def test_another_entry_1_is_another_history(city: Journal) -> None:
    city.receive(PaperLog().add_many(1).batch())
    for other in (PaperLog(algorithm="sm3"), PaperLog(signer=signer_of(COUNTY, seed=1))):
        error = city.refusal(other.add_many(1).batch())
        assert (error.reason, error.metadata["sequence"]) == (Reason.HISTORY_MISMATCH, "1")


def test_a_root_that_is_not_that_of_the_entries(city: Journal) -> None:
    paper = PaperLog().add_many(5)
    for batch in (paper.batch(root=bytes(32)), paper.batch(1, 3, root=paper.root())):
        assert city.refusal(batch).reason is Reason.HISTORY_MISMATCH
    city.receive(paper.batch(1, 3))
    assert city.refusal(paper.batch(4, root=bytes(32))).reason is Reason.HISTORY_MISMATCH
    # Also where all entries are held already.
    assert city.refusal(paper.batch(2, 3, root=bytes(32))).reason is Reason.HISTORY_MISMATCH
    assert city.refusal(paper.batch(1, 2, root=bytes(32))).reason is Reason.HISTORY_MISMATCH


@pytest.mark.parametrize(
    "lies",
    [
        {"signed_size": 4},
        {"signed_size": 6},
        {"signed_size": 0},
        {"name": "zhichao/141025/registry"},
        {"name": "zhichao/141026/weighing"},
        {"name": "141025"},
    ],
)
def test_a_checkpoint_of_another_size_or_log(city: Journal, lies: dict[str, Any]) -> None:
    error = city.refusal(PaperLog().add_many(4).batch(**lies))
    assert error.reason is Reason.INVALID_CHECKPOINT


@pytest.mark.parametrize("note", ["", "\n\n", "zhichao/141025/weighing\n5\n\n\n", "\x00", "x" * 20_000])
def test_a_checkpoint_that_is_none(city: Journal, note: str) -> None:
    paper = PaperLog().add_many(4)
    assert city.refusal(IncomingBatch(COUNTY, 1, paper.entries, note)).reason is Reason.INVALID_CHECKPOINT


def test_an_unsigned_checkpoint(city: Journal) -> None:
    paper = PaperLog().add_many(4)
    body = paper.checkpoint().partition("\n\n")[0]
    for note in (f"{body}\n", f"{body}\n\n"):
        assert city.refusal(IncomingBatch(COUNTY, 1, paper.entries, note)).reason is Reason.INVALID_CHECKPOINT


@pytest.mark.parametrize("signer", [signer_of(COUNTY, seed=1), signer_of(CITY), signer_of(PROVINCE)])
def test_a_checkpoint_signed_with_another_key(city: Journal, signer: object) -> None:
    paper = PaperLog().add_many(4)
    assert city.refusal(paper.batch(signer=signer)).reason is Reason.UNKNOWN_SIGNER
    city.receive(paper.batch(1, 3))
    assert city.refusal(paper.batch(4, signer=signer)).reason is Reason.UNKNOWN_SIGNER
    assert city.refusal(paper.batch(1, 3, signer=signer)).reason is Reason.UNKNOWN_SIGNER


def test_a_cosignature_alone_is_no_signature_of_the_origin(city: Journal) -> None:
    paper = PaperLog().add_many(4)
    signed = SignedCheckpoint.parse(paper.checkpoint())
    cosigned_only = paper.signer.cosign(SignedCheckpoint(signed.checkpoint, ()), 1)
    batch = IncomingBatch(COUNTY, 1, paper.entries, cosigned_only.format())
    assert city.refusal(batch).reason is Reason.UNKNOWN_SIGNER


def test_our_own_log_is_not_received(city: Journal) -> None:
    error = city.refusal(PaperLog(CITY).add_many(4).batch())
    assert (error.reason, error.metadata) == (Reason.ORIGIN_NOT_ALLOWED, {"origin": CITY})


def test_a_log_of_another_stream(city: Journal) -> None:
    error = city.refusal(PaperLog(stream="registry").batch(name="zhichao/141025/weighing"))
    assert error.reason is Reason.HISTORY_MISMATCH


def test_a_log_that_begins_as_another_platforms(city: Journal) -> None:
    error = city.refusal(PaperLog(COUNTY, stream="weighing").add_many(1).batch(2, 2))
    assert error.reason is Reason.SEQUENCE_GAP
    liar = PaperLog("141026")
    batch = IncomingBatch(COUNTY, 1, liar.entries, PaperLog().checkpoint(1))
    assert city.refusal(batch).reason is Reason.HISTORY_MISMATCH


def test_a_log_without_a_beginning(city: Journal) -> None:
    paper = PaperLog()
    paper.entries = [entry_of(b"no log start")]
    error = city.refusal(paper.batch())
    assert (error.reason, error.metadata["sequence"]) == (Reason.HISTORY_MISMATCH, "1")


def test_a_digest_algorithm_that_is_not_known(city: Journal) -> None:
    assert city.refusal(PaperLog(algorithm="md5").batch()).reason is Reason.INVALID_ARGUMENT


def test_the_largest_batches_are_taken(city: Journal) -> None:
    paper = PaperLog().add_many(BATCH_RECORDS_MAX - 1)
    city.receive(paper.batch())
    overhead = len(entry_of(bytes(65_000))) - 65_000
    largest = bytes(ENTRY_BYTES_MAX - overhead)
    paper.add(*[largest] * (BATCH_BYTES_MAX // ENTRY_BYTES_MAX))
    (received,) = city.receive(paper.batch(BATCH_RECORDS_MAX + 1))
    assert received.head.root == paper.root()


def test_larger_batches_and_entries_are_refused(city: Journal) -> None:
    paper = PaperLog().add_many(BATCH_RECORDS_MAX)
    error = city.refusal(paper.batch())
    assert (error.reason, error.metadata) == (Reason.BATCH_TOO_LARGE, {"limit": "1024", "actual": "1025"})
    overhead = len(entry_of(bytes(65_000))) - 65_000
    one_too_long = PaperLog().add(bytes(ENTRY_BYTES_MAX - overhead + 1))
    error = city.refusal(one_too_long.batch())
    assert (error.reason, error.metadata) == (Reason.ENTRY_TOO_LARGE, {"limit": "65536", "actual": "65537"})
    too_long_together = PaperLog().add(*[bytes(65_000)] * 65)
    error = city.refusal(too_long_together.batch())
    assert (error.reason, error.metadata["limit"]) == (Reason.ENTRY_TOO_LARGE, str(BATCH_BYTES_MAX))


def test_every_batch_before_the_refused_one_is_committed_and_told(city: Journal) -> None:
    paper = PaperLog().add_many(9)
    received = city.receiver.receive_all([*paper.batches(2, 4)[:2], paper.batch(8, 10)])
    assert [next(received).head.size, next(received).head.size] == [2, 4]
    with pytest.raises(ServiceError, match="SEQUENCE_GAP"):
        next(received)
    assert city.size(COUNTY) == 4


def test_a_log_from_a_real_writer_is_received(county: Journal, city: Journal, journal: MakeJournal) -> None:
    county.write_many(2_500)
    city.pull(county, COUNTY)
    assert_same_log(city, county, COUNTY)
