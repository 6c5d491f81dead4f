"""Several writers, several receivers, connections that are killed: dense sequences, one root, nothing half-written."""

import random
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import psycopg
import pytest

from services.common.database import RawConnection, raw_connection
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.journal import store
from services.journal.log_writer import LogIdentityError
from services.journal.receiver import Received
from services.journal.store import checkpoints
from tests.journal import naive_merkle
from tests.journal.conftest import MakeJournal
from tests.journal.invariants import KnownLog, check_kept_checkpoints, check_reading, known_log
from tests.journal.journals import WAIT_SECONDS, Journal, NoteProjection, assert_same_log
from tests.journal.paper_log import CITY, COUNTY, NOW, STREAM, PaperLog

SEED = 20_260_301

FAILURES_MAX = 2_000
"""Tries of a push under fire; some dozens are usual."""


def run_together(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run calls at the same time and return their results, or the errors that they raised, in order."""
    gate = threading.Barrier(len(calls))
    results: list[Any] = [None] * len(calls)

    def run(place: int) -> None:
        gate.wait()
        try:
            results[place] = calls[place]()
        except Exception as error:  # noqa: BLE001 - the test judges it
            results[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * WAIT_SECONDS)
        assert not thread.is_alive()
    return results


def paper_known(paper: PaperLog) -> KnownLog:
    return KnownLog(paper.origin, STREAM, paper.signer.verifier_key, paper.entries)


def check_log(journal: Journal, origin: str) -> None:
    """Check that head, entries and nodes of a log agree."""
    entries = journal.entries(origin)
    head = journal.head(origin)
    assert head is not None
    assert (head.size, head.root) == (len(entries), naive_merkle.root_of(entries))
    assert head.total_bytes == sum(map(len, entries))
    nodes = journal.query("SELECT count(*) FROM journal_nodes WHERE origin = %s AND level = 8", origin)
    assert nodes == [(len(entries) // 256,)]


# Writers


def test_replicas_that_start_together_begin_the_log_once(journal: MakeJournal) -> None:
    first = journal(COUNTY)
    replicas = [first, *(journal(COUNTY, first.url) for _ in range(3))]
    assert run_together([replica.begin for replica in replicas]) == replicas
    assert first.size(COUNTY) == 1


def test_two_platforms_that_start_together_on_one_database_do_not_both_begin(journal: MakeJournal) -> None:
    for _ in range(5):
        one = journal(COUNTY)
        other = journal(CITY, one.url)
        results = run_together([one.begin, other.begin])
        (error,) = [result for result in results if isinstance(result, Exception)]
        assert isinstance(error, LogIdentityError)
        assert one.query("SELECT count(*) FROM journal_logs") == [(1,)]


def test_writers_of_one_log_take_turns(journal: MakeJournal) -> None:
    first = journal(COUNTY).begin()
    writers = [first, *(journal(COUNTY, first.url) for _ in range(3))]

    def write(writer: Journal, seed: int) -> list[int]:
        choose = random.Random(seed)
        return [writer.write(*[b"x"] * choose.choice([1, 2, 30, 130])) for _ in range(25)]

    results = run_together([partial(write, writer, SEED + seed) for seed, writer in enumerate(writers)])
    sizes = [size for sizes in results for size in sizes]
    assert len(set(sizes)) == len(sizes)
    assert max(sizes) == first.size(COUNTY)
    check_log(first, COUNTY)
    check_reading(first, known_log(first), 1)


# Receivers


def test_receivers_of_one_log_take_turns(city: Journal, journal: MakeJournal) -> None:
    paper = PaperLog().add_many(1_500)
    replicas = [city, *(journal(CITY, city.url) for _ in range(2))]

    def receive(replica: Journal, seed: int) -> list[Received]:
        ends = random.Random(seed).sample(range(1, 1_501), 30)
        return replica.receive(*paper.batches(*ends, 700))

    results = run_together([partial(receive, replica, SEED + seed) for seed, replica in enumerate(replicas)])
    # Whoever is behind finds its entries held; nobody finds a gap.
    assert [result for result in results if isinstance(result, Exception)] == []
    check_log(city, COUNTY)
    assert city.entries(COUNTY) == paper.entries
    assert list(city.notes(COUNTY)) == list(range(2, 1_502))
    check_kept_checkpoints(city, paper_known(paper))
    check_reading(city, paper_known(paper), 1)


def test_two_histories_at_once_give_one(city: Journal, journal: MakeJournal) -> None:
    for origin in ("141025", "141026", "141027"):
        one, other = PaperLog(origin).add_many(200), PaperLog(origin).add(b"another").add_many(200)
        replica = journal(CITY, city.url)
        receive_one, receive_other = (
            partial(city.receive, *one.batches(50, 100)),
            partial(replica.receive, *other.batches(60)),
        )
        results = run_together([receive_one, receive_other])
        errors = [result for result in results if isinstance(result, ServiceError)]
        assert [error.reason for error in errors] == [Reason.HISTORY_MISMATCH]
        check_log(city, origin)
        assert city.entries(origin) in (one.entries, other.entries)


def test_many_logs_are_received_at_once(city: Journal) -> None:
    papers = [PaperLog(f"1410{number}").add_many(300) for number in range(21, 27)]
    results = run_together([partial(city.receive, *paper.batches(100, 200)) for paper in papers])
    assert [result[-1].head.root for result in results] == [paper.root() for paper in papers]


def test_cosignatures_and_batches_at_once(county: Journal, city: Journal) -> None:
    def push() -> None:
        for _ in range(30):
            county.write_many(40)
            city.pull(county, COUNTY)

    def bring_down() -> int:
        return sum(
            county.handlers.add_cosignatures(city.reader.checkpoint(COUNTY, 0)[0].format())
            for _ in range(40)
            if city.size(COUNTY)
        )

    results = run_together([push, bring_down, bring_down])
    assert [result for result in results if isinstance(result, Exception)] == []
    assert_same_log(city, county, COUNTY)
    check_kept_checkpoints(city, known_log(county))


# Connections that are killed


class Killed:
    """Terminates the connection that it is called on, from another one, at the n-th call."""

    def __init__(self, journal: Journal, at: int) -> None:
        self._journal = journal
        self._left = at

    def __call__(self, connection: RawConnection) -> None:
        self._left -= 1
        if self._left == 0:
            with psycopg.connect(self._journal.url, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))


STEPS = ["lock_head", "read_leaves", "insert_entries", "insert_parked", "store_growth"]


@pytest.mark.parametrize("step", [*STEPS, "checkpoints.add", "project"])
def test_a_connection_killed_at_any_step_of_receiving_leaves_nothing(
    city: Journal, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    paper = PaperLog().add_many(300).add_raw(b"\xff").add_many(30)
    city.receive(paper.batch(1, 250))
    before = city.content()
    kill = Killed(city, at=1)
    if step == "project":
        city.projection.before_project = kill
    else:
        module, name = (checkpoints, "add") if step == "checkpoints.add" else (store, step)
        true_step = getattr(module, name)

        def killed_step(connection: RawConnection, *values: Any) -> Any:
            kill(connection)
            return true_step(connection, *values)

        monkeypatch.setattr(module, name, killed_step)
    with pytest.raises(ServiceError) as refusal:
        city.receive(paper.batch(240))
    assert refusal.value.reason is Reason.DATABASE_UNAVAILABLE
    assert city.content() == before
    # And the next try goes through, on a new connection.
    (received,) = city.receive(paper.batch(240))
    assert (received.head.root, received.parked_count) == (paper.root(), 1)
    check_kept_checkpoints(city, paper_known(paper))


def test_a_connection_killed_before_the_commit_of_a_write_leaves_nothing(county: Journal) -> None:
    before = county.content()

    def write_and_lose() -> None:
        with county.engine.begin() as pooled:
            connection = raw_connection(pooled)
            head = county.writer.lock(connection)
            county.writer.append(connection, head, [], NOW)
            store.create_log(connection, "141099", False, "sha256", "key")
            Killed(county, at=1)(connection)

    with pytest.raises(Exception, match=r"terminating connection|closed the connection|connection is lost|closed"):
        write_and_lose()
    assert county.content() == before
    assert county.write(b"one") == 2


@pytest.mark.parametrize("seed", range(3))
def test_a_push_goes_through_whatever_is_killed(city: Journal, seed: int) -> None:
    paper = PaperLog().add_many(1_200)
    batches = paper.batches(*random.Random(SEED + seed).sample(range(1, 1_201), 40))
    is_over = threading.Event()

    def kill() -> None:
        choose = random.Random(SEED + seed)
        while not is_over.wait(choose.random() / 10):
            city.kill_connections()

    killer = threading.Thread(target=kill)
    killer.start()
    failures: list[Reason] = []
    try:
        while city_size(city) < paper.size:
            held = city_size(city)
            rest = [batch for batch in batches if batch.first_sequence + len(batch.entries) - 1 > held]
            try:
                city.receive(*rest)
            except ServiceError as error:
                failures.append(error.reason)
                assert len(failures) < FAILURES_MAX
    finally:
        is_over.set()
        killer.join()
    assert set(failures) <= {Reason.DATABASE_UNAVAILABLE}
    check_log(city, COUNTY)
    assert city.entries(COUNTY) == paper.entries
    assert list(city.notes(COUNTY)) == list(range(2, 1_202))
    check_kept_checkpoints(city, paper_known(paper))


def city_size(city: Journal) -> int:
    return int(next(iter(city.query("SELECT coalesce(max(size), 0) FROM journal_logs WHERE origin = %s", COUNTY)))[0])


def test_a_reader_sees_no_half_of_a_batch(city: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    paper = PaperLog().add_many(600)
    known = paper_known(paper)
    city.receive(paper.batch(1, 1))
    seen: list[int] = []

    def read_all() -> None:
        while not seen or seen[-1] < paper.size:
            for batch in city.batches(COUNTY):
                known.check_batch(batch, batch.first_sequence)
                seen.append(batch.last_sequence)

    results = run_together([read_all, read_all, lambda: city.receive(*paper.batches(*range(10, 600, 10)))])
    assert [result for result in results if isinstance(result, Exception)] == []
    assert isinstance(city.projection, NoteProjection)
