"""Fixtures for all tests: one PostgreSQL server per session (per worker with -n), and fresh databases cloned on it."""

import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import structlog

from cli.postgres import EmbeddedPostgres
from services.journal.store import tail

# Durability against power cuts is PostgreSQL's and is not tested here; without it the same tests take half the time.
FAST_SETTINGS = """\
ALTER SYSTEM SET fsync = off;
ALTER SYSTEM SET full_page_writes = off;
ALTER SYSTEM SET autovacuum = off;
SELECT pg_reload_conf();
"""


class Databases:
    """Makes databases on the session's server: empty ones, and ones with a schema, which are emptied and used again."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server
        self._count = 0
        self._templates: dict[str, str] = {}
        self._free: dict[str, list[str]] = {}

    def create(self, template: str = "template0") -> str:
        """Make a database like the named one and return its URL. Nobody may be connected to the template."""
        self._count += 1
        name = f"test_{self._count}"
        with psycopg.connect(self._server.url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY WAL_LOG'.encode())
        return self._server.url(name)

    def borrow(self, key: str, prepare: Callable[[str], None]) -> str:
        """Return the URL of a database with empty tables, as `prepare` makes them; that is done once for each key."""
        if self._free.get(key):
            return self._free[key].pop()
        if key not in self._templates:
            url = self.create()
            prepare(url)
            self._templates[key] = _name(url)
        return self.create(self._templates[key])

    def give_back(self, key: str, url: str) -> None:
        """Empty a borrowed database for the next test: ten times as fast as to make one."""
        assert url not in self._free.get(key, ()), "given back twice: two services of a test would share it"
        with psycopg.connect(url) as connection:
            # A test may have left connections open, even in a transaction.
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            tables = connection.execute(
                "SELECT format('%I', relname) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
                " WHERE relkind IN ('r', 'p') AND NOT relispartition AND nspname = 'public'"
                " AND relname <> 'alembic_version'"
            ).fetchall()
            connection.execute(f"TRUNCATE {', '.join(name for (name,) in tables)}".encode())
        self._free.setdefault(key, []).append(url)

    def drop(self, url: str) -> None:
        """Remove a database, with whatever is still connected to it."""
        with psycopg.connect(self._server.url("postgres"), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{_name(url)}" WITH (FORCE)'.encode())


def _name(url: str) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(url)["dbname"])


@pytest.fixture(scope="session")
def short_tail_poll() -> Iterator[None]:
    """Let a service stop quickly: its tail looks up only as often as it polls, and tests stop hundreds of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tail, "TAIL_POLL_SECONDS", 0.05)
        yield


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    """Run a PostgreSQL server as long as the session."""
    directory = Path(tempfile.mkdtemp(prefix="zhichao-test-postgres-"))
    try:
        with EmbeddedPostgres(directory) as server:
            server.query(FAST_SETTINGS)
            yield server
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def databases(postgres_server: EmbeddedPostgres) -> Databases:
    """Return the maker of databases on the session's server."""
    return Databases(postgres_server)


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    """Return the URL of an empty database for one test."""
    url = databases.create()
    yield url
    databases.drop(url)


@pytest.fixture
def socket_directory() -> Iterator[Path]:
    """Return a directory whose path is short enough for sockets."""
    directory = Path(tempfile.mkdtemp(prefix="zc-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _logs_aside() -> None:
    """Keep the log lines of services in this process out of what a command prints: they may come after its answer."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """Leave the logs as they were: a command that a test calls in this process decides how they look."""
    before = structlog.get_config()
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)
