"""Store requirements: big copies inside a slow store, and bytes that are written at once from two places."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from services.video import s3_copying, s3_writer
from services.video.object_store import PutResult, StoreError, object_key, staging_key
from services.video.s3_store import S3ObjectStore
from tests.video.stores import servers
from tests.video.stores.contents import Content, content
from tests.video.stores.gateway import Gateway

# S3 takes parts of 5 MiB and more, except for the last.
PART_BYTES = 5 * 1024 * 1024
CLIP = content(2 * PART_BYTES + 1000)
KEY = object_key(CLIP.digest)
AT_ONCE_SECONDS_MAX = 30.0


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut as small as stores take, so that some megabytes are big."""
    monkeypatch.setattr(s3_copying, "SLICE_BYTES", PART_BYTES)
    monkeypatch.setattr(s3_writer, "SINGLE_PUT_BYTES_MAX", PART_BYTES)
    monkeypatch.setattr(s3_writer, "PART_BYTES", PART_BYTES)


def _stage(store: S3ObjectStore, wanted: Content) -> str:
    """Put bytes under a staging key and return it."""
    key = staging_key()
    store.put_rendition(key, wanted.data, "video/mp4")
    return key


def _read(store: S3ObjectStore) -> bytes:
    with store.read(KEY) as reader:
        return b"".join(reader)


def _is_big_copy(_method: str, headers: Mapping[str, str]) -> bool:
    """Tell whether a request copies more than a slice."""
    if "x-amz-copy-source" not in headers:
        return False
    begin, _, end = headers.get("x-amz-copy-source-range", "bytes=0-999999999").removeprefix("bytes=").partition("-")
    return int(end) - int(begin) >= PART_BYTES


def test_a_store_that_copies_slowly_is_asked_for_slices(server: servers.Server, store: S3ObjectStore) -> None:
    """What is more than a slice it does not copy before the time-out, however often it is asked."""
    key = _stage(store, CLIP)
    until = datetime.now(UTC) + timedelta(seconds=30)
    with Gateway(server.url.removeprefix("http://"), lambda method, path: None, _is_big_copy) as gateway:
        slow = servers.store(
            server, endpoint=gateway.url, bucket=store.address.bucket, read_timeout_seconds=5.0, retries=0
        )
        result = slow.copy_from_staging(key, CLIP.digest, CLIP.size_bytes, content_type="video/mp4", retain_until=until)
        slow.close()

    assert (result, _read(store) == CLIP.data) == (PutResult(KEY, was_there=False), True)
    # Locked as every object is.
    assert store.delete(KEY).kept_count == 1


def test_a_copy_that_breaks_off_leaves_nothing(server: servers.Server, store: S3ObjectStore) -> None:
    key = _stage(store, CLIP)

    def answer(method: str, path: str) -> tuple[int, bytes] | None:
        return (503, b"") if method == "PUT" and "partNumber=2" in path else None

    with Gateway(server.url.removeprefix("http://"), answer) as gateway:
        failing = servers.store(server, endpoint=gateway.url, bucket=store.address.bucket, retries=0)
        with pytest.raises(StoreError):
            failing.copy_from_staging(key, CLIP.digest, CLIP.size_bytes)
        failing.close()
        assert [method for method, path in gateway.requests if "uploadId" in path] == ["PUT", "PUT", "DELETE"]

    assert store.versions(KEY) == []


def _put(store: S3ObjectStore, _: str, until: datetime) -> PutResult:
    return store.put(CLIP.digest, CLIP.data, CLIP.size_bytes, retain_until=until)


def _copy(store: S3ObjectStore, key: str, until: datetime) -> PutResult:
    return store.copy_from_staging(key, CLIP.digest, CLIP.size_bytes, retain_until=until)


@pytest.mark.parametrize("write", [_put, _copy])
@pytest.mark.parametrize("at_once", [2, 4])
def test_what_is_written_at_once_is_one_version(
    server: servers.Server,
    store: S3ObjectStore,
    write: Callable[[S3ObjectStore, str, datetime], PutResult],
    at_once: int,
) -> None:
    key, until = _stage(store, CLIP), datetime.now(UTC) + timedelta(seconds=60)
    all_are_there = threading.Barrier(at_once)

    def answer(method: str, path: str) -> tuple[int, bytes] | None:
        if method == "POST" and "uploadId" in path:
            # Nobody makes the object before all are about to.
            all_are_there.wait(AT_ONCE_SECONDS_MAX)
        return None

    with Gateway(server.url.removeprefix("http://"), answer) as gateway:
        writing = servers.store(server, endpoint=gateway.url, bucket=store.address.bucket)
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(lambda _: write(writing, key, until), range(at_once)))
        writing.close()

    assert len(store.versions(KEY)) == 1
    assert _read(store) == CLIP.data
    assert store.delete(KEY).kept_count == 1


def test_what_was_hidden_is_no_surplus(server: servers.Server, store: S3ObjectStore) -> None:
    """It stays as it is when the bytes are put anew: whether it is right, nobody has looked."""
    _put(store, "", datetime.now(UTC))
    servers.harmful_client(server).remove_object(store.address.bucket, KEY)
    _put(store, "", datetime.now(UTC))

    assert len([one for one in store.versions(KEY) if not one.is_delete_marker]) == 2
