"""The words that tables show for the numbers of an enum of the contract."""

from collections.abc import Mapping

from google.protobuf.descriptor import EnumDescriptor


def word(enum: EnumDescriptor, number: int) -> str:
    """Return the word of an enum's number as commands take it; empty for one that this release does not know."""
    value = enum.values_by_number.get(number)
    # All names of an enum begin with its own.
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return "" if value is None else value.name.removeprefix(prefix).lower().replace("_", "-")


def words(enum: EnumDescriptor, number: int, chinese: Mapping[str, str]) -> str:
    """Return the word of an enum's number in both languages; the number of one that this release does not know."""
    english = word(enum, number)
    return f"{english} {chinese.get(english, '')}".strip() or str(number)
