"""Reading what is addressed to a platform: proofs, bounds, following, and readers that say strange things."""

import threading
from collections.abc import Iterator
from functools import partial

import pytest

from services.common.access.divisions import Divisions
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.request import RequestContext
from services.journal import addressed_sources
from services.journal.addressed_convert import batch_from
from services.journal.limits import ADDRESSED_BATCH_BYTES_MAX, ADDRESSED_BATCH_STEPS_MAX
from services.journal.notes import Checkpoint, SignedCheckpoint
from tests.journal.addressed import OTHER_CITY, OTHER_COUNTY, Platform, following
from tests.journal.conftest import MakeJournal
from tests.journal.journals import WAIT_SECONDS, eventually
from tests.journal.paper_chain import PaperChain
from tests.journal.paper_log import CITY, COUNTY, PROVINCE, PaperLog
from zhichao.journal.v1 import addressed_pb2


def write_alike(upper: Platform, paper: PaperChain, count: int) -> None:
    """Write the same on both."""
    for number in range(count):
        if number % 3:
            payload = f"{PROVINCE}/{upper.journal.size(PROVINCE)}".encode()
            upper.journal.write(payload)
            paper.paper.add(payload)
        else:
            upper.address(CITY, str(number).encode())
            paper.address(CITY, str(number).encode())


@pytest.mark.parametrize("algorithm", ["sha256", "sm3"])
def test_what_is_sent_is_what_the_definitions_of_rfc_6962_give(
    journal: MakeJournal, middle: Platform, algorithm: str
) -> None:
    upper, paper = (
        Platform(journal(PROVINCE, algorithm=algorithm).begin()),
        PaperChain(PaperLog(PROVINCE, algorithm=algorithm)),
    )
    write_alike(upper, paper, 40)
    assert upper.batches_for(middle) == [paper.batch()]
    middle.follow(upper)
    write_alike(upper, paper, 40)
    assert upper.batches_for(middle) == [paper.batch(after=middle.position(PROVINCE).through_sequence)]


def test_proofs_across_stored_tiles(upper: Platform, middle: Platform) -> None:
    """Sizes around 256 and 65,536 leaves, where nodes are stored, are proven like all others."""
    for count in (252, 1, 1, 1, 254, 65_000):
        upper.journal.write_many(count)
        upper.address(CITY, b"here")
    middle.follow(upper)
    assert len(middle.held(PROVINCE)) == 6


def test_what_is_passed_on_is_what_came(upper: Platform, middle: Platform, lower: Platform) -> None:
    paper = PaperChain(PaperLog(PROVINCE))
    for audience in (COUNTY, OTHER_COUNTY, PROVINCE, CITY):
        upper.address(audience, audience.encode())
        paper.address(audience, audience.encode())
    middle.follow(upper)
    (batch,) = middle.batches_for(lower)
    assert batch == paper.batch(without=[3])


def test_batches_are_bounded_in_steps(upper: Platform, middle: Platform) -> None:
    upper.address(OTHER_CITY, *[b"elsewhere"] * 300)
    upper.address(CITY, *[b"here"] * 300)
    batches = upper.batches_for(middle)
    assert [len(batch.steps) for batch in batches] == [ADDRESSED_BATCH_STEPS_MAX, ADDRESSED_BATCH_STEPS_MAX, 88]
    middle.follow(upper)
    assert list(middle.held(PROVINCE)) == list(range(302, 602))


def test_batches_are_bounded_in_bytes(upper: Platform, middle: Platform) -> None:
    for _ in range(3):
        upper.address(CITY, *[b"x" * 65_000] * 30)
    batches = upper.batches_for(middle)
    sizes = [sum(len(one.entry) for step in batch.steps for one in step.entries) for batch in batches]
    assert all(size <= ADDRESSED_BATCH_BYTES_MAX for size in sizes)
    assert len(batches) == 3
    middle.follow(upper)
    assert len(middle.held(PROVINCE)) == 90


def test_what_is_missing_is_bounded_in_bytes_too(upper: Platform, journal: MakeJournal) -> None:
    other = Platform(journal(OTHER_CITY).begin())
    for _ in range(3):
        upper.address(COUNTY, *[b"x" * 65_000] * 30)
    other.follow(upper)
    assert other.held(PROVINCE) == {}
    upper.move({COUNTY: OTHER_CITY})
    batches = upper.batches_for(other)
    sizes = [sum(len(one.entry) for step in batch.steps for one in step.entries) for batch in batches]
    assert all(size <= ADDRESSED_BATCH_BYTES_MAX for size in sizes)
    other.follow(upper)
    assert len(other.held(PROVINCE)) == 90


