"""What a video service says of its evidence store at one moment. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from cli.enum_words import word
from zhichao.video.v1 import service_pb2 as pb


@dataclass(frozen=True)
class StoreFigures:
    """The store, what keeps it from its work, and how what it keeps stands."""

    endpoint: str
    bucket: str
    is_reachable: bool
    # Word of a StoreTrouble; empty when none is known.
    trouble: str
    trouble_detail: str
    trouble_time: datetime | None
    # Word of a LockState; empty before the first self-test.
    lock_state: str
    lock_test_time: datetime | None
    lock_detail: str
    object_count: int
    object_bytes: int
    missing_count: int
    changed_count: int
    # The store could not read them, and is tried again.
    unread_count: int
    # When the object was checked whose last check is the oldest.
    oldest_check_time: datetime | None
    scrub_complete_time: datetime | None
    orphan_count: int
    reconcile_time: datetime | None
    upload_count: int
    upload_bytes: int
    wanted_count: int

    @property
    def has_losses(self) -> bool:
        """Whether evidence is missing or changed."""
        return self.missing_count + self.changed_count > 0

    @property
    def is_well(self) -> bool:
        """Whether the store does its work, and keeps what it was given."""
        return not (self.trouble or self.has_losses or self.lock_state == "not-enforced")


def store_figures(status: pb.GetStoreStatusResponse) -> StoreFigures:
    """Return what an answer says."""
    return StoreFigures(
        endpoint=status.endpoint,
        bucket=status.bucket,
        is_reachable=status.is_reachable,
        # One that only a newer release knows is told by its number.
        trouble=_word(pb.StoreTrouble.DESCRIPTOR, status.trouble),
        trouble_detail=status.trouble_detail,
        trouble_time=_time(status, "trouble_time"),
        lock_state=_word(pb.LockState.DESCRIPTOR, status.lock_state),
        lock_test_time=_time(status, "lock_test_time"),
        lock_detail=status.lock_detail,
        object_count=status.object_count,
        object_bytes=status.object_bytes,
        missing_count=status.missing_count,
        changed_count=status.changed_count,
        unread_count=status.unread_count,
        oldest_check_time=_time(status, "oldest_check_time"),
        scrub_complete_time=_time(status, "scrub_complete_time"),
        orphan_count=status.orphan_count,
        reconcile_time=_time(status, "reconcile_time"),
        upload_count=status.upload_count,
        upload_bytes=status.upload_bytes,
        wanted_count=status.wanted_count,
    )


def _word(enum: EnumDescriptor, number: int) -> str:
    return "" if not number else word(enum, number) or str(number)


def _time(holder: Message, field: str) -> datetime | None:
    moment: Timestamp = getattr(holder, field)
    return moment.ToDatetime(tzinfo=UTC) if holder.HasField(field) else None
