"""Random histories: a county writes, a city and a province receive in random batches, late, twice, after restarts."""

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from services.journal.limits import BATCH_RECORDS_MAX
from services.journal.receiver import IncomingBatch
from tests.conftest import Databases
from tests.journal.invariants import check_kept_checkpoints, check_reading, known_log
from tests.journal.journals import Journal, assert_same_log, incoming, make_tables
from tests.journal.paper_log import CITY, COUNTY, PROVINCE

PLATFORMS = (COUNTY, CITY, PROVINCE)
PAYLOAD_SIZES = (0, 1, 100, 3_000, 60_000)
"""Mostly small; the largest make batches end at their bytes instead of their number."""

share = st.floats(0, 1, allow_nan=False)


class ThreeLevels(RuleBasedStateMachine):
    """County → city → province over databases that outlive every restart."""

    urls: dict[str, str]

    def __init__(self) -> None:
        super().__init__()
        self.journals = {platform: Journal(self.urls[platform], platform, pool_size=2) for platform in PLATFORMS}
        for journal in self.journals.values():
            journal.empty()
            journal.begin()
        self.sent: list[IncomingBatch] = []

    def teardown(self) -> None:
        self.county.write_many(1)
        for upper, lower in ((CITY, COUNTY), (PROVINCE, CITY)):
            self.journals[upper].pull(self.journals[lower], COUNTY)
            assert_same_log(self.journals[upper], self.county, COUNTY)
        known = known_log(self.county)
        for platform in (CITY, PROVINCE):
            journal = self.journals[platform]
            check_kept_checkpoints(journal, known)
            check_reading(journal, known, 1)
            assert list(journal.notes(COUNTY)) == list(range(2, len(known.entries) + 1))
            assert not journal.parked()
        for journal in self.journals.values():
            journal.close()

    @property
    def county(self) -> Journal:
        return self.journals[COUNTY]

    @rule(count=st.one_of(st.integers(1, 5), st.integers(1, 700)), size=st.sampled_from(PAYLOAD_SIZES))
    def write(self, count: int, size: int) -> None:
        bounded = min(count, 1 + 8_000_000 // (size + 1))
        start = self.county.size(COUNTY)
        self.county.write(*[f"{start + number}/".encode().ljust(size, b".") for number in range(bounded)])

    @rule(
        pair=st.sampled_from([(CITY, COUNTY), (PROVINCE, CITY)]),
        back=st.integers(0, 300),
        records_max=st.sampled_from([1, 2, 50, 255, 256, 257, 1_000, BATCH_RECORDS_MAX]),
        batches_max=st.integers(1, 6),
    )
    def push(self, pair: tuple[str, str], back: int, records_max: int, batches_max: int) -> None:
        """Push from a position at or before the receiver's, as after an answer that was lost."""
        upper, lower = (self.journals[platform] for platform in pair)
        if not lower.size(COUNTY):
            return
        first = max(1, upper.size(COUNTY) + 1 - back)
        for _ in range(batches_max):
            if first > lower.size(COUNTY):
                return
            batch = lower.reader.read(COUNTY, first, records_max)
            assert batch is not None
            self.sent.append(incoming(batch))
            (received,) = upper.receive(incoming(batch))
            assert received.head.size >= batch.last_sequence
            first = batch.last_sequence + 1

    @precondition(lambda self: self.sent)
    @rule(which=share, platform=st.sampled_from([CITY, PROVINCE]))
    def send_again(self, which: float, platform: str) -> None:
        """Send an old batch, maybe to a platform that it was not sent to before."""
        batch = self.sent[min(int(which * len(self.sent)), len(self.sent) - 1)]
        journal = self.journals[platform]
        size = journal.size(COUNTY)
        if batch.first_sequence > size + 1:
            return
        last = batch.first_sequence + len(batch.entries) - 1
        (received,) = journal.receive(batch)
        assert received.head.size == max(size, last)
        assert received.duplicate_count == min(size, last) - batch.first_sequence + 1

    @rule(platform=st.sampled_from(PLATFORMS))
    def restart(self, platform: str) -> None:
        self.journals[platform].close()
        self.journals[platform] = Journal(self.urls[platform], platform, pool_size=2).begin()

    @rule(
        platform=st.sampled_from(PLATFORMS),
        start=share,
        records_max=st.sampled_from([1, 100, 256, BATCH_RECORDS_MAX]),
    )
    def read_one(self, platform: str, start: float, records_max: int) -> None:
        journal = self.journals[platform]
        size = journal.size(COUNTY)
        if not size:
            return
        first = 1 + min(int(start * size), size - 1)
        batch = journal.reader.read(COUNTY, first, records_max)
        assert batch is not None
        known_log(self.county).check_batch(batch, first)

    @invariant()
    def copies_are_prefixes(self) -> None:
        sizes = [self.journals[platform].size(COUNTY) for platform in PLATFORMS]
        assert sizes[0] >= sizes[1]
        assert sizes[0] >= sizes[2]


@pytest.mark.timeout(600)
def test_any_history_gives_the_same_log_at_every_level(databases: Databases) -> None:
    urls = {platform: databases.borrow("journal-notes", make_tables) for platform in PLATFORMS}
    machine: type[ThreeLevels] = type("BoundThreeLevels", (ThreeLevels,), {"urls": urls})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=15,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
    for url in urls.values():
        databases.give_back("journal-notes", url)
