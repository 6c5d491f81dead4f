"""The records of a zip file as bundles have them: members stored as they are, nothing that has two spellings.

From the names, sizes and checksums of the members follows every byte of a bundle that is not a member's own, so that
any change of any of them is seen. Any unzip reads it. (PKWARE APPNOTE 6.3.10, sections 4.3 to 4.5.) Pure.
"""

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

LOCAL_SIGNATURE: Final = 0x04034B50
CENTRAL_SIGNATURE: Final = 0x02014B50
END_SIGNATURE: Final = 0x06054B50
END64_SIGNATURE: Final = 0x06064B50
LOCATOR64_SIGNATURE: Final = 0x07064B50

LOCAL_BYTES: Final = 30
CENTRAL_BYTES: Final = 46
END_BYTES: Final = 22
END64_BYTES: Final = 56
LOCATOR64_BYTES: Final = 20

FIELD_MAX: Final = 0xFFFF_FFFF
"""A size or place from here on stands in a zip64 field."""

MEMBERS_MAX: Final = 4_096
"""Twice what a weighing with a hundred pieces of evidence and two thousand custody events needs."""

NAME_CHARACTERS_MAX: Final = 128
_NAME: Final = re.compile(r"[a-z0-9][A-Za-z0-9_-]*(?:[./][A-Za-z0-9_-]+)*")

_VERSION: Final = 20
_VERSION_64: Final = 45
_MADE_BY: Final = 3 << 8
"""Unix, for the attributes."""
_READ_ONLY: Final = 0o100444 << 16
_DATE: Final = 0x0021
"""1980-01-01, the first day that zip knows: when it was exported stands in the journal."""
_ZIP64: Final = 1

_LOCAL: Final = struct.Struct("<IHHHHHIIIHH")
_CENTRAL: Final = struct.Struct("<IHHHHHHIIIHHHHHII")
_END: Final = struct.Struct("<IHHHHIIH")
_END64: Final = struct.Struct("<IQHHIIQQQQ")
_LOCATOR64: Final = struct.Struct("<IIQI")


@dataclass(frozen=True, slots=True)
class Member:
    """A file in the bundle."""

    name: str
    size: int
    crc: int
    offset: int
    """Where its local header begins."""

    @property
    def content_offset(self) -> int:
        """Where its bytes begin."""
        return self.offset + len(local_header(self))

    @property
    def end(self) -> int:
        """Where the next member begins."""
        return self.content_offset + self.size


def is_name(name: str) -> bool:
    """Return whether a name is one that a bundle may hold: relative, lower-case first, no step up, nothing hidden."""
    return len(name) <= NAME_CHARACTERS_MAX and _NAME.fullmatch(name) is not None


def local_header(member: Member) -> bytes:
    """Return what stands before a member's bytes."""
    extra = struct.pack("<HHQQ", _ZIP64, 16, member.size, member.size) if member.size >= FIELD_MAX else b""
    size = min(member.size, FIELD_MAX)
    name = member.name.encode("ascii")
    version = _VERSION_64 if extra else _VERSION
    fields = (version, 0, 0, 0, _DATE, member.crc, size, size, len(name), len(extra))
    return _LOCAL.pack(LOCAL_SIGNATURE, *fields) + name + extra


def central_record(member: Member) -> bytes:
    """Return a member's record in the directory."""
    large = [value for value in (member.size, member.size, member.offset) if value >= FIELD_MAX]
    extra = struct.pack(f"<HH{len(large)}Q", _ZIP64, 8 * len(large), *large) if large else b""
    size, offset = min(member.size, FIELD_MAX), min(member.offset, FIELD_MAX)
    name = member.name.encode("ascii")
    version = _VERSION_64 if extra else _VERSION
    fields = (_MADE_BY | version, version, 0, 0, 0, _DATE, member.crc, size, size, len(name), len(extra))
    return _CENTRAL.pack(CENTRAL_SIGNATURE, *fields, 0, 0, 0, _READ_ONLY, offset) + name + extra


