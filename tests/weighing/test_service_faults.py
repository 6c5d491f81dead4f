"""What happens when the database fails: a refusal that says when to come back, nothing half written, and a resend that
gives exactly one weighing.
"""

import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from cli.postgres import EmbeddedPostgres
from services.common.errors import ServiceError
from tests.conftest import FAST_SETTINGS, Databases
from tests.registry.harness import RunningRegistry
from tests.waiting import wait_until
from tests.weighing.harness import RunningWeighing, locked_head, reason_of, refused, retry_delay
from tests.weighing.records import record, records
from zhichao.weighing.v1 import service_pb2 as pb
from zhichao.weighing.v1.record_pb2 import WeighingRecord

# A lone record and a batch go different ways into the tables: INSERT in a pipeline, and COPY.
SIZES = [1, 100]


def sound(weighing: RunningWeighing) -> int:
    """Check that journal, tables and totals agree, and return how many weighings there are."""
    held = weighing.weighings_in_journal()
    assert weighing.position().size == len(weighing.entries())
    rows = weighing.query("SELECT sequence, gross_weight_kg FROM weighings ORDER BY sequence")
    assert rows == [(sequence, one.record.gross_weight_kg) for sequence, one in sorted(held.items())]
    totals = weighing.day_totals()
    assert sum(total.weighing_count for total in totals) == len(held)
    assert sum(total.gross_weight_sum_kg for total in totals) == sum(weight for _, weight in rows)
    return len(held)


def unavailable(weighing: RunningWeighing, batch: list[WeighingRecord]) -> ServiceError:
    """Send a batch that must be refused because of the database."""
    with pytest.raises(ServiceError) as caught:
        weighing.record_all(batch)
    assert (caught.value.status, caught.value.reason) == ("UNAVAILABLE", "DATABASE_UNAVAILABLE")
    assert retry_delay(caught.value) > 0
    return caught.value


@contextmanager
def trigger(weighing: RunningWeighing, table: str, body: str, options: str = "") -> Iterator[None]:
    """Let a trigger run for every row that is written to a table."""
    kind = "CONSTRAINT TRIGGER" if options else "TRIGGER"
    when = "AFTER" if options else "BEFORE"
    weighing.query(
        f"CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NEW; END $$;"
        f" CREATE {kind} fault {when} INSERT OR UPDATE ON {table} {options} FOR EACH ROW EXECUTE FUNCTION fault()"
    )
    try:
        yield
    finally:
        weighing.query(f"DROP TRIGGER fault ON {table}; DROP FUNCTION fault()")


