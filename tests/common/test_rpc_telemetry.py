"""Calls on a real server are counted and traced: how they ended, who may begin a trace, and what goes along to the next
service.
"""

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from services.common.errors import ServiceError
from services.common.metrics import Metrics
from services.common.reasons import Reason
from services.common.request import request_context
from services.common.rpc_client import connect
from services.common.tracing import Span, SpanKind, Tracing, begin_tracing, end_tracing
from tests.access import PLATFORM
from tests.common.conftest import Events
from tests.common.served import SERVICE, WAIT_SECONDS, Requests, Served, refused
from tests.metrics import Scrape, shown_by

Serve = Callable[..., Served]

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
SAMPLED = ("traceparent", f"00-{TRACE}-{PARENT}-01")


class Kept:
    def __init__(self) -> None:
        self.spans: list[Span] = []

    def take(self, span: Span) -> None:
        self.spans.append(span)

    def close(self, seconds: float) -> None:
        del seconds


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("test", PLATFORM)


@pytest.fixture
def kept() -> Iterator[Kept]:
    sink = Kept()
    begin_tracing(Tracing(sink, 0.0))
    yield sink
    end_tracing(0.0)


def echo(request: Any, _context: Any) -> Any:
    return request


def tell_request_id(_request: Any, _context: Any) -> bytes:
    return request_context().request_id.encode()


def refuse(_request: Any, _context: Any) -> Any:
    raise ServiceError(Reason.UNKNOWN_LOG, "no such log")


def call(channel: Any, path: str, request: bytes = b"", **options: Any) -> Any:
    """Make a unary call of bytes."""
    return channel.unary_unary(path)(request, timeout=WAIT_SECONDS, **options)


def count_of(seen: Scrape, method: str, status: str, reason: str = "") -> float | None:
    return seen.value(
        "zhichao_requests_total", component="test", method=f"{SERVICE}/{method}", status=status, reason=reason
    )


def test_calls_of_every_kind_are_counted_once(serve: Serve, metrics: Metrics, events: Events) -> None:
    served = serve(
        metrics=metrics,
        once=echo,
        gather=lambda requests, _context: b"".join(requests),
        spread=lambda _request, _context: iter([b"1", b"2"]),
        exchange=lambda requests, _context: iter(requests),
    )
    served.once(b"x")
    served.once(b"x")
    served.gather(iter([b"a", b"b"]))
    list(served.spread())
    list(served.exchange(iter([b"a"])))
    events.finished(5)

    seen = shown_by(metrics)
    assert count_of(seen, "Once", "OK") == 2
    assert [count_of(seen, method, "OK") for method in ("Gather", "Spread", "Exchange")] == [1, 1, 1]
    durations = seen.values("zhichao_request_duration_seconds_count", "method")
    assert durations == {f"{SERVICE}/Once": 2}


def test_refusals_are_counted_with_their_reasons(serve: Serve, metrics: Metrics, events: Events) -> None:
    served = serve(metrics=metrics, once=refuse)
    refused(served.once)
    with served.connect(None) as nobody:
        refused(lambda: call(nobody, f"/{SERVICE}/Once"))
        refused(lambda: call(nobody, "/stranger.v1.Service/Guess"))
    refused(lambda: call(served.channel, "/newer.v1.Service/Later"))
    events.finished(4)

    seen = shown_by(metrics)
    assert count_of(seen, "Once", "NOT_FOUND", "UNKNOWN_LOG") == 1
    assert count_of(seen, "Once", "UNAUTHENTICATED", "NO_CREDENTIALS") == 1
    assert seen.values("zhichao_authentication_failures_total", "reason") == {"NO_CREDENTIALS": 2}
    assert seen.value("zhichao_requests_total", component="test", method="other", status="UNIMPLEMENTED", reason="")
    stranger = {"method": "other", "status": "UNAUTHENTICATED", "reason": "NO_CREDENTIALS"}
    assert seen.value("zhichao_requests_total", component="test", **stranger) == 1
    assert "stranger" not in seen.text
    assert "newer" not in seen.text
    # What was refused at the gate took no time that anybody wants to know.
    assert seen.values("zhichao_request_duration_seconds_count", "method") == {f"{SERVICE}/Once": 1}


