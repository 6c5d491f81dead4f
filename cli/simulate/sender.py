"""The sending half of a terminal: live records one by one, a backlog as a stream, everything until it is answered.

A record leaves the queue only by an acknowledgement or by a refusal that no repetition can change.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

import grpc

from cli.importer.weighing_stream import StreamBrokenError, stream_weighings
from cli.simulate.ledger import Ledger
from cli.simulate.terminal_queue import TerminalQueue, Waiting
from services.common.clock import Clock
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.rpc_client import service_error
from zhichao.common.v1 import refusal_pb2
from zhichao.weighing.v1 import service_pb2, service_pb2_grpc

# A county answers a single record within milliseconds; ten seconds is a lost connection, not a slow one.
CALL_SECONDS = 10.0
# More waiting records than this are a backlog: at 3 ms a call a terminal would be behind for longer than a moment.
BACKLOG_RECORDS = 20
# Well below the 1,000 of the contract: a stream of a small site should not hold a message for long.
STREAM_RECORDS = 200
# Cut off for longer than this, a terminal sends what has waited as backfill.
BACKFILL_AFTER_SECONDS = 5.0
# The weighing service learns of new units from the registry's journal, usually within a second.
REGISTRATION_GRACE_SECONDS = 30.0
BACKOFF_FIRST_SECONDS = 0.1
# Sites of a province must not come back all at once, nor leave a restarted county idle for long.
BACKOFF_SECONDS_MAX = 5.0
# How often a waiting sender looks whether it has to stop or is cut off.
_LOOK_SECONDS = 0.1

# Refusals of a record that may pass once the weighing service has read the registry's journal.
_PASSING_REASONS = frozenset(
    {Reason.UNKNOWN_SOURCE_UNIT, Reason.UNKNOWN_WEIGHING_POINT, Reason.UNKNOWN_SCALE, Reason.NO_RULE_SET}
)
# Ends of a call after which nobody knows whether the record is held, or the server is only starting.
_UNCERTAIN_REASONS = frozenset({Reason.INTERNAL, Reason.INCOMPATIBLE_VERSION})


@dataclass
class Control:
    """What all terminals of a simulation share: the time, and how it ends."""

    clock: Clock
    started: float
    # Send what is there, then end; outages are over.
    draining: threading.Event = field(default_factory=threading.Event)
    # End now, whatever waits.
    aborted: threading.Event = field(default_factory=threading.Event)

    @property
    def offset_seconds(self) -> float:
        """Return the seconds since the start."""
        return self.clock.monotonic() - self.started


class Backoff:
    """Pauses that double, with full jitter, so that terminals spread out."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._ceiling_seconds = BACKOFF_FIRST_SECONDS

    def next_seconds(self, retry_after_seconds: float | None) -> float:
        """Return the next pause; never shorter than the server asked for, and spread above that."""
        pause_seconds = self._rng.uniform(0, self._ceiling_seconds)
        self._ceiling_seconds = min(self._ceiling_seconds * 2, BACKOFF_SECONDS_MAX)
        return pause_seconds + (retry_after_seconds or 0.0)

    def reset(self) -> None:
        """Begin anew after a success."""
        self._ceiling_seconds = BACKOFF_FIRST_SECONDS


