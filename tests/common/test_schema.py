"""Migrations: once, in turns, in order; what does not fit is named."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import Column, Integer, MetaData, Table, Text
from structlog.testing import capture_logs

from services.common.database import SchemaError, check, create_engine, differences, upgrade

REVISION = '''"""{what}."""

from alembic import op

revision = "{revision}"
down_revision = {before!r}


def upgrade() -> None:
    op.execute("{statement}")
'''

STATEMENTS = {
    "0001_units": "CREATE TABLE units (id text PRIMARY KEY)",
    "0002_counts": "ALTER TABLE units ADD COLUMN count integer",
    "0003_fault": "ALTER TABLE absent ADD COLUMN count integer",
}

Package = Callable[..., str]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """Make packages with the named revisions, in order, and nothing else in them."""

    def make(*revisions: str, name: str) -> str:
        versions = tmp_path / f"tested_{name}" / "migrations" / "versions"
        versions.mkdir(parents=True)
        before = None
        for revision in revisions:
            content = REVISION.format(what=revision, revision=revision, before=before, statement=STATEMENTS[revision])
            (versions / f"{revision}.py").write_text(content)
            before = revision
        return f"tested_{name}.migrations"

    monkeypatch.syspath_prepend(str(tmp_path))
    return make


def query(url: str, statement: str) -> list[object]:
    engine = create_engine(url, pool_size=1, application_name="test")
    with engine.connect() as connection:
        rows = list(connection.exec_driver_sql(statement).scalars())
    engine.dispose()
    return rows


COLUMNS = "SELECT column_name FROM information_schema.columns WHERE table_name = 'units' ORDER BY ordinal_position"


def test_upgrade_then_check(database_url: str, package: Package) -> None:
    migrations = package("0001_units", "0002_counts", name="both")

    upgrade(database_url, migrations)

    check(database_url, migrations)
    assert query(database_url, COLUMNS) == ["id", "count"]
    assert query(database_url, "SELECT version_num FROM alembic_version") == ["0002_counts"]


def test_upgrade_again_does_nothing(database_url: str, package: Package) -> None:
    migrations = package("0001_units", name="one")
    upgrade(database_url, migrations)

    with capture_logs() as events:
        upgrade(database_url, migrations)

    assert events == []


def test_upgrade_from_an_older_revision(database_url: str, package: Package) -> None:
    upgrade(database_url, package("0001_units", name="old"))

    with capture_logs() as events:
        upgrade(database_url, package("0001_units", "0002_counts", name="new"))

    assert [(event["event"], event["found"], event["now"]) for event in events] == [
        ("schema_upgraded", "0001_units", "0002_counts")
    ]


def test_processes_take_turns(database_url: str, package: Package) -> None:
    migrations = package("0001_units", "0002_counts", name="both")

    with ThreadPoolExecutor(4) as threads:
        turns = [threads.submit(upgrade, database_url, migrations) for _ in range(4)]

    assert [turn.result() for turn in turns] == [None] * 4
    check(database_url, migrations)


def test_failed_revision_leaves_those_before_it(database_url: str, package: Package) -> None:
    migrations = package("0001_units", "0003_fault", name="fault")

    with pytest.raises(sqlalchemy.exc.ProgrammingError):
        upgrade(database_url, migrations)

    assert query(database_url, "SELECT version_num FROM alembic_version") == ["0001_units"]
    assert query(database_url, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [0]


def test_check_of_an_empty_database(database_url: str, package: Package) -> None:
    with pytest.raises(SchemaError, match=r"no tables of tested_one\.migrations yet, revision 0001_units is expected"):
        check(database_url, package("0001_units", name="one"))


def test_check_of_an_older_schema(database_url: str, package: Package) -> None:
    upgrade(database_url, package("0001_units", name="old"))

    with pytest.raises(SchemaError, match=r"at revision 0001_units, but tested_new\.migrations expects 0002_counts"):
        check(database_url, package("0001_units", "0002_counts", name="new"))


def test_newer_schema_suits_older_code(database_url: str, package: Package) -> None:
    upgrade(database_url, package("0001_units", "0002_counts", name="new"))
    older = package("0001_units", name="old")

    with capture_logs() as events:
        check(database_url, older)
        upgrade(database_url, older)

    assert [(event["event"], event["expected"], event["found"]) for event in events] == [
        ("schema_newer", "0001_units", "0002_counts")
    ]
    assert query(database_url, COLUMNS) == ["id", "count"]


@pytest.mark.parametrize("act", [check, upgrade])
def test_database_of_something_else(database_url: str, package: Package, act: Callable[[str, str], None]) -> None:
    upgrade(database_url, package("0001_units", name="other"))
    query(database_url, "SELECT 1")
    engine = create_engine(database_url, pool_size=1, application_name="test")
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000_foreign'")
    engine.dispose()

    with pytest.raises(SchemaError, match="at revision 0000_foreign"):
        act(database_url, package("0001_units", name="mine"))


def test_package_that_does_not_exist(database_url: str) -> None:
    with pytest.raises(SchemaError, match=r"services\.common\.absent is not a package"):
        upgrade(database_url, "services.common.absent")


def test_logging_is_left_alone(database_url: str, package: Package) -> None:
    root = logging.getLogger()
    before = (root.handlers[:], root.level, root.disabled)

    upgrade(database_url, package("0001_units", name="one"))

    assert (root.handlers[:], root.level, root.disabled) == before


def test_differences_from_the_tables_in_the_code(database_url: str, package: Package) -> None:
    upgrade(database_url, package("0001_units", "0002_counts", name="both"))
    same = MetaData()
    Table("units", same, Column("id", Text, primary_key=True), Column("count", Integer))
    other = MetaData()
    Table("units", other, Column("id", Text, primary_key=True), Column("count", Text))

    assert differences(database_url, same) == []
    assert [found[0][0] for found in differences(database_url, other)] == ["modify_type"]
