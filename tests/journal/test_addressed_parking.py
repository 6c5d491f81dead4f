"""Addressed entries that cannot be projected are held, parked, passed on and replayed like all others; faults of the
database leave all or nothing.
"""

import threading
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any

import psycopg
import pytest

from services.common.database import RawConnection
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.journal.addressed_batch import AddressedBatch
from services.journal.log_writer import LogWriter
from tests.journal.addressed import Platform
from tests.journal.conftest import MakeJournal
from tests.journal.journals import Journal, NoteProjection, eventually
from tests.journal.paper_chain import PaperChain, addressed_entry
from tests.journal.paper_log import CITY, COUNTY, KIND, PROVINCE, PaperLog, entry_of

OTHER_KIND = "zhichao.test.v1.Other"


def unusual() -> PaperChain:
    """Return a log with an entry for every cause of parking, and good ones around them."""
    paper = PaperChain(PaperLog(PROVINCE)).address(CITY, b"good", b"unprojectable: no such unit", b"a fault in project")
    paper.address(CITY, b"refused by the database")
    paper.paper.add_raw(addressed_entry(CITY, b"other", OTHER_KIND), addressed_entry(CITY, b"newer", schema=2))
    return paper.address(CITY, b"good again")


def test_every_cause(middle: Platform) -> None:
    received = middle.receive(unusual().batch())
    assert (received.parked_count, received.log_parked_count) == (5, 5)
    assert middle.held(PROVINCE) == {2: b"good", 8: b"good again"}
    assert middle.journal.parked() == [
        (3, KIND, "malformed", "unprojectable: no such unit", 1),
        (4, KIND, "projection_failed", "KeyError", 1),
        (5, KIND, "projection_failed", "CheckViolation (notes_payload_check)", 1),
        (6, OTHER_KIND, "unknown_kind", "this release knows no such kind", 1),
        (7, KIND, "newer_schema", "schema 2 is newer than 1, the newest that this release knows", 1),
    ]
    assert middle.receipts(PROVINCE) == [(sequence, CITY) for sequence in range(2, 9)], "parked is received"


def test_parked_entries_are_passed_on(middle: Platform, county: Journal) -> None:
    lower = Platform(county)
    paper = PaperChain(PaperLog(PROVINCE)).address(COUNTY, b"unprojectable", b"good")
    middle.receive(paper.batch())
    assert [received.parked_count for received in lower.follow(middle)] == [1]
    assert lower.held(PROVINCE) == {3: b"good"}


def test_a_good_batch_is_projected_as_a_whole(middle: Platform) -> None:
    middle.receive(PaperChain(PaperLog(PROVINCE)).address(CITY, *[b"good"] * 9).batch())
    assert middle.journal.projection.calls == [list(range(2, 11))]


def test_an_upgrade_projects_what_was_parked(middle: Platform, journal: MakeJournal) -> None:
    middle.receive(unusual().batch())
    newer = journal(CITY, middle.journal.url).begin()
    newer.projection.kinds = MappingProxyType({KIND: 2, OTHER_KIND: 1})
    assert newer.receiver.replay_parked(PROVINCE) == (2, 3)
    assert newer.notes(PROVINCE) == {2: b"good", 6: b"other", 7: b"newer", 8: b"good again"}
    assert [(row[0], row[4]) for row in newer.parked()] == [(3, 2), (4, 2), (5, 2)]
    (row,) = newer.handlers.list_parked(PROVINCE, 1, "")[0]
    assert (row.sequence, row.cause) == (3, "malformed")


def test_a_replay_waits_for_a_batch_of_the_same_log(middle: Platform, journal: MakeJournal) -> None:
    paper = PaperChain(PaperLog(PROVINCE))
    paper.paper.add_raw(addressed_entry(CITY, b"other", OTHER_KIND))
    middle.receive(paper.batch())
    paper.address(CITY, b"more")
    newer = journal(CITY, middle.journal.url).begin()
    newer.projection.kinds = MappingProxyType({KIND: 1, OTHER_KIND: 1})
    in_project, go_on = threading.Event(), threading.Event()

    def hold(connection: RawConnection) -> None:
        in_project.set()
        assert go_on.wait(20)

    middle.journal.projection.before_project = hold
    receiving = threading.Thread(target=lambda: middle.receive(paper.batch(after=2)))
    replaying = threading.Thread(target=lambda: newer.receiver.replay_parked(None))
    receiving.start()
    assert in_project.wait(20)
    replaying.start()
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    eventually(lambda: newer.query(waiting), "the replay waits for the row")
    assert newer.notes(PROVINCE) == {}
    go_on.set()
    receiving.join()
    replaying.join()
    assert newer.notes(PROVINCE) == {2: b"other", 3: b"more"}


class AudienceProjection(NoteProjection):
    """Keeps to whom an entry is addressed."""

    def prepare_addressed(self, origin: str, kind: str, payload: bytes, leaf: bytes, audience: str) -> Any:
        return self.prepare(origin, kind, audience.encode() + b": " + payload, leaf)


