"""Inspects and draws what was uploaded in processes of their own (`inspecting_worker`), never in the service.

What decodes pictures is a million lines of C that reads bytes of strangers: it may crash, hang, eat memory or answer
nonsense, and then a file is refused and a process replaced.
"""

import contextlib
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from services.common.child_process import start_beside
from services.video.inspecting_protocol import (
    DRAW,
    INSPECT,
    PACKET_BYTES_MAX,
    READY,
    inspection_of,
    preview_sizes_of,
    refusal_of,
)
from services.video.media_types import ContentRefused, Inspection, InspectionUnavailable

WORKER: Final = "services.video.inspecting_worker"
"""Module that the processes run; a name, as importing it would load the decoders here."""

PROCESSES_MAX: Final = 2
"""Files that are looked at at once: a clip takes some ten milliseconds of one core, so two keep up with any store."""

START_SECONDS_MAX: Final = 30.0
"""Longest wait for a new process, which is ready in half a second on an idle machine."""

WAIT_SECONDS_MAX: Final = 60.0
"""Longest wait for a process that is free: a file takes tens of milliseconds, the slowest lawful one some seconds."""

COMPUTE_SECONDS_MAX: Final = 15.0
"""Longest time of a core for a small file: the largest photo takes three seconds. A machine that has much else to do is
no fault of a file, so this is what ends those that never come to an end."""

LOOK_SECONDS_MAX: Final = 120.0
"""Longest time by the clock: only a process that does nothing at all takes that long."""

LOOK_BYTES_PER_SECOND: Final = 64 * 1024 * 1024
"""Added to both for its size: clips without an index are read whole, and a plain disk gives that much."""

TRIES: Final = 2
"""Processes that a file may cost before it is refused: the first may have been killed for want of memory elsewhere."""

FILES_MAX: Final = 2000
"""Files after which a process is replaced: what a decoder leaks goes with it. A new one costs half a second."""

STOP_SECONDS: Final = 2.0
"""How long a process may take to end when its socket is closed before it is killed."""

RangeReader = Callable[[int, int], bytes]
"""Gives the bytes from an offset, as many as asked for unless the end comes first; may raise what it likes."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Previews:
    """Pictures drawn of a photo or clip, JPEG: `thumbnail` at most 320 pixels wide, `poster` of clips at most 1,280."""

    thumbnail: bytes
    poster: bytes | None = None


class InspectingProcesses:
    """A small pool of processes; threads may share it. Processes are started as they are needed and end unneeded.

    `inspect_file` and `inspect_ranges` raise ContentRefused for what is not taken, also when it costs the process its
    life, and InspectionUnavailable when nothing can be inspected now. What a range reader raises goes through.
    """

    def __init__(self, processes_max: int = PROCESSES_MAX) -> None:
        self._free = threading.BoundedSemaphore(processes_max)
        self._guard = threading.Lock()
        self._idle: list[_Process] = []
        self._busy: set[_Process] = set()
        self._is_stopped = False

    @property
    def pids(self) -> list[int]:
        """Process ids of those that live."""
        with self._guard:
            return [one.process.pid for one in (*self._idle, *self._busy) if one.process.poll() is None]

    def inspect_file(self, path: Path, content_type: str) -> Inspection:
        """Tell what a local file is; `content_type` is what it is said to be. Raises OSError if it cannot be opened."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            question = {"task": INSPECT, "content_type": content_type, "size_bytes": size}
            return inspection_of(self._ask(question, descriptor, None)[0])
        finally:
            os.close(descriptor)

    def inspect_ranges(self, read: RangeReader, size_bytes: int, content_type: str) -> Inspection:
        """Tell what bytes are that lie elsewhere; only what is needed of them is read, unless all of it is."""
        question = {"task": INSPECT, "content_type": content_type, "size_bytes": size_bytes}
        return inspection_of(self._ask(question, None, read)[0])

    def draw_ranges(self, read: RangeReader, size_bytes: int, content_type: str) -> Previews:
        """Draw the previews of sealed bytes; ContentRefused when nothing can be drawn of them."""
        question = {"task": DRAW, "content_type": content_type, "size_bytes": size_bytes}
        return Previews(*self._ask(question, None, read)[1])

    def stop(self) -> None:
        """End all processes; none is started any more. Whoever waits for an answer gets InspectionUnavailable."""
        with self._guard:
            self._is_stopped = True
            idle, self._idle = self._idle, []
            busy = list(self._busy)
        for one in busy:
            one.process.kill()
        for one in idle:
            one.end(STOP_SECONDS)

    def _ask(
        self, question: dict[str, Any], descriptor: int | None, read: RangeReader | None
    ) -> tuple[dict[str, Any], list[bytes]]:
        if not self._free.acquire(timeout=WAIT_SECONDS_MAX):
            raise InspectionUnavailable("all processes that inspect files are busy")
        try:
            for _ in range(TRIES):
                process = self._taken()
                is_kept = False
                try:
                    answer, parts = process.ask(question, descriptor, read)
                    is_kept = True
                except _Lost as lost:
                    _log.warning("inspecting_process_lost", cause=str(lost), pid=process.process.pid)
                    continue
                finally:
                    self._give_back(process, is_kept)
                if (refusal := refusal_of(answer)) is not None:
                    raise refusal
                return answer, parts
        finally:
            self._free.release()
        if self._is_stopped:
            raise InspectionUnavailable("the service is stopping")
        raise ContentRefused(
            "The file cannot be read: whatever opens it fails or takes too long",
            "文件无法读取：打开时出错或耗时过长",
        )

    def _taken(self) -> "_Process":
        with self._guard:
            while self._idle:
                process = self._idle.pop()
                if process.process.poll() is None:
                    self._busy.add(process)
                    return process
                # It ended for want of work, or somebody killed it.
                process.end(0)
            if self._is_stopped:
                raise InspectionUnavailable("the service is stopping")
        try:
            process = _Process()
        except OSError as error:
            # No more descriptors, no more processes, no interpreter any more.
            raise InspectionUnavailable("no process that inspects files can be started") from error
        with self._guard:
            self._busy.add(process)
            is_stopped = self._is_stopped
        try:
            if is_stopped:
                raise _Lost("stopped")
            process.wait_until_ready()
        except _Lost as lost:
            _log.warning("inspecting_process_not_started", cause=str(lost))
            self._give_back(process, is_kept=False)
            raise InspectionUnavailable("a process that inspects files did not start") from lost
        _log.info("inspecting_process_started", pid=process.process.pid)
        return process

    def _give_back(self, process: "_Process", is_kept: bool) -> None:
        with self._guard:
            self._busy.discard(process)
            if is_kept and not self._is_stopped and process.file_count < FILES_MAX:
                self._idle.append(process)
                return
        process.end(0)


