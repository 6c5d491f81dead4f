"""Journals of a county and of the city that holds its copy, to be verified; each test changes clones of its own."""

from collections.abc import Iterator

import pytest

from tests.cli.verified_journals import Keys, carry_up, cloned, write_county
from tests.conftest import Databases


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def templates(databases: Databases, keys: Keys) -> tuple[str, str]:
    """Write both journals once; every test changes clones."""
    urls = databases.create(), databases.create()
    write_county(urls[0], keys)
    carry_up(urls[0], urls[1], keys)
    return urls


@pytest.fixture
def county_url(databases: Databases, templates: tuple[str, str]) -> Iterator[str]:
    yield from cloned(databases, templates[0])


@pytest.fixture
def city_url(databases: Databases, templates: tuple[str, str]) -> Iterator[str]:
    yield from cloned(databases, templates[1])
