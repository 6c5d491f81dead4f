"""Stages start in order, stop in reverse, and a process ends when it is told to."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from services.common import lifecycle
from services.common.lifecycle import StopRequest, run_until_signal

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def request_to_stop() -> Iterator[StopRequest]:
    with closing(StopRequest()) as request:
        yield request


class Stage:
    def __init__(self, name: str, steps: list[str], on_start: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self._steps = steps
        self._on_start = on_start

    def start(self) -> None:
        self._on_start()
        self._steps.append(f"start {self.name}")

    def stop(self, grace_seconds: float) -> None:
        assert 0 < grace_seconds <= 5
        self._steps.append(f"stop {self.name}")


def fail() -> None:
    raise OSError("no")


def test_stages_stop_in_reverse_on_a_request(request_to_stop: StopRequest) -> None:
    steps: list[str] = []

    run_until_signal(
        [Stage("a", steps), Stage("b", steps)],
        grace_seconds=5,
        stop_request=request_to_stop,
        on_started=lambda: request_to_stop.request("test"),
    )

    assert steps == ["start a", "start b", "stop b", "stop a"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops(number: signal.Signals) -> None:
    steps: list[str] = []
    before = signal.getsignal(number)

    run_until_signal([Stage("a", steps)], grace_seconds=5, on_started=lambda: os.kill(os.getpid(), number))

    assert steps == ["start a", "stop a"]
    assert signal.getsignal(number) == before


def test_signal_that_another_thread_gets_stops(request_to_stop: StopRequest) -> None:
    is_started, is_over = threading.Event(), threading.Event()

    def send() -> None:
        is_started.wait()
        # The main thread waits by then; if not, it hears of the signal all the same.
        is_over.wait(0.2)
        os.kill(os.getpid(), signal.SIGTERM)
        if not is_over.wait(3):
            request_to_stop.request("nobody heard of the signal")

    thread = threading.Thread(target=send)
    thread.start()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        run_until_signal([], grace_seconds=5, stop_request=request_to_stop, on_started=is_started.set)
    finally:
        is_over.set()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        thread.join()

    assert request_to_stop.cause == "SIGTERM"


def test_signal_during_start_skips_the_later_stages() -> None:
    steps: list[str] = []
    interrupted = Stage("a", steps, lambda: os.kill(os.getpid(), signal.SIGTERM))

    run_until_signal([interrupted, Stage("b", steps)], grace_seconds=5)

    assert steps == ["start a", "stop a"]


def test_failed_start_stops_what_runs_and_is_raised() -> None:
    steps: list[str] = []

    with pytest.raises(OSError, match="no"):
        run_until_signal([Stage("a", steps), Stage("b", steps, fail), Stage("c", steps)], grace_seconds=5)

    assert steps == ["start a", "stop a"]


def test_failed_stop_does_not_keep_the_others(request_to_stop: StopRequest) -> None:
    steps: list[str] = []

    class Stubborn(Stage):
        def stop(self, grace_seconds: float) -> None:
            raise OSError("stuck")

    run_until_signal(
        [Stage("a", steps), Stubborn("b", steps)],
        grace_seconds=5,
        stop_request=request_to_stop,
        on_started=lambda: request_to_stop.request("test"),
    )

    assert steps == ["start a", "start b", "stop a"]


def test_any_thread_may_ask(request_to_stop: StopRequest) -> None:
    threading.Thread(target=request_to_stop.request, args=("appender died",)).start()

    assert request_to_stop.wait(5)
    assert request_to_stop.cause == "appender died"
    request_to_stop.request("later")
    assert request_to_stop.cause == "appender died"


PROGRAM = """
import sys, threading
from services.common import logs
logs.configure()
from services.common import lifecycle
lifecycle.STOP_MARGIN_SECONDS = 0.1
class Stuck:
    name = "stuck"
    def start(self): pass
    def stop(self, grace_seconds):
        sys.stdout.write("stopping\\n"); sys.stdout.flush()
        threading.Event().wait()
def started():
    sys.stdout.write("started\\n"); sys.stdout.flush()
lifecycle.run_until_signal([Stuck()], grace_seconds=float(sys.argv[1]), on_started=started)
"""


def stuck_process(grace_seconds: float, program: str = PROGRAM) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(grace_seconds)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGTERM)
    return process


def test_second_signal_ends_at_once() -> None:
    with stuck_process(grace_seconds=60) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "stopping\n":
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)

        assert process.wait(10) == lifecycle.EXIT_FORCED


def test_thread_that_is_left_behind_ends_with_the_deadline() -> None:
    program = PROGRAM.replace("threading.Event().wait()", "threading.Thread(target=threading.Event().wait).start()")

    with stuck_process(grace_seconds=0.1, program=program) as process:
        assert process.wait(10) == lifecycle.EXIT_FORCED


def test_overrun_ends_the_process() -> None:
    with stuck_process(grace_seconds=0.1) as process:
        assert process.wait(10) == lifecycle.EXIT_FORCED
