"""What a peer may write to do harm: every attempt is refused with a reason, or kept without harm."""

import base64

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.journal import limits, notes, receiver
from services.journal.notes import SignatureLine, SignedCheckpoint
from services.journal.receiver import IncomingBatch
from tests.journal.journals import Journal
from tests.journal.paper_log import CITY, COUNTY, KIND, NOW, PaperLog, signer_of
from zhichao.journal.v1 import entry_pb2

CITY_SIGNER = signer_of(CITY)


def with_lines(paper: PaperLog, *lines: SignatureLine, size: int | None = None) -> str:
    signed = SignedCheckpoint.parse(paper.checkpoint(size))
    return SignedCheckpoint(signed.checkpoint, (*lines, *signed.signatures)).format()


@pytest.mark.parametrize(
    "origin",
    ["", "14102", "1410251", "１４１０２５", "14102²", "14102\x00", "'; --", "141025/", "14\n025", "x" * 10_000],
)
def test_origins_that_are_no_platform_codes(city: Journal, origin: str) -> None:
    error = city.refusal(PaperLog().batch(origin=origin))
    assert error.reason is Reason.INVALID_ARGUMENT
    assert len(error.message) < 200


@pytest.mark.parametrize("first", [0, -1, -(2**63)])
def test_sequences_below_1(city: Journal, first: int) -> None:
    paper = PaperLog()
    batch = IncomingBatch(COUNTY, first, paper.entries, paper.checkpoint())
    assert city.refusal(batch).reason is Reason.INVALID_ARGUMENT


@pytest.mark.parametrize("first", [2**31, 2**53, 2**63 - 2, 2**63 - 1])
def test_sequences_far_beyond_the_log(city: Journal, first: int) -> None:
    paper = PaperLog().add_many(1)
    city.receive(paper.batch())
    note = paper.checkpoint(signed_size=min(first, 2**63 - 1))
    error = city.refusal(IncomingBatch(COUNTY, first, [paper.entries[1]], note))
    assert error.reason is Reason.SEQUENCE_GAP
    # The end of such a batch does not fit any number that is stored.
    error = city.refusal(IncomingBatch(COUNTY, first, paper.entries, note))
    assert error.reason is Reason.INVALID_CHECKPOINT


def test_a_batch_without_entries(city: Journal) -> None:
    paper = PaperLog()
    assert city.refusal(IncomingBatch(COUNTY, 1, [], paper.checkpoint())).reason is Reason.BATCH_TOO_LARGE
    assert city.refusal(IncomingBatch(COUNTY, 2, [], paper.checkpoint())).reason is Reason.BATCH_TOO_LARGE


def test_a_batch_of_very_many_empty_entries(city: Journal) -> None:
    paper = PaperLog()
    batch = IncomingBatch(COUNTY, 1, [b""] * 1_000_000, paper.checkpoint())
    assert city.refusal(batch).reason is Reason.BATCH_TOO_LARGE


def test_a_size_of_ten_thousand_digits(city: Journal) -> None:
    paper = PaperLog()
    note = paper.checkpoint().replace("\n1\n", f"\n{'1' * 10_000}\n")
    assert city.refusal(IncomingBatch(COUNTY, 1, paper.entries, note)).reason is Reason.INVALID_CHECKPOINT


@pytest.mark.parametrize(
    "key",
    [
        "",
        "zhichao/141025",
        "zhichao/141025\x00",
        "+".join(["zhichao/141025", "00000000", base64.b64encode(bytes(33)).decode()]),
        "z" * 60_000,
        "公钥" * 10_000,
    ],
)
def test_logs_that_begin_with_no_key(city: Journal, key: str) -> None:
    error = city.refusal(PaperLog(verifier_key=key).batch())
    assert error.reason is Reason.INVALID_CHECKPOINT


def test_a_log_that_begins_with_a_key_under_another_platforms_name(city: Journal) -> None:
    error = city.refusal(PaperLog(signer=signer_of(CITY)).batch())
    assert error.reason is Reason.INVALID_CHECKPOINT
    assert "holds a key of zhichao/141000, not of zhichao/141025" in error.message


def test_more_logs_than_a_journal_holds(city: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver, "LOGS_MAX", 3)
    for origin in ("141025", "141026"):
        city.receive(PaperLog(origin).batch())
    error = city.refusal(PaperLog("141027").batch())
    assert (error.reason, error.metadata["limit"]) == (Reason.ORIGIN_NOT_ALLOWED, "3")
    # The logs that are held go on.
    assert city.receive(PaperLog("141026").add_many(1).batch())[0].head.size == 2
    assert limits.LOGS_MAX == 10_000


def test_a_forged_cosignature_of_ours_does_not_keep_the_true_one_out(city: Journal) -> None:
    paper = PaperLog().add_many(3)
    forged = SignatureLine(CITY_SIGNER.verifier_key.name, CITY_SIGNER._cosign_id, bytes(72))
    batch = IncomingBatch(COUNTY, 1, paper.entries, with_lines(paper, forged))
    (received,) = city.receive(batch)
    for note in (received.checkpoint, city.reader.checkpoint(COUNTY, 0)[0].format()):
        assert SignedCheckpoint.parse(note).cosigned_at(CITY_SIGNER.verifier_key) == int(NOW.timestamp())


