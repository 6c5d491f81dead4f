"""Takes serialised messages apart without parsing them (protobuf wire format). Parsing a message of 16 MiB that is
nothing but empty items takes two gigabytes; counting the items first takes no memory, and stops where there are too
many.
"""

from collections.abc import Sequence
from typing import Final

OTHER_FIELDS_MAX: Final = 1_024
"""Fields passed over on the way to the items. Our messages have a dozen beside them and a newer peer some more; without
a bound a message of eight million small ones would keep the interpreter for seconds."""

_VARINT: Final = 0
_FIXED_64: Final = 1
_DELIMITED: Final = 2
_FIXED_32: Final = 5
_VARINT_BYTES_MAX: Final = 10


class MalformedMessage(ValueError):  # noqa: N818 - reads as the fact it is
    """The bytes are no message, or hold too much that nobody asked for."""


def repeated(content: bytes, number: int, most: int) -> list[bytes]:
    """Return what the length-delimited field of this number holds each time it occurs, in order.

    Not more than `most + 1` of them: whoever gets one more than it takes need not know how many follow. Raises
    MalformedMessage.
    """
    return [content[start:end] for start, end in _spans(content, 0, len(content), number, most)]


def count_repeated(content: bytes, path: Sequence[int], most: int) -> int:
    """Return how often the last field of the path occurs in all messages that the fields before it lead to.

    Counts no further than `most + 1`, and occurrences of the messages on the way as well, so that neither is numerous.
    Raises MalformedMessage.
    """
    spans = [(0, len(content))]
    count = 0
    for number in path:
        found: list[tuple[int, int]] = []
        for start, end in spans:
            found += _spans(content, start, end, number, most - len(found))
            if len(found) > most:
                return most + 1
        spans, count = found, len(found)
    return count


def _spans(content: bytes, start: int, end: int, number: int, most: int) -> list[tuple[int, int]]:
    """Return where the contents of a field begin and end; at most `most + 1`."""
    wanted = number << 3 | _DELIMITED
    found: list[tuple[int, int]] = []
    others_left = OTHER_FIELDS_MAX
    position = start
    while position < end:
        tag = content[position]
        position += 1
        if tag >= 0x80:
            tag, position = _varint(content, position - 1, end)
        if tag & 7 == _DELIMITED:
            if position >= end:
                raise MalformedMessage("a field has no length")
            length = content[position]
            position += 1
            if length >= 0x80:
                length, position = _varint(content, position - 1, end)
            if length > end - position:
                raise MalformedMessage("a field is longer than the message")
            if tag == wanted:
                found.append((position, position + length))
                if len(found) > most:
                    return found
                position += length
                continue
            position += length
        else:
            position = _after_scalar(content, position, end, tag & 7)
        others_left -= 1
        if others_left < 0:
            raise MalformedMessage(f"there are more than {OTHER_FIELDS_MAX} other fields")
    return found


def _after_scalar(content: bytes, position: int, end: int, wire_type: int) -> int:
    if wire_type == _VARINT:
        return _varint(content, position, end)[1]
    if wire_type not in (_FIXED_32, _FIXED_64):
        # Groups were given up before this suite began: no version of it writes one.
        raise MalformedMessage(f"there is a field of wire type {wire_type}")
    position += 4 if wire_type == _FIXED_32 else 8
    if position > end:
        raise MalformedMessage("a field is longer than the message")
    return position


def _varint(content: bytes, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 7 * _VARINT_BYTES_MAX, 7):
        if position >= end:
            break
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise MalformedMessage("a number does not end")
