"""Entries with an audience in the own log: what is written beside them, and what others cost; databases of before."""

from typing import Any

import pytest
from alembic.script import ScriptDirectory
from hypothesis import given
from hypothesis import strategies as st

from services.common.access.divisions import Divisions
from services.common.database import RawConnection, create_engine, raw_connection, upgrade
from services.journal.addressed_steps import audiences_of, missing_audiences, relevant_audiences
from services.journal.digests import Digester
from services.journal.entries import EntryBuilder, NewEntry, parse
from services.journal.merkle import EMPTY
from services.journal.store.lone import append_one_parameters
from tests.journal.addressed import OTHER_CITY, Platform
from tests.journal.journals import Journal
from tests.journal.paper_log import CITY, COUNTY, KIND, NOW, PROVINCE, PaperLog, entry_of


def steps(journal: Journal) -> list[tuple[int, int]]:
    return journal.query("SELECT previous_size, size FROM journal_addressed_steps ORDER BY size")


def test_an_audience_is_part_of_the_entry() -> None:
    entry = EntryBuilder(KIND, 1, NOW, "person/1", "0123", audience=CITY).build_bytes(b"payload")
    parsed = parse(entry)
    assert parsed is not None
    assert (parsed.audience, parsed.payload, parsed.actor) == (CITY, b"payload", "person/1")


def test_an_entry_without_an_audience_has_the_bytes_that_it_always_had() -> None:
    assert EntryBuilder(KIND, 1, NOW).build_bytes(b"payload") == EntryBuilder(KIND, 1, NOW, audience="").build_bytes(
        b"payload"
    )
    assert b"\x3a" not in EntryBuilder(KIND, 1, NOW).build_bytes(b"payload"), "the tag of field 7"


@pytest.mark.parametrize("audience", ["14", "1410000", "14100x", "１４１０００", " 141000"])
def test_audiences_that_nobody_has_are_not_written(audience: str) -> None:
    with pytest.raises(ValueError, match="audience"):
        EntryBuilder(KIND, 1, NOW, audience=audience)


def test_every_addressed_entry_ends_a_step(province: Journal) -> None:
    province.write(b"one", b"two", audience=CITY)
    province.write_many(5)
    province.write(b"three", audience=COUNTY)
    assert steps(province) == [(0, 2), (2, 3), (3, 9)]
    assert province.query("SELECT sequence, audience FROM journal_addressed ORDER BY sequence") == [
        (2, CITY),
        (3, CITY),
        (9, COUNTY),
    ]


def test_entries_with_and_without_audience_are_appended_together(province: Journal) -> None:
    digester = province.writer.digester
    plain, to_city = EntryBuilder(KIND, 1, NOW), EntryBuilder(KIND, 1, NOW, audience=CITY)
    added = [builder.build(b"x", digester) for builder in (plain, to_city, plain, to_city, plain)]
    with province.engine.begin() as pooled:
        connection = raw_connection(pooled)
        province.writer.append(connection, province.writer.lock(connection), added, NOW)
    assert steps(province) == [(0, 3), (3, 5)]


def test_columns_name_their_audiences(province: Journal) -> None:
    entries = [EntryBuilder(KIND, 1, NOW, audience=CITY).build_bytes(b"x"), entry_of(b"y")] * 40
    writer = province.writer
    with province.engine.begin() as pooled:
        connection = raw_connection(pooled)
        planned = writer.plan(
            writer.lock(connection), entries, writer.digester.leaves(entries), NOW, audiences_of(entries)
        )
        writer.write(connection, planned)
    assert [size for _, size in steps(province)] == list(range(2, 82, 2))


def test_what_is_addressed_to_nobody_leaves_nothing_but_its_entry(county: Journal) -> None:
    county.write_many(1_000)
    assert county.query("SELECT 1 FROM journal_addressed UNION ALL SELECT 1 FROM journal_addressed_steps") == []


def test_a_lone_statement_refuses_an_entry_that_it_would_not_make_known(county: Journal) -> None:
    head = county.head(COUNTY)
    assert head is not None
    new = EntryBuilder(KIND, 1, NOW, audience=COUNTY).build(b"x", county.writer.digester)
    planned = county.writer.plan(head, [new.entry], [new.leaf], NOW)
    with pytest.raises(ValueError, match="audience"):
        append_one_parameters(head, planned.growth, new)


def test_a_transaction_that_fails_makes_nothing_known(province: Journal) -> None:
    before = province.content()
    writer = province.writer

    def append_and_fail() -> None:
        with province.engine.begin() as pooled:
            connection = raw_connection(pooled)
            new = EntryBuilder(KIND, 1, NOW, audience=CITY).build(b"x", writer.digester)
            writer.append(connection, writer.lock(connection), [new], NOW)
            raise RuntimeError("the caller fails")

    with pytest.raises(RuntimeError, match="the caller fails"):
        append_and_fail()
    assert province.content() == before


