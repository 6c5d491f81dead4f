"""Two roles of a database: one owns the tables and migrates, another one runs the service and can write rows but change
no table and no evidence. Real PostgreSQL, real services, the command as a Job of Kubernetes runs it.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import psycopg
import pytest
import sqlalchemy

from services import migrate
from services.common.database import APPEND_ONLY
from tests.conftest import Databases
from tests.contract.deployments import WITH_DATABASE
from tests.contract.documents import ROOT
from tests.registry.harness import RunningRegistry
from tests.weighing.harness import PLATFORM, RunningWeighing, register_site
from tests.weighing.records import record, records

OWNER, RUNTIME = "zhichao_test_owner", "zhichao_test_runtime"


@dataclass
class OwnedDatabases:
    """Hands out databases of the owner's, migrated by the command, as the role that runs services sees them."""

    databases: Databases
    made: list[str]

    def create(self) -> str:
        """Make an empty database of the owner's and return its URL for the owner."""
        url = self.databases.create()
        self.made.append(url)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{connection.info.dbname}" OWNER TO {OWNER}'.encode())
        return as_role(url, OWNER)

    def borrow(self, service: str, _prepare: Callable[[str], None]) -> str:
        """Return the URL of a migrated database for the role that runs the service."""
        url = self.create()
        done = run_migrate(service, url, role=RUNTIME)
        assert done.returncode == 0, done.stderr
        return as_role(url, RUNTIME)

    def give_back(self, _service: str, _url: str) -> None:
        """Databases are dropped at the end."""


def as_role(url: str, role: str) -> str:
    """Return the URL of a database as a role connects to it."""
    return re.sub(r"//[^@]*@", f"//{role}@", url)


