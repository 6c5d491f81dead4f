"""The senders: a few threads that each take the log that has waited longest and push it for one turn."""

import threading
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from services.common.clock import Clock
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.relay import positions
from services.relay.cosignatures import Cosignatures
from services.relay.limits import PROTOCOL_VERSION_DOWNLINK, SENDER_THREADS, LinkTimes
from services.relay.local_services import LocalService, LocalServices
from services.relay.pacing import LogPace, Pacer, batch_records
from services.relay.progress import ProgressTable, Turn
from services.relay.pump import Pump, PumpEnd
from services.relay.recovery import OwnServiceFailed, bring_back, confirm
from services.relay.stalls import StallCause
from services.relay.standing import (
    LogKey,
    Place,
    Reaction,
    Refusal,
    Standing,
    expected_sequence,
    explain_fork,
    react,
    refuses_platform,
)
from services.relay.upstream import Upstream
from services.relay.window import PushWindow
from zhichao.journal.v1 import journal_pb2

THREAD_JOIN_SECONDS: Final = 5.0
"""Longest wait for a thread whose calls were cancelled; it ends at once unless there is a fault."""

_log = structlog.get_logger()


class LinkEvents(Protocol):
    """What the senders tell the link. Called under the lock."""

    def upstream_failed(self, upstream: Upstream, error: ServiceError, *, is_lost: bool) -> None:
        """Take note that a push failed; `is_lost`: the upstream itself does not answer."""
        ...

    def service_failed(self, stream: str, error: ServiceError | None) -> None:
        """Take note that a service of this platform failed, or (None) works."""
        ...


