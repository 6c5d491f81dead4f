"""The service processes of a platform: started, restarted when they die, told to finish, waited for."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

import structlog

from cli.platform_state import ProcessState
from cli.postgres import launcher, processes
from cli.up_signals import StopSignals

log = structlog.get_logger()

# A service that dies once comes back before a terminal's next attempt; one that keeps dying does not fill the log.
RESTART_SECONDS_MIN = 1.0
RESTART_SECONDS_MAX = 30.0
# A service that ran this long did not die of its start: the next failure counts as the first.
HEALTHY_SECONDS = 60.0

# How long services of a platform that was killed may take: the usual grace and its margin (see `up_options`).
LEFT_OVER_SECONDS_MAX = 30.0
# After SIGKILL nothing remains but the kernel's work.
KILL_SECONDS_MAX = 5.0
# A stop of processes that are not our children cannot be waited for, only looked for.
POLL_SECONDS = 0.05


class ServiceEndedError(Exception):
    """A service process ended before it had ever served: its settings or its database are wrong, not its luck."""


class Child:
    """One process with one or several services in it."""

    def __init__(self, services: Sequence[str], command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.services = tuple(services)
        self._command = list(command)
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._delay = RESTART_SECONDS_MIN
        self.state = ProcessState(0, "")
        self.restart_at: float | None = None

    def start(self) -> None:
        """Start the process. It gets SIGTERM when the thread that calls this ends: call it from the main thread."""
        self.restart_at = None
        self._started_at = time.monotonic()
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            launcher.command(self._command, signal_number=signal.SIGTERM),
            stdin=subprocess.DEVNULL,
            env=self._environment,
            # Ctrl-C in the terminal reaches the platform only, which decides about the order.
            start_new_session=True,
        )
        pid = self._process.pid
        self.state = ProcessState(pid, processes.identity(pid) or "")
        log.info("service_process_started", services=self.services, pid=pid)

    def tend(self) -> bool:
        """Notice a death and restart when it is time. True when the process is another one than before, or gone."""
        now = time.monotonic()
        if self.restart_at is not None:
            if now < self.restart_at:
                return False
            self.start()
            return True
        if self._process is None or self._process.poll() is None:
            return False
        if now - self._started_at >= HEALTHY_SECONDS:
            self._delay = RESTART_SECONDS_MIN
        log.error("service_process_died", services=self.services, ended=self.ended(), restart_seconds=self._delay)
        self.restart_at = now + self._delay
        self._delay = min(2 * self._delay, RESTART_SECONDS_MAX)
        self.state = ProcessState(0, "")
        return True

    def ended(self) -> str | None:
        """Say how the process ended, None while it runs."""
        if self._process is None or (code := self._process.poll()) is None:
            return None
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"

    def send(self, number: signal.Signals) -> None:
        """Signal the process if it runs; with SIGKILL also whatever it started in its session."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                if number == signal.SIGKILL:
                    os.killpg(self._process.pid, number)
                else:
                    self._process.send_signal(number)

    @property
    def is_running(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None


class Children:
    """All service processes of one platform; `on_change` is called when one of them is another process now."""

    def __init__(self, children: Sequence[Child], on_change: Callable[[dict[str, ProcessState]], None]) -> None:
        self._children = tuple(children)
        self._on_change = on_change

    def start(self) -> None:
        """Start all."""
        for child in self._children:
            child.start()
        self._changed()

    def check_started(self) -> None:
        """Raise ServiceEndedError when one ended already; for the time before the first health check passed."""
        for child in self._children:
            if (ended := child.ended()) is not None:
                raise ServiceEndedError(
                    f"{', '.join(child.services)} ended while starting ({ended}); the reason is in the log above"
                    " 服务在启动过程中退出, 原因见上方日志"
                )

    def tend(self) -> float | None:
        """Restart what died when its time has come; return the seconds until the next restart is due, if one is."""
        changed = [child.tend() for child in self._children]
        if any(changed):
            self._changed()
        due = [child.restart_at for child in self._children if child.restart_at is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def stop(self, signals: StopSignals, drain_seconds: float) -> bool:
        """Let all finish what they do and end within the time; False when one had to be killed."""
        for child in self._children:
            child.restart_at = None
            child.send(signal.SIGTERM)
        deadline = time.monotonic() + drain_seconds
        while self._running() and time.monotonic() < deadline and not signals.is_urgent:
            signals.wait(min(1.0, deadline - time.monotonic()))
        late = self._running()
        for child in late:
            log.warning("service_process_killed", services=child.services, pid=child.state.pid)
            child.send(signal.SIGKILL)
        deadline = time.monotonic() + KILL_SECONDS_MAX
        while self._running() and time.monotonic() < deadline:
            signals.wait(POLL_SECONDS)
        return not late

    def _running(self) -> list[Child]:
        return [child for child in self._children if child.is_running]

    def _changed(self) -> None:
        self._on_change({name: child.state for child in self._children for name in child.services})


def end_left_over(left_over: Mapping[str, ProcessState]) -> None:
    """End service processes of a platform that was killed and whose children outlived it.

    They hold the ports and may still write; usually they are draining already.
    """
    alive = {state for state in left_over.values() if state.identity and _is_alive(state)}
    for number, seconds_max in ((signal.SIGTERM, LEFT_OVER_SECONDS_MAX), (signal.SIGKILL, KILL_SECONDS_MAX)):
        for state in alive:
            log.warning("service_process_left_over", pid=state.pid, signal=number.name)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(state.pid, number)
        deadline = time.monotonic() + seconds_max
        while alive and time.monotonic() < deadline:
            alive = {state for state in alive if _is_alive(state)}
            time.sleep(POLL_SECONDS if alive else 0)


def _is_alive(state: ProcessState) -> bool:
    return processes.identity(state.pid) == state.identity
