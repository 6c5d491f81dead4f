"""The spool: bounded, fair, swept, and honest about a full disk. Real files; the clock is the test's."""

import hashlib
import os
import resource
import shutil
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.settings import SettingsError
from services.video import spool as spool_module
from services.video.spool import GROUP_SHARE, Spool, SpoolKey, SpoolUsage
from tests.running_service import SharedClock
from tests.video.harness import since_now

KEEP = timedelta(hours=24)
KIB = 1024

OpenSpool = Callable[..., Spool]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def clock() -> SharedClock:
    return since_now()


@pytest.fixture
def opened(directory: Path, clock: SharedClock) -> Iterator[OpenSpool]:
    """Open spools on the directory; those that are open at the end are closed."""
    with ExitStack() as running:

        def make(bytes_max: int = 1024 * KIB) -> Spool:
            spool = Spool(directory, bytes_max, KEEP, clock)
            spool.start()
            running.callback(spool.stop)
            return spool

        yield make


def key(name: str = "one", group: str = "unit") -> SpoolKey:
    return SpoolKey(group, name)


def put(spool: Spool, at: SpoolKey, content: bytes, size: int, digest: bytes = bytes(32)) -> None:
    """Receive some bytes of an upload and break off."""
    with spool.open(at, digest, size) as upload:
        upload.append(content)


def refused(spool: Spool, at: SpoolKey, size: int, digest: bytes = bytes(32)) -> Reason:
    """Open an upload that must be refused."""
    with pytest.raises(ServiceError) as error:
        spool.open(at, digest, size)
    return error.value.reason


def files(directory: Path) -> list[str]:
    return sorted(one.name for one in directory.glob("*.part"))


def test_bytes_are_hashed_as_they_come_and_again_when_they_are_taken_up(opened: OpenSpool) -> None:
    spool = opened()
    put(spool, key(), b"abc", 6)

    with spool.open(key(), bytes(32), 6) as upload:
        assert (upload.received_bytes, upload.digest()) == (3, hashlib.sha256(b"abc").digest())
        upload.append(b"def")
        assert upload.digest() == hashlib.sha256(b"abcdef").digest()
        assert upload.path.read_bytes() == b"abcdef"


def test_an_upload_that_is_discarded_leaves_nothing(opened: OpenSpool, directory: Path) -> None:
    spool = opened()
    with spool.open(key(), bytes(32), 6) as upload:
        upload.append(b"abc")
        upload.discard()

    assert (files(directory), spool.find(key()), spool.usage()) == ([], None, SpoolUsage(0, 0))


def test_an_upload_without_bytes_leaves_nothing(opened: OpenSpool, directory: Path) -> None:
    spool = opened()
    with spool.open(key(), bytes(32), 6):
        pass

    assert (files(directory), spool.usage()) == ([], SpoolUsage(0, 0))


def test_more_bytes_than_said_are_not_taken(opened: OpenSpool) -> None:
    spool = opened()
    with spool.open(key(), bytes(32), 3) as upload:
        with pytest.raises(ValueError, match="more bytes"):
            upload.append(b"abcd")
        assert upload.received_bytes == 0


def test_an_upload_is_of_one_call_at_a_time(opened: OpenSpool) -> None:
    spool = opened()
    with spool.open(key(), bytes(32), 6):
        assert refused(spool, key(), 6) is Reason.UPLOAD_BUSY
    with spool.open(key(), bytes(32), 6):
        pass


def test_other_bytes_under_a_key_replace_what_was_there(opened: OpenSpool, directory: Path) -> None:
    spool = opened()
    put(spool, key(), b"abc", 6)
    with spool.open(key(), b"\x01" * 32, 9) as upload:
        assert upload.received_bytes == 0
        upload.append(b"x")

    assert files(directory) == [f"unit~one~{'01' * 32}~9.part"]


# Bounds


def test_uploads_take_their_whole_size_while_they_are_open(opened: OpenSpool) -> None:
    spool = opened(10 * KIB)
    with spool.open(key("a", "u1"), bytes(32), 6 * KIB):
        assert refused(spool, key("b", "u2"), 5 * KIB) is Reason.UPLOAD_SPACE_EXHAUSTED
        with spool.open(key("b", "u2"), bytes(32), 4 * KIB):
            pass


