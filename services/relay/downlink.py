"""What comes down the link: one follower for each stream, one for cosignatures, and what people see of them."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from services.common.clock import Clock
from services.common.errors import ServiceError
from services.relay.cosignature_follower import follow_cosignatures
from services.relay.cosignatures import Cosignatures
from services.relay.follower import StreamFollower
from services.relay.follows import AddressedProgress, FollowTable, StreamFollow
from services.relay.limits import ERROR_CHARACTERS_MAX, LinkTimes
from services.relay.local_services import LocalServices
from services.relay.stalls import Stall, StallCause
from services.relay.standing import LogKey, Refusal, refuses_platform
from services.relay.upstream import Upstream, Welcome
from zhichao.journal.v1 import addressed_pb2

FOLLOWER_JOIN_SECONDS: Final = 1.0
"""Longest wait for a follower beyond the grace: its calls are cancelled by then, so it ends at once unless there is a
fault."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class DownlinkStatus:
    """What people see of what comes down."""

    follows: list[StreamFollow]
    progress: list[AddressedProgress]


class Downlink:
    """Follows the upstream over the connection that is set. `lock` guards the table; `changed` is called under it, and
    `platform_refused` when the upstream refuses this platform as a whole.
    """

    def __init__(
        self,
        lock: threading.RLock,
        services: LocalServices,
        cosignatures: Cosignatures,
        changed: Callable[[], None],
        platform_refused: Callable[[ServiceError], None],
        clock: Clock,
        times: LinkTimes,
        jitter: Callable[[], float],
    ) -> None:
        self._lock = lock
        self._changed = changed
        self._platform_refused = platform_refused
        self._clock = clock
        self._table = FollowTable(services.streams, times)
        self._followers = {service.stream: StreamFollower(service, self, jitter) for service in services}
        self._cosignatures = follow_cosignatures(services.streams, cosignatures, jitter)

    def start(self) -> None:
        """Start the threads; they wait for a connection."""
        for follower in self._followers.values():
            follower.start()
        self._cosignatures.start()

    def stop(self, grace_seconds: float) -> None:
        """Take nothing more, let hand-overs under way end within the grace."""
        ends_at = self._clock.monotonic() + grace_seconds
        self._cosignatures.stop()
        for follower in self._followers.values():
            follower.stop()
        for follower in self._followers.values():
            follower.join(max(ends_at - self._clock.monotonic(), 0.0) + FOLLOWER_JOIN_SECONDS)
        self._cosignatures.join(FOLLOWER_JOIN_SECONDS)

    # What the link tells, under the lock

    def use(self, upstream: Upstream, welcome: Welcome) -> None:
        """Follow over this connection from now on; called again after each handshake."""
        followed = welcome.followed_streams
        self._table.offer(followed, welcome.addressed_ends, self._clock.monotonic())
        for stream, follower in self._followers.items():
            follower.use(upstream if stream in followed else None)
        self._cosignatures.use(upstream if followed else None)

    def leave(self) -> None:
        """Follow nothing until the next connection."""
        self._table.withdraw()
        for follower in self._followers.values():
            follower.use(None)
        self._cosignatures.use(None)

    def service_came(self, stream: str) -> None:
        """Follow a stream from where its service stands now; its database may be an older one."""
        self._followers[stream].follow_anew()

    def look(self) -> None:
        """Follow anew what is due: refused logs after a while, and what has fallen silent."""
        for stream in self._table.due(self._clock.monotonic()):
            self._followers[stream].follow_anew()

    def follow_anew(self) -> None:
        """Begin every follow again where the own services stand."""
        for follower in self._followers.values():
            follower.follow_anew()
        self._cosignatures.watch_anew()

    @property
    def is_refused(self) -> bool:
        """Whether a log does not come down until a person acts."""
        return self._table.is_refused

    @property
    def is_behind(self) -> bool:
        """Whether something is on its way down."""
        return self._table.is_behind

    def stalls(self, since: float) -> list[Stall]:
        """Return what does not come down; `since` is when the link came up, in monotonic seconds."""
        return self._table.stalls(self._clock.monotonic(), since)

    def status(self) -> DownlinkStatus:
        """Return what people see."""
        return DownlinkStatus(self._table.follows(), self._table.progress())

    # What the followers tell (FollowEvents)

    def began(self, stream: str, positions: Sequence[addressed_pb2.AddressedPosition]) -> None:
        """Note from where a stream is followed."""
        with self._lock:
            held = {position.origin: position.through_sequence for position in positions}
            self._table.begin(stream, held, self._clock.monotonic())
            self._changed()
        _log.info("stream_followed", stream=stream, logs=len(positions))

    def advanced(self, key: LogKey, position: addressed_pb2.AddressedPosition, end_sequence: int) -> None:
        """Note that a batch was taken."""
        with self._lock:
            now = self._clock.monotonic()
            self._table.end(key, end_sequence, now)
            self._table.advance(key, position.through_sequence, self._clock.now(), now)
            self._changed()

    def refused(self, key: LogKey, refusal: Refusal, *, is_own: bool) -> None:
        """Note that a log stops, and say so loudly once."""
        with self._lock:
            is_news = self._table.refuse(key, refusal, self._clock.monotonic())
            self._changed()
        write = _log.error if is_news else _log.debug
        write(
            "downlink_refused",
            stream=key.stream,
            origin=key.origin,
            reason=refusal.reason.value,
            by="own service" if is_own else "upstream",
            detail=refusal.message,
        )

    def sent_all(self, stream: str, ends: Sequence[addressed_pb2.AddressedEnd]) -> None:
        """Note how far the upstream's service holds the logs of a stream."""
        with self._lock:
            now = self._clock.monotonic()
            for end in ends:
                self._table.end(LogKey(stream, end.origin), end.end_sequence, now)
            self._table.settle(stream, {end.origin for end in ends})
            self._changed()

    def waiting(self, stream: str, cause: StallCause, error: ServiceError) -> None:
        """Note that a stream cannot be followed now."""
        with self._lock:
            self._table.wait(stream, cause, error.message[:ERROR_CHARACTERS_MAX])
            if cause is StallCause.UPSTREAM_SERVICE and refuses_platform(error):
                self._platform_refused(error)
            self._changed()
