"""Digest algorithms against published vectors."""

import hashlib

import pytest

from services.journal.digests import ALGORITHMS, Digester


def test_sm3_gives_the_vectors_of_the_standard() -> None:
    # GB/T 32905-2016, appendix A: examples 1 and 2.
    made = Digester("sm3")
    assert made._hash(b"abc").hexdigest() == "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
    assert made._hash(b"abcd" * 16).hexdigest() == "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732"


def test_sha256_gives_the_vector_of_the_standard() -> None:
    # FIPS 180-2, appendix B.1.
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert Digester("sha256")._hash(b"abc").hexdigest() == expected


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_leaves_and_nodes_are_kept_apart(algorithm: str) -> None:
    made = Digester(algorithm)
    left, right = made.leaf(b"left"), made.leaf(b"right")
    assert left == hashlib.new(algorithm, b"\x00left").digest()
    assert made.node(left, right) == hashlib.new(algorithm, b"\x01" + left + right).digest()
    assert made.empty() == hashlib.new(algorithm).digest()
    assert made.leaves([b"left", b"right"]) == [left, right]
    assert made.parents([left, right]) == [made.node(left, right)]
    assert made.leaf(b"\x01" + left + right) != made.node(left, right)


def test_parents_come_in_pairs() -> None:
    with pytest.raises(ValueError, match="zip"):
        Digester("sha256").parents([b"one"])


@pytest.mark.parametrize("algorithm", ["", "md5", "SHA256", "sha256\x00", "sha512"])
def test_other_algorithms_are_refused(algorithm: str) -> None:
    with pytest.raises(ValueError, match="is not one of sha256, sm3"):
        Digester(algorithm)
