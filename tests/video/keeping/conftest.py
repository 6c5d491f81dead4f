"""A video service's keeping without its server: real database, real journal, real S3 server."""

import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.object_server import ObjectServer
from services.journal.store import tail
from tests.conftest import Databases
from tests.video.completeness.examples import SCHEMA, migrate
from tests.video.keeping.harness import Kept, StoreAt, free_port


@pytest.fixture(scope="session", autouse=True)
def _short_poll() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tail, "TAIL_POLL_SECONDS", 0.05)
        yield


@pytest.fixture(scope="session")
def store_at() -> Iterator[StoreAt]:
    """Run an S3 server as a laptop platform has it, for all tests; each gets a bucket of its own."""
    with tempfile.TemporaryDirectory(prefix="zc-s3-") as name:
        root = Path(name)
        keys = (root / "access.key", root / "secret.key")
        with ObjectServer(root / "data", port=free_port(), access_key_file=keys[0], secret_key_file=keys[1]) as server:
            yield StoreAt(server, *keys)


@pytest.fixture
def kept(databases: Databases, store_at: StoreAt, tmp_path: Path) -> Iterator[Kept]:
    """Return the keeping of a county with an empty bucket."""
    url = databases.borrow(SCHEMA, migrate)
    made = Kept(url, store_at, tmp_path)
    yield made
    made.close()
    databases.give_back(SCHEMA, url)


@pytest.fixture
def now() -> Callable[[], datetime]:
    """Return the time by the machine's clock."""
    return lambda: datetime.now(UTC)
