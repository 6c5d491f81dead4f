"""Cosignatures that come down: kept with checkpoints that are true here, once per cosigner, and with nothing else."""

import pytest

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.journal.notes import SIGNATURES_MAX, SignatureLine, SignedCheckpoint
from tests.journal.journals import Journal, incoming
from tests.journal.paper_log import CITY, COUNTY, NOW, PROVINCE, PaperLog, signer_of

SECONDS = int(NOW.timestamp())


def cosigners(journal: Journal, size: int = 0) -> dict[str, int | None]:
    signed, _ = journal.reader.checkpoint(COUNTY, size)
    keys = [signer_of(platform).verifier_key for platform in (CITY, PROVINCE)]
    return {key.name.removeprefix("zhichao/"): signed.cosigned_at(key) for key in keys}


def push(lower: Journal, upper: Journal) -> str:
    """Push what the upper platform lacks and return the last checkpoint that it answers."""
    batches = lower.batches(COUNTY, upper.size(COUNTY) + 1)
    return upper.receive(*map(incoming, batches))[-1].checkpoint


def refusal(journal: Journal, note: str) -> Reason:
    before = journal.content()
    with pytest.raises(ServiceError) as refused:
        journal.handlers.add_cosignatures(note)
    assert journal.content() == before
    return refused.value.reason


def test_cosignatures_come_down_to_the_owner_of_the_log(county: Journal, city: Journal) -> None:
    county.write_many(9)
    assert county.handlers.add_cosignatures(push(county, city)) == 1
    assert cosigners(county) == {CITY: SECONDS, PROVINCE: None}
    # A larger size is not cosigned yet; the smaller one stays.
    county.write_many(1)
    assert cosigners(county) == {CITY: None, PROVINCE: None}
    assert cosigners(county, 10) == {CITY: SECONDS, PROVINCE: None}
    signed, _ = county.reader.checkpoint(COUNTY, 10)
    assert signed.is_signed_by(county.signer.verifier_key)


def test_cosignatures_of_two_levels(county: Journal, city: Journal, province: Journal) -> None:
    county.write_many(9)
    county.handlers.add_cosignatures(push(county, city))
    from_province = push(city, province)
    assert city.handlers.add_cosignatures(from_province) == 1
    assert cosigners(city) == {CITY: SECONDS, PROVINCE: SECONDS}
    assert county.handlers.add_cosignatures(city.reader.checkpoint(COUNTY, 0)[0].format()) == 1
    assert cosigners(county) == {CITY: SECONDS, PROVINCE: SECONDS}


def test_adding_again_changes_nothing(county: Journal, city: Journal) -> None:
    note = push(county, city)
    assert county.handlers.add_cosignatures(note) == 1
    before = county.content()
    assert county.handlers.add_cosignatures(note) == 0
    assert county.content() == before


def test_the_first_cosignature_of_a_key_is_kept(county: Journal, city: Journal) -> None:
    signed = SignedCheckpoint.parse(push(county, city))
    county.handlers.add_cosignatures(signed.format())
    later = city.signer.cosign(SignedCheckpoint(signed.checkpoint, signed.signatures[:1]), SECONDS + 60)
    assert county.handlers.add_cosignatures(later.format()) == 0
    assert cosigners(county)[CITY] == SECONDS


def test_a_note_that_brings_no_cosignature_is_not_kept(county: Journal) -> None:
    assert county.handlers.add_cosignatures(county.reader.checkpoint(COUNTY, 0)[0].format()) == 0
    assert county.kept_sizes(COUNTY) == []


def test_a_checkpoint_of_a_copy_that_was_thinned_out(city: Journal, province: Journal) -> None:
    paper = PaperLog().add_many(9)
    batches = paper.batches(3, 6)
    city.receive(*batches)
    notes = [received.checkpoint for received in province.receive(*batches)]
    assert [city.handlers.add_cosignatures(note) for note in notes] == [0, 0, 1]
    assert city.kept_sizes(COUNTY) == [10]


def test_own_checkpoints_with_cosignatures_are_thinned_too(county: Journal, city: Journal) -> None:
    for _ in range(30):
        county.write_many(100)
        county.handlers.add_cosignatures(push(county, city))
    assert cosigners(county)[CITY] == SECONDS
    kept = county.kept_sizes(COUNTY)
    assert kept[-1] == 3_001
    assert len(kept) <= 7


