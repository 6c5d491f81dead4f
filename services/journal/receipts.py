"""Receipts of addressed entries: what a receiver writes into its own log, and what platforms above make of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

from google.protobuf.message import DecodeError

from services.common.database import RawConnection
from services.journal.entries import is_platform_code, timestamp
from services.journal.limits import ADDRESSED_BATCH_STEPS_MAX
from services.journal.projection import Unprojectable
from services.journal.store import receipts as store
from zhichao.journal.v1 import addressed_pb2 as pb

RECEIPT_KIND: Final = "zhichao.journal.v1.AddressedReceipt"
"""Kind of the entry that acknowledges addressed entries."""

RECEIPT_SCHEMA: Final = 1
"""Newest version of its meaning."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """Entries of one log that a platform has received together."""

    origin: str
    through_sequence: int
    sequences: tuple[int, ...]
    receive_time: datetime

    def to_payload(self) -> bytes:
        """Return the payload of the entry."""
        return pb.AddressedReceipt(
            origin=self.origin,
            through_sequence=self.through_sequence,
            sequences=self.sequences,
            receive_time=timestamp(self.receive_time),
        ).SerializeToString()

    @classmethod
    def from_payload(cls, payload: bytes) -> "Receipt":
        """Read the payload that a platform below has written. Raises Unprojectable."""
        try:
            message = pb.AddressedReceipt.FromString(payload)
        except DecodeError as error:
            raise Unprojectable("the payload is not an AddressedReceipt") from error
        if not is_platform_code(message.origin):
            raise Unprojectable("origin is not a six-digit platform code")
        sequences = tuple(message.sequences)
        if not 1 <= len(sequences) <= ADDRESSED_BATCH_STEPS_MAX:
            raise Unprojectable(f"sequences has {len(sequences)} values, not 1 to {ADDRESSED_BATCH_STEPS_MAX}")
        if sequences[0] < 1 or any(one >= following for one, following in pairwise(sequences)):
            raise Unprojectable("sequences is not ascending from 1")
        if not message.HasField("receive_time"):
            raise Unprojectable("receive_time is missing")
        try:
            receive_time = message.receive_time.ToDatetime(tzinfo=UTC)
        except (ValueError, OverflowError) as error:
            raise Unprojectable("receive_time is not a time") from error
        return cls(message.origin, message.through_sequence, sequences, receive_time)


class ReceiptKind:
    """Receipts as a kind of the journal: one row for each entry and platform."""

    kind = RECEIPT_KIND
    schema = RECEIPT_SCHEMA

    def prepare(self, origin: str, payload: bytes) -> Receipt:
        """Parse one payload. Raises Unprojectable."""
        del origin
        return Receipt.from_payload(payload)

    def project(self, connection: RawConnection, origin: str, prepared: Sequence[tuple[int, Receipt]]) -> None:
        """Write the rows of receipts that stand in the log of `origin`, who has received."""
        for receipt_sequence, receipt in prepared:
            store.insert(connection, origin, receipt.origin, receipt.sequences, receipt_sequence, receipt.receive_time)