def test_what_a_peer_writes_beside_the_signatures_is_not_stored(city: Journal) -> None:
    paper = PaperLog().add_many(3)
    junk = [SignatureLine(f"junk/{number}", bytes(4), b"stored for ever") for number in range(100)]
    city.receive(IncomingBatch(COUNTY, 1, paper.entries, with_lines(paper, *junk)))
    (kept,) = city.query("SELECT note FROM journal_checkpoints")
    assert len(SignedCheckpoint.parse(kept[0]).signatures) == 2


def test_a_note_at_the_limit_stays_readable_with_our_cosignature(city: Journal) -> None:
    paper = PaperLog().add_many(3)
    lines: list[SignatureLine] = []
    while len(with_lines(paper, *lines, size=2).encode()) < notes.NOTE_BYTES_MAX - 400:
        lines.append(SignatureLine("县" * 80 + str(len(lines)), len(lines).to_bytes(4, "big"), bytes(72)))
    city.receive(IncomingBatch(COUNTY, 1, paper.entries[:2], with_lines(paper, *lines, size=2)))
    # The next batch reads and thins the kept note, and so does a reader.
    city.receive(paper.batch(3))
    assert city.reader.read(COUNTY, 1) is not None
    assert city.reader.checkpoint(COUNTY, 0)[0].is_signed_by(paper.signer.verifier_key)


def test_an_end_that_was_written_at_no_time(city: Journal) -> None:
    paper = PaperLog()
    for seconds in (2**62, -(2**62), 253_402_300_799, -62_135_596_800):
        paper.add_raw(entry_pb2.Entry(kind=KIND, schema=1, write_time=Timestamp(seconds=seconds)).SerializeToString())
        (received,) = city.receive(paper.batch())
        assert received.head.size == paper.size
        city.handlers.positions(COUNTY)
    paper.add_raw(entry_pb2.Entry(kind=KIND, schema=1).SerializeToString())
    (received,) = city.receive(paper.batch())
    # The last time that was one stays.
    assert received.head.last_write_time is not None
    assert received.head.last_write_time.year == 1


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"\xff" * 100,
        entry_pb2.Entry(kind="a\x00b", schema=1).SerializeToString(),
        entry_pb2.Entry(kind="种类" * 5_000, schema=1).SerializeToString(),
        entry_pb2.Entry(kind=KIND, schema=2**32 - 1).SerializeToString(),
        b"\x0a\x02\xff\xfe",
        entry_pb2.Entry(kind=KIND, schema=1, payload=b"unprojectable \x00 \xff").SerializeToString(),
    ],
)
def test_entries_that_mean_nothing_are_kept_and_parked(city: Journal, entry: bytes) -> None:
    paper = PaperLog().add(b"before").add_raw(entry).add(b"after")
    (received,) = city.receive(paper.batch())
    assert (received.head.root, received.parked_count) == (paper.root(), 1)
    assert city.entries(COUNTY) == paper.entries
    assert list(city.notes(COUNTY)) == [2, 4]
    (parked,) = city.parked()
    assert parked[0] == 3
    assert len(parked[1]) <= limits.DETAIL_CHARACTERS_MAX
    # And such entries can be listed.
    city.handlers.list_parked(None, 0, "")


def test_a_second_beginning_later_in_the_log_changes_nothing(city: Journal) -> None:
    paper = PaperLog().add_many(1)
    paper.add_raw(PaperLog(signer=signer_of(COUNTY, seed=1)).entries[0]).add_many(1)
    (received,) = city.receive(paper.batch())
    assert (received.head.verifier_key, received.parked_count) == (paper.signer.verifier_key.format(), 0)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    first=st.one_of(st.integers(-3, 8), st.integers(-(2**63), 2**63 - 1)),
    entries=st.lists(st.one_of(st.binary(max_size=40), st.integers(0, 3)), max_size=5),
    note=st.one_of(st.text(max_size=80), st.integers(1, 4)),
    origin=st.sampled_from([COUNTY, CITY, "141026", "０４１０２５", ""]),
)
def test_whatever_arrives_is_taken_or_refused_with_a_reason(
    city: Journal, first: int, entries: list[bytes | int], note: str | int, origin: str
) -> None:
    paper = PaperLog().add_many(3)
    content = [paper.entries[entry] if isinstance(entry, int) else entry for entry in entries]
    text = paper.checkpoint(note) if isinstance(note, int) else note
    reason = None
    try:
        city.receive(IncomingBatch(origin, first, content, text))
    except ServiceError as error:
        reason = error.reason
    assert reason in {
        None,
        Reason.BATCH_TOO_LARGE,
        Reason.HISTORY_MISMATCH,
        Reason.INVALID_ARGUMENT,
        Reason.INVALID_CHECKPOINT,
        Reason.ORIGIN_NOT_ALLOWED,
        Reason.SEQUENCE_GAP,
    }
    assert city.entries(COUNTY) == paper.entries[: city.size(COUNTY)]
