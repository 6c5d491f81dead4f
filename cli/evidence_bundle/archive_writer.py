"""Writes the zip of a bundle, a member after the other, and its index last."""

import hashlib
import os
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from cli.evidence_bundle import zip_records
from cli.evidence_bundle.index import INDEX_NAME, FileEntry, Index, comment
from cli.evidence_bundle.zip_records import Member


class BundleWriter:
    """Writes one bundle beside its place and moves it there when it is whole. Raises OSError.

    A context manager; removes what is partial.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.name}.{os.getpid()}")
        self._members: list[Member] = []
        self._files: list[FileEntry] = []
        self._file: BinaryIO

    def __enter__(self) -> Self:
        # It holds personal data.
        self._file = os.fdopen(os.open(self._partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "w+b")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        with suppress(OSError):
            self._partial.unlink(missing_ok=True)

    @property
    def names(self) -> frozenset[str]:
        """The files written so far."""
        return frozenset(one.name for one in self._files)

    def add(self, name: str, chunks: Iterable[bytes], size: int) -> FileEntry:
        """Write a file of that size; return its digest. Raises ValueError when it has another size."""
        start = self._file.tell()
        # Its checksum is known at the end, and stands before it.
        self._file.write(zip_records.local_header(Member(name, size, 0, start)))
        digest, crc, written = hashlib.sha256(), 0, 0
        for chunk in chunks:
            self._file.write(chunk)
            digest.update(chunk)
            crc = zlib.crc32(chunk, crc)
            written += len(chunk)
        if written != size:
            raise ValueError(f"{name} has {written} bytes, not {size}")
        member = Member(name, size, crc, start)
        self._file.seek(start)
        self._file.write(zip_records.local_header(member))
        self._file.seek(member.end)
        self._members.append(member)
        entry = FileEntry(name, size, digest.hexdigest())
        self._files.append(entry)
        return entry

    def add_bytes(self, name: str, content: bytes) -> FileEntry:
        """Write a small file."""
        return self.add(name, [content], len(content))

    def finish(self, index: Index, look: Callable[[Path], None] = lambda written: None) -> None:
        """Write the index of everything written, and put the bundle in its place.

        `look` sees the whole bundle before; what it raises leaves nothing in the place.
        """
        content = replace(index, files=tuple(self._files)).to_json()
        written = self.add_bytes(INDEX_NAME, content)
        self._file.write(zip_records.tail(self._members, comment(written.sha256)))
        self._file.flush()
        os.fsync(self._file.fileno())
        look(self._partial)
        self._partial.replace(self._path)
