"""Streams of batches: answered in order, some ahead, bounded, and whole again after any end."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from services.journal import group_commit
from services.weighing.streaming import WINDOW_BATCHES_MAX
from tests.waiting import wait_until
from tests.weighing.harness import RunningWeighing, locked_head, reason_of, refused
from tests.weighing.records import record, records
from zhichao.weighing.v1 import service_pb2 as pb
from zhichao.weighing.v1.record_pb2 import WeighingRecord


class Sender:
    """Batches that a test sends when it wants, and a count of how many gRPC has taken."""

    def __init__(self) -> None:
        self.taken = 0
        self._batches: list[list[WeighingRecord] | None] = []
        self._changed = threading.Condition()

    def send(self, batch: list[WeighingRecord] | None) -> None:
        """Send a batch; None half-closes."""
        with self._changed:
            self._batches.append(batch)
            self._changed.notify_all()

    def __iter__(self) -> Iterator[list[WeighingRecord]]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._batches)
                batch = self._batches.pop(0)
            if batch is None:
                return
            self.taken += 1
            yield batch


@pytest.fixture
def sender() -> Iterator[Sender]:
    made = Sender()
    yield made
    made.send(None)


def readers() -> int:
    return sum(thread.name == "stream-reader" for thread in threading.enumerate())


def wait_for_no_readers() -> None:
    wait_until(lambda: readers() == 0, "all reading threads end")


def end_of(stream: Any) -> Any:
    """Read a stream to its end, which must be an error, and return what it was refused with."""
    with pytest.raises(grpc.RpcError) as caught:
        list(stream)
    return refused(caught.value)


def test_answers_come_in_order_with_all_kinds_of_outcomes(shared: RunningWeighing) -> None:
    batches = [
        [record(f"o-{number}"), record(f"o-{number}"), record("no id"), record(f"o-{number}", gross_weight_kg=20_000)]
        for number in range(50)
    ]
    answers = list(shared.stream(batches))
    assert [[one.record_id for one in answer.results] for answer in answers] == [
        [one.record_id for one in batch] for batch in batches
    ]
    outcomes = ["recorded", "duplicate", "INVALID_ARGUMENT", "RECORD_CONFLICT"]
    assert [[reason_of(one) for one in answer.results] for answer in answers] == [outcomes] * 50


def test_an_empty_stream_ends_well(shared: RunningWeighing) -> None:
    assert list(shared.stream([])) == []
    wait_for_no_readers()


def test_a_client_that_sends_nothing_more_gets_its_answers(shared: RunningWeighing, sender: Sender) -> None:
    stream = shared.stream(sender)
    for number in range(3):
        sender.send(records(2, f"n-{number}"))
        assert [one.record_id for one in next(stream).results] == [f"n-{number}-0", f"n-{number}-1"]
    sender.send(None)
    assert list(stream) == []
    wait_for_no_readers()


def test_at_least_eight_batches_are_in_flight(weighing: RunningWeighing, sender: Sender) -> None:
    with locked_head(weighing):
        stream = weighing.stream(sender)
        for number in range(40):
            sender.send(records(1, f"f-{number}"))
        wait_until(lambda: sender.taken > WINDOW_BATCHES_MAX, "more batches than the window are taken")
        sender.send(None)
    assert len(list(stream)) == 40


def test_a_stream_on_a_paused_database_stops_its_client_and_goes_on(weighing: RunningWeighing, sender: Sender) -> None:
    """A thousand batches: the client is stopped by flow control, and nothing piles up in the server."""
    # Behind the records that wait come large ones that are refused at once: many bytes, and quick to answer later.
    waiting = [records(50, f"p-{number}") for number in range(20)]
    large = [record("p-large", goods="x" * 100_000)]
    with locked_head(weighing):
        stream = weighing.stream(sender)
        for batch in [*waiting, *[large] * 980]:
            sender.send(batch)
        sender.send(None)
        wait_until(lambda: sender.taken > WINDOW_BATCHES_MAX, "the stream is under way")
        assert wait_until_settled(sender) < 400
        assert weighing.app._committer.waiting_records <= WINDOW_BATCHES_MAX * 50
    answers = [[reason_of(result) for result in answer.results] for answer in stream]
    assert answers == [["recorded"] * 50] * 20 + [["ENTRY_TOO_LARGE"]] * 980
    assert weighing.position().size == 1_001


def wait_until_settled(sender: Sender) -> int:
    """Return how many batches were taken once no more are for a while."""
    taken = -1
    while taken != sender.taken:
        taken = sender.taken
        threading.Event().wait(0.3)
    return taken


def test_a_client_that_reads_no_answers_is_stopped(
    weighing: RunningWeighing, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    preparer = weighing.app.handlers._preparer
    prepare, prepared = preparer.prepare, Sender()

    def counted(*batch: Any) -> Any:
        prepared.taken += 1
        return prepare(*batch)

    monkeypatch.setattr(preparer, "prepare", counted)
    stream = weighing.stream(sender)
    # Refusals are larger than records: some 100 kB an answer.
    for _ in range(400):
        sender.send([WeighingRecord()] * 100)
    sender.send(None)
    wait_until(lambda: prepared.taken > WINDOW_BATCHES_MAX, "the stream is under way")
    assert wait_until_settled(prepared) < 400
    assert len(list(stream)) == 400


def test_many_streams_share_a_bounded_queue(weighing: RunningWeighing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "WAITING_RECORDS_MAX", 500)
    with ThreadPoolExecutor(8) as pool, locked_head(weighing):
        runs = [
            pool.submit(
                lambda name: list(weighing.stream([records(100, f"{name}-{n}") for n in range(20)])), f"m{name}"
            )
            for name in range(8)
        ]
        wait_until(lambda: weighing.app._committer.waiting_records >= 500, "the queue is full")
        assert not threading.Event().wait(0.2)
        assert weighing.app._committer.waiting_records <= 500 + 100
    assert [len(run.result()) for run in runs] == [20] * 8
    assert weighing.position().size == 8 * 2_000 + 1


# Ends


def test_a_client_that_cancels_leaves_no_thread_behind(weighing: RunningWeighing, sender: Sender) -> None:
    with locked_head(weighing):
        stream = weighing.stream(sender)
        for number in range(20):
            sender.send(records(10, f"c-{number}"))
        wait_until(lambda: sender.taken > WINDOW_BATCHES_MAX, "the stream is under way")
        stream.cancel()
    wait_for_no_readers()
    # What was recorded of it is recorded whole; the client sends all again.
    results = [one for n in range(20) for one in weighing.record_all(records(10, f"c-{n}"))]
    assert {reason_of(result) for result in results} <= {"recorded", "duplicate"}
    assert weighing.position().size == 201


@pytest.mark.parametrize("bad", [records(1_001, "large"), []])
def test_a_bad_batch_ends_the_stream_after_the_answers_before_it(
    shared: RunningWeighing, bad: list[WeighingRecord]
) -> None:
    prefix = f"b-{len(bad)}"
    stream = shared.stream([records(3, f"{prefix}-0"), records(3, f"{prefix}-1"), bad, records(3, f"{prefix}-2")])
    answers = [next(stream), next(stream)]
    assert [reason_of(one) for answer in answers for one in answer.results] == ["recorded"] * 6
    refusal = end_of(stream)
    assert refusal.status == "INVALID_ARGUMENT"
    assert refusal.reason == ("BATCH_TOO_LARGE" if bad else "INVALID_ARGUMENT")
    wait_for_no_readers()
    assert reason_of(shared.record_all(records(3, f"{prefix}-2"))[0]) == "recorded"


def test_a_fault_in_preparing_ends_the_stream_after_the_answers_before_it(
    weighing: RunningWeighing, monkeypatch: pytest.MonkeyPatch
) -> None:
    preparer = weighing.app.handlers._preparer
    prepare = preparer.prepare

    def failing(content: bytes, *more: Any) -> Any:
        if b"fault-" in content:
            raise RuntimeError("a fault of the program")
        return prepare(content, *more)

    monkeypatch.setattr(preparer, "prepare", failing)
    stream = weighing.stream([records(3, "good"), records(3, "fault"), records(3, "later")])
    assert len(next(stream).results) == 3
    refusal = end_of(stream)
    assert (refusal.status, refusal.reason) == ("INTERNAL", "INTERNAL")
    assert "program" not in refusal.message
    wait_for_no_readers()


@pytest.mark.parametrize("is_idle", [True, False])
def test_a_stop_ends_a_stream_and_what_was_answered_is_durable(
    weighing: RunningWeighing, sender: Sender, is_idle: bool
) -> None:
    stream = weighing.stream(sender)
    sender.send(records(5, "d-first"))
    answers = [next(stream)]
    if not is_idle:
        for number in range(300):
            sender.send(records(50, f"d-{number}"))
        answers.append(next(stream))
    stopping = threading.Thread(target=weighing.app.stop, args=(10.0,))
    stopping.start()
    with pytest.raises(grpc.RpcError) as caught:
        answers.extend(stream)
    stopping.join()
    refusal = refused(caught.value)
    assert (refusal.status, refusal.reason) == ("UNAVAILABLE", "SHUTTING_DOWN")
    wait_for_no_readers()
    weighing.start()
    held = weighing.weighings_in_journal()
    for result in (one for answer in answers for one in answer.results):
        assert held[result.recorded.receipt.sequence].record.record_id == result.record_id
    again: list[pb.RecordResult] = weighing.record_all(records(5, "d-first"))
    assert {reason_of(result) for result in again} == {"duplicate"}


def test_both_kinds_of_batches_are_one_message_on_the_wire() -> None:
    """The service takes their bytes apart without asking which of the two they are."""
    requests = (pb.RecordWeighingsRequest.DESCRIPTOR, pb.StreamWeighingsRequest.DESCRIPTOR)
    responses = (pb.RecordWeighingsResponse.DESCRIPTOR, pb.StreamWeighingsResponse.DESCRIPTOR)
    for one, other in (requests, responses):
        assert [(field.number, field.message_type) for field in one.fields] == [
            (field.number, field.message_type) for field in other.fields
        ]
    assert [(field.name, field.number) for field in requests[0].fields] == [("records", 1)]
    assert [(field.name, field.number) for field in responses[0].fields] == [("results", 1)]
