"""Reads the zip of a bundle: which members it has, and whether every byte around them is what follows from them.

It is read twice, from the front by the headers before the members and from the end by the directory: where one of them
was changed, the other one tells which. Nothing is unpacked to disk and nothing is decompressed.
"""

import hashlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from cli.evidence_bundle import zip_records
from cli.evidence_bundle.findings import Finding
from cli.evidence_bundle.index import COMMENT_BYTES
from cli.evidence_bundle.zip_records import MEMBERS_MAX, Member

READ_BYTES: Final = 1024 * 1024

_HEADER_BYTES_MAX: Final = zip_records.LOCAL_BYTES + zip_records.NAME_CHARACTERS_MAX + 20
_DIRECTORY_BYTES_MAX: Final = MEMBERS_MAX * (zip_records.CENTRAL_BYTES + zip_records.NAME_CHARACTERS_MAX + 28)
_END_BYTES_MAX: Final = zip_records.END64_BYTES + zip_records.LOCATOR64_BYTES + zip_records.END_BYTES

_REPACKED: Final = (
    "is not laid out as a bundle is: it was cut, damaged, or packed again, or is no bundle"
    " 文件结构不是证据包: 可能被截断、损坏、重新打包, 或不是证据包"
)


class NotABundleError(Exception):
    """The file has nothing of a bundle; the text says what was found."""


@dataclass(slots=True)
class Digest:
    """What the bytes of a member are."""

    sha256: str
    crc: int


@dataclass(slots=True)
class _Reading:
    """One way to read the structure, and where the file differs from what follows from it."""

    members: Sequence[Member]
    findings: list[Finding] = field(default_factory=list)
    differing_bytes: int = 0


class Archive:
    """The members of one bundle. A context manager; open it with `Archive.open`."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self.size = size
        self.comment = self._read(size - COMMENT_BYTES, COMMENT_BYTES) if size > COMMENT_BYTES else b""
        reading = self._best_reading()
        self.findings = reading.findings
        self.members = {member.name: member for member in reading.members}

    @classmethod
    def open(cls, path: Path) -> "Archive":
        """Open a file. Raises OSError, NotABundleError."""
        file = path.open("rb")
        try:
            return cls(file, path.stat().st_size)
        except BaseException:
            file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def content(self, name: str, bytes_max: int) -> bytes | None:
        """Return the bytes of a member; None when there is no such member, or it is larger than that."""
        member = self.members.get(name)
        if member is None or member.size > bytes_max:
            return None
        return self._read(member.content_offset, member.size)

    def digest(self, name: str, advance: Callable[[int], None] = lambda count: None) -> Digest:
        """Return the digest of a member's bytes, which are read piece by piece."""
        member = self.members[name]
        digest, crc = hashlib.sha256(), 0
        self._file.seek(member.content_offset)
        left = member.size
        while left and (chunk := self._file.read(min(left, READ_BYTES))):
            digest.update(chunk)
            crc = zlib.crc32(chunk, crc)
            left -= len(chunk)
            advance(len(chunk))
        return Digest(digest.hexdigest(), crc)

    # How it is laid out

    def _best_reading(self) -> _Reading:
        readings = [
            self._compare(members)
            for members in (self._by_directory(), self._by_headers())
            if members and len({member.name for member in members}) == len(members)
        ]
        if not readings:
            raise NotABundleError(_REPACKED)
        best = min(readings, key=lambda one: one.differing_bytes)
        if best.differing_bytes * 2 > self.size:
            raise NotABundleError(_REPACKED)
        return best

    def _by_headers(self) -> list[Member]:
        """Walk from one local header to the next."""
        members: list[Member] = []
        place = 0
        while len(members) < MEMBERS_MAX:
            member = zip_records.read_local(self._read(place, _HEADER_BYTES_MAX), place)
            if member is None or member.end > self.size:
                break
            members.append(member)
            place = member.end
        return members

    def _by_directory(self) -> list[Member]:
        """Read the directory, found from the end; places follow from the sizes, not from what it says."""
        end = max(0, self.size - COMMENT_BYTES)
        start = max(0, end - _END_BYTES_MAX)
        found = zip_records.read_end(self._read(start, end - start))
        if found is None:
            return []
        count, offset, size = found
        if size > _DIRECTORY_BYTES_MAX or offset + size > self.size:
            return []
        listed = zip_records.read_directory(self._read(offset, size), count) or []
        members: list[Member] = []
        place = 0
        for one in listed:
            member = Member(one.name, one.size, one.crc, place)
            if member.end > self.size:
                return []
            members.append(member)
            place = member.end
        return members

    def _compare(self, members: Sequence[Member]) -> _Reading:
        """Compare every byte that is no member's own with what follows from the members."""
        reading = _Reading(members)
        for member in members:
            self._compare_piece(
                reading, f"header of 文件头: {member.name}", member.offset, zip_records.local_header(member)
            )
        place = members[-1].end
        for member, record in zip(members, zip_records.directory(members), strict=True):
            self._compare_piece(reading, f"directory record of 目录项: {member.name}", place, record)
            place += len(record)
        end = zip_records.end_records(len(members), members[-1].end, place - members[-1].end, bytes(COMMENT_BYTES))
        end = end[: len(end) - COMMENT_BYTES]
        self._compare_piece(reading, "end of the archive 归档结尾", place, end)
        expected = place + len(end) + COMMENT_BYTES
        if expected != self.size:
            reading.differing_bytes += abs(expected - self.size)
            reading.findings.append(
                Finding("archive 归档", f"has {self.size:,} bytes, its members make {expected:,} 文件长度不符")
            )
        return reading

    def _compare_piece(self, reading: _Reading, name: str, offset: int, expected: bytes) -> None:
        found = self._read(offset, len(expected))
        if found == expected:
            return
        differing = [place for place in range(len(expected)) if found[place : place + 1] != expected[place : place + 1]]
        reading.differing_bytes += len(differing)
        reading.findings.append(Finding(name, f"byte {offset + differing[0]:,} was changed 字节被改"))

    def _read(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(size)
