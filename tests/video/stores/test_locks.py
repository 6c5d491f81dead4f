"""Store requirements: locks that hold, and a self-test that finds out when they do not."""

from datetime import UTC, datetime, timedelta

import pytest
from minio.versioningconfig import VersioningConfig

from cli.platform_layout import free_port
from services.video import lock_self_test
from services.video.custody import EXTENSION_DAYS_MAX
from services.video.object_store import (
    LOCK_TEST_PREFIX,
    LockState,
    ObjectMissingError,
    WrongCredentialsError,
    object_key,
)
from services.video.s3_store import S3ObjectStore
from tests.video.stores import servers
from tests.video.stores.contents import content
from tests.video.stores.gateway import Gateway, error

CLIP = content(5000)
KEY = object_key(CLIP.digest)


def _soon(seconds: int = 30) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds)


def _put(store: S3ObjectStore, until: datetime | None = None) -> None:
    store.put(CLIP.digest, CLIP.data, CLIP.size_bytes, retain_until=until)


def _locked_until(store: S3ObjectStore) -> datetime | None:
    found = store._bucket.retention(KEY)
    return None if found is None else found.retain_until_date


def test_an_object_is_stored_locked(store: S3ObjectStore) -> None:
    until = _soon()
    _put(store, until)
    result = store.delete(KEY)
    assert (_locked_until(store), result.deleted_count, result.kept_count) == (until, 0, 1)


def test_an_object_in_parts_is_stored_locked(store: S3ObjectStore) -> None:
    large, until = content(65 * 1024 * 1024), _soon()
    store.put(large.digest, large.data, large.size_bytes, retain_until=until)
    assert store.delete(object_key(large.digest)).kept_count == 1


def test_the_lock_of_what_was_there_is_extended(store: S3ObjectStore) -> None:
    _put(store, _soon(20))
    _put(store, later := _soon(40))
    assert _locked_until(store) == later


def test_a_lock_is_never_shortened(store: S3ObjectStore) -> None:
    _put(store, until := _soon(40))
    answers = [store.extend_retention(KEY, _soon(10)), store.extend_retention(KEY, until)]
    _put(store, _soon(20))
    assert (answers, _locked_until(store)) == ([True, True], until)


@pytest.mark.parametrize("seconds", [-86_400, 0, 1])
def test_bytes_whose_retention_is_over_are_stored_all_the_same(store: S3ObjectStore, seconds: int) -> None:
    _put(store, _soon(seconds))
    answer = store.extend_retention(KEY, _soon(seconds))
    _put(store, _soon(seconds))
    assert (answer, _locked_until(store), store.stat(KEY).size_bytes) == (False, None, CLIP.size_bytes)


def test_what_was_not_locked_can_be(store: S3ObjectStore) -> None:
    _put(store)
    before = _locked_until(store)
    store.extend_retention(KEY, until := _soon())
    assert (before, _locked_until(store)) == (None, until)


def test_an_object_under_hold_is_kept_until_it_is_released(store: S3ObjectStore) -> None:
    _put(store)
    held = [store.set_hold(KEY, is_held=True) for _ in range(2)]
    kept = store.delete(KEY).kept_count
    released = [store.set_hold(KEY, is_held=False) for _ in range(2)]
    assert (held, kept, released, store.delete(KEY).deleted_count) == ([True, True], 1, [True, True], 1)


def test_a_version_over_a_locked_one_can_be_removed_and_the_locked_one_cannot(store: S3ObjectStore) -> None:
    _put(store, _soon())
    store.put_rendition(KEY, b"something else", "video/mp4")
    latest, locked = store.versions(KEY)
    removed = [store.remove_version(KEY, latest.version_id), store.remove_version(KEY, locked.version_id)]
    assert (removed, [one.version_id for one in store.versions(KEY)]) == ([True, False], [locked.version_id])


def test_what_is_kept_is_not_hidden(store: S3ObjectStore) -> None:
    _put(store, _soon())
    store._client.remove_object(store.address.bucket, KEY)
    store.delete(KEY)
    with store.read(KEY) as reader:
        assert b"".join(reader) == CLIP.data


def test_nothing_is_locked_when_locks_are_switched_off(server: servers.Server, store: S3ObjectStore) -> None:
    unlocked = servers.store(server, bucket=store.address.bucket, uses_object_lock=False)
    _put(unlocked, _soon())
    answers = (unlocked.extend_retention(KEY, _soon()), unlocked.set_hold(KEY, is_held=True))
    assert (answers, unlocked.delete(KEY).deleted_count) == ((False, False), 1)


def test_a_hold_is_taken_off_all_versions(store: S3ObjectStore) -> None:
    """One of them may lie under wrong bytes, or under a delete marker."""
    _put(store)
    store.set_hold(KEY, is_held=True)
    store.put_rendition(KEY, b"something else", "video/mp4")
    store.set_hold(KEY, is_held=True)
    store._client.remove_object(store.address.bucket, KEY)
    assert (store.set_hold(KEY, is_held=False), store.delete(KEY).kept_count) == (True, 0)