class Senders:
    """Pushes what the table says is behind, over the connection that is set. `lock` guards the table."""

    def __init__(
        self,
        table: ProgressTable,
        lock: threading.RLock,
        services: LocalServices,
        events: LinkEvents,
        clock: Clock,
        times: LinkTimes,
        jitter: Callable[[], float],
        pacer: Pacer,
        cosignatures: Cosignatures,
    ) -> None:
        self._table = table
        self._pacer = pacer
        self._lock = lock
        self._services = services
        self._events = events
        self._clock = clock
        self._times = times
        self._jitter = jitter
        self._cosignatures = cosignatures
        self._work = threading.Condition(lock)
        self._upstream: Upstream | None = None
        self._pumps: dict[LogKey, Pump] = {}
        self._idle_count = 0
        self._is_ending = False
        # Set while a log waits and no sender is free; pumps read it without the lock.
        self._is_crowded = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name=f"relay-sender-{number}", daemon=True)
            for number in range(SENDER_THREADS)
        ]

    def start(self) -> None:
        """Start the threads; they wait for a connection."""
        for thread in self._threads:
            thread.start()

    def stop(self, grace_seconds: float) -> None:
        """Send nothing more, take the answers to what is in flight within the grace, then end."""
        ends_at = self._clock.monotonic() + grace_seconds
        with self._lock:
            self._is_ending = True
            self._work.notify_all()
            for pump in self._pumps.values():
                pump.finish()
        self._join(ends_at)
        with self._lock:
            for pump in self._pumps.values():
                pump.cancel()
        self._join(self._clock.monotonic() + THREAD_JOIN_SECONDS)

    def use(self, upstream: Upstream | None) -> None:
        """Push over this connection from now on, or over none. Under the lock."""
        self._upstream = upstream

    def hand_out(self) -> None:
        """Wake a sender for what waits, or let a pump that could stop know that others wait. Under the lock."""
        if self._is_ending or not self._table.is_anyone_due(self._clock.monotonic()):
            self._is_crowded.clear()
        elif self._idle_count:
            self._work.notify()
        elif not self._is_crowded.is_set():
            self._is_crowded.set()
            for pump in self._pumps.values():
                pump.window.nudge()

    def note_ages(self) -> None:
        """Tell the table how old the entries are that are being pushed. Under the lock."""
        now = self._clock.monotonic()
        for key, pump in self._pumps.items():
            self._table.read(key, pump.window.oldest_write_time(), now)

    def note_paced(self) -> None:
        """Tell the table which logs wait for the bandwidth cap: that is no stall. Under the lock."""
        now = self._clock.monotonic()
        paced = [key for key, pump in self._pumps.items() if pump.window.is_paced]
        for key in paced:
            self._table.excuse(key, now)
        if paced and self._is_crowded.is_set():
            # All senders are at work, and no faster than the cap lets them.
            self._table.excuse_waiting(now)

    def finish_turns(self) -> None:
        """End the pushes under way once what is in flight is acknowledged; their logs get new turns. Under the lock."""
        for pump in self._pumps.values():
            pump.finish()

    def give_up_silent(self) -> None:
        """End pushes whose answer has been missing for too long; they are tried again. Under the lock."""
        for key, pump in self._pumps.items():
            if pump.window.seconds_without_answer() > self._times.stalled_seconds / 2:
                self._table.note_silence(key)
            if pump.window.seconds_without_answer() > self._times.answer_seconds:
                message = f"the upstream has not answered a batch for {self._times.answer_seconds:.0f} s"
                # It names the stream: the upstream itself answers handshakes, or the link were lost.
                pump.cancel(ServiceError(Reason.DEADLINE_EXCEEDED, message, metadata={"stream": key.stream}))

    def acknowledged(self, key: LogKey, response: journal_pb2.AppendEntriesResponse, window: PushWindow) -> None:
        """Take over what the upstream has committed."""
        oldest_write_time = window.acknowledge()
        with self._lock:
            now = self._clock.monotonic()
            self._table.acknowledge(key, positions.standing(response.position), oldest_write_time, now)
            self._events.service_failed(key.stream, None)
        self._cosignatures.add(key, response.checkpoint)

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            turn, upstream = taken
            try:
                self._take_turn(turn, upstream)
            except ServiceError as error:
                self._end_turn(turn.key, upstream, PumpEnd(error))
            except Exception:  # noqa: BLE001 - a sender outlives any fault of one turn
                _log.exception("push_failed", stream=turn.key.stream, origin=turn.key.origin)
                with self._lock:
                    self._table.retry(turn.key, self._clock.monotonic(), self._jitter())

    def _take(self) -> tuple[Turn, Upstream] | None:
        """Wait for a log that is behind; None when the relay stops."""
        with self._lock:
            while not self._is_ending:
                now = self._clock.monotonic()
                turn = self._table.take(now) if self._upstream is not None else None
                if turn is not None and self._upstream is not None:
                    self.hand_out()
                    return turn, self._upstream
                self._idle_count += 1
                self._is_crowded.clear()
                self._work.wait(self._table.seconds_until_due(now))
                self._idle_count -= 1
            return None

    def _take_turn(self, turn: Turn, upstream: Upstream) -> None:
        service = self._services.find(turn.key.stream)
        assert service is not None, "the table holds logs of our services only"  # noqa: S101 - narrows the type
        if turn.place in (Place.AHEAD, Place.UNCONFIRMED):
            self._recover(turn, service, upstream)
            return
        window = PushWindow(
            upstream.limits,
            self._clock,
            linger_seconds=self._times.linger_seconds,
            turn_seconds=self._times.turn_seconds,
            is_wanted_elsewhere=self._is_crowded.is_set,
            pace=LogPace(self._pacer, turn.key),
        )
        records_max = batch_records(self._pacer.batch_bytes_max, turn.entry_bytes, upstream.limits.batch_records_max)
        pump = Pump(turn.key, turn.first_sequence, service, upstream, window, self, records_max)
        with self._lock:
            self._pumps[turn.key] = pump
            if self._is_ending:
                pump.finish()
        try:
            end = pump.run()
        finally:
            with self._lock:
                del self._pumps[turn.key]
                self._table.read(turn.key, window.oldest_write_time(), self._clock.monotonic())
        self._end_turn(turn.key, upstream, end)

    def _recover(self, turn: Turn, service: LocalService, upstream: Upstream) -> None:
        """Bring back own entries that only the upstream holds, or end a recovery in which nothing is missing."""
        key, end = turn.key, PumpEnd()
        try:
            # What we know of ourselves may be a moment old.
            place, local = self._look_again(key, service)
            if place is Place.AHEAD and upstream.protocol_version < PROTOCOL_VERSION_DOWNLINK:
                with self._lock:
                    self._table.refuse_ahead(key, self._clock.monotonic())
                    self.hand_out()
                _log.error("log_set_back", stream=key.stream, origin=key.origin)
                return
            if place is Place.AHEAD:
                bring_back(key, service, upstream, local.size, turn.upstream, lambda: not self._is_ending)
            elif place is Place.UNCONFIRMED and turn.upstream.size and not turn.upstream.root:
                # Only a gap told its size; the next handshake brings the root.
                raise ServiceError(
                    Reason.SHUTTING_DOWN, "the upstream's root is not known", metadata={"stream": key.stream}
                )
            elif place is Place.UNCONFIRMED:
                confirm(key, service, turn.upstream)
            self._look_again(key, service)
        except OwnServiceFailed as failure:
            if react(failure.error) is Reaction.REFUSE:
                is_fork = failure.error.reason is Reason.HISTORY_MISMATCH
                refusal = explain_fork(key, failure.error) if is_fork else Refusal.of(failure.error)
                with self._lock:
                    self._table.refuse(key, refusal, self._clock.monotonic())
                    self.hand_out()
                _log.error("recovery_refused", stream=key.stream, origin=key.origin, detail=failure.error.message)
                return
            end = PumpEnd(failure.error, is_local=True)
        except ServiceError as error:
            end = PumpEnd(error)
        self._end_turn(key, upstream, end)

    def _look_again(self, key: LogKey, service: LocalService) -> tuple[Place | None, Standing]:
        """Ask the own service where a log stands. Raises OwnServiceFailed."""
        try:
            told = service.ask_positions(key.origin)()
        except ServiceError as error:
            raise OwnServiceFailed(error) from error
        standings = positions.by_origin(told) or {key.origin: positions.NOTHING}
        with self._lock:
            self._table.set_local(key.stream, standings, self._clock.monotonic(), is_complete=False)
            return self._table.place(key), standings[key.origin]

    def _end_turn(self, key: LogKey, upstream: Upstream | None, end: PumpEnd) -> None:
        with self._lock:
            now = self._clock.monotonic()
            if end.error is None:
                self._table.give_back(key, now)
            elif end.is_local or upstream is None:
                _log.warning("read_failed", stream=key.stream, origin=key.origin, reason=end.error.reason.value)
                self._events.service_failed(key.stream, end.error)
                self._table.retry(key, now, self._jitter(), StallCause.OWN_SERVICE, end.error.message)
            else:
                self._push_failed(key, upstream, end.error, now)
            self.hand_out()

    def _push_failed(self, key: LogKey, upstream: Upstream, error: ServiceError, now: float) -> None:
        reaction = react(error)
        _log.warning(
            "push_ended",
            stream=key.stream,
            origin=key.origin,
            reason=error.reason.value,
            reaction=reaction.name,
            detail=error.message,
        )
        expected = expected_sequence(error)
        if reaction is Reaction.CONTINUE and expected is not None:
            self._table.continue_from(key, expected, now, self._jitter())
            return
        is_lost = reaction is Reaction.RECONNECT or refuses_platform(error)
        if reaction is Reaction.REFUSE and not is_lost:
            self._table.refuse(key, Refusal.of(error), now)
        else:
            is_silent = error.reason is Reason.DEADLINE_EXCEEDED
            cause = StallCause.NO_ANSWER if is_silent else StallCause.UPSTREAM_SERVICE
            self._table.retry(key, now, self._jitter(), cause, error.message)
        self._events.upstream_failed(upstream, error, is_lost=is_lost)

    def _join(self, ends_at: float) -> None:
        for thread in self._threads:
            thread.join(max(ends_at - self._clock.monotonic(), 0.0))
