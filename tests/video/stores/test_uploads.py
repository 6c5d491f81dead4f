"""Store requirements: uploads straight to the store, links for others, and what is left of uploads that ended."""

import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.video.object_store import (
    BytesDifferError,
    ObjectMissingError,
    PartsRefusedError,
    PutResult,
    StoreError,
    UploadGoneError,
    object_key,
    staging_key,
)
from services.video.s3_store import S3ObjectStore
from services.video.store_contents import StoredPart
from tests.video.stores import servers
from tests.video.stores.contents import Content, content

# S3 takes parts of 5 MiB and more, except for the last.
PART_BYTES = 5 * 1024 * 1024
CLIP = content(PART_BYTES + 1000)
KEY = object_key(CLIP.digest)
# Addresses and links of tests are good for so long.
SECONDS = 120

HTTP_FORBIDDEN = 403

# Uploads that S3 lists at once.
UPLOADS_PAGE = 1000


def _put_part(url: str, data: bytes) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, data=data, method="PUT")) as answer:  # noqa: S310 - of the store under test
        return str(answer.headers["ETag"])


def _stage(store: S3ObjectStore, wanted: Content) -> str:
    """Upload bytes in parts as a caller does, and return their staging key."""
    key = staging_key()
    upload_id = store.create_multipart(key, "video/mp4")
    for number, begin in enumerate(range(0, wanted.size_bytes, PART_BYTES), start=1):
        part = wanted.data[begin : begin + PART_BYTES]
        _put_part(store.presign_put_part(key, upload_id, number, len(part), SECONDS), part)
    store.complete_multipart(key, upload_id, store.list_parts(key, upload_id))
    return key


def _read(store: S3ObjectStore, key: str) -> bytes:
    with store.read(key) as reader:
        return b"".join(reader)


def test_parts_put_by_a_caller_become_an_object(store: S3ObjectStore) -> None:
    key = _stage(store, CLIP)
    assert _read(store, key) == CLIP.data


def test_parts_are_listed_by_number_with_their_sizes(store: S3ObjectStore) -> None:
    key = staging_key()
    upload_id = store.create_multipart(key, "video/mp4")
    etags = {}
    for number in (3, 1):
        url = store.presign_put_part(key, upload_id, number, number * 1000, SECONDS)
        etags[number] = _put_part(url, CLIP.data[: number * 1000])
    found = store.list_parts(key, upload_id)
    assert list(found) == [StoredPart(number, number * 1000, etags[number].strip('"')) for number in (1, 3)]


def test_of_a_part_put_again_the_one_counts_that_is_named(store: S3ObjectStore) -> None:
    key = staging_key()
    upload_id = store.create_multipart(key, "video/mp4")
    _put_part(store.presign_put_part(key, upload_id, 1, 2000, SECONDS), CLIP.data[:2000])
    _put_part(store.presign_put_part(key, upload_id, 1, 1000, SECONDS), CLIP.data[:1000])
    # Some list the first one, too.
    named = [part for part in store.list_parts(key, upload_id) if part.size_bytes == 1000]
    store.complete_multipart(key, upload_id, named)
    assert _read(store, key) == CLIP.data[:1000]


def test_an_upload_without_parts_lists_none(store: S3ObjectStore) -> None:
    key = staging_key()
    assert list(store.list_parts(key, store.create_multipart(key, "video/mp4"))) == []


def test_an_object_is_not_made_of_parts_that_are_not_there(store: S3ObjectStore) -> None:
    key = staging_key()
    upload_id = store.create_multipart(key, "video/mp4")
    _put_part(store.presign_put_part(key, upload_id, 1, 1000, SECONDS), CLIP.data[:1000])
    (part,) = store.list_parts(key, upload_id)
    with pytest.raises(PartsRefusedError):
        store.complete_multipart(key, upload_id, [replace(part, part_number=2)])


def test_an_upload_that_was_aborted_is_gone_and_may_be_aborted_again(store: S3ObjectStore) -> None:
    key = staging_key()
    upload_id = store.create_multipart(key, "video/mp4")
    for _ in range(2):
        store.abort_multipart(key, upload_id)
    with pytest.raises(UploadGoneError):
        store.list_parts(key, upload_id)


def test_uploads_that_were_begun_long_ago_are_aborted_and_others_stay(store: S3ObjectStore) -> None:
    keys = [staging_key() for _ in range(3)]
    uploads = {key: store.create_multipart(key, "video/mp4") for key in keys}
    now = datetime.now(UTC)
    before = store.abort_stale_multiparts(now - timedelta(hours=1))
    still = [list(store.list_parts(key, upload_id)) for key, upload_id in uploads.items()]
    after = store.abort_stale_multiparts(now + timedelta(minutes=1))
    assert (before, still, after, store.abort_stale_multiparts(now + timedelta(minutes=1))) == (0, [[], [], []], 3, 0)


def test_more_of_them_than_a_page_holds_are_aborted(store: S3ObjectStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: store.create_multipart(staging_key(), "video/mp4"), range(UPLOADS_PAGE + 50)))
    kept = set(made[:10])
    now = datetime.now(UTC) + timedelta(minutes=1)
    aborted = [store.abort_stale_multiparts(now, under_way) for under_way in (kept, kept, frozenset[str]())]
    assert aborted == [UPLOADS_PAGE + 40, 0, 10]


