"""The way of evidence upwards: what the upstream wants is followed, read from the own service and pushed, a few objects
at once. Nothing here is an error of the link: entries go up whether evidence does or not.
"""

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from services.common.clock import Clock
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.relay.evidence_push import ObjectPush, Outcome, PushEnd
from services.relay.evidence_queue import EvidenceQueue, Urgency, Wanted
from services.relay.evidence_watches import is_absent, want_for_upstream, watch_held, watch_wanted
from services.relay.follows import FollowState
from services.relay.limits import (
    ERROR_CHARACTERS_MAX,
    EVIDENCE_LISTED_MAX,
    EVIDENCE_OWN_FAILURES_MAX,
    EVIDENCE_PUSHES_MAX,
    EVIDENCE_STORED_BYTES_PER_SECOND_MIN,
    LinkTimes,
)
from services.relay.link_watch import LinkWatch
from services.relay.local_services import LocalService
from services.relay.pacing import ObjectPace, Pacer
from services.relay.upstream import Upstream
from zhichao.video.v1 import transfer_pb2

THREAD_JOIN_SECONDS: Final = 1.0
"""Longest wait for a thread beyond the grace: its calls are cancelled by then."""

_UNREADABLE: Final = frozenset({Reason.OBJECT_STORE_UNAVAILABLE, Reason.INTERNAL})
"""What the own service answers that is there and cannot read an object."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class EvidenceStatus:
    """What people see of the evidence that goes up."""

    state: FollowState = FollowState.NOT_FOLLOWED
    detail: str = ""
    waiting_objects: int = 0
    waiting_bytes: int = 0
    open_push_count: int = 0
    declined_objects: int = 0
    pushed_objects: int = 0
    pushed_bytes: int = 0
    last_object_time: datetime | None = None
    last_error: str = ""
    is_waiting: bool = False


class EvidenceLink:
    """Pushes evidence over the connection that is set; without a service of evidence it does nothing."""

    def __init__(
        self,
        service: LocalService | None,
        pacer: Pacer,
        clock: Clock,
        times: LinkTimes,
        jitter: Callable[[], float],
        pushes_max: int = EVIDENCE_PUSHES_MAX,
    ) -> None:
        self._service = service
        self._pacer = pacer
        self._clock = clock
        self._times = times
        self._jitter = jitter
        self._changed = threading.Condition(threading.RLock())
        self._queue = EvidenceQueue(pushes_max)
        self._pushes: dict[bytes, ObjectPush] = {}
        self._upstream: Upstream | None = None
        self._is_stopping = False
        self._state = FollowState.NOT_FOLLOWED
        self._detail = ""
        self._last_error = ""
        self._pushed_objects = 0
        self._pushed_bytes = 0
        self._last_object_time: datetime | None = None
        self._wanted = watch_wanted(self._take_wanted, self._wanted_ended, jitter)
        self._watches: list[LinkWatch] = []
        self._senders: list[threading.Thread] = []
        if service is not None:
            self._watches = [self._wanted, watch_held(service, self._take_held, jitter)]
            self._senders = [
                threading.Thread(target=self._send, args=(service,), name=f"relay-evidence-{number}", daemon=True)
                for number in range(pushes_max)
            ]

    def start(self) -> None:
        """Start the threads; they wait for a connection."""
        for watch in self._watches:
            watch.start()
        for thread in self._senders:
            thread.start()

    def stop(self, grace_seconds: float) -> None:
        """Begin nothing more, let what was sent be answered within the grace, then end."""
        ends_at = self._clock.monotonic() + grace_seconds
        for watch in self._watches:
            watch.stop()
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
            for push in self._pushes.values():
                push.finish()
        for thread in self._senders:
            thread.join(max(ends_at - self._clock.monotonic(), 0.0))
        with self._changed:
            self._cancel_all("the relay stops")
        for thread in self._senders:
            thread.join(THREAD_JOIN_SECONDS)
        for watch in self._watches:
            watch.join(THREAD_JOIN_SECONDS)

    def use(self, upstream: Upstream, *, takes_evidence: bool) -> None:
        """Push over this connection from now on; called again after each handshake."""
        if self._service is None or not takes_evidence:
            self.leave()
            return
        with self._changed:
            if upstream is self._upstream:
                return
            self._upstream = upstream
            self._state, self._detail = FollowState.WAITING, ""
            self._changed.notify_all()
        for watch in self._watches:
            watch.use(upstream)

    def leave(self) -> None:
        """Push nothing until the next connection."""
        with self._changed:
            self._upstream = None
            self._state, self._detail = FollowState.NOT_FOLLOWED, ""
            self._queue.clear()
            self._cancel_all("the connection to the upstream was given up")
        for watch in self._watches:
            watch.use(None)

    def move_on(self) -> None:
        """Let the calls under way end in good order; those after them show the renewed certificates."""
        with self._changed:
            for push in self._pushes.values():
                push.finish()
        self._wanted.watch_anew()

    def give_up_silent(self) -> None:
        """End pushes in which nothing has moved for too long; they are tried again."""
        with self._changed:
            for push in self._pushes.values():
                # After the last byte the upstream stores the whole.
                seconds_max = self._times.answer_seconds + push.wanted.size_bytes / EVIDENCE_STORED_BYTES_PER_SECOND_MIN
                if push.seconds_without_progress() > seconds_max:
                    message = f"nothing of an object has moved for {seconds_max:.0f} s"
                    push.cancel(ServiceError(Reason.DEADLINE_EXCEEDED, message))

    def status(self) -> EvidenceStatus:
        """Return what people see."""
        is_waiting = self._pacer.is_evidence_waiting
        with self._changed:
            return EvidenceStatus(
                self._state,
                self._detail,
                self._queue.object_count,
                self._queue.missing_bytes,
                self._queue.running_count,
                self._queue.declined_count,
                self._pushed_objects,
                self._pushed_bytes,
                self._last_object_time,
                self._last_error,
                is_waiting,
            )

    # What the watches tell

    def _take_wanted(self, upstream: Upstream, response: transfer_pb2.WatchWantedResponse) -> None:
        wanted = [_wanted(one) for one in response.wanted[:EVIDENCE_LISTED_MAX]]
        with self._changed:
            if upstream is not self._upstream:
                return
            self._state, self._detail = FollowState.FOLLOWING, ""
            self._queue.replace(wanted, max(response.object_count, 0), max(response.missing_bytes, 0))
            self._look_again()

    def _wanted_ended(self, upstream: Upstream, error: ServiceError | None) -> None:
        with self._changed:
            if upstream is not self._upstream:
                return
            self._queue.clear()
            is_there = error is None or not is_absent(error)
            self._state = FollowState.WAITING if is_there else FollowState.NOT_FOLLOWED
            self._detail = error.message[:ERROR_CHARACTERS_MAX] if error is not None and is_there else ""

    def _take_held(self, digests: Collection[bytes]) -> None:
        with self._changed:
            if digests:
                self._queue.held(digests)
            else:
                # The first message: the service is there, or there again.
                self._queue.try_again()
            self._look_again()

    def _look_again(self) -> None:
        self._changed.notify_all()
        for push in self._pushes.values():
            push.nudge()

    def _cancel_all(self, why: str) -> None:
        for push in self._pushes.values():
            push.cancel(ServiceError(Reason.SHUTTING_DOWN, why))

    # The senders

    def _send(self, service: LocalService) -> None:
        while (taken := self._take()) is not None:
            wanted, upstream = taken
            try:
                self._push(wanted, service, upstream)
            except Exception:  # noqa: BLE001 - a sender outlives any fault of one push
                _log.exception("evidence_push_failed", digest=wanted.digest.hex())
                with self._changed:
                    self._queue.failed(wanted.digest, None, self._clock.monotonic(), self._jitter(), 0.0)

    def _take(self) -> tuple[Wanted, Upstream] | None:
        """Wait for an object that is due; None when the relay stops."""
        with self._changed:
            while not self._is_stopping:
                now = self._clock.monotonic()
                wanted = self._queue.take(now) if self._upstream is not None else None
                if wanted is not None and self._upstream is not None:
                    return wanted, self._upstream
                self._changed.wait(self._queue.seconds_until_due(now))
            return None

    def _push(self, wanted: Wanted, service: LocalService, upstream: Upstream) -> None:
        digest = wanted.digest
        with self._running(wanted, service, upstream) as push:
            end = push.run()
        error = end.error
        if end.outcome in (Outcome.NOT_HELD, Outcome.GONE):
            self._decline(wanted, service, upstream, is_gone=end.outcome is Outcome.GONE)
            return
        failure_count = 0
        with self._changed:
            if end.outcome is Outcome.COMPLETE:
                self._queue.completed(digest, self._clock.monotonic())
                self._pushed_objects += 1
                self._last_object_time = self._clock.now()
                self._last_error = ""
            elif end.outcome is Outcome.UNWANTED:
                self._queue.unwanted(digest, self._clock.monotonic())
            elif end.outcome is Outcome.PARTIAL and _has_moved(wanted, end):
                self._queue.gave_way(digest, end.received_bytes or 0)
            elif push.has_given_way:
                self._queue.gave_way(digest, wanted.received_bytes)
            else:
                failure_count = self._fail(digest, end.received_bytes, error)
            self._changed.notify_all()
        if failure_count >= EVIDENCE_OWN_FAILURES_MAX and _makes_room(wanted, end):
            self._decline(wanted, service, upstream, is_gone=False)

    @contextmanager
    def _running(self, wanted: Wanted, service: LocalService, upstream: Upstream) -> Iterator[ObjectPush]:
        digest = wanted.digest

        def urgency() -> Urgency:
            with self._changed:
                return self._queue.urgency(digest)

        def must_give_way() -> bool:
            with self._changed:
                return self._queue.must_give_way(digest, self._clock.monotonic())

        def count(byte_count: int) -> None:
            with self._changed:
                self._pushed_bytes += byte_count

        pace = ObjectPace(self._pacer, digest, urgency)
        push = ObjectPush(wanted, service, upstream, pace, self._clock, must_give_way, count)
        with self._changed:
            self._pushes[digest] = push
            if self._is_stopping:
                push.finish()
            if self._upstream is not upstream:
                push.cancel(ServiceError(Reason.SHUTTING_DOWN, "the connection to the upstream was given up"))
        try:
            yield push
        finally:
            with self._changed:
                del self._pushes[digest]

    def _decline(self, wanted: Wanted, service: LocalService, upstream: Upstream, *, is_gone: bool) -> None:
        """Tell the upstream that an object is not held here, unless it came meanwhile.

        The own service is told before that the upstream wants it: it may come from further below, and is offered then.
        """
        digest = wanted.digest
        with self._changed:
            now = self._clock.monotonic()
            if is_gone:
                self._queue.gone(digest, now)
            elif not self._queue.not_held(digest, now):
                self._changed.notify_all()
                return
        try:
            if not is_gone:
                want_for_upstream(service, wanted)
        except ServiceError as error:
            with self._changed:
                # The upstream asks again, and then it is tried again.
                self._note(digest, error)
        try:
            upstream.decline_object(digest, is_gone=is_gone)
        except ServiceError as error:
            with self._changed:
                # It asks again by itself.
                self._note(digest, error)

    def _fail(self, digest: bytes, received_bytes: int | None, error: ServiceError | None) -> int:
        pause = error.retry_after_seconds if error is not None and error.retry_after_seconds else 0.0
        failure_count = self._queue.failed(digest, received_bytes, self._clock.monotonic(), self._jitter(), pause)
        self._note(digest, error or ServiceError(Reason.SHUTTING_DOWN, "the upstream takes nothing of an object"))
        return failure_count

    def _note(self, digest: bytes, error: ServiceError) -> None:
        if self._upstream is None or self._is_stopping:
            # The link says why.
            return
        self._last_error = error.message[:ERROR_CHARACTERS_MAX]
        _log.warning("evidence_push_ended", digest=digest.hex(), reason=error.reason.value, detail=error.message)


_URGENCIES: Final = {int(urgency): urgency for urgency in Urgency}


def _wanted(one: transfer_pb2.WantedObject) -> Wanted:
    urgency = _URGENCIES.get(one.urgency, Urgency.BACKFILL)
    size = max(one.object.size_bytes, 0)
    return Wanted(one.object.digest, size, min(max(one.received_bytes, 0), size), urgency)


def _makes_room(wanted: Wanted, end: PushEnd) -> bool:
    """Tell whether others are to be listed in place of an object that has failed for a while: the own service answers
    and cannot read it. Whom somebody waits for stays listed, and is tried every minute.
    """
    is_unreadable = end.outcome is Outcome.OWN_FAILURE and end.error is not None and end.error.reason in _UNREADABLE
    return is_unreadable and wanted.urgency is not Urgency.REQUESTED


def _has_moved(wanted: Wanted, end: PushEnd) -> bool:
    """Tell whether the upstream got further, or stands elsewhere than it was thought to: then it goes on at once."""
    return end.received_bytes is not None and (
        end.received_bytes > wanted.received_bytes
        or (end.error is not None and end.received_bytes < wanted.received_bytes)
    )
