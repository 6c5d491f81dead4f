"""Where two platforms stand in one log, and what that means. Pure: no wire, no clock, no threads."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import NamedTuple

from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.relay.limits import ERROR_CHARACTERS_MAX


class LogKey(NamedTuple):
    """Names one log: the service whose journal it is and the platform that writes it."""

    stream: str
    origin: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How much of one log one side holds."""

    size: int = 0
    # Empty when only the size is known.
    root: bytes = b""
    total_bytes: int = 0
    last_write_time: datetime | None = None
    is_own: bool = False
    # Nothing is written to the log until it was compared with the upstream's: its service was restored from a backup.
    is_recovering: bool = False


class Place(Enum):
    """How the two sides of one log compare."""

    CURRENT = auto()
    # Entries wait to be pushed.
    BEHIND = auto()
    # The upstream holds more of our own log than we do: our database was set back.
    AHEAD = auto()
    # The upstream holds more than we do of a log that comes from below: it will come. We were put in between, or set
    # back.
    AWAITED = auto()
    # Our own log is recovering, and the upstream holds no more than we do.
    UNCONFIRMED = auto()
    # Both hold the same number of entries, and not the same ones.
    DIFFERENT = auto()
    # The upstream writes this log itself: the platforms are linked in a circle.
    OWNED = auto()
    # The upstream has no service for this stream.
    NOT_TAKEN = auto()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a log does not advance, for a person."""

    reason: Reason
    message: str

    @classmethod
    def of(cls, error: ServiceError) -> "Refusal":
        """Take the refusal over from the side that refused."""
        return cls(error.reason, error.message[:ERROR_CHARACTERS_MAX])


def compare(local: Standing, upstream: Standing) -> Place:
    """Compare both sides of one log. Roots are compared at equal sizes only; else the receiver checks as it appends."""
    if upstream.is_own:
        return Place.OWNED
    if upstream.size > local.size:
        return Place.AHEAD if local.is_own else Place.AWAITED
    if upstream.size == local.size and upstream.root and local.root and upstream.root != local.root:
        return Place.DIFFERENT
    if local.is_recovering:
        return Place.UNCONFIRMED
    return Place.BEHIND if upstream.size < local.size else Place.CURRENT


def explain(key: LogKey, place: Place, local: Standing, upstream: Standing) -> Refusal | None:
    """Return why a log at such a place must not be pushed, or None when it may be.

    Being ahead is not among the reasons: it is believed only once it is confirmed, since our own positions may be a
    moment old (see `explain_ahead`).
    """
    match place:
        case Place.DIFFERENT:
            return Refusal(
                Reason.HISTORY_MISMATCH,
                f"two histories exist: the upstream and this platform hold {local.size} entries of the {key.stream} "
                f"log of {key.origin} each, with different roots; find out which is right (zhichao verify)",
            )
        case Place.OWNED:
            return Refusal(
                Reason.ORIGIN_NOT_ALLOWED,
                f"{key.origin} is the upstream itself, and its {key.stream} log is held here: the platforms are linked "
                "in a circle",
            )
        case Place.NOT_TAKEN:
            return Refusal(Reason.NOT_CONFIGURED, f"the upstream takes no {key.stream} journal")
        case _:
            return None


def explain_ahead(key: LogKey, local: Standing, upstream: Standing) -> Refusal:
    """Return why a log must not be pushed of which the upstream holds more."""
    return Refusal(
        Reason.BEYOND_LOG,
        f"the upstream holds {upstream.size} entries of the {key.stream} log of {key.origin}, this platform only "
        f"{local.size}: its database was probably restored from an old backup, and the upstream's release cannot send "
        "back what is missing; upgrade the upstream or restore a newer backup, nothing is pushed until then",
    )


def explain_fork(key: LogKey, error: ServiceError) -> Refusal:
    """Return why what the upstream holds of our own log cannot be taken back: something else was written meanwhile."""
    message = (
        f"after a restore the {key.stream} service wrote other entries than the upstream holds of {key.origin}: keep "
        "a copy of this database, restore the backup once more and start with ZHICHAO_RECOVERING=true, so that nothing "
        f"is written before the upstream's entries are back ({error.message})"
    )
    return Refusal(Reason.HISTORY_MISMATCH, message[:ERROR_CHARACTERS_MAX])


class Reaction(Enum):
    """What to do after a push has failed."""

    # Go on from where the receiver says that it stands.
    CONTINUE = auto()
    # The upstream is not there: connect again.
    RECONNECT = auto()
    # The upstream is there, but cannot take this log now.
    RETRY = auto()
    # The upstream will not take this log as it is: a person must look.
    REFUSE = auto()


_REFUSING_STATUSES = frozenset(
    {
        "DATA_LOSS",
        "PERMISSION_DENIED",
        "UNAUTHENTICATED",
        "INVALID_ARGUMENT",
        "FAILED_PRECONDITION",
        "NOT_FOUND",
        "OUT_OF_RANGE",
        "ALREADY_EXISTS",
    }
)


def react(error: ServiceError) -> Reaction:
    """Decide what a failed push means."""
    if error.reason is Reason.SEQUENCE_GAP and expected_sequence(error) is not None:
        return Reaction.CONTINUE
    if is_link_failure(error):
        return Reaction.RECONNECT
    return Reaction.REFUSE if error.status in _REFUSING_STATUSES else Reaction.RETRY


_PLATFORM_REASONS = frozenset(
    {
        Reason.PLATFORM_NOT_REGISTERED,
        Reason.NO_CREDENTIALS,
        Reason.INVALID_CREDENTIALS,
        Reason.CREDENTIAL_EXPIRED,
    }
)


def refuses_platform(error: ServiceError) -> bool:
    """Tell whether the upstream refuses this platform as a whole: no log and no stream fares differently."""
    return error.reason in _PLATFORM_REASONS


def is_link_failure(error: ServiceError) -> bool:
    """Tell whether the other relay could not be reached; an error of a service behind it names its stream."""
    return error.reason in (Reason.SERVICE_UNAVAILABLE, Reason.DEADLINE_EXCEEDED) and "stream" not in error.metadata


def expected_sequence(error: ServiceError) -> int | None:
    """Return the sequence at which the receiver goes on, or None when the error names none."""
    text = error.metadata.get("expected_sequence", "")
    return int(text) if text.isascii() and text.isdecimal() and int(text) >= 1 else None


def backoff_seconds(failure_count: int, jitter: float, seconds_min: float, seconds_max: float) -> float:
    """Return the pause after so many failures in a row: exponential with full jitter (`jitter` from 0 to 1)."""
    exponent = min(max(failure_count - 1, 0), 16)  # beyond any maximum; 2 to a power without bound would overflow
    return jitter * min(seconds_max, seconds_min * float(2**exponent))
