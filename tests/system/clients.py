"""Terminals that behave badly on purpose: several threads send single records, batches and streams, repeat what was
answered, send the same twice at once, shuffle, change a record under its old id, and try again until they are answered.
"""

import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from random import Random
from types import TracebackType
from typing import Final, Self

import grpc

from cli.importer.weighing_stream import StreamBrokenError, stream_weighings
from cli.simulate.site import Site
from cli.simulate.traffic import Traffic
from services.common.errors import ServiceError
from services.common.reasons import Reason
from services.common.rpc_client import service_error
from tests.system.history import History
from tests.system.reaching import Gate
from tests.system.waiting import wait_until
from zhichao.common.v1 import refusal_pb2
from zhichao.weighing.v1 import record_pb2, service_pb2

CALL_SECONDS: Final = 10.0
STALL_SECONDS: Final = 10.0
# A killed service is back within three seconds or so: clients that wait long see nothing of it.
PAUSE_SECONDS_MAX: Final = 0.5
DRAIN_SECONDS_MAX: Final = 90.0

UNARY_RECORDS_MAX: Final = 4
BATCH_RECORDS_MAX: Final = 60
STREAM_RECORDS_MAX: Final = 200
STREAM_MESSAGE_RECORDS: Final = 30
REPEATED_KEPT_MAX: Final = 200
# Most that a message may hold.
RECORDS_PER_MESSAGE: Final = 1_000

# How often a round holds records answered before, sends its batch twice at once, or changes a record.
REPEAT_SHARE: Final = 0.3
TWICE_SHARE: Final = 0.2
CONFLICT_SHARE: Final = 0.1


@dataclass(frozen=True, eq=False)
class Item:
    """One record to be sent, and whether it has to be refused because its id is held with other content."""

    record: record_pb2.WeighingRecord
    is_conflict: bool = False


class RecordSource:
    """Deals out the records of a site's traffic to all clients; none twice."""

    def __init__(self, site: Site, *, seed: int, limit: int | None = None) -> None:
        # Ten trucks a second from some hours ago: 50,000 of them end before now, since no truck is weighed tomorrow.
        start_time = datetime.now(UTC) - timedelta(hours=6)
        traffic = Traffic(site, seed=seed, start_time=start_time, records_per_second=10)
        self._lock = threading.Lock()
        self._records = islice((emission.record for emission in traffic.emissions()), limit)

    def take(self, count: int) -> list[record_pb2.WeighingRecord]:
        """Return up to so many new records."""
        with self._lock:
            return list(islice(self._records, count))


class Clients:
    """Several clients that send until they are stopped or the source is empty; a context manager that stops them.

    Single records are sent by the terminals of their unit, batches and streams by a firm that sends for all units.
    `drain` stops new records and waits until all that were made are answered; `wait_done` waits for the source too.
    """

    def __init__(
        self,
        gate: Gate,
        source: RecordSource,
        history: History,
        *,
        seed: int,
        count: int = 3,
        records_per_second: float = 300.0,
    ) -> None:
        self._ending = threading.Event()
        self._aborting = threading.Event()
        self._history = history
        self._clients = [
            _Client(
                gate,
                source,
                history,
                Random(f"client {seed} {number}"),
                self._ending,
                self._aborting,
                seconds_per_record=count / records_per_second,
            )
            for number in range(count)
        ]

    def start(self) -> Self:
        """Begin to send."""
        for client in self._clients:
            client.start()
        return self

    def wait_acknowledged(self, more: int, seconds_max: float) -> None:
        """Wait until so many more records are acknowledged than now."""
        wanted = self._history.acknowledged_count + more
        wait_until(
            lambda: self._history.acknowledged_count >= wanted,
            seconds_max,
            lambda: f"{self._history.acknowledged_count} of {wanted} records are acknowledged: {self.last_error}",
        )

    def drain(self, seconds_max: float = DRAIN_SECONDS_MAX) -> None:
        """Make no more records and wait until all are answered."""
        self._ending.set()
        self.wait_done(seconds_max)

    def wait_done(self, seconds_max: float) -> None:
        """Wait until the source is empty and all is answered."""
        wait_until(
            lambda: not any(client.is_alive() for client in self._clients),
            seconds_max,
            lambda: f"clients still wait for answers: {self.last_error}",
        )

    @property
    def last_error(self) -> str:
        """What kept a client from being answered last."""
        return "; ".join(client.last_error for client in self._clients if client.last_error)

    def __enter__(self) -> Self:
        """Begin to send."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, whatever waits."""
        self._aborting.set()
        self._ending.set()
        for client in self._clients:
            client.close()
            client.join(CALL_SECONDS)


