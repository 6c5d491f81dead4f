"""Rule sets of platforms above judge where nobody nearer has published the same: real registries, carried down by hand
as relays would, beside a real weighing service.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import structlog

from services.common.errors import ServiceError
from services.weighing.app import build
from services.weighing.config import WeighingConfig
from services.weighing.rows import day_number
from tests.conftest import Databases
from tests.metrics import shown_by
from tests.registry import examples
from tests.registry.calls import create, update
from tests.registry.downlink import carry_down
from tests.registry.harness import START, RunningRegistry
from tests.waiting import wait_until
from tests.weighing.harness import PLATFORM, RunningWeighing, reason_of, register_site
from tests.weighing.records import COMPLIANT, SUSPECTED, UNIT, record, records
from zhichao.journal.v1 import entry_pb2
from zhichao.registry.v1 import resources_pb2
from zhichao.weighing.v1 import weighing_pb2

CITY, PROVINCE, ZONE, OTHER_COUNTY = "141000", "140000", "140771", "141026"

LARGE = 500
"""Records of a batch that is worth the way to another process."""

MakeRegistry = Callable[[str], RunningRegistry]


@pytest.fixture
def make_registry(databases: Databases, socket_directory: Path, short_tail_poll: None) -> Iterator[MakeRegistry]:
    """Return what runs the registry of a platform until the end of the test."""
    with ExitStack() as running:

        def make(platform: str) -> RunningRegistry:
            made = RunningRegistry(databases, socket_directory, platform)
            running.callback(made.close)
            return made

        yield make


@pytest.fixture
def province(make_registry: MakeRegistry) -> RunningRegistry:
    return make_registry(PROVINCE)


@pytest.fixture
def city(make_registry: MakeRegistry) -> RunningRegistry:
    return make_registry(CITY)


@pytest.fixture
def county(make_registry: MakeRegistry) -> RunningRegistry:
    """Run the county's registry, whose site is judged by the rule set `example`."""
    made = make_registry(PLATFORM)
    register_site(made, rule_set_id="example")
    return made


@pytest.fixture
def beside(databases: Databases, socket_directory: Path, county: RunningRegistry) -> Iterator[RunningWeighing]:
    """Run a weighing service beside the county's registry."""
    running = RunningWeighing(databases, socket_directory, county.environment["ZHICHAO_REGISTRY_LISTEN"])
    yield running
    running.close()


def rule_set(limit_kg: int, version: int = 1, **fields: str) -> resources_pb2.RuleSet:
    """Return a rule set by which a rigid truck with three axles may have a weight."""
    made = examples.rule_set(version=version, **fields)
    for row in made.gross_limits:
        if row.code == "rigid-3":
            row.limit_kg = limit_kg
    made.ClearField("modifiers")
    return made


def judged(weighing: RunningWeighing, record_id: str, **fields: object) -> weighing_pb2.Judgement:
    return weighing.record(record(record_id, **fields)).judgement


def whose(judgement: weighing_pb2.Judgement) -> tuple[str, str, int]:
    """Return by which rule set a weighing was judged."""
    return judgement.rule_set_origin, judgement.rule_set_id, judgement.rule_set_version


def positions(weighing: RunningWeighing) -> dict[str, int]:
    return weighing.app._follower.addressed.positions


def wait_for(weighing: RunningWeighing, registry: RunningRegistry) -> None:
    """Wait until the service knows everything that a registry above has addressed."""
    entries = [entry_pb2.Entry.FromString(entry) for entry in registry.entries()]
    newest = max(sequence for sequence, entry in enumerate(entries, 1) if entry.audience)
    wait_until(lambda: positions(weighing).get(registry.platform, 0) >= newest, f"it knows {registry.platform}'s")


