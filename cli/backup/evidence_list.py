"""The list of the objects that a platform should hold: which bytes, by digest, and how many. Small beside what it
lists, and enough to check a copy of them wherever it is.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from cli.backup.record import BackupError
from services.video.object_store import object_key

LIST_FILE: Final = "objects.txt"
"""Name of the list within a backup's evidence."""

HEADER: Final = "# zhichao evidence 1"
"""First line: what this is, and the version of its form."""

DIGEST_CHARACTERS: Final = 64
"""SHA-256 in hexadecimal."""


class ListedObject(NamedTuple):
    """One object that should be there."""

    digest: bytes
    size_bytes: int

    @property
    def path(self) -> str:
        """Where it lies below a directory of objects, and in a bucket."""
        return object_key(self.digest)


@dataclass(frozen=True)
class ListSummary:
    """How much is listed, and the digest of the list itself."""

    object_count: int
    object_bytes: int
    list_sha256: str


def write(path: Path, objects: Iterable[ListedObject]) -> ListSummary:
    """Write a list. Raises BackupError."""
    found = hashlib.sha256(usedforsecurity=False)
    count = total = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="ascii", newline="\n") as file:
            found.update(f"{HEADER}\n".encode("ascii"))
            file.write(f"{HEADER}\n")
            for one in objects:
                line = f"{one.digest.hex()} {one.size_bytes}\n"
                found.update(line.encode("ascii"))
                file.write(line)
                count += 1
                total += one.size_bytes
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise BackupError(f"{path} cannot be written: {error.strerror} 无法写入") from error
    return ListSummary(count, total, found.hexdigest())


def read(path: Path) -> Iterator[ListedObject]:
    """Yield what is listed. Raises BackupError for what is no list."""
    try:
        with path.open(encoding="ascii") as file:
            if file.readline().rstrip("\n") != HEADER:
                raise BackupError(f"{path} is no list of evidence of this release 不是本版本的证据清单")
            for line in file:
                digest, _, size = line.rstrip("\n").partition(" ")
                if len(digest) != DIGEST_CHARACTERS or not size.isdecimal():
                    raise BackupError(f"{path} is damaged: a line is {line[:80]!r} 清单已损坏")
                yield ListedObject(bytes.fromhex(digest), int(size))
    except (OSError, ValueError) as error:
        raise BackupError(f"{path} cannot be read: {error} 无法读取") from error
