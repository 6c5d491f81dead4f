"""The Merkle tree against the recursive definitions of RFC 6962."""

from collections.abc import Callable, Sequence
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.journal import merkle
from services.journal.digests import Digester
from services.journal.merkle import EMPTY, Frontier, StoredNode
from tests.journal.naive_merkle import NaiveTree, root_from_path, roots_from_proof

SIZE_MAX = 600
"""Beyond two complete tiles of 256, so that every proof crosses a stored level."""

SHA256 = Digester("sha256")
LEAVES = [SHA256.leaf(number.to_bytes(4, "big")) for number in range(SIZE_MAX)]
NAIVE = NaiveTree(LEAVES)


class NodeStore:
    """Stored nodes as the database keeps them: each once, read by range, a short answer where some are missing."""

    def __init__(self) -> None:
        self.by_place: dict[tuple[int, int], bytes] = {}

    def add(self, leaves: Sequence[bytes], start: int, nodes: Sequence[StoredNode]) -> None:
        for index, digest in enumerate(leaves, start):
            self._put(0, index, digest)
        for node in nodes:
            assert node.level % merkle.STORED_LEVEL_STEP == 0
            self._put(node.level, node.index, node.digest)

    def read(self, level: int, first_index: int, count: int) -> Sequence[bytes]:
        assert count <= 1 << merkle.STORED_LEVEL_STEP
        places = [(level, index) for index in range(first_index, first_index + count)]
        return [self.by_place[place] for place in places if place in self.by_place]

    def _put(self, level: int, index: int, digest: bytes) -> None:
        assert (level, index) not in self.by_place, "a node became complete twice"
        self.by_place[level, index] = digest


def grown(digester: Digester, leaves: Sequence[bytes], splits: Sequence[int]) -> tuple[Frontier, NodeStore]:
    """Grow a tree in the given steps."""
    store = NodeStore()
    frontier = EMPTY
    for start, end in zip([0, *splits], [*splits, len(leaves)], strict=True):
        frontier, nodes = frontier.extend(digester, leaves[start:end])
        store.add(leaves[start:end], start, nodes)
    return frontier, store


@cache
def whole() -> NodeStore:
    return grown(SHA256, LEAVES, [])[1]


def test_roots_of_every_size_are_those_of_rfc_6962() -> None:
    roots = [Frontier(0, ()).root(SHA256)]
    frontier = EMPTY
    for digest in LEAVES:
        frontier, _ = frontier.extend(SHA256, [digest])
        roots.append(frontier.root(SHA256))
    assert roots == [NAIVE.root(size) for size in range(SIZE_MAX + 1)]


@given(
    size=st.integers(0, SIZE_MAX),
    cuts=st.lists(st.integers(0, SIZE_MAX), max_size=8),
)
def test_a_tree_does_not_depend_on_how_it_grew(size: int, cuts: list[int]) -> None:
    frontier, store = grown(SHA256, LEAVES[:size], sorted(min(cut, size) for cut in cuts))
    assert frontier == grown(SHA256, LEAVES[:size], [])[0]
    assert frontier.root(SHA256) == NAIVE.root(size)
    complete = {(8, index): NAIVE._mth(index * 256, index * 256 + 256) for index in range(size // 256)}
    assert {place: node for place, node in store.by_place.items() if place[0]} == complete


@given(st.integers(0, SIZE_MAX), st.integers(0, SIZE_MAX))
def test_a_frontier_survives_its_bytes(size: int, more: int) -> None:
    frontier, _ = grown(SHA256, LEAVES[: min(size, more)], [])
    assert Frontier.from_bytes(frontier.size, frontier.to_bytes()) == frontier


def test_a_frontier_with_another_number_of_peaks_is_refused() -> None:
    with pytest.raises(ValueError, match="has 2 peaks, not 1"):
        Frontier.from_bytes(3, LEAVES[0])
    with pytest.raises(ValueError, match="peaks"):
        Frontier(-1, ())


@given(st.integers(0, SIZE_MAX), st.integers(0, SIZE_MAX))
def test_an_earlier_frontier_is_found_again(one: int, other: int) -> None:
    _, store = grown(SHA256, LEAVES[: max(one, other)], [])
    assert merkle.frontier_at(SHA256, store.read, min(one, other)) == grown(SHA256, LEAVES[: min(one, other)], [])[0]


@given(st.integers(1, SIZE_MAX).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1))))
def test_inclusion_paths_are_those_of_rfc_6962(case: tuple[int, int]) -> None:
    size, index = case
    path = merkle.inclusion_path(SHA256, whole().read, index, size)
    assert path == NAIVE.path(index, size)
    assert root_from_path(LEAVES[index], index, size, path) == NAIVE.root(size)
    assert merkle.verify_inclusion(SHA256, LEAVES[index], index, size, path, NAIVE.root(size))


