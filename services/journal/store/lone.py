"""Appending a lone entry as part of one statement: everything or nothing, in a single round trip to the database."""

from typing import Any, Final

from services.journal.entries import NewEntry
from services.journal.store.logs import CHANNEL, Growth, LogHead

APPEND_ONE: Final = (
    "head AS (UPDATE journal_logs SET size = %(size)s, root = %(root)s, peaks = %(peaks)s,"
    " total_bytes = %(total_bytes)s, last_write_time = %(last_write_time)s"
    " WHERE origin = %(origin)s AND size = %(base_size)s AND root = %(base_root)s AND NOT is_recovering{condition}"
    " RETURNING origin),"
    " entry AS (INSERT INTO journal_entries (origin, sequence, entry, leaf)"
    " SELECT origin, %(size)s, %(entry)s, %(leaf)s FROM head)"
)
"""Common table expressions to put into a statement; `{condition}` narrows when to append, beginning with AND.

`head` holds one row when the head still was the one planned for, and none otherwise: all else must select from it.
"""

NOTIFY: Final = f"SELECT pg_notify('{CHANNEL}', origin) FROM head"  # noqa: S608 - a constant
"""Ends the statement: tells readers, and returns a row when the entry was appended."""


def can_append_one(growth: Growth) -> bool:
    """Say whether nothing but the head and the entry is written; every 256th entry completes a stored node."""
    return not growth.nodes


def append_one_parameters(base: LogHead, growth: Growth, new: NewEntry) -> dict[str, Any]:
    """Return the parameters of `APPEND_ONE`. Raises ValueError for an entry with an audience, which needs more rows."""
    if new.audience:
        raise ValueError("an entry with an audience is appended by LogWriter")
    head = growth.head
    return {
        "origin": head.origin,
        "base_size": base.size,
        "base_root": base.root,
        "size": head.size,
        "root": head.root,
        "peaks": head.frontier.to_bytes(),
        "total_bytes": head.total_bytes,
        "last_write_time": head.last_write_time,
        "entry": new.entry,
        "leaf": new.leaf,
    }
