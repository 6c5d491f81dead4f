"""A file that is sent on while it still comes, and whose last bytes wait for a word that all of it is right."""

import threading
import time
from pathlib import Path
from typing import Final

HELD_BACK_BYTES: Final = 64 * 1024
"""What is held back of a file until it was found right: a store that has not got these has no object. Small, so that
they are there in a moment once the word comes."""

WAIT_SECONDS_MAX: Final = 2.0
"""How long whoever sends waits for more bytes, or for the word: a request to the store is not kept open for a terminal
that stalls. Twice the second within which the rest is expected when sending begins (AHEAD_SECONDS_MAX)."""


class AbandonedError(Exception):
    """The file does not go on: it was refused, its sender is gone, or nothing came for a while."""


class GrowingFile:
    """A file of a known size. One thread writes and tells; another one waits for what it may read.

    Nobody gets the last bytes before `approve`. After `abandon` waiting raises AbandonedError.
    """

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self._changed = threading.Condition()
        self._received_bytes = 0
        self._is_approved = False
        self._is_abandoned = False

    def came(self, received_bytes: int) -> None:
        """Tell that so many bytes from the beginning are in the file."""
        with self._changed:
            self._received_bytes = received_bytes
            self._changed.notify_all()

    def approve(self) -> None:
        """Say that all bytes are there and right."""
        with self._changed:
            self._received_bytes = self.size_bytes
            self._is_approved = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Say that nothing more may be read."""
        with self._changed:
            self._is_abandoned = True
            self._changed.notify_all()

    def wait(self, position: int) -> int:
        """Wait until there are bytes to read from a position before the end, and return how many.

        Raises AbandonedError, also when none come for WAIT_SECONDS_MAX.
        """
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        with self._changed:
            while not self._is_abandoned:
                end = self.size_bytes if self._is_approved else self.size_bytes - HELD_BACK_BYTES
                ready = min(self._received_bytes, end) - position
                if ready > 0:
                    return ready
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    raise AbandonedError("nothing came")
            raise AbandonedError("given up")
