"""The follower beside a real weighing service: what it keeps, and what it goes on after."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC
from typing import Any

import psycopg
import pytest

from services.common.database import Engine
from services.common.rpc_client import connect
from services.journal.entries import LOG_START_KIND
from services.video import suspected as suspected_module
from services.video import weighing_follower as follower_module
from services.video.store import weighings as store
from services.video.suspected import WEIGHING_KIND
from services.video.weighing_follower import WeighingFollower
from tests.video.completeness.examples import COUNTY, UNIT
from tests.waiting import wait_until
from tests.weighing.harness import RunningWeighing
from tests.weighing.records import BY_VERDICT, SUSPECTED, record
from zhichao.weighing.v1.weighing_pb2 import Weighing

Connection = psycopg.Connection[Any]
MakeFollower = Callable[[RunningWeighing], WeighingFollower]


@pytest.fixture
def follow(engine: Engine) -> Iterator[MakeFollower]:
    """Start followers of a weighing service on the database of the test; they are stopped after it."""
    with ExitStack() as running:

        def start(weighing: RunningWeighing) -> WeighingFollower:
            made = WeighingFollower(
                engine,
                lambda: connect(
                    weighing.address, credentials=weighing.access.credentials(weighing.access.service_token)
                ),
            )
            made.start()
            running.callback(made.stop)
            return made

        yield start


def kept(connection: Connection, origin: str = COUNTY) -> dict[str, int]:
    """Return the suspected overloads that are kept, by record id with their sequences."""
    rows = connection.execute(
        "SELECT record_id, sequence FROM suspected_weighings WHERE origin = %s AND source_unit_id = %s", (origin, UNIT)
    ).fetchall()
    return dict(rows)


def position(connection: Connection, origin: str = COUNTY) -> int:
    return store.read_logs(connection).get(origin, store.UNREAD).position


def weigh(weighing: RunningWeighing, *record_ids: str, verdict: int = SUSPECTED) -> dict[str, int]:
    """Record weighings and return their sequences."""
    return {
        record_id: weighing.record(record(record_id, **BY_VERDICT[verdict])).receipt.sequence
        for record_id in record_ids
    }


def await_position(connection: Connection, weighing: RunningWeighing, origin: str = COUNTY) -> None:
    wait_until(lambda: position(connection, origin) == weighing.position(origin).size, f"{origin} is read")


def test_suspected_overloads_are_kept_and_nothing_else(
    weighing: RunningWeighing, follow: MakeFollower, connection: Connection
) -> None:
    expected = weigh(weighing, "before-1")
    follow(weighing)
    for verdict in BY_VERDICT:
        found = weigh(weighing, f"after-{verdict}", verdict=verdict)
        expected |= found if verdict == SUSPECTED else {}
    await_position(connection, weighing)

    assert kept(connection) == expected


def test_times_and_day_are_those_of_the_weighing(
    weighing: RunningWeighing, follow: MakeFollower, connection: Connection
) -> None:
    (sequence,) = weigh(weighing, "r-1").values()
    follow(weighing)
    await_position(connection, weighing)

    held = weighing.weighings_in_journal()[sequence]
    rows = connection.execute("SELECT weigh_time, receive_time, day::text FROM suspected_weighings").fetchall()
    assert rows == [
        (
            held.record.weigh_time.ToDatetime(tzinfo=UTC),
            held.receive_time.ToDatetime(tzinfo=UTC),
            "2025-03-01",
        )
    ]


def test_a_follower_goes_on_where_it_stood(
    weighing: RunningWeighing, follow: MakeFollower, connection: Connection
) -> None:
    expected = weigh(weighing, "r-1")
    first = follow(weighing)
    await_position(connection, weighing)
    first.stop()
    # Nothing that was read is asked for again: it would be kept anew.
    connection.execute("DELETE FROM suspected_weighings")
    expected = weigh(weighing, "r-2")
    follow(weighing)
    await_position(connection, weighing)

    assert kept(connection) == expected


def test_a_weighing_service_that_is_away_is_waited_for(
    weighing: RunningWeighing, follow: MakeFollower, connection: Connection
) -> None:
    weighing.stop()
    follower = follow(weighing)
    assert not follower.is_following
    weighing.start()
    expected = weigh(weighing, "r-1")
    await_position(connection, weighing)
    weighing.stop()
    wait_until(lambda: not follower.is_following, "the end of the weighing service is noticed")
    weighing.start()
    expected |= weigh(weighing, "r-2")
    await_position(connection, weighing)

    assert kept(connection) == expected
    assert follower.is_following


def test_a_database_that_is_away_is_waited_for(
    weighing: RunningWeighing, follow: MakeFollower, connection: Connection
) -> None:
    follow(weighing)
    await_position(connection, weighing)
    connection.execute("ALTER TABLE weighing_positions RENAME TO weighing_positions_away")
    expected = weigh(weighing, "r-1")
    connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'test'")
    connection.execute("ALTER TABLE weighing_positions_away RENAME TO weighing_positions")
    # A log that could not be kept is left alone for a while; one more reason to look is a service that starts anew.
    weighing.stop()
    weighing.start()
    await_position(connection, weighing)

    assert kept(connection) == expected


def test_logs_of_platforms_below_are_read_too(
    weighing: RunningWeighing, city_weighing: RunningWeighing, follow: MakeFollower, connection: Connection
) -> None:
    expected = weigh(weighing, "r-1", "r-2")
    city_weighing.receive(weighing.batches())
    follow(city_weighing)
    await_position(connection, city_weighing)
    more = weigh(weighing, "r-3")
    city_weighing.receive(weighing.batches(first_sequence=more["r-3"]))
    await_position(connection, city_weighing)

    assert kept(connection) == expected | more


def test_entries_of_any_kind_are_passed_over(
    weighing: RunningWeighing, follow: MakeFollower, connection: Connection
) -> None:
    weighing.append_raw("zhichao.future.v1.Thing", [b"\xff\xff", b""])
    weighing.append_raw(WEIGHING_KIND, [b"\xff\xff", Weighing().SerializeToString()])
    weighing.append_raw(LOG_START_KIND, [b""])
    expected = weigh(weighing, "r-1")
    follow(weighing)
    await_position(connection, weighing)

    assert kept(connection) == expected


def test_weighings_of_a_newer_schema_are_read_by_the_release_that_knows_it(
    weighing: RunningWeighing,
    follow: MakeFollower,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (sequence,) = weigh(weighing, "r-1").values()
    newer = weighing.weighings_in_journal()[sequence]
    newer.record.record_id = "newer"
    weighing.append_raw(WEIGHING_KIND, [newer.SerializeToString()], schema=2)
    weigh(weighing, "r-2")
    older_release = follow(weighing)
    await_position(connection, weighing)
    assert set(kept(connection)) == {"r-1", "r-2"}
    older_release.stop()

    monkeypatch.setattr(suspected_module, "WEIGHING_SCHEMA", 2)
    monkeypatch.setattr(follower_module, "WEIGHING_SCHEMA", 2)
    follow(weighing)
    wait_until(lambda: "newer" in kept(connection), "it is read")
    await_position(connection, weighing)

    assert set(kept(connection)) == {"r-1", "r-2", "newer"}


def test_replicas_share_the_work(weighing: RunningWeighing, follow: MakeFollower, connection: Connection) -> None:
    expected: dict[str, int] = {}
    followers = [follow(weighing), follow(weighing)]
    for number in range(20):
        expected |= weigh(weighing, f"r-{number}")
    await_position(connection, weighing)
    wait_until(
        lambda: all(one.positions == {COUNTY: position(connection)} for one in followers), "both know the position"
    )

    assert kept(connection) == expected


def test_logs_are_read_in_turns(
    weighing: RunningWeighing,
    city_weighing: RunningWeighing,
    follow: MakeFollower,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follower_module, "TURN_BATCHES_MAX", 1)
    expected = weigh(weighing, *(f"r-{number}" for number in range(10)))
    city_weighing.receive(weighing.batches(records_max=2))
    own = weighing.weighings_in_journal()[2]
    own.record.record_id = "city-1"
    city_weighing.append_raw(WEIGHING_KIND, [own.SerializeToString()])
    follow(city_weighing)
    await_position(connection, city_weighing)
    await_position(connection, city_weighing, "141000")

    assert kept(connection) == expected
    assert list(kept(connection, "141000")) == ["city-1"]


def test_a_log_that_cannot_be_read_holds_up_no_other(
    weighing: RunningWeighing, city_weighing: RunningWeighing, follow: MakeFollower, connection: Connection
) -> None:
    weigh(weighing, "r-1")
    city_weighing.receive(weighing.batches())
    # The city's copy has lost an entry.
    city_weighing.query("DELETE FROM journal_entries WHERE origin = %s AND sequence = 2", COUNTY)
    own = weighing.weighings_in_journal()[2]
    own.record.record_id = "city-1"
    city_weighing.append_raw(WEIGHING_KIND, [own.SerializeToString()])
    follow(city_weighing)
    await_position(connection, city_weighing, "141000")

    assert list(kept(connection, "141000")) == ["city-1"]
    assert position(connection) < weighing.position().size


class Backup:
    """A copy of a weighing service's database, to go back to."""

    def __init__(self, weighing: RunningWeighing) -> None:
        self._weighing = weighing
        self._tables = [
            name
            for (name,) in weighing.query(
                "SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
                " WHERE relkind IN ('r', 'p') AND NOT relispartition AND nspname = 'public'"
                " AND relname NOT LIKE 'backup_%%' AND relname <> 'alembic_version'"
            )
        ]
        for name in self._tables:
            weighing.query(f"CREATE TABLE backup_{name} AS SELECT * FROM {name}")  # noqa: S608 - names of tables

    def restore(self) -> None:
        """Put the copy in the place of what came since; the service is stopped."""
        for name in self._tables:
            self._weighing.query(f"TRUNCATE {name}")
            self._weighing.query(f"INSERT INTO {name} SELECT * FROM backup_{name}")  # noqa: S608 - names of tables
            self._weighing.query(f"DROP TABLE backup_{name}")


