"""What the verifier reads a platform's journal through: a database or the JournalService."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

CHUNK_RECORDS: Final = 1_024
"""Entries held at once: some 0.5 MB of weighings, 64 MB of the largest entries allowed."""


class CannotLookError(Exception):
    """The source cannot be reached or is no journal; nothing is known about its content."""


class RecoveringError(CannotLookError):
    """The service was restored and gives out no entry: it would have to write that down, and writes nothing yet."""


class BrokenLogError(Exception):
    """The source is there, and fails at reading one log."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a platform claims about one log."""

    stream: str
    origin: str
    size: int
    root: bytes
    is_own: bool
    # Entry 1, from which everything is taken that the following needs; empty when it is not there.
    first_entry: bytes = b""
    # Only a database tells these; None where the RPC does not.
    peaks: bytes | None = None
    verifier_key: str | None = None
    digest_algorithm: str | None = None
    node_count: int | None = None


@dataclass(frozen=True, slots=True)
class StoredNote:
    """A checkpoint, and the size that it is stored or sent for."""

    size: int
    text: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of entries as stored, with what the source keeps about the log up to its end."""

    sequences: Sequence[int]
    entries: Sequence[bytes]
    leaves: Sequence[bytes]
    # Ordered by size; all above the end of the chunk before.
    notes: Sequence[StoredNote] = ()
    # Kept nodes that end within the chunk by (level, index); None where the source does not tell.
    nodes: Mapping[tuple[int, int], bytes] | None = None


class Source(Protocol):
    """The journal of one service of one platform, as it stood at one moment at or after the first look."""

    @property
    def label(self) -> str:
        """Where it is, for a person."""

    def heads(self) -> list[Head]:
        """Return the logs. Raises CannotLookError."""

    def chunks(self, head: Head) -> Iterator[Chunk]:
        """Read a log from entry 1 to at least the head's size. Raises CannotLookError, BrokenLogError."""

    def close(self) -> None:
        """Let go of the source."""