def test_the_province_s_judges_two_hops_below_until_the_county_has_one_of_its_own(
    province: RunningRegistry, city: RunningRegistry, county: RunningRegistry, beside: RunningWeighing
) -> None:
    refusal = beside.refused_record(record("before"))
    assert (refusal.reason, refusal.metadata) == ("NO_RULE_SET", {"rule_set_id": "example"})
    assert "wait until it has come down" in refusal.message

    create(province, rule_set(23_000))
    carry_down(province, city)
    assert beside.refused_record(record("before")).reason == "NO_RULE_SET"
    carry_down(city, county)
    # At once: a record that lacks its rules makes the service look, whatever its stream has brought.
    by_province = judged(beside, "before")
    assert whose(by_province) == (PROVINCE, "example", 1)
    assert (by_province.verdict, by_province.lenient_limit_kg) == (SUSPECTED, 23_000)

    create(city, rule_set(23_500))
    carry_down(city, county)
    wait_for(beside, city)
    assert whose(judged(beside, "by-city")) == (CITY, "example", 1)

    create(county, rule_set(30_000))
    size = county.size()
    wait_until(lambda: beside.app._follower.position >= size, "the county's own is known")
    own = judged(beside, "by-county")
    assert whose(own) == ("", "example", 1)
    assert (own.verdict, own.lenient_limit_kg) == (COMPLIANT, 30_000)
    # What was judged before stays as it was.
    assert beside.record(record("before")).judgement == by_province


def test_a_new_version_from_above_replaces_the_former_one_from_its_first_day(
    city: RunningRegistry, county: RunningRegistry, beside: RunningWeighing
) -> None:
    create(city, rule_set(23_000))
    create(city, rule_set(30_000, version=2, effective_from="2025-03-01"))
    carry_down(city, county)
    wait_for(beside, city)
    assert whose(judged(beside, "first-day")) == (CITY, "example", 2)
    day_before = record("day-before")
    day_before.weigh_time.seconds -= 86_400
    assert whose(beside.record(day_before).judgement) == (CITY, "example", 1)
    years_back = record("years-back")
    years_back.weigh_time.FromJsonString("2012-01-01T00:00:00Z")
    judgement = beside.record(years_back).judgement
    assert whose(judgement) == (CITY, "example", 1)
    assert "rule-set-not-in-force" in judgement.reasons


def test_what_is_for_another_county_judges_nothing_here(
    city: RunningRegistry, county: RunningRegistry, beside: RunningWeighing
) -> None:
    create(city, rule_set(23_000, jurisdiction=OTHER_COUNTY))
    create(city, rule_set(24_000, rule_set_id="for-all"))
    carry_down(city, county)
    wait_for(beside, city)
    assert beside.refused_record(record()).reason == "NO_RULE_SET"
    assert beside.query("SELECT origin, audience FROM directory_addressed_entries") == [(CITY, CITY)]


def test_a_city_does_not_judge_by_what_it_only_passes_on(
    databases: Databases, socket_directory: Path, province: RunningRegistry, city: RunningRegistry
) -> None:
    register_site(city, "c-1", division_code=CITY, rule_set_id="example")
    register_site(city, "c-2", division_code=PLATFORM, rule_set_id="example")
    create(province, rule_set(23_000, jurisdiction=PLATFORM))
    carry_down(province, city)
    running = RunningWeighing(databases, socket_directory, city.environment["ZHICHAO_REGISTRY_LISTEN"], CITY)
    try:
        wait_for(running, province)
        wait_until(
            lambda: (
                reason_of(running.record_all([record("of-county", source_unit_id="c-2")])[0]) != "SERVICE_UNAVAILABLE"
            ),
            "it knows the unit",
        )
        assert running.refused_record(record(source_unit_id="c-1")).reason == "NO_RULE_SET"
        # A unit of the city's that lies in the county has the county's rules.
        assert whose(judged(running, "of-county", source_unit_id="c-2")) == (PROVINCE, "example", 1)
    finally:
        running.close()


def test_it_judges_on_while_the_registry_is_away_and_after_a_restart(
    city: RunningRegistry, county: RunningRegistry, beside: RunningWeighing
) -> None:
    create(city, rule_set(23_000))
    carry_down(city, county)
    first = judged(beside, "before")
    county.stop()
    assert judged(beside, "while-away") == first
    beside.stop()
    beside.start()
    assert judged(beside, "after-restart") == first

    county.start()
    create(city, rule_set(24_000, version=2))
    carry_down(city, county)
    wait_for(beside, city)
    assert whose(judged(beside, "newer")) == (CITY, "example", 2)
    held = beside.query("SELECT origin, sequence FROM directory_addressed_entries ORDER BY 1, 2")
    assert len(held) == 2
    assert beside.query("SELECT origin, through_sequence FROM directory_addressed_logs") == [(CITY, held[-1][1])]


