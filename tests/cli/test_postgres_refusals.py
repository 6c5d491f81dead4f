"""The embedded server does not start where it should not, and says why."""

from pathlib import Path

import pytest

from cli.postgres import (
    BinariesUnusableError,
    DirectoryUnusableError,
    EmbeddedPostgres,
    StartFailedError,
    VersionMismatchError,
)


def test_another_major_version_is_refused(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "postgres"):
        pass
    (tmp_path / "postgres" / "cluster" / "PG_VERSION").write_text("15\n", "ascii")
    with pytest.raises(VersionMismatchError, match="was made by PostgreSQL 15, the programs here are PostgreSQL"):
        EmbeddedPostgres(tmp_path / "postgres").start()


def test_a_directory_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(DirectoryUnusableError, match="holds other files"):
        EmbeddedPostgres(tmp_path).start()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DirectoryUnusableError, match="cannot be written"):
        EmbeddedPostgres(tmp_path / "file" / "postgres").start()


def test_a_wrong_setting_is_shown(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "postgres"):
        pass
    (tmp_path / "postgres" / "local.conf").write_text("no_such_setting = 1\n", "utf-8")
    with pytest.raises(StartFailedError, match="no_such_setting"):
        EmbeddedPostgres(tmp_path / "postgres").start()


def test_programs_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(BinariesUnusableError, match="has no program postgres, initdb, psql"):
        EmbeddedPostgres(tmp_path / "postgres", binaries=tmp_path).start()


def test_a_failed_start_lets_the_directory_go(tmp_path: Path) -> None:
    with pytest.raises(BinariesUnusableError):
        EmbeddedPostgres(tmp_path / "postgres", binaries=tmp_path).start()
    with EmbeddedPostgres(tmp_path / "postgres") as server:
        assert server.query("SELECT 1") == "1"


def test_a_name_that_is_no_database_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a name for a database"):
        EmbeddedPostgres(tmp_path, databases=["weighing'; DROP DATABASE registry"])
