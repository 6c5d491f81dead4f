"""How large a process is: what must not go on growing while strangers call it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg

_KIB: Final = 1024


@dataclass(frozen=True)
class Size:
    """What a process holds: memory in bytes, threads, open files and sockets, and connections of its database."""

    memory_bytes: int
    threads: int
    files: int
    connections: int
    # Transactions that nobody ends.
    left_open: int = 0


def size_of(pid: int, database_url: str = "") -> Size:
    """Measure a process of this machine, and its database if it has one."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines() if ":" in line
    )
    files = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    connections = left_open = 0
    if database_url:
        connections, left_open = _connections(database_url)
    return Size(
        int(status["VmRSS"].split()[0]) * _KIB, int(status["Threads"].split()[0]), files, connections, left_open
    )


def _connections(database_url: str) -> tuple[int, int]:
    with psycopg.connect(database_url) as connection:
        row: Any = connection.execute(
            "SELECT count(*), count(*) FILTER (WHERE state LIKE 'idle in transaction%') FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
    return int(row[0]), int(row[1])
