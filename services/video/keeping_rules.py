"""What may be deleted, and when somebody looks again. Pure: whoever keeps bytes is passed in.

Never trusts a lock of the store: this is where it is decided.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

HELD_LOOK_AGAIN: Final = timedelta(days=1)
"""How soon bytes are looked at again that only a hold, or a request, keeps: a release is not told to what deletes, and
nothing is in a hurry to be deleted."""

ORPHAN_KEEP: Final = timedelta(days=7)
"""How long an object that no manifest names stays in the store after it was first seen: a database that was restored
from before its manifests gets them back from above within hours, and a person who looks once a week sees the figure."""


@dataclass(frozen=True, slots=True)
class Keeper:
    """One manifest that names the bytes, as far as it keeps them."""

    retain_until_time: datetime
    """As sealed or as extended, whichever is later."""
    is_held: bool
    """Whether any legal hold stands."""
    requested_until_time: datetime | None = None
    """The latest deadline of a request for the bytes by a platform above."""

    def keeps(self, now: datetime) -> bool:
        """Tell whether this manifest keeps the bytes."""
        is_requested = self.requested_until_time is not None and self.requested_until_time > now
        return self.is_held or is_requested or self.retain_until_time > now


def may_delete(keepers: Sequence[Keeper], now: datetime) -> bool:
    """Tell whether bytes may be deleted: the retention of every manifest that names them is over, no hold stands, and
    nobody has asked for them.

    Bytes that no manifest names are not for this rule: their manifest may be on its way back.
    """
    return bool(keepers) and not any(keeper.keeps(now) for keeper in keepers)


def next_look(keepers: Sequence[Keeper], now: datetime) -> datetime:
    """Return when bytes that may not be deleted now are looked at again.

    Not later than the earliest moment at which they may be: extensions only move that away, and a hold that is released
    is noticed within a day.
    """
    retained = max((keeper.retain_until_time for keeper in keepers), default=now)
    requested = max((keeper.requested_until_time for keeper in keepers if keeper.requested_until_time), default=now)
    latest = max(retained, requested)
    return latest if latest > now else now + HELD_LOOK_AGAIN


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
