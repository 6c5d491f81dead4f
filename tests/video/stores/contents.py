"""Bytes for the store requirements: as many as a test needs, always the same, with their digest."""

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Content:
    """Bytes and what they are known by."""

    data: bytes

    @property
    def digest(self) -> bytes:
        """SHA-256."""
        return hashlib.sha256(self.data).digest()

    @property
    def size_bytes(self) -> int:
        """How many."""
        return len(self.data)

    def file(self, directory: Path) -> Path:
        """Write them to a file."""
        path = directory / self.digest.hex()
        path.write_bytes(self.data)
        return path


def content(size_bytes: int, seed: int = 0) -> Content:
    """Make bytes that no compression shortens."""
    return Content(random.Random(f"{seed}/{size_bytes}").randbytes(size_bytes))
