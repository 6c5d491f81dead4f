"""Values for the fields of messages: those that get far, learned from what services answer, and those that nobody
should send.
"""

import math
import random
import threading
from collections import defaultdict
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tests.fuzzing.wire import DELIMITED, FIXED_32, FIXED_64, VARINT, Piece, delimited, double, number, single, varint

VALUES_MAX: Final = 48
"""Values remembered for one name of a field: enough for pages, etags and sequences of several lists."""

_INTEGERS: Final = (0, 1, -1, 2, 7, 1_000, 10_001, 2**31 - 1, -(2**31), 2**31, 2**32, 2**53 + 1, 2**63 - 1, -(2**63))
_ENUMS: Final = (0, -1, 99, 2**31 - 1, -(2**31))
_DOUBLES: Final = (0.0, -0.0, math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324, 90.000_001, 181.0)
_TEXTS: Final = (
    b"",
    b" ",
    b"\x00",
    b"a\x00b",
    b"\xff\xfe",
    # Half of a surrogate pair, and a whole one, as UTF-8 must not write them.
    b"\xed\xa0\x80",
    b"\xed\xa0\xbd\xed\xb8\x80",
    # An overlong slash, and more than Unicode has.
    b"\xc0\xaf",
    b"\xf4\x90\x80\x80",
    "\u202e141025".encode(),
    "e\u0301\u0301\u0301".encode(),
    "\ufeff示例".encode(),
    "１４１０２５".encode(),
    "示例".encode() * 20,
    b"x" * 65,
    b"x" * 4_000,
    "𠮷".encode() * 300,
    b"' OR 1=1; --",
    b"%s%n%x {0} ${a}",
    b"../../../x",
    b'\r\n{"level":"error","event":"made up"}',
    b"-1",
    b"1e309",
    b"NaN",
    b"0000-00-00",
    b"9999-12-31",
    b"2025-02-30",
    b"AAAA",
    b"WzEsIng",
)
# Year 1 and 9999 are the ends of protobuf's Timestamp; datetime ends there as well.
_SECONDS: Final = (0, -1, 1, -62_135_596_800, -62_135_596_801, 253_402_300_799, 253_402_300_800, 2**63 - 1, -(2**63))
_NANOS: Final = (0, -1, 1, 999_999_999, 1_000_000_000, 2**31 - 1, -(2**31))

_INTEGER_TYPES: Final = frozenset(
    {FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT32,
     FieldDescriptor.CPPTYPE_UINT64}
)  # fmt: skip
_MOMENTS: Final = frozenset({"google.protobuf.Timestamp", "google.protobuf.Duration"})


# What an answer calls otherwise than the request that it goes into next.
_ALIASES: Final = {"next_page_token": "page_token", "next_sequence": "first_sequence"}


class Pool:
    """What was seen in answers, by the name of the field; thread-safe. Hidden texts are never taken."""

    def __init__(self, hidden: tuple[bytes, ...] = ()) -> None:
        self._hidden = hidden
        self._values: dict[str, list[Any]] = defaultdict(list)
        self._guard = threading.Lock()
        self._random = random.Random(0)

    def add(self, name: str, *values: Any) -> None:
        """Remember values for fields of a name; with too many of them, some are forgotten."""
        with self._guard:
            known = self._values[_ALIASES.get(name, name)]
            for value in values:
                if value in known or any(one in _bytes_of(value) for one in self._hidden):
                    continue
                if len(known) < VALUES_MAX:
                    known.append(value)
                else:
                    known[self._random.randrange(VALUES_MAX)] = value

    def learn(self, message: Message) -> None:
        """Remember what an answer holds."""
        for field, value in message.ListFields():
            for one in value if field.is_repeated else (value,):
                if isinstance(one, Message):
                    self.learn(one)
                elif isinstance(one, str | bytes | int) and not isinstance(one, bool):
                    self.add(field.name, one)

    def pick(self, chance: random.Random, name: str, kind: type) -> Any:
        """Return a value that was seen, mostly of fields of that name; None when there is none of the kind."""
        with self._guard:
            names = [name] if self._values.get(name) and chance.random() < 0.9 else list(self._values)
            fitting = [value for one in names for value in self._values[one] if isinstance(value, kind)]
        return chance.choice(fitting) if fitting else None