def test_uploads_that_broke_off_take_what_they_hold(opened: OpenSpool) -> None:
    spool = opened(10 * KIB)
    put(spool, key("a", "u1"), bytes(KIB), 6 * KIB)

    with spool.open(key("b", "u2"), bytes(32), 9 * KIB):
        pass
    assert refused(spool, key("b", "u2"), 9 * KIB + 1) is Reason.UPLOAD_SPACE_EXHAUSTED


def test_a_broken_upload_whose_room_was_taken_waits_for_it(opened: OpenSpool) -> None:
    spool = opened(10 * KIB)
    put(spool, key("a", "u1"), bytes(KIB), 6 * KIB)
    with spool.open(key("b", "u2"), bytes(32), 9 * KIB):
        assert refused(spool, key("a", "u1"), 6 * KIB) is Reason.UPLOAD_SPACE_EXHAUSTED
    with spool.open(key("a", "u1"), bytes(32), 6 * KIB) as upload:
        assert upload.received_bytes == KIB


def test_no_unit_takes_the_whole_spool_with_many_uploads(opened: OpenSpool) -> None:
    spool = opened(GROUP_SHARE * 4 * KIB)
    put(spool, key("a", "u1"), bytes(2 * KIB), 2 * KIB + 1)
    put(spool, key("b", "u1"), bytes(KIB), KIB + 1)

    assert refused(spool, key("c", "u1"), 2 * KIB) is Reason.UPLOAD_SPACE_EXHAUSTED
    put(spool, key("c", "u1"), bytes(KIB - 1), KIB)
    # A unit with nothing under way may upload whatever there is room for.
    put(spool, key("a", "u2"), b"x", 10 * KIB)


def test_uploads_are_bounded_in_number_and_each_units_are(opened: OpenSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "UPLOADS_MAX", 5)
    monkeypatch.setattr(spool_module, "GROUP_UPLOADS_MAX", 3)
    spool = opened()
    for name in "abc":
        put(spool, key(name, "u1"), b"x", 2)

    assert refused(spool, key("d", "u1"), 2) is Reason.UPLOAD_SPACE_EXHAUSTED
    put(spool, key("a", "u2"), b"x", 2)
    put(spool, key("b", "u2"), b"x", 2)
    assert refused(spool, key("c", "u2"), 2) is Reason.UPLOAD_SPACE_EXHAUSTED
    # What is there is gone on with.
    with spool.open(key("a", "u1"), bytes(32), 2) as upload:
        assert upload.received_bytes == 1


def test_more_than_the_disk_has_is_refused_at_once(opened: OpenSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", ["total", "used", "free"])
    spool = opened()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100, 97, 3))

    assert refused(spool, key(), 4) is Reason.UPLOAD_SPACE_EXHAUSTED
    put(spool, key(), b"x", 3)


