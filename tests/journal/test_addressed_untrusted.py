"""What a platform above may not do: every lie about addressed entries is refused and leaves nothing behind."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from services.common.reasons import Reason
from services.journal import addressed_incoming, addressed_receiver
from services.journal.addressed_batch import AddressedBatch, ProvenEntry
from services.journal.limits import ENTRY_BYTES_MAX
from tests.journal.addressed import Platform
from tests.journal.paper_chain import PaperChain, addressed_entry
from tests.journal.paper_log import CITY, COUNTY, PROVINCE, PaperLog, signer_of

Lie = Callable[[AddressedBatch], AddressedBatch]


def chain() -> PaperChain:
    """Return a log with addressed entries at 2, 4 and 7."""
    paper = PaperChain(PaperLog(PROVINCE)).address(CITY, b"one")
    paper.paper.add(b"between")
    paper.address(COUNTY, b"two")
    paper.paper.add_many(2)
    return paper.address(PROVINCE, b"three")


def step_changed(batch: AddressedBatch, index: int, **changes: object) -> AddressedBatch:
    steps = list(batch.steps)
    steps[index] = replace(steps[index], **changes)  # type: ignore[arg-type] # the test names fields of a step
    return replace(batch, steps=steps)


def entry_changed(batch: AddressedBatch, index: int, **changes: object) -> AddressedBatch:
    """Change the last entry of a step."""
    entries = list(batch.steps[index].entries)
    entries[-1] = replace(entries[-1], **changes)  # type: ignore[arg-type] # the test names fields of an entry
    return step_changed(batch, index, entries=entries)


def flipped(digests: list[bytes]) -> list[bytes]:
    return [bytes([digests[0][0] ^ 1]) + digests[0][1:], *digests[1:]]


def test_the_truth_is_accepted_whole_and_in_pieces(middle: Platform) -> None:
    paper = chain()
    assert paper.sizes == [2, 4, 7]
    batch = paper.batch()
    for steps in (batch.steps[:1], batch.steps[1:2], batch.steps[2:]):
        middle.receive(replace(batch, steps=steps))
    assert middle.held(PROVINCE) == {2: b"one", 4: b"two", 7: b"three"}
    assert middle.receive(batch).duplicate_count == 3


@pytest.mark.parametrize("algorithm", ["sha256", "sm3"])
def test_logs_of_every_digest(middle: Platform, algorithm: str) -> None:
    paper = PaperChain(PaperLog(PROVINCE, algorithm=algorithm)).address(CITY, b"one", b"two")
    assert middle.receive(paper.batch()).log.digest_algorithm == algorithm
    assert middle.held(PROVINCE) == {2: b"one", 3: b"two"}


HISTORIES: dict[str, Lie] = {
    "other bytes": lambda batch: entry_changed(batch, 1, entry=addressed_entry(COUNTY, b"2")),
    "an entry of another place": lambda batch: entry_changed(batch, 1, entry=batch.steps[2].entries[-1].entry),
    "a changed path": lambda batch: entry_changed(
        batch, 2, inclusion_path=flipped(batch.steps[2].entries[-1].inclusion_path)
    ),
    "a path that is too short": lambda batch: entry_changed(
        batch, 2, inclusion_path=batch.steps[2].entries[-1].inclusion_path[1:]
    ),
    "a path that is too long": lambda batch: entry_changed(
        batch, 2, inclusion_path=[*batch.steps[2].entries[-1].inclusion_path, bytes(32)]
    ),
    "no path": lambda batch: entry_changed(batch, 1, inclusion_path=[]),
    "a changed proof of consistency": lambda batch: step_changed(
        batch, 1, consistency_path=flipped(batch.steps[1].consistency_path)
    ),
    "no proof of consistency": lambda batch: step_changed(batch, 2, consistency_path=[]),
    "a proof for a step without one before": lambda batch: step_changed(batch, 0, consistency_path=[bytes(32)]),
    "another entry 1": lambda batch: step_changed(
        batch,
        0,
        entries=[
            ProvenEntry(1, PaperLog(PROVINCE, stream="registry").entries[0], batch.steps[0].entries[0].inclusion_path),
            batch.steps[0].entries[1],
        ],
    ),
    "an entry 1 that is none": lambda batch: step_changed(
        batch, 0, entries=[replace(batch.steps[0].entries[0], entry=b"\xff"), batch.steps[0].entries[1]]
    ),
}


@pytest.mark.parametrize("lie", HISTORIES.values(), ids=HISTORIES.keys())
def test_what_is_not_proven_is_another_history(middle: Platform, lie: Lie) -> None:
    assert middle.refusal(lie(chain().batch())).reason is Reason.HISTORY_MISMATCH
    assert middle.receive(chain().batch()).log.through_sequence == 7, "the truth is accepted afterwards"


def other_signer(batch: AddressedBatch) -> AddressedBatch:
    liar = PaperChain(PaperLog(PROVINCE, signer=signer_of(PROVINCE, 1)))
    liar.paper.entries = chain().paper.entries
    return step_changed(batch, 1, checkpoint=liar.paper.checkpoint(4))


CHECKPOINTS: dict[str, tuple[Lie, Reason]] = {
    "of another signer": (other_signer, Reason.UNKNOWN_SIGNER),
    "unsigned": (
        lambda batch: step_changed(batch, 1, checkpoint=batch.steps[1].checkpoint.replace("—", "-")),
        Reason.INVALID_CHECKPOINT,
    ),
    "of another log": (
        lambda batch: step_changed(batch, 1, checkpoint=chain().paper.checkpoint(4, name="zhichao/140000/registry")),
        Reason.INVALID_CHECKPOINT,
    ),
    "of another root": (
        lambda batch: step_changed(batch, 1, checkpoint=chain().paper.checkpoint(4, root=bytes(32))),
        Reason.HISTORY_MISMATCH,
    ),
    "no note": (lambda batch: step_changed(batch, 1, checkpoint="hello"), Reason.INVALID_CHECKPOINT),
    "not beyond the step before": (
        lambda batch: step_changed(batch, 1, previous_size=4),
        Reason.INVALID_CHECKPOINT,
    ),
    "behind nothing": (lambda batch: step_changed(batch, 1, previous_size=-1), Reason.INVALID_CHECKPOINT),
    "in another order": (
        lambda batch: replace(batch, steps=[batch.steps[0], batch.steps[2], batch.steps[1]]),
        Reason.INVALID_CHECKPOINT,
    ),
    "twice": (lambda batch: replace(batch, steps=[*batch.steps, batch.steps[2]]), Reason.INVALID_CHECKPOINT),
    "with an entry of another place": (
        lambda batch: entry_changed(batch, 1, sequence=3),
        Reason.INVALID_CHECKPOINT,
    ),
    "with an entry twice": (
        lambda batch: step_changed(batch, 1, entries=batch.steps[1].entries * 2),
        Reason.INVALID_CHECKPOINT,
    ),
    "with entry 1 in the middle": (
        lambda batch: step_changed(batch, 1, entries=[batch.steps[0].entries[0], *batch.steps[1].entries]),
        Reason.INVALID_CHECKPOINT,
    ),
    "with a step left out": (
        lambda batch: replace(batch, steps=[batch.steps[0], batch.steps[2]]),
        Reason.SEQUENCE_GAP,
    ),
}


@pytest.mark.parametrize(("lie", "reason"), CHECKPOINTS.values(), ids=CHECKPOINTS.keys())
def test_checkpoints_that_prove_nothing(middle: Platform, lie: Lie, reason: Reason) -> None:
    assert middle.refusal(lie(chain().batch())).reason is reason


def test_a_history_that_is_rewritten_behind_our_position_is_noticed(middle: Platform) -> None:
    """The liar has the key: everything that it sends is well signed and proven, only not the log that we hold."""
    middle.receive(chain().batch())
    liar = PaperChain(PaperLog(PROVINCE)).address(CITY, b"one")
    liar.paper.add(b"something else")
    liar.address(COUNTY, b"two")
    liar.paper.add_many(2)
    liar.address(PROVINCE, b"three").address(CITY, b"four")
    goes_on = liar.batch(after=7)
    assert middle.refusal(goes_on).reason is Reason.HISTORY_MISMATCH
    assert middle.refusal(liar.batch()).reason is Reason.HISTORY_MISMATCH
    assert middle.refusal(liar.batch(after=4)).reason is Reason.HISTORY_MISMATCH
    assert middle.refusal(AddressedBatch(PROVINCE, [liar.step(4)])).reason is Reason.HISTORY_MISMATCH


def test_a_step_that_was_not_there_is_noticed(middle: Platform) -> None:
    middle.receive(chain().batch())
    liar = PaperChain(PaperLog(PROVINCE)).address(CITY, b"one").address(CITY, b"inserted")
    assert middle.refusal(liar.batch(after=2)).reason is Reason.HISTORY_MISMATCH


def test_a_held_step_with_another_one_before_it_is_noticed(middle: Platform) -> None:
    paper = chain()
    middle.receive(paper.batch())
    step = replace(paper.step(7), previous_size=3)
    assert middle.refusal(AddressedBatch(PROVINCE, [step])).reason is Reason.HISTORY_MISMATCH


def test_an_entry_left_out_may_come_later_in_its_step(middle: Platform) -> None:
    paper = chain()
    middle.receive(paper.batch(without=[4]))
    received = middle.receive(AddressedBatch(PROVINCE, [paper.step(4)]))
    assert (received.log.through_sequence, received.duplicate_count) == (7, 0)
    assert middle.held(PROVINCE) == {2: b"one", 4: b"two", 7: b"three"}
    assert middle.receipts(PROVINCE) == [(2, CITY), (4, CITY), (7, CITY)]


def test_an_entry_of_a_held_step_is_proven_too(middle: Platform) -> None:
    paper = chain()
    middle.receive(paper.batch(without=[4]))
    lie = entry_changed(AddressedBatch(PROVINCE, [paper.step(4)]), 0, entry=addressed_entry(COUNTY, b"2"))
    assert middle.refusal(lie).reason is Reason.HISTORY_MISMATCH


def of_another_platform() -> PaperLog:
    """Return a log that somebody else began."""
    paper = PaperLog("150000")
    paper.origin = PROVINCE
    return paper


def test_a_log_begins_with_entry_1(middle: Platform) -> None:
    refusal = middle.refusal(chain().batch(without=[1]))
    assert (refusal.reason, refusal.metadata["expected_sequence"]) == (Reason.SEQUENCE_GAP, "0")
    refusal = middle.refusal(chain().batch(after=2))
    assert (refusal.reason, refusal.metadata["expected_sequence"]) == (Reason.SEQUENCE_GAP, "0")


def test_a_gap_names_the_step_held(middle: Platform) -> None:
    paper = chain()
    middle.receive(AddressedBatch(PROVINCE, [paper.step(2)]))
    refusal = middle.refusal(AddressedBatch(PROVINCE, [paper.step(7)]))
    assert (refusal.reason, refusal.metadata["expected_sequence"]) == (Reason.SEQUENCE_GAP, "2")


@pytest.mark.parametrize(
    ("paper", "reason"),
    [
        (PaperLog(PROVINCE, verifier_key="no key"), Reason.INVALID_CHECKPOINT),
        (PaperLog(PROVINCE, verifier_key=signer_of(CITY).verifier_key.format()), Reason.INVALID_CHECKPOINT),
        (PaperLog(PROVINCE, digest_algorithm="md5"), Reason.INVALID_ARGUMENT),
        (of_another_platform(), Reason.HISTORY_MISMATCH),
    ],
)
def test_logs_that_nobody_may_begin(middle: Platform, paper: PaperLog, reason: Reason) -> None:
    plain = PaperChain(PaperLog(PROVINCE)).address(CITY, b"one")
    paper.add_raw(addressed_entry(CITY, b"one"))
    (step,) = plain.batch().steps
    lie = replace(step, checkpoint=paper.checkpoint(), entries=[ProvenEntry(1, paper.entries[0], [])])
    assert middle.refusal(AddressedBatch(PROVINCE, [lie])).reason is reason


@pytest.mark.parametrize("origin", ["", "14", "1410000", "１４００００", "14000x"])
def test_origins_that_are_no_codes(middle: Platform, origin: str) -> None:
    assert middle.refusal(AddressedBatch(origin, chain().batch().steps)).reason is Reason.INVALID_ARGUMENT


def test_our_own_log_is_not_received(middle: Platform) -> None:
    paper = PaperChain(PaperLog(CITY)).address(COUNTY, b"forged")
    assert middle.refusal(paper.batch()).reason is Reason.ORIGIN_NOT_ALLOWED


def test_an_entry_to_nobody_is_refused(middle: Platform) -> None:
    paper = chain()
    middle.receive(paper.batch())
    lie = paper.step(paper.paper.add(b"to nobody").size)
    assert middle.refusal(AddressedBatch(PROVINCE, [lie])).reason is Reason.INVALID_ARGUMENT


def test_bounds(middle: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    paper = chain()
    batch = paper.batch()
    assert middle.refusal(replace(batch, steps=[])).reason is Reason.BATCH_TOO_LARGE
    large = addressed_entry(CITY, b"x" * ENTRY_BYTES_MAX)
    assert middle.refusal(entry_changed(batch, 0, entry=large)).reason is Reason.ENTRY_TOO_LARGE
    for path in ([bytes(31)], [bytes(33)], [bytes(32)] * 129):
        assert middle.refusal(entry_changed(batch, 0, inclusion_path=path)).reason is Reason.INVALID_ARGUMENT
        assert middle.refusal(step_changed(batch, 1, consistency_path=path)).reason is Reason.INVALID_ARGUMENT
    monkeypatch.setattr(addressed_incoming, "ADDRESSED_BATCH_STEPS_MAX", 2)
    refusal = middle.refusal(batch)
    assert (refusal.reason, refusal.metadata) == (Reason.BATCH_TOO_LARGE, {"limit": "2", "actual": "3"})
    monkeypatch.undo()
    monkeypatch.setattr(addressed_incoming, "ADDRESSED_BATCH_BYTES_MAX", 100)
    assert middle.refusal(batch).reason is Reason.ENTRY_TOO_LARGE


def test_logs_of_too_many_origins_are_not_begun(middle: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addressed_receiver, "ADDRESSED_ORIGINS_MAX", 1)
    middle.receive(chain().batch())
    other = PaperChain(PaperLog("100000")).address(CITY, b"one")
    refusal = middle.refusal(other.batch())
    assert (refusal.reason, refusal.metadata) == (Reason.ORIGIN_NOT_ALLOWED, {"origin": "100000", "limit": "1"})
    assert middle.receive(chain().batch()).duplicate_count == 3, "the one that is held goes on"
