"""An own log that was restored from a backup: nothing is written to it before it holds again what others hold of it."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.journal.notes import SignedCheckpoint
from services.journal.receiver import IncomingBatch
from tests.conftest import Databases
from tests.journal.conftest import MakeJournal
from tests.journal.journals import Journal, assert_same_log, incoming, make_tables
from tests.journal.paper_log import CITY, COUNTY, PaperLog, signer_of

OTHER = "141026"


def restore(county: Journal, city: Journal, *, confirm: bool = True) -> None:
    """Bring back what the city holds of the county's own log, as the county's relay does."""
    if city.size(COUNTY) > county.size(COUNTY):
        for batch in city.batches(COUNTY, county.size(COUNTY) + 1):
            county.handlers.restore(incoming(batch))
    if confirm:
        head = city.head(COUNTY)
        county.handlers.confirm_own_log(head.size if head else 0, head.root if head else b"")


def refusal(county: Journal, *batches: IncomingBatch) -> ServiceError:
    """Bring back batches of which the last must be refused and leave nothing behind; return why."""
    for batch in batches[:-1]:
        county.handlers.restore(batch)
    before = county.content()
    with pytest.raises(ServiceError) as refused:
        county.handlers.restore(batches[-1])
    assert county.content() == before
    return refused.value


def is_recovering(county: Journal) -> bool:
    (position,) = [one for one in county.handlers.positions(COUNTY) if one.is_own]
    return position.is_recovering


def set_back(journal: MakeJournal, county: Journal, size: int) -> Journal:
    """Make a county whose database ends at an earlier size, as a backup does."""
    older = journal(COUNTY).begin(is_recovering=True)
    while (held := older.size(COUNTY)) < size:
        batch = county.reader.read(COUNTY, held + 1, size - held)
        assert batch is not None
        older.handlers.restore(incoming(batch))
    assert older.size(COUNTY) == size
    return older


def test_nothing_is_written_before_the_log_was_compared(journal: MakeJournal, county: Journal) -> None:
    county.write_many(5)
    county.begin(is_recovering=True)
    assert is_recovering(county)
    before = county.content()
    with pytest.raises(ServiceError) as refused:
        county.write_many(1)
    assert refused.value.reason is Reason.RECOVERING
    assert refused.value.is_retryable
    assert refused.value.retry_after_seconds
    assert county.content() == before
    # Starting again, with or without the setting, changes nothing.
    county.begin()
    assert is_recovering(county)


def test_what_came_after_the_backup_comes_back_as_it_was(journal: MakeJournal, county: Journal, city: Journal) -> None:
    county.write_many(2_500)
    city.pull(county, COUNTY)
    restored = set_back(journal, county, 1_000)
    restore(restored, city)
    assert_same_log(restored, county, COUNTY)
    # Tables follow from the log: what is brought back has rows as if it had been received.
    assert sorted(restored.notes(COUNTY)) == list(range(2, 2_502))
    assert not is_recovering(restored)
    assert restored.write_many(3) == 2_504
    city.pull(restored, COUNTY)
    assert_same_log(city, restored, COUNTY)


def test_a_database_that_was_lost_is_brought_back_from_entry_1(
    journal: MakeJournal, county: Journal, city: Journal
) -> None:
    county.write_many(40)
    city.pull(county, COUNTY)
    empty = journal(COUNTY).begin(is_recovering=True)
    assert empty.size(COUNTY) == 0
    restore(empty, city)
    assert_same_log(empty, county, COUNTY)
    empty.begin()
    assert empty.write_many(1) == 42


def test_a_log_that_nobody_holds_is_begun_once_that_is_known(journal: MakeJournal) -> None:
    empty = journal(COUNTY).begin(is_recovering=True)
    empty.handlers.confirm_own_log(0, b"")
    assert empty.size(COUNTY) == 1
    assert empty.write_many(1) == 2


def test_a_restored_log_of_which_nothing_is_missing_goes_on(county: Journal, city: Journal) -> None:
    county.write_many(4)
    city.pull(county, COUNTY)
    county.write_many(3)
    county.begin(is_recovering=True)
    restore(county, city)
    assert county.write_many(1) == 9


def test_what_is_written_while_it_comes_back_is_refused_too(
    journal: MakeJournal, county: Journal, city: Journal
) -> None:
    county.write_many(10)
    city.pull(county, COUNTY)
    older = set_back(journal, county, 5)
    older.handlers.confirm_own_log(0, b"")
    # Nobody said that it was restored; the first batch that comes back says it.
    restore(older, city, confirm=False)
    assert is_recovering(older)
    with pytest.raises(ServiceError) as refused:
        older.write_many(1)
    assert refused.value.reason is Reason.RECOVERING


def test_another_history_is_never_mixed_in(journal: MakeJournal, county: Journal, city: Journal) -> None:
    county.write_many(10)
    city.pull(county, COUNTY)
    forked = set_back(journal, county, 5)
    forked.handlers.confirm_own_log(0, b"")
    forked.write(b"written after the restore")
    (batch,) = city.batches(COUNTY, forked.size(COUNTY) + 1)
    assert refusal(forked, incoming(batch)).reason is Reason.HISTORY_MISMATCH
    # Sent from further back, the first entry that differs is seen.
    (batch,) = city.batches(COUNTY, 3)
    assert refusal(forked, incoming(batch)).reason is Reason.HISTORY_MISMATCH
    assert not is_recovering(forked)


def test_confirming_what_is_not_true_is_refused(journal: MakeJournal, county: Journal, city: Journal) -> None:
    county.write_many(10)
    city.pull(county, COUNTY)
    older = set_back(journal, county, 5)
    head = city.head(COUNTY)
    assert head is not None
    for size, root, reason in (
        (head.size, head.root, Reason.BEYOND_LOG),
        (5, head.root, Reason.HISTORY_MISMATCH),
        (4, b"", Reason.HISTORY_MISMATCH),
        (-1, b"", Reason.INVALID_ARGUMENT),
    ):
        with pytest.raises(ServiceError) as refused:
            older.handlers.confirm_own_log(size, root)
        assert refused.value.reason is reason
        assert is_recovering(older)


def test_confirming_twice_does_no_harm(county: Journal) -> None:
    county.write_many(3)
    root = county.reader.root_at(COUNTY, 2)
    county.begin(is_recovering=True)
    county.handlers.confirm_own_log(2, root)
    county.handlers.confirm_own_log(2, root)
    assert county.write_many(1) == 5


def test_batches_that_come_twice_or_with_a_gap(journal: MakeJournal, county: Journal, city: Journal) -> None:
    county.write_many(20)
    city.pull(county, COUNTY)
    older = set_back(journal, county, 5)
    (batch,) = city.batches(COUNTY, 4)
    restored = older.handlers.restore(incoming(batch))
    assert (restored.head.size, restored.duplicate_count) == (21, 2)
    assert older.handlers.restore(incoming(batch)).duplicate_count == 18
    assert_same_log(older, county, COUNTY)
    another = set_back(journal, county, 5)
    gap = refusal(another, incoming(city.batches(COUNTY, 9)[0]))
    assert (gap.reason, gap.metadata["expected_sequence"]) == (Reason.SEQUENCE_GAP, "6")


def test_only_the_own_log_with_the_own_signature_comes_back(journal: MakeJournal, county: Journal) -> None:
    county.write_many(3)
    older = set_back(journal, county, 2)
    (batch,) = county.batches(COUNTY, 3)
    foreign = IncomingBatch(OTHER, 3, batch.entries, batch.checkpoint)
    assert refusal(older, foreign).reason is Reason.ORIGIN_NOT_ALLOWED
    # The true entries, with a checkpoint that somebody else signs in our name.
    forged = PaperLog(signer=signer_of(COUNTY, seed=1))
    forged.entries = county.entries(COUNTY)
    assert refusal(older, forged.batch(3)).reason is Reason.UNKNOWN_SIGNER


def test_cosignatures_come_back_with_the_entries(journal: MakeJournal, county: Journal, city: Journal) -> None:
    county.write_many(9)
    city.pull(county, COUNTY)
    older = set_back(journal, county, 4)
    restore(older, city)
    note, _ = older.handlers.checkpoint(COUNTY, 10)
    assert SignedCheckpoint.parse(note).cosigned_at(city.signer.verifier_key) is not None


def test_entries_for_platforms_below_are_sent_down_again_as_before(
    journal: MakeJournal, city: Journal, province: Journal, county: Journal
) -> None:
    city.write(b"first", audience=COUNTY)
    city.write(b"goes up only")
    city.write(b"second", b"third", audience=COUNTY)
    province.pull(city, CITY)
    lost = journal(CITY).begin(is_recovering=True)
    for batch in province.batches(CITY):
        lost.handlers.restore(incoming(batch))
    tables = ("journal_addressed", "journal_addressed_steps")
    before, after = city.content(), lost.content()
    assert [after[one] for one in tables] == [before[one] for one in tables]


def test_what_cannot_be_projected_is_parked_and_comes_back_all_the_same(
    journal: MakeJournal, county: Journal, city: Journal
) -> None:
    county.write(b"good", b"a fault in project", b"good too")
    city.pull(county, COUNTY)
    empty = journal(COUNTY).begin(is_recovering=True)
    restore(empty, city)
    assert_same_log(empty, county, COUNTY)
    assert [row[0] for row in empty.parked()] == [3]
    assert empty.notes(COUNTY) == {2: b"good", 4: b"good too"}


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written=st.lists(st.integers(1, 40), min_size=1, max_size=5), back=st.integers(0, 200), step=st.integers(1, 64))
def test_whatever_the_backup_the_restored_log_is_the_same(
    databases: Databases, written: list[int], back: int, step: int
) -> None:
    urls = [databases.borrow("journal-notes", make_tables) for _ in range(3)]
    county, city, restored = (
        Journal(url, platform) for url, platform in zip(urls, (COUNTY, CITY, COUNTY), strict=True)
    )
    try:
        county.begin()
        city.begin()
        for count in written:
            county.write_many(count)
            city.pull(county, COUNTY)
        held = max(county.size(COUNTY) - back, 0)
        restored.begin(is_recovering=True)
        for batch in county.batches(COUNTY, 1, records_max=1):
            if batch.last_sequence <= held:
                restored.handlers.restore(incoming(batch))
        for batch in city.batches(COUNTY, restored.size(COUNTY) + 1, records_max=step):
            restored.handlers.restore(incoming(batch))
        head = city.head(COUNTY)
        assert head is not None
        restored.handlers.confirm_own_log(head.size, head.root)
        assert_same_log(restored, county, COUNTY)
        assert restored.write_many(1) == county.size(COUNTY) + 1
    finally:
        for one, url in zip((county, city, restored), urls, strict=True):
            one.close()
            databases.give_back("journal-notes", url)
