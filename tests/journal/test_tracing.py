"""Entries of traced calls show their way: the same trace at the platform that wrote them and at those that receive."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from services.common import tracing as process
from services.common.database import raw_connection
from services.common.request import RequestContext, use_request_context
from services.common.tracing import CallTrace, Span, SpanKind, Tracing, begin_tracing, end_tracing
from services.journal.entries import EntryBuilder
from services.journal.receiver import Received
from services.journal.tracing import (
    FOLLOWED_PER_BATCH_MAX,
    BatchTraces,
    commit_span_id,
    committed,
    find_traces,
)
from tests.journal.journals import Journal, incoming
from tests.journal.paper_log import COUNTY, KIND

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
NOW = datetime(2026, 11, 1, tzinfo=UTC)


class Kept:
    def __init__(self) -> None:
        self.spans: list[Span] = []

    def take(self, span: Span) -> None:
        self.spans.append(span)

    def close(self, seconds: float) -> None:
        del seconds


@pytest.fixture
def kept() -> Iterator[Kept]:
    sink = Kept()
    begin_tracing(Tracing(sink, 0.0))
    yield sink
    end_tracing(0.0)


def entry(request_id: str, payload: bytes = b"content", actor: str = "terminal/141025-9001-t1") -> bytes:
    return EntryBuilder("zhichao.weighing.v1.Weighing", 1, NOW, actor, request_id).build_bytes(payload)


def trace_id(number: int) -> str:
    return f"{number:032x}"


def write(journal: Journal, request_id: str, *payloads: bytes) -> None:
    """Write notes on behalf of a request."""
    with journal.engine.begin() as pooled:
        connection = raw_connection(pooled)
        added = EntryBuilder(KIND, 1, NOW, "", request_id).build_all(list(payloads), journal.writer.digester)
        journal.writer.append(connection, journal.writer.lock(connection), added, NOW)


def receive(upper: Journal, lower: Journal) -> list[Received]:
    """Receive a log in batches of two, as the service does that serves it."""
    return list(upper.handlers.receive(map(incoming, lower.batches(lower.platform, records_max=2))))


def test_the_trace_of_an_entry_is_found_where_it_stands_first() -> None:
    entries = [
        entry("0123456789abcdef"),
        entry(f"{TRACE}-01"),
        entry(""),
        entry(f"{trace_id(1)}-01"),
        entry(f"{TRACE}-01"),
    ]

    assert find_traces(entries, 100) == [(TRACE, 101), (trace_id(1), 103)]


@pytest.mark.parametrize(
    "request_id",
    [
        TRACE,
        f"{TRACE}-00",
        f"{TRACE.upper()}-01",
        f"x{TRACE}-01",
        f"{TRACE}-01x",
        "4bf92f35-77b3-4da6-a3ce-929d0e0e4736",
    ],
)
def test_other_request_ids_are_no_traces(request_id: str) -> None:
    assert find_traces([entry(request_id)], 1) == []


def test_the_longest_header_is_looked_through() -> None:
    # A credential id has at most 64 characters (services.common.access), and a kind some 60.
    assert find_traces([entry(f"{TRACE}-01", actor="integrator/" + "9" * 64)], 1) == [(TRACE, 1)]


def test_strange_bytes_are_no_traces() -> None:
    assert find_traces([b"", b"\x00" * 1000, b"\x32\x23" + b"z" * 35], 1) == []


def test_few_traces_of_a_batch_are_followed() -> None:
    entries = [entry(f"{trace_id(number)}-01") for number in range(1, 1_000)]

    assert find_traces(entries, 1) == [(trace_id(number), number) for number in range(1, FOLLOWED_PER_BATCH_MAX + 1)]


def test_a_commit_is_the_child_of_its_call_and_the_parent_of_what_follows(kept: Kept) -> None:
    call = CallTrace(TRACE)
    committed(call, "weighing", COUNTY, 7, 1, 1_000)

    (span,) = kept.spans
    assert (span.name, span.trace_id, span.parent_id) == ("commit", TRACE, call.span_id)
    assert span.span_id == commit_span_id(TRACE, "weighing", COUNTY, 7)


def test_what_a_service_writes_by_itself_is_shown_too(kept: Kept, county: Journal) -> None:
    call = RequestContext(f"{TRACE}-01")
    call.trace = CallTrace(TRACE)
    with use_request_context(call):
        write(county, call.request_id, b"one", b"two")
    write(county, "not traced", b"three")

    (span,) = kept.spans
    # Entry 1 begins the log.
    assert span.span_id == commit_span_id(TRACE, "weighing", COUNTY, 2)
    assert (span.parent_id, span.attributes["zhichao.entries"]) == (call.trace.span_id, 2)


def test_a_call_that_commits_without_end_shows_the_first_commits(kept: Kept) -> None:
    call = CallTrace(TRACE)
    for sequence in range(1, 100):
        committed(call, "weighing", COUNTY, sequence, 1, 1_000)

    assert len(kept.spans) == process.COMMITS_PER_CALL_MAX


def test_a_received_batch_shows_the_calls_that_wrote_it(kept: Kept, county: Journal, city: Journal) -> None:
    write(county, "not traced", b"1", b"2", b"3")
    write(county, f"{TRACE}-01", b"traced")
    write(county, "not traced", b"4")

    assert len(receive(city, county)) == 3
    # Entry 1 begins the log.
    (span,) = kept.spans
    assert (span.component, span.name, span.kind, span.trace_id) == ("weighing", "receive", SpanKind.CONSUMER, TRACE)
    assert span.parent_id == commit_span_id(TRACE, "weighing", COUNTY, 5)
    assert span.attributes == {
        "zhichao.stream": "weighing",
        "zhichao.origin": COUNTY,
        "zhichao.sequence": 5,
        "zhichao.entries": 2,
    }
    assert span.start_ns <= span.end_ns


def test_batches_are_told_apart_while_several_are_under_way(kept: Kept, county: Journal) -> None:
    class Batch:
        origin = COUNTY

        def __init__(self, first_sequence: int, *request_ids: str) -> None:
            self.first_sequence = first_sequence
            self.entries = [entry(request_id) for request_id in request_ids]

    traces = BatchTraces("relay", "weighing", "push", SpanKind.PRODUCER)
    traces.begin(Batch(1, f"{trace_id(1)}-01"))
    traces.begin(Batch(2, "none", "none"))
    traces.begin(Batch(4, "none", f"{trace_id(2)}-01"))
    traces.end()
    traces.end()
    assert [span.trace_id for span in kept.spans] == [trace_id(1)]
    traces.end()
    assert [(span.trace_id, span.attributes["zhichao.sequence"]) for span in kept.spans[1:]] == [(trace_id(2), 5)]
    # One answer more than batches, from a peer with a fault, is no fault here.
    traces.end()


def test_nothing_is_looked_at_when_tracing_is_off(county: Journal, city: Journal) -> None:
    write(county, f"{TRACE}-01", b"traced")

    assert len(receive(city, county)) == 1
    assert process.current() is None
