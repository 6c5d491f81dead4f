"""The migrations of each service make exactly the tables that its code describes, the journal's among them."""

import importlib
from pathlib import Path

import pytest
import sqlalchemy

from services.common.database import differences, upgrade
from services.journal import tables as journal_tables

ROOT = Path(__file__).resolve().parents[2]
SERVICES = sorted(path.parent.name for path in ROOT.glob("services/*/migrations"))


def _metadata(service: str) -> sqlalchemy.MetaData:
    module = importlib.import_module(f"services.{service}.tables")
    (found,) = (value for value in vars(module).values() if isinstance(value, sqlalchemy.MetaData))
    return found


def test_services_with_a_database() -> None:
    assert {"registry", "weighing"} <= set(SERVICES)


@pytest.mark.parametrize("service", SERVICES)
def test_migrations_make_the_tables_of_the_code(service: str, database_url: str) -> None:
    upgrade(database_url, f"services.{service}.migrations")

    assert differences(database_url, _metadata(service)) == []


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_the_tables_of_the_journal(service: str) -> None:
    journal = sqlalchemy.MetaData()
    journal_tables.define(journal)

    assert set(journal.tables) <= set(_metadata(service).tables)
