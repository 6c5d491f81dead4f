"""The engine: what it sets, how it comes back after the server was away, and what it tells callers meanwhile."""

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, exc, text
from structlog.testing import capture_logs

from cli.postgres import EmbeddedPostgres
from services.common.database import create_engine, raw_connection, reading, translate_errors, wait_until_reachable
from services.common.database.engine import driver_url
from services.common.errors import ServiceError
from services.common.reasons import Reason

WAIT_SECONDS = 30.0


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = create_engine(database_url, pool_size=2, application_name="zhichao-test")
    yield engine
    engine.dispose()


@pytest.fixture
def own_server() -> Iterator[EmbeddedPostgres]:
    """Start a server for one test, which may kill it."""
    directory = Path(tempfile.mkdtemp(prefix="zhichao-test-postgres-"))
    try:
        with EmbeddedPostgres(directory) as server:
            yield server
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def show(engine: Engine, name: str) -> str:
    with engine.connect() as connection:
        return str(connection.exec_driver_sql(f"SHOW {name}").scalar_one())


def unavailable(engine: Engine, statement: str) -> ServiceError:
    with pytest.raises(ServiceError) as raised, translate_errors(), engine.begin() as connection:
        connection.exec_driver_sql(statement)
    assert raised.value.reason == Reason.DATABASE_UNAVAILABLE
    assert raised.value.retry_after_seconds is not None
    return raised.value


# What a connection is like


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("synchronous_commit", "on"),
        ("statement_timeout", "30s"),
        ("idle_in_transaction_session_timeout", "1min"),
        ("application_name", "zhichao-test"),
        ("TimeZone", "UTC"),
    ],
)
def test_connection_settings(engine: Engine, name: str, value: str) -> None:
    assert show(engine, name) == value


def test_no_statement_timeout(database_url: str) -> None:
    engine = create_engine(database_url, pool_size=1, application_name="a", statement_timeout_seconds=None)

    assert show(engine, "statement_timeout") == "0"
    engine.dispose()


def test_options_of_the_url_win(database_url: str) -> None:
    separator = "&" if "?" in database_url else "?"
    url = f"{database_url}{separator}options=-c%20statement_timeout%3D7000"
    engine = create_engine(url, pool_size=1, application_name="a")

    assert (show(engine, "statement_timeout"), show(engine, "synchronous_commit")) == ("7s", "on")
    engine.dispose()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://postgres@/weighing?host=/run/postgresql",
        "postgres://postgres@/weighing?host=/run/postgresql",
        "postgresql+psycopg://postgres@/weighing?host=/run/postgresql",
    ],
)
def test_url_of_a_socket(url: str) -> None:
    parsed = driver_url(url)

    assert (parsed.drivername, parsed.database, parsed.query["host"]) == (
        "postgresql+psycopg",
        "weighing",
        "/run/postgresql",
    )


@pytest.mark.parametrize("url", ["mysql://u:hunter2@h/d", "hunter2", "://hunter2"])
def test_other_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match="postgresql://") as raised:
        driver_url(url)

    assert "hunter2" not in str(raised.value)


