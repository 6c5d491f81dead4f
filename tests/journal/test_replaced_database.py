"""Databases that are emptied, replaced or restored from a backup while the service runs."""

from datetime import timedelta

import psycopg

from services.journal.notes import SignedCheckpoint
from services.journal.receiver import IncomingBatch
from tests.journal.conftest import MakeJournal
from tests.journal.journals import Journal
from tests.journal.paper_log import CITY, COUNTY, PROVINCE, PaperLog, signer_of


def execute(journal: Journal, *statements: str) -> None:
    with psycopg.connect(journal.url) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def tables_of(journal: Journal) -> list[str]:
    with psycopg.connect(journal.url) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return [name for (name,) in rows if name != "alembic_version" and not name.startswith("kept_")]


def wipe(journal: Journal) -> None:
    """Empty the database under the service, which knows nothing of it."""
    execute(journal, f"TRUNCATE {', '.join(tables_of(journal))}")


def backup(journal: Journal) -> None:
    execute(journal, *(f"CREATE TABLE kept_{name} AS TABLE {name}" for name in tables_of(journal)))


def restore(journal: Journal) -> None:
    names = tables_of(journal)
    wipe(journal)
    execute(journal, *(f"INSERT INTO {name} SELECT * FROM kept_{name}" for name in names))  # noqa: S608 - names of the tables


def read(journal: Journal, origin: str) -> list[IncomingBatch]:
    """Return what a journal sends on of a log, as the next level up gets it."""
    batches = []
    sequence = 1
    while (batch := journal.reader.read(origin, sequence, 1_024)) is not None:
        batches.append(IncomingBatch(origin, batch.first_sequence, list(batch.entries), batch.checkpoint))
        sequence = batch.last_sequence + 1
    return batches


def test_a_log_begins_anew_with_another_digest_where_a_longer_one_was(city: Journal) -> None:
    city.receive(PaperLog().add_many(9).batch())
    wipe(city)
    anew = PaperLog(algorithm="sm3").add_many(9)
    received = city.receive(anew.batch(1, 2), anew.batch(3, 4), anew.batch(5))
    assert [one.head.size for one in received] == [2, 4, 10]
    assert received[-1].head.root == anew.root()


def test_a_log_begins_anew_with_another_digest_where_a_shorter_one_was(city: Journal) -> None:
    city.receive(PaperLog().add_many(1).batch())
    wipe(city)
    anew = PaperLog(algorithm="sm3").add_many(9)
    received = city.receive(anew.batch(1, 5), anew.batch(6, 7), anew.batch(8))
    assert [one.head.size for one in received] == [5, 7, 10]


def test_a_log_that_another_replica_began_anew_goes_on_here(city: Journal, journal: MakeJournal) -> None:
    city.receive(PaperLog().add_many(9).batch())
    wipe(city)
    anew = PaperLog(algorithm="sm3").add_many(9)
    journal(CITY, city.url).receive(anew.batch(1, 2))
    assert [one.head.size for one in city.receive(anew.batch(3, 4), anew.batch(5))] == [4, 10]


def test_cosignature_times_do_not_go_back_after_a_restore(city: Journal, journal: MakeJournal) -> None:
    """The copy below has our cosignature of a larger size, given before; it comes back with the note."""
    province = journal(PROVINCE)
    key = signer_of(PROVINCE).verifier_key
    paper = PaperLog().add_many(9)
    city.receive(*paper.batches(2))
    backup(province)
    for received in province.receive(*read(city, COUNTY)):
        city.handlers.add_cosignatures(received.checkpoint)
    restore(province)
    province.clock.time += timedelta(hours=5)
    answers = [*province.receive(paper.batch(1, 4)), *province.receive(*read(city, COUNTY))]
    times = [SignedCheckpoint.parse(one.checkpoint).cosigned_at(key) for one in answers]
    assert [one.head.size for one in answers] == [4, 10]
    assert None not in times
    assert times == sorted(time for time in times if time is not None)