def test_a_log_restored_with_another_history_is_read_again(
    weighing: RunningWeighing, follow: MakeFollower, connection: Connection
) -> None:
    expected = weigh(weighing, "r-1")
    backup = Backup(weighing)
    weigh(weighing, "lost-1", "lost-2", "lost-3")
    follow(weighing)
    await_position(connection, weighing)
    weighing.stop()
    backup.restore()
    weighing.start()
    expected |= weigh(weighing, "r-2")
    wait_until(lambda: kept(connection) == expected, "the new history takes the place of the one that was lost")
    more = weigh(weighing, "r-3", "r-4", "r-5", "r-6")
    await_position(connection, weighing)

    assert kept(connection) == expected | more


def test_a_log_restored_and_grown_beyond_what_was_read_is_read_again(
    weighing: RunningWeighing, follow: MakeFollower, connection: Connection
) -> None:
    expected = weigh(weighing, "r-1")
    backup = Backup(weighing)
    weigh(weighing, "lost-1")
    follower = follow(weighing)
    await_position(connection, weighing)
    follower.stop()
    weighing.stop()
    backup.restore()
    weighing.start()
    expected |= weigh(weighing, "r-2", "r-3", "r-4")
    follow(weighing)
    await_position(connection, weighing)
    wait_until(lambda: kept(connection) == expected, "the new history takes the place of the one that was lost")