def test_notes_that_prove_nothing_here(county: Journal, city: Journal) -> None:
    county.write_many(9)
    signed = SignedCheckpoint.parse(push(county, city))
    note = signed.format()
    root = note.split("\n")[2]
    wrong = [
        "",
        note.removesuffix("\n"),
        note.replace(root, "A" * 43 + "="),
        note.replace("\n10\n", "\n9\n"),
        note.replace("\n10\n", "\n11\n"),
        note.replace("\n10\n", f"\n{2**63 - 1}\n"),
        note.replace("\n10\n", f"\n{'9' * 5_000}\n"),
        note.replace("/weighing\n", "/registry\n"),
        note.replace("/weighing\n", "/weighing/weighing\n"),
        note.replace("zhichao/141025/", "zhichao/"),
        note.replace("zhichao/141025/", "zhichao//"),
        note.replace("zhichao/141025/", "zhichao/141026/"),
        note.replace("zhichao/141025/", "zhichao/1410２5/"),
        note.replace("zhichao/141025/", "zhichao/141025\x00/"),
        note.replace("zhichao/141025/weighing", "zhichao/zhichao/141025/weighing"),
        note.replace("zhichao/141025/weighing", "141025"),
        note.replace("zhichao/141025/weighing", "weighing"),
        note.replace("zhichao/141025/weighing", "zhichao/" + "1" * 5_000 + "/weighing"),
    ]
    assert {refusal(county, one) for one in wrong} == {Reason.INVALID_CHECKPOINT}
    assert refusal(city, note.replace("141025/weighing", "141099/weighing")) is Reason.INVALID_CHECKPOINT


def test_junk_neither_fills_the_note_nor_makes_it_unreadable(county: Journal, city: Journal) -> None:
    signed = SignedCheckpoint.parse(push(county, city))
    for start in range(0, 400, 80):
        junk = [SignatureLine(f"junk/{start + number}", bytes(4), bytes(72)) for number in range(80)]
        county.handlers.add_cosignatures(SignedCheckpoint(signed.checkpoint, tuple(junk)).format())
        other = [SignatureLine(f"other/{start + number}", bytes(4), b"some other kind") for number in range(80)]
        assert county.handlers.add_cosignatures(SignedCheckpoint(signed.checkpoint, tuple(other)).format()) == 0
    found, _ = county.reader.checkpoint(COUNTY, 0)
    assert len(found.signatures) <= SIGNATURES_MAX
    assert found.is_signed_by(county.signer.verifier_key)


def test_a_forged_origin_line_never_replaces_our_signature(county: Journal, city: Journal) -> None:
    signed = SignedCheckpoint.parse(push(county, city))
    origin = signed.signatures[0]
    forged = SignatureLine(origin.name, origin.key_id, bytes(72))
    county.handlers.add_cosignatures(SignedCheckpoint(signed.checkpoint, (forged, *signed.signatures)).format())
    found, _ = county.reader.checkpoint(COUNTY, 0)
    assert found.is_signed_by(county.signer.verifier_key)
    assert found.cosigned_at(city.signer.verifier_key) == SECONDS


def test_the_newest_cosigned_checkpoint_can_be_asked_for(county: Journal, city: Journal) -> None:
    with pytest.raises(ServiceError) as refused:
        county.reader.cosigned_checkpoint(COUNTY, 0)
    assert refused.value.reason is Reason.BEYOND_LOG
    county.write_many(9)
    county.handlers.add_cosignatures(push(county, city))
    county.write_many(1)
    signed, verifier_key = county.reader.cosigned_checkpoint(COUNTY, 10)
    assert signed.checkpoint.size == 10
    assert signed.is_signed_by(county.signer.verifier_key)
    assert signed.cosigned_at(signer_of(CITY).verifier_key) == SECONDS
    assert verifier_key == county.signer.verifier_key.format()
    # What was written since is not cosigned.
    with pytest.raises(ServiceError) as refused:
        county.reader.cosigned_checkpoint(COUNTY, 11)
    assert refused.value.reason is Reason.BEYOND_LOG
    assert county.handlers.checkpoint(COUNTY, 10, is_cosigned=True)[0] == signed.format()
    # The copy above has its own cosignature on what it received.
    copied, _ = city.reader.cosigned_checkpoint(COUNTY, 10)
    assert copied.cosigned_at(signer_of(CITY).verifier_key) == SECONDS