class _Client(threading.Thread):
    def __init__(
        self,
        gate: Gate,
        source: RecordSource,
        history: History,
        rng: Random,
        ending: threading.Event,
        aborting: threading.Event,
        *,
        seconds_per_record: float,
    ) -> None:
        super().__init__(name="system test client", daemon=True)
        self._channel = gate.connect()
        self._firm = gate.firm(self._channel)
        self._terminals = gate.terminals(self._channel)
        self._source = source
        self._history = history
        self._rng = rng
        self._ending = ending
        self._aborting = aborting
        self._seconds_per_record = seconds_per_record
        self._waiting: list[Item] = []
        self._answered: list[record_pb2.WeighingRecord] = []
        self.last_error = ""

    def close(self) -> None:
        self._channel.close()

    def run(self) -> None:
        while not self._aborting.is_set():
            items, self._waiting = [*self._waiting, *self._fresh()], []
            if not items:
                break
            try:
                pause_seconds = self._send(items)
            except ValueError:
                # The channel was closed under us: the test is over.
                break
            # Paced like terminals, at once while draining; the pause after a failure is what the server asked for.
            paced = 0.0 if self._ending.is_set() else self._seconds_per_record * len(items)
            self._aborting.wait(max(pause_seconds, paced))
        self._channel.close()

    # What is sent

    def _fresh(self) -> list[Item]:
        if self._ending.is_set() or len(self._waiting) > STREAM_RECORDS_MAX:
            return []
        rng = self._rng
        size = rng.choice((UNARY_RECORDS_MAX, BATCH_RECORDS_MAX, STREAM_RECORDS_MAX))
        items = [Item(record) for record in self._source.take(rng.randint(1, size))]
        if items and self._answered and rng.random() < REPEAT_SHARE:
            items += map(self._repeated, rng.choices(self._answered, k=rng.randint(1, 5)))
        if items and self._answered and rng.random() < CONFLICT_SHARE:
            items.append(self._conflicting(rng.choice(self._answered)))
        if rng.random() < 1 / 2:
            rng.shuffle(items)
        return items

    def _repeated(self, record: record_pb2.WeighingRecord) -> Item:
        """Send again what was answered: as backfill or not is no difference."""
        again = record_pb2.WeighingRecord()
        again.CopyFrom(record)
        again.is_backfill = not record.is_backfill
        return Item(again)

    def _conflicting(self, record: record_pb2.WeighingRecord) -> Item:
        changed = record_pb2.WeighingRecord()
        changed.CopyFrom(record)
        # Always the same change of a record, so that no id collects more conflicts than are kept.
        changed.goods = "changed"
        return Item(changed, is_conflict=True)

    # How it is sent

    def _send(self, items: list[Item]) -> float:
        """Send once; what is not answered waits for the next round. Return how long to wait before it."""
        for item in items:
            self._history.sending(item.record)
        if len(items) <= UNARY_RECORDS_MAX:
            return max(map(self._send_one, items), default=0.0)
        if len(items) <= BATCH_RECORDS_MAX:
            return self._send_batch(items)
        return self._send_stream(items)

    def _send_one(self, item: Item) -> float:
        request = service_pb2.RecordWeighingRequest(record=item.record)
        try:
            terminal = self._terminals[item.record.source_unit_id]
            answer = terminal.RecordWeighing(request, timeout=CALL_SECONDS)
        except grpc.RpcError as failure:
            error = service_error(failure)
            if self._settle_refusal(item, error):
                return 0.0
            self._waiting.append(item)
            return self._note_failure(error)
        self._settle_recorded(item, answer.recorded)
        return 0.0

    def _send_batch(self, items: list[Item]) -> float:
        request = service_pb2.RecordWeighingsRequest(records=[item.record for item in items])
        # Twice: as after a timeout. Both are in the server at once, and both answers have to be the same.
        is_twice = self._rng.random() < TWICE_SHARE
        calls = [self._firm.RecordWeighings.future(request, timeout=CALL_SECONDS) for _ in range(1 + is_twice)]
        unsettled = items
        errors = []
        for call in calls:
            try:
                answer = call.result()
            except grpc.RpcError as failure:
                errors.append(service_error(failure))
            else:
                # The answer of either is enough.
                left = self._settle(items, answer.results)
                unsettled = left if unsettled is items else [item for item in unsettled if item in left]
        pause_seconds = max(map(self._note_failure, errors), default=0.0)
        if len(errors) == len(calls):
            unsettled = items
        self._waiting += unsettled
        return pause_seconds

    def _send_stream(self, items: list[Item]) -> float:
        starts = range(0, len(items), STREAM_MESSAGE_RECORDS)
        messages = [items[start : start + STREAM_MESSAGE_RECORDS] for start in starts]
        answered_count = 0
        try:
            for batch, results in stream_weighings(self._firm, iter(messages), stall_seconds=STALL_SECONDS):
                answered_count += 1
                self._waiting += self._settle(batch, results)
        except StreamBrokenError as broken:
            self._waiting += [item for batch in messages[answered_count:] for item in batch]
            return self._note_failure(broken.error)
        return 0.0

    # What comes back

    def _settle(self, items: Sequence[Item], results: Sequence[service_pb2.RecordResult]) -> list[Item]:
        """Take the results and return the items that have to be sent again."""
        if [item.record.record_id for item in items] != [result.record_id for result in results]:
            self._history.odd(f"{len(items)} records got {len(results)} results, or in another order")
            return list(items)
        left = []
        for item, result in zip(items, results, strict=True):
            if result.HasField("recorded"):
                self._settle_recorded(item, result.recorded)
            elif not self._settle_refusal(item, _refusal_error(result.refusal)):
                left.append(item)
        return left

    def _settle_recorded(self, item: Item, recorded: service_pb2.Recorded) -> None:
        self.last_error = ""
        if item.is_conflict:
            self._history.odd(f"record {item.record.record_id} was changed and taken all the same")
            return
        self._history.acknowledged(item.record, recorded)
        if len(self._answered) < REPEATED_KEPT_MAX:
            self._answered.append(item.record)
        else:
            self._answered[self._rng.randrange(REPEATED_KEPT_MAX)] = item.record

    def _settle_refusal(self, item: Item, error: ServiceError) -> bool:
        """Take a refusal for good; False when the record has to be sent again."""
        if item.is_conflict and error.reason is Reason.RECORD_CONFLICT:
            self._history.conflicting(item.record)
            return True
        if error.is_retryable:
            return False
        self._history.odd(f"record {item.record.record_id} was refused: {error}")
        # An answer that no fault excuses is noted; the record still has to become durable in the end.
        return error.status not in {"INTERNAL", "UNKNOWN"}

    def _note_failure(self, error: ServiceError) -> float:
        if self._aborting.is_set():
            return 0.0
        self._history.failed()
        self.last_error = str(error)
        if not error.is_retryable:
            self._history.odd(f"a call failed for good: {error}")
        if error.reason is Reason.DATABASE_UNAVAILABLE and not error.retry_after_seconds:
            self._history.odd(f"{error} came without RetryInfo")
        return self._rng.uniform(0.1, 1.0) * PAUSE_SECONDS_MAX