def test_a_restart_reads_on_where_it_stood(
    city: RunningRegistry, county: RunningRegistry, beside: RunningWeighing, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(city, rule_set(23_000))
    carry_down(city, county)
    judged(beside, "before")
    beside.stop()
    beside.start()
    taken: list[str] = []
    follower = beside.app._follower.addressed
    take = follower._take

    def noted(batch: object) -> object:
        taken.append(str(batch))
        return take(batch)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(follower, "_take", noted)
    before = follower.progress
    assert beside.refused_record(record(source_unit_id="nobody")).reason == "UNKNOWN_SOURCE_UNIT"
    assert follower.progress > before
    assert taken == []


def test_a_registry_that_begins_later_brings_what_came_meanwhile(
    city: RunningRegistry, county: RunningRegistry, beside: RunningWeighing
) -> None:
    """The stream is cut; while it is, a rule set comes down. Nobody asks for it: the stream alone brings it."""
    wait_until(lambda: beside.app._follower.addressed.loop.call is not None, "it follows")
    county.stop()
    county.start()
    create(city, rule_set(23_000))
    carry_down(city, county)
    wait_for(beside, city)
    assert whose(judged(beside, "after")) == (CITY, "example", 1)


def test_a_backlog_is_judged_by_it_in_the_process_beside(
    city: RunningRegistry, county: RunningRegistry, beside: RunningWeighing
) -> None:
    create(city, rule_set(23_000))
    carry_down(city, county)
    judged(beside, "first")
    (process,) = beside.app._processes
    wait_until(lambda: beside.record_all(records(LARGE)) and process._is_ready, "the process beside is there")
    answers = beside.record_all(records(LARGE, "backlog"))
    assert process._directory_version == beside.app._directory.changes_since(0)[0]
    assert {whose(answer.recorded.judgement) for answer in answers} == {(CITY, "example", 1)}


def test_replicas_both_know_it_and_keep_it_once(
    city: RunningRegistry, county: RunningRegistry, beside: RunningWeighing
) -> None:
    replica = beside.replica()
    try:
        create(city, rule_set(23_000))
        create(city, rule_set(24_000, version=2))
        carry_down(city, county)
        for number, service in enumerate((beside, replica)):
            wait_for(service, city)
            assert whose(judged(service, f"r-{number}")) == (CITY, "example", 2)
        assert beside.query("SELECT count(*) FROM directory_addressed_entries") == [(2,)]
    finally:
        replica.close()


def test_a_zone_between_judges_once_its_place_is_recorded(
    make_registry: MakeRegistry, county: RunningRegistry, beside: RunningWeighing
) -> None:
    """What came before anybody here knew that the zone is above comes then, and is used then."""
    zone = make_registry(ZONE)
    create(zone, examples.division(parent_code=ZONE))
    create(zone, rule_set(23_000))
    # A registry learns a moment later what a division that it has recorded means for its readers.
    wait_until(lambda: carry_down(zone, county) == 1, "the zone knows that the county is below it")
    assert beside.refused_record(record()).reason == "NO_RULE_SET"
    create(county, examples.division(parent_code=ZONE))
    beside.access.say(parents={PLATFORM: ZONE})
    wait_until(
        lambda: beside.query("SELECT audience FROM directory_addressed_entries") == [(ZONE,)], "it comes after all"
    )
    assert whose(judged(beside, "by-zone")) == (ZONE, "example", 1)


class Asking(RunningWeighing):
    """A weighing service that is told by its registry which division lies below which, as in production."""

    def start(self) -> None:
        """Start it on its database."""
        self.app = build(WeighingConfig.load(self.environment), self.clock)
        self.app.start()
        self._running.callback(self.app.stop, 2.0)

    def judging(self) -> str:
        """Return whose rule set judges at the county's scale; empty when none does."""
        try:
            return self.app._directory.site(
                UNIT, "gate-1", "scale-1", day_number(int(START.timestamp()))
            ).rule_set_origin
        except ServiceError:
            return ""


def test_who_is_above_is_known_after_a_restart_without_the_registry(
    databases: Databases, socket_directory: Path, make_registry: MakeRegistry, county: RunningRegistry
) -> None:
    zone = make_registry(ZONE)
    create(zone, examples.division(parent_code=ZONE))
    create(zone, rule_set(23_000))
    create(county, examples.division(parent_code=ZONE))
    # A registry learns a moment later what a division that it has recorded means for its readers.
    wait_until(lambda: carry_down(zone, county) == 1, "the zone knows that the county is below it")
    running = Asking(databases, socket_directory, county.environment["ZHICHAO_REGISTRY_LISTEN"])
    try:
        wait_until(lambda: running.judging() == ZONE, "the zone's judges")
        running.stop()
        county.stop()
        running.start()
        wait_until(lambda: running.judging() == ZONE, "it does so by what is kept")
    finally:
        running.close()


def test_another_history_is_left_alone_and_nothing_else(
    province: RunningRegistry, city: RunningRegistry, county: RunningRegistry, beside: RunningWeighing
) -> None:
    create(city, rule_set(23_000))
    carry_down(city, county)
    first = judged(beside, "before")
    beside.stop()
    beside.query("UPDATE directory_addressed_logs SET root = decode(repeat('00', 32), 'hex')")
    with structlog.testing.capture_logs() as logs:
        beside.start()
        create(province, rule_set(24_000, rule_set_id="of-the-province"))
        carry_down(province, city)
        create(city, rule_set(30_000, version=2))
        carry_down(city, county)
        wait_for(beside, province)
        wait_until(lambda: [one for one in logs if one["event"] == "addressed_entries_refused"], "it is told")
    shown = shown_by(beside.app.metrics)
    assert shown.value("zhichao_directory_refused_logs") == 1
    assert shown.values("zhichao_directory_rule_sets", "origin") == {PROVINCE: 1, CITY: 1, PLATFORM: 2}
    told = [one for one in logs if one["event"] == "addressed_entries_refused"]
    assert {(one["origin"], one["reason"], one["log_level"]) for one in told} == {(CITY, "HISTORY_MISMATCH", "error")}
    # What is held goes on judging, and refusals say what is wrong with the record, not with the registry.
    assert judged(beside, "after") == first
    assert beside.refused_record(record(source_unit_id="nobody")).reason == "UNKNOWN_SOURCE_UNIT"
    update(county, examples.source_unit(source_unit_id=UNIT, rule_set_id="of-the-province"), "rule_set_id")
    size = county.size()
    wait_until(lambda: beside.app._follower.position >= size, "the unit names another one")
    assert whose(judged(beside, "by-province")) == (PROVINCE, "of-the-province", 1)


def test_a_database_that_fails_while_it_is_taken_is_got_over(
    city: RunningRegistry, county: RunningRegistry, beside: RunningWeighing
) -> None:
    follower = beside.app._follower.addressed
    wait_until(lambda: follower.progress, "the stream is followed")
    before = follower.progress
    beside.query("ALTER TABLE directory_addressed_entries RENAME TO elsewhere")
    with structlog.testing.capture_logs() as logs:
        create(city, rule_set(23_000))
        carry_down(city, county)
        assert reason_of(beside.record_all([record("x")])[0]) == "SERVICE_UNAVAILABLE"
        wait_until(
            lambda: len([one for one in logs if one.get("follower") == "addressed-follower"]) >= 2, "two tries failed"
        )
    # What cannot be kept is no progress: after progress the next try follows at once, again and again.
    assert follower.progress == before
    beside.query("ALTER TABLE elsewhere RENAME TO directory_addressed_entries")
    wait_for(beside, city)
    assert whose(judged(beside, "x")) == (CITY, "example", 1)
