"""Addressed entries on their way from one platform to another, with their proofs."""

from dataclasses import dataclass
from typing import Final

STEP_ENTRIES_MAX: Final = 2
"""Entries in one step: its own, and entry 1 of the log in the first one."""


@dataclass(frozen=True, slots=True)
class ProvenEntry:
    """An addressed entry with the audit path to the root of its step."""

    sequence: int
    entry: bytes
    inclusion_path: list[bytes]


@dataclass(frozen=True, slots=True)
class BatchStep:
    """A step with those of its entries that are meant for the reader."""

    previous_size: int
    checkpoint: str
    consistency_path: list[bytes]
    entries: list[ProvenEntry]


@dataclass(frozen=True, slots=True)
class AddressedBatch:
    """Steps of one log for one reader."""

    origin: str
    steps: list[BatchStep]


@dataclass(frozen=True, slots=True)
class AddressedPosition:
    """Where the addressed entries of one log stand on a platform."""

    origin: str
    through_sequence: int
    root: bytes
    counts: dict[str, int]
    """Entries held, by audience."""
