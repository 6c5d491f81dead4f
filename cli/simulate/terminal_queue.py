"""The queue of one terminal: a record is in it from when it is made until it is acknowledged or refused for good.

With a path it is an append-only file that survives a kill of the process (not a power cut: nothing is synced, a
simulated terminal needs no disk barrier). A record is kept, released (may be sent), taken (being sent), settled.
"""

import base64
import binascii
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from google.protobuf.message import DecodeError

from zhichao.weighing.v1 import record_pb2

# A day of a heavy source unit is a few hundred records; this is an outage of months, and 60 MB of memory.
QUEUE_RECORDS_MAX = 200_000
# The file is written anew when it holds this many settled records for each waiting one.
_SETTLED_PER_WAITING_MAX = 8
_SETTLED_MIN = 4_096


class QueueFullError(Exception):
    """The queue holds QUEUE_RECORDS_MAX records; the scale must wait."""


@dataclass
class Waiting:
    """A record on its way."""

    record: record_pb2.WeighingRecord
    is_resent: bool = False


class TerminalQueue:
    """Records of one terminal in the order released. Safe for one thread that makes and one that sends."""

    def __init__(self, path: Path | None = None, *, records_max: int = QUEUE_RECORDS_MAX) -> None:
        self._records_max = records_max
        self._changed = threading.Condition()
        self._pending: dict[str, Waiting] = {}
        self._released: deque[str] = deque()
        self._settled_lines = 0
        self._path = path
        self._file: TextIO | None = None
        self.recovered_count = 0
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            for record in _recover(path):
                self._pending[record.record_id] = Waiting(record)
                self._released.append(record.record_id)
            self.recovered_count = len(self._pending)
            self._rewrite(path)

    def __len__(self) -> int:
        """Return how many records are not settled."""
        return len(self._pending)

    @property
    def released_count(self) -> int:
        """Return how many records wait to be sent."""
        return len(self._released)

    def keep(self, record: record_pb2.WeighingRecord, *, is_resent: bool = False) -> None:
        """Persist a record; it is not sent before it is released. Raises QueueFullError."""
        with self._changed:
            if len(self._pending) >= self._records_max:
                raise QueueFullError(f"{len(self._pending)} records wait")
            if self._file is not None:
                self._file.write(_line(record))
                self._file.flush()
            self._pending[record.record_id] = Waiting(record, is_resent)

    def release(self, record_id: str) -> None:
        """Let a kept record be sent."""
        with self._changed:
            self._released.append(record_id)
            self._changed.notify()

    def take(self, count: int, *, wait_seconds: float) -> list[Waiting]:
        """Take up to `count` released records to send them, oldest first; waits for the first one."""
        with self._changed:
            if not self._released:
                self._changed.wait(wait_seconds)
            return [self._pending[self._released.popleft()] for _ in range(min(count, len(self._released)))]

    def give_back(self, items: Iterable[Waiting]) -> None:
        """Put taken records back to the front, in their order, because they have to be sent again."""
        with self._changed:
            self._released.extendleft(item.record.record_id for item in reversed(list(items)))
            self._changed.notify()

    def settle(self, record_id: str) -> None:
        """Forget a taken record: it was acknowledged, or refused for good."""
        with self._changed:
            del self._pending[record_id]
            if self._file is None or self._path is None:
                return
            self._file.write(f"-{record_id}\n")
            self._file.flush()
            self._settled_lines += 1
            if self._settled_lines > max(_SETTLED_MIN, len(self._pending) * _SETTLED_PER_WAITING_MAX):
                self._rewrite(self._path)

    def mark_backfill(self) -> int:
        """Mark what waits to be sent as sent late because of an outage; return how many records that are."""
        with self._changed:
            for record_id in self._released:
                self._pending[record_id].record.is_backfill = True
            return len(self._released)

    def close(self) -> None:
        """Close the file; what is not settled is found in it by the next queue with this path."""
        with self._changed:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _rewrite(self, path: Path) -> None:
        if self._file is not None:
            self._file.close()
        partial = path.with_name(path.name + ".partial")
        partial.write_text("".join(_line(waiting.record) for waiting in self._pending.values()), encoding="ascii")
        partial.replace(path)
        self._file = path.open("a", encoding="ascii")
        self._settled_lines = 0


def _line(record: record_pb2.WeighingRecord) -> str:
    return f"+{base64.b64encode(record.SerializeToString()).decode('ascii')}\n"


def _recover(path: Path) -> list[record_pb2.WeighingRecord]:
    """Read what is not settled; a last line that was cut off by a kill was never sent and is left out."""
    if not path.exists():
        return []
    pending: dict[str, record_pb2.WeighingRecord] = {}
    for line in path.read_text(encoding="ascii", errors="replace").splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        if line.startswith("-"):
            pending.pop(line[1:-1], None)
        elif line.startswith("+"):
            try:
                record = record_pb2.WeighingRecord.FromString(base64.b64decode(line[1:-1], validate=True))
            except (binascii.Error, DecodeError) as error:
                raise ValueError(f"{path.name} is damaged: {error} 文件已损坏") from error
            pending[record.record_id] = record
    return list(pending.values())
