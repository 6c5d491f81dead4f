"""One reading of a log's history, and how far what others wrote down about it bears it out. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

from cli.verifier.tree import CompleteNode, GrowingTree, Hashes

BAD_NODES_MAX: Final = 32
"""Differing nodes kept for the report; one changed entry alters one on each level."""


class Lineage:
    """A tree over leaf digests as they come, compared with signed roots and kept nodes on the way.

    There are two once a stored leaf digest does not belong to its entry: one over the stored digests, one over the
    bytes. Which of the two agrees with the witnesses tells which of the two was changed.
    """

    def __init__(self, hashes: Hashes) -> None:
        self.tree = GrowingTree(hashes)
        # Largest size at which a root signed by the origin is the one found here: every entry up to it is right.
        self.proven_size = 0
        # Smallest size above it at which a signed root is another one.
        self.contradicted_size: int | None = None
        self.bad_nodes: list[CompleteNode] = []
        self.bad_node_count = 0
        # Whether it leads to the head's root at the head's size.
        self.is_head = False

    def copy(self) -> "Lineage":
        """Return a reading that goes its own way from here."""
        twin = Lineage.__new__(Lineage)
        twin.tree = self.tree.copy()
        twin.proven_size = self.proven_size
        twin.contradicted_size = self.contradicted_size
        twin.bad_nodes = list(self.bad_nodes)
        twin.bad_node_count = self.bad_node_count
        twin.is_head = self.is_head
        return twin

    def add(self, leaves: Sequence[bytes], nodes: Mapping[tuple[int, int], bytes] | None) -> None:
        """Add leaves and compare the nodes that became complete with the kept ones."""
        complete = self.tree.add(leaves)
        if nodes is None:
            return
        for node in complete:
            if nodes.get((node.level, node.index)) != node.digest:
                self.bad_node_count += 1
                if len(self.bad_nodes) < BAD_NODES_MAX:
                    self.bad_nodes.append(node)

    def witness(self, root: bytes) -> bool:
        """Compare with a root that the origin signed for the present size; return whether it is the same."""
        is_same = root == self.tree.root()
        if is_same:
            self.proven_size = self.tree.size
            # A later proof covers everything before it: what contradicted was the witness.
            self.contradicted_size = None
        elif self.contradicted_size is None:
            self.contradicted_size = self.tree.size
        return is_same

    @property
    def credit(self) -> tuple[bool, bool, int, int]:
        """How well this reading is borne out, to compare with another one."""
        return (self.contradicted_size is None, self.is_head, self.proven_size, -self.bad_node_count)

    def suspects(self, head_size: int, peaks: bytes | None) -> tuple[int, int]:
        """Return the narrowest run of entries that holds the first bad one, given that there is one.

        A kept node, a peak of the head and a signed root each bound it from above and, where they agree, from below.
        """
        first, last = self.proven_size + 1, self.contradicted_size or self.tree.size
        differing = [node for node in self.bad_nodes if node.last_sequence >= first]
        if differing:
            narrow = min(differing, key=lambda node: (node.first_sequence, node.level))
            first, last = max(first, narrow.first_sequence), min(last, narrow.last_sequence)
        elif peaks is not None and self.tree.size == head_size:
            bounds = self._bad_peak(peaks)
            if bounds is not None and bounds[1] >= first:
                first, last = max(first, bounds[0]), min(last, bounds[1])
        return first, max(first, last)

    def has_bad_peak(self, peaks: bytes) -> bool:
        """Return whether the head's peaks are other ones than those found here."""
        return self._bad_peak(peaks) is not None

    def _bad_peak(self, peaks: bytes) -> tuple[int, int] | None:
        start = 0
        own = self.tree.peaks()
        width = len(own[0][1]) if own else 1
        for place, (level, digest) in enumerate(own):
            if peaks[place * width : (place + 1) * width] != digest:
                return start + 1, start + (1 << level)
            start += 1 << level
        return None