def terminate_waiting(weighing: RunningWeighing) -> bool:
    """End the connection that waits for a lock, if there is one."""
    return bool(
        weighing.query(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
    )


# Connections


@pytest.mark.parametrize("size", SIZES)
def test_a_connection_lost_in_a_transaction(weighing: RunningWeighing, size: int) -> None:
    batch = records(size)
    with ThreadPoolExecutor(1) as pool, locked_head(weighing):
        sent = pool.submit(unavailable, weighing, batch)
        wait_until(lambda: terminate_waiting(weighing), "the transaction is ended")
        sent.result()
    assert sound(weighing) == 0
    assert {reason_of(result) for result in weighing.record_all(batch)} == {"recorded"}
    assert sound(weighing) == size


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("table", ["journal_entries", "weighings", "day_totals", "journal_logs"])
@pytest.mark.parametrize("options", ["", "DEFERRABLE INITIALLY DEFERRED"])
def test_a_connection_lost_at_any_statement_and_at_the_commit(
    weighing: RunningWeighing, table: str, size: int, options: str
) -> None:
    batch = records(size)
    with trigger(weighing, table, "PERFORM pg_terminate_backend(pg_backend_pid());", options):
        unavailable(weighing, batch)
    assert sound(weighing) == 0
    assert {reason_of(result) for result in weighing.record_all(batch)} == {"recorded"}
    assert sound(weighing) == size


@pytest.mark.parametrize("size", SIZES)
def test_all_connections_lost_again_and_again_under_load(weighing: RunningWeighing, size: int) -> None:
    """Terminals resend until they have an answer; afterwards everything is there once."""
    is_over = threading.Event()

    def terminal(name: int) -> None:
        for number in range(15):
            batch = records(size, f"t{name}-{number}")
            while True:
                try:
                    results = weighing.record_all(batch)
                except ServiceError as error:
                    if error.reason == "DATABASE_UNAVAILABLE":
                        continue
                    raise
                assert {reason_of(result) for result in results} <= {"recorded", "duplicate"}
                break

    def killer() -> None:
        while not is_over.wait(0.02):
            weighing.query(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    killing = threading.Thread(target=killer)
    with ThreadPoolExecutor(4) as pool:
        killing.start()
        try:
            for run in [pool.submit(terminal, name) for name in range(4)]:
                run.result()
        finally:
            is_over.set()
            killing.join()
    wait_until(lambda: not isinstance(attempt(lambda: sound(weighing)), Exception), "the service is itself again")
    assert sound(weighing) == 4 * 15 * size


def attempt(call: Callable[[], object]) -> object:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - handed to the one who asked
        return error


def test_a_stop_does_not_wait_for_a_database_that_hangs(weighing: RunningWeighing) -> None:
    with ThreadPoolExecutor(3) as pool, locked_head(weighing):
        runs = [pool.submit(attempt, partial(weighing.record, record(f"r-{number}"))) for number in range(3)]
        wait_until(lambda: waits_for_lock(weighing), "the first transaction waits")
        started = time.monotonic()
        weighing.app.stop(0.5)
        assert time.monotonic() - started < 8
        assert {type(run.result()) for run in runs} == {ServiceError}
        terminate_waiting(weighing)
    # A process would have ended by now; here its threads come to an end and leave a connection.
    stopped = weighing.app
    wait_until(lambda: not any(thread.is_alive() for thread in stopped._committer._threads), "its threads end")
    stopped._engine.dispose()
    weighing.start()
    for number in range(3):
        weighing.record(record(f"r-{number}"))
    assert sound(weighing) == 3


def waits_for_lock(weighing: RunningWeighing) -> bool:
    return bool(
        weighing.query("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
    )


# A full disk and other failures of the server


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("table", ["journal_entries", "weighings", "day_totals", "journal_logs"])
@pytest.mark.parametrize("options", ["", "DEFERRABLE INITIALLY DEFERRED"])
def test_a_full_disk_at_any_statement_and_at_the_commit(
    weighing: RunningWeighing, table: str, size: int, options: str
) -> None:
    weighing.record(record("before"))
    batch = records(size)
    full = "RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100';"
    with trigger(weighing, table, full, options):
        assert "disk is full" in unavailable(weighing, batch).message
        assert sound(weighing) == 1
        unavailable(weighing, batch)
    assert {reason_of(result) for result in weighing.record_all(batch)} == {"recorded"}
    assert sound(weighing) == 1 + size


def test_a_full_disk_when_a_conflict_is_kept(weighing: RunningWeighing) -> None:
    weighing.record(record())
    with trigger(weighing, "weighing_conflicts", "RAISE EXCEPTION 'full' USING ERRCODE = '53100';"):
        unavailable(weighing, [record(gross_weight_kg=20_000), record("other")])
        assert sound(weighing) == 1
    results = weighing.record_all([record(gross_weight_kg=20_000), record("other")])
    assert [reason_of(result) for result in results] == ["RECORD_CONFLICT", "recorded"]
    assert (len(weighing.conflicts()), sound(weighing)) == (1, 2)


@pytest.mark.parametrize("size", SIZES)
def test_a_stream_ends_with_the_refusal_and_its_answers_before_hold(weighing: RunningWeighing, size: int) -> None:
    stream = weighing.stream([records(size, "ok"), records(size, "bad"), records(size, "later")])
    poison = "IF NEW.record_id LIKE 'bad-%' THEN RAISE EXCEPTION 'full' USING ERRCODE = '53100'; END IF;"
    with trigger(weighing, "weighings", poison), pytest.raises(grpc.RpcError) as caught:
        list(stream)
    assert refused(caught.value).reason == "DATABASE_UNAVAILABLE"
    answers = list(weighing.stream([records(size, "ok"), records(size, "bad"), records(size, "later")]))
    assert {reason_of(one) for answer in answers for one in answer.results} <= {"recorded", "duplicate"}
    assert sound(weighing) == 3 * size


@pytest.mark.parametrize("size", SIZES)
def test_a_poisoned_record_fails_only_its_submitter(weighing: RunningWeighing, size: int) -> None:
    poison = "IF NEW.record_id = 'bad-0' THEN RAISE EXCEPTION 'poison' USING ERRCODE = '22012'; END IF;"
    committer = weighing.app._committer
    planning: threading.Lock = committer._plan.__self__._planning  # type: ignore[attr-defined]  # a look inside, on purpose
    with trigger(weighing, "weighings", poison), ThreadPoolExecutor(8) as pool, capture_logs() as logs:
        with planning:
            # The first is being planned meanwhile, and the others go into one group.
            runs = [pool.submit(weighing.record_all, records(size, "first"))]
            wait_until(lambda: is_planning(committer), "the first is being planned")
            runs += [pool.submit(weighing.record_all, records(size, f"good{number}")) for number in range(3)]
            request = pb.RecordWeighingsRequest(records=records(size, "bad"))
            bad = pool.submit(weighing.refusal, "RecordWeighings", request)
            runs += [pool.submit(weighing.record_all, records(size, f"more{number}")) for number in range(2)]
            wait_until(lambda: committer.waiting_records == 6 * size, "all others wait")
        assert {reason_of(result) for run in runs for result in run.result()} == {"recorded"}
        refusal = bad.result()
    assert (refusal.status, refusal.reason) == ("INTERNAL", "INTERNAL")
    assert "poison" not in refusal.message
    (fault,) = [line for line in logs if line["log_level"] == "error"]
    assert fault["reason"] == "INTERNAL"
    # Of the records nothing is logged but the error's own text.
    assert "晋" not in str(logs) + str(fault["exc_info"])
    assert sound(weighing) == 6 * size
    weighing.record_all(records(size, "bad"))
    assert sound(weighing) == 7 * size


def is_planning(committer: Any) -> bool:
    """Tell whether work was taken out of the queue and its plan is not done."""
    return any("in plan" in line for line in traceback.format_stack(sys._current_frames()[committer._threads[0].ident]))


# A server that is away


@pytest.fixture
def own_server() -> Iterator[EmbeddedPostgres]:
    """Run a PostgreSQL server for this test alone, so that it can be stopped."""
    directory = Path(tempfile.mkdtemp(prefix="zc-pg-"))
    try:
        with EmbeddedPostgres(directory) as server:
            server.query(FAST_SETTINGS)
            yield server
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def test_a_server_that_is_stopped_and_started(
    own_server: EmbeddedPostgres, registry: RunningRegistry, socket_directory: Path
) -> None:
    databases = Databases(own_server)
    weighing = RunningWeighing(databases, socket_directory, registry.environment["ZHICHAO_REGISTRY_LISTEN"])
    try:
        first = weighing.record(record("before"))
        own_server.query("CHECKPOINT")
        own_server.stop()
        for method, request in (
            ("RecordWeighing", pb.RecordWeighingRequest(record=record("during"))),
            ("ListWeighings", pb.ListWeighingsRequest()),
            ("ListDayTotals", pb.ListDayTotalsRequest()),
            ("GetWeighing", pb.GetWeighingRequest(receipt=first.receipt)),
        ):
            with pytest.raises(ServiceError) as caught:
                weighing.call(method, request)
            assert (caught.value.status, caught.value.reason) == ("UNAVAILABLE", "DATABASE_UNAVAILABLE")
            assert retry_delay(caught.value) > 0
        # What needs no database is still answered precisely: the directory is in memory.
        assert weighing.refused_record(record("during", scale_id="scale-9")).reason == "UNKNOWN_SCALE"
        own_server.start()
        recorded = wait_until(lambda: attempt_record(weighing, record("during")), "the service recovers by itself")
        assert not recorded.is_duplicate
        assert weighing.record(record("before")).receipt == first.receipt
        assert sound(weighing) == 2
        # Watching and following recover too.
        stream = weighing.stub.WatchWeighings(pb.WatchWeighingsRequest(first_sequence=1), timeout=20)
        assert len(next(stream).held_weighings) == 2
        stream.cancel()
    finally:
        weighing.stop()


def attempt_record(weighing: RunningWeighing, one: WeighingRecord) -> pb.Recorded | None:
    try:
        return weighing.record(one)
    except ServiceError as error:
        if error.reason == "DATABASE_UNAVAILABLE":
            return None
        raise


def test_what_comes_behind_a_lost_batch_in_its_stream_is_not_recorded(weighing: RunningWeighing) -> None:
    """Two records with one id: the first of the stream wins, also when its transaction is lost and it is sent again."""
    weighing.record_all(records(3, "warm"))
    first = [record("same", gross_weight_kg=20_000), *records(30, "one")]
    second = [record("same", gross_weight_kg=21_000), *records(30, "two")]
    is_first_waiting = threading.Event()

    def batches() -> Iterator[Sequence[WeighingRecord]]:
        yield first
        assert is_first_waiting.wait(10)
        yield second

    with locked_head(weighing):
        stream = weighing.stream(batches())
        wait_until(lambda: waits_for_lock(weighing), "the first waits for the lock")
        is_first_waiting.set()
        wait_until(lambda: weighing.app._committer._under_way == 2, "the second is planned behind it")
        assert terminate_waiting(weighing)
    with pytest.raises(grpc.RpcError):
        list(stream)
    weighing.record_all(first)
    weighing.record_all(second)
    held = [
        one.record.gross_weight_kg for one in weighing.weighings_in_journal().values() if one.record.record_id == "same"
    ]
    assert held == [20_000]
    assert sound(weighing) == 64
