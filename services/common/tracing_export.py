"""Sends spans to an OpenTelemetry collector (OTLP over gRPC). Imported only by a process that traces."""

import logging
import threading
import time
from pathlib import Path
from typing import Final

import grpc
from opentelemetry import trace as api
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from services.common.metrics import level_of, software_version
from services.common.tracing import Span, SpanKind, Tracing, begin_tracing, end_tracing

QUEUE_SPANS_MAX: Final = 2_048
"""Spans that wait for the collector, some 2 MB; beyond it the oldest are dropped, and the log says so."""

BATCH_SPANS_MAX: Final = 512
"""Spans in one message to the collector: some 200 kB."""

SEND_SECONDS: Final = 2.0
"""Spans wait this long for others before they are sent: a person who looks for one waits no longer."""

EXPORT_SECONDS_MAX: Final = 10.0
"""How long a collector may take; spans of a collector that is away are given up after it."""

STOP_SECONDS_MAX: Final = 2.0
"""How long a stop waits for the collector: it answers in milliseconds, or the last spans are lost."""

COMPLAINT_SECONDS: Final = 60.0
"""A collector that is away is told once a minute, not with every batch."""

_SCOPE: Final = "zhichao"
_KINDS: Final = {kind: api.SpanKind[kind.name] for kind in SpanKind}
_SAMPLED: Final = api.TraceFlags(api.TraceFlags.SAMPLED)


class OtlpSink:
    """Gives spans to OpenTelemetry's own exporter. Each component is a service of its own to the collector.

    `endpoint` is `http://host:port`, or `https://host:port` held against the authorities of `ca_file`, by default those
    of the system.
    """

    def __init__(self, endpoint: str, platform: str, ca_file: Path | None = None) -> None:
        _complain_seldom()
        self._platform = platform
        self._processor = BatchSpanProcessor(
            _exporter(endpoint, ca_file),
            max_queue_size=QUEUE_SPANS_MAX,
            schedule_delay_millis=SEND_SECONDS * 1000,
            max_export_batch_size=BATCH_SPANS_MAX,
        )
        self._ids = _GivenIds()
        self._tracers: dict[str, api.Tracer] = {}
        self._guard = threading.Lock()

    def take(self, span: Span) -> None:
        """Queue one span."""
        parent = api.INVALID_SPAN_CONTEXT
        if span.parent_id:
            parent = api.SpanContext(int(span.trace_id, 16), int(span.parent_id, 16), True, _SAMPLED)
        self._ids.give(span.trace_id, span.span_id)
        made = self._tracer(span.component).start_span(
            span.name,
            api.set_span_in_context(api.NonRecordingSpan(parent)),
            _KINDS[span.kind],
            dict(span.attributes),
            start_time=span.start_ns,
        )
        if span.is_error:
            made.set_status(api.StatusCode.ERROR)
        made.end(span.end_ns)

    def close(self, seconds: float) -> None:
        """Send what waits. A collector that is away costs the time given at most."""
        # Its own way to stop waits for the exporter's whole patience.
        flushing = threading.Thread(target=self._processor.force_flush, name="traces-flush", daemon=True)
        flushing.start()
        flushing.join(seconds)
        stopping = threading.Thread(target=self._processor.shutdown, name="traces-stop", daemon=True)
        stopping.start()
        stopping.join(seconds)

    def _tracer(self, component: str) -> api.Tracer:
        tracer = self._tracers.get(component)
        if tracer is None:
            with self._guard:
                tracer = self._tracers.setdefault(component, self._make_tracer(component))
        return tracer

    def _make_tracer(self, component: str) -> api.Tracer:
        resource = Resource(
            {
                # Viewers list services by name alone: it has to tell the levels apart.
                "service.name": f"{self._platform}/{component}",
                "service.version": software_version(),
                "zhichao.platform": self._platform,
                "zhichao.level": level_of(self._platform),
            }
        )
        provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=resource,
            shutdown_on_exit=False,
            id_generator=self._ids,
            # Given, so that nothing is read from the environment.
            span_limits=SpanLimits(),
        )
        provider.add_span_processor(self._processor)
        return provider.get_tracer(_SCOPE)


class TraceExport:
    """What sends the traces of a process away, from the start of its services to their end."""

    name = "traces"

    def __init__(self, endpoint: str, ratio: float, platform: str, ca_file: Path | None = None) -> None:
        self._endpoint = endpoint
        self._ratio = ratio
        self._platform = platform
        self._ca_file = ca_file

    def start(self) -> None:
        """Trace from now on. Never fails: a collector that is away is not missed."""
        begin_tracing(Tracing(OtlpSink(self._endpoint, self._platform, self._ca_file), self._ratio))

    def stop(self, grace_seconds: float) -> None:
        """Send what waits."""
        end_tracing(min(grace_seconds, STOP_SECONDS_MAX))


class _GivenIds(IdGenerator):
    """Gives a new span the ids that this thread has chosen for it."""

    def __init__(self) -> None:
        self._chosen = threading.local()

    def give(self, trace_id: str, span_id: str) -> None:
        self._chosen.trace_id = int(trace_id, 16)
        self._chosen.span_id = int(span_id, 16)

    def generate_trace_id(self) -> int:
        return int(self._chosen.trace_id)

    def generate_span_id(self) -> int:
        return int(self._chosen.span_id)


def _exporter(endpoint: str, ca_file: Path | None) -> SpanExporter:
    is_plain = endpoint.startswith("http://")
    credentials = None
    if not is_plain:
        credentials = grpc.ssl_channel_credentials(ca_file.read_bytes() if ca_file is not None else None)
    return OTLPSpanExporter(endpoint, insecure=is_plain, credentials=credentials, timeout=EXPORT_SECONDS_MAX)


class _Seldom(logging.Filter):
    """Lets one complaint a minute pass."""

    def __init__(self) -> None:
        super().__init__()
        self._next_at = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now < self._next_at:
            return False
        self._next_at = now + COMPLAINT_SECONDS
        return True


def _complain_seldom() -> None:
    for name in ("opentelemetry.exporter.otlp.proto.grpc.exporter", "opentelemetry.sdk._shared_internal"):
        logger = logging.getLogger(name)
        # A try that is repeated is nobody's business yet.
        logger.setLevel(logging.ERROR if "exporter" in name else logging.WARNING)
        if not any(isinstance(one, _Seldom) for one in logger.filters):
            logger.addFilter(_Seldom())
