"""Traces that follow a call from service to service and from level to level (W3C Trace Context, OpenTelemetry). Off
unless `begin_tracing` was called; then a bounded share of the calls is traced. Knows no OpenTelemetry: who sends spans
away is `services.common.tracing_export`, which only a process that traces imports.

A traced call whose caller named no request id gets one that says so, `<trace id>-01`. It stands in the journal entries
that the call causes, so whoever receives these at another level can add to the same trace, without a word more on the
wire.
"""

import hashlib
import random
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, Protocol

TRACEPARENT_METADATA: Final = "traceparent"

SAMPLED_SUFFIX: Final = "-01"
"""End of a request id that names a trace: the sampled flag, as it ends a `traceparent`."""

TRACES_PER_SECOND_MAX: Final = 20.0
"""Calls that begin or join a trace, per process: some ten spans each keep a collector busy enough. Callers may ask for
any share by the sampled flag of their `traceparent`; this bounds what they get."""

FOLLOWED_PER_SECOND_MAX: Final = 50.0
"""Spans for entries that come by on their way up, per process: a few for each trace of the levels below."""

COMMITS_PER_CALL_MAX: Final = 16
"""Commits shown of one call: a stream that lives for days has no end of them, and the first ones tell how it goes."""

# W3C Trace Context level 1, 3.2: version, trace id, parent id, flags. Later versions may append more.
_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_TRACEPARENT_CHARACTERS_MAX: Final = 512
_SAMPLED: Final = 0x01
_INVALID_VERSION: Final = "ff"
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16
_TRACE_ID_BYTES: Final = 16
_SPAN_ID_BYTES: Final = 8


class SpanKind(Enum):
    """Which part of a conversation a span is."""

    SERVER = auto()
    INTERNAL = auto()
    PRODUCER = auto()
    CONSUMER = auto()


Attributes = Mapping[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class Span:
    """Something that took place, told once it is over. Ids are lower-case hexadecimal; times are Unix nanoseconds."""

    component: str
    name: str
    kind: SpanKind
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    attributes: Attributes
    is_error: bool = False


class SpanSink(Protocol):
    """Takes spans."""

    def take(self, span: Span) -> None:
        """Take one span; never waits and never raises."""
        ...

    def close(self, seconds: float) -> None:
        """Send what waits, within the time."""
        ...


class CallTrace:
    """The part of a trace that one call is: its trace, its own span, and the span that led to it."""

    __slots__ = ("commits_left", "parent_id", "span_id", "trace_id")

    def __init__(self, trace_id: str, parent_id: str = "") -> None:
        self.trace_id = trace_id
        self.span_id = new_span_id()
        self.parent_id = parent_id
        self.commits_left = COMMITS_PER_CALL_MAX

    @property
    def request_id(self) -> str:
        """The request id that lets others add to this trace."""
        return self.trace_id + SAMPLED_SUFFIX

    @property
    def traceparent(self) -> str:
        """What is sent along with calls that this one leads to."""
        return f"00-{self.trace_id}-{self.span_id}-01"


class TokenBucket:
    """So many a second, and as many at once after a quiet second. Thread-safe."""

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._tokens = per_second
        self._at = clock()
        self._guard = threading.Lock()

    def take(self) -> bool:
        """Take one if there is one."""
        with self._guard:
            now = self._clock()
            self._tokens = min(self._per_second, self._tokens + (now - self._at) * self._per_second)
            self._at = now
            if self._tokens < 1.0:
                return False
            self._tokens -= 1.0
            return True


class Tracing:
    """Decides which calls are traced, and passes spans on."""

    def __init__(
        self,
        sink: SpanSink,
        ratio: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._sink = sink
        self._ratio = ratio
        self._chance = chance
        self._traces = TokenBucket(TRACES_PER_SECOND_MAX, clock)
        self._followed = TokenBucket(FOLLOWED_PER_SECOND_MAX, clock)

    def begin(self, metadata: Iterable[Any]) -> CallTrace | None:
        """Return the trace of a call that begins, or None. Its caller decides if it sent a `traceparent`."""
        header = next((value for key, value in metadata if key == TRACEPARENT_METADATA), None)
        if isinstance(header, str) and (parent := read_traceparent(header)) is not None:
            trace_id, parent_id, is_sampled = parent
            return CallTrace(trace_id, parent_id) if is_sampled and self._traces.take() else None
        if self._chance() >= self._ratio or not self._traces.take():
            return None
        return CallTrace(secrets.token_hex(_TRACE_ID_BYTES))

    def may_follow(self) -> bool:
        """Tell whether one more span of an entry on its way may be made now."""
        return self._followed.take()

    def take(self, span: Span) -> None:
        """Pass a span on."""
        self._sink.take(span)

    def close(self, seconds: float) -> None:
        """Send what waits, within the time."""
        self._sink.close(seconds)


_tracing: Tracing | None = None


def begin_tracing(tracing: Tracing) -> None:
    """Trace from now on; for the start of a process."""
    global _tracing  # noqa: PLW0603 - one decision of the process, like the format of its logs
    _tracing = tracing


def end_tracing(seconds: float) -> None:
    """Trace no more and send what waits, within the time. Without effect when nothing is traced."""
    global _tracing
    tracing, _tracing = _tracing, None
    if tracing is not None:
        tracing.close(seconds)


def current() -> Tracing | None:
    """Return what traces in this process, or None."""
    return _tracing


def new_span_id() -> str:
    """Make the id of a span: 16 hexadecimal digits, not all zero."""
    return secrets.token_hex(_SPAN_ID_BYTES)


def derived_span_id(*parts: str | int) -> str:
    """Return the span id that everybody makes of the same parts; so levels agree on one without a word."""
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[: 2 * _SPAN_ID_BYTES]


def read_traceparent(header: str) -> tuple[str, str, bool] | None:
    """Return trace id, parent span id and whether it is sampled; None for what is no `traceparent`."""
    match = _TRACEPARENT.fullmatch(header) if len(header) <= _TRACEPARENT_CHARACTERS_MAX else None
    if match is None:
        return None
    version, trace_id, parent_id, flags = match.groups()
    has_more = len(header) > match.end(4)
    if version == _INVALID_VERSION or (version == "00" and has_more) or trace_id == _NO_TRACE or parent_id == _NO_SPAN:
        return None
    return trace_id, parent_id, bool(int(flags, 16) & _SAMPLED)


def record_call(
    component: str, trace: CallTrace, method: str, status: str, reason: str, seconds: float, seconds_ago: float = 0.0
) -> None:
    """Tell of a call that took so long and has ended, just now or a moment ago."""
    tracing = _tracing
    if tracing is None:
        return
    end_ns = time.time_ns() - int(seconds_ago * 1_000_000_000)
    service, _, name = method.rpartition("/")
    attributes = {
        "rpc.system": "grpc",
        "rpc.service": service,
        "rpc.method": name,
        "rpc.response.status_code": status,
        **({"error.type": reason or status} if status != "OK" else {}),
    }
    tracing.take(
        Span(
            component,
            method,
            SpanKind.SERVER,
            trace.trace_id,
            trace.span_id,
            trace.parent_id,
            end_ns - int(seconds * 1_000_000_000),
            end_ns,
            attributes,
            # What a caller did wrong is no error of the server (OpenTelemetry semantic conventions, gRPC).
            status in _SERVER_ERRORS,
        )
    )


_SERVER_ERRORS: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