class TerminalSender(threading.Thread):
    """Sends the records of one queue until it is drained or aborted."""

    def __init__(
        self,
        name: str,
        terminal_queue: TerminalQueue,
        stub: service_pb2_grpc.WeighingServiceStub,
        ledger: Ledger,
        control: Control,
        *,
        offline_until: Callable[[float], float | None],
        rng: Random,
    ) -> None:
        super().__init__(name=f"terminal {name}", daemon=True)
        self._queue = terminal_queue
        self._stub = stub
        self._ledger = ledger
        self._control = control
        self._offline_until = offline_until
        self._backoff = Backoff(rng)
        # When the terminal was cut off, on the scale of the control's offset.
        self._cut_off_since: float | None = None
        self._has_backlog = terminal_queue.recovered_count > 0
        self.is_offline = False
        self.last_error = ""

    @property
    def behind_count(self) -> int:
        """Return how many records wait behind the one that is being sent; none while the terminal is cut off."""
        return 0 if self.is_offline else self._queue.released_count

    def run(self) -> None:
        """Send until the end."""
        if self._has_backlog:
            self._queue.mark_backfill()
        while not self._control.aborted.is_set():
            if self._is_cut_off():
                self._control.aborted.wait(_LOOK_SECONDS)
                continue
            is_backlog = self._has_backlog or self._queue.released_count > BACKLOG_RECORDS
            items = self._queue.take(STREAM_RECORDS if is_backlog else 1, wait_seconds=_LOOK_SECONDS)
            if not items:
                if self._control.draining.is_set() and not len(self._queue):
                    return
                self._has_backlog = False
            elif is_backlog:
                self._send_backlog(items)
            else:
                self._send_live(items[0])

    def _is_cut_off(self) -> bool:
        """Keep track of the terminal's own outages."""
        offset = self._control.offset_seconds
        back = None if self._control.draining.is_set() else self._offline_until(offset)
        self.is_offline = back is not None
        if back is not None:
            self._cut_off_since = offset if self._cut_off_since is None else self._cut_off_since
            return True
        if self._cut_off_since is not None and not self.last_error:
            self._came_back()
        return False

    def _came_back(self) -> None:
        """Treat what waited as backfill if the outage was one."""
        since, self._cut_off_since = self._cut_off_since, None
        if since is not None and self._control.offset_seconds - since >= BACKFILL_AFTER_SECONDS:
            self._has_backlog = self._queue.mark_backfill() > 0

    def _send_live(self, item: Waiting) -> None:
        request = service_pb2.RecordWeighingRequest(record=item.record)
        lost = None
        if item.is_resent:
            # The terminal gives up waiting for the first call and sends again: both may be in the server at once.
            lost = self._stub.RecordWeighing.future(request, timeout=CALL_SECONDS)
        self._ledger.count(sent=2 if lost is not None else 1, backfilled=int(item.record.is_backfill))
        try:
            recorded = self._stub.RecordWeighing(request, timeout=CALL_SECONDS).recorded
        except grpc.RpcError as rpc_error:
            error = service_error(rpc_error)
            if self._may_pass(error):
                self._queue.give_back([item])
                self._pause(error)
            else:
                self._refuse(item, error)
            return
        if lost is not None:
            try:
                self._ledger.record_repeated(item.record, recorded, lost.result(timeout=CALL_SECONDS).recorded)
            except (grpc.RpcError, grpc.FutureTimeoutError):
                # It was lost indeed; the second call has the answer.
                lost.cancel()
        self._acknowledge(item, recorded)

    def _send_backlog(self, items: list[Waiting]) -> None:
        # Records that may be taken later; while there are any, the stream takes no more.
        repeated: list[Waiting] = []
        error: ServiceError | None = None

        def batches() -> Iterator[list[Waiting]]:
            batch = items
            while batch:
                self._ledger.count(sent=len(batch), backfilled=sum(item.record.is_backfill for item in batch))
                yield batch
                batch = [] if repeated else self._queue.take(STREAM_RECORDS, wait_seconds=0.0)

        try:
            for batch, results in stream_weighings(self._stub, batches()):
                for item, result in zip(batch, results, strict=True):
                    refusal = self._handle_result(item, result)
                    if refusal is not None:
                        repeated.append(item)
                        error = refusal
        except StreamBrokenError as broken:
            repeated += [item for batch in broken.unanswered for item in batch]
            error = broken.error
        if error is None:
            self._has_backlog = False
        else:
            self._queue.give_back(repeated)
            self._pause(error)

    def _handle_result(self, item: Waiting, result: service_pb2.RecordResult) -> ServiceError | None:
        """Settle one record of a stream, or return why it has to be sent again."""
        if result.HasField("recorded"):
            self._acknowledge(item, result.recorded)
            return None
        name = refusal_pb2.ErrorReason.Name(result.refusal.reason).removeprefix("ERROR_REASON_")
        reason = Reason(name) if name in Reason.__members__ else Reason.INTERNAL
        error = ServiceError(reason, result.refusal.message)
        if self._may_pass(error):
            return error
        self._refuse(item, error)
        return None

    def _acknowledge(self, item: Waiting, recorded: service_pb2.Recorded) -> None:
        self._ledger.record_acknowledged(item.record, recorded)
        self._queue.settle(item.record.record_id)
        self._backoff.reset()
        self.last_error = ""

    def _refuse(self, item: Waiting, error: ServiceError) -> None:
        self._ledger.record_refused(item.record, error.reason, error.message)
        self._queue.settle(item.record.record_id)
        self._backoff.reset()
        self.last_error = ""

    def _may_pass(self, error: ServiceError) -> bool:
        """Say whether the same record may be taken later."""
        is_young = self._control.offset_seconds < REGISTRATION_GRACE_SECONDS
        return (
            error.is_retryable or error.reason in _UNCERTAIN_REASONS or (is_young and error.reason in _PASSING_REASONS)
        )

    def _pause(self, error: ServiceError) -> None:
        if self._control.aborted.is_set():
            return
        self.last_error = str(error)
        if self._cut_off_since is None:
            self._cut_off_since = self._control.offset_seconds
        self._ledger.count(retries=1)
        self._control.aborted.wait(self._backoff.next_seconds(error.retry_after_seconds))
