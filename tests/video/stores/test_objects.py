"""Store requirements: the bucket, objects that are stored once, lists, versions."""

import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import pytest

from services.video.object_store import BytesDifferError, ObjectMissingError, PutResult, object_key, rendition_key
from services.video.s3_store import S3ObjectStore
from services.video.s3_writer import PART_BYTES, SINGLE_PUT_BYTES_MAX
from services.video.store_contents import BucketFacts
from tests.video.stores import servers
from tests.video.stores.contents import Content, content

CLIP = content(300_000)
KEY = object_key(CLIP.digest)

# What a put may hold in memory: some blocks, whatever the size of the file.
MEMORY_BYTES_MAX = 8 * 1024 * 1024


def _put(store: S3ObjectStore, wanted: Content) -> PutResult:
    return store.put(wanted.digest, wanted.data, wanted.size_bytes, content_type="video/mp4")


def _read(store: S3ObjectStore, key: str, offset: int = 0, length: int | None = None) -> bytes:
    with store.read(key, offset, length) as reader:
        return b"".join(reader)


# The bucket


def test_a_bucket_is_made_with_versions_and_locks_and_found_again(server: servers.Server) -> None:
    wanted = servers.settings(server)
    made = S3ObjectStore(wanted).ensure_bucket()
    found = S3ObjectStore(wanted).ensure_bucket()
    assert (made, found) == (BucketFacts(True, True, True), BucketFacts(False, True, True))


def test_a_bucket_made_from_two_places_at_once_is_made(server: servers.Server) -> None:
    wanted = servers.settings(server)
    start = Barrier(4)

    def ensure(_: int) -> BucketFacts:
        start.wait()
        return S3ObjectStore(wanted).ensure_bucket()

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ensure, range(4)))
    assert [(one.is_versioned, one.has_object_lock) for one in found] == [(True, True)] * 4


def test_a_bucket_that_is_there_answers_a_check(store: S3ObjectStore) -> None:
    store.check()


def test_a_store_names_its_place(server: servers.Server) -> None:
    wanted = servers.settings(server)
    assert vars_of(S3ObjectStore(wanted)) == (server.url, wanted.bucket)


def vars_of(store: S3ObjectStore) -> tuple[str, str]:
    return store.address.endpoint, store.address.bucket


# Putting


def test_what_was_put_is_read_back(store: S3ObjectStore, tmp_path: Path) -> None:
    result = store.put(CLIP.digest, CLIP.file(tmp_path), CLIP.size_bytes, content_type="video/mp4")
    assert (result, _read(store, KEY)) == (PutResult(KEY, was_there=False), CLIP.data)


def test_an_object_is_known_without_being_read(store: S3ObjectStore) -> None:
    begin = datetime.now(UTC) - timedelta(minutes=1)
    _put(store, CLIP)
    found = store.stat(KEY)
    assert (found.key, found.size_bytes, found.modified_time > begin, bool(found.version_id)) == (
        KEY,
        CLIP.size_bytes,
        True,
        True,
    )


def test_the_same_bytes_are_stored_once(store: S3ObjectStore) -> None:
    results = [_put(store, CLIP).was_there for _ in range(3)]
    assert (results, len(store.versions(KEY))) == ([False, True, True], 1)


def test_the_same_bytes_from_many_places_at_once_are_stored_once(store: S3ObjectStore) -> None:
    start = Barrier(8)

    def put(_: int) -> bool:
        start.wait()
        return _put(store, CLIP).was_there

    with ThreadPoolExecutor(8) as pool:
        results = sorted(pool.map(put, range(8)))
    assert (results, len(store.versions(KEY))) == ([False] + [True] * 7, 1)


def test_one_byte_is_an_object(store: S3ObjectStore) -> None:
    one = content(1)
    _put(store, one)
    assert _read(store, object_key(one.digest)) == one.data


@pytest.mark.parametrize("is_first", [True, False], ids=["first put", "later put"])
def test_bytes_that_are_not_those_of_the_digest_are_refused_by_the_store(store: S3ObjectStore, is_first: bool) -> None:
    if not is_first:
        _put(store, CLIP)
    other = content(300_000, seed=1)
    with pytest.raises(BytesDifferError):
        store.put(other.digest, content(300_000, seed=2).data, 300_000)
    with pytest.raises(ObjectMissingError):
        store.stat(object_key(other.digest))


