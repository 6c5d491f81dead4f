"""RFC 6962 as its section 2.1 writes it: recursive, slow, over all leaves. Shares nothing with services.journal."""

import hashlib
from collections.abc import Callable, Sequence

Hash = Callable[[bytes], bytes]


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def sm3(content: bytes) -> bytes:
    return hashlib.new("sm3", content).digest()


class NaiveTree:
    """MTH, PATH and PROOF over leaf digests; roots of the same leaves are remembered, since recursion asks again."""

    def __init__(self, leaves: Sequence[bytes], hash_of: Hash = sha256) -> None:
        self.leaves = list(leaves)
        self._hash = hash_of
        self._roots: dict[tuple[int, int], bytes] = {}

    def root(self, size: int | None = None) -> bytes:
        """Return MTH(D[size])."""
        return self._mth(0, len(self.leaves) if size is None else size)

    def path(self, index: int, size: int | None = None) -> list[bytes]:
        """Return PATH(index, D[size])."""
        return self._path(index, 0, len(self.leaves) if size is None else size)

    def proof(self, first: int, second: int | None = None) -> list[bytes]:
        """Return PROOF(first, D[second])."""
        return self._subproof(first, 0, len(self.leaves) if second is None else second, True)

    def _mth(self, start: int, end: int) -> bytes:
        if (start, end) not in self._roots:
            if end == start:
                root = self._hash(b"")
            elif end - start == 1:
                root = self.leaves[start]
            else:
                middle = start + _largest_power_below(end - start)
                root = self._hash(b"\x01" + self._mth(start, middle) + self._mth(middle, end))
            self._roots[start, end] = root
        return self._roots[start, end]

    def _path(self, index: int, start: int, end: int) -> list[bytes]:
        if end - start == 1:
            return []
        split = _largest_power_below(end - start)
        if index < split:
            return [*self._path(index, start, start + split), self._mth(start + split, end)]
        return [*self._path(index - split, start + split, end), self._mth(start, start + split)]

    def _subproof(self, first: int, start: int, end: int, is_whole: bool) -> list[bytes]:
        if first == end - start:
            return [] if is_whole else [self._mth(start, end)]
        split = _largest_power_below(end - start)
        if first <= split:
            return [*self._subproof(first, start, start + split, is_whole), self._mth(start + split, end)]
        return [*self._subproof(first - split, start + split, end, False), self._mth(start, start + split)]


def leaf(entry: bytes, hash_of: Hash = sha256) -> bytes:
    """Return the leaf digest of an entry."""
    return hash_of(b"\x00" + entry)


def root_of(entries: Sequence[bytes], hash_of: Hash = sha256) -> bytes:
    """Return the root over whole entries."""
    return NaiveTree([leaf(entry, hash_of) for entry in entries], hash_of).root()


def root_from_path(digest: bytes, index: int, size: int, path: Sequence[bytes], hash_of: Hash = sha256) -> bytes:
    """Return the root that an inclusion path leads to: PATH read backwards."""
    if size == 1:
        assert not path
        return digest
    split = _largest_power_below(size)
    if index < split:
        return hash_of(b"\x01" + root_from_path(digest, index, split, path[:-1], hash_of) + path[-1])
    return hash_of(b"\x01" + path[-1] + root_from_path(digest, index - split, size - split, path[:-1], hash_of))


def roots_from_proof(
    first: int, second: int, first_root: bytes, path: Sequence[bytes], hash_of: Hash = sha256
) -> tuple[bytes, bytes]:
    """Return both roots that a consistency proof leads to: PROOF read backwards."""

    def both(part: int, size: int, is_whole: bool, rest: Sequence[bytes]) -> tuple[bytes, bytes]:
        if part == size:
            if is_whole:
                assert not rest
                return first_root, first_root
            (node,) = rest
            return node, node
        split = _largest_power_below(size)
        if part <= split:
            old, new = both(part, split, is_whole, rest[:-1])
            return old, hash_of(b"\x01" + new + rest[-1])
        old, new = both(part - split, size - split, False, rest[:-1])
        return hash_of(b"\x01" + rest[-1] + old), hash_of(b"\x01" + rest[-1] + new)

    return both(first, second, True, path)


def _largest_power_below(count: int) -> int:
    power = 1
    while power * 2 < count:
        power *= 2
    return power
