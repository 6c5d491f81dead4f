"""An OpenTelemetry collector on a real gRPC server, which keeps what it is sent."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class Seen:
    """One span as it arrived."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    start_ns: int
    end_ns: int
    is_error: bool
    attributes: dict[str, Any] = field(compare=False)
    resource: dict[str, Any] = field(compare=False)


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans from any number of processes; a context manager that serves and stops."""

    def __init__(self, address: str = "127.0.0.1:0") -> None:
        self.spans: list[Seen] = []
        self._changed = threading.Condition()
        self._server = grpc.server(ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]  # generated without types
        host, _, _ = address.rpartition(":")
        self.endpoint = f"http://{host}:{self._server.add_insecure_port(address)}"

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._changed:
            self.spans += [
                _seen(span, resource_spans.resource)
                for resource_spans in request.resource_spans
                for scope_spans in resource_spans.scope_spans
                for span in scope_spans.spans
            ]
            self._changed.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def wait_for(self, *wanted: tuple[str, str]) -> list[Seen]:
        """Wait until spans of these services and names are there; return all spans so far."""

        def missing() -> set[tuple[str, str]]:
            return set(wanted) - {(span.service, span.name) for span in self.spans}

        with self._changed:
            assert self._changed.wait_for(lambda: not missing(), WAIT_SECONDS), f"{missing()} not in {self.spans}"
            return list(self.spans)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(None).wait()


def _seen(span: Any, resource: Any) -> Seen:
    told = _values(resource.attributes)
    return Seen(
        service=told["service.name"],
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        kind=span.kind,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        is_error=span.status.code == 2,
        attributes=_values(span.attributes),
        resource=told,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
