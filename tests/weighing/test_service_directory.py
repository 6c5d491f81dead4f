"""The directory of units, scales and rules: usable without the registry, in step with it, unharmed by what it cannot
use.
"""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.weighing import convert, convert_directory
from services.weighing import directory as directory_module
from services.weighing import rule_sets as rule_sets_module
from services.weighing.directory import Certificate, Directory, Scale, SourceUnit, WeighingPoint
from services.weighing.rules import RuleSet
from services.weighing.verdict import CompiledRules
from tests.conftest import Databases
from tests.registry import examples
from tests.registry.calls import create, update
from tests.registry.harness import START, RunningRegistry, write_secret
from tests.waiting import wait_until
from tests.weighing.harness import PLATFORM, RunningWeighing, reason_of, register_site
from tests.weighing.records import UNIT, record, records, vehicle


@pytest.fixture
def own_registry(databases: Databases, socket_directory: Path, short_tail_poll: None) -> Iterator[RunningRegistry]:
    """Run a registry for this test alone, so that it can be stopped."""
    running = RunningRegistry(databases, socket_directory, PLATFORM)
    register_site(running)
    yield running
    running.close()


@pytest.fixture
def beside(databases: Databases, socket_directory: Path, own_registry: RunningRegistry) -> Iterator[RunningWeighing]:
    """Run a weighing service beside that registry."""
    running = RunningWeighing(databases, socket_directory, own_registry.environment["ZHICHAO_REGISTRY_LISTEN"])
    yield running
    running.close()


@pytest.fixture
def silent_address(socket_directory: Path) -> Iterator[str]:
    """Return the address of something that takes connections and never says a word."""
    path = socket_directory / "silent.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(16)
        yield f"unix:{path}"


def test_records_are_judged_while_the_registry_is_down_and_after_a_restart(
    beside: RunningWeighing, own_registry: RunningRegistry
) -> None:
    first = beside.record(record("before"))
    own_registry.stop()
    assert beside.record(record("while-away")).judgement == first.judgement
    beside.stop()
    beside.start()
    assert beside.record(record("after-restart")).judgement == first.judgement
    assert beside.refused_record(record("nowhere", source_unit_id="nobody")).reason == "SERVICE_UNAVAILABLE"
    own_registry.start()
    register_site(own_registry, "u-back")
    wait_until(
        lambda: reason_of(beside.record_all([record("back", source_unit_id="u-back")])[0]) == "recorded",
        "the registry is followed again",
    )


