"""Writes what a run of received batches leads to beside its entries: one statement, because each waits for the database
while the log's row is locked.
"""

from collections.abc import Sequence
from typing import Final

from services.journal.merkle import StoredNode
from services.journal.store.checkpoints import Kept
from services.journal.store.logs import CHANNEL, Connection, LogHead

_STORE_RUN: Final = (
    b"WITH dropped AS (DELETE FROM journal_checkpoints"
    b" WHERE origin = %(origin)s AND size = ANY(%(dropped)s::bigint[])),"
    b" kept AS (INSERT INTO journal_checkpoints (origin, size, total_bytes, note)"
    b" SELECT %(origin)s, * FROM unnest(%(sizes)s::bigint[], %(bytes)s::bigint[], %(notes)s::text[])),"
    b' completed AS (INSERT INTO journal_nodes (origin, level, "index", digest)'
    b" SELECT %(origin)s, * FROM unnest(%(levels)s::smallint[], %(indexes)s::bigint[], %(digests)s::bytea[])),"
    b" head AS (UPDATE journal_logs SET size = %(size)s, root = %(root)s, peaks = %(peaks)s,"
    b" total_bytes = %(total_bytes)s, last_write_time = %(last_write_time)s WHERE origin = %(origin)s)"
    b" SELECT pg_notify(%(channel)s, %(origin)s)"
)


def store_run(
    connection: Connection, head: LogHead, nodes: Sequence[StoredNode], kept: Sequence[Kept], dropped: Sequence[int]
) -> None:
    """Store the new head, the completed nodes and the checkpoints, and tell readers with the commit."""
    connection.execute(
        _STORE_RUN,
        {
            "origin": head.origin,
            "dropped": list(dropped),
            "sizes": [one.size for one in kept],
            "bytes": [one.total_bytes for one in kept],
            "notes": [one.note for one in kept],
            "levels": [node.level for node in nodes],
            "indexes": [node.index for node in nodes],
            "digests": [node.digest for node in nodes],
            "size": head.size,
            "root": head.root,
            "peaks": head.frontier.to_bytes(),
            "total_bytes": head.total_bytes,
            "last_write_time": head.last_write_time,
            "channel": CHANNEL,
        },
    )
