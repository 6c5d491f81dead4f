"""The parts of an upload straight to the store: where each begins, which are missing, how they are named. Pure."""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

PART_BYTES: Final = 8 * 1024 * 1024
"""Bytes of a part: stores take 5 MiB to 5 GiB and 10,000 of them (Amazon S3, multipart upload limits). What breaks off
is at most this much to send again, a minute on a mobile network, and 4 GiB are 512 addresses in one answer."""

NAMED_PARTS_CHARACTERS_MAX: Final = 1_000
"""Longest list of missing parts in a refusal, which travels in the head of an answer: gRPC takes 8 KiB there."""


class Part(NamedTuple):
    """One part."""

    part_number: int
    offset: int
    size_bytes: int


def parts_of(size_bytes: int, part_bytes: int) -> list[Part]:
    """Cut an upload into parts, numbered from 1; only the last one is smaller."""
    return [
        Part(number, offset, min(part_bytes, size_bytes - offset))
        for number, offset in enumerate(range(0, size_bytes, part_bytes), 1)
    ]


def missing(parts: Iterable[Part], sizes: Mapping[int, int]) -> list[Part]:
    """Return the parts that are not there, by the sizes of those that are; one of another size has to come again."""
    return [part for part in parts if sizes.get(part.part_number) != part.size_bytes]


def named(parts: Iterable[Part]) -> str:
    """Name parts by their numbers, as in `1-3,7`; a list that is too long ends with `…`."""
    spans: list[list[int]] = []
    for part in parts:
        if spans and part.part_number == spans[-1][1] + 1:
            spans[-1][1] = part.part_number
        else:
            spans.append([part.part_number, part.part_number])
    text = ""
    for first, last in spans:
        span = f"{first}" if first == last else f"{first}-{last}"
        longer = f"{text},{span}" if text else span
        if len(longer) > NAMED_PARTS_CHARACTERS_MAX:
            return f"{text},…"
        text = longer
    return text
