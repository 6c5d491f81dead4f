"""What `zhichao doctor` says of databases: reached, durable, of this release, and holding our log."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from cli.doctor import database
from cli.doctor.finding import Level
from cli.postgres import EmbeddedPostgres
from services.common.database import upgrade
from services.journal.notes import new_private_key_pem
from tests.cli.doctor_subject import subject
from tests.cli.verified_journals import CITY, COUNTY, Keys, opened
from tests.conftest import Databases

WEIGHING = "services.weighing.migrations"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """Run a server as a platform does: durable."""
    directory = tmp_path_factory.mktemp("doctor")
    with EmbeddedPostgres(directory / "postgres", databases=["weighing", "empty"]) as running:
        # Nobody but the test writes.
        running.query("ALTER SYSTEM SET autovacuum = off; SELECT pg_reload_conf()")
        upgrade(running.url("weighing"), WEIGHING)
        yield running


@pytest.fixture(scope="module")
def key_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def begun(server: EmbeddedPostgres, key_directory: Path) -> str:
    """Return the URL of a weighing database whose log was begun by the county."""
    url = server.url("weighing")
    with opened(url, Keys(key_directory), COUNTY) as (parts, _):
        parts.start()
        parts.stop()
    return url


def test_a_durable_server_is_well(server: EmbeddedPostgres) -> None:
    found = database.check_server(server.url("weighing"))

    assert found.level is Level.OK
    assert "PostgreSQL 18" in found.message.english


def test_a_server_that_may_lose_what_was_acknowledged_is_a_failure(databases: Databases) -> None:
    url = databases.create()
    found = database.check_server(url)
    databases.drop(url)

    assert found.level is Level.FAIL
    assert "fsync" in found.message.english


def test_a_server_that_is_away_is_a_failure(tmp_path: Path) -> None:
    found = database.check_server(f"postgresql://nobody@/none?host={tmp_path}")

    assert found.level is Level.FAIL
    assert found.remedy


def test_the_schema_is_compared_with_the_release(server: EmbeddedPostgres) -> None:
    assert database.check_schema(server.url("weighing"), "weighing").level is Level.OK
    found = database.check_schema(server.url("empty"), "weighing")
    assert found.level is Level.FAIL
    assert "migrate weighing" in found.remedy.english


def test_the_log_is_ours(begun: str, key_directory: Path, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes((key_directory / f"{COUNTY}.pem").read_bytes())
    right = subject(environment={"ZHICHAO_SIGNING_KEY_FILE": str(path)})

    assert database.check_log(begun, right, "weighing").level is Level.OK
    other = database.check_log(begun, replace(right, platform=CITY), "weighing")
    assert other.level is Level.FAIL
    assert COUNTY in other.message.english
    path.write_bytes(new_private_key_pem())
    wrong = database.check_log(begun, right, "weighing")
    assert wrong.level is Level.FAIL
    assert "key" in wrong.message.english


def test_a_log_that_was_not_begun_is_a_warning(server: EmbeddedPostgres, databases: Databases) -> None:
    url = databases.borrow("weighing", lambda one: upgrade(one, WEIGHING))
    found = database.check_log(url, subject(), "weighing")
    databases.give_back("weighing", url)

    assert found.level is Level.WARN


def test_parked_entries_are_a_warning(begun: str) -> None:
    with psycopg.connect(begun, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO journal_parked (origin, sequence, kind, cause, detail, park_time, attempt_count)"
            " VALUES ('141025', 1, 'x', 'unknown_kind', '', now(), 1)"
        )
        found = database.check_log(begun, subject(), "weighing")
        connection.execute("DELETE FROM journal_parked")

    assert found.level is Level.WARN
    assert "1 parked" in found.message.english
    assert "replay" in found.remedy.english


def test_nothing_is_changed_by_looking(begun: str, server: EmbeddedPostgres) -> None:
    with psycopg.connect(begun) as connection:
        before = connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())").fetchone()
        looked = subject(database_urls={"weighing": begun})
        for _, check in database.checks(looked):
            check()
        after = connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())").fetchone()

    assert before == after
