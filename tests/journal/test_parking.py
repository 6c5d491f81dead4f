"""Entries that cannot be projected: kept, parked with their cause, projected later; and a database that is away."""

import threading
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import psycopg
import pytest

from services.common.database import RawConnection
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.request import RequestContext, use_request_context
from services.journal import replay
from tests.journal.conftest import MakeJournal
from tests.journal.journals import Journal, NoteProjection, eventually
from tests.journal.paper_log import CITY, COUNTY, KIND, PaperLog, entry_of

OTHER_KIND = "zhichao.test.v1.Other"


def causes(journal: Journal) -> dict[int, str]:
    return {row[0]: row[2] for row in journal.parked()}


def test_every_cause(city: Journal) -> None:
    paper = PaperLog().add(b"good", b"unprojectable: no such unit", b"a fault in prepare", b"a fault in project")
    paper.add(b"refused by the database", b"too large for the database", b"good again")
    paper.add_raw(entry_of(b"", OTHER_KIND), entry_of(b"", schema=2), b"\xff")
    (received,) = city.receive(paper.batch())
    assert received.parked_count == 8
    assert city.entries(COUNTY) == paper.entries
    assert city.notes(COUNTY) == {2: b"good", 8: b"good again"}
    assert city.parked() == [
        (3, KIND, "malformed", "unprojectable: no such unit", 1),
        (4, KIND, "projection_failed", "KeyError", 1),
        (5, KIND, "projection_failed", "KeyError", 1),
        (6, KIND, "projection_failed", "CheckViolation (notes_payload_check)", 1),
        (7, KIND, "projection_failed", "ProgramLimitExceeded", 1),
        (9, OTHER_KIND, "unknown_kind", "this release knows no such kind", 1),
        (10, KIND, "newer_schema", "schema 2 is newer than 1, the newest that this release knows", 1),
        (11, "", "malformed", "the bytes are not an Entry", 1),
    ]


def test_a_good_batch_is_projected_as_a_whole(city: Journal) -> None:
    city.receive(PaperLog().add_many(100).batch())
    assert city.projection.calls == [list(range(2, 102))]


def test_one_bad_row_makes_the_batch_be_projected_one_by_one(city: Journal) -> None:
    city.receive(PaperLog().add(b"one", b"refused by the database", b"three").batch())
    assert city.projection.calls == [[2, 3, 4], [2], [3], [4]]
    assert city.notes(COUNTY) == {2: b"one", 4: b"three"}


def test_a_projection_that_fails_always_parks_everything_and_keeps_the_log(city: Journal) -> None:
    def fail(connection: RawConnection) -> None:
        raise RuntimeError("the projection itself is broken")

    city.projection.before_project = fail
    paper = PaperLog().add_many(30)
    (received,) = city.receive(paper.batch())
    assert (received.head.root, received.parked_count) == (paper.root(), 30)
    assert set(causes(city).values()) == {"projection_failed"}


def test_a_table_that_is_missing_parks_and_is_replayed_when_it_is_there(city: Journal) -> None:
    with psycopg.connect(city.url) as connection:
        connection.execute("ALTER TABLE notes RENAME TO notes_away")
    (received,) = city.receive(PaperLog().add_many(3).batch())
    assert received.parked_count == 3
    with psycopg.connect(city.url) as connection:
        connection.execute("ALTER TABLE notes_away RENAME TO notes")
    assert city.receiver.replay_parked(None) == (3, 0)
    assert list(city.notes(COUNTY)) == [2, 3, 4]


@pytest.mark.parametrize("error", [psycopg.OperationalError("gone"), psycopg.InterfaceError("gone")])
def test_a_database_that_is_away_parks_nothing(city: Journal, error: Exception) -> None:
    def fail(connection: RawConnection) -> None:
        raise error

    city.projection.before_project = fail
    refusal = city.refusal(PaperLog().add_many(3).batch())
    assert refusal.reason is Reason.DATABASE_UNAVAILABLE
    assert len(city.projection.calls) == 1


