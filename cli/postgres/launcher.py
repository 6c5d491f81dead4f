"""Become another program that is told when its parent dies: `python launcher.py PARENT SIGNAL UID:GID PROGRAM …`.

Run as a script in an isolated interpreter, never imported for its effect. A program between fork and exec is used
instead of `preexec_fn`, which may deadlock in a process with threads, and instead of `Popen(user=…)`, because the
interpreter itself may be out of reach of the account the program shall run under.
"""

import ctypes
import os
import sys
from pathlib import Path

# prctl(2): the option that names the signal a process receives when the thread that created it ends.
PR_SET_PDEATHSIG = 1

# sysexits.h EX_UNAVAILABLE: the program was not started at all.
EXIT_NOT_STARTED = 69

# The account to change to when the process keeps the one it has.
KEEP_ACCOUNT = "-"

SCRIPT = Path(__file__)


def command(program: list[str], *, signal_number: int, account: tuple[int, int] | None = None) -> list[str]:
    """Build the command line that runs `program` under this launcher, to be started by the calling process.

    The signal arrives when the *thread* that starts the command ends, so that thread has to live as long as the
    program should. Platforms without prctl run the program all the same, without the signal.
    """
    account_text = KEEP_ACCOUNT if account is None else f"{account[0]}:{account[1]}"
    launcher = [sys.executable, "-I", "-S", str(SCRIPT)]
    return [*launcher, str(os.getpid()), str(signal_number), account_text, *program]


def main(parent: int, signal_number: int, account: str, program: list[str]) -> int:
    """Drop to the account, ask for the signal, and become the program; return only when that is refused."""
    try:
        # Loaded while the interpreter's own files can still be read: the account may not reach them.
        libc = ctypes.CDLL(None)
        if account != KEEP_ACCOUNT:
            uid, gid = (int(part) for part in account.split(":"))
            os.setgroups([])
            # As root both change the real, effective and saved id: there is no way back.
            os.setgid(gid)
            os.setuid(uid)
        if sys.platform == "linux":
            # After the change of account, which clears the setting.
            libc.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
            # A parent that died before prctl was called sends nothing any more.
            if os.getppid() != parent:
                return EXIT_NOT_STARTED
        os.execv(program[0], program)  # noqa: S606 - no shell is the point
    except OSError as error:
        sys.stderr.write(f"cannot run {program[0]}: {error}\n")
    return EXIT_NOT_STARTED


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]))
