"""Store requirements: a file that is sent while it still comes is stored whole once it is approved, or not at all."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.video import growing_file
from services.video.growing_file import HELD_BACK_BYTES, AbandonedError, GrowingFile
from services.video.object_store import BytesDifferError, PutResult, object_key
from services.video.s3_store import S3ObjectStore
from tests.video.stores.contents import Content, content

CLIP = content(3_000_000)
KEY = object_key(CLIP.digest)
HALF = CLIP.size_bytes // 2
SECONDS_MAX = 30.0


class Growing(GrowingFile):
    """A file that tells how far it was read."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        super().__init__(path, size_bytes)
        self.asked = threading.Semaphore(0)
        self.position = 0

    def wait(self, position: int) -> int:
        self.position = position
        self.asked.release()
        return super().wait(position)

    def wait_until_at(self, position: int) -> None:
        """Return once the reader wants bytes from there on."""
        while self.position != position:
            assert self.asked.acquire(timeout=SECONDS_MAX), f"read up to {self.position} only"


Begin = Callable[[Growing], Future[PutResult]]


@pytest.fixture
def file(tmp_path: Path) -> Growing:
    path = tmp_path / "clip.part"
    path.touch()
    return Growing(path, CLIP.size_bytes)


@pytest.fixture
def begin(store: S3ObjectStore) -> Iterator[Begin]:
    with ThreadPoolExecutor(2) as threads:
        yield lambda file: threads.submit(
            store.put, CLIP.digest, file, CLIP.size_bytes, content_type="video/mp4", retain_until=tomorrow()
        )


def tomorrow() -> datetime:
    return (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)


def grow(file: Growing, bytes_: bytes) -> None:
    with file.path.open("ab") as opened:
        opened.write(bytes_)
    file.came(file.path.stat().st_size)


def read(store: S3ObjectStore, wanted: Content) -> bytes:
    with store.read(object_key(wanted.digest)) as reader:
        return b"".join(reader)


def test_what_comes_in_pieces_is_one_object_once_it_is_approved(
    store: S3ObjectStore, file: Growing, begin: Begin
) -> None:
    put = begin(file)
    grow(file, CLIP.data[:HALF])
    file.wait_until_at(HALF)
    assert not store.versions(KEY)
    grow(file, CLIP.data[HALF:])
    # All bytes are here, and the store has not got the last ones.
    file.wait_until_at(CLIP.size_bytes - HELD_BACK_BYTES)
    assert not put.done()
    assert not store.versions(KEY)
    file.approve()
    assert put.result(SECONDS_MAX) == PutResult(KEY, was_there=False)
    assert read(store, CLIP) == CLIP.data
    (version,) = store.versions(KEY)
    assert not store.remove_version(KEY, version.version_id)


@pytest.mark.parametrize("sent_bytes", [0, HALF, CLIP.size_bytes])
def test_what_is_given_up_leaves_nothing(store: S3ObjectStore, file: Growing, begin: Begin, sent_bytes: int) -> None:
    put = begin(file)
    grow(file, CLIP.data[:sent_bytes])
    file.wait_until_at(min(sent_bytes, CLIP.size_bytes - HELD_BACK_BYTES))
    file.abandon()
    with pytest.raises(AbandonedError):
        put.result(SECONDS_MAX)
    assert not store.versions(KEY)
    # And keeps nobody from putting it.
    assert store.put(CLIP.digest, CLIP.data, CLIP.size_bytes) == PutResult(KEY, was_there=False)
    assert read(store, CLIP) == CLIP.data


def test_what_stalls_is_given_up(
    store: S3ObjectStore, file: Growing, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing_file, "WAIT_SECONDS_MAX", 0.1)
    put = begin(file)
    with pytest.raises(AbandonedError, match="nothing came"):
        put.result(SECONDS_MAX)
    assert not store.versions(KEY)


def test_what_is_there_is_not_sent_again(store: S3ObjectStore, file: Growing, begin: Begin) -> None:
    store.put(CLIP.digest, CLIP.data, CLIP.size_bytes)
    assert begin(file).result(SECONDS_MAX) == PutResult(KEY, was_there=True)
    assert file.position == 0
    assert len(store.versions(KEY)) == 1


def test_other_bytes_are_not_stored_even_if_they_are_approved(
    store: S3ObjectStore, file: Growing, begin: Begin
) -> None:
    """The store compares the digest that it is told, as for every put: seen with both reference servers."""
    put = begin(file)
    grow(file, bytes(CLIP.size_bytes))
    file.approve()
    with pytest.raises(BytesDifferError):
        put.result(SECONDS_MAX)
    assert not store.versions(KEY)
