"""Makes serialised requests: fair ones from what the pool has seen, and changes them in ways that nobody should."""

import random
from collections.abc import Iterator, Sequence
from typing import Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from tests.fuzzing.values import Pool, fair, hostile_piece
from tests.fuzzing.wire import GROUP, VARINT, Piece, delimited, join, split, varint

DEPTH_MAX: Final = 6
"""Messages within messages of our contracts: five, and one for what comes."""

_MOMENTS: Final = frozenset({"google.protobuf.Timestamp", "google.protobuf.Duration"})
_FIELD_MASK: Final = "google.protobuf.FieldMask"
_PRESENT: Final = 0.75
_CHANGES_MAX: Final = 4
_FIELD_NUMBER_MAX: Final = 2**29 - 1


def fair_message(kind: Descriptor, pool: Pool, chance: random.Random, depth: int = 0) -> bytes:
    """Return a request as an honest caller might make it, with values that were seen."""
    pieces: list[Piece] = []
    chosen = {group.name: chance.choice(group.fields).name for group in kind.oneofs}
    for field in kind.fields:
        group = field.containing_oneof
        if (group is not None and chosen[group.name] != field.name) or chance.random() > _PRESENT:
            continue
        count = chance.choice((0, 1, 1, 2, 3)) if field.is_repeated else 1
        pieces += [_fair_field(kind, field, pool, chance, depth) for _ in range(count)]
    return join(pieces)


def _fair_field(kind: Descriptor, field: FieldDescriptor, pool: Pool, chance: random.Random, depth: int) -> Piece:
    message = field.message_type
    if message is None or message.full_name in _MOMENTS:
        return fair(field, pool, chance)
    if message.full_name == _FIELD_MASK:
        return delimited(field.number, _mask(kind, chance))
    content = fair_message(message, pool, chance, depth + 1) if depth < DEPTH_MAX else b""
    return delimited(field.number, content)


def _mask(kind: Descriptor, chance: random.Random) -> bytes:
    names = [one.name for field in kind.fields if field.message_type for one in field.message_type.fields]
    paths = chance.sample(names, min(len(names), chance.randrange(4)))
    return join(delimited(1, path.encode()) for path in paths)


# Changes


def changed(content: bytes, kind: Descriptor, pool: Pool, chance: random.Random) -> bytes:
    """Return a request with some changes: of its fields, of what is in them, or of its bytes."""
    for _ in range(chance.randint(1, _CHANGES_MAX)):
        content = _with_other_bytes(content, chance) if chance.random() < 0.15 else _change(content, kind, pool, chance)
    return content


def _change(content: bytes, kind: Descriptor, pool: Pool, chance: random.Random, depth: int = 0) -> bytes:
    try:
        pieces = split(content)
    except ValueError:
        return _with_other_bytes(content, chance)
    within = [place for place, piece in enumerate(pieces) if _is_message(kind, piece)]
    if within and depth < DEPTH_MAX and chance.random() < 0.6:
        place = chance.choice(within)
        piece = pieces[place]
        inner = kind.fields_by_number[piece.number].message_type
        assert inner is not None
        pieces[place] = delimited(piece.number, _change(piece.value, inner, pool, chance, depth + 1))
        return join(pieces)
    if kind.fields and chance.random() < 0.6:
        field = chance.choice(list(kind.fields))
        kept = [piece for piece in pieces if piece.number != field.number]
        is_hostile = chance.random() < 0.6
        news = hostile_piece(field, chance) if is_hostile else [_fair_field(kind, field, pool, chance, depth)]
        return join(kept + news)
    return join(_shuffled(pieces, chance))


def _is_message(kind: Descriptor, piece: Piece) -> bool:
    field = kind.fields_by_number.get(piece.number)
    return field is not None and field.message_type is not None and piece.wire_type == 2


def _shuffled(pieces: list[Piece], chance: random.Random) -> list[Piece]:
    """Return fields left out, repeated, in another order, or with one more that nobody knows."""
    way = chance.randrange(4)
    if way == 0 and pieces:
        del pieces[chance.randrange(len(pieces))]
    elif way == 1 and pieces:
        pieces += [chance.choice(pieces)] * chance.choice((1, 3, 50))
    elif way == 2:
        chance.shuffle(pieces)
    else:
        pieces.append(delimited(chance.choice((15, 1_000, 50_201, _FIELD_NUMBER_MAX)), chance.randbytes(9)))
    return pieces


def _with_other_bytes(content: bytes, chance: random.Random) -> bytes:
    changed_content = bytearray(content)
    way = chance.randrange(4)
    place = chance.randrange(len(content) + 1)
    if way == 0:
        del changed_content[place:]
    elif way == 1:
        changed_content[place:place] = chance.randbytes(chance.choice((1, 2, 9, 100)))
    elif way == 2 and content:
        changed_content[place - 1] ^= chance.randint(1, 255)
    elif content:
        changed_content += changed_content[place:] * chance.choice((1, 2, 5))
    return bytes(changed_content)


# What is no message of anybody


def raw_contents(kind: Descriptor, bytes_max: int, chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield bytes that are no message, or too much of one, each with a name."""
    yield "nothing", b""
    for size in (1, 2, 30, 4_000):
        yield f"{size} random bytes", chance.randbytes(size)
    yield "ones", b"\xff" * 100
    yield "a number without an end", b"\x08" + b"\xff" * 30
    yield "field 0", b"\x00\x01"
    yield "a length of 2^63", b"\x0a" + varint(2**63)
    yield "a length of 2 GiB", b"\x0a" + varint(2**31 - 1) + b"x"
    yield "open groups", Piece(1, GROUP, b"").encoded() * 50_000
    yield "closed groups", b"\x0c" * 1_000
    yield "a group within a group", b"\x0b" * 90 + b"\x0c" * 90
    yield "the largest field", Piece(_FIELD_NUMBER_MAX, VARINT, b"\x01").encoded() * 1_000
    for field in kind.fields:
        if field.message_type is not None or field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            yield f"{field.name} within itself", nested(field.number, 40_000)
        if field.is_repeated:
            yield f"empty {field.name}", _filled(delimited(field.number, b"").encoded(), bytes_max)
            if field.message_type is not None:
                for inner in field.message_type.fields:
                    if inner.is_repeated:
                        filled = _filled(delimited(inner.number, b"").encoded(), bytes_max - 8)
                        yield f"empty {field.name}.{inner.name}", delimited(field.number, filled).encoded()
    yield "unknown fields", _filled(Piece(1_000, VARINT, b"\x00").encoded(), bytes_max)
    yield "as long as it may be", delimited(1, b"x" * (bytes_max - 8)).encoded()
    yield "too long", bytes(bytes_max + 1)


def nested(field: int, bytes_max: int) -> bytes:
    """Return a field that holds itself as often as so many bytes allow."""
    # Built from the inside: a head grows by a byte or two with every hundred levels.
    heads: list[bytes] = []
    size = 0
    while size < bytes_max:
        head = varint(field << 3 | 2) + varint(size)
        heads.append(head)
        size += len(head)
    return b"".join(reversed(heads))


def _filled(one: bytes, bytes_max: int) -> bytes:
    return one * (max(bytes_max, 0) // len(one))


def field_paths(kind: Descriptor, depth: int = 0) -> Iterator[Sequence[FieldDescriptor]]:
    """Yield the way to every field of a message, also of messages within it, as far down as ours go."""
    for field in kind.fields:
        yield (field,)
        inner = field.message_type
        if inner is not None and depth < DEPTH_MAX and inner.full_name not in _MOMENTS:
            yield from ((field, *rest) for rest in field_paths(inner, depth + 1))
