"""What may be deleted, and when somebody looks again. Pure: whoever keeps bytes is passed in.

Never trusts a lock of the store: this is where it is decided.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

HELD_LOOK_AGAIN: Final = timedelta(days=1)
"""How soon bytes are looked at again that only a hold, or a request, keeps: a release is not told to what deletes, and
nothing is in a hurry to be deleted."""

AWAY_MIN: Final = timedelta(minutes=15)
"""A shorter time without a look is a restart, or a comparison that takes its time: the link was not away for longer."""

RECOVERED_WAIT: Final = timedelta(hours=1)
"""How long nothing is deleted at least after the own log was compared with the platform above: the link is up then, and
what it brings down after that takes minutes."""

ORPHAN_KEEP: Final = timedelta(days=7)
"""How long an object that no manifest names stays in the store after it was first seen: a database that was restored
from before its manifests gets them back from above within hours, and a person who looks once a week sees the figure."""

UNREAD_RETRY: Final = timedelta(hours=1)
"""When an object is tried again that the store could not read though it could read others."""

UNREAD_MAX: Final = 6
"""Attempts after which it is written down: for five hours the store has read others and not this one. A server that
restarts and a disk that is changed are back before, and what is written into custody is there for good."""

# A platform below may send whatever a time can say.
_CALENDAR_END: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Keeper:
    """One manifest that names the bytes, or several together, as far as they keep them."""

    retain_until_time: datetime
    """As sealed or as extended, whichever is latest."""
    is_held: bool
    """Whether any legal hold stands."""
    requested_until_time: datetime | None = None
    """The latest deadline of a request for the bytes by a platform above."""

    def keeps(self, now: datetime, grace: timedelta) -> bool:
        """Tell whether this manifest keeps the bytes; its retention does for a grace after its end."""
        is_requested = self.requested_until_time is not None and self.requested_until_time > now
        return self.is_held or is_requested or self.end(grace) > now

    def end(self, grace: timedelta) -> datetime:
        """Return when its retention no longer keeps the bytes: at the end of the calendar where that comes first."""
        return _CALENDAR_END if self.retain_until_time > _CALENDAR_END - grace else self.retain_until_time + grace


def may_delete(keepers: Sequence[Keeper], now: datetime, grace: timedelta) -> bool:
    """Tell whether bytes may be deleted: the retention of every manifest that names them has been over for a grace, no
    hold stands, and nobody has asked for them.

    The grace is for holds and extensions of platforms above that are on their way while the link is away. Bytes that no
    manifest names are not for this rule: their manifest may be on its way back.
    """
    return bool(keepers) and not any(keeper.keeps(now, grace) for keeper in keepers)


def next_look(keepers: Sequence[Keeper], now: datetime, grace: timedelta) -> datetime:
    """Return when bytes that may not be deleted now are looked at again.

    Not later than the earliest moment at which they may be: extensions only move that away, and a hold that is released
    is noticed within a day.
    """
    retained = max((keeper.end(grace) for keeper in keepers), default=now)
    requested = max((keeper.requested_until_time for keeper in keepers if keeper.requested_until_time), default=now)
    latest = max(retained, requested)
    return latest if latest > now else now + HELD_LOOK_AGAIN


@dataclass(frozen=True, slots=True)
class Presence:
    """When what deletes was at work last, and from when on it may delete."""

    present_time: datetime | None
    delete_after_time: datetime | None

    def noted(self, now: datetime, grace: timedelta) -> "Presence":
        """Return what is known when it is at work now.

        After a time away, nothing is deleted for as long as that was, a grace at most: what platforms above decided
        meanwhile has to come down first. A service that was stopped was away, and so was a database that is restored,
        since its backup. Where nothing is known, or another clock was believed, a grace is waited for.
        """
        if self.present_time is None or self.present_time > now + AWAY_MIN:
            wait = grace
        else:
            away = now - self.present_time
            wait = min(away, grace) if away > AWAY_MIN else timedelta(0)
        after = now + wait if self.delete_after_time is None else max(self.delete_after_time, now + wait)
        return Presence(now, min(after, now + grace))

    def recovering(self, now: datetime, grace: timedelta) -> "Presence":
        """Return what is known while the own log is compared with the platform above: it is away still."""
        after = now + min(RECOVERED_WAIT, grace)
        return Presence(self.present_time, max(self.delete_after_time or after, after))


class Pace:
    """Spreads reading over time: so many bytes per second on average, and no more after a pause. Not thread-safe."""

    def __init__(self, bytes_per_second: int) -> None:
        self._bytes_per_second = bytes_per_second
        self._free_at: float | None = None

    def took(self, count: int, monotonic: float) -> float:
        """Note bytes that were read, and return the seconds to wait before the next ones."""
        # What was not read during a pause is not made up for: the disk shall have the rest.
        begins_at = monotonic if self._free_at is None else max(self._free_at, monotonic)
        self._free_at = begins_at + count / self._bytes_per_second
        return self._free_at - monotonic