@given(st.integers(1, SIZE_MAX).flatmap(lambda size: st.tuples(st.integers(1, size), st.just(size))))
def test_consistency_paths_are_those_of_rfc_6962(case: tuple[int, int]) -> None:
    first, second = case
    path = merkle.consistency_path(SHA256, whole().read, first, second)
    assert path == NAIVE.proof(first, second)
    roots = NAIVE.root(first), NAIVE.root(second)
    assert roots_from_proof(first, second, roots[0], path) == roots
    assert merkle.verify_consistency(SHA256, first, second, *roots, path)


def test_every_small_proof_verifies() -> None:
    for size in range(1, 70):
        for index in range(size):
            path = merkle.inclusion_path(SHA256, whole().read, index, size)
            assert path == NAIVE.path(index, size)
            assert merkle.verify_inclusion(SHA256, LEAVES[index], index, size, path, NAIVE.root(size))
        for first in range(1, size + 1):
            path = merkle.consistency_path(SHA256, whole().read, first, size)
            assert path == NAIVE.proof(first, size)
            assert merkle.verify_consistency(SHA256, first, size, NAIVE.root(first), NAIVE.root(size), path)


def changed(paths: Sequence[bytes]) -> list[list[bytes]]:
    """Return every way of spoiling a path by one step: a bit, a missing, a doubled or a further node, another order."""
    spoiled = []
    for place, node in enumerate(paths):
        for byte in (0, 13, 31):
            flipped = bytearray(node)
            flipped[byte] ^= 1 << byte % 8
            spoiled.append([*paths[:place], bytes(flipped), *paths[place + 1 :]])
        spoiled.append([*paths[:place], *paths[place + 1 :]])
        spoiled.append([*paths[: place + 1], *paths[place:]])
        spoiled.append([*paths[:place], node[:-1], *paths[place + 1 :]])
    spoiled.append([*paths, LEAVES[-1]])
    spoiled.append([LEAVES[-1], *paths])
    if len(set(paths)) > 1:
        spoiled.append(list(reversed(paths)))
    return spoiled


@settings(max_examples=60)
@given(st.integers(1, SIZE_MAX).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1))))
def test_no_other_inclusion_path_leaf_place_or_root_is_accepted(case: tuple[int, int]) -> None:
    size, index = case
    path, root = NAIVE.path(index, size), NAIVE.root(size)
    accepts: Callable[..., bool] = lambda *given: merkle.verify_inclusion(SHA256, *given)  # noqa: E731 - typed as a callable for the threads below
    assert not any(accepts(LEAVES[index], index, size, wrong, root) for wrong in changed(path))
    assert not accepts(LEAVES[(index + 1) % SIZE_MAX], index, size, path, root)
    assert not accepts(LEAVES[index], index, size, path, LEAVES[0] if size > 1 else LEAVES[1])
    assert not accepts(LEAVES[index], index, size, path, b"")
    for wrong_index in (-1, index - 1, index + 1, index ^ 1, size, size + index):
        if wrong_index != index:
            assert not accepts(LEAVES[index], wrong_index, size, path, root)
    for wrong_size in (0, -size, index, size * 4):
        assert not accepts(LEAVES[index], index, wrong_size, path, root)


@settings(max_examples=60)
@given(st.integers(2, SIZE_MAX).flatmap(lambda size: st.tuples(st.integers(1, size - 1), st.just(size))))
def test_no_other_consistency_proof_size_or_root_is_accepted(case: tuple[int, int]) -> None:
    first, second = case
    path, roots = NAIVE.proof(first, second), (NAIVE.root(first), NAIVE.root(second))
    accepts: Callable[..., bool] = lambda *given: merkle.verify_consistency(SHA256, *given)  # noqa: E731 - typed as a callable for the threads below
    assert not any(accepts(first, second, *roots, wrong) for wrong in changed(path))
    assert not accepts(first, second, roots[1], roots[0], path)
    assert not accepts(first, second, LEAVES[-1], roots[1], path)
    assert not accepts(first, second, roots[0], LEAVES[-1], path)
    assert not accepts(second, first, *roots, path)
    assert not accepts(0, second, *roots, path)
    assert not accepts(-first, second, *roots, path)
    assert not accepts(first, second, *roots, [])


