"""The servers that the store requirements are run against, each started once for each file of tests: SeaweedFS has room
for as many buckets as the disk has gigabytes, and what is locked stays.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.video.s3_store import S3ObjectStore
from tests.video.stores import servers
from tools import minio

KINDS = ["seaweedfs", "minio", *(["given"] if servers.URL_VARIABLE in os.environ else [])]


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """Run one server after the other."""
    kind: str = request.param
    directory: Path = tmp_path_factory.mktemp(kind)
    if kind == "given":
        yield servers.GivenServer()
        return
    if kind == "minio" and minio.program() is None:
        pytest.skip(minio.NOT_INSTALLED)
    running = servers.SeaweedServer(directory) if kind == "seaweedfs" else servers.MinioServer(directory)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture
def store(server: servers.Server) -> Iterator[S3ObjectStore]:
    """Make a store with a new bucket."""
    made = servers.store(server)
    made.ensure_bucket()
    yield made
    made.close()
