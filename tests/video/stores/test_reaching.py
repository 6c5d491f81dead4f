"""Store requirements: TLS with a private authority, and buckets in host names."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.video.object_store import StoreUnavailableError, object_key
from services.video.s3_store import S3ObjectStore
from tests.certificates import new_authority, platform_files
from tests.video.stores import servers
from tests.video.stores.contents import content

CLIP = content(70 * 1024 * 1024)
DOMAIN = "store.example"


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.MinioServer]:
    """Run MinIO with a certificate of a private authority."""
    servers.need_minio()
    directory = tmp_path_factory.mktemp("tls")
    files = platform_files(directory / "issued", new_authority(), "141025", hosts=["127.0.0.1"])
    certificates = directory / "certificates"
    certificates.mkdir()
    (certificates / "public.crt").write_bytes(files.certificate.read_bytes())
    (certificates / "private.key").write_bytes(files.key.read_bytes())
    server = servers.MinioServer(directory / "server", certificates=certificates, ca_file=files.ca)
    server.start()
    yield server
    server.stop()


def _round_trip(store: S3ObjectStore, tmp_path: Path) -> bool:
    store.ensure_bucket()
    store.put(CLIP.digest, CLIP.file(tmp_path), CLIP.size_bytes)
    small = content(1000)
    for _ in range(2):
        store.put(small.digest, small.data, small.size_bytes)
    with store.read(object_key(CLIP.digest)) as reader:
        return b"".join(reader) == CLIP.data


def test_a_private_authority_is_trusted_when_it_is_named(tls_server: servers.MinioServer, tmp_path: Path) -> None:
    assert _round_trip(servers.store(tls_server), tmp_path)


def test_a_private_authority_is_not_trusted_by_itself(tls_server: servers.MinioServer) -> None:
    with pytest.raises(StoreUnavailableError, match="certificate that cannot be trusted"):
        servers.store(tls_server, ca_file=None, retries=0).check()


def test_another_authority_does_not_stand_in(tls_server: servers.MinioServer, tmp_path: Path) -> None:
    other = platform_files(tmp_path, new_authority(), "141025").ca
    with pytest.raises(StoreUnavailableError, match="certificate that cannot be trusted"):
        servers.store(tls_server, ca_file=other, retries=0).check()


@pytest.fixture
def name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every name below DOMAIN lead to this machine."""
    resolve = socket.getaddrinfo

    def stand_in(host: Any, *rest: Any, **named: Any) -> Any:
        return resolve("127.0.0.1" if str(host).endswith(DOMAIN) else host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", stand_in)


@pytest.mark.usefixtures("name_server")
def test_a_certificate_of_another_host_is_not_trusted(tls_server: servers.MinioServer) -> None:
    with pytest.raises(StoreUnavailableError, match="certificate that cannot be trusted"):
        servers.store(tls_server, endpoint=f"https://{DOMAIN}:{tls_server.port}", retries=0).check()


def test_a_file_without_certificates_is_refused_at_once(tls_server: servers.MinioServer) -> None:
    with pytest.raises(ValueError, match="holds no certificates"):
        servers.store(tls_server, ca_file=tls_server.secret_key_file)


@pytest.mark.usefixtures("name_server")
def test_a_bucket_in_the_host_name(tmp_path: Path) -> None:
    servers.need_minio()
    server = servers.MinioServer(tmp_path / "server", environment={"MINIO_DOMAIN": DOMAIN})
    server.start()
    try:
        endpoint = f"http://{DOMAIN}:{server.port}"
        store = servers.store(server, endpoint=endpoint, public_endpoint=endpoint, is_path_style=False)
        is_same = _round_trip(store, tmp_path)
        url = store.presign_get("key", 60, content_type="video/mp4")
    finally:
        server.stop()
    assert (is_same, url.startswith(f"http://{store.address.bucket}.{DOMAIN}:{server.port}/key?")) == (True, True)
