"""Checkpoints held for each log: which are kept so that every batch can end at one, and how cosignatures are added."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.journal.limits import BATCH_BYTES_MAX, BATCH_RECORDS_MAX
from services.journal.notes import SIZE_MAX, SignedCheckpoint
from services.journal.store.logs import Connection

_KEEP: Final = 2
"""Newest checkpoints looked at when one is added."""

_END_CANDIDATES: Final = 3
"""Checkpoints looked at for the end of a batch: `add` keeps two that follow each other only if the first and the one
after the second are more than a batch apart, so the third is never within reach."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A checkpoint that is kept, or will be."""

    size: int
    total_bytes: int
    note: str


def newest_kept(connection: Connection, origin: str, size_max: int = SIZE_MAX) -> list[Kept]:
    """Return the newest checkpoints up to a size as far as `thin` looks, oldest first."""
    rows = connection.execute(
        "SELECT size, total_bytes, note FROM journal_checkpoints WHERE origin = %s AND size <= %s"
        " ORDER BY size DESC LIMIT %s",
        (origin, size_max, _KEEP),
    ).fetchall()
    return [Kept(*row) for row in reversed(rows)]


def thin(kept: Sequence[Kept], added: Sequence[Kept]) -> tuple[list[Kept], list[int]]:
    """Return which of the added checkpoints to keep, and the sizes of kept ones to drop.

    Each drops its predecessor when that is not needed as an end of a batch. Pure. `kept` are the newest, oldest first;
    the added ones are larger and in order.
    """
    ends = list(kept)
    for one in added:
        # The log's start counts as kept: every batch may begin there.
        older_size, older_bytes = (ends[-2].size, ends[-2].total_bytes) if len(ends) >= _KEEP else (0, 0)
        is_reachable = one.size - older_size <= BATCH_RECORDS_MAX and one.total_bytes - older_bytes <= BATCH_BYTES_MAX
        if ends and is_reachable:
            ends.pop()
        ends.append(one)
    sizes = {one.size for one in ends}
    return [one for one in added if one.size in sizes], [one.size for one in kept if one.size not in sizes]


def add(connection: Connection, origin: str, total_bytes: int, signed: SignedCheckpoint) -> None:
    """Keep a checkpoint and drop its predecessor when that is not needed as an end of a batch (`thin`).

    Consecutive kept checkpoints are at most one batch apart, so a reader at any position finds an end within reach. A
    checkpoint held already keeps its signatures and gains those that are new.
    """
    size = signed.checkpoint.size
    kept = newest_kept(connection, origin, size)
    if kept and kept[-1].size == size:
        merged = SignedCheckpoint.parse(kept[-1].note).merged(signed.signatures)
        connection.execute(
            "UPDATE journal_checkpoints SET note = %s WHERE origin = %s AND size = %s", (merged.format(), origin, size)
        )
        return
    connection.execute(
        "INSERT INTO journal_checkpoints (origin, size, total_bytes, note) VALUES (%s, %s, %s, %s)",
        (origin, size, total_bytes, signed.format()),
    )
    _, dropped = thin(kept, [Kept(size, total_bytes, "")])
    if dropped:
        connection.execute(
            "DELETE FROM journal_checkpoints WHERE origin = %s AND size = ANY(%s::bigint[])", (origin, dropped)
        )


def at_size(connection: Connection, origin: str, size: int) -> SignedCheckpoint | None:
    """Return the checkpoint kept for exactly this size."""
    row = connection.execute(
        "SELECT note FROM journal_checkpoints WHERE origin = %s AND size = %s", (origin, size)
    ).fetchone()
    return SignedCheckpoint.parse(row[0]) if row else None


def newest(connection: Connection, origin: str) -> SignedCheckpoint | None:
    """Return the checkpoint of the largest size kept."""
    row = connection.execute(
        "SELECT note FROM journal_checkpoints WHERE origin = %s ORDER BY size DESC LIMIT 1", (origin,)
    ).fetchone()
    return SignedCheckpoint.parse(row[0]) if row else None


def end_of_batch(connection: Connection, origin: str, position: int, records_max: int) -> SignedCheckpoint | None:
    """Return the checkpoint that a batch beginning after `position` ends at: the furthest within bounds or the nearest.

    The nearest is at most BATCH_RECORDS_MAX away, but may be more than `records_max`. None when none above position is
    kept.
    """
    rows = connection.execute(
        "SELECT size, total_bytes, note FROM journal_checkpoints WHERE origin = %s AND size > %s"
        " ORDER BY size LIMIT %s",
        (origin, position, _END_CANDIDATES),
    ).fetchall()
    before = connection.execute(
        "SELECT total_bytes FROM journal_checkpoints WHERE origin = %s AND size <= %s ORDER BY size DESC LIMIT 1",
        (origin, position),
    ).fetchone()
    # Bytes before the position are at least those of the checkpoint before it, so this never takes too many.
    start_bytes = before[0] if before else 0
    chosen = None
    for size, total_bytes, note in rows:
        is_within = size - position <= records_max and total_bytes - start_bytes <= BATCH_BYTES_MAX
        if chosen is not None and not is_within:
            break
        chosen = note
    return SignedCheckpoint.parse(chosen) if chosen else None
