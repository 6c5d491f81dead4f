"""`zhichao backup`: a copy of everything at one moment, checked, and restored elsewhere; with real servers."""

import json
import shutil
import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from cli import platform_state
from cli.backup import database, programs
from cli.backup.create import create
from cli.backup.record import BackupError, BackupRecord
from cli.backup.restore import Restored, check, restore
from cli.main import main
from cli.platform_layout import PlatformFiles
from cli.platform_state import DataLock, PlatformState
from cli.postgres import EmbeddedPostgres
from services.common.database import raw_connection, upgrade
from services.journal.entries import EntryBuilder
from tests.cli.kept_platform import KeptPlatform, backup, home, stack
from tests.cli.verified_journals import COUNTY, KIND, Keys, opened, write_county

__all__ = ["backup", "home", "stack"]
# Fixtures that pytest finds by their names here.

SIZE = 301


class Home(KeptPlatform):
    """A platform with one database."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.keys = Keys(directory)
        self.key_file = directory / f"{COUNTY}.pem"
        with EmbeddedPostgres(self.files.postgres, databases=["weighing"]) as server:
            upgrade(server.url("weighing"), "services.weighing.migrations")
            write_county(server.url("weighing"), self.keys, size=SIZE)

    def run(self, stack: ExitStack) -> str:
        """Run the server as a platform does; return the URL of its database."""
        self.lock(stack)
        return self.serve(stack, stack.enter_context(EmbeddedPostgres(self.files.postgres)), "weighing")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Path]:
    """Make a platform and a backup of it, which tests copy before they change anything."""
    directory = tmp_path_factory.mktemp("backup")
    home = Home(directory / "home")
    create(home.directory, directory / "copy")
    return home, directory / "copy"


def size_of(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT size FROM journal_logs WHERE is_own").fetchone()
    assert row is not None
    return int(row[0])


def size_in(data_directory: Path) -> int:
    with EmbeddedPostgres(data_directory / "postgres") as server:
        return size_of(server.url("weighing"))


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "cli.main", "backup", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)


def restored_to(backup: Path, home: Home, target: Path, **options: Any) -> Restored:
    return restore(backup, target, signing_key=home.key_file, **options)


def test_a_stopped_platform_is_backed_up_and_restored(home: Home, backup: Path, tmp_path: Path) -> None:
    restored = restored_to(backup, home, tmp_path / "other")

    (log,) = restored.logs
    assert (log.stream, log.origin, log.is_own, log.size) == ("weighing", COUNTY, True, SIZE)
    assert restored.record.platform == COUNTY
    assert restored.has_signing_key
    assert (tmp_path / "other" / "keys" / "signing.pem").read_bytes() == home.key_file.read_bytes()
    assert (tmp_path / "other" / "keys" / "signing.pem").stat().st_mode & 0o777 == 0o600
    assert size_in(tmp_path / "other") == SIZE
    # The server of the platform was started for the backup and is stopped again.
    assert platform_state.find_running(home.directory) is None
    assert size_in(home.directory) == SIZE


def test_a_running_platform_is_backed_up_while_it_writes(home: Home, tmp_path: Path, stack: ExitStack) -> None:
    url = home.run(stack)
    stop = threading.Event()
    acknowledged: list[int] = []

    def write() -> None:
        with opened(url, home.keys, COUNTY) as (parts, engine):
            while not stop.is_set():
                now = datetime.now(UTC)
                with engine.begin() as pooled:
                    connection = raw_connection(pooled)
                    head = parts.writer.lock(connection)
                    added = EntryBuilder(KIND, 1, now).build_all([b"x"] * 20, parts.writer.digester)
                    parts.writer.append(connection, head, added, now)
                acknowledged.append(head.size + 20)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        before = size_of(url)
        record = create(home.directory, tmp_path / "copy")
    finally:
        stop.set()
        writer.join()
    # It went on writing all the time.
    assert acknowledged[-1] > record.own_logs[0].size >= before

    restored = restored_to(tmp_path / "copy", home, tmp_path / "other")
    assert restored.logs[0].size >= record.own_logs[0].size


def test_keys_and_tokens_are_put_in_their_places(home: Home, backup: Path, tmp_path: Path) -> None:
    safe = tmp_path / "safe"
    (safe / "keys").mkdir(parents=True)
    (safe / "secrets").mkdir()
    shutil.copy(home.key_file, safe / "keys" / "signing.pem")
    (safe / "secrets" / "operator.token").write_text("a token")
    other = tmp_path / "other"
    restored = restore(backup, other, secrets_from=safe)

    assert restored.has_signing_key
    token = other / "secrets" / "operator.token"
    assert token.read_text() == "a token"
    assert (token.stat().st_mode & 0o777, token.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_directory_without_a_key_is_no_place_for_secrets(backup: Path, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match=r"keys/signing\.pem"):
        restore(backup, tmp_path / "other", secrets_from=backup)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("is_standing_alone", [False, True])
def test_the_own_log_of_a_restored_platform_waits_to_be_compared(
    home: Home, backup: Path, tmp_path: Path, *, is_standing_alone: bool
) -> None:
    restored = restored_to(backup, home, tmp_path / "other", is_standing_alone=is_standing_alone)

    with EmbeddedPostgres(tmp_path / "other" / "postgres") as server:
        marks = server.query("SELECT origin, is_recovering FROM journal_logs", database="weighing")
    assert marks == f"{COUNTY}|{'f' if is_standing_alone else 't'}"
    assert restored.marked == ([] if is_standing_alone else ["weighing"])
    # The platform that was backed up goes on as before.
    with EmbeddedPostgres(home.files.postgres) as server:
        assert server.query("SELECT is_recovering FROM journal_logs", database="weighing") == "f"


def test_the_log_of_a_service_that_did_not_run_is_compared_too(home: Home, backup: Path, tmp_path: Path) -> None:
    """The backup of a platform that runs names the databases of its services; the others are there all the same."""
    record = BackupRecord.read(backup)
    (backup / "backup.json").unlink()
    replace(record, databases=[], logs=[]).write(backup)

    assert restored_to(backup, home, tmp_path / "other").marked == ["weighing"]


@pytest.mark.parametrize("name", ["registry", "weighing?host=203.0.113.7&x=", "postgres"])
def test_a_record_that_names_another_database_is_noticed(home: Home, backup: Path, tmp_path: Path, name: str) -> None:
    record = BackupRecord.read(backup)
    (backup / "backup.json").unlink()
    replace(record, databases=[name]).write(backup)

    with pytest.raises(BackupError, match="holds no database"):
        restored_to(backup, home, tmp_path / "other")
    assert not (tmp_path / "other" / "postgres").exists()


def test_what_is_restored_can_be_verified(home: Home, backup: Path, tmp_path: Path) -> None:
    restored_to(backup, home, tmp_path / "other")
    with EmbeddedPostgres(tmp_path / "other" / "postgres") as server:
        result = CliRunner().invoke(main, ["verify", "--database-url", server.url("weighing"), "--json"])

    assert result.exit_code == 0, result.output


def test_the_commands_tell_what_they_did(home: Home, tmp_path: Path) -> None:
    copy, other = str(tmp_path / "copy"), str(tmp_path / "other")

    made = run("create", "--data", str(home.directory), "--out", copy, "--json")
    assert made.returncode == 0, made.stderr
    document = json.loads(made.stdout)
    assert (document["platform"], document["databases"]) == (COUNTY, ["weighing"])
    verified = run("verify", copy)
    assert verified.returncode == 0, verified.stderr
    assert COUNTY in verified.stdout
    put_back = run("restore", copy, "--data", other)
    assert put_back.returncode == 0, put_back.stderr
    assert "--secrets-from" in put_back.stdout
    again = run("restore", copy, "--data", other)
    assert again.returncode == 1
    assert "holds a database already" in again.stderr


def test_paths_are_taken_from_where_the_command_is_given(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").symlink_to(home.directory)
    (tmp_path / "safe" / "keys").mkdir(parents=True)
    (tmp_path / "safe" / "keys" / "signing.pem").write_bytes(home.key_file.read_bytes())
    # Other tests of this file have written to it.
    size = size_in(home.directory)

    done = [
        run(*words)
        for words in (
            ("create", "--data", "home", "--out", "copy"),
            ("verify", "copy"),
            ("restore", "copy", "--data", "other", "--secrets-from", "safe"),
        )
    ]

    assert [(one.returncode, one.stderr) for one in done if one.returncode] == []
    assert size_in(tmp_path / "other") == size


def test_a_backup_never_takes_the_place_of_another(home: Home, backup: Path) -> None:
    with pytest.raises(BackupError, match="exists"):
        create(home.directory, backup)


def test_nothing_is_left_of_a_backup_that_failed(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_program = programs.run

    def fail(binaries: Any, program: str, *arguments: str) -> str:
        if program == "pg_verifybackup":
            raise BackupError("pg_verifybackup failed: as the test wants")
        return run_program(binaries, program, *arguments)

    monkeypatch.setattr(programs, "run", fail)
    with pytest.raises(BackupError, match="as the test wants"):
        create(home.directory, tmp_path / "copies" / "one")
    assert list((tmp_path / "copies").iterdir()) == []


def test_a_disk_without_room_is_noticed_first(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=1_000))

    with pytest.raises(BackupError, match="has 1,000 bytes free"):
        create(home.directory, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_platform_on_a_server_of_its_own_is_sent_to_that_servers_tools(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    platform_state.write(directory / "platform.json", PlatformState(COUNTY, "stopped", 1, str(directory)))

    with pytest.raises(BackupError, match="tools of their server"):
        create(directory, tmp_path / "copy")


def test_a_directory_without_a_platform_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="holds no platform"):
        create(tmp_path, tmp_path / "copy")


@pytest.mark.parametrize("damage", ["a bit", "a file less", "a file more", "the manifest", "the record", "no record"])
def test_a_damaged_backup_is_not_restored(home: Home, backup: Path, tmp_path: Path, damage: str) -> None:
    cluster = backup / "cluster"
    table = max(
        (path for path in (cluster / "base").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    record = backup / "backup.json"
    if damage == "a bit":
        content = bytearray(table.read_bytes())
        content[len(content) // 2] ^= 1
        table.write_bytes(content)
    elif damage == "a file less":
        table.unlink()
    elif damage == "a file more":
        (cluster / "base" / "planted").write_bytes(b"x")
    elif damage == "the manifest":
        manifest = cluster / "backup_manifest"
        manifest.write_bytes(manifest.read_bytes().replace(b"SHA256", b"NONE  "))
    elif damage == "the record":
        record.write_text(record.read_text().replace('"version": 1', '"version": 99'))
    else:
        record.unlink()

    with pytest.raises(BackupError):
        check(backup)
    with pytest.raises(BackupError):
        restored_to(backup, home, tmp_path / "other")
    assert not (tmp_path / "other" / "postgres").exists()


def test_a_record_that_promises_more_than_the_backup_holds_is_noticed(home: Home, backup: Path, tmp_path: Path) -> None:
    record = BackupRecord.read(backup)
    (backup / "backup.json").unlink()
    replace(record, logs=[replace(record.logs[0], size=SIZE + 1)]).write(backup)

    with pytest.raises(BackupError, match=f"should hold at least {SIZE + 1} entries"):
        restored_to(backup, home, tmp_path / "other")
    assert not (tmp_path / "other" / "postgres").exists()


def test_no_database_is_there_before_its_logs_are_marked(
    home: Home, backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def be_killed(url: str) -> bool:
        assert not (tmp_path / "other" / "postgres").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(database, "mark_restored", be_killed)
    with pytest.raises(KeyboardInterrupt):
        restored_to(backup, home, tmp_path / "other")
    assert not (tmp_path / "other" / "postgres").exists()
    monkeypatch.undo()

    # Nothing is in the way of the next try.
    assert restored_to(backup, home, tmp_path / "other").marked == ["weighing"]


def test_the_key_of_another_platform_is_refused(backup: Path, tmp_path: Path) -> None:
    other = Keys(tmp_path)
    del other
    with pytest.raises(BackupError, match="another key"):
        restore(backup, tmp_path / "other", signing_key=tmp_path / f"{COUNTY}.pem")
    assert not (tmp_path / "other").exists()


def test_a_restore_never_overwrites(home: Home, backup: Path) -> None:
    with pytest.raises(BackupError, match="holds a database already"):
        restore(backup, home.directory)
    assert size_in(home.directory) >= SIZE


def test_a_platform_that_runs_on_the_directory_is_left_alone(home: Home, backup: Path, tmp_path: Path) -> None:
    target = tmp_path / "other"
    target.mkdir()
    lock = DataLock(PlatformFiles(target))
    lock.acquire()
    try:
        with pytest.raises(BackupError, match="runs on"):
            restored_to(backup, home, target)
    finally:
        lock.release()


def test_settings_of_the_operator_come_along(home: Home, tmp_path: Path) -> None:
    local = home.files.postgres / "local.conf"
    local.write_text("work_mem = '7MB'\n", "utf-8")
    try:
        create(home.directory, tmp_path / "copy")
    finally:
        local.unlink()
    restored_to(tmp_path / "copy", home, tmp_path / "other")
    with EmbeddedPostgres(tmp_path / "other" / "postgres") as server:
        assert server.query("SHOW work_mem") == "7MB"
