"""The link upwards: connects, keeps the connection, follows the own services, and says what state it all is in.

What the link, its senders and the watches over the own services know in common is the `ProgressTable`, under one lock;
what comes down is the `Downlink`'s.
"""

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import structlog

from services.common.clock import Clock
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.relay import positions
from services.relay.bandwidth import UNLIMITED, BandwidthSchedule
from services.relay.cosignature_feed import CosignatureFeed
from services.relay.cosignatures import Cosignatures
from services.relay.downlink import Downlink, DownlinkStatus
from services.relay.evidence_link import EvidenceLink, EvidenceStatus
from services.relay.identity import Identity
from services.relay.limits import ERROR_CHARACTERS_MAX, EVIDENCE_STREAM, PROTOCOL_VERSIONS, LinkTimes
from services.relay.local_services import LocalServices, PositionWatch
from services.relay.pacing import CapStatus, Pacer
from services.relay.progress import LinkState, LogProgress, ProgressTable
from services.relay.senders import THREAD_JOIN_SECONDS, Senders
from services.relay.stalls import Direction, Stall, StallAlarm, StallAlarms
from services.relay.standing import Reaction, backoff_seconds, is_link_failure, react
from services.relay.upstream import Upstream, UpstreamAddress, Welcome
from zhichao.journal.v1 import journal_pb2

TICK_SECONDS: Final = 1.0
"""How often the state of the link is looked at when nothing happens; a stall is told in minutes."""