def test_what_runs_is_shown(serve: Serve, metrics: Metrics) -> None:
    served = serve(metrics=metrics, exchange=lambda requests, _context: iter(requests))
    requests = Requests(b"a")
    answers = served.exchange(iter(requests))
    next(answers)

    seen = shown_by(metrics)
    assert seen.values("zhichao_requests_running", "kind") == {"unary": 0, "stream": 1}
    age = seen.value("zhichao_credentials_age_seconds", component="test", server="test")
    assert age is not None
    assert 0 <= age < WAIT_SECONDS
    # Plain text: there is no certificate.
    assert "zhichao_certificate_days_left" not in seen.names
    requests.end()
    list(answers)


def test_a_call_that_its_caller_samples_is_traced(serve: Serve, events: Events, kept: Kept) -> None:
    served = serve(once=tell_request_id)

    assert served.once(metadata=[SAMPLED]) == f"{TRACE}-01".encode()
    (event,) = events.finished()
    (span,) = kept.spans
    assert (span.component, span.name, span.kind) == ("test", f"{SERVICE}/Once", SpanKind.SERVER)
    assert (span.trace_id, span.parent_id) == (TRACE, PARENT)
    assert span.attributes["rpc.response.status_code"] == "OK"
    assert event["request_id"] == f"{TRACE}-01"


def test_a_request_id_that_was_given_is_kept(serve: Serve, events: Events, kept: Kept) -> None:
    served = serve(once=tell_request_id)

    assert served.once(metadata=[SAMPLED, ("x-request-id", "mine")]) == b"mine"
    events.finished()
    assert [span.trace_id for span in kept.spans] == [TRACE]


def test_a_stream_is_one_span(serve: Serve, events: Events, kept: Kept) -> None:
    served = serve(exchange=lambda requests, _context: iter(requests))
    answers = served._method("stream_stream", "Exchange")(iter([b"a", b"b"]), timeout=WAIT_SECONDS, metadata=[SAMPLED])

    assert list(answers) == [b"a", b"b"]
    events.finished()
    assert [(span.name, span.trace_id) for span in kept.spans] == [(f"{SERVICE}/Exchange", TRACE)]


def test_whoever_is_refused_begins_no_trace(serve: Serve, events: Events, kept: Kept) -> None:
    served = serve(once=echo)
    with served.connect(None) as nobody:
        refused(lambda: call(nobody, f"/{SERVICE}/Once", metadata=[SAMPLED]))
    events.finished()

    assert kept.spans == []


def test_a_failed_call_is_shown_as_failed(serve: Serve, events: Events, kept: Kept) -> None:
    def fail(_request: Any, _context: Any) -> Any:
        raise RuntimeError("a plate 晋L00001")

    served = serve(once=fail)
    error = refused(lambda: served.once(metadata=[SAMPLED]))
    events.finished()

    assert error.code() is grpc.StatusCode.INTERNAL
    (span,) = kept.spans
    assert span.is_error
    assert span.attributes["error.type"] == "INTERNAL"
    assert "晋L00001" not in str(span)


def test_the_trace_goes_along_to_the_next_service(serve: Serve, events: Events, kept: Kept) -> None:
    inner: list[Served] = []

    def once(request: bytes, context: Any) -> Any:
        if request == b"next":
            return tell_request_id(request, context)
        with connect(inner[0].address, credentials=inner[0].access.credentials()) as channel:
            return call(channel, f"/{SERVICE}/Once", b"next")

    inner.append(serve(once=once))

    assert inner[0].once(metadata=[SAMPLED]) == f"{TRACE}-01".encode()
    events.finished(2)
    child, parent = sorted(kept.spans, key=lambda span: span.parent_id == PARENT)
    assert (parent.parent_id, child.parent_id) == (PARENT, parent.span_id)
    assert child.trace_id == parent.trace_id == TRACE


def test_nothing_is_traced_when_tracing_is_off(serve: Serve, events: Events) -> None:
    served = serve(once=tell_request_id)

    assert len(served.once(metadata=[SAMPLED])) == 16
    (event,) = events.finished()
    assert TRACE not in str(event)
