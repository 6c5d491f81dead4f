"""Recognise a process again later: a process id alone is reused, in a container within seconds."""

import os
import shutil
import subprocess
from pathlib import Path

PROC = Path("/proc")

# proc_pid_stat(5): field 22, counted here from the state field (3) that follows the parenthesised name.
STAT_START_TIME_INDEX = 22 - 3

# `ps` answers at once; a limit only so that a broken one cannot hang a start.
PS_SECONDS_MAX = 5.0


def identity(pid: int) -> str | None:
    """Name the process that has this id now, so that equal names mean the same process; None when there is none.

    A process that has ended but was not yet waited for counts as gone: it holds nothing any more.
    """
    if pid <= 0:
        return None
    if (PROC / "self" / "stat").exists():
        try:
            # The name in parentheses may itself hold spaces and parentheses.
            fields = (PROC / str(pid) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            boot = (PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in "ZX" else f"{boot}/{fields[STAT_START_TIME_INDEX]}"
    return _identity_from_ps(pid)


def is_known(pid: int) -> bool:
    """Say whether the kernel still has an entry for the id, as for a process that ended but was not waited for."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def program(pid: int) -> str:
    """Return the base name of the program the process runs, or an empty text when that cannot be seen."""
    try:
        if (PROC / "self").exists():
            first = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")[0]
            # A running server overwrites its own command line with "postgres: …".
            return Path(os.fsdecode(first)).name.split(":")[0]
        return Path(_ps(pid, "comm=")).name
    except OSError:
        return ""


def works_in(pid: int, directory: Path) -> bool | None:
    """Say whether the process has this working directory; None when the kernel does not tell."""
    try:
        return (PROC / str(pid) / "cwd").samefile(directory)
    except OSError:
        return None


def _identity_from_ps(pid: int) -> str | None:
    return _ps(pid, "lstart=") or None


def _ps(pid: int, column: str) -> str:
    ps = shutil.which("ps")
    if ps is None:
        return ""
    finished = subprocess.run(  # noqa: S603 - a fixed program and a number
        [ps, "-o", column, "-p", str(pid)], capture_output=True, text=True, timeout=PS_SECONDS_MAX, check=False
    )
    return finished.stdout.strip()