def _refusal_error(refusal: refusal_pb2.Refusal) -> ServiceError:
    name = refusal_pb2.ErrorReason.Name(refusal.reason).removeprefix("ERROR_REASON_")
    return ServiceError(Reason(name) if name in Reason.__members__ else Reason.INTERNAL, refusal.message)


def record_all(
    gate: Gate, source: RecordSource, history: History, *, seconds_max: float, records_max: int | None = None
) -> None:
    """Send what the source has as one fast stream that has to go through: for a backlog, not for faults."""
    channel = gate.connect()
    timer = threading.Timer(seconds_max, channel.close)
    timer.start()
    try:
        for batch, results in stream_weighings(gate.firm(channel), _messages(source, history, records_max)):
            for item, result in zip(batch, results, strict=True):
                if result.HasField("recorded"):
                    history.acknowledged(item.record, result.recorded)
                else:
                    history.odd(f"record {item.record.record_id} was refused: {result.refusal.message}")
    finally:
        timer.cancel()
        channel.close()


def _messages(source: RecordSource, history: History, records_max: int | None) -> Iterator[list[Item]]:
    left = sys.maxsize if records_max is None else records_max
    while batch := [Item(record) for record in source.take(min(left, RECORDS_PER_MESSAGE))]:
        left -= len(batch)
        for item in batch:
            history.sending(item.record)
        yield batch