@given(st.lists(st.tuples(st.sampled_from(["", CITY, COUNTY]), st.binary(max_size=40)), max_size=30))
def test_audiences_are_read_back_from_entries(written: list[tuple[str, bytes]]) -> None:
    entries = [EntryBuilder(KIND, 1, NOW, audience=audience).build_bytes(payload) for audience, payload in written]
    assert audiences_of(entries) == {index: audience for index, (audience, _) in enumerate(written) if audience}


def test_new_entries_carry_their_audience() -> None:
    digester = Digester("sha256")
    builder = EntryBuilder(KIND, 1, NOW, audience=CITY)
    assert [new.audience for new in builder.build_all([b"one", b"two"], digester)] == [CITY, CITY]
    entry = entry_of(b"one")
    assert NewEntry(entry, digester.leaf(entry)).audience == ""


def test_relevant_audiences() -> None:
    divisions = Divisions({"141099": OTHER_CITY})
    audiences = [PROVINCE, CITY, OTHER_CITY, COUNTY, "141099", "150000"]
    assert relevant_audiences(divisions, CITY, audiences) == [PROVINCE, CITY, COUNTY]
    assert relevant_audiences(divisions, COUNTY, audiences) == [PROVINCE, CITY, COUNTY]
    assert relevant_audiences(divisions, OTHER_CITY, audiences) == [PROVINCE, OTHER_CITY, "141099"]
    assert relevant_audiences(divisions, PROVINCE, audiences) == [PROVINCE, CITY, OTHER_CITY, COUNTY, "141099"]


def test_missing_audiences() -> None:
    assert missing_audiences({CITY: 3, COUNTY: 2}, {CITY: 3, COUNTY: 3, PROVINCE: 1}) == [COUNTY, PROVINCE]
    assert missing_audiences({CITY: 4}, {CITY: 3}) == [], "the reader may hold more: it was below somebody else"


def migrate_to(url: str, package: str, revision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bring a database to an old revision, as an old release would have."""
    steps_to = ScriptDirectory._upgrade_revs

    def steps_to_old(script: ScriptDirectory, destination: str, current: str) -> Any:
        return steps_to(script, revision, current)

    with monkeypatch.context() as patch:
        patch.setattr(ScriptDirectory, "_upgrade_revs", steps_to_old)
        upgrade(url, package)


def write_as_before(connection: RawConnection, paper: PaperLog) -> None:
    """Write a whole log into the tables that the first release made."""
    digester = Digester("sha256")
    leaves = digester.leaves(paper.entries)
    frontier, nodes = EMPTY.extend(digester, leaves)
    connection.execute(
        "INSERT INTO journal_logs (origin, is_own, size, root, peaks, total_bytes, last_write_time, digest_algorithm,"
        " verifier_key) VALUES (%s, true, %s, %s, %s, %s, %s, 'sha256', %s)",
        (
            paper.origin,
            paper.size,
            frontier.root(digester),
            frontier.to_bytes(),
            sum(map(len, paper.entries)),
            NOW,
            paper.signer.verifier_key.format(),
        ),
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO journal_entries (origin, sequence, entry, leaf) VALUES (%s, %s, %s, %s)",
            [
                (paper.origin, sequence, entry, leaf)
                for sequence, (entry, leaf) in enumerate(zip(paper.entries, leaves, strict=True), 1)
            ],
        )
        cursor.executemany(
            'INSERT INTO journal_nodes (origin, level, "index", digest) VALUES (%s, %s, %s, %s)',
            [(paper.origin, node.level, node.index, node.digest) for node in nodes],
        )


@pytest.mark.parametrize(("service", "revision"), [("registry", "0001_registry"), ("weighing", "0001_weighing")])
def test_a_database_of_before_is_migrated_and_goes_on(
    service: str, revision: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = f"services.{service}.migrations"
    migrate_to(database_url, package, revision, monkeypatch)
    engine = create_engine(database_url, pool_size=1, application_name="test")
    paper = PaperLog(PROVINCE, stream=service).add(*[b"written before"] * 300)
    with engine.begin() as pooled:
        write_as_before(raw_connection(pooled), paper)
    engine.dispose()
    upgrade(database_url, package)
    journal = Journal(database_url, PROVINCE, stream=service)
    upper = Platform(journal)
    assert upper.positions()[0].through_sequence == 0
    place = upper.address(CITY, b"written afterwards")
    paper.add_raw(EntryBuilder(KIND, 1, NOW, audience=CITY).build_bytes(b"written afterwards"))
    (answer, _) = upper.answers_for(CITY, [])
    (step,) = answer.batch.steps
    assert [one.sequence for one in step.entries] == [1, place]
    assert step.checkpoint == paper.checkpoint()
    journal.close()
