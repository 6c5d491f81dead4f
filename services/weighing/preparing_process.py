"""Prepares batches in a process beside the service's own (`preparing_worker`).

One Python process works on one record at a time, whatever the machine has; checking and judging is half of the work of
a backlog.
"""

import contextlib
import pickle
import subprocess
import threading
import time
from datetime import datetime
from multiprocessing.connection import Connection
from typing import Final

import structlog

from services.common.child_process import start_beside
from services.weighing import preparing_worker
from services.weighing.directory import Directory
from services.weighing.preparing import Prepared, PreparedBatch

BATCH_BYTES_MIN: Final = 16 * 1024
"""Bytes of a message that is worth the way to another process and back, a tenth of a millisecond: some 60 records."""

REPLY_SECONDS_MAX: Final = 10.0
"""Longest wait for a batch, which takes 20 ms: a process that takes longer hangs and is replaced."""

RESTART_SECONDS: Final = 5.0
"""Shortest time between two starts of a process, so that one that cannot live does not take the machine's time."""

STOP_SECONDS: Final = 2.0
"""How long a process may take to end when its socket is closed before it is killed."""

_log = structlog.get_logger()


class PreparingProcess:
    """One process, started when the first large batch comes. Threads may share it; it works for one of them at a time.

    It never stands in the way: when it is busy, not ready yet, dead or without an answer, `prepare` gives None and the
    caller does the work itself.
    """

    def __init__(self, directory: Directory, digest_algorithm: str) -> None:
        self._directory = directory
        self._digest_algorithm = digest_algorithm
        self._guard = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._is_ready = False
        self._is_asking = False
        self._is_stopped = False
        self._number = 0
        self._started = 0.0
        self._directory_version = 0
        self._not_before = 0.0

    @property
    def pid(self) -> int | None:
        """Process id while there is one."""
        process = self._process
        return process.pid if process is not None else None

    def prepare(
        self, content: bytes, now: datetime, actor: str, request_id: str, units: frozenset[str] | None = None
    ) -> tuple[Prepared, list[int]] | None:
        """Prepare the records of a serialised batch request; `units` are those that the sender is bound to.

        Returns the fit ones, and the places of all others, which the caller has to look at again; None when it has to
        look at all.
        """
        if not self._guard.acquire(blocking=False):
            return None
        try:
            connection = self._ready_connection()
            if connection is None:
                return None
            try:
                return self._ask(connection, content, now, actor, request_id, units)
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller can do without the process
                _log.warning("preparing_process_lost", cause=type(error).__name__)
                return None
            finally:
                # An answer that is still on its way must not be taken for that to the next question.
                if self._is_asking:
                    self._end()
        finally:
            self._guard.release()

    def stop(self) -> None:
        """End the process; none is started any more. Does not wait for one that hangs."""
        self._is_stopped = True
        is_idle = self._guard.acquire(timeout=STOP_SECONDS)
        if not is_idle:
            # Whoever waits for its answer is woken by its end.
            if (process := self._process) is not None:
                process.kill()
            self._guard.acquire()
        self._end()
        self._guard.release()

    def _ask(
        self,
        connection: Connection,
        content: bytes,
        now: datetime,
        actor: str,
        request_id: str,
        units: frozenset[str] | None,
    ) -> tuple[Prepared, list[int]] | None:
        self._is_asking = True
        version, changed = self._directory.changes_since(self._directory_version)
        if changed:
            preparing_worker.send(connection, (preparing_worker.DIRECTORY, pickle.dumps(changed)))
            self._directory_version = version
        self._number += 1
        question = (preparing_worker.BATCH, content, self._number, now.isoformat(), actor, request_id, units)
        preparing_worker.send(connection, question)
        number, answer = preparing_worker.receive(connection)
        if number != self._number:
            raise ValueError(f"answer {number} to question {self._number}")
        self._is_asking = False
        if answer is None:
            return None
        places, columns = answer
        return Prepared(PreparedBatch(now, actor, request_id, *columns), {}), places

    def _ready_connection(self) -> Connection | None:
        if self._process is not None and self._process.poll() is not None:
            # It ended for want of work, or somebody killed it.
            self._end()
        if self._connection is None:
            self._start()
        elif not self._is_ready:
            try:
                if self._connection.poll(0):
                    self._is_ready = preparing_worker.receive(self._connection) is True
                elif time.monotonic() > self._started + REPLY_SECONDS_MAX:
                    raise TimeoutError
            except (OSError, EOFError, ValueError) as error:
                _log.warning("preparing_process_lost", cause=type(error).__name__)
                self._end()
        return self._connection if self._is_ready else None

    def _start(self) -> None:
        if self._is_stopped or time.monotonic() < self._not_before:
            return
        self._not_before = time.monotonic() + RESTART_SECONDS
        try:
            self._process, self._connection = self._spawn()
        except OSError as error:
            # No more descriptors, no more processes, no interpreter any more.
            _log.warning("preparing_process_not_started", cause=type(error).__name__)
            return
        self._started = time.monotonic()
        self._directory_version = 0
        _log.info("preparing_process_started", pid=self._process.pid)

    def _spawn(self) -> "tuple[subprocess.Popen[bytes], Connection]":
        directory = self._directory
        arguments = (self._digest_algorithm, directory.rule_set_id_default, directory.platform)
        process, ours = start_beside(preparing_worker.__name__, arguments, timeout_seconds=REPLY_SECONDS_MAX)
        return process, Connection(ours.detach())

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS if self._is_stopped else 0)
            self._process.kill()
            self._process.wait()
        self._process = self._connection = None
        self._is_ready = self._is_asking = False
