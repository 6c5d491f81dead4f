"""The wire format of protobuf, written and read by hand: what no message object would hold can be sent this way."""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

VARINT: Final = 0
FIXED_64: Final = 1
DELIMITED: Final = 2
GROUP: Final = 3
FIXED_32: Final = 5

WORKED_ON_BYTES_MAX: Final = 16 * 1024
"""Longer messages are sent as they are; what is in them is tried with shorter ones."""

_BITS_64: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Piece:
    """One field as it stands in a message: its number, its wire type, and its value without tag and length."""

    number: int
    wire_type: int
    value: bytes

    def encoded(self) -> bytes:
        """Return the piece as it is sent."""
        head = varint(self.number << 3 | self.wire_type)
        return head + varint(len(self.value)) + self.value if self.wire_type == DELIMITED else head + self.value


def varint(value: int) -> bytes:
    """Write a number, however large; a negative one as the 64 bits that protobuf makes of it."""
    value = value & _BITS_64 if value < 0 else value
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def number(field: int, value: int) -> Piece:
    """Return a field with a number."""
    return Piece(field, VARINT, varint(value))


def delimited(field: int, content: bytes) -> Piece:
    """Return a field with text, bytes or a message."""
    return Piece(field, DELIMITED, content)


def double(field: int, value: float) -> Piece:
    """Return a field with a double."""
    return Piece(field, FIXED_64, struct.pack("<d", value))


def single(field: int, value: float) -> Piece:
    """Return a field with a float."""
    return Piece(field, FIXED_32, struct.pack("<f", value))


def join(pieces: Iterable[Piece]) -> bytes:
    """Write a message."""
    return b"".join(piece.encoded() for piece in pieces)


def split(content: bytes) -> list[Piece]:
    """Read the fields of a message. Raises ValueError for what is none."""
    pieces: list[Piece] = []
    position = 0
    while position < len(content):
        tag, position = _varint(content, position)
        wire_type = tag & 7
        if wire_type == VARINT:
            _, end = _varint(content, position)
        elif wire_type == DELIMITED:
            length, position = _varint(content, position)
            end = position + length
        elif wire_type in (FIXED_32, FIXED_64):
            end = position + (4 if wire_type == FIXED_32 else 8)
        else:
            raise ValueError(f"wire type {wire_type}")
        if end > len(content):
            raise ValueError("a field is longer than the message")
        pieces.append(Piece(tag >> 3, wire_type, content[position:end]))
        position = end
    return pieces


def is_message(content: bytes) -> bool:
    """Tell whether bytes are a message that is short enough to work on, of fields without groups."""
    try:
        if len(content) > WORKED_ON_BYTES_MAX:
            return False
        split(content)
    except ValueError:
        return False
    return True


def replaced(content: bytes, path: Sequence[int], pieces: Sequence[Piece]) -> bytes:
    """Return the message with other pieces in the place of a field, which the numbers of fields lead to.

    Messages on the way are made where there are none, or none that can be read; of several the first is gone into.
    """
    found = split(content)
    first, *rest = path
    if not rest:
        return join([*(piece for piece in found if piece.number != first), *pieces])
    for place, piece in enumerate(found):
        if piece.number == first and piece.wire_type == DELIMITED:
            within = piece.value if is_message(piece.value) else b""
            found[place] = delimited(first, replaced(within, rest, pieces))
            return join(found)
    return join([*found, delimited(first, replaced(b"", rest, pieces))])


def _varint(content: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(content):
            break
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number does not end")
