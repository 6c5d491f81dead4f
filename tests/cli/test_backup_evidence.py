"""Backups with evidence: databases and bytes agree, what is restored is as it was sealed, and a copy of somebody else's
store is checked by its list. Real PostgreSQL, real S3 server.
"""

import hashlib
import itertools
import json
import random
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner

from cli.backup import evidence, evidence_list
from cli.backup.create import create
from cli.backup.record import BackupError
from cli.backup.restore import check, restore
from cli.main import main
from cli.object_server import ObjectServer
from cli.platform_layout import PlatformFiles, free_port
from services.video.object_store import ObjectStore, StoreUnavailableError, object_key
from tests.cli.kept_evidence import CONTENTS, HELD, RELEASED, Home, Opened, digests, forget, opened, seal, use_store
from tests.cli.kept_platform import backup, home, stack
from tests.video.stores.servers import rot

__all__ = ["backup", "home", "stack"]
# Fixtures that pytest finds by their names here.


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Path]:
    """Make a platform and a backup of it, which tests copy before they change anything."""
    directory = tmp_path_factory.mktemp("backup")
    home = Home(directory / "home")
    create(home.directory, directory / "copy")
    return home, directory / "copy"


def test_a_backup_holds_the_bytes_that_its_databases_name(backup: Path) -> None:
    record = check(backup)

    assert record.evidence is not None
    assert (record.evidence.mode, record.evidence.object_count, record.evidence.missing) == ("copied", 6, [])
    assert record.evidence.object_bytes == sum(map(len, CONTENTS))
    files = sorted(path for path in (backup / "evidence" / "sha256").rglob("*") if path.is_file())
    assert sorted(path.name for path in files) == digests(CONTENTS)
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in files] == [path.name for path in files]


def test_what_is_sealed_while_it_is_made_is_in_it_or_not_named(home: Home, tmp_path: Path, stack: ExitStack) -> None:
    url, store = home.run(stack)
    late = seal(url, store, b"sealed while the platform runs")

    record = create(home.directory, tmp_path / "copy")
    check(tmp_path / "copy")

    listed = [one.digest for one in evidence_list.read(tmp_path / "copy" / "evidence" / "objects.txt")]
    assert late in listed
    assert record.evidence is not None
    assert record.evidence.object_count == len(listed)
    forget(url, late)


def test_what_is_restored_is_as_it_was_and_locked(home: Home, backup: Path, tmp_path: Path) -> None:
    target = tmp_path / "other"
    (target / "secrets").mkdir(parents=True)

    restore(backup, target, is_standing_alone=True)

    files = PlatformFiles(target)
    with Opened(ObjectServer(files.object_server, port=free_port(), access_key_file=files.object_access_key,
                             secret_key_file=files.object_secret_key), files) as store:  # fmt: skip
        found = sorted(one.key.rpartition("/")[2] for one in store.list("sha256/"))
        assert found == digests(CONTENTS)
        first = hashlib.sha256(CONTENTS[0]).digest()
        assert b"".join(store.read(object_key(first))) == CONTENTS[0]
        assert [store._bucket._is_held(object_key(digest), "") for digest in (HELD, RELEASED)] == [True, False]
        # Locked as long as its manifest says, as when it was sealed.
        assert (store.delete(object_key(first)).kept_count, store.stat(object_key(first)).size_bytes) == (
            1,
            len(CONTENTS[0]),
        )
    assert not evidence.staging_of(files).exists()
    # The platform that was backed up goes on as before.
    assert home.files.object_server.is_dir()


@pytest.mark.parametrize("damage", ["a bit", "a file less", "a file longer", "the list", "no list"])
def test_damaged_evidence_is_not_restored(backup: Path, tmp_path: Path, damage: str) -> None:
    one = next(path for path in (backup / "evidence" / "sha256").rglob("*") if path.is_file())
    listed = backup / "evidence" / "objects.txt"
    content = one.read_bytes()
    if damage == "a bit":
        one.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    elif damage == "a file less":
        one.unlink()
    elif damage == "a file longer":
        one.write_bytes(content + b"x")
    elif damage == "the list":
        listed.write_text(listed.read_text().replace(one.name, "0" * 64))
    else:
        listed.unlink()

    with pytest.raises(BackupError):
        check(backup)
    with pytest.raises(BackupError):
        restore(backup, tmp_path / "other")
    assert not (tmp_path / "other" / "postgres").exists()
    assert not (tmp_path / "other" / "object-store").exists()


def test_evidence_is_never_overwritten(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "other" / "object-store").mkdir(parents=True)

    with pytest.raises(BackupError, match="holds evidence already"):
        restore(backup, tmp_path / "other")


def test_what_the_store_has_lost_is_named_and_the_rest_is_backed_up(
    home: Home, tmp_path: Path, stack: ExitStack
) -> None:
    url, store = home.run(stack)
    lost, changed = seal(url, store, b"lost"), seal(url, store, b"changed")
    store.delete(object_key(lost))
    store.delete(object_key(changed))
    store.put_rendition(object_key(changed), b"CHANGED", "text/plain")

    record = create(home.directory, tmp_path / "copy")

    assert record.evidence is not None
    assert record.evidence.missing == sorted([lost.hex(), changed.hex()])
    assert record.evidence.object_count == len(CONTENTS)
    check(tmp_path / "copy")
    forget(url, lost, changed)


