"""The rights that the documentation gives a key are enough for all that the service does, and for nothing more."""

import json
import re
import secrets
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from minio import MinioAdmin

from services.video.object_store import LockState, WrongCredentialsError, object_key, staging_key
from services.video.s3_connection import KeyFiles
from services.video.s3_store import S3ObjectStore
from tests.video.stores import servers
from tests.video.stores.contents import content

DOCUMENT = Path(__file__).parents[3] / "docs" / "operate" / "object-stores.md"
BUCKET = "zhichao-evidence"
CLIP = content(70_000_000)
PHOTO = content(1000)


def _documented_policy() -> dict[str, object]:
    found = re.search(r"```json\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    assert found is not None
    policy: dict[str, object] = json.loads(found[1])
    return policy


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3ObjectStore]:
    """Run MinIO with the bucket there, and a store whose key has the documented rights."""
    servers.need_minio()
    directory = tmp_path_factory.mktemp("rights")
    server = servers.MinioServer(directory / "server")
    server.start()
    try:
        owner = servers.store(server, bucket=BUCKET)
        owner.ensure_bucket()
        keys = {name: directory / name for name in ("access_key_file", "secret_key_file")}
        for path in keys.values():
            path.write_text(secrets.token_hex(10), "ascii")
        access_key, secret_key = (path.read_text("ascii") for path in keys.values())
        root = KeyFiles(server.access_key_file, server.secret_key_file)
        admin = MinioAdmin(endpoint=server.url.removeprefix("http://"), credentials=root, secure=False)
        admin.policy_add("evidence", policy=_documented_policy())
        admin.user_add(access_key, secret_key)
        admin.policy_set("evidence", user=access_key)
        yield servers.store(server, bucket=BUCKET, owner="141025", **keys)
    finally:
        server.stop()


def test_the_bucket_is_taken_as_it_is(limited: S3ObjectStore) -> None:
    limited.check()
    facts = limited.ensure_bucket()
    assert (facts.is_new, facts.is_versioned, facts.has_object_lock) == (False, True, True)


def test_objects_are_stored_locked_read_listed_and_deleted(limited: S3ObjectStore, tmp_path: Path) -> None:
    until = datetime.now(UTC) + timedelta(minutes=2)
    for wanted in (PHOTO, CLIP):
        limited.put(wanted.digest, wanted.file(tmp_path), wanted.size_bytes, retain_until=until)
    key = object_key(PHOTO.digest)
    with limited.read(key, 10, 10) as reader:
        part = b"".join(reader)
    answers = (
        limited.stat(key).size_bytes,
        part,
        limited.extend_retention(key, until),
        limited.set_hold(key, is_held=True),
        limited.delete(key).kept_count,
        limited.set_hold(key, is_held=False),
        object_key(CLIP.digest) in [found.key for found in limited.list("sha256/")],
        limited.restore(key),
    )
    assert answers == (PHOTO.size_bytes, PHOTO.data[10:20], True, True, 1, True, True, True)


def test_uploads_in_parts_are_begun_listed_and_aborted(limited: S3ObjectStore) -> None:
    key = staging_key()
    upload_id = limited.create_multipart(key, "video/mp4")
    parts = list(limited.list_parts(key, upload_id))
    assert (parts, limited.abort_stale_multiparts(datetime.now(UTC) + timedelta(minutes=1))) == ([], 1)


def test_a_staged_object_is_copied_and_removed(limited: S3ObjectStore) -> None:
    key, wanted = staging_key(), content(2000)
    limited.put_rendition(key, wanted.data, "image/jpeg")
    result = limited.copy_from_staging(key, wanted.digest, wanted.size_bytes)
    assert (result.was_there, limited.delete(key).deleted_count) == (False, 1)


def test_the_self_test_is_made(limited: S3ObjectStore) -> None:
    found = limited.lock_self_test()
    assert found.state is LockState.ENFORCED, found.detail


def test_no_bucket_is_made(limited: S3ObjectStore) -> None:
    other = S3ObjectStore(replace(limited._settings, bucket="another-bucket"))
    with pytest.raises(WrongCredentialsError):
        other.ensure_bucket()
