"""Compares two copies of one log, byte by byte, side by side."""

from collections.abc import Callable, Iterator

from cli.verifier.findings import Fault, Finding
from cli.verifier.source import BrokenLogError, Head, Source


def compare_copies(
    source: Source, head: Head, other: Source, other_head: Head, advance: Callable[[int], None] = lambda count: None
) -> tuple[int, Finding | None]:
    """Return how many entries are equal, and the first that differs, up to the smaller size. Raises CannotLookError.

    One that is missing from a copy shifts nothing: entries are compared by sequence.
    """
    common = min(head.size, other_head.size)
    mine, theirs = _entries(source, head), _entries(other, other_head)
    for sequence in range(1, common + 1):
        try:
            left, right = next(mine, None), next(theirs, None)
        except BrokenLogError as error:
            return sequence - 1, Finding(Fault.UNREADABLE, str(error), sequence, sequence)
        if left is None or left[0] != sequence:
            return sequence - 1, Finding(Fault.MISSING, f"held by {other.label}", sequence, sequence)
        if right is None or right[0] != sequence:
            return sequence - 1, Finding(Fault.COPIES_DIFFER, f"not held by {other.label}", sequence, sequence)
        if left[1] != right[1]:
            return sequence - 1, Finding(Fault.COPIES_DIFFER, f"{other.label} holds other bytes", sequence, sequence)
        advance(1)
    return common, None


def _entries(source: Source, head: Head) -> Iterator[tuple[int, bytes]]:
    for chunk in source.chunks(head):
        yield from zip(chunk.sequences, chunk.entries, strict=True)
