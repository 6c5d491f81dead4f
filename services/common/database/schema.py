"""Migrations of one service's schema with Alembic, without an env.py or an ini file: a service has
`migrations/versions/0001_….py` and nothing else.

Migrations go before the code and suit the code that still runs. So code accepts a schema that is newer than it knows.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import sqlalchemy
import structlog
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy.engine import Connection

from services.common.database.engine import create_single_engine

log = structlog.get_logger()

VERSION_TABLE = "alembic_version"
# Any fixed number: it only has to be the same in every process that migrates. These are the bytes "zhichao".
ADVISORY_LOCK_KEY = 0x7A68696368616F
# Another replica migrates at the same time; the longest step (an index over a year of weighings) takes minutes.
LOCK_WAIT_SECONDS = 600
# A migration that waits for a table lock makes every query behind it wait too; it rather fails and is tried again.
TABLE_LOCK_WAIT_SECONDS = 10


class SchemaError(Exception):
    """The schema is not what this program works with; the text says which revision is there and what to do."""


def upgrade(url: str, migrations_package: str) -> None:
    """Bring the schema of one service to the newest revision; does nothing when it is there already.

    Each revision is one transaction. Processes that do this at the same time take turns. A database that is newer than
    this program is left alone. Raises SchemaError when the revision found has nothing to do with these migrations.
    """
    script = _script_directory(migrations_package)
    with _connect(url) as connection, _lock(connection):
        found = _found(connection)
        expected = script.get_current_head()
        if found == expected or _is_newer(script, found):
            return
        if found is not None and not _is_known(script, found):
            raise SchemaError(_mismatch(connection, migrations_package, found, expected))
        connection.exec_driver_sql(f"SET lock_timeout = '{TABLE_LOCK_WAIT_SECONDS}s'")
        connection.commit()

        def steps(revision: Any, _context: MigrationContext) -> Any:
            return script._upgrade_revs("head", revision)  # what Alembic's own upgrade command calls

        with EnvironmentContext(_config(), script, fn=steps, destination_rev="head") as environment:
            environment.configure(connection=connection, version_table=VERSION_TABLE, transaction_per_migration=True)
            with environment.begin_transaction():
                environment.run_migrations()
        connection.commit()
        log.info("schema_upgraded", migrations=migrations_package, found=found, now=_found(connection))


def check(url: str, migrations_package: str) -> None:
    """Raise SchemaError, with the revision expected and the one found, unless the schema suits this program."""
    script = _script_directory(migrations_package)
    expected = script.get_current_head()
    with _connect(url) as connection:
        found = _found(connection)
        if found == expected:
            return
        if _is_newer(script, found):
            log.warning("schema_newer", migrations=migrations_package, expected=expected, found=found)
            return
        raise SchemaError(_mismatch(connection, migrations_package, found, expected))


def differences(url: str, metadata: sqlalchemy.MetaData) -> list[Any]:
    """List how the tables in the database differ from those declared; empty when the migrations are complete."""
    with _connect(url) as connection:
        context = MigrationContext.configure(
            connection,
            opts={"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True},
        )
        return list(compare_metadata(context, metadata))


def _script_directory(migrations_package: str) -> ScriptDirectory:
    spec = find_spec(migrations_package)
    if spec is None or not spec.submodule_search_locations:
        raise SchemaError(f"{migrations_package} is not a package with migrations")
    directory = Path(next(iter(spec.submodule_search_locations)))
    return ScriptDirectory(str(directory), version_locations=[str(directory / "versions")])


def _config() -> Config:
    # Alembic's own configuration would set up logging from an ini file; this one has none.
    return Config()


@contextmanager
def _connect(url: str) -> Iterator[Connection]:
    with create_single_engine(url, application_name="zhichao-migrations").connect() as connection:
        yield connection


@contextmanager
def _lock(connection: Connection) -> Iterator[None]:
    connection.exec_driver_sql(f"SET lock_timeout = '{LOCK_WAIT_SECONDS}s'")
    # A lock of the session, not of a transaction: it spans all revisions, and ends with the connection.
    connection.exec_driver_sql(f"SELECT pg_advisory_lock({ADVISORY_LOCK_KEY})")
    connection.commit()
    try:
        yield
    finally:
        if not connection.invalidated:
            connection.rollback()
            connection.exec_driver_sql(f"SELECT pg_advisory_unlock({ADVISORY_LOCK_KEY})")
            connection.commit()


def _found(connection: Connection) -> str | None:
    found = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()
    connection.commit()
    return found


def _is_known(script: ScriptDirectory, revision: str) -> bool:
    try:
        return script.get_revision(revision) is not None
    except CommandError:
        return False


def _is_newer(script: ScriptDirectory, found: str | None) -> bool:
    """Tell whether the revision found comes after all that are known here; revisions are numbered in order."""
    expected = script.get_current_head()
    return found is not None and expected is not None and not _is_known(script, found) and found > expected


def _mismatch(connection: Connection, migrations_package: str, found: str | None, expected: str | None) -> str:
    name = connection.engine.url.database
    if found is None:
        return f"database {name} has no tables of {migrations_package} yet, revision {expected} is expected: migrate it"
    return (
        f"database {name} is at revision {found}, but {migrations_package} expects {expected}: migrate it, or check "
        "that the URL names the database of this service"
    )
