"""In which order this platform learns of things."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from services.common.database import RawConnection

INBOX_LOCK_KEY: Final = 0x696E626F78
"""Whoever adds changes holds this advisory lock until the end of the transaction, so that positions are dense and in
the order of commits. Any number that nothing else in this database locks: the bytes "inbox". It is taken after the row
of another platform's log and before the row of the own one: both ways of writing agree on that order, so none waits for
the other in a circle."""


class Change(IntEnum):
    """What happened to a directive, numbered as in the contract."""

    ARRIVED = 1
    WITHDRAWN = 2
    RESPONDED = 3


class ChangeRow(NamedTuple):
    """A row of `inbox_changes`."""

    position: int
    change: int
    issuer: str
    kind: int
    directive_id: str
    platform: str


def lock_inbox(connection: RawConnection) -> None:
    """Hold the inbox until the transaction ends. May be called again."""
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (INBOX_LOCK_KEY,))


def add_change(
    connection: RawConnection, change: Change, issuer: str, kind: int, directive_id: str, platform: str
) -> None:
    """Add what happened; the caller holds the inbox."""
    connection.execute(
        "INSERT INTO inbox_changes (position, change, issuer, kind, directive_id, platform)"
        " SELECT COALESCE(max(position), 0) + 1, %s, %s, %s, %s, %s FROM inbox_changes",
        (change, issuer, kind, directive_id, platform),
    )


def newest_position(connection: RawConnection) -> int:
    """Return the position of the newest change, 0 when there is none."""
    row = connection.execute("SELECT max(position) FROM inbox_changes").fetchone()
    return (row[0] if row else None) or 0


def read_changes(connection: RawConnection, after_position: int, count: int) -> Sequence[ChangeRow]:
    """Return the next changes in order."""
    rows = connection.execute(
        "SELECT position, change, issuer, kind, directive_id, platform FROM inbox_changes"
        " WHERE position > %s ORDER BY position LIMIT %s",
        (after_position, count),
    )
    return [ChangeRow(*row) for row in rows]
