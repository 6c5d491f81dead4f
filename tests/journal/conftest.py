"""Journals for tests: county 141025 below city 141000 below province 140000, each on a database of its own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from services.journal.group_commit import GroupCommit
from services.journal.store import tail
from tests.conftest import Databases
from tests.journal.addressed import Platform
from tests.journal.journals import WAIT_SECONDS, Journal, make_tables
from tests.journal.paper_log import CITY, COUNTY, PROVINCE
from tests.journal.recorder import Committer, CommitterOf, Recorder

MakeJournal = Callable[..., Journal]


@pytest.fixture(scope="session", autouse=True)
def _short_poll() -> Iterator[None]:
    """Let a journal stop quickly: its tail looks up only as often as it polls."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tail, "TAIL_POLL_SECONDS", 0.2)
        patch.setattr(tail, "RECONNECT_SECONDS", 0.02)
        yield


@pytest.fixture
def journal(databases: Databases) -> Iterator[MakeJournal]:
    """Make journals, each on a new database unless a URL is given; they are closed after the test."""
    with ExitStack() as stack:

        def make(platform: str, url: str | None = None, **options: Any) -> Journal:
            if url is None:
                url = databases.borrow("journal-notes", make_tables)
                stack.callback(databases.give_back, "journal-notes", url)
            made = Journal(url, platform, **options)
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture
def county(journal: MakeJournal) -> Journal:
    """Make the county's journal, begun."""
    return journal(COUNTY).begin()


@pytest.fixture
def city(journal: MakeJournal) -> Journal:
    """Make the city's journal, begun."""
    return journal(CITY).begin()


@pytest.fixture
def province(journal: MakeJournal) -> Journal:
    """Make the province's journal, begun."""
    return journal(PROVINCE).begin()


@pytest.fixture
def upper(province: Journal) -> Platform:
    """Make the province with what it addresses and follows."""
    return Platform(province)


@pytest.fixture
def middle(city: Journal) -> Platform:
    """Make the city with what it addresses and follows."""
    return Platform(city)


@pytest.fixture
def lower(county: Journal) -> Platform:
    """Make the county with what it addresses and follows."""
    return Platform(county)


@pytest.fixture
def committer_of() -> Iterator[CommitterOf]:
    """Start group commits that are stopped after the test."""
    with ExitStack() as stack:

        def start(recorder: Recorder) -> Committer:
            committer: Committer = GroupCommit("test", recorder.plan, recorder.commit)
            committer.start()
            stack.callback(committer.stop, WAIT_SECONDS)
            stack.callback(recorder.gate.set)
            return committer

        yield start
