"""One traced weighing shows its call, its commit, and its arrival at another platform, in one trace."""

from collections.abc import Iterator

import pytest

from services.common.tracing import COMMITS_PER_CALL_MAX, Span, Tracing, begin_tracing, end_tracing
from services.journal.tracing import commit_span_id
from tests.registry.harness import TIMEOUT_SECONDS
from tests.waiting import wait_until
from tests.weighing.harness import PLATFORM, RunningWeighing
from tests.weighing.records import record, records
from zhichao.weighing.v1 import service_pb2 as pb

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
# The kernel slews the wall clock by half a millisecond a second at most; a call takes some milliseconds.
CLOCKS_APART_NS = 1_000_000

SAMPLED = (("traceparent", f"00-{TRACE}-{PARENT}-01"),)
SERVICE = "zhichao.weighing.v1.WeighingService"


class Kept:
    def __init__(self) -> None:
        self.spans: list[Span] = []

    def take(self, span: Span) -> None:
        self.spans.append(span)

    def close(self, seconds: float) -> None:
        del seconds

    def named(self, name: str, count: int = 1) -> list[Span]:
        """Wait for spans: a call is told after its answer."""

        def found() -> list[Span]:
            return [span for span in self.spans if span.name == name]

        wait_until(lambda: len(found()) >= count, f"{count} spans called {name}")
        return found()


@pytest.fixture
def kept() -> Iterator[Kept]:
    sink = Kept()
    begin_tracing(Tracing(sink, 0.0))
    yield sink
    end_tracing(0.0)


def test_a_weighing_is_followed_from_call_to_commit_to_arrival(
    weighing: RunningWeighing, city: RunningWeighing, kept: Kept
) -> None:
    weighing.record(record("untraced"))
    request = pb.RecordWeighingRequest(record=record("traced"))
    answer = weighing.stub.RecordWeighing(request, timeout=TIMEOUT_SECONDS, metadata=SAMPLED)
    city.receive(weighing.batches())

    (call,) = kept.named(f"{SERVICE}/RecordWeighing")
    (commit,) = kept.named("commit")
    (receive,) = kept.named("receive")
    sequence = answer.recorded.receipt.sequence
    assert {span.trace_id for span in (call, commit, receive)} == {TRACE}
    assert [span.parent_id for span in (call, commit, receive)] == [PARENT, call.span_id, commit.span_id]
    assert commit.span_id == commit_span_id(TRACE, "weighing", PLATFORM, sequence)
    # Where the call begins and ends is reckoned back by another clock than where the commit does: they drift apart.
    assert call.start_ns <= commit.start_ns + CLOCKS_APART_NS
    assert commit.start_ns <= commit.end_ns <= receive.end_ns
    # Entry 1 begins the log, entry 2 is not traced.
    assert (sequence, receive.attributes["zhichao.sequence"]) == (3, 3)


def test_a_batch_shows_one_commit(weighing: RunningWeighing, kept: Kept) -> None:
    request = pb.RecordWeighingsRequest(records=records(50))
    weighing.stub.RecordWeighings(request, timeout=TIMEOUT_SECONDS, metadata=SAMPLED)

    (commit,) = kept.named("commit")
    assert commit.attributes["zhichao.sequence"] == 2
    assert commit.attributes["zhichao.entries"] == 50


def test_a_long_stream_shows_its_first_commits(weighing: RunningWeighing, kept: Kept) -> None:
    count = COMMITS_PER_CALL_MAX + 10
    messages = (pb.StreamWeighingsRequest(records=[record(f"r-{number}")]) for number in range(count))
    answers = list(weighing.stub.StreamWeighings(messages, timeout=TIMEOUT_SECONDS, metadata=SAMPLED))

    assert len(answers) == count
    kept.named(f"{SERVICE}/StreamWeighings")
    commits = kept.named("commit", COMMITS_PER_CALL_MAX)
    assert len(commits) == COMMITS_PER_CALL_MAX
    assert {span.trace_id for span in commits} == {TRACE}


def test_a_record_that_is_held_shows_where(weighing: RunningWeighing, kept: Kept) -> None:
    first = weighing.record(record("again"))
    request = pb.RecordWeighingRequest(record=record("again"))
    weighing.stub.RecordWeighing(request, timeout=TIMEOUT_SECONDS, metadata=SAMPLED)

    (commit,) = kept.named("commit")
    assert commit.attributes["zhichao.sequence"] == first.receipt.sequence


def test_spans_hold_nothing_of_the_record(weighing: RunningWeighing, kept: Kept) -> None:
    sent = record("secret-record")
    request = pb.RecordWeighingRequest(record=sent)
    weighing.stub.RecordWeighing(request, timeout=TIMEOUT_SECONDS, metadata=SAMPLED)

    kept.named(f"{SERVICE}/RecordWeighing")
    text = str(kept.spans)
    for hidden in ("secret-record", sent.source_unit_id, sent.scale_id, sent.front_plate.number, "24000"):
        assert hidden not in text
