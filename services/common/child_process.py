"""Starts a Python process beside a service that does one kind of work for it, over a socket that only the two have."""

import os
import socket
import struct
import subprocess
import sys


def start_beside(
    module: str, arguments: tuple[str, ...], *, timeout_seconds: float, kind: int = socket.SOCK_STREAM
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start `python -m module FD *arguments` and return it with our end of the socket whose other end is FD.

    The process inherits nothing else: no descriptor, no setting, no secret. Neither sending nor receiving on our end
    waits longer than `timeout_seconds`. Raises OSError when there are no more descriptors or processes.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    try:
        with theirs:
            timeout = struct.pack("@ll", int(timeout_seconds), 0)
            # A process that was stopped takes nothing more: without these we would wait for it for ever.
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
            process = subprocess.Popen(  # noqa: S603 - our own module, no shell
                # -P: nothing is imported from whatever directory we happen to be in.
                [sys.executable, "-P", "-m", module, str(theirs.fileno()), *arguments],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # None of our settings: passwords are among them.
                env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
    except BaseException:
        ours.close()
        raise
    return process, ours
