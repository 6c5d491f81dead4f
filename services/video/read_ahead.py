"""Bytes on their way from the evidence store to a caller: read one chunk ahead in a thread of their own, held against
size and digest, and never more of them in memory than two chunks.
"""

import hashlib
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from types import TracebackType
from typing import Final, Protocol, Self

_END: Final = None


class ClosableChunks(Iterator[bytes], Protocol):
    """Chunks that come from somewhere; whoever does not read them to their end closes them."""

    def close(self) -> None:
        """Give up the rest."""
        ...


class BytesChangedError(Exception):
    """What came is not what was to come: other bytes, fewer, or more. `detail` says which, for operators."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class CheckedChunks(Iterator[bytes]):
    """Chunks as they come; the last one only after size, and digest if one is given, were found right.

    So nobody gets all of the wrong bytes, and of what fits into one chunk none. `next` raises BytesChangedError, and
    whatever the chunks raise.
    """

    def __init__(self, chunks: ClosableChunks, size_bytes: int, digest: bytes | None) -> None:
        self._chunks = chunks
        self._left = size_bytes
        self._digest = digest
        # Nothing here is about secrets.
        self._hash = hashlib.sha256(usedforsecurity=False) if digest is not None else None

    def __next__(self) -> bytes:
        chunk = next(self._chunks, None)
        if chunk is None:
            if self._left:
                raise BytesChangedError(f"{self._left} bytes are missing at the end")
            raise StopIteration
        self._left -= len(chunk)
        if self._left < 0:
            raise BytesChangedError(f"{-self._left} bytes too many came")
        if self._hash is not None:
            self._hash.update(chunk)
            if not self._left and self._hash.digest() != self._digest:
                raise BytesChangedError(f"the digest of the bytes is {self._hash.hexdigest()}")
        return chunk

    def close(self) -> None:
        """Give up the rest."""
        self._chunks.close()


class ReadAhead(Iterator[bytes]):
    """Reads the next chunk while the caller is busy with the one before. Begins at once; close it, or use `with`.

    A caller that is slow makes the source wait: one chunk lies ready and no more is read. What the source raises is
    raised in the caller's place in the order of the chunks.
    """

    def __init__(self, chunks: ClosableChunks) -> None:
        self._chunks = chunks
        self._ready: SimpleQueue[bytes | Exception | None] = SimpleQueue()
        self._room = threading.Semaphore(1)
        self._is_closed = False
        self._thread = threading.Thread(target=self._read, name="video-read-ahead", daemon=True)
        self._thread.start()

    def __next__(self) -> bytes:
        came = self._ready.get()
        if came is _END:
            # Whoever asks again gets the same answer.
            self._ready.put(_END)
            raise StopIteration
        if isinstance(came, Exception):
            self._ready.put(_END)
            raise came
        self._room.release()
        return came

    def close(self) -> None:
        """Give up the rest and return at once: the thread ends when the source has answered it."""
        self._is_closed = True
        self._room.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> None:
        # The source is closed here, where it is read: no other thread touches it.
        try:
            while True:
                self._room.acquire()
                if self._is_closed:
                    return
                chunk = next(self._chunks, _END)
                self._ready.put(chunk)
                if chunk is _END:
                    return
        except Exception as error:  # noqa: BLE001 - it is raised where the chunks are taken
            self._ready.put(error)
        finally:
            self._chunks.close()