def test_a_file_of_another_size_is_refused(store: S3ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(BytesDifferError):
        store.put(CLIP.digest, CLIP.file(tmp_path), CLIP.size_bytes + 1)


def test_what_has_another_size_than_it_should_gets_the_right_version_over_it(store: S3ObjectStore) -> None:
    store.put_rendition(KEY, b"not the clip", "video/mp4")
    result = _put(store, CLIP)
    assert (result.was_there, _read(store, KEY), len(store.versions(KEY))) == (False, CLIP.data, 2)


@pytest.mark.parametrize(
    "size_bytes",
    [SINGLE_PUT_BYTES_MAX, SINGLE_PUT_BYTES_MAX + 1, SINGLE_PUT_BYTES_MAX + PART_BYTES],
    ids=["one request", "parts and one byte", "whole parts"],
)
def test_a_large_file_is_stored_with_little_memory(store: S3ObjectStore, tmp_path: Path, size_bytes: int) -> None:
    large = content(size_bytes)
    path, digest = large.file(tmp_path), large.digest
    key = object_key(digest)
    # Bring up connection and client before memory is counted.
    store.check()
    tracemalloc.start()
    try:
        store.put(digest, path, size_bytes)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (peak < MEMORY_BYTES_MAX, store.stat(key).size_bytes, _read(store, key) == large.data) == (
        True,
        size_bytes,
        True,
    )


def test_a_preview_is_replaced(store: S3ObjectStore) -> None:
    key = rendition_key(CLIP.digest, "poster")
    for made in (b"first", b"second"):
        store.put_rendition(key, made, "image/jpeg")
    assert _read(store, key) == b"second"


# Listing


def _names(store: S3ObjectStore, prefix: str, start_after: str = "") -> list[str]:
    return [found.key for found in store.list(prefix, start_after)]


def test_objects_are_listed_by_key_after_a_key(store: S3ObjectStore) -> None:
    keys = [f"uploads/{number:02}" for number in range(5)]
    for key in [*reversed(keys), "renditions/x"]:
        store.put_rendition(key, b"content", "image/jpeg")
    assert (_names(store, "uploads/"), _names(store, "uploads/", keys[2]), _names(store, "none/")) == (
        keys,
        keys[3:],
        [],
    )


def test_a_list_has_sizes_and_no_object_that_was_removed(store: S3ObjectStore) -> None:
    _put(store, CLIP)
    other = content(10)
    _put(store, other)
    store.delete(object_key(other.digest))
    assert [(found.key, found.size_bytes) for found in store.list("sha256/")] == [(KEY, CLIP.size_bytes)]


def test_a_list_is_longer_than_a_page_of_the_store(store: S3ObjectStore) -> None:
    keys = [f"uploads/{number:04}" for number in range(1050)]

    def put(key: str) -> None:
        store.put_rendition(key, b"content", "image/jpeg")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, keys))
    assert _names(store, "uploads/") == keys


# Versions


def _remove_behind_our_back(store: S3ObjectStore, key: str) -> None:
    store._client.remove_object(store.address.bucket, key)


def test_an_object_removed_behind_our_back_is_missing_and_can_be_restored(store: S3ObjectStore) -> None:
    _put(store, CLIP)
    for _ in range(2):
        _remove_behind_our_back(store, KEY)
    with pytest.raises(ObjectMissingError):
        store.stat(KEY)
    with pytest.raises(ObjectMissingError):
        store.read(KEY)
    assert (store.restore(KEY), _read(store, KEY)) == (True, CLIP.data)


def test_an_object_removed_behind_our_back_can_be_put_again(store: S3ObjectStore) -> None:
    _put(store, CLIP)
    _remove_behind_our_back(store, KEY)
    assert (_put(store, CLIP).was_there, _read(store, KEY)) == (False, CLIP.data)


def test_what_was_never_there_cannot_be_restored(store: S3ObjectStore) -> None:
    assert (store.restore(KEY), list(store.versions(KEY))) == (False, [])


def test_an_object_overwritten_behind_our_back_still_has_its_first_version(store: S3ObjectStore) -> None:
    _put(store, CLIP)
    store.put_rendition(KEY, b"something else", "video/mp4")
    latest, first = store.versions(KEY)
    with store.read(KEY, version_id=first.version_id) as reader:
        kept = b"".join(reader)
    is_removed = store.remove_version(KEY, latest.version_id)
    assert (latest.is_latest, kept, is_removed, _read(store, KEY)) == (True, CLIP.data, True, CLIP.data)


def test_versions_are_of_one_key_only(store: S3ObjectStore) -> None:
    for name in ("a", "ab", "a/b"):
        store.put_rendition(f"renditions/{name}", b"content", "image/jpeg")
    assert len(store.versions("renditions/a")) == 1


def test_all_versions_of_an_object_are_deleted(store: S3ObjectStore) -> None:
    _put(store, CLIP)
    store.put_rendition(KEY, b"something else", "video/mp4")
    _remove_behind_our_back(store, KEY)
    result = store.delete(KEY)
    assert (result.deleted_count, result.kept_count, list(store.versions(KEY))) == (2, 0, [])


def test_what_is_not_there_can_be_deleted(store: S3ObjectStore) -> None:
    assert store.delete(KEY).deleted_count == 0


Reader = Callable[[S3ObjectStore], object]


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.stat(KEY),
        lambda store: store.read(KEY),
        lambda store: store.extend_retention(KEY, datetime.now(UTC) + timedelta(minutes=1)),
        lambda store: store.set_hold(KEY, is_held=True),
    ],
    ids=["stat", "read", "extend retention", "hold"],
)
def test_an_object_that_is_not_there_is_missing(store: S3ObjectStore, ask: Reader) -> None:
    with pytest.raises(ObjectMissingError) as missing:
        ask(store)
    assert missing.value.key == KEY