@contextmanager
def file_size_limit(limit_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size: the disk is full for whoever writes there."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_full_on_the_way_leaves_nothing_half_kept(opened: OpenSpool, directory: Path) -> None:
    spool = opened()
    with spool.open(key(), bytes(32), 8 * KIB) as upload:
        upload.append(bytes(KIB))
        with file_size_limit(3 * KIB), pytest.raises(ServiceError) as error:
            # A part of it still fits.
            upload.append(bytes(4 * KIB))

    assert error.value.reason is Reason.UPLOAD_SPACE_EXHAUSTED
    assert error.value.retry_after_seconds is not None
    assert (files(directory), spool.usage()) == ([], SpoolUsage(0, 0))


# Time


def test_what_broke_off_is_told_until_it_expires_and_swept_then(
    opened: OpenSpool, directory: Path, clock: SharedClock
) -> None:
    spool = opened()
    put(spool, key(), b"abc", 6)
    broke_off = clock.now()
    clock.advance(hours=23)
    found = spool.find(key())
    assert found is not None
    assert (found.received_bytes, found.expire_time) == (3, broke_off + KEEP)
    assert spool.sweep() == 0

    clock.advance(hours=1)

    assert spool.find(key()) is None
    assert (spool.sweep(), files(directory), spool.usage()) == (1, [], SpoolUsage(0, 0))


def test_ten_thousand_abandoned_uploads_are_cleaned_up(opened: OpenSpool, directory: Path, clock: SharedClock) -> None:
    spool = opened(1 << 30)
    for number in range(10_000):
        put(spool, key(f"photo-{number}", f"unit-{number % 10}"), b"abandoned", 100)
    assert spool.usage() == SpoolUsage(10_000, 90_000)
    clock.advance(hours=12)
    put(spool, key("fresh"), b"x", 2)

    clock.advance(hours=12)

    assert spool.sweep() == 10_000
    assert (spool.usage(), len(files(directory))) == (SpoolUsage(1, 1), 1)


def test_an_upload_under_way_does_not_expire(opened: OpenSpool, clock: SharedClock) -> None:
    spool = opened()
    with spool.open(key(), bytes(32), 6) as upload:
        upload.append(b"abc")
        clock.advance(hours=48)
        assert spool.sweep() == 0
    assert spool.find(key()) is not None


# Starts


def test_a_start_finds_what_is_there(opened: OpenSpool) -> None:
    first = opened()
    put(first, key(), b"abc", 6)
    first.stop()

    second = opened()

    found = second.find(key())
    assert found is not None
    assert (found.digest, found.size_bytes, found.received_bytes) == (bytes(32), 6, 3)
    assert second.usage() == SpoolUsage(1, 3)


def test_a_start_deletes_what_has_expired(opened: OpenSpool, directory: Path, clock: SharedClock) -> None:
    first = opened()
    put(first, key("old"), b"abc", 6)
    put(first, key("new"), b"abc", 6)
    first.stop()
    (old,) = directory.glob("unit~old~*")
    before = (clock.now() - KEEP).timestamp()
    os.utime(old, (before, before))

    second = opened()

    assert (second.find(key("old")), second.usage()) == (None, SpoolUsage(1, 3))
    assert len(files(directory)) == 1


def test_a_start_deletes_what_cannot_be_gone_on_with_and_leaves_what_is_not_ours(
    opened: OpenSpool, directory: Path
) -> None:
    directory.mkdir()
    digest = "00" * 32
    (directory / f"unit~long~{digest}~2.part").write_bytes(b"longer than it should be")
    (directory / f"unit~empty~{digest}~2.part").touch()
    (directory / "notes.txt").write_text("somebody's")

    spool = opened()

    assert spool.usage() == SpoolUsage(0, 0)
    assert sorted(one.name for one in directory.iterdir()) == ["notes.txt", "spool.lock"]


def test_of_two_drafts_that_a_kill_has_left_the_newer_one_is_gone_on_with(
    opened: OpenSpool, directory: Path, clock: SharedClock
) -> None:
    directory.mkdir()
    older, newer = (directory / f"unit~one~{digit * 64}~9.part" for digit in "01")
    for path, minutes in ((older, 2), (newer, 1)):
        path.write_bytes(b"abc")
        moment = (clock.now() - timedelta(minutes=minutes)).timestamp()
        os.utime(path, (moment, moment))

    opened()

    assert files(directory) == [newer.name]


def test_a_file_from_the_future_expires_all_the_same(opened: OpenSpool, directory: Path, clock: SharedClock) -> None:
    first = opened()
    put(first, key(), b"abc", 6)
    first.stop()
    (path,) = directory.glob("*.part")
    ahead = (clock.now() + timedelta(days=365)).timestamp()
    os.utime(path, (ahead, ahead))

    second = opened()
    clock.advance(hours=24)

    assert second.sweep() == 1


def test_a_directory_is_of_one_process_at_a_time(opened: OpenSpool) -> None:
    first = opened()
    with pytest.raises(SettingsError, match="ZHICHAO_VIDEO_SPOOL_DIRECTORY: another process uses"):
        opened()
    first.stop()

    opened().stop()


def test_a_directory_that_cannot_be_made_is_a_bad_setting(tmp_path: Path, clock: SharedClock) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(SettingsError, match="ZHICHAO_VIDEO_SPOOL_DIRECTORY"):
        Spool(tmp_path / "file" / "spool", 1024 * KIB, KEEP, clock).start()
