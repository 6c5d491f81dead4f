"""Bytes on their way to a caller: in order, checked, bounded in memory, and given up when nobody wants them."""

import hashlib
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.video.read_ahead import BytesChangedError, CheckedChunks, ReadAhead

WAIT_SECONDS = 10.0


class Source(Iterator[bytes]):
    """Chunks that are counted as they are taken."""

    def __init__(self, chunks: list[bytes], error: Exception | None = None) -> None:
        self._left = list(chunks)
        self._error = error
        self.taken = 0
        self.changed = threading.Condition()
        self.closed = threading.Event()

    def __next__(self) -> bytes:
        if not self._left:
            if self._error is not None:
                raise self._error
            raise StopIteration
        with self.changed:
            self.taken += 1
            self.changed.notify_all()
        return self._left.pop(0)

    def close(self) -> None:
        self.closed.set()

    def wait_taken(self, count: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.taken >= count, WAIT_SECONDS)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


@given(st.lists(st.binary(min_size=1, max_size=8), max_size=8))
def test_everything_comes_in_order(chunks: list[bytes]) -> None:
    content = b"".join(chunks)
    source = Source(chunks)

    with ReadAhead(CheckedChunks(source, len(content), _digest(content))) as ahead:
        assert list(ahead) == chunks
        assert list(ahead) == []
    assert source.closed.wait(WAIT_SECONDS)


def test_one_chunk_lies_ready_and_no_more() -> None:
    source = Source([b"a", b"b", b"c", b"d"])

    with ReadAhead(source) as ahead:
        assert source.wait_taken(1)
        first = next(ahead)
        assert source.wait_taken(2)
        # The third is read only when the second is taken: until then the thread has no room.
        assert not ahead._room.acquire(blocking=False)
        assert (first, source.taken) == (b"a", 2)
        assert next(ahead) == b"b"
        assert source.wait_taken(3)


def test_who_goes_away_closes_the_source_though_its_thread_waits() -> None:
    source = Source([b"a", b"b", b"c"])
    ahead = ReadAhead(source)
    assert source.wait_taken(1)

    ahead.close()

    assert source.closed.wait(WAIT_SECONDS)
    assert source.taken == 1


def test_an_error_comes_behind_the_chunks_before_it() -> None:
    source = Source([b"a", b"b"], OSError("gone"))
    ahead = ReadAhead(source)

    assert [next(ahead), next(ahead)] == [b"a", b"b"]
    with pytest.raises(OSError, match="gone"):
        next(ahead)
    assert list(ahead) == []
    assert source.closed.wait(WAIT_SECONDS)


@pytest.mark.parametrize(
    ("came", "passed", "detail"),
    [
        # As long as it should be, and other bytes: the last chunk is kept back.
        ([b"abcd", b"efgX"], [b"abcd"], "the digest of the bytes is"),
        ([b"abcdefgX"], [], "the digest of the bytes is"),
        ([b"abcd", b"efg"], [b"abcd", b"efg"], "1 bytes are missing"),
        ([b"abcd", b"efghi"], [b"abcd"], "1 bytes too many"),
        ([b"abcd", b"efgh", b"i"], [b"abcd", b"efgh"], "1 bytes too many"),
        ([], [], "8 bytes are missing"),
    ],
)
def test_other_bytes_are_not_sent_to_their_end(came: list[bytes], passed: list[bytes], detail: str) -> None:
    checked = CheckedChunks(Source(came), 8, _digest(b"abcdefgh"))
    got: list[bytes] = []

    with pytest.raises(BytesChangedError) as caught:
        got.extend(checked)

    assert got == passed
    assert detail in caught.value.detail


def test_of_a_part_the_length_is_checked() -> None:
    assert list(CheckedChunks(Source([b"abcd"]), 4, None)) == [b"abcd"]
    with pytest.raises(BytesChangedError):
        list(CheckedChunks(Source([b"abc"]), 4, None))
