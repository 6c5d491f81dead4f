"""Store requirements: a bucket is one platform's, whatever the order in which services and tools come to it."""

import pytest

from services.video import s3_owner
from services.video.object_store import BucketMissingError, StoreRefusedError, object_key, staging_key
from services.video.s3_connection import S3Connection
from services.video.s3_owner import OWNER_KEY
from services.video.s3_store import S3ObjectStore
from tests.video.stores import servers
from tests.video.stores.contents import content

COUNTY, OTHER = "141025", "141026"
CLIP = content(5000)


def _of(server: servers.Server, store: S3ObjectStore, owner: str) -> S3ObjectStore:
    return servers.store(server, bucket=store.address.bucket, owner=owner)


def test_the_bucket_is_taken_by_the_first_and_kept_for_its_replicas(
    server: servers.Server, store: S3ObjectStore
) -> None:
    for replica in (_of(server, store, COUNTY), _of(server, store, COUNTY)):
        replica.check()
        replica.put(CLIP.digest, CLIP.data, CLIP.size_bytes)
    with store.read(OWNER_KEY) as reader:
        assert b"".join(reader) == b"141025\n"


def test_another_platform_puts_nothing_there_whether_it_has_looked_before_or_not(
    server: servers.Server, store: S3ObjectStore
) -> None:
    _of(server, store, COUNTY).check()
    other, key = _of(server, store, OTHER), staging_key()
    store.put_rendition(key, CLIP.data, "video/mp4")
    with pytest.raises(StoreRefusedError, match=COUNTY):
        other.put(CLIP.digest, CLIP.data, CLIP.size_bytes)
    with pytest.raises(StoreRefusedError, match=COUNTY):
        other.copy_from_staging(key, CLIP.digest, CLIP.size_bytes)
    with pytest.raises(StoreRefusedError, match=COUNTY):
        other.check()
    assert list(store.versions(object_key(CLIP.digest))) == []


def test_of_two_platforms_that_come_at_once_one_has_the_bucket(
    server: servers.Server, store: S3ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = _of(server, store, COUNTY), _of(server, store, OTHER)
    read, comes = s3_owner.read, [second]

    def read_before_the_other_one(client: S3Connection, bucket: str) -> str | None:
        found = read(client, bucket)
        if comes:
            comes.pop().check()
        return found

    monkeypatch.setattr(s3_owner, "read", read_before_the_other_one)
    with pytest.raises(StoreRefusedError, match=OTHER):
        first.check()
    second.check()


def test_a_bucket_that_another_platform_was_given_is_noticed_with_the_next_check(
    server: servers.Server, store: S3ObjectStore
) -> None:
    former = _of(server, store, COUNTY)
    former.put(CLIP.digest, CLIP.data, CLIP.size_bytes)
    store.put_rendition(OWNER_KEY, b"141026\n", "text/plain")
    for _ in range(2):
        with pytest.raises(StoreRefusedError, match=OTHER):
            former.check()
    with pytest.raises(StoreRefusedError, match=OTHER):
        former.put(CLIP.digest, CLIP.data, CLIP.size_bytes)


def test_a_bucket_changes_hands_when_its_mark_is_removed_by_hand(server: servers.Server, store: S3ObjectStore) -> None:
    _of(server, store, COUNTY).check()
    store._client.remove_object(store.address.bucket, OWNER_KEY)
    _of(server, store, OTHER).check()
    with pytest.raises(StoreRefusedError, match=OTHER):
        _of(server, store, COUNTY).check()


def test_a_bucket_that_is_made_anew_is_taken_again(server: servers.Server) -> None:
    own = servers.store(server, owner=COUNTY)
    own.ensure_bucket()
    own.check()
    own.delete(OWNER_KEY)
    own._client.remove_bucket(own.address.bucket)
    with pytest.raises(BucketMissingError):
        own.check()
    own.ensure_bucket()
    own.put(CLIP.digest, CLIP.data, CLIP.size_bytes)
    assert own.stat(OWNER_KEY).size_bytes == len(b"141025\n")


def test_tools_do_not_ask(server: servers.Server, store: S3ObjectStore) -> None:
    _of(server, store, COUNTY).check()
    store.check()
    store.put(CLIP.digest, CLIP.data, CLIP.size_bytes)
    assert store.stat(object_key(CLIP.digest)).size_bytes == CLIP.size_bytes
