"""The process that prepares backlogs: gives what the service itself would, and never stands in the way."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from services.common.clock import SystemClock
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.journal.digests import Digester
from services.weighing import preparing_process, preparing_worker
from services.weighing.batches import BatchPreparer
from services.weighing.directory import Certificate, Directory, Scale, SourceUnit, WeighingPoint
from services.weighing.preparing import BATCH_RECORDS_MAX, RecordPreparer
from services.weighing.preparing_process import BATCH_BYTES_MIN, PreparingProcess
from tests.registry.harness import START
from tests.waiting import wait_until
from tests.weighing.backlogs import LARGE, ActorAndRequest, asked, is_alive, locally, made_up, serialised
from tests.weighing.harness import RunningWeighing
from tests.weighing.records import record, records

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")


@pytest.fixture(autouse=True)
def _restarts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing_process, "RESTART_SECONDS", 0.0)


@pytest.fixture
def directory(shared: RunningWeighing) -> Directory:
    """Return the directory of a running service: a registered site and the shipped rule sets."""
    # The service follows the registry; it knows the site once it has recorded there.
    shared.record_all([record("known")])
    found: Directory = shared.app._processes[0]._directory
    copy = Directory(found.rule_set_id_default, found.platform)
    for changed in found.changes_since(0)[1]:
        copy.put(changed)
    return copy


@pytest.fixture
def process(directory: Directory) -> Iterator[PreparingProcess]:
    running = PreparingProcess(directory, "sha256")
    yield running
    running.stop()


@pytest.mark.parametrize("seed", range(4))
def test_gives_what_the_service_itself_would(process: PreparingProcess, directory: Directory, seed: int) -> None:
    batch = made_up(seed)
    prepared, places = asked(process, batch)
    expected = locally(directory, batch)
    assert prepared.batch == expected.batch
    assert places == list(expected.refusals)
    assert 0 < len(places) < LARGE


def test_learns_what_changes_in_the_directory(process: PreparingProcess, directory: Directory) -> None:
    batch = records(LARGE, source_unit_id="141025-900")
    assert asked(process, batch)[1] == list(range(LARGE))
    directory.put(SourceUnit("141025-900", "141025", ""))
    directory.put(WeighingPoint("141025-900", "gate-1"))
    directory.put(Scale("141025-900", "gate-1", "scale-1", 1, 100_000))
    prepared, places = asked(process, batch)
    assert (len(prepared.batch), places) == (LARGE, [])
    directory.put(Certificate("141025-900", "scale-1", "C-900", "2025-01-01", "2026-01-01"))
    assert b"C-900" in asked(process, batch)[0].batch.judgements[0]


@pytest.mark.parametrize("content", [b"\xff" * BATCH_BYTES_MIN, serialised(records(BATCH_RECORDS_MAX + 1))])
def test_what_no_batch_can_be_is_refused_by_the_service(
    process: PreparingProcess, directory: Directory, content: bytes
) -> None:
    asked(process, records(LARGE))
    here = RecordPreparer(Digester("sha256"), directory, lambda: False)
    preparer = BatchPreparer(here, [process], SystemClock())
    with pytest.raises(Exception, match=r"is not a batch|1 to 1000 records"):
        preparer.prepare(content, *ActorAndRequest)
    assert asked(process, records(LARGE))[1] == []


@pytest.mark.parametrize("seed", range(3))
def test_records_that_are_fit_only_here_keep_their_places(
    process: PreparingProcess, directory: Directory, seed: int
) -> None:
    batch = made_up(seed)
    asked(process, batch)
    registered = Directory(directory.rule_set_id_default, directory.platform)
    for changed in directory.changes_since(0)[1]:
        registered.put(changed)
    registered.put(SourceUnit("nobody", "141025", ""))
    registered.put(WeighingPoint("nobody", "gate-1"))
    registered.put(Scale("nobody", "gate-1", "scale-1", 1, 100_000))
    clock = FixedClock()
    preparer = BatchPreparer(RecordPreparer(Digester("sha256"), registered, lambda: True), [process], clock)
    merged = preparer.prepare(serialised(batch), *ActorAndRequest)
    expected = locally(registered, batch)
    assert merged.batch == expected.batch
    assert list(merged.refusals) == list(expected.refusals)
    assert {place: one.record_id for place, one in merged.refusals.items()} == {
        place: batch[place].record_id for place in expected.refusals
    }
    assert any(one.source_unit_id == "nobody" for one in batch)


class FixedClock(SystemClock):
    def now(self) -> datetime:
        return START


def test_is_started_for_the_first_large_batch_only(weighing: RunningWeighing) -> None:
    (process,) = weighing.app._processes
    weighing.record_all(records(5, "small"))
    assert process.pid is None
    weighing.record_all(records(LARGE, "large"))
    assert process.pid is not None


def test_holds_none_of_the_service_s_secrets(process: PreparingProcess) -> None:
    asked(process, records(LARGE))
    child = Path(f"/proc/{process.pid}")
    assert [one.partition("=")[0] for one in (child / "environ").read_text().split("\0") if one] == ["PYTHONPATH"]
    # Its one socket is the one to us.
    opened = [str(one.readlink()) for one in (child / "fd").iterdir()]
    assert len([one for one in opened if one.startswith("socket:")]) == 1


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_dies_or_hangs_is_done_without_and_replaced(
    process: PreparingProcess, monkeypatch: pytest.MonkeyPatch, fault: signal.Signals
) -> None:
    monkeypatch.setattr(preparing_process, "REPLY_SECONDS_MAX", 1.0)
    asked(process, records(LARGE))
    first = process.pid
    assert first is not None
    os.kill(first, fault)
    assert process.prepare(serialised(records(LARGE)), START, *ActorAndRequest) is None
    assert asked(process, records(LARGE))[1] == []
    assert process.pid != first
    assert not is_alive(first)


def test_a_process_that_cannot_start_is_done_without(
    weighing: RunningWeighing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert len(weighing.record_all(records(LARGE))) == LARGE
    assert weighing.app._processes[0].pid is None


def test_a_message_of_millions_is_refused_before_anybody_goes_through_it(
    process: PreparingProcess, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked(process, records(LARGE))
    pid = process.pid
    preparer = BatchPreparer(RecordPreparer(Digester("sha256"), directory, lambda: False), [process], SystemClock())
    with pytest.raises(ServiceError) as refusal:
        preparer.prepare(b"\x0a\x00" * 1_000_000, *ActorAndRequest)
    assert refusal.value.reason is Reason.BATCH_TOO_LARGE
    # Unknown fields only: no records at all.
    with pytest.raises(ServiceError) as refusal:
        preparer.prepare(b"\x12\x80\x80\x02" + b"x" * 32_768, *ActorAndRequest)
    assert refusal.value.reason is Reason.INVALID_ARGUMENT
    assert asked(process, records(LARGE))[1] == []
    assert process.pid == pid


def test_an_answer_that_was_not_taken_is_never_another_question_s(
    process: PreparingProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked(process, records(LARGE, "warm"))
    with monkeypatch.context() as patch:

        def fail(_connection: Connection) -> Any:
            raise MemoryError

        patch.setattr(preparing_worker, "receive", fail)
        assert process.prepare(serialised(records(LARGE, "first")), START, *ActorAndRequest) is None
    prepared, _ = asked(process, records(LARGE, "second"))
    assert {key[1].split("-")[0] for key in prepared.batch.keys} == {"second"}


def test_an_answer_with_another_number_is_not_taken(process: PreparingProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    asked(process, records(LARGE))
    first = process.pid
    process._number += 1
    with monkeypatch.context() as patch:
        receive = preparing_worker.receive
        patch.setattr(preparing_worker, "receive", lambda connection: (1, receive(connection)[1]))
        assert process.prepare(serialised(records(LARGE)), START, *ActorAndRequest) is None
    assert asked(process, records(LARGE))[1] == []
    assert process.pid != first


def test_nothing_is_imported_from_the_directory_that_we_are_in(
    process: PreparingProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "__init__.py").write_text("raise SystemExit('not ours')")
    monkeypatch.chdir(tmp_path)
    assert asked(process, records(LARGE))[1] == []


def test_no_more_descriptors_are_done_without(process: PreparingProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(*_: object) -> Any:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "socketpair", no_more)
        assert process.prepare(serialised(records(LARGE)), START, *ActorAndRequest) is None
    assert asked(process, records(LARGE))[1] == []


def test_one_that_hangs_before_it_is_ready_is_replaced(
    process: PreparingProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing_process, "REPLY_SECONDS_MAX", 1.0)
    content = serialised(records(LARGE))
    assert process.prepare(content, START, *ActorAndRequest) is None
    first = process.pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    wait_until(lambda: process.prepare(content, START, *ActorAndRequest) is None and process.pid != first, "replaced")
    monkeypatch.setattr(preparing_process, "REPLY_SECONDS_MAX", 10.0)
    assert asked(process, records(LARGE))[1] == []


def test_stopping_does_not_wait_for_one_that_hangs(process: PreparingProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing_process, "STOP_SECONDS", 0.1)
    asked(process, records(LARGE))
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    results: list[Any] = []
    content = serialised(records(LARGE))
    thread = threading.Thread(target=lambda: results.append(process.prepare(content, START, *ActorAndRequest)))
    thread.start()
    wait_until(process._guard.locked, "it is asked")
    process.stop()
    thread.join(preparing_process.REPLY_SECONDS_MAX / 2)
    assert results == [None]
    assert process.pid is None


def test_signals_to_the_group_leave_it_to_the_service(process: PreparingProcess) -> None:
    asked(process, records(LARGE))
    pid = process.pid
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGINT)
    assert asked(process, records(LARGE))[1] == []
    assert process.pid == pid


def test_ends_with_the_service(weighing: RunningWeighing) -> None:
    weighing.record_all(records(LARGE))
    pid = weighing.app._processes[0].pid
    assert pid is not None
    weighing.stop()
    assert not is_alive(pid)
    weighing.start()


def test_ends_when_the_service_is_killed(tmp_path: Path) -> None:
    """A parent that is killed closes nothing by itself: the kernel does, and the process must see it."""
    code = (
        "import os, sys, time\n"
        "sys.path.insert(0, os.getcwd())\n"
        "from services.weighing.directory import Directory\n"
        "from services.weighing.preparing_process import PreparingProcess\n"
        "from datetime import datetime, UTC\n"
        "process = PreparingProcess(Directory('none', '141025'), 'sha256')\n"
        "one = bytes([10, 0])\n"
        "ends = time.monotonic() + 30\n"
        "while process.prepare(one, datetime.now(UTC), '', '') is None and time.monotonic() < ends: time.sleep(0.01)\n"
        "print(process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(next(line for line in parent.stdout if line.strip().isdecimal()))
        parent.kill()
    wait_until(lambda: not is_alive(pid), "it ends")


def test_ends_when_nothing_comes_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing_worker, "IDLE_SECONDS", 0.05)
    with serving() as (connection, thread):
        assert preparing_worker.receive(connection) is True
        thread.join(10)
        assert not thread.is_alive()


def test_one_that_ended_for_want_of_work_is_started_again(process: PreparingProcess) -> None:
    asked(process, records(LARGE))
    first = process._process
    assert first is not None
    # What the process does by itself after IDLE_SECONDS.
    first.kill()
    first.wait()
    assert asked(process, records(LARGE))[1] == []
    assert process._process is not first


@contextmanager
def serving() -> Iterator[tuple[Connection, threading.Thread]]:
    ours, theirs = socket.socketpair()
    with Connection(ours.detach()) as connection, Connection(theirs.detach()) as other:
        thread = threading.Thread(target=preparing_worker.serve, args=(other, "sha256", "none", "141025"))
        thread.start()
        yield connection, thread
