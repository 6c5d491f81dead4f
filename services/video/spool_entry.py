"""One upload as the spool keeps account of it, and the files that are there."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass(slots=True)
class SpoolEntry:
    """An upload known here. While it is open its whole size is taken, afterwards what was received."""

    path: Path
    digest: bytes
    size_bytes: int
    received_bytes: int
    touched_time: datetime
    is_open: bool = False

    @property
    def taken_bytes(self) -> int:
        """How much of the spool it takes."""
        return self.size_bytes if self.is_open else self.received_bytes

    def written_bytes(self) -> int:
        """Return what is on the disk now, also while it comes."""
        try:
            return min(self.path.stat().st_size, self.size_bytes)
        except OSError:
            return self.received_bytes


def files(directory: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the files of a directory."""
    with os.scandir(directory) as found:
        for one in found:
            if one.is_file(follow_symlinks=False):
                yield Path(one.path), one.stat(follow_symlinks=False)
