"""A video service's keeping without its server: real database, real journal, real S3 server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Databases
from tests.video.harness import SCHEMA, migrate
from tests.video.keeping.harness import Kept
from tests.video.stores.servers import Server


@pytest.fixture
def kept(databases: Databases, evidence_store: Server, tmp_path: Path, short_tail_poll: None) -> Iterator[Kept]:
    """Return the keeping of a county with an empty bucket."""
    url = databases.borrow(SCHEMA, migrate)
    made = Kept(url, evidence_store, tmp_path)
    yield made
    made.close()
    databases.give_back(SCHEMA, url)