def test_a_copy_that_is_behind_what_was_read_is_waited_for(
    weighing: RunningWeighing, city_weighing: RunningWeighing, follow: MakeFollower, connection: Connection
) -> None:
    expected = weigh(weighing, "r-1")
    city_weighing.receive(weighing.batches())
    backup = Backup(city_weighing)
    expected |= weigh(weighing, "r-2")
    city_weighing.receive(weighing.batches(first_sequence=expected["r-2"]))
    follow(city_weighing)
    await_position(connection, city_weighing)
    city_weighing.stop()
    backup.restore()
    city_weighing.start()
    more = weigh(weighing, "r-3")
    # As the relay does: from where the restored service stands.
    city_weighing.receive(weighing.batches(first_sequence=expected["r-2"]))
    await_position(connection, city_weighing)

    assert kept(connection) == expected | more


def test_figures_say_how_far_behind(weighing: RunningWeighing, follow: MakeFollower, connection: Connection) -> None:
    weigh(weighing, "r-1", "r-2")
    follower = follow(weighing)
    await_position(connection, weighing)
    wait_until(lambda: follower.behind_entries == 0, "nothing waits")
    weighing.stop()
    wait_until(lambda: not follower.is_following, "the end is noticed")

    assert follower.positions == {COUNTY: position(connection)}
