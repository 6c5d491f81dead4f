"""A process that looks at uploaded bytes for the video service: `python -m services.video.inspecting_worker FD`.

It reads what strangers sent with decoders written in C, so it gives itself as little as it can: no file of its own, no
network, bounded memory, no secret. Questions come in over a socket that it inherits; it ends when that socket does.
"""

import contextlib
import io
import json
import os
import resource
import signal
import socket
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from services.video import confinement, inspection, preview_drawing
from services.video.inspecting_protocol import INSPECT, PACKET_BYTES_MAX, READY, answer_refusing, answer_with
from services.video.media_types import ContentRefused

QUESTION_BYTES_MAX: Final = 4096
"""Largest question: a few names and numbers."""

IDLE_SECONDS: Final = 300.0
"""How long the process waits for work before it ends: some 50 MB are free between one rush and the next."""

MEMORY_BYTES_MAX: Final = 640 * 1024 * 1024
"""Address space: libraries take 100 MB; a photo of 49 million pixels 250 MB more, frames of an 8K clip 370 MB."""


class AskedFile(io.RawIOBase):
    """Bytes that lie with the service, read as they are needed: each read is a question to it."""

    def __init__(self, connection: socket.socket, number: int, size: int) -> None:
        super().__init__()
        self._connection = connection
        self._number = number
        self._size = size
        self._place = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Return where the next read begins."""
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; ValueError for one before the first byte."""
        place = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence] + offset
        if place < 0:
            raise ValueError("before the first byte")
        self._place = place
        return place

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as one packet goes."""
        length = min(len(buffer), PACKET_BYTES_MAX, self._size - self._place)
        if length <= 0:
            return 0
        _send(self._connection, {"number": self._number, "read": [self._place, length]})
        content = self._connection.recv(PACKET_BYTES_MAX)
        if not content:
            # The service has no more of it to give, or is gone.
            raise EOFError
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)


def serve(connection: socket.socket) -> None:
    """Answer until the other side closes the connection or says nothing for long."""
    _send(connection, READY)
    connection.settimeout(IDLE_SECONDS)
    while True:
        content, descriptors, _, _ = socket.recv_fds(connection, QUESTION_BYTES_MAX, 1)
        if not content:
            return
        question = json.loads(content)
        number, size = question["number"], question["size_bytes"]
        # Whatever loops for ever in C is ended by the kernel, also when the service is there no more.
        signal.setitimer(signal.ITIMER_PROF, question["seconds"])
        file: BinaryIO
        if descriptors:
            file = os.fdopen(descriptors[0], "rb", buffering=PACKET_BYTES_MAX)
        else:
            file = io.BufferedReader(AskedFile(connection, number, size), PACKET_BYTES_MAX)
        with file:
            _answer(connection, number, question["task"], file, size, question["content_type"])
        signal.setitimer(signal.ITIMER_PROF, 0)


def _answer(connection: socket.socket, number: int, task: str, file: BinaryIO, size: int, content_type: str) -> None:
    pictures: Sequence[bytes] = ()
    try:
        if task == INSPECT:
            answer = answer_with(inspection.inspect(file, size, content_type))
        else:
            pictures = preview_drawing.draw(file, size, content_type)
            answer = {"previews": [len(one) for one in pictures]}
    except ContentRefused as refused:
        answer = answer_refusing(refused)
    except MemoryError:
        answer = answer_refusing(inspection.too_large())
    # Whoever is answered may rely on it that nothing of the file is open here.
    file.close()
    _send(connection, {"number": number} | answer)
    for picture in pictures:
        for start in range(0, len(picture), PACKET_BYTES_MAX):
            connection.sendall(picture[start : start + PACKET_BYTES_MAX])


def _send(connection: socket.socket, answer: dict[str, Any]) -> None:
    connection.sendall(json.dumps(answer).encode())


def main(arguments: Sequence[str]) -> int:
    """Serve on an inherited socket; 0 when it was closed or silent for long."""
    # The service ends us by closing the socket; signals to its whole group are its own business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Bytes of strangers that are in memory must not come to rest in a file.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    inspection.load_libraries()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    # Libraries load parts of themselves when they first meet something.
    confinement.give_up_files_and_network(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib"))
    with (
        contextlib.suppress(EOFError, ConnectionError, TimeoutError),
        socket.socket(fileno=int(arguments[0])) as connection,
    ):
        serve(connection)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
