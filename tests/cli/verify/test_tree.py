"""The verifier's own Merkle tree and note code: known answers, and agreement of its two forms."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.verifier.findings import LogResult
from cli.verifier.notes import Note, PublicKey, UnreadableNoteError
from cli.verifier.proofs import choose
from cli.verifier.tree import GrowingTree, Hashes, root_of_path, split, tree_hash
from tests.transparency_vectors import ENTRIES, ROOTS

SHA256 = Hashes("sha256")


def leaves_of(count: int) -> list[bytes]:
    return [SHA256.leaf(str(place).encode()) for place in range(count)]


def path_of(leaves: list[bytes], index: int) -> list[bytes]:
    """PATH(m, D[n]), word for word (RFC 6962, section 2.1.1)."""
    if len(leaves) == 1:
        return []
    middle = split(len(leaves))
    if index < middle:
        return [*path_of(leaves[:middle], index), tree_hash(SHA256, leaves[middle:])]
    return [*path_of(leaves[middle:], index - middle), tree_hash(SHA256, leaves[:middle])]


def test_roots_are_those_of_the_reference() -> None:
    leaves = [SHA256.leaf(entry) for entry in ENTRIES]
    assert [tree_hash(SHA256, leaves[:count]).hex() for count in range(1, 9)] == ROOTS
    assert tree_hash(SHA256, []) == hashlib.sha256(b"").digest()


def test_sm3_digests_are_those_of_the_standard() -> None:
    """GB/T 32905-2016, annex A.1."""
    expected = "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
    assert Hashes("sm3").digest(b"abc").hex() == expected


def test_another_algorithm_is_refused() -> None:
    with pytest.raises(ValueError, match="md5"):
        Hashes("md5")


@given(st.lists(st.integers(1, 300), min_size=1, max_size=6))
def test_a_growing_tree_is_the_tree(steps: list[int]) -> None:
    leaves = leaves_of(sum(steps))
    tree = GrowingTree(SHA256)
    complete, start = [], 0
    for step in steps:
        complete += tree.add(leaves[start : start + step])
        start += step
        assert tree.root() == tree_hash(SHA256, leaves[:start])
    assert [(node.level, node.index) for node in complete if node.level == 8] == [(8, i) for i in range(start // 256)]
    for node in complete:
        assert node.digest == tree_hash(SHA256, leaves[node.first_sequence - 1 : node.last_sequence])


@given(st.data())
def test_a_path_leads_to_the_root_and_no_other_does(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 80))
    index = data.draw(st.integers(0, size - 1))
    leaves = leaves_of(size)
    root, path = tree_hash(SHA256, leaves), path_of(leaves, index)
    assert root_of_path(SHA256, leaves[index], index, size, path) == root
    other = data.draw(st.integers(0, size - 1))
    if other != index:
        assert root_of_path(SHA256, leaves[index], other, size, path) != root
    assert root_of_path(SHA256, leaves[index], index, size, [*path, bytes(32)]) != root
    if path:
        assert root_of_path(SHA256, leaves[index], index, size, path[:-1]) != root
        assert root_of_path(SHA256, leaves[index], index, size, [bytes(32), *path[1:]]) != root
    assert root_of_path(SHA256, leaves[index], size, size, path) is None


@given(st.integers(0, 700), st.integers(1, 400), st.integers(0, 2**32))
def test_a_sample_is_spread_over_all_logs_and_repeats(first: int, second: int, seed: int) -> None:
    results = [LogResult("weighing", "141025", size=first), LogResult("registry", "141025", size=second)]
    chosen = choose(results, 50, seed)
    assert chosen == choose(results, 50, seed)
    assert len(set(chosen)) == min(50, first + second)
    assert all(1 <= sequence <= results[place].size for place, sequence in chosen)


def test_notes_and_keys_that_have_not_their_form_are_refused() -> None:
    for text in (
        "",
        "a\n1\nAA==\n",
        "a\n1\nAA==\n\nno dash\n",
        "a\n01\nAA==\n\n\u2014 a AAAAAAA=\n",
        "a\nx\nAA==\n\n\n",
    ):
        with pytest.raises(UnreadableNoteError):
            Note.read(text)
    for text in ("", "a+b", "a+00000000+AA==", "zhichao/141025+00000000+AUVX3BcJdhWSviyeJNTBIv+aEmisOt4u+FIftbedZge9"):
        with pytest.raises(UnreadableNoteError):
            PublicKey.read(text)
