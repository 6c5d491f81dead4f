"""Reads parts of an object in the store as a decoder asks for them: here and there, or from one end to the other."""

from collections import OrderedDict
from typing import Final

from services.video.object_store import ObjectStore

BLOCK_BYTES: Final = 1024 * 1024
"""Bytes that are read at once: a decoder asks for neighbours mostly, and a request costs a millisecond."""

BLOCKS_MAX: Final = 4
"""Blocks that are kept: a decoder goes back and forth between the index, picture and sound."""


class StoredRanges:
    """One object of a known size. For one thread. Raises StoreError, and EOFError when the object is shorter."""

    def __init__(self, objects: ObjectStore, key: str, size_bytes: int) -> None:
        self._objects = objects
        self._key = key
        self._size = size_bytes
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes from an offset, fewer than asked for only at the end."""
        end = min(offset + length, self._size)
        parts = []
        while offset < end:
            number, start = divmod(offset, BLOCK_BYTES)
            part = self._block(number)[start : start + end - offset]
            parts.append(part)
            offset += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _block(self, number: int) -> bytes:
        if (held := self._blocks.get(number)) is not None:
            self._blocks.move_to_end(number)
            return held
        while len(self._blocks) >= BLOCKS_MAX:
            self._blocks.popitem(last=False)
        offset = number * BLOCK_BYTES
        expected = min(BLOCK_BYTES, self._size - offset)
        with self._objects.read(self._key, offset, expected) as chunks:
            block = b"".join(chunks)
        if len(block) != expected:
            raise EOFError(f"of {self._size} bytes there are {offset + len(block)}")
        self._blocks[number] = block
        return block
