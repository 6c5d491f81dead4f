"""Store requirements: each way in which a store fails is told apart, on servers that really fail."""

import os
import secrets
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.platform_layout import free_port
from services.video.object_store import (
    BucketMissingError,
    ObjectMissingError,
    StoreError,
    StoreFullError,
    StoreRefusedError,
    StoreUnavailableError,
    WrongCredentialsError,
    object_key,
    staging_key,
)
from services.video.s3_store import S3ObjectStore
from tests.faults.proxy import FaultProxy
from tests.video.stores import servers
from tests.video.stores.contents import content
from tests.video.stores.gateway import Gateway, error

CLIP = content(100_000)
KEY = object_key(CLIP.digest)

Ask = Callable[[S3ObjectStore], object]

EVERYTHING: dict[str, Ask] = {
    "ensure": lambda store: store.ensure_bucket(),
    "check": lambda store: store.check(),
    "put": lambda store: store.put(CLIP.digest, CLIP.data, CLIP.size_bytes),
    "stat": lambda store: store.stat(KEY),
    "read": lambda store: store.read(KEY),
    "list": lambda store: list(store.list("sha256/")),
    "versions": lambda store: store.versions(KEY),
    "restore": lambda store: store.restore(KEY),
    "delete": lambda store: store.delete(KEY),
    "multipart": lambda store: store.create_multipart(staging_key(), "video/mp4"),
    "stale uploads": lambda store: store.abort_stale_multiparts(datetime.now(UTC)),
    "copy": lambda store: store.copy_from_staging(staging_key(), CLIP.digest, CLIP.size_bytes),
}
ASKING = pytest.mark.parametrize("name", EVERYTHING)


def _put(store: S3ObjectStore) -> None:
    store.put(CLIP.digest, CLIP.data, CLIP.size_bytes)


def _is_secret_free(store_error: StoreError, server: servers.Server) -> bool:
    return server.secret_key_file.read_text("ascii").strip() not in str(store_error)


# Away


@ASKING
def test_a_store_that_is_away_is_unavailable(server: servers.Server, name: str) -> None:
    store = servers.store(server, endpoint=f"http://127.0.0.1:{free_port()}", retries=0)
    with pytest.raises(StoreUnavailableError, match="nothing answers at"):
        EVERYTHING[name](store)


