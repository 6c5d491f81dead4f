"""A running simulation: one thread makes the trucks by a schedule, one thread per terminal sends its queue."""

import heapq
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import grpc

from cli.simulate.evidence import DRAIN_SECONDS as EVIDENCE_SECONDS
from cli.simulate.evidence import EvidenceUploads
from cli.simulate.ledger import Counters, FirstRefusal, Ledger
from cli.simulate.options import TrafficOptions
from cli.simulate.seeding import seeded_random
from cli.simulate.sender import Control, TerminalSender
from cli.simulate.site import Site
from cli.simulate.terminal_queue import QueueFullError, TerminalQueue
from cli.simulate.traffic import Emission, OfflineSchedule, Traffic
from services.common.access.tokens import bearer
from services.common.clock import Clock, SystemClock
from services.common.rpc_client import with_credentials
from zhichao.weighing.v1 import service_pb2_grpc, weighing_pb2

# Terminals share connections above this number: a thousand of them need no thousand sockets to show their load.
CHANNELS_MAX = 16
# Trucks that are due within this time are made together; at 1,000 a second that is five at a time.
_TICK_SECONDS = 0.005
# The longest sleep of the schedule, so that a stop is noticed.
_SLEEP_SECONDS_MAX = 0.1
# A call takes milliseconds; whoever waits longer for an answer at an abort has it cancelled.
_LAST_CALL_SECONDS = 1.0
# Time that an aborted thread gets to notice it; its calls are cancelled.
_ABORT_SECONDS = 5.0
DRAIN_SECONDS = 60.0


def is_behind(senders: Sequence[TerminalSender]) -> bool:
    """Tell whether terminals wait for answers: more than one record for each, beside those that are being sent.

    A machine with time to spare answers within milliseconds, and next to nothing waits.
    """
    return sum(sender.behind_count for sender in senders) > len(senders)


