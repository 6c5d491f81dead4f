"""The connection that is kept beside the pool."""

import threading
from collections.abc import Iterator

import psycopg
import pytest

from services.common.database import Engine, KeptConnection, create_engine

WAIT_SECONDS = 10.0


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    made = create_engine(database_url, pool_size=1, application_name="zhichao-test")
    yield made
    made.dispose()


@pytest.fixture
def kept(engine: Engine) -> Iterator[KeptConnection]:
    made = KeptConnection(engine)
    yield made
    made.close()


def pid_of(kept: KeptConnection) -> int:
    with kept.use() as connection:
        return connection.info.backend_pid


def test_is_made_once_with_the_pool_s_settings_and_takes_no_place_in_it(kept: KeptConnection, engine: Engine) -> None:
    with kept.use() as connection:
        row = connection.execute("SELECT pg_backend_pid(), current_setting('synchronous_commit')").fetchone()
        # The pool has one place, and it is free.
        with engine.connect() as pooled:
            other = pooled.exec_driver_sql("SELECT pg_backend_pid()").scalar()
    assert row == (pid_of(kept), "on")
    assert other != pid_of(kept)


def test_each_statement_commits_by_itself(kept: KeptConnection, database_url: str) -> None:
    with kept.use() as connection:
        connection.execute("CREATE TABLE numbers (number int)")
        connection.execute("INSERT INTO numbers VALUES (1)")
        with psycopg.connect(database_url) as other:
            assert other.execute("SELECT number FROM numbers").fetchall() == [(1,)]


def test_one_that_has_died_is_replaced_unnoticed(kept: KeptConnection, database_url: str) -> None:
    first = pid_of(kept)
    with psycopg.connect(database_url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [first])
    assert pid_of(kept) != first


def test_one_that_failed_is_replaced(kept: KeptConnection) -> None:
    first = pid_of(kept)
    with pytest.raises(psycopg.errors.DivisionByZero), kept.use() as connection:
        connection.execute("SELECT 1/0")
    assert pid_of(kept) != first


def test_closing_does_not_wait_for_who_uses_it(kept: KeptConnection) -> None:
    inside, leave = threading.Event(), threading.Event()
    used: list[psycopg.Connection] = []

    def use() -> None:
        with kept.use() as connection:
            used.append(connection)
            inside.set()
            leave.wait(WAIT_SECONDS)

    thread = threading.Thread(target=use)
    thread.start()
    assert inside.wait(WAIT_SECONDS)
    kept.close()
    assert not used[0].closed
    leave.set()
    thread.join(WAIT_SECONDS)
    assert used[0].closed


def test_threads_use_it_one_at_a_time(kept: KeptConnection) -> None:
    pids: list[int] = []

    def use() -> None:
        for _ in range(20):
            with kept.use() as connection:
                row = connection.execute("SELECT pg_backend_pid()").fetchone()
                assert row is not None
                pids.append(row[0])

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert (len(pids), len(set(pids))) == (120, 1)