class _Lost(Exception):  # noqa: N818 - reads as the fact it is
    """A process is dead, hangs, or has said something that it never says."""


class _Process:
    """One process. Used by one thread at a time; after _Lost, and after any other exception, it has to be ended."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes]
        self.process, self._socket = start_beside(
            WORKER, (), timeout_seconds=START_SECONDS_MAX, kind=socket.SOCK_SEQPACKET
        )
        self.file_count = 0

    def wait_until_ready(self) -> None:
        """Wait for its first word. Raises _Lost."""
        if self._received(time.monotonic() + START_SECONDS_MAX) != READY:
            raise _Lost("not ready")

    def ask(
        self, question: dict[str, Any], descriptor: int | None, read: RangeReader | None
    ) -> tuple[dict[str, Any], list[bytes]]:
        """Put a question and return the answer, with the pictures that came with it."""
        size = question["size_bytes"]
        more = size / LOOK_BYTES_PER_SECOND
        deadline = time.monotonic() + LOOK_SECONDS_MAX + more
        self.file_count += 1
        content = json.dumps(question | {"number": self.file_count, "seconds": COMPUTE_SECONDS_MAX + more}).encode()
        self._send(content, [] if descriptor is None else [descriptor])
        while True:
            answer = self._received(deadline)
            if answer.get("number") != self.file_count:
                # Never take the answer to another question for this one's.
                raise _Lost("wrong number")
            if "read" not in answer:
                break
            if read is None:
                raise _Lost("asks for bytes that it has")
            offset, length = self._range(answer["read"], size)
            begun = time.monotonic()
            asked = read(offset, length)
            # A store that is slow is no fault of the file.
            deadline += time.monotonic() - begun
            if len(asked) != length:
                raise EOFError(f"of {size} bytes there are {offset + len(asked)}")
            self._send(asked, [])
        try:
            refused = refusal_of(answer)
            if question["task"] == DRAW and refused is None:
                return answer, [self._received_bytes(one, deadline) for one in preview_sizes_of(answer)]
            if refused is None:
                inspection_of(answer)
        except ValueError as error:
            raise _Lost("garbage") from error
        return answer, []

    def end(self, seconds: float) -> None:
        """End it: it has `seconds` to do so by itself."""
        self._socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        self.process.kill()
        self.process.wait()

    @staticmethod
    def _range(wish: Any, size: int) -> tuple[int, int]:
        if not (isinstance(wish, list) and list(map(type, wish)) == [int, int]):
            raise _Lost("garbage")
        offset, length = wish
        if not (0 <= offset < size and 0 < length <= min(PACKET_BYTES_MAX, size - offset)):
            raise _Lost("asks for bytes that are not there")
        return offset, length

    def _send(self, content: bytes, descriptors: list[int]) -> None:
        try:
            socket.send_fds(self._socket, [content], descriptors)
        except OSError as error:
            raise _Lost(type(error).__name__) from error

    def _packet(self, deadline: float) -> bytes:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise _Lost("takes too long")
        self._socket.settimeout(remaining)
        try:
            content = self._socket.recv(PACKET_BYTES_MAX)
        except OSError as error:
            raise _Lost(type(error).__name__) from error
        if not content:
            raise _Lost(f"ended with {self.process.poll()}")
        return content

    def _received(self, deadline: float) -> dict[str, Any]:
        try:
            answer = json.loads(self._packet(deadline))
        except (ValueError, RecursionError) as error:
            raise _Lost("garbage") from error
        if not isinstance(answer, dict):
            raise _Lost("garbage")
        return answer

    def _received_bytes(self, size: int, deadline: float) -> bytes:
        content = bytearray()
        while len(content) < size:
            content += self._packet(deadline)
        if len(content) != size or not content.startswith(b"\xff\xd8\xff"):
            raise ValueError("not the picture that was announced")
        return bytes(content)