def test_what_the_store_cannot_read_is_named_and_the_rest_is_backed_up(
    home: Home, tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, store = home.run(stack)
    content = random.Random(7).randbytes(300_000)
    rotten = seal(url, store, content)
    rot(home.files.object_server, content)
    listed = tmp_path / "list.txt"
    evidence.list_only(url, listed.with_name("listed"))
    (tmp_path / "listed" / evidence_list.LIST_FILE).rename(listed)
    use_store(monkeypatch, home, store)
    # Without attempts of our own: this one tries for many seconds by itself.
    monkeypatch.setenv("ZHICHAO_VIDEO_S3_RETRIES", "0")
    impatient = opened(home, store.address.endpoint)

    made = evidence.copy(impatient, url, tmp_path / "copy")
    checked = CliRunner().invoke(main, ["backup", "check-evidence", str(listed), "--json"])

    impatient.close()
    assert (made.missing, made.unreadable, made.object_count) == ([], [rotten.hex()], len(CONTENTS))
    evidence.check(made, tmp_path / "copy")
    assert checked.exit_code == 1
    assert json.loads(checked.output)["wrong"] == [{"digest": rotten.hex(), "finding": "unreadable"}]
    forget(url, rotten)


def test_a_store_that_gives_nothing_is_not_backed_up(
    home: Home, tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "BEGIN_SECONDS_MAX", 0.0)
    url, store = home.run(stack)

    class CannotRead:
        """Answers, and gives no bytes."""

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def read(self, *_: object, **__: object) -> Any:
            """Give nothing."""
            raise StoreUnavailableError("all disks")

    with pytest.raises(BackupError, match="none of its objects"):
        evidence.copy(cast("ObjectStore", CannotRead()), url, tmp_path / "copy")


def test_a_store_that_has_just_begun_is_waited_for(
    home: Home, tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "AGAIN_SECONDS", 0.01)
    url, store = home.run(stack)

    class Beginning:
        """Gives no bytes at first."""

        reads = itertools.count()

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def read(self, key: str) -> Any:
            """Read, from the twentieth time on."""
            if next(self.reads) < 20:
                raise StoreUnavailableError("not yet")
            return store.read(key)

    made = evidence.copy(cast("ObjectStore", Beginning()), url, tmp_path / "copy")

    assert (made.object_count, made.unreadable) == (len(CONTENTS), [])


def test_a_store_that_goes_away_is_not_taken_for_one_that_cannot_read(
    home: Home, tmp_path: Path, stack: ExitStack
) -> None:
    url, _ = home.run(stack)
    away = opened(home, f"http://127.0.0.1:{free_port()}")

    with pytest.raises(BackupError, match="nothing answers"):
        evidence.copy(away, url, tmp_path / "copy")
    away.close()


def test_a_second_backup_links_what_the_first_one_has(home: Home, backup: Path, tmp_path: Path) -> None:
    create(home.directory, tmp_path / "second", earlier=backup)

    check(tmp_path / "second")
    name = digests(CONTENTS)[0]
    places = [root / "evidence" / "sha256" / name[:2] / name for root in (backup, tmp_path / "second")]
    assert places[0].samefile(places[1])
    # Each stands by itself.
    shutil.rmtree(backup)
    check(tmp_path / "second")


def test_an_earlier_backup_that_is_damaged_is_not_linked(home: Home, backup: Path, tmp_path: Path) -> None:
    name = digests(CONTENTS)[0]
    damaged = backup / "evidence" / "sha256" / name[:2] / name
    damaged.write_bytes(b"x" * damaged.stat().st_size)

    create(home.directory, tmp_path / "second", earlier=backup)

    check(tmp_path / "second")


# A store of one's own


def test_a_store_of_its_own_is_listed_and_its_copy_checked(
    home: Home, tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The platform names another store; the copy that is checked is the one of the settings."""
    url, copy = home.run(stack)
    listed = tmp_path / "list.txt"
    made = CliRunner().invoke(main, ["backup", "list-evidence", "--database-url", url, "--out", str(listed), "--json"])
    assert made.exit_code == 0, made.output
    assert json.loads(made.output)["object_count"] == len(CONTENTS)
    use_store(monkeypatch, home, copy)

    assert CliRunner().invoke(main, ["backup", "check-evidence", str(listed)]).exit_code == 0
    # More is listed than the copy has, and one object has other bytes of the same size.
    absent = hashlib.sha256(b"absent").digest()
    wrong = hashlib.sha256(b"right").digest()
    copy.put_rendition(object_key(wrong), b"WRONG", "text/plain")
    with listed.open("a", encoding="ascii") as file:
        file.write(f"{absent.hex()} 6\n{wrong.hex()} 5\n")
    checked = CliRunner().invoke(main, ["backup", "check-evidence", str(listed), "--json"])
    fast = CliRunner().invoke(main, ["backup", "check-evidence", str(listed), "--fast", "--json"])

    assert checked.exit_code == fast.exit_code == 1
    assert json.loads(checked.output)["wrong"] == [
        {"digest": absent.hex(), "finding": "missing"},
        {"digest": wrong.hex(), "finding": "changed"},
    ]
    # Sizes tell less.
    assert json.loads(fast.output)["wrong"] == [{"digest": absent.hex(), "finding": "missing"}]
    copy.delete(object_key(wrong))


def test_a_backup_of_a_platform_with_a_store_of_its_own_says_what_its_copy_must_hold(
    home: Home, tmp_path: Path, stack: ExitStack
) -> None:
    moved = home.files.object_server.rename(home.directory / "elsewhere")
    stack.callback(moved.rename, home.files.object_server)

    record = create(home.directory, tmp_path / "copy")

    assert record.evidence is not None
    assert (record.evidence.mode, record.evidence.object_count) == ("listed", len(CONTENTS))
    check(tmp_path / "copy")
    assert [path.name for path in (tmp_path / "copy" / "evidence").iterdir()] == ["objects.txt"]


def test_what_is_no_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("something else\n")

    with pytest.raises(BackupError, match="no list of evidence"):
        list(evidence_list.read(tmp_path / "list"))
