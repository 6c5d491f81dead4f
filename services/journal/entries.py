"""Builds and reads entry bytes. Entries are built by joining serialised parts: the payload is serialised once and
copied.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import repeat
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from services.journal.digests import Digester
from zhichao.journal.v1 import entry_pb2

PLATFORM_CODE_DIGITS: Final = 6
"""Digits of a platform code, the owner of a log (GB/T 2260 or an extra zone)."""

LOG_START_KIND: Final = "zhichao.journal.v1.LogStart"
"""Kind of entry 1 of every log."""

_PAYLOAD_TAG: Final = bytes([4 << 3 | 2])
"""Field 4 of Entry, length-delimited (protobuf encoding)."""

_SMALL_LENGTHS: Final = 16_384
"""Lengths below this have their varint precomputed; payloads are nearly always shorter."""


def varint(number: int) -> bytes:
    """Return a non-negative number in protobuf's base-128 encoding."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


_PREFIXES: Final = tuple(_PAYLOAD_TAG + varint(length) for length in range(_SMALL_LENGTHS))


def payload_opening(length: int) -> bytes:
    """Return what stands before the content of a payload field of this many bytes: tag and length."""
    return _PREFIXES[length] if length < _SMALL_LENGTHS else _PAYLOAD_TAG + varint(length)


def timestamp(moment: datetime) -> Timestamp:
    """Return an aware datetime as a protobuf timestamp."""
    message = Timestamp()
    message.FromDatetime(moment)
    return message


class NewEntry(NamedTuple):
    """An entry of a log before it has its place: bytes and leaf digest. A tuple, because it is made fastest."""

    entry: bytes
    leaf: bytes
    audience: str = ""
    """What the entry says of its audience; `LogWriter.append` makes it known to readers below."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry stands in its origin's log."""

    origin: str
    sequence: int
    leaf: bytes


class EntryBuilder:
    """Builds entries that share kind, time, actor, request and audience: one prefix for a whole batch.

    `audience` is the division code that the entries are addressed to, empty for entries that go up only. Raises
    ValueError when it is no such code: what nobody can receive must not be written.
    """

    def __init__(
        self, kind: str, schema: int, write_time: datetime, actor: str = "", request_id: str = "", audience: str = ""
    ) -> None:
        if audience and not is_platform_code(audience):
            raise ValueError(f"audience {audience!r} is not a six-digit division code")
        self._audience = audience
        self._prefix = entry_pb2.Entry(
            kind=kind,
            schema=schema,
            write_time=timestamp(write_time),
            actor=actor,
            request_id=request_id,
            audience=audience,
        ).SerializeToString()

    def build_bytes(self, payload: bytes) -> bytes:
        """Return the entry's bytes; a valid serialisation of `Entry` with the payload last.

        Whoever appends bytes with an audience must tell the log writer of it (`LogWriter.plan`).
        """
        length = len(payload)
        tag = _PREFIXES[length] if length < _SMALL_LENGTHS else _PAYLOAD_TAG + varint(length)
        return self._prefix + tag + payload

    def build(self, payload: bytes, digester: Digester) -> NewEntry:
        """Return the entry with its leaf digest."""
        entry = self.build_bytes(payload)
        return NewEntry(entry, digester.leaf(entry), self._audience)

    def build_all(self, payloads: Sequence[bytes], digester: Digester) -> list[NewEntry]:
        """Return the entries of many payloads."""
        entries = [self.build_bytes(payload) for payload in payloads]
        return list(map(NewEntry, entries, digester.leaves(entries), repeat(self._audience)))


def is_platform_code(text: str) -> bool:
    """Return whether the text is a platform code; Unicode knows other digits, which name nobody."""
    return len(text) == PLATFORM_CODE_DIGITS and text.isascii() and text.isdecimal()


def written_at(entry: bytes) -> datetime | None:
    """Return when the entry says that it was written, or None when it says nothing that is a time."""
    parsed = parse(entry)
    if parsed is None or not parsed.HasField("write_time"):
        return None
    try:
        return parsed.write_time.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def parse(entry: bytes) -> entry_pb2.Entry | None:
    """Return the entry that the bytes hold, or None when they hold none."""
    try:
        return entry_pb2.Entry.FromString(entry)
    except DecodeError:
        return None


def parse_log_start(entry: bytes) -> entry_pb2.LogStart | None:
    """Return the payload of entry 1 of a log, or None when the bytes are not such an entry."""
    parsed = parse(entry)
    if parsed is None or parsed.kind != LOG_START_KIND:
        return None
    try:
        return entry_pb2.LogStart.FromString(parsed.payload)
    except DecodeError:
        return None
