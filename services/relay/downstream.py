"""The platforms below: who has shaken hands, when its pushes came, and what it was sent. For people only; nothing is
decided by it.
"""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from services.common.clock import Clock
from services.common.refusals import reason_name
from services.relay.limits import DOWNSTREAM_LINKS_MAX, SENT_LOGS_MAX
from services.relay.standing import LogKey
from zhichao.journal.v1 import addressed_pb2, journal_pb2


@dataclass(frozen=True, slots=True)
class AddressedSent:
    """How far one log was sent to a lower platform."""

    # Where it stood when it began to follow.
    asked_sequence: int = 0
    sent_sequence: int = 0
    last_batch_time: datetime | None = None
    # Why nothing of the log is sent, as a reason of the catalogue; empty when it is.
    refusal_reason: str = ""


@dataclass(frozen=True, slots=True)
class LinkFromBelow:
    """One lower platform since the relay was started."""

    platform: str
    software_version: str
    handshake_time: datetime
    last_push_time: datetime | None = None
    # Batches taken from it and not answered yet.
    open_push_count: int = 0
    protocol_version: int = 0
    # How many follows of each stream are open: two for a moment when one has not noticed yet that its connection broke.
    follow_counts: Mapping[str, int] = field(default_factory=dict)
    sent: Mapping[LogKey, AddressedSent] = field(default_factory=dict)
    # Objects of evidence that came from it, complete.
    received_objects: int = 0
    last_object_time: datetime | None = None


class DownstreamLinks:
    """The links from below. Bounded: beyond the limit the one that has not shaken hands for longest is forgotten."""

    def __init__(self, clock: Clock, links_max: int = DOWNSTREAM_LINKS_MAX) -> None:
        self._clock = clock
        self._links_max = links_max
        self._links: dict[str, LinkFromBelow] = {}
        self._guard = threading.Lock()

    def shook_hands(self, platform: str, software_version: str, protocol_version: int) -> None:
        """Note a handshake."""
        now = self._clock.now()
        with self._guard:
            known = self._links.get(platform)
            self._links[platform] = (
                replace(known, software_version=software_version, handshake_time=now, protocol_version=protocol_version)
                if known
                else LinkFromBelow(platform, software_version, now, protocol_version=protocol_version)
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

    def follow_began(self, platform: str, stream: str, positions: Iterable[addressed_pb2.AddressedPosition]) -> None:
        """Note that a stream is followed, and from where."""
        asked = {LogKey(stream, position.origin): position.through_sequence for position in positions}
        with self._guard:
            known = self._links.get(platform)
            if known is None:
                return
            counts = {**known.follow_counts, stream: known.follow_counts.get(stream, 0) + 1}
            others = {key: sent for key, sent in known.sent.items() if key.stream != stream}
            now = {key: AddressedSent(asked_sequence=through, sent_sequence=through) for key, through in asked.items()}
            self._links[platform] = replace(known, follow_counts=counts, sent=others | now)

    def sent(self, platform: str, stream: str, response: journal_pb2.ReadAddressedEntriesResponse) -> None:
        """Note what a follower was sent."""
        origin = response.batch.origin or response.refusal.origin
        if not origin:
            return
        key = LogKey(stream, origin)
        with self._guard:
            known = self._links.get(platform)
            if known is None or (key not in known.sent and len(known.sent) >= SENT_LOGS_MAX):
                return
            before = known.sent.get(key, AddressedSent())
            if response.batch.origin:
                reached = max((step_size(step) for step in response.batch.steps), default=0)
                after = AddressedSent(before.asked_sequence, max(before.sent_sequence, reached), self._clock.now())
            else:
                after = replace(before, refusal_reason=reason_name(response.refusal.refusal.reason))
            self._links[platform] = replace(known, sent={**known.sent, key: after})

    def received_object(self, platform: str) -> None:
        """Note an object of evidence that is complete."""
        now = self._clock.now()
        with self._guard:
            known = self._links.get(platform)
            if known is not None:
                self._links[platform] = replace(
                    known, received_objects=known.received_objects + 1, last_object_time=now
                )

    def follow_ended(self, platform: str, stream: str) -> None:
        """Note that a follow is over."""
        with self._guard:
            known = self._links.get(platform)
            if known is not None:
                counts = {**known.follow_counts, stream: max(known.follow_counts.get(stream, 0) - 1, 0)}
                self._links[platform] = replace(known, follow_counts=counts)

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


def step_size(step: addressed_pb2.AddressedStep) -> int:
    """Return the size of the log at a step: the second line of its checkpoint (C2SP tlog-checkpoint); 0 if it has
    none.
    """
    lines = step.checkpoint.split("\n", 2)
    return int(lines[1]) if len(lines) > 1 and lines[1].isascii() and lines[1].isdecimal() else 0