def test_a_hold_is_taken_off_also_when_locks_are_switched_off(server: servers.Server, store: S3ObjectStore) -> None:
    _put(store)
    store.set_hold(KEY, is_held=True)
    unlocked = servers.store(server, bucket=store.address.bucket, uses_object_lock=False)
    assert (unlocked.set_hold(KEY, is_held=False), unlocked.delete(KEY).deleted_count) == (True, 1)


def test_a_hold_on_nothing_is_taken_off_nothing(store: S3ObjectStore) -> None:
    for is_held in (True, False):
        with pytest.raises(ObjectMissingError):
            store.set_hold(KEY, is_held=is_held)


def test_no_lock_is_for_longer_than_retention_may_be_moved_ahead(store: S3ObjectStore) -> None:
    """Whatever a platform below has sent: a lock cannot be taken back. Nothing is locked for so long by this test."""
    end = store._bucket.lock_end(datetime.max.replace(tzinfo=UTC))
    assert end is not None
    assert end - datetime.now(UTC) <= timedelta(days=EXTENSION_DAYS_MAX)


def test_a_lock_is_not_set_again_because_the_store_keeps_whole_seconds(
    server: servers.Server, store: S3ObjectStore
) -> None:
    if server.url.startswith("https"):
        pytest.skip("the gateway before the store speaks plain HTTP")
    until = _soon().replace(microsecond=999_999)
    _put(store, until)
    with Gateway(server.url.removeprefix("http://"), lambda method, path: None) as gateway:
        asked = servers.store(server, endpoint=gateway.url, bucket=store.address.bucket)
        asked.extend_retention(KEY, until)
        asked.extend_retention(KEY, until + timedelta(seconds=5))
        written = [path for method, path in gateway.requests if method == "PUT"]
    assert len(written) == 1


# Buckets without locks


@pytest.fixture
def plain(server: servers.Server) -> S3ObjectStore:
    made = servers.store(server)
    made._client.make_bucket(made.address.bucket)
    return made


def test_a_bucket_of_somebody_else_is_taken_as_it_is(plain: S3ObjectStore) -> None:
    facts = plain.ensure_bucket()
    assert (facts.is_new, facts.is_versioned, facts.has_object_lock) == (False, False, False)


def test_a_bucket_without_locks_stores_and_deletes(plain: S3ObjectStore) -> None:
    _put(plain, _soon())
    with plain.read(KEY) as reader:
        read = b"".join(reader)
    found = plain.versions(KEY)
    assert (read, plain.set_hold(KEY, is_held=True), len(found), plain.delete(KEY).deleted_count) == (
        CLIP.data,
        False,
        1,
        1,
    )
    assert list(plain.versions(KEY)) == []


def _versioned_since(plain: S3ObjectStore) -> None:
    plain._client.set_bucket_versioning(plain.address.bucket, VersioningConfig("Enabled"))


@pytest.mark.parametrize("is_covered", [False, True], ids=["alone", "under wrong bytes"])
def test_what_was_stored_before_the_bucket_had_versions_is_deleted_and_not_hidden(
    plain: S3ObjectStore, is_covered: bool
) -> None:
    _put(plain)
    _versioned_since(plain)
    if is_covered:
        plain.put_rendition(KEY, b"something else", "video/mp4")
    plain.delete(KEY)
    assert list(plain.versions(KEY)) == []


def test_what_was_stored_before_the_bucket_had_versions_comes_back(plain: S3ObjectStore) -> None:
    _put(plain)
    _versioned_since(plain)
    plain.put_rendition(KEY, b"something else", "video/mp4")
    wrong, right = plain.versions(KEY)
    with plain.read(KEY, version_id=right.version_id) as reader:
        assert b"".join(reader) == CLIP.data
    assert plain.remove_version(KEY, wrong.version_id)
    with plain.read(KEY) as reader:
        assert b"".join(reader) == CLIP.data


def test_the_self_test_says_that_a_bucket_has_no_locks(plain: S3ObjectStore) -> None:
    assert plain.lock_self_test().state is LockState.UNSUPPORTED


@pytest.mark.parametrize(("ended", "kept_count"), [(timedelta(seconds=1), 1), (timedelta(hours=1), None)])
def test_a_lock_that_has_ended_since_the_refusal_was_the_reason(
    server: servers.Server, store: S3ObjectStore, ended: timedelta, kept_count: int | None
) -> None:
    """A refusal long after the end has another reason: the key may not delete."""
    if server.url.startswith("https"):
        pytest.skip("the gateway before the store speaks plain HTTP")
    _put(store)
    until = datetime.now(UTC) - ended
    retention = (
        f"<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>{until:%Y-%m-%dT%H:%M:%SZ}</RetainUntilDate></Retention>"
    )

    def answer(method: str, path: str) -> tuple[int, bytes] | None:
        if method == "DELETE":
            return error("AccessDenied", 403)
        return (200, retention.encode()) if "retention" in path.partition("?")[2] else None

    with Gateway(server.url.removeprefix("http://"), answer) as gateway:
        refused = servers.store(server, endpoint=gateway.url, bucket=store.address.bucket)
        if kept_count is None:
            with pytest.raises(WrongCredentialsError):
                refused.delete(KEY)
        else:
            assert refused.delete(KEY).kept_count == kept_count


