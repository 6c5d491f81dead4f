"""The sending: what is made arrives, each once, whatever the platform does meanwhile; and it repeats with its seed."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.simulate.credentials import issue_terminals
from cli.simulate.ledger import content_digest
from cli.simulate.options import FAULTLESS, TrafficOptions
from cli.simulate.registration import register_site
from cli.simulate.simulation import Simulation
from cli.simulate.site import make_site
from cli.simulate.terminal_queue import QueueFullError, TerminalQueue
from cli.simulate_command import command
from services.common.access.tokens import format_token, new_secret
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.rpc_client import connect
from tests.cli.fake_weighing import FakeAccess, FakeRegistry, FakeWeighing, serving
from zhichao.access.v1 import service_pb2_grpc as access_grpc
from zhichao.registry.v1 import service_pb2_grpc as registry_grpc
from zhichao.weighing.v1 import record_pb2, weighing_pb2

SITE = make_site(seed=5, units=4)
DRAIN_SECONDS = 30.0


class FixedStartClock:
    """Starts every simulation at the same instant; durations are real."""

    def now(self) -> datetime:
        return datetime(2026, 11, 1, 8, tzinfo=UTC)

    def monotonic(self) -> float:
        return time.monotonic()


@pytest.fixture
def weighing() -> FakeWeighing:
    return FakeWeighing()


@pytest.fixture
def address(tmp_path: Path, weighing: FakeWeighing) -> Iterator[str]:
    with serving(tmp_path, weighing=weighing) as address:
        yield address


def simulate(
    address: str,
    *,
    records_per_second: float = 400,
    seconds: float = 1,
    options: TrafficOptions = FAULTLESS,
    ledger_path: Path | None = None,
) -> Simulation:
    return Simulation(
        lambda: connect(address),
        SITE,
        {unit.source_unit_id: "zhichao.terminal.secret" for unit in SITE.units},
        seed=5,
        records_per_second=records_per_second,
        seconds=seconds,
        options=options,
        ledger_path=ledger_path,
        clock=FixedStartClock(),
    )


def run(simulation: Simulation) -> Simulation:
    simulation.start()
    assert simulation.wait(30)
    assert simulation.stop(drain=True, timeout_seconds=DRAIN_SECONDS), simulation.last_error
    return simulation


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    event = threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        event.wait(0.01)


def failing(times: int, error: ServiceError) -> Callable[[], None]:
    """Fail so many times, then no more."""
    left = [times]
    lock = threading.Lock()

    def fail() -> None:
        with lock:
            if left[0] == 0:
                return
            left[0] -= 1
        raise error

    return fail


def test_everything_made_is_acknowledged_once(address: str, weighing: FakeWeighing) -> None:
    simulation = run(simulate(address))

    counters = simulation.counters
    assert (counters.generated, counters.acknowledged, counters.sent) == (400, 400, 400)
    assert (counters.duplicates, counters.refused, counters.retries, counters.mismatches) == (0, 0, 0, 0)
    assert {key: answer.receipt for key, (_, answer) in weighing.held.items()} == simulation.acknowledged


def test_same_seed_and_start_send_the_same_content_with_every_fault_on(tmp_path: Path) -> None:
    options = TrafficOptions(
        resend_rate=0.1, late_rate=0.1, late_seconds=0.2, swap_rate=0.1, offline_share=0.5, overload_rate=0.05,
        reweigh_seconds=0.3, loading_seconds=0.2, offline_seconds=0.5, offline_period_seconds=1,
    )  # fmt: skip
    held = []
    for _ in range(2):
        weighing = FakeWeighing()
        with serving(tmp_path, weighing=weighing) as address:
            run(simulate(address, options=options))
        held.append({key: record.SerializeToString(deterministic=True) for key, (record, _) in weighing.held.items()})

    assert len(held[0]) == 400
    assert held[0] == held[1]


def test_overloads_are_suspected_and_nothing_else(address: str, weighing: FakeWeighing) -> None:
    simulation = run(simulate(address, options=TrafficOptions(overload_rate=0.1, offline_share=0, reweigh_seconds=0.1)))

    assert simulation.counters.overloads > 20
    assert simulation.counters.suspected == simulation.counters.overloads
    verdicts = {answer.judgement.verdict for _, answer in weighing.held.values()}
    assert weighing_pb2.VERDICT_COMPLIANT in verdicts


def test_resent_records_get_the_first_receipt_again(address: str) -> None:
    simulation = run(simulate(address, records_per_second=100, options=TrafficOptions(resend_rate=1, offline_share=0)))

    counters = simulation.counters
    assert counters.acknowledged == 100
    assert counters.mismatches == 0
    assert counters.duplicates + counters.acknowledged == counters.sent > 150


def test_another_receipt_for_a_repeat_is_noticed(address: str, weighing: FakeWeighing) -> None:
    forgetful = weighing.refuse

    def forget(record: record_pb2.WeighingRecord) -> None:
        forgetful(record)
        weighing.held.pop((record.source_unit_id, record.record_id), None)

    weighing.refuse = forget
    simulation = run(simulate(address, records_per_second=20, options=TrafficOptions(resend_rate=1, offline_share=0)))

    assert simulation.counters.mismatches > 0


def test_a_terminal_that_was_cut_off_backfills_by_stream(
    address: str, weighing: FakeWeighing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.simulate.sender.BACKFILL_AFTER_SECONDS", 0.2)
    options = TrafficOptions(
        offline_share=1, offline_seconds=1, offline_period_seconds=2, resend_rate=0, late_rate=0, swap_rate=0
    )
    simulation = run(simulate(address, records_per_second=220, seconds=2, options=options))

    backfilled = [record for record in weighing.arrivals if record.is_backfill]
    assert simulation.counters.acknowledged == 440
    assert simulation.counters.backfilled == len(backfilled) > 100
    assert weighing.streams >= len(SITE.stations)


def test_a_platform_that_fails_gets_everything_in_the_end(address: str, weighing: FakeWeighing) -> None:
    weighing.fail = failing(12, ServiceError(Reason.DATABASE_UNAVAILABLE, "away", retry_after_seconds=0.05))

    simulation = run(simulate(address))

    assert simulation.counters.acknowledged == len(weighing.held) == 400
    assert simulation.counters.retries == 12


def test_a_lost_answer_is_asked_for_again(address: str, weighing: FakeWeighing) -> None:
    weighing.lose_answer = failing(10, ServiceError(Reason.INTERNAL, "lost"))

    simulation = run(simulate(address))

    assert simulation.counters.acknowledged == len(weighing.held) == 400
    assert simulation.counters.duplicates >= 10
    assert {key: answer.receipt for key, (_, answer) in weighing.held.items()} == simulation.acknowledged


def test_a_server_that_dies_and_comes_back_loses_nothing(tmp_path: Path, weighing: FakeWeighing) -> None:
    address = f"unix:{tmp_path}/platform.sock"
    with serving(tmp_path, weighing=weighing, address=address):
        simulation = simulate(address, records_per_second=100, seconds=3)
        simulation.start()
        wait_until(lambda: simulation.counters.acknowledged > 50)
    wait_until(lambda: simulation.waiting_count > 50)
    with serving(tmp_path, weighing=weighing, address=address):
        assert simulation.wait(30)
        assert simulation.stop(drain=True, timeout_seconds=DRAIN_SECONDS), simulation.last_error

    assert simulation.counters.acknowledged == len(weighing.held) == 300


def test_units_that_are_not_known_yet_are_sent_again(address: str, weighing: FakeWeighing) -> None:
    fail = failing(20, ServiceError(Reason.UNKNOWN_SOURCE_UNIT, "not registered"))
    weighing.refuse = lambda record: fail()

    simulation = run(simulate(address))

    assert simulation.counters.acknowledged == 400
    assert simulation.counters.refused == 0


def test_refusals_are_counted_and_the_first_of_each_reason_kept(address: str, weighing: FakeWeighing) -> None:
    def refuse(record: record_pb2.WeighingRecord) -> None:
        if record.vehicle.axle_count == 3:
            raise ServiceError(Reason.INVALID_ARGUMENT, "three axles are not wanted")

    weighing.refuse = refuse
    simulation = run(simulate(address))

    (refusal,) = simulation.refusals
    assert (refusal.reason, refusal.message) == ("INVALID_ARGUMENT", "three axles are not wanted")
    assert refusal.count == simulation.counters.refused == 400 - simulation.counters.acknowledged > 0


def test_the_ledger_has_every_acknowledgement(address: str, weighing: FakeWeighing, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    run(simulate(address, ledger_path=ledger))

    lines = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 400
    for line in lines:
        record, answer = weighing.held[line["source_unit_id"], line["record_id"]]
        assert line["outcome"] == "acknowledged"
        assert line["sequence"] == answer.receipt.sequence
        assert line["leaf_digest"] == answer.receipt.leaf_digest.hex()
        assert line["verdict"] == weighing_pb2.Verdict.Name(answer.judgement.verdict)
        assert line["content_digest"] == content_digest(record)


def test_what_a_killed_simulation_left_is_sent_by_the_next(tmp_path: Path, weighing: FakeWeighing) -> None:
    ledger = tmp_path / "ledger.jsonl"
    dead = simulate(f"unix:{tmp_path}/nobody.sock", ledger_path=ledger)
    dead.start()
    assert dead.wait(30)
    assert not dead.stop(drain=False)
    assert dead.waiting_count == 400

    with serving(tmp_path, weighing=weighing) as address:
        run(simulate(address, records_per_second=1, seconds=0.1, ledger_path=ledger))

    assert len(weighing.held) == 400
    assert all(record.is_backfill for record in weighing.arrivals)
    assert len(ledger.read_text(encoding="utf-8").splitlines()) == 400


def test_a_queue_forgets_only_what_is_settled(tmp_path: Path) -> None:
    path = tmp_path / "queue"
    records = [record_pb2.WeighingRecord(record_id=f"r{number}") for number in range(5)]
    queue = TerminalQueue(path)
    for record in records:
        queue.keep(record)
        queue.release(record.record_id)
    taken = queue.take(3, wait_seconds=0)
    queue.settle(taken[0].record.record_id)
    queue.give_back(taken[1:])
    queue.close()
    # A kill while a line was being written.
    path.write_text(path.read_text(encoding="ascii") + "+Cgdub3Rm", encoding="ascii")

    again = TerminalQueue(path)

    assert [one.record for one in again.take(9, wait_seconds=0)] == records[1:]
    again.close()


def test_a_full_queue_refuses() -> None:
    queue = TerminalQueue(records_max=1)
    queue.keep(record_pb2.WeighingRecord(record_id="a"))
    with pytest.raises(QueueFullError):
        queue.keep(record_pb2.WeighingRecord(record_id="b"))


def test_registration_may_be_repeated_and_waits_for_the_registry(tmp_path: Path, weighing: FakeWeighing) -> None:
    registry = FakeRegistry()
    registry.fail = failing(2, ServiceError(Reason.DATABASE_UNAVAILABLE, "starting", retry_after_seconds=0.01))
    with serving(tmp_path, weighing=weighing, registry=registry) as address:
        channel = connect(address)
        stub = registry_grpc.RegistryServiceStub(channel)
        first = register_site(stub, SITE, today=date(2026, 11, 1))
        again = register_site(stub, SITE, today=date(2026, 11, 1))
        channel.close()

    # 3 divisions, 3 platforms, 4 units, and per scale: point, scale, two certificates.
    assert first.held == again.held == len(registry.held) == 10 + 4 * len(SITE.stations)
    assert first.differing == again.differing == []


def test_registration_leaves_other_content_alone(tmp_path: Path, weighing: FakeWeighing) -> None:
    registry = FakeRegistry()
    with serving(tmp_path, weighing=weighing, registry=registry) as address:
        channel = connect(address)
        stub = registry_grpc.RegistryServiceStub(channel)
        register_site(stub, SITE, today=date(2026, 11, 1))
        registry.held["division/141025"].name = "古县（旧）"
        again = register_site(stub, SITE, today=date(2026, 11, 1))
        channel.close()

    assert again.differing == ["141025"]


def test_the_command_registers_sends_and_reports(tmp_path: Path, weighing: FakeWeighing) -> None:
    registry, access = FakeRegistry(), FakeAccess()
    with serving(tmp_path, weighing=weighing, registry=registry, access=access) as address:
        arguments = ["--weighing", address, "--registry", address, "--units", "3", "--rate", "200", "--for", "0.5"]
        result = CliRunner().invoke(command, [*arguments, "--json"])

    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout.splitlines()[-1])
    assert summary["acknowledged"] == summary["generated"] == len(weighing.held) == 100
    assert summary["is_drained"] is True
    assert registry.held
    # Each terminal sends with the token of its own unit.
    assert weighing.shown == {unit: {f"Bearer {token}"} for ((unit,), token) in access.issued.values()}


def test_a_site_that_has_its_credentials_gets_new_secrets(tmp_path: Path, weighing: FakeWeighing) -> None:
    access = FakeAccess()
    with serving(tmp_path, weighing=weighing, access=access) as address, connect(address) as channel:
        stub = access_grpc.AccessServiceStub(channel)
        first = issue_terminals(stub, SITE, 100)
        again = issue_terminals(stub, SITE, 100)

    assert first.keys() == again.keys() == {unit.source_unit_id for unit in SITE.units}
    assert not set(first.values()) & set(again.values())
    assert again == {unit: token for ((unit,), token) in access.issued.values()}


def test_without_a_registry_the_token_named_is_shown(tmp_path: Path, weighing: FakeWeighing) -> None:
    token_file = tmp_path / "integrator.token"
    token = format_token("integrator-1", new_secret())
    token_file.write_text(token)
    with serving(tmp_path, weighing=weighing) as address:
        arguments = ["--weighing", address, "--units", "3", "--rate", "200", "--for", "0.5"]
        result = CliRunner().invoke(command, [*arguments, "--token-file", str(token_file), "--json"])

    assert result.exit_code == 0, result.output
    assert {shown for found in weighing.shown.values() for shown in found} == {f"Bearer {token}"}


def test_the_command_fails_when_nothing_answers(tmp_path: Path) -> None:
    arguments = ["--weighing", f"unix:{tmp_path}/nobody.sock", "--rate", "20", "--for", "0.2", "--drain-for", "0.2"]
    result = CliRunner().invoke(command, arguments)

    assert result.exit_code == 1
    assert "4 records were not answered" in result.output


def test_the_rate_is_held(address: str) -> None:
    simulation = simulate(address, records_per_second=500, seconds=2)
    simulation.start()
    began = time.monotonic()
    assert simulation.wait(30)
    elapsed = time.monotonic() - began
    simulation.stop(drain=True, timeout_seconds=DRAIN_SECONDS)

    # Exactly as many records as asked for; the last one is due at the very end and may be a tick late.
    assert simulation.counters.generated == 1_000
    assert 1.9 < elapsed < 4