def test_a_store_that_is_silent_is_unavailable(server: servers.Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        store = servers.store(server, endpoint=endpoint, read_timeout_seconds=0.2, retries=0)
        with pytest.raises(StoreUnavailableError, match="stays silent"):
            store.check()


def test_a_store_without_an_address_is_unavailable(server: servers.Server) -> None:
    store = servers.store(server, endpoint="http://store.invalid:9000", retries=0)
    with pytest.raises(StoreUnavailableError, match="no address is known"):
        store.check()


def test_a_store_that_drops_connections_is_unavailable(server: servers.Server) -> None:
    proxy = FaultProxy("127.0.0.1:1")
    proxy.refuse()
    try:
        with pytest.raises(StoreUnavailableError, match=r"broke off|nothing answers"):
            servers.store(server, endpoint=f"http://{proxy.address}", retries=1).check()
    finally:
        proxy.close()


def test_something_else_than_a_store_is_refused(server: servers.Server) -> None:
    with (
        Gateway("127.0.0.1:1", lambda method, path: (418, b"a teapot")) as gateway,
        pytest.raises(StoreRefusedError, match="HTTP 418"),
    ):
        servers.store(server, endpoint=gateway.url).ensure_bucket()


@contextmanager
def _failing(
    server: servers.Server, store: S3ObjectStore, count: int, retries: int
) -> Iterator[tuple[S3ObjectStore, Gateway]]:
    """Put a gateway before the store that answers the first `count` requests with SlowDown."""
    if server.url.startswith("https"):
        pytest.skip("the gateway before the store speaks plain HTTP")
    left = [error("SlowDown", 503)] * count

    def answer(_method: str, _path: str) -> tuple[int, bytes] | None:
        return left.pop() if left else None

    with Gateway(server.url.removeprefix("http://"), answer) as gateway:
        yield servers.store(server, endpoint=gateway.url, bucket=store.address.bucket, retries=retries), gateway


def test_a_store_that_is_overloaded_is_asked_again(server: servers.Server, store: S3ObjectStore) -> None:
    _put(store)
    with _failing(server, store, count=2, retries=2) as (failing, gateway), failing.read(KEY) as reader:
        assert (b"".join(reader), len(gateway.requests)) == (CLIP.data, 3)


def test_a_store_that_stays_overloaded_is_asked_as_often_as_was_set(
    server: servers.Server, store: S3ObjectStore
) -> None:
    with _failing(server, store, count=99, retries=2) as (failing, gateway):
        with pytest.raises(StoreUnavailableError, match="SlowDown"):
            failing.read(KEY)
        assert len(gateway.requests) == 3


def test_what_was_acknowledged_is_there_after_the_server_was_killed(tmp_path: Path) -> None:
    server = servers.SeaweedServer(tmp_path)
    server.start()
    try:
        store = servers.store(server, retries=8)
        store.ensure_bucket()
        _put(store)
        server.kill()
        # It is started again by itself; meanwhile requests wait and are made again.
        with store.read(KEY) as reader:
            assert b"".join(reader) == CLIP.data
    finally:
        server.stop()


# Keys


def _other_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "other.key"
    path.write_text(text, "ascii")
    return path


@ASKING
@pytest.mark.parametrize("which", ["access_key_file", "secret_key_file"])
def test_a_wrong_key_is_told(
    server: servers.Server, store: S3ObjectStore, tmp_path: Path, name: str, which: str
) -> None:
    wrong = {which: _other_file(tmp_path, "0123456789abcdef0123"), "bucket": store.address.bucket}
    with pytest.raises(WrongCredentialsError) as refused:
        EVERYTHING[name](servers.store(server, **wrong))
    assert _is_secret_free(refused.value, server)


@pytest.mark.parametrize("text", ["", "\n", "two\nlines", "x" * 5000])
def test_a_file_without_a_key_is_told(server: servers.Server, tmp_path: Path, text: str) -> None:
    store = servers.store(server, secret_key_file=_other_file(tmp_path, text))
    with pytest.raises(WrongCredentialsError, match="holds no key"):
        store.check()


def test_a_key_file_that_is_not_there_is_told(server: servers.Server, tmp_path: Path) -> None:
    store = servers.store(server, access_key_file=tmp_path / "nothing")
    with pytest.raises(WrongCredentialsError, match="cannot be read"):
        store.check()


def test_a_key_is_replaced_without_a_restart(server: servers.Server, store: S3ObjectStore, tmp_path: Path) -> None:
    file = _other_file(tmp_path, "not the secret")
    rotated = servers.store(server, secret_key_file=file, bucket=store.address.bucket)
    with pytest.raises(WrongCredentialsError):
        rotated.check()
    replacement = tmp_path / "replacement"
    replacement.write_bytes(server.secret_key_file.read_bytes())
    replacement.replace(file)
    rotated.check()


# The bucket


@pytest.mark.parametrize("name", [name for name in EVERYTHING if name != "ensure"])
def test_a_bucket_that_was_removed_is_told_from_an_object_that_is_missing(server: servers.Server, name: str) -> None:
    store = servers.store(server)
    store.ensure_bucket()
    store._client.remove_bucket(store.address.bucket)
    with pytest.raises(BucketMissingError):
        EVERYTHING[name](store)


def test_an_object_that_is_missing_is_not_taken_for_a_bucket(store: S3ObjectStore) -> None:
    with pytest.raises(ObjectMissingError):
        store.stat(KEY)


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 48 MB."""
    directory = tmp_path / "small"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(directory)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a small disk")
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


def _fill(server: servers.SeaweedServer | servers.MinioServer) -> list[bytes]:
    """Put objects until the store says that it is full; return the digests that it has taken, which can be read."""
    store = servers.store(server, retries=1)
    store.ensure_bucket()
    taken: list[bytes] = []
    for photo in (content(4_000_000, seed) for seed in range(20)):
        try:
            store.put(photo.digest, photo.data, photo.size_bytes)
        except StoreFullError:
            break
        taken.append(photo.digest)
    for digest in taken:
        with store.read(object_key(digest)) as reader:
            assert b"".join(reader)
    store.check()
    return taken


@pytest.mark.parametrize("kind", ["seaweedfs", "minio"])
def test_a_full_disk_is_told_and_what_was_stored_can_be_read(small_disk: Path, kind: str) -> None:
    if kind == "minio":
        servers.need_minio()
    server = servers.SeaweedServer(small_disk) if kind == "seaweedfs" else servers.MinioServer(small_disk)
    server.start()
    try:
        taken = _fill(server)
    finally:
        server.stop()
    # Of those that do not fit on the disk some were taken, and the rest was refused.
    assert 2 < len(taken) <= 12


# How it is reached


def test_a_region_that_is_not_the_one_of_the_store_does_not_matter_or_is_told(server: servers.Server) -> None:
    store = servers.store(server, region=f"elsewhere-{secrets.token_hex(2)}")
    try:
        store.ensure_bucket()
    except (WrongCredentialsError, StoreRefusedError):
        return
    _put(store)
    assert store.stat(KEY).size_bytes == CLIP.size_bytes