# Buckets that may not be asked, or are others than before


def test_a_key_that_may_not_ask_for_locks_knows_nothing_and_learns_it_when_it_may(
    server: servers.Server, store: S3ObjectStore
) -> None:
    if server.url.startswith("https"):
        pytest.skip("the gateway before the store speaks plain HTTP")
    denied = [True]

    def answer(method: str, path: str) -> tuple[int, bytes] | None:
        is_question = method == "GET" and "object-lock" in path.partition("?")[2]
        return error("AccessDenied", 403) if is_question and denied else None

    with Gateway(server.url.removeprefix("http://"), answer) as gateway:
        asked = servers.store(server, endpoint=gateway.url, bucket=store.address.bucket)
        _put(asked, _soon())
        with pytest.raises(WrongCredentialsError):
            asked.set_hold(KEY, is_held=True)
        before = (asked.lock_self_test().state, _locked_until(store))
        denied.clear()
        _put(asked, until := _soon())
        after = (asked.set_hold(KEY, is_held=True), asked.lock_self_test().state, _locked_until(store))
    assert (before, after) == ((LockState.UNKNOWN, None), (True, LockState.ENFORCED, until))


def test_a_bucket_that_was_made_anew_by_hand_is_asked_again(plain: S3ObjectStore) -> None:
    client, bucket = plain._client, plain.address.bucket
    assert plain.lock_self_test().state is LockState.UNSUPPORTED
    client.remove_bucket(bucket)
    client.make_bucket(bucket, object_lock=True)
    assert plain.lock_self_test().state is LockState.ENFORCED


# The self-test


def test_the_self_test_finds_that_locks_are_enforced(store: S3ObjectStore) -> None:
    begin = datetime.now(UTC)
    found = store.lock_self_test()
    assert (found.state, begin <= found.test_time <= datetime.now(UTC)) == (LockState.ENFORCED, True), found.detail


@pytest.mark.parametrize("is_held", [False, True], ids=["lock ended", "killed while it was held"])
def test_left_overs_of_the_self_test_go_with_the_next_one(store: S3ObjectStore, is_held: bool) -> None:
    store.put_rendition(f"{LOCK_TEST_PREFIX}old", b"of a test yesterday", "text/plain")
    store.set_hold(f"{LOCK_TEST_PREFIX}old", is_held=is_held)
    store.lock_self_test()
    assert f"{LOCK_TEST_PREFIX}old" not in [found.key for found in store.list(LOCK_TEST_PREFIX)]


@pytest.mark.parametrize("part", ["retention", "legal-hold"])
def test_the_self_test_finds_that_a_store_takes_locks_and_deletes(
    server: servers.Server, store: S3ObjectStore, part: str
) -> None:
    if server.url.startswith("https"):
        pytest.skip("the gateway before the store speaks plain HTTP")

    def answer(method: str, path: str) -> tuple[int, bytes] | None:
        is_lock = method == "PUT" and part in path.partition("?")[2]
        return (200, b"") if is_lock else None

    with Gateway(server.url.removeprefix("http://"), answer) as gateway:
        found = servers.store(server, endpoint=gateway.url, bucket=store.address.bucket).lock_self_test()
    assert found.state is LockState.NOT_ENFORCED, found.detail


@pytest.mark.parametrize("code", ["SlowDown", "AccessDenied", "InternalError"])
def test_a_store_that_cannot_be_read_for_a_moment_has_not_deleted_what_is_locked(
    server: servers.Server, store: S3ObjectStore, code: str
) -> None:
    if server.url.startswith("https"):
        pytest.skip("the gateway before the store speaks plain HTTP")

    def answer(method: str, path: str) -> tuple[int, bytes] | None:
        query = path.partition("?")[2]
        is_read = method == "GET" and query.startswith("versionId=") and "&" not in query
        return error(code, 403 if code == "AccessDenied" else 503) if is_read else None

    with Gateway(server.url.removeprefix("http://"), answer) as gateway:
        found = servers.store(server, endpoint=gateway.url, bucket=store.address.bucket, retries=0).lock_self_test()
        was_read = any(answer(*request) for request in gateway.requests)
    assert (was_read, found.state) == (True, LockState.UNKNOWN), found.detail


def test_the_self_test_knows_nothing_while_the_store_is_away(server: servers.Server) -> None:
    found = servers.store(server, endpoint=f"http://127.0.0.1:{free_port()}", retries=0).lock_self_test()
    assert found.state is LockState.UNKNOWN, found.detail


def test_the_self_test_knows_nothing_without_a_bucket(server: servers.Server) -> None:
    assert servers.store(server).lock_self_test().state is LockState.UNKNOWN


def test_a_lock_of_the_self_test_outlives_a_difference_of_clocks() -> None:
    # What Signature Version 4 allows.
    assert timedelta(minutes=lock_self_test.LOCK_MINUTES) > timedelta(minutes=15)