def test_raw_connection_is_part_of_the_transaction(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE rows (value int)")
    with engine.connect() as connection, connection.begin() as transaction:
        raw_connection(connection).execute("INSERT INTO rows VALUES (1)")
        transaction.rollback()
    with engine.begin() as connection:
        raw_connection(connection).execute("INSERT INTO rows VALUES (2)")

    with engine.connect() as connection:
        assert connection.execute(text("SELECT value FROM rows")).scalars().all() == [2]


# Reading


def test_reading_sees_one_snapshot(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE rows (value int)")

    with reading(engine) as connection:
        before = connection.exec_driver_sql("SELECT count(*) FROM rows").scalar_one()
        with engine.begin() as other:
            other.exec_driver_sql("INSERT INTO rows VALUES (1)")
        assert connection.exec_driver_sql("SELECT count(*) FROM rows").scalar_one() == before == 0


def test_reading_writes_nothing(engine: Engine) -> None:
    with pytest.raises(ServiceError) as raised, translate_errors(), reading(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE rows (value int)")

    assert "takes no writes" in raised.value.message


def test_reading_is_cut_off(engine: Engine) -> None:
    with (
        pytest.raises(ServiceError, match="too long"),
        translate_errors(),
        reading(engine, timeout_seconds=0.05) as connection,
    ):
        connection.exec_driver_sql("SELECT pg_sleep(20)")

    assert show(engine, "statement_timeout") == "30s"


# Failures as refusals


def raised_in_database(state: str) -> str:
    return f"DO $$ BEGIN RAISE EXCEPTION 'secret plate' USING ERRCODE = '{state}'; END $$"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("08006", "connection broke"),
        ("53100", "disk is full"),
        ("53300", "out of resources"),
        ("57P01", "stopping or starting"),
        ("57P03", "stopping or starting"),
        ("57014", "too long"),
        ("58030", "system error"),
        ("40001", "another transaction"),
        ("40P01", "another transaction"),
        ("55P03", "lock"),
        ("25006", "no writes"),
    ],
)
def test_failures_of_the_database(engine: Engine, state: str, words: str) -> None:
    with capture_logs() as events:
        error = unavailable(engine, raised_in_database(state))

    assert words in error.message
    assert "secret" not in error.message
    assert [(event["event"], event["sqlstate"]) for event in events] == [("database_failed", state)]
    assert "RAISE" not in str(events)


@pytest.mark.parametrize("state", ["23505", "42P01", "22003", "XX001"])
def test_faults_of_the_program_pass(engine: Engine, state: str) -> None:
    with pytest.raises(exc.DBAPIError), translate_errors(), engine.begin() as connection:
        connection.exec_driver_sql(raised_in_database(state))


def test_failure_in_the_raw_driver(engine: Engine) -> None:
    with pytest.raises(ServiceError, match="disk is full"), translate_errors(), engine.begin() as connection:
        raw_connection(connection).execute(raised_in_database("53100").encode())


def test_service_error_passes() -> None:
    with pytest.raises(ServiceError, match="NOT_FOUND"), translate_errors():
        raise ServiceError(Reason.NOT_FOUND, "no such unit")


def test_full_pool(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.common.database.engine.POOL_TIMEOUT_SECONDS", 0.05)
    engine = create_engine(database_url, pool_size=1, application_name="a")

    with engine.connect():
        error = unavailable(engine, "SELECT 1")

    assert "busy" in error.message
    engine.dispose()


def test_exception_text_has_no_values(engine: Engine) -> None:
    with pytest.raises(exc.DBAPIError) as raised, engine.connect() as connection:
        connection.execute(text("SELECT CAST(:plate AS integer)"), {"plate": "secret plate"})

    assert "[SQL parameters hidden" in str(raised.value)


# The server goes away and comes back


def kill(server: EmbeddedPostgres) -> None:
    """End the server without a goodbye; the supervisor starts it again."""
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    ends_at = time.monotonic() + WAIT_SECONDS
    while server.pid == pid and time.monotonic() < ends_at:
        threading.Event().wait(0.01)


def terminate(engine: Engine, pids: list[int]) -> None:
    """End connections from the server's side."""
    with closing(psycopg.connect(engine.url.render_as_string(False).replace("+psycopg", ""))) as connection:
        for pid in pids:
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


def backends(engine: Engine) -> list[int]:
    """Open every connection of the pool and return their backends."""
    with engine.connect() as first, engine.connect() as second:
        return [one.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() for one in (first, second)]


def test_connections_that_died_while_idle_are_replaced_unnoticed(engine: Engine) -> None:
    before = backends(engine)
    terminate(engine, before)

    # Not one call fails, though the pool held only dead connections.
    assert not set(backends(engine)) & set(before)


def test_connection_that_died_in_use_is_replaced(engine: Engine) -> None:
    def use() -> None:
        with translate_errors(), engine.begin() as connection:
            raw = raw_connection(connection)
            terminate(engine, [raw.info.backend_pid])
            raw.execute("SELECT 1")

    with pytest.raises(ServiceError, match="DATABASE_UNAVAILABLE"):
        use()
    backends(engine)


def test_notice_on_an_idle_connection_is_not_its_end(engine: Engine) -> None:
    with engine.connect() as connection:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        connection.exec_driver_sql("LISTEN something")
        connection.commit()
    other = create_engine(engine.url.render_as_string(False), pool_size=1, application_name="other")
    with other.begin() as connection:
        connection.exec_driver_sql("NOTIFY something")
    other.dispose()

    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() == pid


def test_killed_server_is_unavailable_and_then_back(own_server: EmbeddedPostgres) -> None:
    engine = create_engine(own_server.url("postgres"), pool_size=2, application_name="test")
    backends(engine)

    def use() -> None:
        with translate_errors(), engine.begin() as connection:
            raw = raw_connection(connection)
            raw.execute("SELECT 1")
            kill(own_server)
            raw.execute("SELECT 1")

    with pytest.raises(ServiceError, match="DATABASE_UNAVAILABLE"):
        use()
    assert wait_until_reachable(own_server.url("postgres"), timeout_seconds=WAIT_SECONDS)

    with translate_errors(), engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1
    backends(engine)
    engine.dispose()


def test_server_killed_before_the_commit(own_server: EmbeddedPostgres) -> None:
    engine = create_engine(own_server.url("postgres"), pool_size=2, application_name="test")

    def use() -> None:
        with translate_errors(), engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE rows (value int)")
            kill(own_server)

    with pytest.raises(ServiceError, match="DATABASE_UNAVAILABLE"):
        use()
    assert wait_until_reachable(own_server.url("postgres"), timeout_seconds=WAIT_SECONDS)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT to_regclass('rows')").scalar_one() is None
    engine.dispose()


def test_server_that_is_not_there(tmp_path: Path) -> None:
    engine = create_engine(f"postgresql://postgres@/postgres?host={tmp_path}", pool_size=1, application_name="test")

    error = unavailable(engine, "SELECT 1")

    assert "cannot be reached" in error.message
    assert str(tmp_path) not in error.message


def test_wait_for_a_server_that_never_comes(tmp_path: Path) -> None:
    assert not wait_until_reachable(f"postgresql://postgres@/postgres?host={tmp_path}", timeout_seconds=0.3)


def test_wait_is_given_up_when_not_wanted(tmp_path: Path) -> None:
    wanted = iter([True, False])

    assert not wait_until_reachable(
        f"postgresql://postgres@/postgres?host={tmp_path}", timeout_seconds=60, is_wanted=lambda: next(wanted)
    )
