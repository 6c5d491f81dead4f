"""RFC 6962 Merkle trees kept as a frontier plus the roots of complete 256-leaf blocks.

Pure: reads nodes through a callback and returns what must be stored. A tree of n leaves needs its at most log2(n) peaks
to grow, and reads at most 256 stored nodes per 8 levels to prove anything.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from services.journal.digests import DIGEST_BYTES, Digester

STORED_LEVEL_STEP: Final = 8
"""Nodes are stored at every 8th level: tiles of 256, as in C2SP tlog-tiles."""

LEVELS_MAX: Final = 63
"""Highest level of a tree whose size fits a signed 64-bit integer."""

ReadNodes = Callable[[int, int, int], Sequence[bytes]]
"""read(level, first_index, count) returns stored nodes of a stored level; level 0 are the leaves."""


@dataclass(frozen=True, slots=True)
class StoredNode:
    """The root of the complete subtree of 2**level leaves that starts at leaf index * 2**level."""

    level: int
    index: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Frontier:
    """The peaks of a tree: the roots of its maximal complete subtrees, largest first."""

    size: int
    peaks: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if self.size < 0 or self.size.bit_count() != len(self.peaks):
            raise ValueError(f"a tree of {self.size} leaves has {self.size.bit_count()} peaks, not {len(self.peaks)}")

    @classmethod
    def from_bytes(cls, size: int, peaks: bytes) -> "Frontier":
        """Read peaks that `to_bytes` wrote."""
        return cls(size, tuple(peaks[i : i + DIGEST_BYTES] for i in range(0, len(peaks), DIGEST_BYTES)))

    def to_bytes(self) -> bytes:
        """Return the peaks joined, largest first."""
        return b"".join(self.peaks)

    def root(self, digester: Digester) -> bytes:
        """Return the Merkle tree hash over all leaves."""
        if not self.peaks:
            return digester.empty()
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = digester.node(peak, root)
        return root

    def extend(self, digester: Digester, leaves: Sequence[bytes]) -> tuple["Frontier", list[StoredNode]]:
        """Return the tree with more leaves, and the nodes of stored levels that became complete.

        Works level by level, so that each level is one tight loop over its nodes.
        """
        if not leaves:
            return self, []
        by_level = dict(zip([level for level in range(self.size.bit_length() - 1, -1, -1) if self.size >> level & 1],
                            self.peaks, strict=True))  # fmt: skip
        stored: list[StoredNode] = []
        nodes = list(leaves)
        start = self.size
        level = 0
        while nodes:
            if level and level % STORED_LEVEL_STEP == 0:
                stored.extend(StoredNode(level, start + offset, digest) for offset, digest in enumerate(nodes))
            if start & 1:
                nodes.insert(0, by_level.pop(level))
                start -= 1
            if len(nodes) & 1:
                by_level[level] = nodes.pop()
            nodes = digester.parents(nodes)
            start >>= 1
            level += 1
        size = self.size + len(leaves)
        return Frontier(size, tuple(by_level[level] for level in sorted(by_level, reverse=True))), stored


EMPTY: Final = Frontier(0, ())


def _subtree_root(digester: Digester, read: ReadNodes, level: int, index: int) -> bytes:
    """Return the root of a complete subtree from the stored level at or below it."""
    below = level % STORED_LEVEL_STEP
    nodes = list(read(level - below, index << below, 1 << below))
    if len(nodes) != 1 << below:
        raise LookupError(f"level {level - below} lacks nodes {index << below} to {(index + 1 << below) - 1}")
    for _ in range(below):
        nodes = digester.parents(nodes)
    return nodes[0]


def _range_root(digester: Digester, read: ReadNodes, start: int, end: int) -> bytes:
    """Return the tree hash of leaves start..end-1, where start is a multiple of a power of 2 that covers them."""
    peaks: list[bytes] = []
    while start < end:
        level = (end - start).bit_length() - 1
        peaks.append(_subtree_root(digester, read, level, start >> level))
        start += 1 << level
    root = peaks.pop()
    while peaks:
        root = digester.node(peaks.pop(), root)
    return root


def frontier_at(digester: Digester, read: ReadNodes, size: int) -> Frontier:
    """Return the frontier that the tree had at an earlier size."""
    peaks: list[bytes] = []
    start = 0
    for level in range(size.bit_length() - 1, -1, -1):
        if size >> level & 1:
            peaks.append(_subtree_root(digester, read, level, start >> level))
            start += 1 << level
    return Frontier(size, tuple(peaks))


def _split(count: int) -> int:
    """Return the largest power of two smaller than count (RFC 6962, section 2.1)."""
    return 1 << (count - 1).bit_length() - 1


def inclusion_path(digester: Digester, read: ReadNodes, index: int, size: int) -> list[bytes]:
    """Return PATH(index, D[size]) of RFC 6962, section 2.1.1: siblings from the leaf upwards. index counts from 0."""
    if not 0 <= index < size:
        raise ValueError(f"index {index} is not in a tree of {size} leaves")
    start, end = 0, size
    path: list[bytes] = []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_range_root(digester, read, middle, end))
            end = middle
        else:
            path.append(_range_root(digester, read, start, middle))
            start = middle
    path.reverse()
    return path


def consistency_path(digester: Digester, read: ReadNodes, first: int, second: int) -> list[bytes]:
    """Return PROOF(first, D[second]) of RFC 6962, section 2.1.2; empty when the sizes are equal."""
    if not 0 < first <= second:
        raise ValueError(f"no consistency proof from size {first} to size {second}")
    start, end = 0, second
    is_whole = True
    path: list[bytes] = []
    while first != end - start:
        middle = _split(end - start)
        if first <= middle:
            path.append(_range_root(digester, read, start + middle, end))
            end = start + middle
        else:
            path.append(_range_root(digester, read, start, start + middle))
            first -= middle
            start += middle
            is_whole = False
    if not is_whole:
        path.append(_range_root(digester, read, start, end))
    path.reverse()
    return path


def verify_inclusion(
    digester: Digester, leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes
) -> bool:
    """Return whether the path proves the leaf at index (from 0) in the tree of this size (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    position, last = index, size - 1
    digest = leaf
    for sibling in path:
        if last == 0:
            return False
        if position & 1 or position == last:
            digest = digester.node(sibling, digest)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            digest = digester.node(digest, sibling)
        position >>= 1
        last >>= 1
    return last == 0 and digest == root


def verify_consistency(
    digester: Digester, first: int, second: int, first_root: bytes, second_root: bytes, path: Sequence[bytes]
) -> bool:
    """Return whether the path proves that the smaller tree is a prefix of the larger (RFC 9162, section 2.1.4.2)."""
    if not 0 < first <= second:
        return False
    if first == second:
        return not path and first_root == second_root
    nodes = list(path)
    if first.bit_count() == 1:
        nodes.insert(0, first_root)
    if not nodes:
        return False
    position, last = first - 1, second - 1
    while position & 1:
        position >>= 1
        last >>= 1
    old = new = nodes[0]
    for node in nodes[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            old = digester.node(node, old)
            new = digester.node(node, new)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            new = digester.node(new, node)
        position >>= 1
        last >>= 1
    return last == 0 and old == first_root and new == second_root
