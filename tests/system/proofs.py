"""Merkle roots (RFC 6962) and checkpoint notes (C2SP) in the few lines that a checker needs.

Written apart from those of the services and of `zhichao verify`: a mistake made there is not made here too.
"""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

# Signature types of the C2SP formats: by the owner of a log, and by those who saw it.
OWNER, COSIGNER = b"\x01", b"\x04"


def leaf_of(entry: bytes) -> bytes:
    """Return the digest of an entry's leaf."""
    return hashlib.sha256(b"\x00" + entry).digest()


class Tree:
    """All levels of complete nodes over the leaves, so that the root at every size is a walk over a few of them."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.size = len(leaves)
        self._levels = [list(leaves)]
        while len(self._levels[-1]) > 1:
            below = self._levels[-1]
            pairs = zip(below[::2], below[1::2], strict=False)
            self._levels.append([_node(left, right) for left, right in pairs])

    def root(self, size: int | None = None) -> bytes:
        """Return the root over the first `size` leaves, over all of them without."""
        size = self.size if size is None else size
        if not 0 <= size <= self.size:
            raise ValueError(f"a tree of {self.size} leaves has no root at {size}")
        root: bytes | None = None
        for digest in self._peaks(size):
            root = digest if root is None else _node(digest, root)
        return hashlib.sha256(b"").digest() if root is None else root

    def _peaks(self, size: int) -> Iterator[bytes]:
        """Yield the roots of the complete subtrees that the size falls into, the smallest and last one first."""
        for level, digests in enumerate(self._levels):
            if size >> level & 1:
                yield digests[(size >> level) - 1]


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True)
class Key:
    """A platform's public key, as entry 1 of its logs names it."""

    name: str
    public: bytes

    @classmethod
    def read(cls, text: str) -> "Key":
        """Read `name+hash+base64`."""
        name, _, encoded = text.split("+", 2)
        return cls(name, base64.b64decode(encoded)[1:])

    def has_signed(self, text: bytes, signature: bytes) -> bool:
        """Say whether the signature is right."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except InvalidSignature:
            return False
        return True

    def number(self, kind: bytes) -> bytes:
        """Return the four bytes that name this key in a signature line of a kind."""
        return hashlib.sha256(self.name.encode() + b"\n" + kind + self.public).digest()[:4]


@dataclass(frozen=True)
class Note:
    """A signed checkpoint."""

    log: str
    size: int
    root: bytes
    text: bytes
    # (name, key number, signature) of each line.
    lines: tuple[tuple[str, bytes, bytes], ...]

    @classmethod
    def read(cls, note: str) -> "Note":
        """Read a checkpoint; what is no checkpoint ends in ValueError."""
        text, _, tail = note.partition("\n\n")
        log, size, root = text.split("\n")
        lines = []
        for line in tail.splitlines():
            _, name, encoded = line.split(" ")
            content = base64.b64decode(encoded, validate=True)
            lines.append((name, content[:4], content[4:]))
        return cls(log, int(size), base64.b64decode(root, validate=True), f"{text}\n".encode(), tuple(lines))

    def is_signed_by(self, key: Key) -> bool:
        """Say whether the owner signed it."""
        return any(key.has_signed(self.text, signature) for signature in self._signatures(key, OWNER))

    def is_cosigned_by(self, key: Key) -> bool:
        """Say whether another platform has cosigned it."""
        return any(
            key.has_signed(
                f"cosignature/v1\ntime {int.from_bytes(signature[:8], 'big')}\n".encode() + self.text, signature[8:]
            )
            for signature in self._signatures(key, COSIGNER)
        )

    def _signatures(self, key: Key, kind: bytes) -> Iterator[bytes]:
        for name, number, signature in self.lines:
            if (name, number) == (key.name, key.number(kind)):
                yield signature