def end_records(count: int, directory_offset: int, directory_bytes: int, comment: bytes) -> bytes:
    """Return what stands behind the directory."""
    records = b""
    if directory_offset >= FIELD_MAX:
        records = _END64.pack(
            END64_SIGNATURE,
            END64_BYTES - 12,
            _MADE_BY | _VERSION_64,
            _VERSION_64,
            0,
            0,
            count,
            count,
            directory_bytes,
            directory_offset,
        )
        records += _LOCATOR64.pack(LOCATOR64_SIGNATURE, 0, directory_offset + directory_bytes, 1)
    offset = min(directory_offset, FIELD_MAX)
    return records + _END.pack(END_SIGNATURE, 0, 0, count, count, directory_bytes, offset, len(comment)) + comment


def directory(members: Sequence[Member]) -> list[bytes]:
    """Return the records of the directory, in order."""
    return [central_record(member) for member in members]


def tail(members: Sequence[Member], comment: bytes) -> bytes:
    """Return everything behind the last member."""
    records = b"".join(directory(members))
    offset = members[-1].end if members else 0
    return records + end_records(len(members), offset, len(records), comment)


def read_local(content: bytes, offset: int) -> Member | None:
    """Read the member whose local header begins the content; None when it is none that a bundle could have."""
    if len(content) < LOCAL_BYTES:
        return None
    signature, _, _, method, _, _, crc, _, size, name_bytes, extra_bytes = _LOCAL.unpack_from(content)
    name = _name(content[LOCAL_BYTES : LOCAL_BYTES + name_bytes], name_bytes)
    if signature != LOCAL_SIGNATURE or method or name is None:
        return None
    if extra_bytes:
        extra = content[LOCAL_BYTES + name_bytes : LOCAL_BYTES + name_bytes + extra_bytes]
        if len(extra) != 4 + 16:
            return None
        (size,) = struct.unpack_from("<Q", extra, 4)
    return Member(name, size, crc, offset)


def read_directory(content: bytes, count: int) -> list[Member] | None:
    """Read the records of a directory; None when it holds something that a bundle could not have."""
    members, place = [], 0
    for _ in range(count):
        if len(content) - place < CENTRAL_BYTES:
            return None
        fields = _CENTRAL.unpack_from(content, place)
        signature, _, _, _, method, _, _, crc, _, size, name_bytes, extra_bytes, *_, offset = fields
        place += CENTRAL_BYTES
        name = _name(content[place : place + name_bytes], name_bytes)
        if signature != CENTRAL_SIGNATURE or method or name is None:
            return None
        place += name_bytes
        extra = content[place : place + extra_bytes]
        place += extra_bytes
        if extra:
            large = [value for (value,) in struct.iter_unpack("<Q", extra[4 : 4 + len(extra[4:]) // 8 * 8])]
            if size >= FIELD_MAX and len(large) >= 2:
                size, large = large[0], large[2:]
            if offset >= FIELD_MAX and large:
                offset = large[0]
        members.append(Member(name, size, crc, offset))
    return members


def read_end(content: bytes) -> tuple[int, int, int] | None:
    """Read count, place and size of the directory from what stands at the end, without the comment; None if unreadable.

    The content ends with the end record and begins with the zip64 records before it, as far as they may be there.
    """
    if len(content) < END_BYTES:
        return None
    signature, _, _, _, count, size, offset, _ = _END.unpack_from(content, len(content) - END_BYTES)
    if signature != END_SIGNATURE or not 0 < count <= MEMBERS_MAX:
        return None
    if offset >= FIELD_MAX:
        place = len(content) - END_BYTES - LOCATOR64_BYTES - END64_BYTES
        if place < 0:
            return None
        signature, *_, size, offset = _END64.unpack_from(content, place)
        if signature != END64_SIGNATURE:
            return None
    return count, offset, size


def _name(content: bytes, size: int) -> str | None:
    if len(content) != size or not content.isascii():
        return None
    name = content.decode("ascii")
    return name if is_name(name) else None