class Simulation:
    """Weighs trucks at a site and sends the records to a weighing service. Can be started once.

    `seed`, `records_per_second`, `options` and the time of the start decide every record; only what the network does is
    left to chance. With `ledger_path`, answers go there line by line and the terminals' queues live beside it, so that
    another simulation with the same path sends what this one could not.
    """

    def __init__(
        self,
        open_channel: Callable[[], grpc.Channel],
        site: Site,
        tokens: Mapping[str, str],
        *,
        seed: int,
        records_per_second: float,
        seconds: float | None = None,
        options: TrafficOptions | None = None,
        ledger_path: Path | None = None,
        keeps_receipts: bool = True,
        clock: Clock | None = None,
        evidence: EvidenceUploads | None = None,
    ) -> None:
        self._clock = clock if clock is not None else SystemClock()
        self._site = site
        self._seed = seed
        self._seconds = seconds
        self._open_channel = open_channel
        # By source unit: each has terminals of its own, which may speak for nobody else.
        self._tokens = tokens
        options = options if options is not None else TrafficOptions()
        # Milliseconds are what records carry.
        now = self._clock.now()
        self.start_time = now.replace(microsecond=now.microsecond // 1000 * 1000)
        self._traffic = Traffic(
            site, seed=seed, start_time=self.start_time, records_per_second=records_per_second, options=options
        )
        self._offline = OfflineSchedule(seed, len(site.stations), options)
        self._offline_lock = threading.Lock()
        # What shows the weighings goes its own way; where there is none, nothing is photographed.
        self.evidence = evidence
        self._ledger = Ledger(
            ledger_path,
            keeps_receipts=keeps_receipts,
            on_acknowledged=evidence.offer if evidence is not None else None,
        )
        self._queues = [TerminalQueue(path) for path in self._queue_paths(ledger_path)]
        self._channels: list[grpc.Channel] = []
        self._senders: list[TerminalSender] = []
        self._control = Control(self._clock, started=self._clock.monotonic())
        # Held back by the schedule: (release time, count, terminal, record id).
        self._held: list[tuple[float, int, int, str]] = []
        self._made_all = threading.Event()
        self._stopping = threading.Event()
        self._maker = threading.Thread(target=self._make, name="schedule of weighings", daemon=True)

    def __enter__(self) -> "Simulation":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(drain=False)

    def start(self) -> None:
        """Begin to weigh and to send."""
        self._control.started = self._clock.monotonic()
        self._channels = [self._open_channel() for _ in range(min(CHANNELS_MAX, len(self._queues)))]
        for index, terminal_queue in enumerate(self._queues):
            unit = self._site.stations[index].unit.source_unit_id
            channel = with_credentials(self._channels[index % len(self._channels)], partial(bearer, self._tokens[unit]))
            sender = TerminalSender(
                self._traffic.terminals[index].name,
                terminal_queue,
                service_pb2_grpc.WeighingServiceStub(channel),
                self._ledger,
                self._control,
                offline_until=lambda offset, index=index: self._offline_until(index, offset),  # type: ignore[misc]  # mypy infers no type for a lambda with defaults
                rng=seeded_random("backoff", self._seed, index),
            )
            self._senders.append(sender)
            sender.start()
        if self.evidence is not None:
            self.evidence.start(lambda: is_behind(self._senders))
        self._maker.start()

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait until every truck of `seconds` is weighed; return whether that is so. Sending may go on."""
        return self._made_all.wait(timeout_seconds)

    def stop(
        self,
        *,
        drain: bool,
        timeout_seconds: float = DRAIN_SECONDS,
        report_evidence: Callable[[int], None] = lambda waiting: None,
    ) -> bool:
        """Stop weighing; with `drain`, go on sending until everything is answered or the time is over.

        Then the same for photos and clips, within a time of their own; `report_evidence` gets how many wait. Returns
        whether no record is left unanswered. Outages end at once when draining. May be called twice.
        """
        self._stopping.set()
        if self._maker.ident is not None:
            self._maker.join()
        for _, _, terminal, record_id in self._held:
            self._queues[terminal].release(record_id)
        self._held.clear()
        if drain and not self._control.aborted.is_set():
            self._control.draining.set()
            deadline = self._clock.monotonic() + timeout_seconds
            for sender in self._senders:
                sender.join(max(0.0, deadline - self._clock.monotonic()))
        self._control.aborted.set()
        # Nearly all end by themselves. A call that hangs is ended by closing its channel, but a call that begins while
        # its channel is closed can crash inside gRPC.
        deadline = self._clock.monotonic() + _LAST_CALL_SECONDS
        for sender in self._senders:
            sender.join(max(0.0, deadline - self._clock.monotonic()))
        for channel in self._channels:
            channel.close()
        for sender in self._senders:
            sender.join(_ABORT_SECONDS)
        if self.evidence is not None:
            # After the terminals: their last answers bring the last pictures.
            self.evidence.stop(drain=drain, timeout_seconds=EVIDENCE_SECONDS, report=report_evidence)
        waiting = self.waiting_count
        for terminal_queue in self._queues:
            terminal_queue.close()
        self._ledger.close()
        return waiting == 0

    @property
    def counters(self) -> Counters:
        """Return the totals as they are now."""
        return self._ledger.counters

    @property
    def acknowledged(self) -> dict[tuple[str, str], weighing_pb2.Receipt]:
        """Return the receipts by (source unit id, record id); a copy, empty unless receipts are kept."""
        return self._ledger.acknowledged

    @property
    def refusals(self) -> list[FirstRefusal]:
        """Return the first refusal of each reason."""
        return self._ledger.refusals

    @property
    def waiting_count(self) -> int:
        """Return how many records are made and not answered."""
        return sum(map(len, self._queues))

    @property
    def offline_count(self) -> int:
        """Return how many terminals are cut off."""
        return sum(sender.is_offline for sender in self._senders)

    @property
    def terminal_count(self) -> int:
        """Return how many terminals there are."""
        return len(self._queues)

    @property
    def last_error(self) -> str:
        """Return what keeps a terminal from sending; empty when all can."""
        return next((sender.last_error for sender in self._senders if sender.last_error), "")

    @property
    def elapsed_seconds(self) -> float:
        """Return the seconds since the start."""
        return self._control.offset_seconds

    def _offline_until(self, terminal: int, offset_seconds: float) -> float | None:
        with self._offline_lock:
            return self._offline.offline_until(terminal, offset_seconds)

    def _queue_paths(self, ledger_path: Path | None) -> list[Path | None]:
        if ledger_path is None:
            return [None for _ in self._site.stations]
        directory = ledger_path.with_name(ledger_path.name + ".queues")
        scales = [station.scale for station in self._site.stations]
        return [directory / f"{scale.source_unit_id}.{scale.scale_id}.queue" for scale in scales]

    def _make(self) -> None:
        """Weigh every truck when it is due: by the clock, so that a slow moment is made up for and none is lost."""
        emissions = self._traffic.emissions()
        emission = next(emissions)
        count = 0
        while not self._stopping.is_set():
            offset = self._control.offset_seconds
            while emission.offset_seconds <= offset and not self._is_over(emission):
                if not self._keep(emission, count):
                    break
                count += 1
                emission = next(emissions)
            while self._held and self._held[0][0] <= offset:
                _, _, terminal, record_id = heapq.heappop(self._held)
                self._queues[terminal].release(record_id)
            if self._is_over(emission):
                self._made_all.set()
                if not self._held:
                    return
            due = min(emission.offset_seconds, self._held[0][0] if self._held else emission.offset_seconds)
            pause_seconds = due - self._control.offset_seconds
            self._stopping.wait(min(max(pause_seconds, _TICK_SECONDS), _SLEEP_SECONDS_MAX))
        self._made_all.set()

    def _is_over(self, emission: Emission) -> bool:
        return self._seconds is not None and emission.offset_seconds > self._seconds

    def _keep(self, emission: Emission, count: int) -> bool:
        """Put a record into its terminal's queue; False when the queue is full and the scale has to wait."""
        record_id = emission.record.record_id
        try:
            self._queues[emission.terminal].keep(emission.record, is_resent=emission.is_resent)
        except QueueFullError:
            return False
        self._ledger.count(generated=1, overloads=int(emission.is_overload))
        if emission.release_seconds <= emission.offset_seconds:
            self._queues[emission.terminal].release(record_id)
        else:
            heapq.heappush(self._held, (emission.release_seconds, count, emission.terminal, record_id))
        return True
