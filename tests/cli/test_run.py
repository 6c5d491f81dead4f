"""`zhichao run` as a person starts it: three real platforms, terminals, and the proof at the end."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cli import platform_state
from cli.platform_layout import reserve_any
from cli.postgres import EmbeddedPostgres, processes
from cli.up_options import ExitCode

ROOT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 110.0
TAMPERING = """
UPDATE journal_entries changed SET entry = other.entry, leaf = other.leaf FROM journal_entries other
WHERE changed.origin = '141025' AND changed.sequence = 100 AND other.origin = '141025' AND other.sequence = 101
"""
CODES = ("141025", "141000", "140000")


class Run:
    """One `zhichao run` with what it printed."""

    def __init__(self, *arguments: str, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "cli.main", "run", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}", "TMPDIR": str(directory)},
            cwd=directory,
        )
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(stream, kept), daemon=True)
            for stream, kept in ((self.process.stdout, self.lines), (self.process.stderr, self.errors))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any, kept: list[str]) -> None:
        with stream:
            kept.extend(stream)

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + SECONDS_MAX
        while text not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, f"{text!r} was not printed:\n{self.output}"
            time.sleep(0.05)

    def end(self) -> int:
        status = self.process.wait(SECONDS_MAX)
        for reader in self._readers:
            reader.join()
        return status

    @property
    def output(self) -> str:
        return "".join(self.lines) + "".join(self.errors)


Start = Callable[..., Run]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start runs on free ports; whatever still runs at the end is ended."""
    started: list[Run] = []

    def start_one(*arguments: str, port: str = "0") -> Run:
        started.append(Run("--port", port, *arguments, directory=tmp_path))
        return started[-1]

    yield start_one
    for run in started:
        if run.process.poll() is None:
            run.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                run.process.wait(60)
            run.process.kill()


def assert_nothing_runs(data: Path) -> None:
    for code in CODES:
        state = platform_state.read(data / code)
        assert state is not None
        assert processes.identity(state.pid) is None
        assert state.phase == "stopped"
        assert (state.processes, state.postgres_pid) == ({}, None)


@pytest.mark.system
def test_a_run_is_verified_and_goes_on_with_kept_data_which_it_mistrusts(start: Start, tmp_path: Path) -> None:
    data = tmp_path / "data"
    run = start("--rate", "200", "--for", "3", "--data", str(data), "--photo-every", "20")
    assert run.end() == 0, run.output
    assert "VERIFIED: " in run.output
    assert "one of 20 is photographed on purpose" in run.output
    assert "按设置每 20 次称重拍一张" in run.output
    assert "核验通过" in run.output
    assert "140000 registry=" in run.output
    assert_nothing_runs(data)

    assert start("--rate", "200", "--for", "1", "--data", str(data)).end() == ExitCode.DATA_DIRECTORY

    # Somebody at the city loses an acknowledged record and puts its neighbour in its place.
    with EmbeddedPostgres(data / "141000" / "postgres") as server:
        server.query(TAMPERING, database="weighing")
    tampered = start("--rate", "10", "--for", "1", "--data", str(data), "--keep", "--json", "--sample", "20")
    assert tampered.end() == 1, tampered.output
    document = json.loads("".join(tampered.lines))
    assert not document["is_right"]
    assert document["acknowledged"] > document["terminals"]["acknowledged"] > 0
    assert [level["held"] - document["acknowledged"] for level in document["levels"]] == [0, -1, 0]
    assert [level["missing"] for level in document["levels"]] == [0, 1, 0]
    evidence = document["evidence"]
    assert evidence["weighings_with_photo"] + evidence["weighings_without_photo"] == document["acknowledged"]
    assert evidence["weighings_with_photo"] >= evidence["photos"] > 0
    assert [level["weighings_with_photo"] for level in document["levels"]] == [evidence["weighings_with_photo"]] * 3
    assert [level["inclusion_proofs"] for level in document["levels"]][::2] == [20, 20]
    assert any(line.startswith("141000 weighing 141025") for line in document["differences"]), document["differences"]
    assert_nothing_runs(data)


@pytest.mark.system
def test_one_interrupt_ends_and_verifies_and_every_weighing_has_its_photo(start: Start, tmp_path: Path) -> None:
    data = tmp_path / "data"
    run = start("--data", str(data))
    run.wait_for("weighing until Ctrl-C")
    run.wait_for("terminals generated=")
    run.process.send_signal(signal.SIGINT)
    assert run.end() == 0, run.output
    assert "VERIFIED: " in run.output
    assert "PHOTOS: each of the " in run.output
    assert "条称重记录均有照片" in run.output
    assert_nothing_runs(data)


@pytest.mark.system
@pytest.mark.parametrize(("numbers", "status"), [((signal.SIGINT,) * 2, 130), ((signal.SIGTERM,), 143)])
def test_it_stops_now_when_it_is_told_to(
    start: Start, tmp_path: Path, numbers: tuple[signal.Signals, ...], status: int
) -> None:
    data = tmp_path / "data"
    run = start("--rate", "100", "--data", str(data))
    run.wait_for("weighing until Ctrl-C")
    for place, number in enumerate(numbers):
        if place:
            # Two at once would be one to the kernel.
            run.wait_for("waiting for the last answers")
        run.process.send_signal(number)
    assert run.end() == status, run.output
    assert "VERIFIED" not in run.output
    assert_nothing_runs(data)


@pytest.mark.system
def test_a_platform_that_ends_is_told(start: Start, tmp_path: Path) -> None:
    data = tmp_path / "data"
    run = start("--data", str(data))
    run.wait_for("weighing until Ctrl-C")
    city = platform_state.read(data / "141000")
    assert city is not None
    os.kill(city.pid, signal.SIGTERM)
    assert run.end() == ExitCode.SERVICE
    assert "platform 141000 ended" in run.output
    assert_nothing_runs(data)


def test_a_taken_port_is_named_before_anything_starts(start: Start, tmp_path: Path) -> None:
    base_port, reservation = reserve_any("127.0.0.1")
    with reservation, socket.socket() as taken:
        taken.bind(("127.0.0.1", base_port + 102))
        taken.listen()
        reservation.close()
        run = start("--for", "1", "--data", str(tmp_path / "data"), port=str(base_port))
        assert run.end() == ExitCode.PORT_TAKEN
    assert f"{base_port + 102} (weighing)" in run.output
    assert not (tmp_path / "data").exists()
