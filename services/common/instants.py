"""Instants as protobuf timestamps and back, the same in every service."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp


def timestamp(instant: datetime) -> Timestamp:
    """Return an aware datetime as a protobuf timestamp."""
    message = Timestamp()
    message.FromDatetime(instant)
    return message


def moment(message: Timestamp) -> datetime:
    """Return a protobuf timestamp as an aware datetime. Raises ValueError for one that is no time."""
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError("is not a time between the years 1 and 9999") from error
