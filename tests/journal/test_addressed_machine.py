"""Random histories of the downlink: a province and two cities address entries, counties follow through whichever city
they are below, batches come late and twice, services restart, divisions move.
"""

from collections import defaultdict

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.journal import addressed_reader
from services.journal.addressed_batch import AddressedBatch
from tests.conftest import Databases
from tests.journal.addressed import OTHER_CITY, OTHER_COUNTY, Platform
from tests.journal.journals import Journal, make_tables
from tests.journal.paper_log import CITY, COUNTY, PROVINCE

PLATFORMS = (PROVINCE, CITY, OTHER_CITY, COUNTY, OTHER_COUNTY)
CITIES = (CITY, OTHER_CITY)
COUNTIES = (COUNTY, OTHER_COUNTY)
UNREGISTERED = "141099"
"""A county without a platform: what is addressed to it stays at its city."""

Place = tuple[str, int]
"""Origin and sequence."""


class Downlink(RuleBasedStateMachine):
    """Five platforms over databases that outlive every restart, beside a model of a few sets."""

    urls: dict[str, str]

    def __init__(self) -> None:
        super().__init__()
        self.parents = {
            CITY: PROVINCE,
            OTHER_CITY: PROVINCE,
            COUNTY: CITY,
            OTHER_COUNTY: OTHER_CITY,
            UNREGISTERED: CITY,
        }
        self.platforms: dict[str, Platform] = {}
        for code in PLATFORMS:
            self._start(code).journal.empty()
            self.platforms[code].journal.begin()
        self.audiences: dict[Place, str] = {}
        self.payloads: dict[Place, bytes] = {}
        # What was meant for a platform at any time: it may hold this and nothing else.
        self.ever: defaultdict[str, set[Place]] = defaultdict(set)
        self.sent: list[tuple[str, AddressedBatch]] = []

    def _start(self, code: str) -> Platform:
        self.platforms[code] = Platform(Journal(self.urls[code], code, pool_size=2), self.parents)
        return self.platforms[code]

    def _is_within(self, code: str, division: str) -> bool:
        return code == division or (code in self.parents and self._is_within(self.parents[code], division))

    def _relevant(self, platform: str) -> set[Place]:
        return {
            place
            for place, audience in self.audiences.items()
            if place[0] != platform
            and self._is_within(platform, place[0])
            and (self._is_within(platform, audience) or self._is_within(audience, platform))
        }

    def _remember(self) -> None:
        for code in PLATFORMS:
            self.ever[code] |= self._relevant(code)

    @rule(
        origin=st.sampled_from([PROVINCE, *CITIES]),
        audience=st.sampled_from([PROVINCE, *CITIES, *COUNTIES, UNREGISTERED]),
        count=st.integers(1, 9),
    )
    def address(self, origin: str, audience: str, count: int) -> None:
        start = self.platforms[origin].journal.size(origin)
        payloads = [f"{origin}/{start + number}".encode() for number in range(1, count + 1)]
        self.platforms[origin].address(audience, *payloads)
        for sequence, payload in enumerate(payloads, start + 1):
            self.audiences[origin, sequence] = audience
            self.payloads[origin, sequence] = payload
        self._remember()

    @rule(origin=st.sampled_from(PLATFORMS), count=st.integers(1, 300))
    def weigh(self, origin: str, count: int) -> None:
        """Write what is addressed to nobody."""
        self.platforms[origin].journal.write_many(count)

    @rule(code=st.sampled_from([*CITIES, *COUNTIES]), batches_max=st.integers(1, 3))
    def follow(self, code: str, batches_max: int) -> None:
        """Take some batches from the platform above; the rest is lost with the connection."""
        reader = self.platforms[code]
        through = {position.origin: position.through_sequence for position in reader.positions()}
        for batch in self.platforms[self.parents[code]].batches_for(reader)[:batches_max]:
            self.sent.append((code, batch))
            received = reader.receive(batch)
            # Behind the position an audience of which something is missing is sent whole.
            if batch.steps[0].previous_size >= through.get(batch.origin, 0):
                assert received.duplicate_count == 0, "nothing is sent that the reader says it holds"

    @precondition(lambda self: self.sent)
    @rule(which=st.floats(0, 1, allow_nan=False))
    def send_again(self, which: float) -> None:
        """Send an old batch, as after an answer that was lost."""
        code, batch = self.sent[min(int(which * len(self.sent)), len(self.sent) - 1)]
        received = self.platforms[code].receive(batch)
        entries = [one.sequence for step in batch.steps for one in step.entries if one.sequence > 1]
        assert (received.duplicate_count, received.parked_count) == (len(entries), 0)

    @precondition(lambda self: self.sent)
    @rule(which=st.floats(0, 1, allow_nan=False), code=st.sampled_from([*CITIES, *COUNTIES]))
    def send_elsewhere(self, which: float, code: str) -> None:
        """Send a batch to a platform that it may be a gap for; it is refused or recognised, never misplaced."""
        _, batch = self.sent[min(int(which * len(self.sent)), len(self.sent) - 1)]
        reader = self.platforms[code]
        if code == batch.origin or reader.journal.size(batch.origin):
            return
        places = {(batch.origin, one.sequence) for step in batch.steps for one in step.entries if one.sequence > 1}
        if not places <= self.ever[code]:
            return
        reason = None
        try:
            reader.receive(batch)
        except ServiceError as error:
            reason = error.reason
        assert reason in (None, Reason.SEQUENCE_GAP)

    @rule(code=st.sampled_from(PLATFORMS))
    def restart(self, code: str) -> None:
        self.platforms[code].journal.close()
        self._start(code).journal.begin()

    @rule(county=st.sampled_from([*COUNTIES, UNREGISTERED]), city=st.sampled_from(CITIES))
    def move(self, county: str, city: str) -> None:
        """Put a county below another city; everybody hears of it at once."""
        self.parents[county] = city
        for platform in self.platforms.values():
            platform.move(self.parents)
        self._remember()

    def teardown(self) -> None:
        # Downwards, so that one round is enough; what is asked for again then is nothing.
        for code in (*CITIES, *COUNTIES):
            self.platforms[code].follow(self.platforms[self.parents[code]])
        for code in (*CITIES, *COUNTIES):
            reader = self.platforms[code]
            assert self.platforms[self.parents[code]].batches_for(reader) == []
            self._check(reader)
        for platform in self.platforms.values():
            platform.journal.close()

    def _check(self, reader: Platform) -> None:
        rows = reader.journal.query("SELECT origin, sequence, payload FROM notes")
        held = {(origin, sequence): bytes(payload) for origin, sequence, payload in rows}
        assert held.keys() >= self._relevant(reader.code), "everything that is meant for the platform is there"
        assert held.keys() <= self.ever[reader.code], "and nothing that never was"
        assert held == {place: self.payloads[place] for place in held}
        stored = reader.journal.query(
            "SELECT origin, sequence FROM journal_addressed WHERE entry IS NOT NULL AND sequence > 1"
        )
        assert set(stored) == held.keys()
        receipts = {(origin, sequence) for origin, _ in held for sequence, _ in reader.receipts(origin)}
        assert receipts == held.keys(), "every entry is acknowledged"
        assert not reader.journal.parked()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("steps_max", [2, 256])
def test_any_history_brings_every_platform_what_is_meant_for_it(
    databases: Databases, monkeypatch: pytest.MonkeyPatch, steps_max: int
) -> None:
    monkeypatch.setattr(addressed_reader, "ADDRESSED_BATCH_STEPS_MAX", steps_max)
    urls = {code: databases.borrow("journal-notes", make_tables) for code in PLATFORMS}
    machine: type[Downlink] = type("BoundDownlink", (Downlink,), {"urls": urls})
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
