"""What the weighing service shows to Prometheus: each record counted once, by what became of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Databases
from tests.metrics import Scrape, scrape
from tests.registry.harness import RunningRegistry
from tests.waiting import wait_until
from tests.weighing.harness import PLATFORM, RunningWeighing
from tests.weighing.records import BY_VERDICT, record, records


@pytest.fixture
def metered(databases: Databases, registry: RunningRegistry, socket_directory: Path) -> Iterator[RunningWeighing]:
    running = RunningWeighing(
        databases,
        socket_directory,
        registry.environment["ZHICHAO_REGISTRY_LISTEN"],
        settings={"ZHICHAO_WEIGHING_METRICS_LISTEN": "127.0.0.1:0"},
    )
    yield running
    running.close()


def look(weighing: RunningWeighing) -> Scrape:
    return scrape(weighing.app.metrics_server.address)


def look_once_recorded(weighing: RunningWeighing, count: int) -> Scrape:
    """Look once so many are counted: lone records are, a moment after their answers."""
    wait_until(lambda: look(weighing).value("zhichao_weighings_recorded_total") == count, f"{count} are counted")
    return look(weighing)


def test_records_are_counted_by_what_became_of_them(metered: RunningWeighing) -> None:
    one = record("one")
    metered.record(one)
    metered.record(one)
    metered.refused_record(record("one", gross_weight_kg=23_000))
    metered.refused_record(record("bad", gross_weight_kg=-1))
    # New, held, and twice in the batch.
    metered.record_all([*records(40, "batch"), one, record("batch-0")])
    list(metered.stream([records(30, "stream"), records(30, "stream")]))

    seen = look_once_recorded(metered, 71)
    assert {
        name: seen.value(f"zhichao_{name}_total")
        for name in ("weighings_recorded", "weighing_duplicates", "weighing_conflicts")
    } == {"weighings_recorded": 71, "weighing_duplicates": 33, "weighing_conflicts": 1}
    own = {"stream": "weighing", "origin": PLATFORM, "is_own": "true"}
    # The weighings, the conflict that is kept as evidence, and the entry that begins the log.
    assert seen.value("zhichao_journal_entries", **own) == metered.position().size == 73
    assert seen.value("zhichao_journal_bytes", **own) == metered.position().total_bytes


def test_verdicts_are_counted(metered: RunningWeighing) -> None:
    before = look(metered).values("zhichao_weighings_judged_total", "verdict")
    assert before == {"compliant": 0, "undetermined": 0, "suspected": 0, "not_judged": 0}

    for number, fields in enumerate(BY_VERDICT.values()):
        metered.record_all(records(number + 1, f"many-{number}", **fields))
        metered.record(record(f"lone-{number}", **fields))

    judged = look_once_recorded(metered, 14).values("zhichao_weighings_judged_total", "verdict")
    assert judged == {"compliant": 2, "undetermined": 3, "suspected": 4, "not_judged": 5}


def test_commits_are_timed(metered: RunningWeighing) -> None:
    metered.record(record("lone"))
    metered.record_all(records(500))

    seen = look_once_recorded(metered, 501)
    own = {"stream": "weighing", "source": "own"}
    assert seen.value("zhichao_journal_commit_duration_seconds_count", **own) == 2
    assert seen.value("zhichao_journal_commit_records_sum", **own) == 501
    assert seen.value("zhichao_journal_commit_records_bucket", le="1.0", **own) == 1
    assert seen.value("zhichao_journal_waiting_records", stream="weighing") == 0


def test_what_is_received_is_not_counted_as_recorded(
    metered: RunningWeighing, databases: Databases, registry: RunningRegistry, socket_directory: Path
) -> None:
    metered.record_all(records(100))
    batches = metered.batches(records_max=40)
    city = RunningWeighing(
        databases,
        socket_directory,
        registry.environment["ZHICHAO_REGISTRY_LISTEN"],
        "141000",
        settings={"ZHICHAO_WEIGHING_METRICS_LISTEN": "127.0.0.1:0"},
    )
    try:
        city.receive(batches)
        city.receive(batches[-1:])

        seen = look(city)
        received = {"stream": "weighing", "source": "received"}
        size = metered.position().size
        assert seen.value("zhichao_weighings_recorded_total") == 0
        assert seen.value("zhichao_journal_entries", stream="weighing", origin=PLATFORM, is_own="false") == size
        again = len(batches[-1].entries)
        assert seen.value("zhichao_journal_commit_records_sum", **received) == size + again
        assert seen.value("zhichao_journal_received_again_total", stream="weighing") == again
    finally:
        city.close()


def test_parked_entries_are_shown(metered: RunningWeighing, city: RunningWeighing) -> None:
    city.append_raw("zhichao.future.v1.Thing", [b"x", b"y"])
    metered.receive(city.batches())

    assert look(metered).values("zhichao_journal_parked_entries", "origin") == {"141000": 2}


def test_no_id_of_a_unit_device_or_truck_is_shown(metered: RunningWeighing) -> None:
    sent = record("secret-record")
    metered.record(sent)
    metered.refused_record(record("other", source_unit_id="141025-unknown"))

    text = look(metered).text
    for hidden in ("secret-record", "141025-001", "141025-unknown", "gate-1", "scale-1", sent.front_plate.number):
        assert hidden not in text


def test_a_scrape_takes_no_connection_from_those_who_work(metered: RunningWeighing) -> None:
    engine = metered.app._engine
    held = []

    def look_when_all_are_taken() -> Scrape | None:
        while engine.pool.checkedout() < engine.pool.size():  # type: ignore[attr-defined]  # a QueuePool, as in production
            held.append(engine.connect())
        seen = look(metered)
        # A thread of the service may just have given one back.
        return seen if seen.value("zhichao_database_connections_in_use", component="weighing") == 10 else None

    try:
        seen = wait_until(look_when_all_are_taken, "a connection is free again and again")
        assert seen.value("zhichao_database_connections_max", component="weighing") == 10
        assert "zhichao_journal_entries" not in seen.names
        # Counters are shown before the gauges are looked at.
        seen = look(metered)
        failures = seen.value("zhichao_collection_failures_total", component="weighing", group="journal")
        assert failures is not None
        assert failures >= 1
    finally:
        for connection in held:
            connection.close()
