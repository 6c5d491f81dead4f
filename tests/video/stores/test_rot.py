"""Store requirements: what becomes of bytes that the disk of a store no longer has as they were written, and of
versions that are not the right ones.
"""

from datetime import UTC, datetime, timedelta

import pytest
from minio.commonconfig import COMPLIANCE
from minio.retention import Retention

from services.video.checking import UNREADABLE_ERRORS
from services.video.object_store import ObjectMissingError, object_key
from services.video.s3_copying import SLICE_BYTES
from services.video.s3_store import S3ObjectStore
from tests.video.stores.contents import Content, content
from tests.video.stores.servers import Server, rot, settings

CLIP = content(300_000, seed=7)
KEY = object_key(CLIP.digest)


def read(store: S3ObjectStore, key: str = KEY, version_id: str | None = None) -> bytes:
    with store.read(key, version_id=version_id) as reader:
        return b"".join(reader)


def put(store: S3ObjectStore, wanted: Content = CLIP) -> bool:
    return store.put(wanted.digest, wanted.data, wanted.size_bytes, content_type="video/mp4").was_there


def lock(store: S3ObjectStore) -> None:
    """Lock the current version as somebody else might, whatever it is."""
    until = datetime.now(UTC) + timedelta(seconds=60)
    store._client.set_object_retention(store.address.bucket, KEY, Retention(COMPLIANCE, until))


def test_what_has_rotted_is_an_error_and_never_other_bytes(server: Server) -> None:
    """Both reference stores compare blocks. One that does not gives wrong bytes, and those have another digest."""
    if server.data is None:
        pytest.skip("only a store whose disk is here")
    # Without attempts of our own: a store tries for many seconds by itself.
    store = S3ObjectStore(settings(server, retries=0))
    store.ensure_bucket()
    other = content(300_000, seed=8)
    put(store)
    put(store, other)
    rot(server.data, CLIP.data)

    with pytest.raises(UNREADABLE_ERRORS):
        read(store)

    # So nothing but a read finds it, and nothing else is harmed.
    store.check()
    assert store.stat(KEY).size_bytes == CLIP.size_bytes
    assert read(store, object_key(other.digest)) == other.data
    store.close()


def test_bytes_are_put_anew_over_a_hidden_version_that_is_locked(store: S3ObjectStore) -> None:
    wrong = bytes(len(CLIP.data))
    store.put_rendition(KEY, wrong, "video/mp4")
    lock(store)
    assert (put(store), read(store)) == (True, wrong)

    assert store.hide(KEY)

    assert (put(store), read(store)) == (False, CLIP.data)
    # Both are there; what was hidden is not the current one, and cannot be removed.
    hidden = [one for one in store.versions(KEY) if not one.is_latest and not one.is_delete_marker]
    assert [read(store, version_id=one.version_id) for one in hidden] == [wrong]
    assert not store.remove_version(KEY, hidden[0].version_id)


def test_what_is_hidden_is_missing_and_can_be_restored(store: S3ObjectStore) -> None:
    put(store)

    assert store.hide(KEY)

    with pytest.raises(ObjectMissingError):
        store.stat(KEY)
    assert (store.restore(KEY), read(store)) == (True, CLIP.data)


def test_nothing_is_hidden_where_that_would_be_a_deletion(server: Server) -> None:
    wanted = settings(server)
    store = S3ObjectStore(wanted)
    store._client.make_bucket(wanted.bucket)
    put(store)

    assert not store.hide(KEY)

    assert read(store) == CLIP.data
    store.close()


@pytest.mark.parametrize("size_bytes", [CLIP.size_bytes, SLICE_BYTES + 1], ids=["at once", "in slices"])
def test_a_version_is_copied_over_one_that_is_locked(store: S3ObjectStore, size_bytes: int) -> None:
    wanted = content(size_bytes, seed=7)
    key = object_key(wanted.digest)
    put(store, wanted)
    store.put_rendition(key, b"wrong", "text/plain")
    right = next(one for one in store.versions(key) if not one.is_latest)

    store.raise_version(key, right.version_id)

    assert read(store, key) == wanted.data
    assert store._client.stat_object(store.address.bucket, key).content_type == "video/mp4"
    assert len(store.versions(key)) == 3


def test_a_version_that_is_not_there_is_not_copied(store: S3ObjectStore) -> None:
    put(store)
    (version,) = store.versions(KEY)
    store.put_rendition(KEY, b"wrong", "text/plain")
    store.remove_version(KEY, version.version_id)

    with pytest.raises(ObjectMissingError):
        store.raise_version(KEY, version.version_id)
