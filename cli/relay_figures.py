"""What goes on on the links of one platform beside its logs: what comes down, alarms, the bandwidth cap,
evidence. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class FollowFigures:
    """How one stream of the upstream is followed."""

    stream: str
    # A FollowState without prefix.
    state: str
    detail: str = ""


@dataclass(frozen=True)
class AddressedFigures:
    """How far what one platform above has addressed to us has come down."""

    stream: str
    origin: str
    through_sequence: int
    upstream_sequence: int
    last_batch_time: datetime | None
    refusal_reason: str
    refusal_message: str


@dataclass(frozen=True)
class SentFigures:
    """How far one log was sent to a lower platform."""

    stream: str
    origin: str
    asked_sequence: int
    sent_sequence: int
    last_batch_time: datetime | None
    refusal_reason: str


@dataclass(frozen=True)
class StalledFigures:
    """One log that waits and does not advance; the origin is empty for a whole stream."""

    stream: str
    origin: str
    start_time: datetime | None
    # A StallCause without prefix.
    cause: str
    detail: str


@dataclass(frozen=True)
class AlarmFigures:
    """A direction in which a link that is connected does not advance."""

    is_downward: bool
    start_time: datetime | None
    log_count: int
    logs: Sequence[StalledFigures] = ()


@dataclass(frozen=True)
class BandwidthFigures:
    """The cap on what is pushed upwards."""

    schedule: str
    # None: nothing bounds it now; 0: nothing may be pushed now.
    bytes_per_second_max: int | None
    change_time: datetime | None
    is_waiting: bool


@dataclass(frozen=True)
class EvidenceFigures:
    """How the bytes of evidence that the upstream wants go up."""

    # A FollowState without prefix.
    state: str
    detail: str
    # What the upstream wants of this platform and those below it, and does not have.
    waiting_objects: int
    waiting_bytes: int
    open_push_count: int
    # Of these, what is not held here yet.
    declined_objects: int
    pushed_objects: int
    pushed_bytes: int
    last_object_time: datetime | None
    last_error: str
    # Whether it waits for the bandwidth cap, or for entries.
    is_waiting: bool
