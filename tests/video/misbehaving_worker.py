"""The worker with a decoder that does what the first word of a file tells it, as broken files do to real ones."""

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, BinaryIO

from services.video import inspecting_worker, inspection
from services.video.inspecting_protocol import INSPECT
from services.video.media_types import JPEG, ContentRefused, Inspection, MediaFacts

SOUND = Inspection(JPEG, MediaFacts(1, 1))


def inspect(file: BinaryIO, size: int, content_type: str) -> Inspection:
    word, _, rest = file.read(size).decode().partition(" ")
    if word == "crash":
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
    if word == "crash-once":
        # The file is ours alone to write; the process may not.
        if int(rest) == os.getppid():
            raise AssertionError
        os._exit(1)
    if word == "hang":
        while True:
            pass
    if word == "memory":
        bytearray(2 * inspecting_worker.MEMORY_BYTES_MAX)
    if word == "recursion":
        return inspect_again(0)
    if word == "refuse":
        raise ContentRefused("No " * 1000, "不", found="x")
    if word == "steal":
        return Inspection(JPEG, MediaFacts(1 + sum(can_open(one) for one in rest.split(":")), 1))
    if word == "write":
        try:
            os.write(os.open(rest, os.O_WRONLY | os.O_APPEND), b"x")
        except OSError:
            return SOUND
        raise AssertionError
    if word == "call":
        with socket.socket() as connection:
            try:
                connection.connect(("127.0.0.1", int(rest)))
            except PermissionError:
                return SOUND
        raise AssertionError
    return SOUND


def inspect_again(depth: int) -> Inspection:
    return inspect_again(depth + 1)


def can_open(path: str) -> bool:
    try:
        return bool(Path(path).read_bytes())
    except OSError:
        return False


def answer(connection: socket.socket, number: int, task: str, file: BinaryIO, size: int, content_type: str) -> None:
    content = file.read(size)
    file.seek(0)
    if not content.startswith(b"say "):
        honest(connection, number, task, file, size, content_type)
    else:
        connection.sendall(content[4:].replace(b"NUMBER", json.dumps(number).encode()))
        assert task == INSPECT


honest: Any = inspecting_worker._answer
inspection.inspect = inspect
inspecting_worker._answer = answer

if __name__ == "__main__":
    sys.exit(inspecting_worker.main(sys.argv[1:]))
