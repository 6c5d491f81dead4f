"""The own log: how it begins, what it refuses to begin on, and how it grows."""

from datetime import timedelta

import pytest

from services.common.database import raw_connection
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.journal.entries import NewEntry, Place, parse_log_start
from services.journal.limits import ENTRY_BYTES_MAX
from services.journal.log_writer import LogIdentityError
from tests.journal import naive_merkle
from tests.journal.conftest import MakeJournal
from tests.journal.journals import Journal
from tests.journal.paper_log import CITY, COUNTY, NOW, PaperLog, entry_of, signer_of


def test_entry_1_names_the_log_its_algorithm_and_its_key(county: Journal) -> None:
    (entry,) = county.entries(COUNTY)
    start = parse_log_start(entry)
    assert start is not None
    key = signer_of(COUNTY).verifier_key.format()
    assert (start.origin, start.stream, start.digest_algorithm, start.verifier_key) == (
        COUNTY,
        "weighing",
        "sha256",
        key,
    )


def test_beginning_again_writes_nothing(county: Journal) -> None:
    before = county.content()
    assert county.begin().content() == before


def test_a_restart_goes_on_where_the_log_ended(county: Journal, journal: MakeJournal) -> None:
    county.write(b"one")
    again = journal(COUNTY, county.url).begin()
    assert again.write(b"two") == 3
    assert again.head(COUNTY).root == naive_merkle.root_of(county.entries(COUNTY))  # type: ignore[union-attr]  # the log is there


def test_a_database_of_another_platform_is_refused(county: Journal, journal: MakeJournal) -> None:
    with pytest.raises(LogIdentityError, match="holds the weighing log of platform 141025, not of 141000"):
        journal(CITY, county.url).begin()


def test_a_database_of_another_service_is_refused(county: Journal, journal: MakeJournal) -> None:
    with pytest.raises(LogIdentityError, match="holds the weighing log of 141025, not the registry log"):
        journal(COUNTY, county.url, stream="registry").begin()


def test_another_key_is_refused(county: Journal, journal: MakeJournal) -> None:
    with pytest.raises(LogIdentityError, match=r"was begun with the key .*restore the key file"):
        journal(COUNTY, county.url, signer=signer_of(COUNTY, seed=1)).begin()


def test_another_digest_is_refused(county: Journal, journal: MakeJournal) -> None:
    with pytest.raises(LogIdentityError, match="set ZHICHAO_JOURNAL_DIGEST=sha256"):
        journal(COUNTY, county.url, algorithm="sm3").begin()


def test_a_database_that_holds_a_copy_of_our_log_is_refused(city: Journal, journal: MakeJournal) -> None:
    # The city's own row makes it the city's; without it, the copy alone must not pass for the county's own log.
    city.empty()
    city.receive(PaperLog().batch())
    with pytest.raises(LogIdentityError, match="a copy of the weighing log of 141025"):
        journal(COUNTY, city.url).begin()


def test_a_log_that_was_not_begun_is_not_written(journal: MakeJournal) -> None:
    made = journal(COUNTY)
    with pytest.raises(LogIdentityError, match="has not been begun"):
        made.write(b"one")
    with made.engine.begin() as pooled, pytest.raises(LogIdentityError, match="has not been begun"):
        made.writer.read(raw_connection(pooled))


@pytest.mark.parametrize("count", [1, 23, 24, 25, 255, 256, 257, 600])
def test_appended_entries_are_stored_as_they_were_built(county: Journal, count: int) -> None:
    # 24 rows are where COPY takes over from INSERT.
    payloads = [bytes([number % 256]) * number for number in range(count)]
    county.write(*payloads)
    entries = county.entries(COUNTY)
    assert entries[1:] == [entry_of(payload) for payload in payloads]
    head = county.head(COUNTY)
    assert head is not None
    assert (head.size, head.total_bytes, head.last_write_time) == (count + 1, sum(map(len, entries)), NOW)
    assert head.root == naive_merkle.root_of(entries)


def test_places_follow_each_other(county: Journal) -> None:
    added = [NewEntry(entry, naive_merkle.leaf(entry)) for entry in (entry_of(b"one"), entry_of(b"two"))]
    with county.engine.begin() as pooled:
        connection = raw_connection(pooled)
        places = county.writer.append(connection, county.writer.lock(connection), added, NOW)
    assert places == [Place(COUNTY, 2, added[0].leaf), Place(COUNTY, 3, added[1].leaf)]


def test_appending_nothing_changes_nothing(county: Journal) -> None:
    before = county.content()
    county.write()
    assert county.content() == before


def test_an_entry_at_the_limit_is_written_and_one_over_it_is_not(county: Journal) -> None:
    overhead = len(entry_of(bytes(65_000))) - 65_000
    assert county.write(bytes(ENTRY_BYTES_MAX - overhead)) == 2
    before = county.content()
    with pytest.raises(ServiceError) as refusal:
        county.write(b"small", bytes(ENTRY_BYTES_MAX - overhead + 1))
    assert refusal.value.reason is Reason.ENTRY_TOO_LARGE
    assert refusal.value.metadata == {"limit": "65536", "actual": "65537"}
    assert county.content() == before


def test_a_transaction_that_fails_leaves_no_trace(county: Journal) -> None:
    before = county.content()
    entry = entry_of(b"one")

    def append_and_fail() -> None:
        with county.engine.begin() as pooled:
            connection = raw_connection(pooled)
            added = [NewEntry(entry, naive_merkle.leaf(entry))]
            county.writer.append(connection, county.writer.lock(connection), added, NOW + timedelta(hours=1))
            raise RuntimeError("the caller fails")

    with pytest.raises(RuntimeError, match="the caller fails"):
        append_and_fail()
    assert county.content() == before
    assert county.write(b"two") == 2


def test_sm3_logs_have_sm3_roots(journal: MakeJournal) -> None:
    made = journal(COUNTY, algorithm="sm3").begin()
    made.write_many(300)
    head = made.head(COUNTY)
    assert head is not None
    assert head.root == naive_merkle.root_of(made.entries(COUNTY), naive_merkle.sm3)
