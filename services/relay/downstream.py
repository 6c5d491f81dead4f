"""The platforms below: who has shaken hands, and when its pushes came. For people only; nothing is decided by it."""

import threading
from dataclasses import dataclass, replace
from datetime import datetime

from services.common.clock import Clock
from services.relay.limits import DOWNSTREAM_LINKS_MAX


@dataclass(frozen=True, slots=True)
class LinkFromBelow:
    """One lower platform since the relay was started."""

    platform: str
    software_version: str
    handshake_time: datetime
    last_push_time: datetime | None = None
    # Batches taken from it and not answered yet.
    open_push_count: int = 0


class DownstreamLinks:
    """The links from below. Bounded: beyond the limit the one that has not shaken hands for longest is forgotten."""

    def __init__(self, clock: Clock, links_max: int = DOWNSTREAM_LINKS_MAX) -> None:
        self._clock = clock
        self._links_max = links_max
        self._links: dict[str, LinkFromBelow] = {}
        self._guard = threading.Lock()

    def shook_hands(self, platform: str, software_version: str) -> None:
        """Note a handshake."""
        now = self._clock.now()
        with self._guard:
            known = self._links.get(platform)
            self._links[platform] = (
                replace(known, software_version=software_version, handshake_time=now)
                if known
                else LinkFromBelow(platform, software_version, now)
            )
            if len(self._links) > self._links_max:
                del self._links[min(self._links, key=lambda one: self._links[one].handshake_time)]

    def began(self, platform: str) -> None:
        """Note a batch that was taken. A platform that has not shaken hands is not known and stays so."""
        self._add(platform, 1, None)

    def committed(self, platform: str) -> None:
        """Note a batch that was committed and answered."""
        self._add(platform, -1, self._clock.now())

    def abandoned(self, platform: str, batch_count: int) -> None:
        """Note that batches will not be answered: their call is over."""
        self._add(platform, -batch_count, None)

    def all(self) -> list[LinkFromBelow]:
        """Return the links ordered by platform."""
        with self._guard:
            return [self._links[platform] for platform in sorted(self._links)]

    def _add(self, platform: str, batch_count: int, push_time: datetime | None) -> None:
        with self._guard:
            known = self._links.get(platform)
            if known is not None:
                # A link that was forgotten and came back has forgotten its open batches too.
                count = max(known.open_push_count + batch_count, 0)
                self._links[platform] = replace(
                    known, open_push_count=count, last_push_time=push_time or known.last_push_time
                )