_QUIET_STATES: Final = frozenset({LinkState.CURRENT, LinkState.CATCHING_UP})
"""States between which a healthy link changes all the time."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """What people see of the link upwards."""

    upstream_address: str
    upstream_platform: str
    state: LinkState
    state_time: datetime
    last_error: str
    progress: list[LogProgress]
    clock_skew_milliseconds: int | None
    # None without a schedule.
    cap: CapStatus | None
    pushed_bytes: int
    # 0 before the first handshake.
    protocol_version: int
    downlink: DownlinkStatus
    alarms: list[StallAlarm]
    evidence: EvidenceStatus


class Link:
    """The link to the upstream; without one it only follows what this platform holds."""

    def __init__(
        self,
        upstream: UpstreamAddress | None,
        identity: Identity,
        services: LocalServices,
        clock: Clock,
        times: LinkTimes | None = None,
        jitter: Callable[[], float] = random.random,
        bandwidth: BandwidthSchedule = UNLIMITED,
    ) -> None:
        self._upstream_address = upstream
        self._address = upstream.address if upstream is not None else None
        self._pacer = Pacer(bandwidth, clock)
        self._identity = identity
        self._clock = clock
        self._times = times or LinkTimes()
        self._jitter = jitter
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._stopping = threading.Event()
        self._table = ProgressTable(services.streams, self._times, clock.monotonic(), has_upstream=upstream is not None)
        # CURRENT stands for connected: which state that is follows from the table.
        self._phase = LinkState.CONNECTING if upstream else LinkState.NO_UPSTREAM
        self._state = self._phase
        self._state_time = clock.now()
        self._last_error = ""
        self._has_told_loss = False
        self._service_errors: dict[str, str] = {}
        self._upstream: Upstream | None = None
        self._upstream_platform = ""
        self._clock_skew_milliseconds: int | None = None
        self._loss: ServiceError | None = None
        self._protocol_version = 0
        self._alarms = StallAlarms()
        # What comes from above for platforms below.
        self.feed = CosignatureFeed()
        self._cosignatures = Cosignatures(services.find, self.feed)
        self._senders = Senders(
            self._table,
            self._lock,
            services,
            self,
            clock,
            self._times,
            jitter,
            self._pacer,
            self._cosignatures,
        )
        self._downlink = Downlink(
            self._lock, services, self._cosignatures, self._look, self._platform_refused, clock, self._times, jitter
        )
        self._evidence = EvidenceLink(services.find(EVIDENCE_STREAM), self._pacer, clock, self._times, jitter)
        self._watches = [PositionWatch(service, self._told, self._unwatched, jitter) for service in services]
        self._supervisor = threading.Thread(target=self._supervise, name="relay-link", daemon=True)

    def start(self) -> None:
        """Start following, and connecting if there is an upstream. Never fails: whatever is away is waited for."""
        for watch in self._watches:
            watch.start()
        if self._address is not None:
            self._cosignatures.start()
            self._senders.start()
            self._downlink.start()
            self._evidence.start()
            self._supervisor.start()

    def stop(self, grace_seconds: float) -> None:
        """Send and take nothing more, let what is under way end within the grace, then end."""
        if self._address is not None:
            ends_at = self._clock.monotonic() + grace_seconds
            self._downlink.stop(grace_seconds)
            # Entries first: what breaks off of an object is taken up where it stood.
            self._evidence.stop(max(ends_at - self._clock.monotonic(), 0.0) / 2)
            self._senders.stop(max(ends_at - self._clock.monotonic(), 0.0))
            self._cosignatures.stop(THREAD_JOIN_SECONDS)
            with self._lock:
                self._stopping.set()
                self._changed.notify_all()
                if self._upstream is not None:
                    # Also ends a handshake that is under way.
                    self._upstream.close()
            self._supervisor.join(THREAD_JOIN_SECONDS)
        for watch in self._watches:
            watch.stop()

    def status(self) -> LinkStatus:
        """Return what people see."""
        with self._lock:
            self._senders.note_ages()
            self._senders.note_paced()
            self._look()
            return LinkStatus(
                upstream_address=self._address or "",
                upstream_platform=self._upstream_platform,
                state=self._state,
                state_time=self._state_time,
                last_error=self._last_error or next(iter(self._service_errors.values()), ""),
                progress=self._table.progress(self._clock.now()),
                clock_skew_milliseconds=self._clock_skew_milliseconds,
                cap=self._pacer.status(),
                pushed_bytes=self._pacer.pushed_bytes,
                protocol_version=self._protocol_version,
                downlink=self._downlink.status(),
                alarms=self._alarms.standing,
                evidence=self._evidence.status(),
            )

    # What the senders tell (LinkEvents)

    def upstream_failed(self, upstream: Upstream, error: ServiceError, *, is_lost: bool) -> None:
        """Note the failure; connect again if the upstream itself is gone."""
        if self._upstream is not upstream:
            return
        self._last_error = error.message[:ERROR_CHARACTERS_MAX]
        if is_lost:
            self._loss = error
            self._table.disconnect(self._clock.monotonic())
            self._changed.notify_all()

    def _platform_refused(self, error: ServiceError) -> None:
        """Note what a follow was told: nothing else would fare differently."""
        if self._upstream is not None:
            self.upstream_failed(self._upstream, error, is_lost=True)

    def service_failed(self, stream: str, error: ServiceError | None) -> None:
        """Note that a service of this platform failed, or works."""
        if error is None:
            self._service_errors.pop(stream, None)
        else:
            self._service_errors[stream] = error.message[:ERROR_CHARACTERS_MAX]

    # What the watches tell

    def _told(self, stream: str, told: Sequence[journal_pb2.Position], is_complete: bool) -> None:
        with self._lock:
            self.service_failed(stream, None)
            self._table.set_local(stream, positions.by_origin(told), self._clock.monotonic(), is_complete=is_complete)
            self._senders.hand_out()
            if is_complete:
                # It was away, and may stand elsewhere than when its stream was followed.
                self._downlink.service_came(stream)

    def _unwatched(self, stream: str, error: ServiceError) -> None:
        with self._lock:
            self.service_failed(stream, error)

    # The supervisor

    def _supervise(self) -> None:
        failure_count = 0
        while not self._stopping.is_set():
            began_at = self._clock.monotonic()
            error = self._hold_safely()
            if error is None:
                return
            if self._clock.monotonic() - began_at >= self._times.settled_seconds:
                failure_count = 0
            failure_count += 1
            self._stopping.wait(self._pause_after(error, failure_count))

    def _hold_safely(self) -> ServiceError | None:
        try:
            return self._hold()
        except Exception as fault:  # noqa: BLE001 - the link outlives any fault of one connection
            _log.exception("link_failed", upstream=self._address)
            return ServiceError(Reason.INTERNAL, f"the link failed by a fault of this relay: {type(fault).__name__}")

    def _hold(self) -> ServiceError | None:
        """Connect and keep the connection; return why it was given up, or None when the relay stops."""
        where = self._upstream_address
        assert where is not None, "without an upstream nothing is supervised"  # noqa: S101 - narrows the type
        upstream = Upstream(where, self._identity, self._clock)
        with self._lock:
            self._upstream = upstream
            self._loss = None
        try:
            # Looked at after `stop` could have closed the connection: one of both sees the other.
            if self._stopping.is_set():
                return None
            self._welcome(upstream, upstream.shake_hands(self._times.handshake_seconds))
            _log.info("link_connected", upstream=self._address, platform=self._upstream_platform)
            while (error := self._wait_for_loss()) is None:
                if self._stopping.is_set():
                    return None
                self._renew(upstream)
        except ServiceError as failure:
            error = failure
        finally:
            with self._lock:
                self._table.disconnect(self._clock.monotonic())
                self._senders.use(None)
                self._downlink.leave()
                self._evidence.leave()
                self._upstream = None
            upstream.close()
        if self._stopping.is_set():
            return None
        self._note_loss(error)
        return error

    def _welcome(self, upstream: Upstream, welcome: Welcome) -> None:
        with self._lock:
            if self._phase is not LinkState.CURRENT:
                self._phase = LinkState.CURRENT
                self._last_error = ""
            self._upstream_platform = welcome.platform
            self._clock_skew_milliseconds = welcome.clock_skew_milliseconds
            is_older = welcome.protocol_version < max(PROTOCOL_VERSIONS)
            self._table.connect(welcome.standings, welcome.streams, self._clock.monotonic(), is_older=is_older)
            self._protocol_version = welcome.protocol_version
            self._senders.use(upstream)
            self._senders.hand_out()
            self._downlink.use(upstream, welcome)
            self._evidence.use(upstream, takes_evidence=welcome.takes_evidence)
            self._look()

    def _wait_for_loss(self) -> ServiceError | None:
        """Wait for a loss, the relay's stop or the next renewal, whichever comes first; return the loss."""
        renewal_at = self._clock.monotonic() + self._times.renewal_seconds
        with self._lock:
            while self._loss is None and not self._stopping.is_set():
                now = self._clock.monotonic()
                if now >= renewal_at:
                    break
                self._changed.wait(min(TICK_SECONDS, renewal_at - now))
                # What was put off may be due while all senders are at work.
                self._senders.hand_out()
                self._senders.give_up_silent()
                self._senders.note_paced()
                self._downlink.look()
                self._evidence.give_up_silent()
                self._look()
                if self._upstream is not None and self._upstream.has_renewed():
                    self._move_on()
            return self._loss

    def _move_on(self) -> None:
        """Let the calls under way end in good order; those after them show the renewed certificates. Under the lock."""
        _log.info("link_moves_on", upstream=self._address)
        self._senders.finish_turns()
        self._downlink.follow_anew()
        self._evidence.move_on()

    def _renew(self, upstream: Upstream) -> None:
        """Shake hands again. Raises ServiceError when the link is lost by it."""
        try:
            self._welcome(upstream, upstream.shake_hands(self._times.handshake_seconds))
        except ServiceError as error:
            if is_link_failure(error) or react(error) is Reaction.REFUSE:
                raise
            # The relay above is there, one of its services is not: the logs of the others go on.
            with self._lock:
                self._last_error = error.message[:ERROR_CHARACTERS_MAX]

    def _note_loss(self, error: ServiceError) -> None:
        if error.reason is Reason.INCOMPATIBLE_VERSION:
            phase = LinkState.INCOMPATIBLE
        elif react(error) is Reaction.REFUSE:
            phase = LinkState.REFUSED
        else:
            phase = LinkState.CONNECTING
        with self._lock:
            # An upstream that is away for days is told once, not at every try.
            write = _log.debug if phase is self._phase and self._has_told_loss else _log.warning
            self._has_told_loss = True
            self._phase = phase
            self._last_error = error.message[:ERROR_CHARACTERS_MAX]
            self._look()
        write("link_lost", upstream=self._address, reason=error.reason.value, detail=error.message)

    def _pause_after(self, error: ServiceError, failure_count: int) -> float:
        if error.reason is Reason.PLATFORM_NOT_REGISTERED:
            return min(self._times.unregistered_seconds, self._times.refused_seconds)
        if react(error) is Reaction.REFUSE:
            return self._times.refused_seconds
        minimum, maximum = self._times.backoff_seconds_min, self._times.backoff_seconds_max
        return backoff_seconds(failure_count, self._jitter(), minimum, maximum)

    def _look(self) -> None:
        """Work out the state of the link and its alarms, and note what changed. Under the lock."""
        is_connected = self._phase is LinkState.CURRENT
        now = self._clock.monotonic()
        upward = self._named_stalls(self._table.stalls(now)) if is_connected else []
        downward = self._downlink.stalls(self._table.up_since) if is_connected else []
        if is_connected or self._table.is_down_for_long(now):
            # A link that breaks for a moment and comes back has advanced nothing by that.
            self._alarm(Direction.UPWARD, upward, now)
            self._alarm(Direction.DOWNWARD, downward, now)
        state = self._connected_state(now, is_stalled=bool(upward or downward)) if is_connected else self._phase
        if state is self._state:
            return
        write = _log.debug if {state, self._state} <= _QUIET_STATES else _log.info
        write("link_state_changed", state=state.value, before=self._state.value, detail=self._last_error)
        self._state = state
        self._state_time = self._clock.now()

    def _connected_state(self, now: float, *, is_stalled: bool) -> LinkState:
        state = self._table.state(now)
        if state is LinkState.REFUSED or self._downlink.is_refused:
            return LinkState.REFUSED
        if is_stalled:
            return LinkState.STALLED
        return LinkState.CATCHING_UP if self._downlink.is_behind else state

    def _named_stalls(self, stalls: Sequence[Stall]) -> list[Stall]:
        """Say of own services that have not told what they hold why that is."""
        return [
            replace(stall, detail=self._service_errors.get(stall.key.stream, "")) if not stall.key.origin else stall
            for stall in stalls
        ]

    def _alarm(self, direction: Direction, stalls: Sequence[Stall], monotonic: float) -> None:
        now = self._clock.now()
        raised, ended = self._alarms.look(direction, stalls, now, monotonic)
        if raised is not None:
            _log.warning(
                "stall_alarm_raised",
                direction=direction.value,
                log_count=raised.log_count,
                logs=[f"{one.key.stream}/{one.key.origin}" for one in raised.logs],
                cause=raised.logs[0].cause.value,
                detail=raised.logs[0].detail,
            )
        if ended is not None:
            seconds = round((now - ended.start_time).total_seconds(), 1)
            _log.warning("stall_alarm_ended", direction=direction.value, seconds=seconds)
