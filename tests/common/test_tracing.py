"""Traces: which calls are traced, what is passed on, what a collector gets, and that a collector that is away is no
harm.
"""

import logging
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common import tracing
from services.common.tracing import (
    FOLLOWED_PER_SECOND_MAX,
    TRACES_PER_SECOND_MAX,
    CallTrace,
    Span,
    SpanKind,
    Tracing,
    derived_span_id,
    end_tracing,
    read_traceparent,
    record_call,
)
from services.common.tracing_export import QUEUE_SPANS_MAX, OtlpSink, TraceExport
from tests.collector import Collector

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
SAMPLED = ("traceparent", f"00-{TRACE}-{PARENT}-01")
NOT_SAMPLED = ("traceparent", f"00-{TRACE}-{PARENT}-00")


class Kept:
    """Keeps spans."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def take(self, span: Span) -> None:
        self.spans.append(span)

    def close(self, seconds: float) -> None:
        del seconds


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture(autouse=True)
def _off() -> Iterator[None]:
    yield
    end_tracing(0.0)


def make(ratio: float = 0.0, chance: float = 0.5, clock: Clock | None = None) -> Tracing:
    return Tracing(Kept(), ratio, clock=clock or Clock(), chance=lambda: chance)


@pytest.mark.parametrize(
    "header",
    [
        "",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-01-more",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}-01\n",
        f"01-{TRACE}-{PARENT}-01-{'x' * 600}",
    ],
)
def test_what_is_no_traceparent_is_none(header: str) -> None:
    assert read_traceparent(header) is None


def test_a_traceparent_of_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert read_traceparent(f"01-{TRACE}-{PARENT}-03-more") == (TRACE, PARENT, True)


@given(st.text(max_size=80))
def test_no_text_of_a_stranger_raises(header: str) -> None:
    assert read_traceparent(header) is None


def test_a_caller_who_samples_decides() -> None:
    trace = make(ratio=0.0).begin([("other", "x"), SAMPLED])

    assert trace is not None
    assert (trace.trace_id, trace.parent_id) == (TRACE, PARENT)
    assert trace.span_id not in (PARENT, "0" * 16)
    assert read_traceparent(trace.traceparent) == (TRACE, trace.span_id, True)
    assert trace.request_id == f"{TRACE}-01"


def test_a_caller_who_does_not_sample_decides_too() -> None:
    assert make(ratio=1.0).begin([NOT_SAMPLED]) is None


@pytest.mark.parametrize(
    ("ratio", "chance", "is_traced"), [(0.0, 0.0, False), (0.01, 0.02, False), (0.01, 0.009, True), (1.0, 0.999, True)]
)
def test_a_share_of_the_other_calls_begins_a_trace(ratio: float, chance: float, is_traced: bool) -> None:
    trace = make(ratio, chance).begin([("x-request-id", "abc"), ("traceparent", "nonsense")])

    assert (trace is not None) == is_traced
    assert trace is None or (len(trace.trace_id), trace.parent_id) == (32, "")


def test_callers_cannot_have_any_number_of_traces() -> None:
    clock = Clock()
    subject = make(clock=clock)

    assert sum(subject.begin([SAMPLED]) is not None for _ in range(1000)) == TRACES_PER_SECOND_MAX
    clock.seconds += 1.0
    assert sum(subject.begin([SAMPLED]) is not None for _ in range(1000)) == TRACES_PER_SECOND_MAX
    assert sum(subject.may_follow() for _ in range(1000)) == FOLLOWED_PER_SECOND_MAX


def test_a_quiet_day_saves_no_more_than_a_second() -> None:
    clock = Clock()
    subject = make(clock=clock)
    clock.seconds += 86_400.0

    assert sum(subject.begin([SAMPLED]) is not None for _ in range(1000)) == TRACES_PER_SECOND_MAX


def test_derived_ids_are_the_same_everywhere_and_differ_by_place() -> None:
    first = derived_span_id(TRACE, "weighing", "141025", 7)

    assert first == derived_span_id(TRACE, "weighing", "141025", 7)
    assert (
        len({first, derived_span_id(TRACE, "weighing", "141025", 8), derived_span_id(TRACE, "registry", "141025", 7)})
        == 3
    )
    # A golden value: platforms of different releases must agree.
    assert first == "2970403d27cb4a4f"


def test_nothing_is_told_when_tracing_is_off() -> None:
    record_call("weighing", CallTrace(TRACE), "a/B", "OK", "", 0.1)

    assert tracing.current() is None


def test_a_call_arrives_at_the_collector() -> None:
    with Collector() as collector:
        export = TraceExport(collector.endpoint, 1.0, "141025")
        export.start()
        tracing_now = tracing.current()
        assert tracing_now is not None
        trace = tracing_now.begin([SAMPLED])
        assert trace is not None
        before = time.time_ns()
        record_call("weighing", trace, "zhichao.weighing.v1.WeighingService/RecordWeighing", "OK", "", 0.25)
        refused = CallTrace(TRACE, trace.span_id)
        record_call("registry", refused, "a.B/C", "NOT_FOUND", "UNKNOWN_LOG", 0.0)
        record_call("registry", CallTrace(TRACE, trace.span_id), "a.B/C", "INTERNAL", "INTERNAL", 0.0)
        export.stop(5.0)
        served, missing, failed = collector.spans

    assert (served.service, served.trace_id, served.span_id, served.parent_id) == (
        "141025/weighing",
        TRACE,
        trace.span_id,
        PARENT,
    )
    assert served.name == "zhichao.weighing.v1.WeighingService/RecordWeighing"
    assert served.end_ns - served.start_ns == 250_000_000
    assert served.end_ns >= before
    assert served.attributes["rpc.method"] == "RecordWeighing"
    assert served.resource["zhichao.level"] == "county"
    assert (missing.service, missing.parent_id, missing.is_error) == ("141025/registry", trace.span_id, False)
    assert missing.attributes["error.type"] == "UNKNOWN_LOG"
    assert failed.is_error


def test_a_collector_that_is_away_blocks_nobody_and_is_told_seldom(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    sink = OtlpSink(f"http://127.0.0.1:{port}", "141025")
    span = Span("weighing", "commit", SpanKind.INTERNAL, TRACE, PARENT, "", 1, 2, {})
    with caplog.at_level(logging.WARNING):
        for _ in range(2 * QUEUE_SPANS_MAX):
            sink.take(span)
        sink.close(0.0)

    assert len([record for record in caplog.records if record.name.startswith("opentelemetry")]) <= 2


def test_opentelemetry_is_not_imported_unless_it_is_wanted() -> None:
    code = (
        "import sys; import services.common.rpc_server, services.weighing.app, services.relay.app;"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout

    assert printed.strip() == "[]"
