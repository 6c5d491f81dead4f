"""Services that keep the registry's word on access in a real database, one start after the other."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from services.common.access import keeping
from services.common.access import tables as access_tables
from services.common.access.tokens import new_secret
from services.common.database import Engine, create_engine
from tests.common.access_kept.keeping import Keeping, Start
from tests.common.clocks import SetClock


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Return the engine of a database with the tables."""
    metadata = sqlalchemy.MetaData()
    access_tables.define(metadata)
    made = create_engine(database_url, pool_size=2, application_name="test")
    metadata.create_all(made)
    yield made
    made.dispose()


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "service.token"
    path.write_text(f"{new_secret()}\n")
    return path


@pytest.fixture
def start(engine: Engine, token_file: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a service's keeping on the database; all are stopped after the test."""
    for name in ("PAUSE_SECONDS", "FAILED_PAUSE_SECONDS"):
        monkeypatch.setattr(keeping, name, 0.01)
    started: list[Keeping] = []

    def begin() -> Keeping:
        started.append(Keeping(engine, token_file, clock))
        return started[-1]

    yield begin
    for one in started:
        one.keeper.stop()