def run_migrate(
    service: str, url: str, *, role: str = "", options: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run `python -m services migrate` with nothing but the settings that the Job gives."""
    variables = {f"ZHICHAO_{service.upper()}_DATABASE_URL": url, f"ZHICHAO_{service.upper()}_RUNTIME_ROLE": role}
    return subprocess.run(
        [sys.executable, "-m", "services", "migrate", *options, service],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture(scope="module")
def _roles(databases: Databases) -> Iterator[None]:
    url = databases.create()
    with psycopg.connect(url, autocommit=True) as connection:
        for role in (OWNER, RUNTIME):
            connection.execute(f"CREATE ROLE {role} LOGIN".encode())
    yield
    with psycopg.connect(url, autocommit=True) as connection:
        for role in (OWNER, RUNTIME):
            connection.execute(f"DROP ROLE {role}".encode())
    databases.drop(url)


@pytest.fixture
def owned(databases: Databases, _roles: None) -> Iterator[OwnedDatabases]:
    """Return the maker of databases with two roles."""
    maker = OwnedDatabases(databases, [])
    yield maker
    for url in maker.made:
        databases.drop(url)


def statement_is_denied(url: str, statement: str) -> bool:
    """Tell whether the database denies a statement to the role in the URL."""
    with psycopg.connect(url) as connection:
        try:
            connection.execute(statement.encode())
        except psycopg.errors.InsufficientPrivilege:
            return True
        finally:
            connection.rollback()
    return False


def tables(service: str) -> list[sqlalchemy.Table]:
    """Return the tables of a service."""
    module = import_module(f"services.{service}.tables")
    (metadata,) = (value for value in vars(module).values() if isinstance(value, sqlalchemy.MetaData))
    return list(metadata.sorted_tables)


def test_services_work_with_a_role_that_owns_nothing(
    owned: OwnedDatabases, databases: Databases, tmp_path: Path, socket_directory: Path
) -> None:
    without_migration = {"ZHICHAO_AUTO_MIGRATE": "false"}
    registry = RunningRegistry(owned, socket_directory, PLATFORM)  # type: ignore[arg-type]  # makes databases likewise
    county = city = None
    try:
        register_site(registry)
        address = registry.environment["ZHICHAO_REGISTRY_LISTEN"]
        url = owned.borrow("weighing", lambda _url: None)
        county = RunningWeighing(None, socket_directory, address, database_url=url, settings=without_migration)
        above = owned.borrow("weighing", lambda _url: None)
        city = RunningWeighing(None, tmp_path, address, "141000", database_url=above, settings=without_migration)

        # One by one, by COPY, again, with other content; an entry that cannot be projected; a level above.
        county.record(record("one"))
        county.record_all(records(60, "many"))
        county.record_all(records(60, "many"))
        county.record_all([record("one", gross_weight_kg=9_000)])
        county.append_raw("zhichao.weighing.v1.Unknown", [b""])
        city.receive(county.batches(1, 25))

        assert (len(county.list_all(1_000)), len(county.conflicts())) == (61, 1)
        assert city.list_all(1_000) == county.list_all(1_000)
        assert city.day_totals() == county.day_totals()
        assert len(city.parked()) == 1
    finally:
        for running in (city, county, registry):
            if running is not None:
                running.close()


@pytest.mark.parametrize("service", WITH_DATABASE)
def test_the_runtime_role_changes_no_table_and_no_evidence(service: str, owned: OwnedDatabases) -> None:
    url = owned.borrow(service, lambda _url: None)
    kept = {table.name: next(iter(table.columns)).name for table in tables(service) if table.info == APPEND_ONLY}
    statements = [
        "CREATE TABLE added (id integer)",
        "UPDATE alembic_version SET version_num = ''",
        *(f"DROP TABLE {table.name}" for table in tables(service)),
        *(f"ALTER TABLE {table.name} ADD COLUMN added integer" for table in tables(service)),
        *(f"TRUNCATE {table.name}" for table in tables(service)),
        *(f"DELETE FROM {name}" for name in kept),  # noqa: S608 - names of our own tables
        *(f"UPDATE {name} SET {column} = {column}" for name, column in kept.items()),  # noqa: S608 - names of our own tables
    ]

    assert "journal_entries" in kept
    assert [statement for statement in statements if not statement_is_denied(url, statement)] == []


def test_rights_that_a_release_no_longer_needs_are_taken_back(owned: OwnedDatabases) -> None:
    url = owned.create()
    run_migrate("weighing", url, role=RUNTIME)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"GRANT DELETE ON journal_entries TO {RUNTIME}".encode())

    done = run_migrate("weighing", url, role=RUNTIME)

    assert done.returncode == 0
    assert statement_is_denied(as_role(url, RUNTIME), "DELETE FROM journal_entries")


@pytest.mark.parametrize(
    ("role", "told"),
    [(OWNER, "migrate with one role and run with another"), ("zhichao_test_absent", "there is no role")],
)
def test_roles_that_cannot_be_granted_to_are_refused(role: str, told: str, owned: OwnedDatabases) -> None:
    done = run_migrate("weighing", owned.create(), role=role)

    assert (done.returncode, told in done.stderr) == (1, True)


def test_waiting_ends_when_schema_and_rights_are_there(owned: OwnedDatabases) -> None:
    url = owned.create()
    waiting = subprocess.Popen(
        [sys.executable, "-m", "services", "migrate", "--wait", "weighing"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "ZHICHAO_WEIGHING_DATABASE_URL": as_role(url, RUNTIME)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert waiting.stderr is not None
    # It says what it waits for: only then is it known to have looked.
    assert "are not there yet" in waiting.stderr.readline()

    assert run_migrate("weighing", url, role=RUNTIME).returncode == 0

    assert waiting.wait(60) == 0
    waiting.stderr.close()


@pytest.mark.parametrize("role", ["", RUNTIME])
def test_waiting_in_vain_says_what_is_missing(
    role: str, owned: OwnedDatabases, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = owned.create()
    if role:
        run_migrate("weighing", url, role=role)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"REVOKE INSERT ON weighings FROM {role}".encode())
    else:
        run_migrate("weighing", url)
    monkeypatch.setattr(migrate, "WAIT_SECONDS_MAX", 0.0)
    monkeypatch.setenv("ZHICHAO_WEIGHING_DATABASE_URL", as_role(url, RUNTIME))

    assert migrate.main(["weighing"], is_waiting=True) == 1

    assert ("lacks INSERT ON weighings" if role else "are not there yet") in capsys.readouterr().err


def test_a_service_without_a_database_is_not_migrated() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services", "migrate", "relay"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (2, "relay has no database: there is nothing to migrate\n")


def test_no_statement_changes_a_table_that_is_only_added_to() -> None:
    names = {table.name for service in WITH_DATABASE for table in tables(service) if table.info == APPEND_ONLY}
    change = re.compile(rf"\b(?:UPDATE|DELETE FROM|TRUNCATE)\s+(?:{'|'.join(sorted(names))})\b")
    found = [
        f"{path.relative_to(ROOT)}: {hit}"
        for path in sorted((ROOT / "services").rglob("*.py"))
        if "migrations" not in path.parts
        for hit in change.findall(path.read_text(encoding="utf-8"))
    ]

    assert found == [], "the role that services run with may not do this: see APPEND_ONLY in common/database/grants.py"


def test_a_database_that_stays_away_ends_the_migration(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(migrate, "UNREACHABLE_SECONDS_MAX", 0.0)
    # Port 1 is nobody's.
    monkeypatch.setenv("ZHICHAO_WEIGHING_DATABASE_URL", "postgresql://weighing@127.0.0.1:1/weighing")

    assert migrate.main(["weighing"], is_waiting=False) == 1

    assert "the database cannot be reached" in capsys.readouterr().err
