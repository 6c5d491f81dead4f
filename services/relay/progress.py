"""How far every log has come on the link upwards: whose turn is next, what is refused, what state the link is in.

Pure: instants are passed in, and the caller holds the lock. Kept in memory only; the truth is what the upstream holds.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum

from services.relay.limits import ERROR_CHARACTERS_MAX, LinkTimes
from services.relay.stalls import Stall, StallCause
from services.relay.standing import LogKey, Place, Refusal, Standing, backoff_seconds, compare, explain, explain_ahead


class LinkState(Enum):
    """Where the link to the upstream stands; the names are those of the contract without prefix."""

    NO_UPSTREAM = "NO_UPSTREAM"
    CONNECTING = "CONNECTING"
    CURRENT = "CURRENT"
    CATCHING_UP = "CATCHING_UP"
    STALLED = "STALLED"
    REFUSED = "REFUSED"
    INCOMPATIBLE = "INCOMPATIBLE"


@dataclass(frozen=True, slots=True)
class Turn:
    """One log that a sender takes up, and where it goes on."""

    key: LogKey
    place: Place
    first_sequence: int
    # Where the upstream stands, as far as is known.
    upstream: Standing = field(default=Standing(), compare=False)
    # Mean size of the log's entries.
    entry_bytes: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class LogProgress:
    """How far one log has come."""

    key: LogKey
    local_size: int
    upstream_size: int
    lag_records: int
    lag_bytes: int
    lag_milliseconds: int
    refusal: Refusal | None
    is_recovering: bool


@dataclass(slots=True)
class _Row:
    local: Standing
    upstream: Standing
    place: Place = Place.CURRENT
    # Set when a push was refused or the upstream is known to be ahead; other refusals follow from the place.
    refusal: Refusal | None = None
    is_taken: bool = False
    failure_count: int = 0
    # Monotonic seconds: not to be tried before; waits for a turn since; advanced or fell behind last.
    not_before: float = 0.0
    waiting_since: float = 0.0
    progressed_at: float = 0.0
    # What kept it last, until it advances.
    cause: StallCause = StallCause.UNKNOWN
    detail: str = ""
    # When the oldest entry waiting was written, as far as it is known without reading it.
    oldest_write_time: datetime | None = None


class ProgressTable:
    """All logs of this platform's services. Not thread-safe."""

    def __init__(self, streams: Collection[str], times: LinkTimes, now: float, *, has_upstream: bool) -> None:
        self._times = times
        self._has_upstream = has_upstream
        self._rows: dict[LogKey, _Row] = {}
        self._announced: Mapping[LogKey, Standing] = {}
        self._taken_streams: frozenset[str] | None = None
        self._is_older = False
        self._unheard = set(streams)
        self._connected_at: float | None = None
        # Since when the link is up, but for interruptions shorter than the stall limit: a link that breaks again and
        # again is connected, and does not advance.
        self._up_since = now
        self._lost_at: float | None = None
        # Kept beside the rows, so that nothing walks over thousands of logs for each batch.
        self._waiting: set[LogKey] = set()
        self._lagging: set[LogKey] = set()
        self._refused: set[LogKey] = set()

    # What both sides tell

    def set_local(self, stream: str, standings: Mapping[str, Standing], now: float, *, is_complete: bool) -> None:
        """Take over where this platform stands, by origin; a complete list drops the logs that it does not name."""
        if is_complete:
            self._unheard.discard(stream)
            gone = [key for key in self._rows if key.stream == stream and key.origin not in standings]
            for key in gone:
                if not self._rows[key].is_taken:
                    self._forget(key)
        for origin, standing in standings.items():
            key = LogKey(stream, origin)
            row = self._rows.get(key)
            if row is None:
                row = self._rows[key] = _Row(standing, self._announced.get(key, Standing()), progressed_at=now)
            else:
                row.local = standing
            self._settle(key, row, now)

    def connect(
        self, standings: Mapping[LogKey, Standing], streams: Collection[str], now: float, *, is_older: bool = False
    ) -> None:
        """Take over where the upstream stands, from a handshake. Logs being pushed know better and keep theirs.

        An upstream that `is_older` than this release may lack streams that came with it: they wait for its upgrade, and
        the link is none the worse.
        """
        self._announced = standings
        self._taken_streams = frozenset(streams)
        self._is_older = is_older
        if self._connected_at is None:
            self._connected_at = now
            if self._lost_at is None or now - self._lost_at >= self._times.stalled_seconds:
                self._up_since = now
        for key, row in self._rows.items():
            if not row.is_taken:
                row.upstream = standings.get(key, Standing())
            self._settle(key, row, now)

    def disconnect(self, now: float) -> None:
        """Give out no more turns until the next handshake."""
        if self._connected_at is not None:
            self._connected_at, self._lost_at = None, now

    @property
    def up_since(self) -> float:
        """Since when the link is up, but for short interruptions."""
        return self._up_since

    def is_down_for_long(self, now: float) -> bool:
        """Tell whether the link has been away for longer than the stall limit: then that is what people see."""
        if self._connected_at is not None:
            return False
        return self._lost_at is None or now - self._lost_at >= self._times.stalled_seconds

    # Turns

    def take(self, now: float) -> Turn | None:
        """Give out the log that has waited longest, or None. It is not given out again before it is given back."""
        if self._connected_at is None:
            return None
        due = [key for key in self._waiting if self._rows[key].not_before <= now]
        if not due:
            return None
        key = min(due, key=lambda one: (self._rows[one].waiting_since, one))
        row = self._rows[key]
        row.is_taken = True
        self._settle(key, row, now)
        entry_bytes = row.local.total_bytes // max(row.local.size, 1)
        return Turn(key, row.place, row.upstream.size + 1, row.upstream, entry_bytes)

    def is_anyone_due(self, now: float) -> bool:
        """Tell whether a log waits for a sender."""
        return self._connected_at is not None and any(self._rows[key].not_before <= now for key in self._waiting)

    def seconds_until_due(self, now: float) -> float | None:
        """Return how long until a log that waits may be taken; None when none waits."""
        if self._connected_at is None or not self._waiting:
            return None
        return max(min(self._rows[key].not_before for key in self._waiting) - now, 0.0)

    def place(self, key: LogKey) -> Place | None:
        """Return how both sides of a log compare; None when it is not held here."""
        row = self._rows.get(key)
        return row.place if row else None

    def read(self, key: LogKey, oldest_write_time: datetime | None, now: float) -> None:
        """Note when the oldest entry that waits was written, once it is read."""
        row = self._rows.get(key)
        if row is not None and oldest_write_time is not None:
            row.oldest_write_time = oldest_write_time
            self._settle(key, row, now)

    def acknowledge(self, key: LogKey, upstream: Standing, oldest_write_time: datetime | None, now: float) -> None:
        """Note what the upstream has committed, and when the oldest entry after it was written if that is read."""
        row = self._rows.get(key)
        if row is None:
            return
        row.upstream = upstream
        if upstream.size > row.local.size:
            # What was acknowledged came from here: the watch over our own positions is only slower than the push.
            row.local = replace(upstream, is_own=row.local.is_own)
        row.refusal = None
        row.failure_count = 0
        row.cause, row.detail = StallCause.UNKNOWN, ""
        row.progressed_at = now
        row.oldest_write_time = oldest_write_time or row.local.last_write_time
        self._settle(key, row, now)

    def excuse(self, key: LogKey, now: float) -> None:
        """Note that a log waits for the bandwidth cap and for nothing else: it is not stalled."""
        row = self._rows.get(key)
        if row is not None:
            row.progressed_at = now

    def excuse_waiting(self, now: float) -> None:
        """Note that the logs that wait for a sender wait for the bandwidth cap in truth."""
        for key in self._waiting:
            row = self._rows[key]
            if not row.failure_count and row.not_before <= now:
                row.progressed_at = now

    def note_silence(self, key: LogKey) -> None:
        """Note that the upstream has not answered what it was sent for a while."""
        row = self._rows.get(key)
        if row is not None:
            row.cause, row.detail = StallCause.NO_ANSWER, "the upstream has taken entries and not answered"

    def give_back(self, key: LogKey, now: float) -> None:
        """End a turn that went well."""
        self._end_turn(key, now, 0.0)

    def continue_from(self, key: LogKey, sequence: int, now: float, jitter: float) -> None:
        """End a turn in which the receiver named another sequence; at once the first time, later with a pause."""
        row = self._rows.get(key)
        if row is not None:
            row.upstream = Standing(sequence - 1)
            row.failure_count += 1
            self._end_turn(key, now, self._pause(row.failure_count - 1, jitter) if row.failure_count > 1 else 0.0)

    def retry(
        self, key: LogKey, now: float, jitter: float, cause: StallCause = StallCause.UNKNOWN, detail: str = ""
    ) -> None:
        """End a turn that failed in a way that passes by itself."""
        row = self._rows.get(key)
        if row is not None:
            row.failure_count += 1
            row.cause, row.detail = cause, detail[:ERROR_CHARACTERS_MAX]
            self._end_turn(key, now, self._pause(row.failure_count, jitter))

    def refuse(self, key: LogKey, refusal: Refusal, now: float) -> None:
        """End a turn that was refused; the log is tried again, slowly."""
        row = self._rows.get(key)
        if row is not None:
            row.refusal = refusal
            self._end_turn(key, now, self._times.refused_seconds)

    def refuse_ahead(self, key: LogKey, now: float) -> None:
        """End a turn in which it turned out that the upstream really holds more than this platform."""
        row = self._rows.get(key)
        if row is not None:
            self.refuse(key, explain_ahead(key, row.local, row.upstream), now)

    # What people see

    def state(self, now: float) -> LinkState:
        """Return the state of a link that is connected."""
        if self._refused:
            return LinkState.REFUSED
        if not self._lagging and not self._unheard:
            return LinkState.CURRENT
        return LinkState.STALLED if self.stalls(now) else LinkState.CATCHING_UP

    def stalls(self, now: float) -> list[Stall]:
        """Return the logs of a link that is connected which wait and have not advanced for the stall limit."""
        # A link that has just come up has had no time to advance anything.
        since = self._up_since
        patient_until = now - self._times.stalled_seconds
        if since >= patient_until:
            return []
        found = [Stall(LogKey(stream, ""), since, StallCause.OWN_SERVICE) for stream in self._unheard]
        for key in self._lagging - self._refused:
            row = self._rows[key]
            waited = max(row.progressed_at, since)
            if waited < patient_until:
                found.append(Stall(key, waited, row.cause, row.detail))
        return found

    def progress(self, now: datetime) -> list[LogProgress]:
        """Return how far each log has come, ordered by stream and origin."""
        return [self._progress(key, row, now) for key, row in sorted(self._rows.items())]

    def _progress(self, key: LogKey, row: _Row, now: datetime) -> LogProgress:
        lag_records = max(row.local.size - row.upstream.size, 0) if self._has_upstream else 0
        lag_bytes = max(row.local.total_bytes - row.upstream.total_bytes, 0) if lag_records else 0
        lag_milliseconds = 0
        if lag_records and row.oldest_write_time is not None:
            # The origin's clock may be ahead of ours.
            lag_milliseconds = max(int((now - row.oldest_write_time).total_seconds() * 1000), 0)
        return LogProgress(
            key,
            row.local.size,
            row.upstream.size,
            lag_records,
            lag_bytes,
            lag_milliseconds,
            self._refusal(key, row),
            row.local.is_recovering,
        )

    # Inner workings

    def _settle(self, key: LogKey, row: _Row, now: float) -> None:
        """Work out a row's place anew after either side has changed, and keep the sets in step."""
        place = compare(row.local, row.upstream)
        if self._taken_streams is not None and key.stream not in self._taken_streams:
            # Of a stream that is not taken above nothing is held there that ours could be compared with.
            place = Place.UNCONFIRMED if row.local.is_recovering else Place.NOT_TAKEN
        if place is not row.place:
            if Place.AHEAD in (place, row.place):
                # What was refused or failed before concerned another situation.
                row.refusal = None
                row.failure_count = 0
                row.not_before = 0.0
            if row.place is Place.CURRENT or place is Place.AHEAD:
                row.waiting_since = row.progressed_at = now
            row.place = place
        if place in (Place.CURRENT, Place.AWAITED):
            row.refusal = None
        if place is not Place.BEHIND:
            row.oldest_write_time = None
        elif row.oldest_write_time is None:
            # The newest stands in for the oldest until that is read; right when the log has only just fallen behind.
            row.oldest_write_time = row.local.last_write_time
        is_lagging = place in (Place.BEHIND, Place.AHEAD, Place.UNCONFIRMED)
        _keep(self._lagging, key, is_member=is_lagging)
        _keep(self._waiting, key, is_member=is_lagging and not row.is_taken)
        is_refused = self._refusal(key, row) is not None and not (place is Place.NOT_TAKEN and self._is_older)
        _keep(self._refused, key, is_member=is_refused)

    def _refusal(self, key: LogKey, row: _Row) -> Refusal | None:
        # Being ahead is believed only once it is confirmed: our own positions may be a moment old.
        return row.refusal or explain(key, row.place, row.local, row.upstream)

    def _end_turn(self, key: LogKey, now: float, pause_seconds: float) -> None:
        row = self._rows.get(key)
        if row is None:
            return
        row.is_taken = False
        row.waiting_since = now
        row.not_before = now + pause_seconds
        self._settle(key, row, now)

    def _pause(self, failure_count: int, jitter: float) -> float:
        return backoff_seconds(failure_count, jitter, self._times.backoff_seconds_min, self._times.backoff_seconds_max)

    def _forget(self, key: LogKey) -> None:
        del self._rows[key]
        for keys in (self._waiting, self._lagging, self._refused):
            keys.discard(key)


def _keep(keys: set[LogKey], key: LogKey, *, is_member: bool) -> None:
    (keys.add if is_member else keys.discard)(key)