def _bytes_of(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


def moment_content(seconds: int, nanos: int) -> bytes:
    """Return the content of a Timestamp or a Duration."""
    return number(1, seconds).encoded() + number(2, nanos).encoded()


def fair(field: FieldDescriptor, pool: Pool, chance: random.Random) -> Piece:
    """Return a scalar, or a moment, as an honest caller might send it."""
    kind = field.cpp_type
    if field.message_type is not None:
        seconds = chance.choice((pool.pick(chance, "seconds", int) or 0, 1_740_800_000, 600, 86_400))
        return delimited(field.number, moment_content(seconds, chance.choice((0, 0, 500_000_000))))
    if kind == FieldDescriptor.CPPTYPE_STRING:
        is_bytes = field.type == FieldDescriptor.TYPE_BYTES
        seen = pool.pick(chance, field.name, bytes if is_bytes else str)
        content = _bytes_of(seen) if seen is not None else chance.choice((b"", b"example-1", "示例".encode()))
        return delimited(field.number, content)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return number(field.number, chance.randrange(2))
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        assert field.enum_type is not None
        return number(field.number, chance.choice(field.enum_type.values).number)
    if kind in _INTEGER_TYPES:
        seen = pool.pick(chance, field.name, int)
        return number(field.number, seen if seen is not None and chance.random() < 0.7 else chance.randrange(200))
    return _real(field, chance.uniform(-90, 90))


def hostile(field: FieldDescriptor) -> list[tuple[str, list[Piece]]]:
    """Return what nobody should send in a field, each with a name; a repeated field gets each once."""
    named = _hostile_messages(field) if field.message_type is not None else _hostile_scalars(field)
    wrong = [piece for piece in _wrong_types(field.number) if piece.wire_type != _wire_type(field)]
    named += [(f"wire type {piece.wire_type}", [piece]) for piece in wrong]
    named.append(("twice", [piece for _, pieces in named[:2] for piece in pieces]))
    return named


def hostile_piece(field: FieldDescriptor, chance: random.Random) -> list[Piece]:
    """Return one of what nobody should send."""
    return chance.choice(hostile(field))[1]


def _hostile_scalars(field: FieldDescriptor) -> list[tuple[str, list[Piece]]]:
    kind, place = field.cpp_type, field.number
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return [(f"text {text[:12]!r}", [delimited(place, text)]) for text in _TEXTS]
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return [(f"boolean {value}", [number(place, value)]) for value in (2, 2**63)]
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return [(f"enum {value}", [number(place, value)]) for value in _ENUMS]
    if kind in _INTEGER_TYPES:
        # More than 64 bits, and a zero of ten bytes.
        odd = [varint(2**80), b"\x80" * 9 + b"\x00"]
        return [(f"number {value}", [number(place, value)]) for value in _INTEGERS] + [
            (f"number {value.hex()}", [Piece(place, VARINT, value)]) for value in odd
        ]
    return [(f"real {value}", [_real(field, value)]) for value in _DOUBLES]


def _hostile_messages(field: FieldDescriptor) -> list[tuple[str, list[Piece]]]:
    place = field.number
    named = [("nothing", [delimited(place, b"")]), ("no message", [delimited(place, b"\xff\xff\xff")])]
    if field.message_type is not None and field.message_type.full_name in _MOMENTS:
        pairs = [(seconds, 0) for seconds in _SECONDS] + [(1_740_800_000, nanos) for nanos in _NANOS]
        named += [
            (f"moment {seconds} {nanos}", [delimited(place, moment_content(seconds, nanos))])
            for seconds, nanos in pairs
        ]
    return named


def _real(field: FieldDescriptor, value: float) -> Piece:
    is_single = field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT
    # 1e308 is beyond a single one.
    return single(field.number, math.inf if abs(value) > 1e38 else value) if is_single else double(field.number, value)


def _wire_type(field: FieldDescriptor) -> int:
    if field.cpp_type in (FieldDescriptor.CPPTYPE_STRING, FieldDescriptor.CPPTYPE_MESSAGE):
        return DELIMITED
    if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
        return FIXED_64
    return FIXED_32 if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT else VARINT


def _wrong_types(place: int) -> list[Piece]:
    return [
        Piece(place, VARINT, b"\x07"),
        Piece(place, FIXED_64, bytes(8)),
        Piece(place, DELIMITED, b"\x07\x07"),
        Piece(place, FIXED_32, bytes(4)),
    ]