def test_a_link_for_a_part_is_good_for_that_part_only(store: S3ObjectStore) -> None:
    key = staging_key()
    upload_id = store.create_multipart(key, "video/mp4")
    url = store.presign_put_part(key, upload_id, 1, 7, SECONDS).replace("partNumber=1", "partNumber=2")
    with pytest.raises(urllib.error.HTTPError) as refused:
        _put_part(url, b"content")
    refused.value.close()
    assert refused.value.code == HTTP_FORBIDDEN


@pytest.mark.parametrize("size", [0, 6, 8, 5000])
def test_a_link_for_a_part_takes_exactly_its_bytes(store: S3ObjectStore, size: int) -> None:
    key = staging_key()
    upload_id = store.create_multipart(key, "video/mp4")
    url = store.presign_put_part(key, upload_id, 1, 7, SECONDS)
    with pytest.raises(urllib.error.HTTPError) as refused:
        _put_part(url, bytes(size))
    refused.value.close()
    assert (refused.value.code, list(store.list_parts(key, upload_id))) == (HTTP_FORBIDDEN, [])


def test_a_link_for_a_part_is_good_for_a_week_at_most(store: S3ObjectStore) -> None:
    for seconds in (0, 8 * 24 * 3600):
        with pytest.raises(ValueError, match="604800"):
            store.presign_put_part("uploads/1", "upload", 1, 7, seconds)


# Sealing what was staged


def test_a_staged_object_is_copied_to_the_key_of_its_digest(store: S3ObjectStore) -> None:
    key = _stage(store, CLIP)
    results = [store.copy_from_staging(key, CLIP.digest, CLIP.size_bytes, content_type="video/mp4") for _ in range(2)]
    store.delete(key)
    assert (results, _read(store, KEY), len(store.versions(KEY))) == (
        [PutResult(KEY, was_there=False), PutResult(KEY, was_there=True)],
        CLIP.data,
        1,
    )


def test_a_copy_is_locked(store: S3ObjectStore) -> None:
    key = _stage(store, CLIP)
    until = datetime.now(UTC) + timedelta(seconds=30)
    store.copy_from_staging(key, CLIP.digest, CLIP.size_bytes, retain_until=until)
    assert (store.delete(KEY).kept_count, store.delete(key).deleted_count) == (1, 1)


def test_a_staged_object_of_another_size_is_refused(store: S3ObjectStore) -> None:
    key = _stage(store, CLIP)
    with pytest.raises(BytesDifferError):
        store.copy_from_staging(key, CLIP.digest, CLIP.size_bytes - 1)


def test_what_was_never_staged_is_missing(store: S3ObjectStore) -> None:
    key = staging_key()
    with pytest.raises(ObjectMissingError) as missing:
        store.copy_from_staging(key, CLIP.digest, CLIP.size_bytes)
    assert missing.value.key == key


# Links for others


def test_a_link_plays_the_object_with_its_type(store: S3ObjectStore) -> None:
    store.put(CLIP.digest, CLIP.data, CLIP.size_bytes)
    url = store.presign_get(KEY, SECONDS, content_type="video/mp4")
    request = urllib.request.Request(url, headers={"Range": "bytes=10-19"})  # noqa: S310 - of the store under test
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - as above
        headers, part = answer.headers, answer.read()
    assert (headers["Content-Type"], headers["Content-Disposition"], part) == ("video/mp4", "inline", CLIP.data[10:20])


def test_a_link_saves_the_object_under_a_name(store: S3ObjectStore) -> None:
    store.put(CLIP.digest, CLIP.data, CLIP.size_bytes)
    with urllib.request.urlopen(store.presign_get(KEY, SECONDS, content_type="video/mp4", file_name="a.mp4")) as answer:  # noqa: S310 - as above
        disposition = answer.headers["Content-Disposition"]
    assert disposition == 'attachment; filename="a.mp4"'


def test_a_link_is_good_for_one_object_only(store: S3ObjectStore) -> None:
    store.put(CLIP.digest, CLIP.data, CLIP.size_bytes)
    other = object_key(content(1).digest)
    store.put(content(1).digest, content(1).data, 1)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(store.presign_get(KEY, SECONDS, content_type="video/mp4").replace(KEY, other))  # noqa: S310 - as above
    refused.value.close()
    assert refused.value.code == HTTP_FORBIDDEN


def test_nothing_is_offered_without_an_address_that_callers_reach(server: servers.Server) -> None:
    store = servers.store(server, public_endpoint=None)
    with pytest.raises(RuntimeError):
        store.presign_get(KEY, SECONDS, content_type="video/mp4")
    assert store.has_public_endpoint is False


def test_links_lead_to_the_address_that_callers_reach(server: servers.Server) -> None:
    store = servers.store(server, public_endpoint="https://evidence.example:9443")
    url = store.presign_put_part("uploads/1", "upload", 1, 7, SECONDS)
    assert url.startswith(f"https://evidence.example:9443/{store.address.bucket}/uploads/1?")


def test_no_link_is_longer_than_a_week(store: S3ObjectStore) -> None:
    with pytest.raises((ValueError, StoreError)):
        store.presign_get(KEY, 8 * 24 * 3600, content_type="video/mp4")