def test_proofs_are_made_once_for_all_readers(
    upper: Platform, middle: Platform, journal: MakeJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Platform(journal(OTHER_CITY).begin())
    upper.address(OTHER_COUNTY, *[b"elsewhere"] * 20)
    middle.follow(upper)
    signed: list[int] = []
    sign = upper.journal.signer.sign

    def count(checkpoint: Checkpoint) -> SignedCheckpoint:
        signed.append(checkpoint.size)
        return sign(checkpoint)

    monkeypatch.setattr(upper.journal.signer, "sign", count)
    other.follow(upper)
    assert signed == []
    monkeypatch.setattr(addressed_sources, "ADDRESSED_PROOFS_KEPT_MAX", 10)
    upper.address(CITY, b"one more")
    other.follow(upper)
    assert signed == [22]
    assert len(other.held(PROVINCE)) == 20


def test_kept_proofs_of_a_log_that_became_shorter_are_dropped(upper: Platform, middle: Platform) -> None:
    upper.address(CITY, b"one", b"two")
    middle.follow(upper)
    upper.journal.empty()
    upper.journal.begin()
    middle.journal.empty()
    middle.journal.begin()
    upper.address(CITY, b"another one")
    middle.follow(upper)
    assert middle.held(PROVINCE) == {2: b"another one"}


def test_an_entry_that_is_gone_refuses_its_log_loudly(upper: Platform, middle: Platform) -> None:
    upper.address(CITY, b"one", b"two")
    upper.journal.query("DELETE FROM journal_entries WHERE sequence = 3 RETURNING 1")
    assert upper.refusals_for(middle) == {PROVINCE: "ERROR_REASON_HISTORY_MISMATCH"}


def test_a_passed_on_entry_that_is_gone_refuses_its_log_loudly(
    upper: Platform, middle: Platform, lower: Platform
) -> None:
    upper.address(COUNTY, b"one", b"two")
    middle.follow(upper)
    middle.journal.query("UPDATE journal_addressed SET entry = NULL, leaf = NULL, inclusion_path = NULL RETURNING 1")
    assert middle.refusals_for(lower) == {PROVINCE: "ERROR_REASON_HISTORY_MISMATCH"}


# Following


class Follower(threading.Thread):
    """Follows a platform above in a thread of its own and receives what comes."""

    def __init__(self, upper: Platform, reader: Platform) -> None:
        super().__init__()
        self._upper, self._reader = upper, reader
        self.context = RequestContext()
        self.contents: list[str] = []
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            for answer in following(self._upper, self._reader, self.context):
                if answer.WhichOneof("content") == "batch":
                    self._reader.receive(batch_from(answer.batch))
                self.contents.append(answer.WhichOneof("content") or "")
        except Exception as error:  # noqa: BLE001 - shown by the test's own thread
            self.error = error

    def stop(self) -> None:
        self.context.stopping.set()
        self._upper.journal.parts.tail.wake()
        self.join(WAIT_SECONDS)
        assert not self.is_alive()
        assert self.error is None


@pytest.fixture
def follower(upper: Platform, middle: Platform) -> Iterator[Follower]:
    """Let the city follow the province."""
    upper.journal.parts.tail.start()
    made = Follower(upper, middle)
    made.start()
    eventually(lambda: made.contents, "the follow begins")
    yield made
    made.stop()
    upper.journal.parts.tail.stop()


def is_held(platform: Platform, place: int) -> bool:
    return place in platform.held(PROVINCE)


def test_a_follow_tells_at_once_that_nothing_waits(follower: Follower) -> None:
    assert follower.contents == ["ends"]


def test_a_follow_brings_what_is_addressed_while_it_stands(
    follower: Follower, upper: Platform, middle: Platform
) -> None:
    for number in range(5):
        place = upper.address(CITY, str(number).encode())
        eventually(partial(is_held, middle, place), "the entry arrives")
    eventually(lambda: follower.contents[-1] == "ends", "the follow says that this is all")
    assert middle.held(PROVINCE) == {2 + number: str(number).encode() for number in range(5)}


def test_a_follow_is_not_woken_by_what_is_addressed_to_nobody(
    follower: Follower, upper: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    ends = upper.handlers._reader.ends

    def count() -> dict[str, int]:
        looks.append(1)
        return ends()

    monkeypatch.setattr(upper.handlers._reader, "ends", count)
    for _ in range(20):
        upper.journal.write_many(3)
    upper.address(OTHER_CITY, b"elsewhere")
    eventually(lambda: len(follower.contents) > 1, "the step arrives")
    assert len(looks) == 1


def test_writing_while_a_follow_reads(upper: Platform, middle: Platform, follower: Follower) -> None:
    def write(number: int) -> None:
        for turn in range(20):
            upper.address(CITY, f"{number}/{turn}".encode())
            upper.journal.write_many(2)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(WAIT_SECONDS)
    eventually(lambda: len(middle.held(PROVINCE)) == 60, "everything arrives")
    assert sorted(middle.held(PROVINCE).values()) == sorted(
        f"{number}/{turn}".encode() for number in range(3) for turn in range(20)
    )
    received = [sequence for call in middle.journal.projection.calls for sequence in call]
    assert received == sorted(received)


def test_divisions_that_are_not_known_end_the_follow(upper: Platform) -> None:
    def unknown() -> Divisions:
        raise ServiceError(Reason.ACCESS_UNKNOWN, "nobody has said so far", retry_after_seconds=1)

    upper.handlers._divisions = unknown
    upper.address(CITY, b"one")
    with pytest.raises(ServiceError) as refusal:
        list(upper.handlers.read(CITY, [], follow=False))
    assert refusal.value.reason is Reason.ACCESS_UNKNOWN


# Readers


def position(**fields: object) -> addressed_pb2.AddressedPosition:
    return addressed_pb2.AddressedPosition(**{"origin": PROVINCE, "through_sequence": 2, "root": bytes(32)} | fields)  # type: ignore[arg-type] # the test names fields


@pytest.mark.parametrize(
    ("positions", "field"),
    [
        ([position(origin="14")], "positions[0].origin"),
        ([position(), position()], "positions[1].origin"),
        ([position(through_sequence=-1)], "positions[0].through_sequence"),
        ([position(root=b"")], "positions[0].root"),
        ([position(through_sequence=0)], "positions[0].root"),
        ([position(origin=f"{number:06}") for number in range(66)], "positions"),
    ],
)
def test_positions_that_are_none(upper: Platform, positions: list[addressed_pb2.AddressedPosition], field: str) -> None:
    with pytest.raises(ServiceError) as refusal:
        upper.answers_for(CITY, positions)
    assert refusal.value.reason is Reason.INVALID_ARGUMENT
    assert refusal.value.field_violations[0].field == field


@pytest.mark.parametrize("platform", ["", "14", "14102x", "１４１０２５"])
def test_readers_that_are_no_platforms(upper: Platform, platform: str) -> None:
    with pytest.raises(ServiceError) as refusal:
        upper.answers_for(platform, [])
    assert refusal.value.reason is Reason.INVALID_ARGUMENT


def test_a_reader_elsewhere_gets_no_entry(upper: Platform) -> None:
    upper.address(CITY, b"not for them")
    answers = upper.answers_for("150000", [])
    assert [one.sequence for answer in answers for step in answer.batch.steps for one in step.entries] == [1]


def test_a_platform_above_is_not_sent_its_own_log_back(upper: Platform, middle: Platform) -> None:
    upper.address(PROVINCE, b"one")
    middle.follow(upper)
    assert [answer.WhichOneof("content") for answer in middle.answers_for(PROVINCE, [])] == ["ends"]


def test_positions_of_unknown_logs_are_passed_over(upper: Platform) -> None:
    upper.address(CITY, b"one")
    answers = upper.answers_for(CITY, [position(origin="150000"), position(origin=OTHER_CITY)])
    assert [answer.WhichOneof("content") for answer in answers] == ["batch", "ends"]


def test_receipts_are_paged_and_filtered(upper: Platform, middle: Platform, lower: Platform) -> None:
    upper.address(COUNTY, *[b"x"] * 7)
    middle.follow(upper)
    lower.follow(middle)
    upper.journal.pull(middle.journal, CITY)
    upper.journal.pull(lower.journal, COUNTY)
    rows, token, pages = [], "", 0
    while token or not pages:
        page, token = upper.handlers.list_receipts(PROVINCE, 0, 0, None, 4, token)
        rows += page
        pages += 1
    assert [(row.sequence, row.platform) for row in rows] == [
        (sequence, platform) for sequence in range(2, 9) for platform in (CITY, COUNTY)
    ]
    assert pages == 4
    rows, _ = upper.handlers.list_receipts("", 3, 4, COUNTY, 0, "")
    assert [(row.origin, row.sequence, row.platform, row.receipt_sequence) for row in rows] == [
        (PROVINCE, 3, COUNTY, 2),
        (PROVINCE, 4, COUNTY, 2),
    ]
    for origin, first, last, platform in (("14", 0, 0, None), ("", -1, 0, None), ("", 0, -1, None), ("", 0, 0, "x")):
        with pytest.raises(ServiceError) as refusal:
            upper.handlers.list_receipts(origin, first, last, platform, 0, "")
        assert refusal.value.reason is Reason.INVALID_ARGUMENT
