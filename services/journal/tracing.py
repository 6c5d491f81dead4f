"""Shows entries of traced calls on their way: committed here, received from below, pushed upwards.

Who handles a batch finds the trace in the request id of its entries (`services.common.tracing`) and adds a span to it.
Which span led to it is derived from the entry's place, so a batch carries nothing for it. Does nothing unless traced.
"""

import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Final, NamedTuple, Protocol, TypeVar

from services.common import tracing
from services.common.tracing import CallTrace, Span, SpanKind, derived_span_id, new_span_id

FOLLOWED_PER_BATCH_MAX: Final = 8
"""Traces followed in one batch of up to 1,024 entries: at the usual share of one in a hundred there are ten."""

HEADER_BYTES_MAX: Final = 256
"""Where the request id of an entry lies when this suite wrote it: behind kind, schema, time and actor."""

# Field 6 of Entry, length-delimited: 32 digits of the trace id and the sampled flag.
_REQUEST_ID: Final = re.compile(rb"\x32\x23([0-9a-f]{32})-01")

Result = TypeVar("Result")


class EntryBatch(Protocol):
    """What is looked at of a batch."""

    @property
    def origin(self) -> str:
        """Owner of the log."""
        ...

    @property
    def first_sequence(self) -> int:
        """Place of the first entry."""
        ...

    @property
    def entries(self) -> Sequence[bytes]:
        """The entries."""
        ...


Batch = TypeVar("Batch", bound=EntryBatch)


class _Followed(NamedTuple):
    origin: str
    entry_count: int
    # Trace ids with the first sequence of each.
    traces: Sequence[tuple[str, int]]
    start_ns: int


def commit_span_id(trace_id: str, stream: str, origin: str, sequence: int) -> str:
    """Return the id of the span that shows how an entry was committed where it was written."""
    return derived_span_id(trace_id, stream, origin, sequence)


def committed(trace: CallTrace, stream: str, origin: str, sequence: int, entries: int, start_ns: int) -> None:
    """Show that a traced call has committed entries from `sequence` on; only the first commits of a call are shown."""
    now = tracing.current()
    if now is None or trace.commits_left <= 0:
        return
    trace.commits_left -= 1
    now.take(
        Span(
            stream,
            "commit",
            SpanKind.PRODUCER,
            trace.trace_id,
            commit_span_id(trace.trace_id, stream, origin, sequence),
            trace.span_id,
            start_ns,
            time.time_ns(),
            _attributes(stream, origin, sequence, entries),
        )
    )


def find_traces(entries: Iterable[bytes], first_sequence: int) -> list[tuple[str, int]]:
    """Return the traces that entries belong to, each with the first sequence that does; bounded."""
    found: dict[str, int] = {}
    search = _REQUEST_ID.search
    for sequence, entry in enumerate(entries, first_sequence):
        match = search(entry, 0, HEADER_BYTES_MAX)
        if match is not None:
            found.setdefault(match[1].decode(), sequence)
            if len(found) >= FOLLOWED_PER_BATCH_MAX:
                break
    return list(found.items())


class BatchTraces:
    """The traces in batches that are handled in order: `begin` and `end` are called once for each, from any threads."""

    def __init__(self, component: str, stream: str, name: str, kind: SpanKind) -> None:
        self._component = component
        self._stream = stream
        self._name = name
        self._kind = kind
        self._under_way: deque[_Followed | None] = deque()

    def begin(self, batch: EntryBatch) -> None:
        """Note a batch whose handling begins."""
        self._under_way.append(self._look(batch))

    def end(self) -> None:
        """Show that the oldest batch under way is done."""
        followed = self._under_way.popleft() if self._under_way else None
        now = tracing.current()
        if followed is None or now is None:
            return
        end_ns = time.time_ns()
        for trace_id, sequence in followed.traces:
            span = Span(
                self._component,
                self._name,
                self._kind,
                trace_id,
                new_span_id(),
                commit_span_id(trace_id, self._stream, followed.origin, sequence),
                followed.start_ns,
                end_ns,
                _attributes(self._stream, followed.origin, sequence, followed.entry_count),
            )
            now.take(span)

    def _look(self, batch: EntryBatch) -> _Followed | None:
        now = tracing.current()
        if now is None:
            return None
        traces = [found for found in find_traces(batch.entries, batch.first_sequence) if now.may_follow()]
        return _Followed(batch.origin, len(batch.entries), traces, time.time_ns()) if traces else None


def followed(
    batches: Iterable[Batch], stream: str, receive: Callable[[Iterable[Batch]], Iterator[Result]]
) -> Iterator[Result]:
    """Receive batches, and show those of traced calls; `receive` answers each batch in order."""
    if tracing.current() is None:
        return receive(batches)
    return _followed(batches, stream, receive)


def _followed(
    batches: Iterable[Batch], stream: str, receive: Callable[[Iterable[Batch]], Iterator[Result]]
) -> Iterator[Result]:
    traces = BatchTraces(stream, stream, "receive", SpanKind.CONSUMER)

    def noted() -> Iterator[Batch]:
        for batch in batches:
            traces.begin(batch)
            yield batch

    answers = receive(noted())
    with closing(answers):  # type: ignore[type-var]  # a generator, as handlers' results are
        for answer in answers:
            traces.end()
            yield answer


def _attributes(stream: str, origin: str, sequence: int, entries: int) -> tracing.Attributes:
    return {
        "zhichao.stream": stream,
        "zhichao.origin": origin,
        "zhichao.sequence": sequence,
        "zhichao.entries": entries,
    }