def test_equal_sizes_are_consistent_only_with_equal_roots_and_no_path() -> None:
    assert merkle.verify_consistency(SHA256, 3, 3, NAIVE.root(3), NAIVE.root(3), [])
    assert not merkle.verify_consistency(SHA256, 3, 3, NAIVE.root(3), NAIVE.root(4), [])
    assert not merkle.verify_consistency(SHA256, 3, 3, NAIVE.root(3), NAIVE.root(3), [LEAVES[0]])


@pytest.mark.parametrize(("index", "size"), [(0, 0), (-1, 3), (3, 3), (4, 3)])
def test_a_place_outside_the_tree_has_no_path(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="is not in a tree"):
        merkle.inclusion_path(SHA256, whole().read, index, size)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 3), (-1, 3), (4, 3)])
def test_sizes_out_of_order_have_no_proof(first: int, second: int) -> None:
    with pytest.raises(ValueError, match="no consistency proof"):
        merkle.consistency_path(SHA256, whole().read, first, second)


def test_a_missing_node_is_an_error_and_not_a_wrong_proof() -> None:
    store = NodeStore()
    store.add(LEAVES[:5], 0, [])
    with pytest.raises(LookupError, match="level 0 lacks nodes"):
        merkle.inclusion_path(SHA256, store.read, 0, 8)


class SpanDigester(Digester):
    """Counts leaves instead of hashing: the digest of a subtree is its first leaf and its length. Checks neighbours."""

    def __init__(self) -> None:
        super().__init__("sha256")

    def node(self, left: bytes, right: bytes) -> bytes:
        (start, count), (next_start, next_count) = span(left), span(right)
        assert start + count == next_start, "these are no neighbours"
        assert count >= next_count
        assert count & (count - 1) == 0, "the left subtree is complete"
        return digest_of(start, count + next_count)

    def parents(self, nodes: Sequence[bytes]) -> list[bytes]:
        return [self.node(left, right) for left, right in zip(nodes[::2], nodes[1::2], strict=True)]


def digest_of(start: int, count: int) -> bytes:
    return start.to_bytes(16, "big") + count.to_bytes(16, "big")


def span(digest: bytes) -> tuple[int, int]:
    return int.from_bytes(digest[:16], "big"), int.from_bytes(digest[16:], "big")


class SpanStore:
    """Knows every complete subtree of stored levels without keeping any, up to a size."""

    def __init__(self, size: int) -> None:
        self._size = size

    def read(self, level: int, first_index: int, count: int) -> Sequence[bytes]:
        assert level % merkle.STORED_LEVEL_STEP == 0
        held = min(first_index + count, self._size >> level)
        return [digest_of(index << level, 1 << level) for index in range(first_index, held)]


SPANS = SpanDigester()
EDGES = [edge + delta for edge in (256, 65_536, 2 * 65_536, 3 * 65_536 + 256) for delta in (-1, 0, 1)]
BIG = 4 * 65_536


@settings(max_examples=25, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(EDGES), st.integers(0, BIG)), max_size=6), st.sampled_from([*EDGES, BIG]))
def test_growth_across_the_edges_of_stored_levels(cuts: list[int], size: int) -> None:
    cuts = sorted(min(cut, size) for cut in cuts)
    frontier = EMPTY
    stored: list[StoredNode] = []
    for start, end in zip([0, *cuts], [*cuts, size], strict=True):
        frontier, nodes = frontier.extend(SPANS, [digest_of(index, 1) for index in range(start, end)])
        stored += nodes
    assert span(frontier.root(SPANS)) == (0, size)
    expected = [
        StoredNode(level, index, digest_of(index << level, 1 << level))
        for level in (8, 16)
        for index in range(size >> level)
    ]
    assert sorted(stored, key=lambda node: (node.level, node.index)) == expected


@settings(deadline=None)
@given(
    st.one_of(st.sampled_from(EDGES), st.integers(1, 2**62)).flatmap(
        lambda size: st.tuples(st.integers(0, size - 1), st.just(size))
    )
)
def test_proofs_in_huge_trees_hold_together(case: tuple[int, int]) -> None:
    index, size = case
    store = SpanStore(size)
    path = merkle.inclusion_path(SPANS, store.read, index, size)
    assert len(path) <= merkle.LEVELS_MAX
    assert merkle.verify_inclusion(SPANS, digest_of(index, 1), index, size, path, digest_of(0, size))
    proof = merkle.consistency_path(SPANS, store.read, index + 1, size)
    roots = digest_of(0, index + 1), digest_of(0, size)
    assert merkle.verify_consistency(SPANS, index + 1, size, *roots, proof)
    assert merkle.frontier_at(SPANS, store.read, index + 1).root(SPANS) == roots[0]
