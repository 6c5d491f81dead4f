"""Positions as journals tell them, as standings. Pure."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from services.relay.standing import LogKey, Standing
from zhichao.journal.v1 import addressed_pb2, journal_pb2

NOTHING: Final = Standing()
"""Where a side stands that does not hold the log."""


def standing(position: journal_pb2.Position) -> Standing:
    """Return where one side stands in one log."""
    return Standing(
        size=max(position.size, 0),
        root=position.root,
        total_bytes=position.total_bytes,
        last_write_time=moment(position.last_write_time) if position.HasField("last_write_time") else None,
        is_own=position.is_own,
        is_recovering=position.is_recovering,
    )


def by_origin(positions: Iterable[journal_pb2.Position]) -> dict[str, Standing]:
    """Return the standings of one stream."""
    return {position.origin: standing(position) for position in positions}


def by_log(positions: Iterable[journal_pb2.Position]) -> dict[LogKey, Standing]:
    """Return the standings of many streams."""
    return {LogKey(position.stream, position.origin): standing(position) for position in positions}


def addressed_ends(positions: Iterable[addressed_pb2.AddressedPosition]) -> dict[LogKey, int]:
    """Return how far one side holds the addressed entries of each log."""
    return {LogKey(position.stream, position.origin): position.through_sequence for position in positions}


def moment(time: Timestamp) -> datetime | None:
    """Return a time as an aware datetime; None when it lies outside the calendar."""
    try:
        return time.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        # Only a lag in time is lost.
        return None
