"""The vectors of the reference implementation of Certificate Transparency: eight leaves, their roots and proofs."""

import pytest

from services.journal import merkle
from services.journal.digests import Digester
from services.journal.merkle import EMPTY
from tests.transparency_vectors import ENTRIES, ROOTS

EMPTY_ROOT = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

# (index from 0, size, path), as in the same tests.
PATHS = [
    (0, 1, []),
    (
        0,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (
        1,
        5,
        [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]
# (first size, second size, proof).
PROOFS = [
    (1, 1, []),
    (
        1,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]

SHA256 = Digester("sha256")
LEAVES = SHA256.leaves(ENTRIES)


def read(level: int, first_index: int, count: int) -> list[bytes]:
    assert level == 0
    return LEAVES[first_index : first_index + count]


def test_the_empty_root() -> None:
    assert EMPTY.root(SHA256).hex() == EMPTY_ROOT


@pytest.mark.parametrize("size", range(1, 9))
def test_roots(size: int) -> None:
    frontier, _ = EMPTY.extend(SHA256, LEAVES[:size])
    assert frontier.root(SHA256).hex() == ROOTS[size - 1]


@pytest.mark.parametrize(("index", "size", "path"), PATHS)
def test_inclusion_paths(index: int, size: int, path: list[str]) -> None:
    nodes = [bytes.fromhex(node) for node in path]
    assert merkle.inclusion_path(SHA256, read, index, size) == nodes
    assert merkle.verify_inclusion(SHA256, LEAVES[index], index, size, nodes, bytes.fromhex(ROOTS[size - 1]))


@pytest.mark.parametrize(("first", "second", "proof"), PROOFS)
def test_consistency_proofs(first: int, second: int, proof: list[str]) -> None:
    nodes = [bytes.fromhex(node) for node in proof]
    roots = bytes.fromhex(ROOTS[first - 1]), bytes.fromhex(ROOTS[second - 1])
    assert merkle.consistency_path(SHA256, read, first, second) == nodes
    assert merkle.verify_consistency(SHA256, first, second, *roots, nodes)
