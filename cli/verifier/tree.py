"""The Merkle tree hash of RFC 6962, twice: as the definition reads, and as a stack that needs log2(n) digests. Pure."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

DIGEST_BYTES: Final = 32
"""SHA-256 and SM3 digests have 32 bytes."""

NODE_LEVEL_STEP: Final = 8
"""Writers keep the roots of complete subtrees of 256, 65,536 … leaves (C2SP tlog-tiles)."""

KNOWN_ALGORITHMS: Final = ("sha256", "sm3")
"""Digest algorithms that entry 1 of a log may name."""


class Hashes:
    """Leaf and node digests of one algorithm (RFC 6962, section 2.1). Refuses another with ValueError."""

    def __init__(self, algorithm: str) -> None:
        if algorithm not in KNOWN_ALGORITHMS:
            raise ValueError(f"digest algorithm {algorithm!r} is not one of {', '.join(KNOWN_ALGORITHMS)}")
        self.algorithm = algorithm
        self.digest = _constructor(algorithm)

    def leaf(self, entry: bytes) -> bytes:
        """Return H(0x00 || entry)."""
        return self.digest(b"\x00" + entry)

    def node(self, left: bytes, right: bytes) -> bytes:
        """Return H(0x01 || left || right)."""
        return self.digest(b"\x01" + left + right)


def _constructor(algorithm: str) -> Callable[[bytes], bytes]:
    if algorithm == "sha256":
        # By its own name: `hashlib.new` looks it up each time, a third of the time of a short digest.
        return lambda content: hashlib.sha256(content).digest()
    # OpenSSL without SM3 fails here and not after a million entries.
    hashlib.new(algorithm, b"")
    return lambda content: hashlib.new(algorithm, content).digest()


def split(count: int) -> int:
    """Return the largest power of two smaller than count."""
    power = 1
    while power * 2 < count:
        power *= 2
    return power


def tree_hash(hashes: Hashes, leaves: Sequence[bytes]) -> bytes:
    """Return MTH over leaf digests, word for word as RFC 6962 defines it."""
    if not leaves:
        return hashes.digest(b"")
    if len(leaves) == 1:
        return leaves[0]
    middle = split(len(leaves))
    return hashes.node(tree_hash(hashes, leaves[:middle]), tree_hash(hashes, leaves[middle:]))


def root_of_path(hashes: Hashes, leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Return the root that an audit path leads to (RFC 6962, section 2.1.1), None when it has a wrong length.

    index counts from 0. Follows the definition of PATH from the root down, undoing it on the way back.
    """
    if not 0 <= index < size:
        return None
    if size == 1:
        return leaf if not path else None
    if not path:
        return None
    middle = split(size)
    if index < middle:
        inner = root_of_path(hashes, leaf, index, middle, path[:-1])
        return None if inner is None else hashes.node(inner, path[-1])
    inner = root_of_path(hashes, leaf, index - middle, size - middle, path[:-1])
    return None if inner is None else hashes.node(path[-1], inner)


def roots_of_proof(
    hashes: Hashes, first: int, second: int, first_root: bytes, path: Sequence[bytes]
) -> tuple[bytes, bytes] | None:
    """Return the roots at both sizes that a consistency proof leads to (RFC 6962, section 2.1.2).

    None when it has a wrong length. Follows the definition of PROOF from the root down, undoing it on the way back.
    """

    def both(part: int, size: int, rest: Sequence[bytes], *, is_whole: bool) -> tuple[bytes, bytes] | None:
        if part == size:
            if is_whole:
                return (first_root, first_root) if not rest else None
            return (rest[0], rest[0]) if len(rest) == 1 else None
        if not rest:
            return None
        middle = split(size)
        if part <= middle:
            inner = both(part, middle, rest[:-1], is_whole=is_whole)
            return None if inner is None else (inner[0], hashes.node(inner[1], rest[-1]))
        inner = both(part - middle, size - middle, rest[:-1], is_whole=False)
        return None if inner is None else (hashes.node(rest[-1], inner[0]), hashes.node(rest[-1], inner[1]))

    return both(first, second, path, is_whole=True) if 0 < first <= second else None


@dataclass(frozen=True, slots=True)
class CompleteNode:
    """The root of the complete subtree over leaves index * 2**level up to the next such place."""

    level: int
    index: int
    digest: bytes

    @property
    def first_sequence(self) -> int:
        """Sequence of its first entry."""
        return (self.index << self.level) + 1

    @property
    def last_sequence(self) -> int:
        """Sequence of its last entry."""
        return (self.index + 1) << self.level


class GrowingTree:
    """MTH over leaves that come one after another: a stack of the roots of complete subtrees, largest first."""

    def __init__(self, hashes: Hashes) -> None:
        self._hashes = hashes
        self._levels: list[int] = []
        self._digests: list[bytes] = []
        self.size = 0

    def add(self, leaves: Sequence[bytes]) -> list[CompleteNode]:
        """Add leaf digests; return the nodes of the levels that writers keep, as they became complete."""
        levels, digests, node = self._levels, self._digests, self._hashes.node
        complete: list[CompleteNode] = []
        size = self.size
        for leaf in leaves:
            size += 1
            level, digest = 0, leaf
            while levels and levels[-1] == level:
                levels.pop()
                digest = node(digests.pop(), digest)
                level += 1
                if not level % NODE_LEVEL_STEP:
                    complete.append(CompleteNode(level, (size >> level) - 1, digest))
            levels.append(level)
            digests.append(digest)
        self.size = size
        return complete

    def root(self) -> bytes:
        """Return MTH over the leaves so far."""
        if not self._digests:
            return self._hashes.digest(b"")
        root = self._digests[-1]
        for left in reversed(self._digests[:-1]):
            root = self._hashes.node(left, root)
        return root

    def peaks(self) -> list[tuple[int, bytes]]:
        """Return level and root of each complete subtree, largest first."""
        return list(zip(self._levels, self._digests, strict=True))

    def copy(self) -> "GrowingTree":
        """Return a tree that grows apart from this one."""
        twin = GrowingTree(self._hashes)
        twin._levels, twin._digests, twin.size = list(self._levels), list(self._digests), self.size
        return twin