def test_a_projection_that_asks_is_told_the_audience(city: Journal, county: Journal) -> None:
    """Of what comes from above, and of what platforms below have addressed to those below them."""
    city.parts.addressed._receiver._projection._service = AudienceProjection()  # type: ignore[attr-defined]  # the service's own projection
    middle = Platform(city)
    paper = PaperChain(PaperLog(PROVINCE)).address(CITY, b"down").address(COUNTY, b"further down")
    middle.receive(paper.batch())
    assert middle.held(PROVINCE) == {2: b"141000: down", 3: b"141025: further down"}
    county.write(b"plain")
    county.write(b"to a zone", audience="141025")
    city.pull(county, COUNTY)
    assert city.notes(COUNTY) == {2: b"plain", 3: b"141025: to a zone"}


def test_receipts_that_make_no_sense_are_parked(city: Journal) -> None:
    kind = "zhichao.journal.v1.AddressedReceipt"
    paper = PaperLog().add_raw(entry_of(b"\xff", kind), entry_of(b"", kind), entry_of(b"x", kind, schema=2))
    city.receive(paper.batch())
    assert [(row[0], row[2]) for row in city.parked()] == [(2, "malformed"), (3, "malformed"), (4, "newer_schema")]


# Faults


def test_a_database_that_is_away_parks_nothing(middle: Platform) -> None:
    def fail(connection: RawConnection) -> None:
        raise psycopg.OperationalError("gone")

    middle.journal.projection.before_project = fail
    batch = PaperChain(PaperLog(PROVINCE)).address(CITY, b"one").batch()
    assert middle.refusal(batch).reason is Reason.DATABASE_UNAVAILABLE
    middle.journal.projection.before_project = lambda connection: None
    assert middle.receive(batch).log.through_sequence == 2


class FailAt:
    """Lets the n-th statement of a batch fail as when the connection is lost."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, place: int) -> None:
        self._left = place
        self.is_reached = False
        for name in ("execute", "executemany"):
            monkeypatch.setattr(psycopg.Cursor, name, self._counted(getattr(psycopg.Cursor, name)))

    def _counted(self, run: Callable[..., Any]) -> Callable[..., Any]:
        ours = threading.get_ident()

        def counted(cursor: psycopg.Cursor[Any], *arguments: Any, **options: Any) -> Any:
            if threading.get_ident() != ours:
                # A listener that looks up meanwhile is not what is tested.
                return run(cursor, *arguments, **options)
            self._left -= 1
            if self._left == 0:
                self.is_reached = True
                cursor.connection.close()
                raise psycopg.OperationalError("the connection is lost")
            return run(cursor, *arguments, **options)

        return counted


def test_a_batch_is_there_whole_or_not_at_all(middle: Platform) -> None:
    """The connection is lost at every statement in turn."""
    batch = unusual().batch()
    before = middle.journal.content()
    reason: Reason | None = None
    for place in range(1, 100):
        with pytest.MonkeyPatch.context() as patch:
            fault = FailAt(patch, place)
            reason = received(middle, batch)
        if not fault.is_reached:
            break
        assert reason is Reason.DATABASE_UNAVAILABLE
        assert middle.journal.content() == before
    assert place > 10, "the batch has more statements than that"
    assert reason is None
    assert middle.position(PROVINCE).through_sequence == 8
    assert middle.receipts(PROVINCE) == [(sequence, CITY) for sequence in range(2, 9)]


def received(platform: Platform, batch: AddressedBatch) -> Reason | None:
    try:
        platform.receive(batch)
    except ServiceError as error:
        return error.reason
    return None


def test_a_receipt_that_cannot_be_written_takes_the_entries_along(
    middle: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(writer: LogWriter, connection: RawConnection) -> None:
        raise ServiceError(Reason.DATABASE_UNAVAILABLE, "the own log cannot be written now")

    batch = PaperChain(PaperLog(PROVINCE)).address(CITY, b"one").batch()
    with monkeypatch.context() as patch:
        patch.setattr(LogWriter, "lock", refuse)
        assert middle.refusal(batch).reason is Reason.DATABASE_UNAVAILABLE
    assert middle.receive(batch).duplicate_count == 0


def test_the_same_batch_from_many_sides_is_taken_once(middle: Platform, journal: MakeJournal) -> None:
    batch = PaperChain(PaperLog(PROVINCE)).address(CITY, *[b"x"] * 20).batch()
    replicas = [middle, *[Platform(journal(CITY, middle.journal.url).begin()) for _ in range(3)]]
    gate = threading.Barrier(len(replicas))
    counts: list[int] = []

    def take(replica: Platform) -> None:
        gate.wait()
        counts.append(replica.receive(batch).duplicate_count)

    run_all([threading.Thread(target=take, args=(replica,)) for replica in replicas])
    assert sorted(counts) == [0, 20, 20, 20]
    assert middle.journal.size(CITY) == 2, "one receipt"


def test_receiving_beside_writers_of_the_own_log(middle: Platform, journal: MakeJournal) -> None:
    writer = journal(CITY, middle.journal.url).begin()
    paper = PaperChain(PaperLog(PROVINCE))
    batches = [
        paper.address(CITY, str(number).encode()).batch(after=number + 1 if number else 0) for number in range(30)
    ]

    def write() -> None:
        for _ in range(60):
            writer.write(b"ours")

    def receive() -> None:
        for batch in batches:
            middle.receive(batch)

    run_all([threading.Thread(target=write), threading.Thread(target=receive)])
    assert len(middle.held(PROVINCE)) == 30
    assert len(middle.journal.entries(CITY)) == 1 + 30 + 60


def run_all(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
