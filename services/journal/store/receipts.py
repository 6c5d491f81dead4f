"""Who has received which addressed entry."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.journal.store.logs import Connection


@dataclass(frozen=True, slots=True)
class ReceiptRow:
    """A row of `journal_addressed_receipts`."""

    origin: str
    sequence: int
    platform: str
    receipt_sequence: int
    receive_time: datetime


def insert(
    connection: Connection,
    platform: str,
    origin: str,
    sequences: Sequence[int],
    receipt_sequence: int,
    receive_time: datetime,
) -> None:
    """Insert what a platform has received. The first receipt of an entry counts.

    A platform that was restored from a backup receives again, and says so again.
    """
    connection.execute(
        "INSERT INTO journal_addressed_receipts (origin, sequence, platform, receipt_sequence, receive_time)"
        " SELECT %s, sequence, %s, %s, %s FROM unnest(%s::bigint[]) AS sequence ON CONFLICT DO NOTHING",
        (origin, platform, receipt_sequence, receive_time, list(sequences)),
    )


def list_range(
    connection: Connection,
    origin: str,
    first: int,
    last: int,
    platform: str | None,
    after: tuple[int, str],
    count: int,
) -> list[ReceiptRow]:
    """Return receipts of a range of entries after a place, by sequence and platform."""
    rows = connection.execute(
        "SELECT origin, sequence, platform, receipt_sequence, receive_time FROM journal_addressed_receipts"
        " WHERE origin = %s AND sequence BETWEEN %s AND %s AND (sequence, platform) > (%s, %s)"
        " AND (%s::text IS NULL OR platform = %s) ORDER BY sequence, platform LIMIT %s",
        (origin, first, last, *after, platform, platform, count),
    )
    return [ReceiptRow(*row) for row in rows]
