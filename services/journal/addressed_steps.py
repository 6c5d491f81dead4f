"""Addressed entries as places of a log, and which audiences a reader below is sent. Pure.

Each addressed entry ends a step of its log: the chain of steps follows from the log alone, whoever looks and whenever,
also after the log was restored from what a platform above holds of it. So what one platform has received can be
continued by, and compared with, any other.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from services.common.access.divisions import Divisions
from services.journal.payloads import read_payloads


@dataclass(frozen=True, slots=True)
class AddressedPlace:
    """An entry that is addressed to a division."""

    sequence: int
    audience: str
    byte_count: int


def audiences_of(entries: Sequence[bytes]) -> dict[int, str]:
    """Return the audiences of entries by their index, as far as they have any.

    For entries that are written again as they were; whoever makes new ones knows their audience.
    """
    audiences: dict[int, str] = {}
    index = 0
    for run in read_payloads(entries):
        if run.audience:
            audiences.update(dict.fromkeys(range(index, index + len(run.payloads)), run.audience))
        index += len(run.payloads)
    return audiences


def relevant_audiences(divisions: Divisions, platform: str, audiences: Iterable[str]) -> list[str]:
    """Return the audiences that hold a platform, or that lie below it and are passed on by it."""
    return [
        audience
        for audience in audiences
        if divisions.is_within(platform, audience) or divisions.is_within(audience, platform)
    ]


def missing_audiences(held: Mapping[str, int], counts: Mapping[str, int]) -> list[str]:
    """Return the audiences of which a sender counts more entries than the reader says that it holds."""
    return [audience for audience, count in counts.items() if count > held.get(audience, 0)]
