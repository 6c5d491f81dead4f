"""The process that prepares backlogs, as a client sees it: not at all, whatever becomes of it."""

import os
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from services.weighing import preparing_process
from tests.registry.calls import create
from tests.registry.examples import source_unit, verification_certificate
from tests.registry.harness import RunningRegistry
from tests.weighing.backlogs import LARGE, asked, made_up
from tests.weighing.harness import RunningWeighing, register_site
from tests.weighing.records import record, records

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")


@pytest.fixture(autouse=True)
def _restarts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing_process, "RESTART_SECONDS", 0.0)


def test_answers_and_journal_are_the_same_with_and_without(
    databases: Any, registry: RunningRegistry, socket_directory: Path
) -> None:
    batch = made_up(7)
    answers, journals = [], []
    for count in ("0", "1", "3"):
        running = RunningWeighing(
            databases,
            socket_directory,
            registry.environment["ZHICHAO_REGISTRY_LISTEN"],
            name=f"with-{count}",
            settings={"ZHICHAO_WEIGHING_PREPARING_PROCESSES": count},
        )
        try:
            assert len(running.app._processes) == int(count)
            running.record_all(records(LARGE, "first"))
            for process in running.app._processes[:1]:
                asked(process, batch, running.clock.now())
            (answer,) = running.stream([batch])
            answers.append([(one.record_id, one.refusal.reason, one.recorded.judgement) for one in answer.results])
            assert [one.record_id for one in answer.results] == [one.record_id[:64] for one in batch]
            weighings = running.weighings_in_journal()
            for one in weighings.values():
                # The test's clock moves on with every look.
                one.ClearField("receive_time")
            journals.append(weighings)
            by_sequence = {
                one.recorded.receipt.sequence: one.record_id for one in answer.results if one.HasField("recorded")
            }
            assert (
                by_sequence.items() <= {sequence: one.record.record_id for sequence, one in weighings.items()}.items()
            )
        finally:
            running.close()
    assert answers[0] == answers[1] == answers[2]
    assert journals[0] == journals[1] == journals[2]


def test_a_unit_registered_a_moment_ago_is_known(weighing: RunningWeighing, registry: RunningRegistry) -> None:
    weighing.record_all(records(LARGE, "first"))
    asked(weighing.app._processes[0], records(LARGE), weighing.clock.now())
    register_site(registry, "141025-901")
    mixed = [record(f"m-{n}", **({"source_unit_id": "141025-901"} if n % 3 else {})) for n in range(LARGE)]
    results = weighing.record_all(mixed)
    assert [one.record_id for one in results] == [one.record_id for one in mixed]
    assert all(one.HasField("recorded") for one in results)
    sequences = [one.recorded.receipt.sequence for one in results]
    assert sequences == list(range(sequences[0], sequences[0] + LARGE))
    create(registry, source_unit(source_unit_id="141025-902"))
    create(registry, verification_certificate(source_unit_id="141025-901", certificate_number="C-901"))


def test_killed_again_and_again_nothing_is_lost(weighing: RunningWeighing) -> None:
    (process,) = weighing.app._processes
    stopped = threading.Event()

    def kill() -> None:
        while not stopped.wait(0.05):
            if (pid := process.pid) is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        answers = list(weighing.stream(records(LARGE, f"batch-{number}") for number in range(60)))
    finally:
        stopped.set()
        killer.join()
    results = [one for answer in answers for one in answer.results]
    assert len(results) == 60 * LARGE
    assert all(one.HasField("recorded") and not one.recorded.is_duplicate for one in results)
    assert weighing.position().size == 60 * LARGE + 1