def test_a_follower_that_pauses_goes_on_at_once_when_a_record_needs_it(
    beside: RunningWeighing, own_registry: RunningRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = beside.app._follower
    follow, failures, is_well = follower.loop._follow, list[int](), threading.Event()

    def failing() -> None:
        if not is_well.is_set():
            failures.append(1)
            raise ServiceError(Reason.SERVICE_UNAVAILABLE, "away")
        follow()

    monkeypatch.setattr(follower.loop, "_follow", failing)
    wait_until(lambda: follower.loop.call is not None, "it follows")
    assert follower.loop.call is not None
    follower.loop.call.cancel()
    # The pauses between tries have grown beyond what a record waits.
    wait_until(lambda: len(failures) == 4, "it pauses")
    is_well.set()
    register_site(own_registry, "u-paused")
    assert beside.record(record(source_unit_id="u-paused")).receipt.sequence == 2


@pytest.mark.usefixtures("short_tail_poll")
def test_a_registry_that_starts_later_is_found(databases: Databases, socket_directory: Path) -> None:
    write_secret(socket_directory / f"{PLATFORM}.service")
    weighing = RunningWeighing(databases, socket_directory, f"unix:{socket_directory}/{PLATFORM}.sock")
    try:
        assert weighing.refused_record(record()).reason == "SERVICE_UNAVAILABLE"
        registry = RunningRegistry(databases, socket_directory, PLATFORM)
        try:
            register_site(registry)
            wait_until(lambda: reason_of(weighing.record_all([record()])[0]) == "recorded", "the registry is found")
        finally:
            registry.close()
    finally:
        weighing.close()


def test_a_change_is_followed(beside: RunningWeighing, own_registry: RunningRegistry) -> None:
    assert beside.record(record("a")).judgement.rule_set_id == "order-62-2016"
    update(own_registry, examples.source_unit(rule_set_id="chart-2016"), "rule_set_id")
    size = own_registry.size()
    wait_until(lambda: beside.app._follower.position >= size, "the change is known")
    assert beside.record(record("b")).judgement.rule_set_id == "chart-2016"


def test_a_silent_registry_delays_a_batch_of_unknown_records_once(
    databases: Databases, socket_directory: Path, silent_address: str
) -> None:
    weighing = RunningWeighing(databases, socket_directory, silent_address)
    try:
        started = time.monotonic()
        for _ in range(2):
            results = weighing.record_all(records(1_000))
            assert {reason_of(result) for result in results} == {"SERVICE_UNAVAILABLE"}
        assert time.monotonic() - started < 6
        threads = [threading.Thread(target=weighing.record_all, args=(records(10),)) for _ in range(16)]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert time.monotonic() - started < 6
    finally:
        started = time.monotonic()
        weighing.close()
    assert time.monotonic() - started < 10


def test_an_object_that_cannot_be_used_stops_nothing(
    beside: RunningWeighing, own_registry: RunningRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither bytes that are no message nor rules that cannot be compiled keep later scales from being known."""

    def compiled(rules: RuleSet) -> CompiledRules:
        if rules.rule_set_id == "unusable":
            raise ValueError("a rule that this release cannot use")
        return CompiledRules(rules)

    monkeypatch.setattr(rule_sets_module, "CompiledRules", compiled)
    own_registry.append_raw("zhichao.registry.v1.Scale", b"\xff\xff")
    own_registry.append_raw("zhichao.registry.v1.Later", b"later")
    create(own_registry, examples.rule_set(rule_set_id="unusable"))
    register_site(own_registry, "u-after", rule_set_id="order-62-2016")
    assert beside.record(record("after", source_unit_id="u-after")).judgement.rule_set_id == "order-62-2016"
    beside.stop()
    beside.start()
    assert beside.record(record("again", source_unit_id="u-after")).judgement.rule_set_id == "order-62-2016"


def test_a_fault_while_following_is_got_over(
    beside: RunningWeighing, own_registry: RunningRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = beside.app._follower
    take, failed = follower._take, threading.Event()

    def failing(batch: object) -> None:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("a fault of the program")
        take(batch)  # type: ignore[arg-type]  # wrong or untyped on purpose

    monkeypatch.setattr(follower, "_take", failing)
    register_site(own_registry, "u-fault")
    size = own_registry.size()
    wait_until(lambda: follower.position >= size, "it follows again")
    assert failed.is_set()
    assert beside.record(record("x", source_unit_id="u-fault")).receipt.sequence == 2


def test_two_replicas_keep_one_directory(beside: RunningWeighing, own_registry: RunningRegistry) -> None:
    replica = beside.replica()
    try:
        register_site(own_registry, "u-both")
        for number, service in enumerate((beside, replica)):
            assert service.record(record(f"b-{number}", source_unit_id="u-both")).receipt.sequence > 1
        size = own_registry.size()
        wait_until(lambda: beside.app._follower.position == replica.app._follower.position == size, "both are there")
        assert beside.query("SELECT sequence FROM directory_positions") == [(size,)]
    finally:
        replica.close()


# The directory itself


def filled() -> Directory:
    made = Directory("rules", "141025")
    made.put(SourceUnit(UNIT, "141025", ""))
    made.put(WeighingPoint(UNIT, "gate-1"))
    made.put(Scale(UNIT, "gate-1", "scale-1", 1, 120_000))
    return made


def rules(version: int) -> RuleSet:
    return convert_directory.rule_set_from_message(examples.rule_set(rule_set_id="rules", version=version))


def test_sites_are_resolved_while_the_directory_changes() -> None:
    """A change may come in the middle of resolving: no thread may trip over it."""
    made, is_over, failures = filled(), threading.Event(), list[Exception]()
    made.put(rules(1))
    day = int(START.timestamp()) // 86_400

    def resolve() -> None:
        while not is_over.is_set():
            try:
                made.site(UNIT, "gate-1", "scale-1", day)
            except Exception as error:  # noqa: BLE001 - what the test looks for
                failures.append(error)
                return

    threads = [threading.Thread(target=resolve) for _ in range(3)]
    for thread in threads:
        thread.start()
    for version in range(2, 40):
        made.put(rules(version))
        for number in range(20):
            made.put(Certificate(UNIT, "scale-1", f"{version}-{number}", "2025-01-01", "2026-01-01"))
    is_over.set()
    for thread in threads:
        thread.join()
    assert failures == []


def test_what_is_kept_of_sites_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_module, "SITES_CACHED_MAX", 100)
    made = filled()
    made.put(rules(1))
    for day in range(20_000, 20_550):
        made.site(UNIT, "gate-1", "scale-1", day)
    assert len(made._sites) <= 100


def test_what_is_kept_of_vehicles_and_judgements_is_bounded(weighing: RunningWeighing) -> None:
    """A site that sends every combination of facts, and unknown fields with them, does not fill the memory."""
    convert._vehicles.clear()
    sent = [
        record(f"v-{mass}", gross_weight_kg=5_000, vehicle=vehicle(registered_mass_kg=mass, axle_count=2))
        for mass in range(10_000, 11_000)
    ]
    for one in sent[500:]:
        one.vehicle.MergeFromString(b"\xba\x3e\x80\x08" + b"x" * 1_024)
    assert {reason_of(result) for result in weighing.record_all(sent)} == {"recorded"}
    assert len(convert._vehicles) == 500
    (site,) = weighing.app._follower._directory._sites.values()
    assert 0 < len(site.judgements) <= directory_module.JUDGEMENTS_PER_SITE_MAX
