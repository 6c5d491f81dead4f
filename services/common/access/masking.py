"""Masks personal data in replies. Which fields hold it is marked in the protos (`zhichao.common.v1.personal_data`)."""

from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from zhichao.common.v1 import access_pb2

NAME_CHARACTERS_SHOWN: Final = 1
PHONE_CHARACTERS_SHOWN: Final = (3, 2)
DOCUMENT_CHARACTERS_SHOWN: Final = 2
STARS_MAX: Final = 64
"""Longest mask: no name is longer, and nobody can have a reply swell by what he sent."""


def masked(kind: int, value: str) -> str:
    """Mask one value: 王五 -> 王*, 13800000000 -> 138******00, 140000199001011234 -> ****************34."""
    if kind == access_pb2.PERSONAL_DATA_NAME:
        return value[:NAME_CHARACTERS_SHOWN] + _stars(len(value) - NAME_CHARACTERS_SHOWN)
    if kind == access_pb2.PERSONAL_DATA_PHONE_NUMBER:
        first, last = PHONE_CHARACTERS_SHOWN
        hidden = len(value) - first - last
        return value[:first] + _stars(hidden) + value[-last:] if hidden > 0 else _stars(len(value))
    if kind == access_pb2.PERSONAL_DATA_DOCUMENT_NUMBER:
        hidden = len(value) - DOCUMENT_CHARACTERS_SHOWN
        return _stars(hidden) + value[-DOCUMENT_CHARACTERS_SHOWN:] if hidden > 0 else _stars(len(value))
    # A kind of a newer release: nothing of it is shown.
    return _stars(len(value))


def _stars(count: int) -> str:
    return "*" * min(count, STARS_MAX)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where messages of one type hold personal data: in fields of their own, and in messages within."""

    own: tuple[tuple[str, int, bool], ...]
    within: tuple[tuple[str, bool, "_Plans"], ...]


class _Plans:
    """The plan of one type, made once; a reference, because types may hold themselves."""

    __slots__ = ("plan",)

    def __init__(self) -> None:
        self.plan = _Plan((), ())


class PersonalDataMask:
    """Finds and masks the personal data in replies of one type."""

    def __init__(self, descriptor: Descriptor) -> None:
        self._plans = _plans_of(descriptor, {}) if _reaches(descriptor, set()) else None

    @property
    def is_needed(self) -> bool:
        """Whether a message of the type can hold personal data at all."""
        return self._plans is not None

    def values(self, message: Message) -> list[str]:
        """Return the values of personal data that the message holds."""
        found: list[str] = []
        if self._plans is not None:
            _walk(message, self._plans.plan, found, is_masking=False)
        return found

    def masked(self, message: Message) -> Message:
        """Return the message masked; a copy where there is anything to mask, because whose it is is not known here."""
        if self._plans is None:
            return message
        copy = type(message)()
        copy.CopyFrom(message)
        self.mask(copy)
        return copy

    def mask(self, message: Message) -> None:
        """Mask the message in place.

        Fields that a newer release has added and that this one cannot judge are left out of the reply.
        """
        if self._plans is not None:
            message.DiscardUnknownFields()
            _walk(message, self._plans.plan, [], is_masking=True)


def personal_fields(descriptor: Descriptor) -> dict[str, int]:
    """Return the fields of one message type that hold personal data, with their kinds."""
    return {field.name: kind for field in descriptor.fields if (kind := _kind(field))}


def _kind(field: FieldDescriptor) -> int:
    return int(field.GetOptions().Extensions[access_pb2.personal_data])


def _message_fields(descriptor: Descriptor) -> list[tuple[FieldDescriptor, Descriptor]]:
    return [(field, field.message_type) for field in descriptor.fields if field.message_type is not None]


def _reaches(descriptor: Descriptor, seen: set[str]) -> bool:
    if descriptor.full_name in seen:
        return False
    seen.add(descriptor.full_name)
    return bool(personal_fields(descriptor)) or any(_reaches(kind, seen) for _, kind in _message_fields(descriptor))


def _plans_of(descriptor: Descriptor, made: dict[str, _Plans]) -> _Plans:
    known = made.get(descriptor.full_name)
    if known is not None:
        return known
    plans = made[descriptor.full_name] = _Plans()
    own = tuple((field.name, kind, bool(field.is_repeated)) for field in descriptor.fields if (kind := _kind(field)))
    within = tuple(
        (field.name, bool(field.is_repeated), _plans_of(kind, made))
        for field, kind in _message_fields(descriptor)
        if _reaches(kind, set())
    )
    plans.plan = _Plan(own, within)
    return plans


def _walk(message: Any, plan: _Plan, found: list[str], *, is_masking: bool) -> None:
    """Add the values of a message to those found, and mask them if asked to."""
    for name, kind, is_repeated in plan.own:
        value = getattr(message, name)
        if not value:
            continue
        if is_repeated:
            found += value
            if is_masking:
                value[:] = [masked(kind, one) for one in value]
        else:
            found.append(value)
            if is_masking:
                setattr(message, name, masked(kind, value))
    for name, is_repeated, plans in plan.within:
        if is_repeated:
            for one in getattr(message, name):
                _walk(one, plans.plan, found, is_masking=is_masking)
        elif message.HasField(name):
            _walk(getattr(message, name), plans.plan, found, is_masking=is_masking)
