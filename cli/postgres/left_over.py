"""End the server that a killed platform left behind on a data directory."""

import contextlib
import os
import signal
import time
from pathlib import Path

import structlog

from cli.postgres import processes
from cli.postgres.directory import DataDirectory
from cli.postgres.errors import DirectoryInUseError

log = structlog.get_logger()

# A fast shutdown writes out what is in memory, at most shared_buffers: seconds, also on a slow disk.
STOP_FAST_SECONDS_MAX = 30.0
# An immediate shutdown only ends processes; the next start recovers.
STOP_IMMEDIATE_SECONDS_MAX = 10.0

# The process is not our child and cannot be waited for, only looked for.
POLL_SECONDS = 0.02


def stop_left_over(directory: DataDirectory) -> None:
    """End a server that outlived its platform and remove its traces, so that a new one can start.

    Called by the holder of the directory. Raises DirectoryInUseError for a server that someone else started, which is
    never touched, and for one that cannot be stopped.
    """
    record = directory.recorded()
    if record is not None:
        directory.remove_socket_directory(Path(record.socket_directory))
    lines = directory.postmaster_lines()
    pid = int(lines[0]) if lines and lines[0].isdigit() else 0
    found = processes.identity(pid)
    if found is None:
        # Not running. A file it left behind is PostgreSQL's to judge, except that PostgreSQL takes a process for
        # alive that ended and was not waited for, as in a container without an init: there it would stay for ever.
        # Server processes that still run are found all the same, by the shared memory they hold.
        if processes.is_known(pid):
            (directory.cluster / "postmaster.pid").unlink(missing_ok=True)
        return
    if record is None or (record.pid, record.identity) != (pid, found):
        is_server = processes.program(pid) in ("postgres", "postmaster")
        if is_server and processes.works_in(pid, directory.cluster) is not False:
            raise DirectoryInUseError(
                f"a database server that no platform started (process {pid}) runs on {directory.cluster}: stop it"
                " 该目录上有其他数据库进程在运行, 请先停止"
            )
        # The id went to another program; PostgreSQL would believe the file and refuse to start.
        (directory.cluster / "postmaster.pid").unlink(missing_ok=True)
        return
    log.warning("postgres_left_over_found", pid=pid, directory=str(directory.path))
    for number, seconds_max in (
        (signal.SIGINT, STOP_FAST_SECONDS_MAX),
        (signal.SIGQUIT, STOP_IMMEDIATE_SECONDS_MAX),
        (signal.SIGKILL, STOP_IMMEDIATE_SECONDS_MAX),
    ):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + seconds_max
        while time.monotonic() < deadline:
            if processes.identity(pid) != found:
                # Only a server that was killed left the file behind.
                (directory.cluster / "postmaster.pid").unlink(missing_ok=True)
                return
            time.sleep(POLL_SECONDS)
    raise DirectoryInUseError(
        f"the server left over on {directory.path} (process {pid}) cannot be stopped 遗留的数据库进程无法停止"
    )