def test_a_statement_that_takes_too_long_is_the_databases_fault(city: Journal) -> None:
    def slow(connection: RawConnection) -> None:
        connection.execute("SET LOCAL statement_timeout = 10")
        connection.execute("SELECT pg_sleep(10)")

    city.projection.before_project = slow
    assert city.refusal(PaperLog().add_many(3).batch()).reason is Reason.DATABASE_UNAVAILABLE


def test_a_projection_that_swallows_an_error_does_not_block_its_log(city: Journal) -> None:
    def swallow(connection: RawConnection) -> None:
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1 / 0")

    city.projection.before_project = swallow
    (received,) = city.receive(PaperLog().add_many(2).batch())
    assert (received.head.size, received.parked_count) == (3, 2)


def test_duplicates_are_not_projected_or_parked_again(city: Journal) -> None:
    paper = PaperLog().add(b"one", b"unprojectable", b"three", b"a fault in project", b"five")
    city.receive(paper.batch(1, 4))
    city.projection.calls.clear()
    (received,) = city.receive(paper.batch(2, 6))
    assert (received.duplicate_count, received.parked_count) == (3, 1)
    assert city.projection.calls == [[5, 6], [5], [6]]
    assert {row[0]: row[4] for row in city.parked()} == {3: 1, 5: 1}


def test_parked_entries_go_up_like_all_others(city: Journal, province: Journal) -> None:
    paper = PaperLog().add(b"one", b"unprojectable").add_raw(b"\xff").add(b"four")
    city.receive(paper.batch())
    province.pull(city, COUNTY)
    assert province.entries(COUNTY) == paper.entries
    assert causes(province) == {3: "malformed", 4: "malformed"}


def upgraded(city: Journal, journal: MakeJournal) -> Journal:
    """Return the city's journal in a release that knows more."""
    newer = journal(CITY, city.url).begin()
    newer.projection.kinds = MappingProxyType({KIND: 2, OTHER_KIND: 1})
    return newer


def test_an_upgrade_projects_what_was_parked(city: Journal, journal: MakeJournal) -> None:
    paper = PaperLog().add(b"one").add_raw(entry_of(b"other", OTHER_KIND), entry_of(b"newer", schema=2)).add(b"four")
    city.receive(paper.batch())
    assert causes(city) == {3: "unknown_kind", 4: "newer_schema"}
    newer = upgraded(city, journal)
    assert newer.receiver.replay_parked(None) == (2, 0)
    assert newer.parked() == []
    assert newer.notes(COUNTY) == {2: b"one", 3: b"other", 4: b"newer", 5: b"four"}
    assert newer.receiver.replay_parked(None) == (0, 0)


def test_a_replay_that_fails_counts_the_attempt_and_tells_the_new_cause(city: Journal, journal: MakeJournal) -> None:
    city.receive(PaperLog().add_raw(entry_of(b"unprojectable", OTHER_KIND)).add(b"a fault in project").batch())
    newer = upgraded(city, journal)
    assert newer.receiver.replay_parked(None) == (0, 2)
    assert newer.receiver.replay_parked(None) == (0, 2)
    assert newer.parked() == [
        (2, OTHER_KIND, "malformed", "unprojectable", 3),
        (3, KIND, "projection_failed", "KeyError", 3),
    ]


def test_a_replay_of_one_origin_leaves_the_others(city: Journal, journal: MakeJournal) -> None:
    for origin in ("141025", "141026"):
        city.receive(PaperLog(origin).add_raw(entry_of(b"x", OTHER_KIND)).batch())
    assert upgraded(city, journal).receiver.replay_parked("141026") == (1, 0)
    assert [row[0] for row in city.query("SELECT origin FROM journal_parked")] == ["141025"]


def test_a_replay_goes_through_any_number_in_pages(
    city: Journal, journal: MakeJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "PAGE_SIZE_MAX", 7)
    for origin in ("141025", "141026"):
        paper = PaperLog(origin)
        paper.add_raw(*[entry_of(b"unprojectable" if number % 3 else b"x", OTHER_KIND) for number in range(21)])
        city.receive(paper.batch())
    assert upgraded(city, journal).receiver.replay_parked(None) == (14, 28)


