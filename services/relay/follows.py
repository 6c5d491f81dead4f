"""How far what platforms above have addressed to this platform's subtree has come down: by stream whether it is
followed, by log how far it is held here and there, what is refused, what stalls.

Pure: instants are passed in, and the caller holds the lock. Kept in memory only: positions are those of the services.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from services.relay.limits import FOLLOWED_LOGS_MAX, LinkTimes
from services.relay.stalls import Stall, StallCause
from services.relay.standing import LogKey, Refusal


class FollowState(Enum):
    """Where the following of one stream stands; the names are those of the contract without prefix."""

    NOT_FOLLOWED = "NOT_FOLLOWED"
    WAITING = "WAITING"
    FOLLOWING = "FOLLOWING"


@dataclass(frozen=True, slots=True)
class StreamFollow:
    """How one stream is followed."""

    stream: str
    state: FollowState
    detail: str


@dataclass(frozen=True, slots=True)
class AddressedProgress:
    """How far one log has come down."""

    key: LogKey
    through_sequence: int
    upstream_sequence: int
    last_batch_time: datetime | None
    refusal: Refusal | None


@dataclass(slots=True)
class _Stream:
    state: FollowState = FollowState.NOT_FOLLOWED
    detail: str = ""
    cause: StallCause = StallCause.UNKNOWN
    # Monotonic seconds: when it was followed last, or was to be followed first.
    followed_at: float = 0.0


@dataclass(slots=True)
class _Log:
    through_sequence: int = 0
    # What the follow said, and what the last handshake did.
    sent_end: int = 0
    announced_end: int = 0
    last_batch_time: datetime | None = None
    refusal: Refusal | None = None
    # Monotonic seconds: when it advanced, or fell behind; when the refusal is looked at again.
    progressed_at: float = 0.0
    retry_at: float = 0.0

    @property
    def upstream_sequence(self) -> int:
        return max(self.sent_end, self.announced_end)

    @property
    def is_behind(self) -> bool:
        return self.refusal is None and self.through_sequence < self.upstream_sequence


class FollowTable:
    """All streams of this platform's services, and the logs in them that come down. Not thread-safe."""

    def __init__(self, streams: Collection[str], times: LinkTimes) -> None:
        self._times = times
        self._streams = {stream: _Stream() for stream in sorted(streams)}
        self._logs: dict[LogKey, _Log] = {}

    # What the link tells

    def offer(self, streams: Collection[str], announced: Mapping[LogKey, int], now: float) -> None:
        """Take over which streams the upstream serves, and how far it holds each log, from a handshake."""
        for stream, row in self._streams.items():
            if stream in streams and row.state is FollowState.NOT_FOLLOWED:
                row.state = FollowState.WAITING
                row.detail, row.cause = "", StallCause.UNKNOWN
                row.followed_at = now
            elif stream not in streams:
                row.state, row.detail = FollowState.NOT_FOLLOWED, ""
        # What the upstream holds and we have no row of is told by the follow itself.
        for key, log in self._logs.items():
            was_behind = log.is_behind
            log.announced_end = announced.get(key, 0)
            self._note_behind(log, now, was_behind=was_behind)

    def withdraw(self) -> None:
        """Take note that the link is down."""
        for row in self._streams.values():
            row.state, row.detail = FollowState.NOT_FOLLOWED, ""

    # What the followers tell

    def begin(self, stream: str, held: Mapping[str, int], now: float) -> None:
        """Take note that a stream is followed, from where this platform's service stands in each log."""
        row = self._streams[stream]
        row.state, row.detail = FollowState.FOLLOWING, ""
        row.followed_at = now
        for key in [key for key in self._logs if key.stream == stream]:
            self._logs[key].sent_end = 0
        for origin, through in held.items():
            log = self._logs.setdefault(LogKey(stream, origin), _Log(progressed_at=now))
            if log.through_sequence != through:
                log.through_sequence, log.progressed_at = through, now

    def wait(self, stream: str, cause: StallCause, detail: str) -> None:
        """Take note that a stream cannot be followed now."""
        row = self._streams[stream]
        if row.state is not FollowState.NOT_FOLLOWED:
            row.state, row.cause, row.detail = FollowState.WAITING, cause, detail

    def end(self, key: LogKey, end_sequence: int, now: float) -> None:
        """Take over how far the upstream's service holds a log. Those beyond what can be held here are not noted."""
        if self._is_beyond(key):
            return
        log = self._logs.setdefault(key, _Log(progressed_at=now))
        was_behind = log.is_behind
        log.sent_end = end_sequence
        self._note_behind(log, now, was_behind=was_behind)

    def advance(self, key: LogKey, through_sequence: int, time: datetime, now: float) -> None:
        """Take note that this platform's service has taken a batch and where it stands."""
        log = self._logs.setdefault(key, _Log())
        log.through_sequence = through_sequence
        log.last_batch_time = time
        log.refusal = None
        log.progressed_at = now

    def refuse(self, key: LogKey, refusal: Refusal, now: float) -> bool:
        """Take note that one side refuses a log; return whether that is news."""
        if self._is_beyond(key):
            return False
        log = self._logs.setdefault(key, _Log())
        is_news = log.refusal is None or log.refusal.reason is not refusal.reason
        log.refusal = refusal
        log.retry_at = now + self._times.refused_seconds
        return is_news

    def settle(self, stream: str, origins: Collection[str]) -> None:
        """Forget refusals of logs that the upstream sends, and has sent all of."""
        for key, log in self._logs.items():
            if key.stream == stream and key.origin in origins and log.through_sequence >= log.sent_end:
                log.refusal = None

    # What is to be done

    def due(self, now: float) -> set[str]:
        """Return the streams to follow anew: a refusal is old enough to try again, or a follow has fallen silent.

        Silent means that the upstream announces more in its handshakes than it sends. Returned once.
        """
        due = set()
        for key, log in self._logs.items():
            if self._streams[key.stream].state is not FollowState.FOLLOWING:
                continue
            if log.refusal is not None and now >= log.retry_at:
                log.retry_at = now + self._times.refused_seconds
                due.add(key.stream)
            elif log.is_behind and now >= max(log.progressed_at, log.retry_at) + self._times.answer_seconds:
                log.retry_at = now
                due.add(key.stream)
        return due

    # What people see

    @property
    def is_refused(self) -> bool:
        """Whether one side refuses a log."""
        return any(log.refusal is not None for log in self._logs.values())

    @property
    def is_behind(self) -> bool:
        """Whether something is on its way down, as far as is known."""
        return any(row.state is FollowState.WAITING for row in self._streams.values()) or any(
            log.is_behind and self._streams[key.stream].state is not FollowState.NOT_FOLLOWED
            for key, log in self._logs.items()
        )

    def stalls(self, now: float, since: float) -> list[Stall]:
        """Return what has not advanced for the stall limit; `since` is when the link came up."""
        patient_until = now - self._times.stalled_seconds
        found = []
        for stream, row in self._streams.items():
            waited = max(row.followed_at, since)
            if row.state is FollowState.WAITING and waited < patient_until:
                found.append(Stall(LogKey(stream, ""), waited, row.cause, row.detail))
        for key, log in self._logs.items():
            waited = max(log.progressed_at, since)
            is_followed = self._streams[key.stream].state is FollowState.FOLLOWING
            if is_followed and log.is_behind and waited < patient_until:
                found.append(Stall(key, waited, StallCause.NO_ANSWER))
        return found

    def follows(self) -> list[StreamFollow]:
        """Return how each stream is followed."""
        return [StreamFollow(stream, row.state, row.detail) for stream, row in self._streams.items()]

    def progress(self) -> list[AddressedProgress]:
        """Return how far each log has come down, ordered by stream and origin."""
        return [
            AddressedProgress(key, log.through_sequence, log.upstream_sequence, log.last_batch_time, log.refusal)
            for key, log in sorted(self._logs.items())
        ]

    def _is_beyond(self, key: LogKey) -> bool:
        return key not in self._logs and len(self._logs) >= FOLLOWED_LOGS_MAX

    def _note_behind(self, log: _Log, now: float, *, was_behind: bool) -> None:
        if log.is_behind and not was_behind:
            log.progressed_at = now
