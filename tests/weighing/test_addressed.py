"""Batches that platforms above have addressed, on their way into the directory: nothing is taken that is not proven."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.journal.addressed_batch import AddressedBatch, BatchStep
from services.journal.store.addressed import AddressedLog
from services.weighing import convert_directory
from services.weighing.addressed import AddressedRow, take
from tests.journal.paper_chain import PaperChain, addressed_entry
from tests.journal.paper_log import CITY, COUNTY, PROVINCE, PaperLog, signer_of
from tests.registry import examples

KIND = convert_directory.RULE_SET_KIND


def chain(**log: object) -> PaperChain:
    """Return a registry log with three versions of a rule set: for the city, the county, and everybody."""
    made = PaperChain(PaperLog(PROVINCE, stream="registry", **log))  # type: ignore[arg-type]  # passed through
    made.paper.add_raw(addressed_entry(CITY, payload(1), KIND))
    made.paper.add(b"between")
    made.paper.add_raw(addressed_entry(COUNTY, payload(2), KIND))
    made.paper.add_raw(addressed_entry(PROVINCE, payload(3), KIND))
    return made


def payload(version: int) -> bytes:
    return examples.rule_set(version=version).SerializeToString()


def row(sequence: int, audience: str, version: int) -> AddressedRow:
    return AddressedRow(PROVINCE, sequence, audience, KIND, 1, payload(version))


ALL = [row(2, CITY, 1), row(4, COUNTY, 2), row(5, PROVINCE, 3)]


def taken(*batches: AddressedBatch) -> tuple[AddressedLog, list[AddressedRow]]:
    """Take batches one after the other; return where the log stands then, and everything that came."""
    log: AddressedLog | None = None
    rows: list[AddressedRow] = []
    for batch in batches:
        after = take(batch, log, COUNTY)
        log = after.log
        rows += after.entries
    assert log is not None
    return log, rows


def refusal(batch: AddressedBatch, log: AddressedLog | None = None) -> Reason:
    with pytest.raises(ServiceError) as refused:
        take(batch, log, COUNTY)
    return refused.value.reason


@pytest.mark.parametrize("algorithm", ["sha256", "sm3"])
def test_what_is_proven_is_taken_whole_and_in_pieces(algorithm: str) -> None:
    paper = chain(algorithm=algorithm)
    whole = paper.batch()
    log, rows = taken(whole)
    assert rows == ALL
    assert (log.origin, log.through_sequence, log.root) == (PROVINCE, 5, paper.paper.root())
    assert (log.digest_algorithm, log.verifier_key) == (algorithm, paper.paper.signer.verifier_key.format())
    pieces = [replace(whole, steps=[step]) for step in whole.steps]
    assert taken(*pieces) == (log, rows)


def test_entries_for_others_are_not_there_and_nothing_is_missing() -> None:
    log, rows = taken(chain().batch(without=[2]))
    assert rows == ALL[1:]
    assert log.through_sequence == 5


def test_what_is_behind_the_position_comes_when_a_division_was_moved() -> None:
    paper = chain()
    log, _ = taken(paper.batch(without=[2]))
    late = AddressedBatch(PROVINCE, [paper.step(2)])
    after = take(late, log, COUNTY)
    assert (after.log, after.entries) == (log, [ALL[0]])


def test_what_is_sent_twice_is_taken_as_before() -> None:
    paper = chain()
    log, rows = taken(paper.batch())
    after = take(paper.batch(), log, COUNTY)
    assert (after.log, after.entries) == (log, rows)


def changed(batch: AddressedBatch, index: int, change: Callable[[BatchStep], BatchStep]) -> AddressedBatch:
    steps = list(batch.steps)
    steps[index] = change(steps[index])
    return replace(batch, steps=steps)


def with_entry(step: BatchStep, entry: bytes) -> BatchStep:
    return replace(step, entries=[*step.entries[:-1], replace(step.entries[-1], entry=entry)])


def test_a_figure_that_was_changed_on_the_way_is_refused() -> None:
    heavier = examples.rule_set(version=2)
    heavier.gross_limits[0].limit_kg += 50_000
    forged = addressed_entry(COUNTY, heavier.SerializeToString(), KIND)
    batch = changed(chain().batch(), 1, lambda step: with_entry(step, forged))
    assert refusal(batch) is Reason.HISTORY_MISMATCH


def test_a_rule_set_that_its_owner_never_signed_is_refused() -> None:
    paper = chain()
    log, _ = taken(paper.batch())
    forger = chain(signer=signer_of(PROVINCE, seed=1))
    forger.paper.add_raw(addressed_entry(COUNTY, payload(4), KIND))
    # A checkpoint by another key that claims to go on where the log stands.
    assert refusal(AddressedBatch(PROVINCE, [forger.step(6)]), log) is Reason.UNKNOWN_SIGNER
    # And behind the position, where only the signature can tell.
    assert refusal(AddressedBatch(PROVINCE, [forger.step(4)]), log) is Reason.UNKNOWN_SIGNER


def test_another_history_under_the_same_key_is_refused() -> None:
    log, _ = taken(chain().batch())
    other = PaperChain(PaperLog(PROVINCE, stream="registry")).address(COUNTY, b"one", b"two", b"three", b"four")
    assert refusal(AddressedBatch(PROVINCE, [other.step(5)]), log) is Reason.HISTORY_MISMATCH
    other.address(COUNTY, b"five")
    assert refusal(AddressedBatch(PROVINCE, [other.step(6)]), log) is Reason.HISTORY_MISMATCH


def test_steps_that_leave_others_out_are_refused() -> None:
    paper = chain()
    log, _ = taken(AddressedBatch(PROVINCE, [paper.step(2)]))
    assert refusal(AddressedBatch(PROVINCE, [paper.step(5)]), log) is Reason.SEQUENCE_GAP
    assert refusal(AddressedBatch(PROVINCE, [paper.step(4)])) is Reason.SEQUENCE_GAP
    assert refusal(AddressedBatch(PROVINCE, [paper.step(2, without=[1])])) is Reason.SEQUENCE_GAP


def test_logs_of_other_services_and_of_this_platform_are_refused() -> None:
    weighings = PaperChain(PaperLog(PROVINCE)).address(COUNTY, payload(1))
    assert refusal(weighings.batch()) is Reason.INVALID_CHECKPOINT
    own = PaperChain(PaperLog(COUNTY, stream="registry")).address(COUNTY, payload(1))
    assert refusal(own.batch()) is Reason.ORIGIN_NOT_ALLOWED


def test_a_kind_that_no_column_takes_does_not_hold_up_the_rest() -> None:
    paper = PaperChain(PaperLog(PROVINCE, stream="registry"))
    paper.paper.add_raw(
        addressed_entry(COUNTY, b"", "a\0b", schema=2**32 - 1), addressed_entry(COUNTY, payload(1), KIND)
    )
    _, rows = taken(paper.batch())
    assert rows == [AddressedRow(PROVINCE, 2, COUNTY, "", 2**32 - 1, b""), row(3, COUNTY, 1)]


def test_only_rule_sets_that_this_release_understands_judge() -> None:
    found = convert_directory.addressed_object(row(2, COUNTY, 7))
    assert found is not None
    assert (found.origin, found.sequence, found.audience, found.rule_set.version) == (PROVINCE, 2, COUNTY, 7)
    assert convert_directory.addressed_object(replace(row(2, COUNTY, 7), schema=2)) is None
    assert convert_directory.addressed_object(replace(row(2, COUNTY, 7), kind="zhichao.registry.v1.Later")) is None