def test_two_replays_at_once_project_every_entry_once(city: Journal, journal: MakeJournal) -> None:
    city.receive(PaperLog().add_raw(*[entry_of(b"x", OTHER_KIND)] * 40).batch())
    newer = upgraded(city, journal)
    gate = threading.Barrier(3)
    results: list[tuple[int, int]] = []

    def replay_all() -> None:
        gate.wait()
        results.append(newer.receiver.replay_parked(None))

    threads = [threading.Thread(target=replay_all) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Each entry is counted by the one replay that projected it.
    assert [sum(column) for column in zip(*results, strict=True)] == [40, 0]
    assert (len(newer.notes(COUNTY)), newer.parked()) == (40, [])


def test_a_replay_ends_with_its_call(city: Journal, journal: MakeJournal) -> None:
    city.receive(PaperLog().add_raw(*[entry_of(b"x", OTHER_KIND)] * 5).batch())
    newer = upgraded(city, journal)
    stopping = threading.Event()

    class StopAfterTwo(NoteProjection):
        def project(self, connection: RawConnection, origin: str, prepared: Any) -> None:
            super().project(connection, origin, prepared)
            if len(self.calls) == 2:
                stopping.set()

    newer.receiver._projection = StopAfterTwo(newer.projection.kinds)
    with use_request_context(RequestContext(stopping=stopping)), pytest.raises(ServiceError) as refusal:
        newer.receiver.replay_parked(None)
    assert refusal.value.reason is Reason.SHUTTING_DOWN
    assert (len(newer.notes(COUNTY)), len(newer.parked())) == (2, 3)


def test_a_replay_waits_for_a_batch_of_the_same_log(city: Journal, journal: MakeJournal) -> None:
    paper = PaperLog().add_raw(entry_of(b"x", OTHER_KIND)).add_many(1)
    city.receive(paper.batch())
    newer = upgraded(city, journal)
    paper.add_many(1)
    in_project, go_on = threading.Event(), threading.Event()

    def hold(connection: RawConnection) -> None:
        in_project.set()
        assert go_on.wait(20)

    city.projection.before_project = hold
    results: list[Any] = []
    run: Callable[[Callable[[], Any]], threading.Thread] = lambda call: threading.Thread(  # noqa: E731 - typed as a callable for the threads below
        target=lambda: results.append(call())
    )
    receiving = run(lambda: city.receive(paper.batch(4)))
    replaying = run(lambda: newer.receiver.replay_parked(None))
    receiving.start()
    assert in_project.wait(20)
    replaying.start()
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    eventually(lambda: city.query(waiting), "the replay waits for the row")
    assert results == []
    go_on.set()
    receiving.join()
    replaying.join()
    assert newer.notes(COUNTY) == {2: b"x", 3: paper_payload(2), 4: paper_payload(3)}


def paper_payload(number: int) -> bytes:
    return f"{COUNTY}/{number}".encode()


def test_lists_are_paged_and_filtered(city: Journal) -> None:
    for origin in ("141025", "141026"):
        city.receive(PaperLog(origin).add_raw(*[entry_of(b"x", OTHER_KIND)] * 5).batch())
    places, token, pages = [], "", 0
    while token or not pages:
        rows, token = city.handlers.list_parked(None, 3, token)
        places += [(row.origin, row.sequence) for row in rows]
        pages += 1
    assert pages == 4
    assert places == [(origin, sequence) for origin in ("141025", "141026") for sequence in range(2, 7)]
    rows, token = city.handlers.list_parked("141026", 5, "")
    assert ([row.sequence for row in rows], token) == ([2, 3, 4, 5, 6], "")
    assert city.handlers.list_parked("１４１０２５\x00", 5, "") == ([], "")
    assert city.handlers.replay_parked("141\x00025") == (0, 0)
