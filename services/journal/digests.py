"""Digest algorithms of leaves and nodes. The algorithm is named in entry 1 of every log, so old logs stay checkable."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Final

DIGEST_BYTES: Final = 32
"""Size of a digest; SHA-256 (FIPS 180-4) and SM3 (GB/T 32905) both give 32 bytes."""

LEAF_PREFIX: Final = b"\x00"
"""Domain separation of leaves (RFC 6962, section 2.1)."""

NODE_PREFIX: Final = b"\x01"
"""Domain separation of interior nodes (RFC 6962, section 2.1)."""

_Constructor = Callable[[bytes], "hashlib._Hash"]


def _sm3(content: bytes) -> "hashlib._Hash":
    return hashlib.new("sm3", content)


_CONSTRUCTORS: Final[dict[str, _Constructor]] = {"sha256": hashlib.sha256, "sm3": _sm3}

ALGORITHMS: Final = tuple(_CONSTRUCTORS)


class Digester:
    """Hashes leaves and nodes with one algorithm. Raises ValueError for one that is not known or not built in."""

    def __init__(self, algorithm: str) -> None:
        constructor = _CONSTRUCTORS.get(algorithm)
        if constructor is None:
            raise ValueError(f"digest algorithm {algorithm!r} is not one of {', '.join(ALGORITHMS)}")
        constructor(b"")  # OpenSSL builds without SM3 fail here, at start, and not in the middle of a batch.
        self.algorithm = algorithm
        self._hash = constructor

    def empty(self) -> bytes:
        """Return the root of the empty log: the digest of no bytes."""
        return self._hash(b"").digest()

    def leaf(self, entry: bytes) -> bytes:
        """Return the leaf digest of one entry's bytes."""
        return self._hash(LEAF_PREFIX + entry).digest()

    def leaves(self, entries: Sequence[bytes]) -> list[bytes]:
        """Return the leaf digests of many entries; one call keeps the loop tight on the hot path."""
        make = self._hash
        return [make(b"\x00" + entry).digest() for entry in entries]

    def node(self, left: bytes, right: bytes) -> bytes:
        """Return the digest of an interior node."""
        return self._hash(NODE_PREFIX + left + right).digest()

    def parents(self, nodes: Sequence[bytes]) -> list[bytes]:
        """Return the parents of an even number of sibling nodes, left to right."""
        make = self._hash
        pairs = iter(nodes)
        return [make(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=True)]
